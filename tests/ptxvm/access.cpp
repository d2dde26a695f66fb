/* access.cpp - opcodes that load, store and copy
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Every access is aligned and inside one allocation of the device, a shared variable or the kernel's
 * parameters. Memory is sequentially consistent here: fences, acquire and release do nothing more. */
#include "ptx.h"
#include "tests/hostgpu/runtime.h"

static uint8_t *global_access(ptx_warp &w, const ptx_instruction &i, int lane, uint64_t address,
                              uint32_t bytes)
{
    if (address % bytes != 0)
        ptx_fail(w, i, lane, "address %#llx is not aligned to %u", (unsigned long long)address, bytes);
    if (address < i.from || address + bytes > i.to) {
        uintptr_t start = 0, end = 0;

        hostgpu_memory_find(reinterpret_cast<const void *>((uintptr_t)address), &start, &end);
        if (address < start || address + bytes > end)
            ptx_fail(w, i, lane, "%u bytes at %#llx are not in memory of the device", bytes,
                     (unsigned long long)address);
        i.from = start;
        i.to = end;
    }
    return reinterpret_cast<uint8_t *>((uintptr_t)address);
}

/* The bytes of an access, after every check. */
static uint8_t *reach(ptx_warp &w, const ptx_instruction &i, int lane, int operand, uint32_t bytes,
                      bool write)
{
    uint64_t address = ptx_value(w, i, operand, lane) + (uint64_t)i.displacement;

    if (i.access.space == PTX_SHARED)
        return ptx_shared_access(w, i, lane, address, bytes, write);
    if (i.access.space == PTX_GENERIC && address >= PTX_SHARED_WINDOW &&
        address < PTX_SHARED_WINDOW + (2 << 20))
        return ptx_shared_access(w, i, lane, address - PTX_SHARED_WINDOW, bytes, write);
    return global_access(w, i, lane, address, bytes);
}

static uint64_t element(const uint8_t *from, const ptx_access &a)
{
    uint64_t value = 0;

    memcpy(&value, from, a.bytes);
    if (a.sign && a.bytes < 8 && value >> (8 * a.bytes - 1) & 1)
        value |= ~0ull << (8 * a.bytes);
    return value;
}

static void set(ptx_warp &w, const ptx_instruction &i, int operand, int lane, uint64_t value)
{
    if (i.wide >> operand & 1)
        ptx_cells<uint64_t>(w, i.at[operand])[lane] = value;
    else
        ptx_cells<uint32_t>(w, i.at[operand])[lane] = (uint32_t)value;
}

static void load(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    const ptx_access &a = i.access;
    uint32_t bytes = (uint32_t)a.bytes * a.count;

    for (; lanes != 0; lanes &= lanes - 1) {
        int l = __builtin_ctz(lanes);
        const uint8_t *from = reach(w, i, l, a.count, bytes, false);

        for (int n = 0; n < a.count; n++)
            set(w, i, n, l, element(from + n * a.bytes, a));
    }
}

static void load_parameter(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    const ptx_access &a = i.access;

    for (; lanes != 0; lanes &= lanes - 1) {
        int l = __builtin_ctz(lanes);
        uint64_t address = ptx_value(w, i, a.count, l) + (uint64_t)i.displacement;
        const std::vector<uint8_t> &parameters = *w.block->parameters;

        if (address + (uint64_t)a.bytes * a.count > parameters.size())
            ptx_fail(w, i, l, "byte %llu of parameters that have %zu", (unsigned long long)address,
                     parameters.size());
        for (int n = 0; n < a.count; n++)
            set(w, i, n, l, element(&parameters[address + (uint64_t)n * a.bytes], a));
    }
}

static void store(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    const ptx_access &a = i.access;
    uint32_t bytes = (uint32_t)a.bytes * a.count;

    for (; lanes != 0; lanes &= lanes - 1) {
        int l = __builtin_ctz(lanes);
        uint8_t *to = reach(w, i, l, 0, bytes, true);

        for (int n = 0; n < a.count; n++) {
            uint64_t value = ptx_value(w, i, n + 1, l);
            memcpy(to + n * a.bytes, &value, a.bytes);
        }
    }
}

/* -- atomics -----------------------------------------------------------------------------------------------
 */

enum atomic { ATOMIC_ADD, ATOMIC_MIN, ATOMIC_MAX, ATOMIC_AND, ATOMIC_OR, ATOMIC_EXCHANGE, ATOMIC_FLOAT_ADD };

