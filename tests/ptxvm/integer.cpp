/* integer.cpp - opcodes of whole numbers, bits and predicates
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "each.h"

#include <map>

static std::map<std::string, std::vector<ptx_opcode>> &opcodes(void)
{
    static auto *all = new std::map<std::string, std::vector<ptx_opcode>>;
    return *all;
}

void ptx_opcode_add(const std::string &name, ptx_opcode form)
{
    opcodes()[name].push_back(form);
}

const std::vector<ptx_opcode> *ptx_opcode_forms(const std::string &name)
{
    if (opcodes().empty()) {
        ptx_integer_register();
        ptx_float_register();
        ptx_access_register();
        ptx_warp_register();
    }
    auto found = opcodes().find(name);
    return found == opcodes().end() ? nullptr : &found->second;
}

/* By zero a device gives anything, so it is an error here. */
template <class T, bool REMAINDER> static void divide(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    auto *to = ptx_cells<ptx_cell<T>>(w, i.at[0]);
    auto *a = ptx_cells<ptx_cell<T>>(w, i.at[1]), *b = ptx_cells<ptx_cell<T>>(w, i.at[2]);

    for (; lanes != 0; lanes &= lanes - 1) {
        int l = __builtin_ctz(lanes);
        T above = ptx_get<T>(a[l]), below = ptx_get<T>(b[l]);

        if (below == 0)
            ptx_fail(w, i, l, "division by zero");
        if (below == (T)-1 && std::is_signed_v<T>)
            to[l] = REMAINDER ? 0 : ptx_put<T>((T)(0 - (std::make_unsigned_t<T>)above));
        else
            to[l] = ptx_put<T>((T)(REMAINDER ? above % below : above / below));
    }
}

template <class T> static void compare(const std::string &s)
{
    ptx_each<bool, T, T>("setp.eq." + s, [](T a, T b) { return a == b; });
    ptx_each<bool, T, T>("setp.ne." + s, [](T a, T b) { return a != b; });
    for (const char *name : {"lt", "lo"})
        ptx_each<bool, T, T>("setp." + (name + ("." + s)), [](T a, T b) { return a < b; });
    for (const char *name : {"le", "ls"})
        ptx_each<bool, T, T>("setp." + (name + ("." + s)), [](T a, T b) { return a <= b; });
    for (const char *name : {"gt", "hi"})
        ptx_each<bool, T, T>("setp." + (name + ("." + s)), [](T a, T b) { return a > b; });
    for (const char *name : {"ge", "hs"})
        ptx_each<bool, T, T>("setp." + (name + ("." + s)), [](T a, T b) { return a >= b; });
    ptx_each<bool, T, T, bool>("setp.eq.and." + s, [](T a, T b, bool c) { return a == b && c; });
    ptx_each<bool, T, T, bool>("setp.ne.and." + s, [](T a, T b, bool c) { return a != b && c; });
    ptx_each<bool, T, T, bool>("setp.lt.and." + s, [](T a, T b, bool c) { return a < b && c; });
    ptx_each<bool, T, T, bool>("setp.ge.and." + s, [](T a, T b, bool c) { return a >= b && c; });
    ptx_each<bool, T, T, bool>("setp.eq.or." + s, [](T a, T b, bool c) { return a == b || c; });
    ptx_each<bool, T, T, bool>("setp.ne.or." + s, [](T a, T b, bool c) { return a != b || c; });
}

/* Sums and products wrap, so they are made without signs. */
template <class T, class WIDE> static void whole(const std::string &s)
{
    using U = std::make_unsigned_t<T>;
    static const char letters[] = {ptx_letter<T>(), ptx_letter<T>(), ptx_letter<T>(), '\0'};

    ptx_each<T, T, T>("add." + s, [](T a, T b) { return (T)((U)a + (U)b); });
    ptx_each<T, T, T>("sub." + s, [](T a, T b) { return (T)((U)a - (U)b); });
    ptx_each<T, T, T>("mul.lo." + s, [](T a, T b) { return (T)(1u * (U)a * (U)b); });
    ptx_each<T, T, T>("mul.hi." + s, [](T a, T b) { return (T)(((WIDE)a * (WIDE)b) >> (8 * sizeof(T))); });
    ptx_each<T, T, T, T>("mad.lo." + s, [](T a, T b, T c) { return (T)(1u * (U)a * (U)b + (U)c); });
    ptx_each<T, T, T>("min." + s, [](T a, T b) { return a < b ? a : b; });
    ptx_each<T, T, T>("max." + s, [](T a, T b) { return a > b ? a : b; });
    ptx_each<T, T, T, bool>("selp." + s, [](T a, T b, bool c) { return c ? a : b; });
    ptx_each<T, T>("mov." + s, [](T a) { return a; });
    ptx_each<T, T, uint32_t>("shr." + s, [](T a, uint32_t n) {
        return (T)(n >= 8 * sizeof(T) ? (std::is_signed_v<T> && a < 0 ? -1 : 0) : a >> n);
    });
    ptx_opcode_add("div." + s, {letters, divide<T, false>, PTX_PLAIN, {}});
    ptx_opcode_add("rem." + s, {letters, divide<T, true>, PTX_PLAIN, {}});
    compare<T>(s);
    if constexpr (std::is_signed_v<T>) {
        ptx_each<T, T>("neg." + s, [](T a) { return (T)(0 - (U)a); });
        ptx_each<T, T>("abs." + s, [](T a) { return (T)(a < 0 ? 0 - (U)a : (U)a); });
    }
    if constexpr (sizeof(T) < 8) {
        ptx_each<WIDE, T, T>("mul.wide." + s, [](T a, T b) { return (WIDE)((WIDE)a * (WIDE)b); });
        ptx_each<WIDE, T, T, WIDE>("mad.wide." + s, [](T a, T b, WIDE c) {
            return (WIDE)((std::make_unsigned_t<WIDE>)((WIDE)a * (WIDE)b) + (std::make_unsigned_t<WIDE>)c);
        });
    }
}

