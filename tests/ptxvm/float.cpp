/* float.cpp - opcodes of single precision and bf16
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The last bits of .approx opcodes are the device's own: those of ex2 are off here, the others' exact. */
#include "each.h"

#include <fenv.h>

static float flush(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

static uint16_t bf16_of(float x)
{
    uint32_t bits = ptx_put<float>(x);

    if (x != x)
        return 0x7fff;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float of_bf16(uint16_t bits)
{
    return ptx_get<float>((uint32_t)bits << 16);
}

/* A result of an .approx opcode, off by up to two units of its last place. Powers of two are exact. */
static float loose(float exact, float argument)
{
    uint32_t bits = ptx_put<float>(exact), spread = ptx_put<float>(argument) * 2654435761u >> 16;

    if (argument == rintf(argument) || !(fabsf(exact) > 0x1p-120f) || fabsf(exact) > 0x1p120f)
        return exact;
    return ptx_get<float>(bits + spread % 5 - 2);
}

/* Rounded downwards. */
static void fma_down(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    auto *to = ptx_cells<uint32_t>(w, i.at[0]);
    const uint32_t *a = ptx_cells<uint32_t>(w, i.at[1]), *b = ptx_cells<uint32_t>(w, i.at[2]),
                   *c = ptx_cells<uint32_t>(w, i.at[3]);

    fesetround(FE_DOWNWARD);
    for (; lanes != 0; lanes &= lanes - 1) {
        int l = __builtin_ctz(lanes);
        volatile float result = fmaf(ptx_get<float>(a[l]), ptx_get<float>(b[l]), ptx_get<float>(c[l]));

        to[l] = ptx_put<float>(result);
    }
    fesetround(FE_TONEAREST);
}

/* Out of range: the nearest number there is; NaN: 0. */
template <class T> static T to_whole(float x)
{
    const float least = (float)std::numeric_limits<T>::min(), most = (float)std::numeric_limits<T>::max();

    if (x != x)
        return 0;
    return x <= least ? std::numeric_limits<T>::min() : x >= most ? std::numeric_limits<T>::max() : (T)x;
}

template <class T> static void convert(const std::string &s)
{
    ptx_each<float, T>("cvt.rn.f32." + s, [](T a) { return (float)a; });
    ptx_each<T, float>("cvt.rzi." + s + ".f32", [](float a) { return to_whole<T>(truncf(a)); });
    ptx_each<T, float>("cvt.rni." + s + ".f32", [](float a) { return to_whole<T>(rintf(a)); });
    ptx_each<T, float>("cvt.rmi." + s + ".f32", [](float a) { return to_whole<T>(floorf(a)); });
    ptx_each<T, float>("cvt.rpi." + s + ".f32", [](float a) { return to_whole<T>(ceilf(a)); });
}

static void arithmetic(void)
{
    for (const char *name : {"add.f32", "add.rn.f32"})
        ptx_each<float, float, float>(name, [](float a, float b) { return a + b; });
    for (const char *name : {"sub.f32", "sub.rn.f32"})
        ptx_each<float, float, float>(name, [](float a, float b) { return a - b; });
    for (const char *name : {"mul.f32", "mul.rn.f32"})
        ptx_each<float, float, float>(name, [](float a, float b) { return a * b; });
    for (const char *name : {"div.rn.f32", "div.full.f32", "div.approx.f32"})
        ptx_each<float, float, float>(name, [](float a, float b) { return a / b; });
    ptx_each<float, float, float, float>("fma.rn.f32",
                                         [](float a, float b, float c) { return fmaf(a, b, c); });
    ptx_opcode_add("fma.rm.f32", {"wwww", fma_down, PTX_PLAIN, {}});
    ptx_each<float, float, float>("max.f32", [](float a, float b) { return fmaxf(a, b); });
    ptx_each<float, float, float>("min.f32", [](float a, float b) { return fminf(a, b); });
    ptx_each<float, float, float>("max.NaN.f32", [](float a, float b) {
        return a != a ? a : b != b ? b : fmaxf(a, b);
    });
    ptx_each<float, float>("neg.f32", [](float a) { return -a; });
    ptx_each<float, float>("abs.f32", [](float a) { return fabsf(a); });
    for (const char *name : {"rcp.rn.f32", "rcp.approx.f32"})
        ptx_each<float, float>(name, [](float a) { return 1.0f / a; });
    ptx_each<float, float>("rcp.approx.ftz.f32", [](float a) { return flush(1.0f / flush(a)); });
    for (const char *name : {"sqrt.rn.f32", "sqrt.approx.f32"})
        ptx_each<float, float>(name, [](float a) { return sqrtf(a); });
    ptx_each<float, float>("rsqrt.approx.f32", [](float a) { return 1.0f / sqrtf(a); });
    ptx_each<float, float>("rsqrt.approx.ftz.f32", [](float a) { return 1.0f / sqrtf(flush(a)); });
    ptx_each<float, float>("ex2.approx.f32", [](float a) { return loose(exp2f(a), a); });
    ptx_each<float, float>("ex2.approx.ftz.f32", [](float a) { return flush(loose(exp2f(a), a)); });
    ptx_each<float, float>("lg2.approx.f32", [](float a) { return log2f(a); });
    ptx_each<float, float>("lg2.approx.ftz.f32", [](float a) { return log2f(flush(a)); });
    ptx_each<float, float>("tanh.approx.f32", [](float a) { return tanhf(a); });
    ptx_each<float, float>("mov.f32", [](float a) { return a; });
    ptx_each<float, float, float, bool>("selp.f32", [](float a, float b, bool c) { return c ? a : b; });
}

static void compare(void)
{
    ptx_each<bool, float, float>("setp.eq.f32", [](float a, float b) { return a == b; });
    ptx_each<bool, float, float>("setp.ne.f32", [](float a, float b) { return a < b || a > b; });
    ptx_each<bool, float, float>("setp.lt.f32", [](float a, float b) { return a < b; });
    ptx_each<bool, float, float>("setp.le.f32", [](float a, float b) { return a <= b; });
    ptx_each<bool, float, float>("setp.gt.f32", [](float a, float b) { return a > b; });
    ptx_each<bool, float, float>("setp.ge.f32", [](float a, float b) { return a >= b; });
    ptx_each<bool, float, float>("setp.equ.f32", [](float a, float b) { return !(a < b || a > b); });
    ptx_each<bool, float, float>("setp.neu.f32", [](float a, float b) { return !(a == b); });
    ptx_each<bool, float, float>("setp.ltu.f32", [](float a, float b) { return !(a >= b); });
    ptx_each<bool, float, float>("setp.leu.f32", [](float a, float b) { return !(a > b); });
    ptx_each<bool, float, float>("setp.gtu.f32", [](float a, float b) { return !(a <= b); });
    ptx_each<bool, float, float>("setp.geu.f32", [](float a, float b) { return !(a < b); });
    ptx_each<bool, float, float>("setp.num.f32", [](float a, float b) { return a == a && b == b; });
    ptx_each<bool, float, float>("setp.nan.f32", [](float a, float b) { return a != a || b != b; });
}

void ptx_float_register(void)
{
    arithmetic();
    compare();
    convert<uint8_t>("u8");
    convert<int8_t>("s8");
    convert<uint16_t>("u16");
    convert<int16_t>("s16");
    convert<uint32_t>("u32");
    convert<int32_t>("s32");
    convert<uint64_t>("u64");
    convert<int64_t>("s64");
    ptx_each<double, float>("cvt.f64.f32", [](float a) { return (double)a; });
    ptx_each<float, float>("cvt.sat.f32.f32", [](float a) { return a > 1.0f ? 1.0f : a > 0.0f ? a : 0.0f; });
    ptx_each<float, float>("cvt.rmi.f32.f32", [](float a) { return floorf(a); });
    ptx_each<float, float>("cvt.rpi.f32.f32", [](float a) { return ceilf(a); });
    ptx_each<float, float>("cvt.rzi.f32.f32", [](float a) { return truncf(a); });
    ptx_each<float, float>("cvt.rni.f32.f32", [](float a) { return rintf(a); });
    ptx_each<uint16_t, float>("cvt.rn.bf16.f32", [](float a) { return bf16_of(a); });
    ptx_each<float, uint16_t>("cvt.f32.bf16", [](uint16_t a) { return of_bf16(a); });
    ptx_each<uint32_t, float, float>("cvt.rn.bf16x2.f32", [](float upper, float lower) {
        return (uint32_t)bf16_of(upper) << 16 | bf16_of(lower);
    });
}