template <enum atomic KIND> static uint64_t combine(uint64_t old, uint64_t v, const ptx_access &a)
{
    bool less = a.sign ? (int64_t)old < (int64_t)v : old < v;
    uint32_t bits = (uint32_t)old, with = (uint32_t)v;
    float x, y;

    memcpy(&x, &bits, 4);
    memcpy(&y, &with, 4);
    x += y;
    memcpy(&bits, &x, 4);
    return KIND == ATOMIC_ADD         ? old + v
           : KIND == ATOMIC_MIN       ? (less ? old : v)
           : KIND == ATOMIC_MAX       ? (less ? v : old)
           : KIND == ATOMIC_AND       ? (old & v)
           : KIND == ATOMIC_OR        ? (old | v)
           : KIND == ATOMIC_FLOAT_ADD ? bits
                                      : v;
}

/* In shared memory they count as reads, so they do not race with each other, nor with a plain read. */
template <enum atomic KIND, bool RESULT>
static void update(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    const ptx_access &a = i.access;

    for (; lanes != 0; lanes &= lanes - 1) {
        int l = __builtin_ctz(lanes);
        uint8_t *at = reach(w, i, l, RESULT, a.bytes, false);
        uint64_t value = ptx_value(w, i, RESULT + 1, l), old = element(at, a);
        uint8_t room[8];

        memcpy(room, &value, 8);
        uint64_t now = combine<KIND>(old, element(room, a), a);
        memcpy(at, &now, a.bytes);
        if (RESULT)
            set(w, i, 0, l, old);
    }
}

static void compare_and_swap(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    const ptx_access &a = i.access;

    for (; lanes != 0; lanes &= lanes - 1) {
        int l = __builtin_ctz(lanes);
        uint8_t *at = reach(w, i, l, 1, a.bytes, false);
        uint64_t old = element(at, a), value = ptx_value(w, i, 3, l);

        if (old == ptx_value(w, i, 2, l))
            memcpy(at, &value, a.bytes);
        set(w, i, 0, l, old);
    }
}

/* -- cp.async ----------------------------------------------------------------------------------------------
 */

/* Operands: to, from, bytes. */
static void copy_issue(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    for (; lanes != 0; lanes &= lanes - 1) {
        int l = __builtin_ctz(lanes);
        uint32_t bytes = (uint32_t)ptx_value(w, i, 2, l);
        ptx_copy copy = {ptx_value(w, i, 0, l), ptx_value(w, i, 1, l) + (uint64_t)i.displacement, bytes};

        if (bytes != 16 && bytes != 8 && bytes != 4)
            ptx_fail(w, i, l, "a copy of %u bytes", bytes);
        global_access(w, i, l, copy.from, bytes);
        ptx_copy_issue(w, i, l, copy);
    }
}

static void copy_commit(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    (void)i;
    for (; lanes != 0; lanes &= lanes - 1)
        ptx_copy_commit(w, __builtin_ctz(lanes));
}

static void copy_wait(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    for (; lanes != 0; lanes &= lanes - 1) {
        int l = __builtin_ctz(lanes);

        ptx_copy_wait(w, i, l, (size_t)ptx_value(w, i, 0, l));
    }
}

static void copy_wait_all(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    for (; lanes != 0; lanes &= lanes - 1) {
        int l = __builtin_ctz(lanes);

        ptx_copy_commit(w, l);
        ptx_copy_wait(w, i, l, 0);
    }
}

/* -- names -------------------------------------------------------------------------------------------------
 */

struct type {
    const char *name;
    uint8_t bytes;
    bool sign;
};

static const type types[] = {{"b8", 1, false},  {"u8", 1, false},  {"s8", 1, true},   {"b16", 2, false},
                             {"u16", 2, false}, {"s16", 2, true},  {"b32", 4, false}, {"u32", 4, false},
                             {"s32", 4, true},  {"f32", 4, false}, {"b64", 8, false}, {"u64", 8, false},
                             {"f64", 8, false}, {"s64", 8, true}};

struct place {
    const char *name;
    enum ptx_space space;
};

static const place loads[] = {{"ld.", PTX_GENERIC},
                              {"ld.volatile.", PTX_GENERIC},
                              {"ld.acquire.sys.", PTX_GENERIC},
                              {"ld.acquire.gpu.", PTX_GENERIC},
                              {"ld.global.", PTX_GLOBAL},
                              {"ld.volatile.global.", PTX_GLOBAL},
                              {"ld.acquire.sys.global.", PTX_GLOBAL},
                              {"ld.acquire.gpu.global.", PTX_GLOBAL},
                              {"ld.relaxed.sys.global.", PTX_GLOBAL},
                              {"ld.relaxed.gpu.global.", PTX_GLOBAL},
                              {"ld.global.nc.", PTX_GLOBAL},
                              {"ld.global.nc.L1::no_allocate.", PTX_GLOBAL},
                              {"ld.global.L1::no_allocate.", PTX_GLOBAL},
                              {"ld.shared.", PTX_SHARED},
                              {"ld.volatile.shared.", PTX_SHARED},
                              {"ld.param.", PTX_PARAMETER}};