template <class T> static void bits(const std::string &s)
{
    ptx_each<T, T, T>("and." + s, [](T a, T b) { return (T)(a & b); });
    ptx_each<T, T, T>("or." + s, [](T a, T b) { return (T)(a | b); });
    ptx_each<T, T, T>("xor." + s, [](T a, T b) { return (T)(a ^ b); });
    ptx_each<T, T>("not." + s, [](T a) { return (T)~a; });
    ptx_each<T, T>("mov." + s, [](T a) { return a; });
    ptx_each<T, T, T, bool>("selp." + s, [](T a, T b, bool c) { return c ? a : b; });
    ptx_each<bool, T, T>("setp.eq." + s, [](T a, T b) { return a == b; });
    ptx_each<bool, T, T>("setp.ne." + s, [](T a, T b) { return a != b; });
    ptx_each<T, T, uint32_t>("shl." + s,
                             [](T a, uint32_t n) { return (T)(n >= 8 * sizeof(T) ? 0 : a << n); });
    ptx_each<T, T, uint32_t>("shr." + s,
                             [](T a, uint32_t n) { return (T)(n >= 8 * sizeof(T) ? 0 : a >> n); });
}

static void predicates(void)
{
    ptx_each<bool, bool, bool>("and.pred", [](bool a, bool b) { return a && b; });
    ptx_each<bool, bool, bool>("or.pred", [](bool a, bool b) { return a || b; });
    ptx_each<bool, bool, bool>("xor.pred", [](bool a, bool b) { return a != b; });
    ptx_each<bool, bool>("not.pred", [](bool a) { return !a; });
    ptx_each<bool, bool>("mov.pred", [](bool a) { return a; });
}

/* Byte n of the result is the byte of b:a that nibble n of the selector names; its upper bit: the sign of
 * that byte. */
static uint32_t permute(uint32_t a, uint32_t b, uint32_t selector)
{
    uint64_t both = (uint64_t)b << 32 | a;
    uint32_t result = 0;

    for (int n = 0; n < 4; n++) {
        uint32_t which = selector >> (4 * n) & 15;
        uint32_t byte = (uint32_t)(both >> (8 * (which & 7))) & 0xff;

        result |= (which & 8 ? (byte & 0x80 ? 0xffu : 0u) : byte) << (8 * n);
    }
    return result;
}

static void fields(void)
{
    using u32 = uint32_t;

    ptx_each<u32, u32, u32, u32>("bfe.u32", [](u32 a, u32 at, u32 n) {
        at &= 255, n &= 255;
        return at > 31 ? 0 : n > 31 ? a >> at : (a >> at) & ((1u << n) - 1);
    });
    ptx_each<u32, u32, u32, u32, u32>("bfi.b32", [](u32 a, u32 b, u32 at, u32 n) {
        at &= 255, n &= 255;
        u32 mask = at > 31 ? 0 : (n > 31 ? ~0u : (1u << n) - 1) << at;
        return (b & ~mask) | (at > 31 ? 0 : a << at & mask);
    });
    ptx_each<u32, u32>("popc.b32", [](u32 a) { return (u32)__builtin_popcount(a); });
    ptx_each<u32, u32>("clz.b32", [](u32 a) { return a ? (u32)__builtin_clz(a) : 32u; });
    ptx_each<u32, u32>("brev.b32", [](u32 a) {
        u32 r = 0;
        for (int i = 0; i < 32; i++)
            r |= (a >> i & 1) << (31 - i);
        return r;
    });
    ptx_each<u32, u32>("bfind.u32", [](u32 a) { return a ? 31u - (u32)__builtin_clz(a) : ~0u; });
    ptx_each<u32, u32, u32, u32>("prmt.b32", permute);
    ptx_each<u32, u32, u32, u32, u32>("lop3.b32", [](u32 a, u32 b, u32 c, u32 table) {
        u32 r = 0;
        for (u32 n = 0; n < 8; n++)
            r |= table >> n & 1 ? (n & 4 ? a : ~a) & (n & 2 ? b : ~b) & (n & 1 ? c : ~c) : 0;
        return r;
    });
    ptx_each<u32, u32, u32, u32>("shf.l.wrap.b32", [](u32 a, u32 b, u32 n) {
        return n & 31 ? b << (n & 31) | a >> (32 - (n & 31)) : b;
    });
    ptx_each<u32, u32, u32, u32>("shf.r.wrap.b32", [](u32 a, u32 b, u32 n) {
        return n & 31 ? a >> (n & 31) | b << (32 - (n & 31)) : a;
    });
}