static const place stores[] = {{"st.", PTX_GENERIC},
                               {"st.volatile.", PTX_GENERIC},
                               {"st.release.sys.", PTX_GENERIC},
                               {"st.release.gpu.", PTX_GENERIC},
                               {"st.global.", PTX_GLOBAL},
                               {"st.volatile.global.", PTX_GLOBAL},
                               {"st.release.sys.global.", PTX_GLOBAL},
                               {"st.release.gpu.global.", PTX_GLOBAL},
                               {"st.relaxed.sys.global.", PTX_GLOBAL},
                               {"st.relaxed.gpu.global.", PTX_GLOBAL},
                               {"st.shared.", PTX_SHARED},
                               {"st.volatile.shared.", PTX_SHARED}};

static const place updates[] = {{"", PTX_GENERIC}, {"global.", PTX_GLOBAL}, {"shared.", PTX_SHARED}};

static void register_moves(void)
{
    for (const type &t : types)
        for (uint8_t count : {1, 2, 4}) {
            std::string vector = count == 1 ? "" : count == 2 ? "v2." : "v4.";
            const char *loaded = count == 1 ? "xm" : count == 2 ? "2xm" : "4xm";
            const char *stored = count == 1 ? "mx" : count == 2 ? "m2x" : "m4x";

            for (const place &p : loads)
                ptx_opcode_add(p.name + vector + t.name, {loaded,
                                                          p.space == PTX_PARAMETER ? load_parameter : load,
                                                          PTX_PLAIN,
                                                          {t.bytes, count, t.sign, p.space}});
            for (const place &p : stores)
                ptx_opcode_add(p.name + vector + t.name,
                               {stored, store, PTX_PLAIN, {t.bytes, count, t.sign, p.space}});
        }
}

template <enum atomic KIND> static void register_update(const std::string &operation, const type &t)
{
    for (const place &p : updates) {
        ptx_access access = {t.bytes, 1, t.sign, p.space};

        ptx_opcode_add("atom." + (p.name + operation) + "." + t.name,
                       {"xmx", update<KIND, true>, PTX_PLAIN, access});
        ptx_opcode_add("red." + (p.name + operation) + "." + t.name,
                       {"mx", update<KIND, false>, PTX_PLAIN, access});
    }
}

static void register_updates(void)
{
    for (const type &t : types) {
        std::string name = t.name;

        if (t.bytes < 4 || name == "f64") /* no kernel adds doubles so */
            continue;
        if (name == "f32") {
            register_update<ATOMIC_FLOAT_ADD>("add", t);
        } else if (name[0] == 'b') {
            register_update<ATOMIC_AND>("and", t);
            register_update<ATOMIC_OR>("or", t);
            register_update<ATOMIC_EXCHANGE>("exch", t);
            for (const place &p : updates)
                ptx_opcode_add("atom." + std::string(p.name) + "cas." + name,
                               {"xmxx", compare_and_swap, PTX_PLAIN, {t.bytes, 1, t.sign, p.space}});
        } else {
            register_update<ATOMIC_ADD>("add", t);
            register_update<ATOMIC_MIN>("min", t);
            register_update<ATOMIC_MAX>("max", t);
        }
    }
}

static void nothing(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    (void)w, (void)i, (void)lanes;
}

/* Nanoseconds of the device. */
static void read_timer(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    uint64_t now = device_nanoseconds();

    for (; lanes != 0; lanes &= lanes - 1)
        set(w, i, 0, __builtin_ctz(lanes), now);
}

void ptx_access_register(void)
{
    register_moves();
    register_updates();
    for (const char *name : {"cp.async.cg.shared.global", "cp.async.ca.shared.global"})
        ptx_opcode_add(name, {"mmw", copy_issue, PTX_PLAIN, {4, 1, false, PTX_GLOBAL}});
    ptx_opcode_add("cp.async.commit_group", {"", copy_commit, PTX_PLAIN, {}});
    ptx_opcode_add("cp.async.wait_group", {"w", copy_wait, PTX_PLAIN, {}});
    ptx_opcode_add("cp.async.wait_all", {"", copy_wait_all, PTX_PLAIN, {}});
    for (const char *name : {"membar.cta", "membar.gl", "membar.sys", "fence.acq_rel.gpu",
                             "fence.acq_rel.sys", "fence.sc.gpu", "fence.sc.sys"})
        ptx_opcode_add(name, {"", nothing, PTX_PLAIN, {}});
    ptx_opcode_add("nanosleep.u32", {"w", nothing, PTX_PLAIN, {}});
    ptx_opcode_add("mov.u64.globaltimer", {"d", read_timer, PTX_PLAIN, {}});
}