/* {lower, upper} and back; 16-bit registers count by their lower bits. */
static void pairs(void)
{
    ptx_opcode_add("mov.b32", {"w2w",
                               [](ptx_warp &w, const ptx_instruction &i, uint32_t lanes) {
                                   for (; lanes != 0; lanes &= lanes - 1) {
                                       int l = __builtin_ctz(lanes);
                                       ptx_cells<uint32_t>(w, i.at[0])[l] =
                                           (ptx_cells<uint32_t>(w, i.at[1])[l] & 0xffff) |
                                           ptx_cells<uint32_t>(w, i.at[2])[l] << 16;
                                   }
                               },
                               PTX_PLAIN,
                               {}});
    ptx_opcode_add("mov.b32", {"2ww",
                               [](ptx_warp &w, const ptx_instruction &i, uint32_t lanes) {
                                   for (; lanes != 0; lanes &= lanes - 1) {
                                       int l = __builtin_ctz(lanes);
                                       uint32_t both = ptx_cells<uint32_t>(w, i.at[2])[l];
                                       ptx_cells<uint32_t>(w, i.at[0])[l] = both & 0xffff;
                                       ptx_cells<uint32_t>(w, i.at[1])[l] = both >> 16;
                                   }
                               },
                               PTX_PLAIN,
                               {}});
    ptx_opcode_add("mov.b64", {"d2w",
                               [](ptx_warp &w, const ptx_instruction &i, uint32_t lanes) {
                                   for (; lanes != 0; lanes &= lanes - 1) {
                                       int l = __builtin_ctz(lanes);
                                       ptx_cells<uint64_t>(w, i.at[0])[l] =
                                           ptx_cells<uint32_t>(w, i.at[1])[l] |
                                           (uint64_t)ptx_cells<uint32_t>(w, i.at[2])[l] << 32;
                                   }
                               },
                               PTX_PLAIN,
                               {}});
    ptx_opcode_add("mov.b64", {"2wd",
                               [](ptx_warp &w, const ptx_instruction &i, uint32_t lanes) {
                                   for (; lanes != 0; lanes &= lanes - 1) {
                                       int l = __builtin_ctz(lanes);
                                       uint64_t both = ptx_cells<uint64_t>(w, i.at[2])[l];
                                       ptx_cells<uint32_t>(w, i.at[0])[l] = (uint32_t)both;
                                       ptx_cells<uint32_t>(w, i.at[1])[l] = (uint32_t)(both >> 32);
                                   }
                               },
                               PTX_PLAIN,
                               {}});
}

template <class D, class A> static void convert(const std::string &to, const std::string &from)
{
    ptx_each<D, A>("cvt." + to + "." + from, [](A a) { return (D)a; });
}

template <class D> static void convert_to(const std::string &to)
{
    convert<D, uint8_t>(to, "u8");
    convert<D, int8_t>(to, "s8");
    convert<D, uint16_t>(to, "u16");
    convert<D, int16_t>(to, "s16");
    convert<D, uint32_t>(to, "u32");
    convert<D, int32_t>(to, "s32");
    convert<D, uint64_t>(to, "u64");
    convert<D, int64_t>(to, "s64");
}

void ptx_integer_register(void)
{
    whole<uint16_t, uint32_t>("u16");
    whole<int16_t, int32_t>("s16");
    whole<uint32_t, uint64_t>("u32");
    whole<int32_t, int64_t>("s32");
    whole<uint64_t, unsigned __int128>("u64");
    whole<int64_t, __int128>("s64");
    bits<uint16_t>("b16");
    bits<uint32_t>("b32");
    bits<uint64_t>("b64");
    predicates();
    fields();
    pairs();
    convert_to<uint8_t>("u8");
    convert_to<int8_t>("s8");
    convert_to<uint16_t>("u16");
    convert_to<int16_t>("s16");
    convert_to<uint32_t>("u32");
    convert_to<int32_t>("s32");
    convert_to<uint64_t>("u64");
    convert_to<int64_t>("s64");
    for (const char *name : {"cvta.global.u64", "cvta.to.global.u64"})
        ptx_each<uint64_t, uint64_t>(name, [](uint64_t a) { return a; });
    ptx_each<uint64_t, uint64_t>("cvta.shared.u64", [](uint64_t a) { return a + PTX_SHARED_WINDOW; });
    ptx_each<uint64_t, uint64_t>("cvta.to.shared.u64", [](uint64_t a) { return a - PTX_SHARED_WINDOW; });
}
