/* warp.cpp - opcodes that the lanes of a warp execute together
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Called when all lanes that the mask names stand here; `lanes` are these. */
#include "each.h"

enum shuffle { SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_XOR, SHUFFLE_INDEX };

/* Operands: result, predicate, value, lane or offset, clamp and segments, mask. As the PTX ISA has
 * it, 9.7.9.6. */
template <enum shuffle KIND> static void exchange(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    uint32_t result[PTX_LANES], inside[PTX_LANES];

    for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
        int l = __builtin_ctz(rest);
        int b = (int)ptx_value(w, i, 3, l) & 31, c = (int)ptx_value(w, i, 4, l);
        int segment = c >> 8 & 31, most = (l & segment) | (c & 31 & ~segment), least = l & segment;
        int from = KIND == SHUFFLE_UP     ? l - b
                   : KIND == SHUFFLE_DOWN ? l + b
                   : KIND == SHUFFLE_XOR  ? l ^ b
                                          : least | (b & ~segment);

        inside[l] = KIND == SHUFFLE_UP ? from >= most : from <= most;
        from = inside[l] ? from : l;
        if (!(lanes >> from & 1))
            ptx_fail(w, i, l, "takes from lane %d, which is not in the mask %08x", from, lanes);
        result[l] = ptx_cells<uint32_t>(w, i.at[2])[from];
    }
    for (; lanes != 0; lanes &= lanes - 1) {
        int l = __builtin_ctz(lanes);

        ptx_cells<uint32_t>(w, i.at[0])[l] = result[l];
        ptx_cells<uint32_t>(w, i.at[1])[l] = inside[l];
    }
}

static uint32_t votes(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    uint32_t yes = 0;

    for (; lanes != 0; lanes &= lanes - 1) {
        int l = __builtin_ctz(lanes);

        yes |= (uint32_t)(ptx_value(w, i, 1, l) != 0) << l;
    }
    return yes;
}

static void give_all(ptx_warp &w, const ptx_instruction &i, uint32_t lanes, uint32_t value)
{
    for (; lanes != 0; lanes &= lanes - 1)
        ptx_cells<uint32_t>(w, i.at[0])[__builtin_ctz(lanes)] = value;
}

static void ballot(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    give_all(w, i, lanes, votes(w, i, lanes));
}

static void any(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    give_all(w, i, lanes, votes(w, i, lanes) != 0);
}

static void all(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    give_all(w, i, lanes, votes(w, i, lanes) == lanes);
}

static void match_any(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    uint32_t result[PTX_LANES] = {};

    for (int l = 0; l < PTX_LANES; l++)
        for (int m = 0; m < PTX_LANES; m++)
            if ((lanes >> l & 1) && (lanes >> m & 1) && ptx_value(w, i, 1, l) == ptx_value(w, i, 1, m))
                result[l] |= 1u << m;
    for (; lanes != 0; lanes &= lanes - 1) {
        int l = __builtin_ctz(lanes);

        ptx_cells<uint32_t>(w, i.at[0])[l] = result[l];
    }
}

template <class T, bool LEAST> static void extreme(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    T best = (T)ptx_value(w, i, 1, __builtin_ctz(lanes));

    for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
        T v = (T)ptx_value(w, i, 1, __builtin_ctz(rest));

        best = (LEAST ? v < best : v > best) ? v : best;
    }
    give_all(w, i, lanes, (uint32_t)best);
}

static void add_up(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    uint32_t sum = 0;

    for (uint32_t rest = lanes; rest != 0; rest &= rest - 1)
        sum += (uint32_t)ptx_value(w, i, 1, __builtin_ctz(rest));
    give_all(w, i, lanes, sum);
}

/* Orders memory between all lanes; between some only, nothing here knows it. */
static void sync(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    (void)i;
    w.syncs += lanes == w.alive;
}

/* The rows of COUNT 8 x 8 matrices: lane 8 n + r names row r of matrix n; lane l receives the l % 4-th pair
 * of row l / 4, or, transposed, the l / 4-th numbers of rows 2 (l % 4) and + 1. As the PTX ISA has
 * it, 9.7.14.5.15. */
template <int COUNT, bool TRANSPOSED>
static void load_matrix(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    uint16_t rows[8 * COUNT][8];

    (void)lanes;
    for (int r = 0; r < 8 * COUNT; r++) {
        uint64_t address = ptx_value(w, i, COUNT, r) + (uint64_t)i.displacement;

        memcpy(rows[r], ptx_shared_access(w, i, r, address, 16, false), 16);
    }
    for (int n = 0; n < COUNT; n++)
        for (int l = 0; l < PTX_LANES; l++) {
            const uint16_t(*m)[8] = rows + 8 * n;
            int pair = 2 * (l % 4);
            uint32_t lower = TRANSPOSED ? m[pair][l / 4] : m[l / 4][pair];
            uint32_t upper = TRANSPOSED ? m[pair + 1][l / 4] : m[l / 4][pair + 1];

            ptx_cells<uint32_t>(w, i.at[n])[l] = lower | upper << 16;
        }
}

static float half_of(uint32_t pair, int upper)
{
    return ptx_get<float>(upper ? pair & 0xffff0000u : pair << 16);
}

/* d[16, 8] = a[16, 16] b[16, 8] + c in fp32, rising k (a device's order is its own). Operands: d 4, a 4, b 2,
 * c 4; fragments as the PTX ISA has them, 9.7.14.5.8: a: register (row >= 8) + 2 (k >= 8) of lane 4 (row % 8)
 * + k % 8 / 2; b: register k >= 8 of lane 4 column + k % 8 / 2; c, d: rows lane / 4 and + 8, columns 2 (lane
 * % 4) and + 1. */
static void multiply(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    float a[16][16], b[16][8], sum[16][8];

    (void)lanes;
    for (int l = 0; l < PTX_LANES; l++) {
        for (int r = 0; r < 4; r++) {
            uint32_t pair = ptx_cells<uint32_t>(w, i.at[4 + r])[l];

            for (int h = 0; h < 2; h++)
                a[l / 4 + r % 2 * 8][l % 4 * 2 + r / 2 * 8 + h] = half_of(pair, h);
            sum[l / 4 + r / 2 * 8][l % 4 * 2 + r % 2] =
                ptx_get<float>(ptx_cells<uint32_t>(w, i.at[10 + r])[l]);
        }
        for (int r = 0; r < 2; r++)
            for (int h = 0; h < 2; h++)
                b[l % 4 * 2 + r * 8 + h][l / 4] = half_of(ptx_cells<uint32_t>(w, i.at[8 + r])[l], h);
    }
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++)
                sum[row][column] += a[row][k] * b[k][column];
    for (int l = 0; l < PTX_LANES; l++)
        for (int r = 0; r < 4; r++)
            ptx_cells<uint32_t>(w, i.at[r])[l] = ptx_put<float>(sum[l / 4 + r / 2 * 8][l % 4 * 2 + r % 2]);
}

static void nothing(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    (void)w, (void)i, (void)lanes;
}

void ptx_warp_register(void)
{
    const ptx_access rows = {16, 1, false, PTX_SHARED};

    ptx_opcode_add("shfl.sync.up.b32", {"qwwww", exchange<SHUFFLE_UP>, PTX_MEET, {}});
    ptx_opcode_add("shfl.sync.down.b32", {"qwwww", exchange<SHUFFLE_DOWN>, PTX_MEET, {}});
    ptx_opcode_add("shfl.sync.bfly.b32", {"qwwww", exchange<SHUFFLE_XOR>, PTX_MEET, {}});
    ptx_opcode_add("shfl.sync.idx.b32", {"qwwww", exchange<SHUFFLE_INDEX>, PTX_MEET, {}});
    ptx_opcode_add("vote.sync.ballot.b32", {"www", ballot, PTX_MEET, {}});
    ptx_opcode_add("vote.sync.any.pred", {"www", any, PTX_MEET, {}});
    ptx_opcode_add("vote.sync.all.pred", {"www", all, PTX_MEET, {}});
    ptx_opcode_add("match.any.sync.b32", {"www", match_any, PTX_MEET, {}});
    ptx_opcode_add("match.any.sync.b64", {"wdw", match_any, PTX_MEET, {}});
    ptx_opcode_add("redux.sync.add.s32", {"www", add_up, PTX_MEET, {}});
    ptx_opcode_add("redux.sync.add.u32", {"www", add_up, PTX_MEET, {}});
    ptx_opcode_add("redux.sync.min.s32", {"www", extreme<int32_t, true>, PTX_MEET, {}});
    ptx_opcode_add("redux.sync.max.s32", {"www", extreme<int32_t, false>, PTX_MEET, {}});
    ptx_opcode_add("redux.sync.min.u32", {"www", extreme<uint32_t, true>, PTX_MEET, {}});
    ptx_opcode_add("redux.sync.max.u32", {"www", extreme<uint32_t, false>, PTX_MEET, {}});
    ptx_opcode_add("activemask.b32", {"w",
                                      [](ptx_warp &w, const ptx_instruction &i, uint32_t lanes) {
                                          give_all(w, i, lanes, lanes);
                                      },
                                      PTX_PLAIN,
                                      {}});
    ptx_opcode_add("bar.warp.sync", {"w", sync, PTX_MEET, {}});
    ptx_opcode_add("ldmatrix.sync.aligned.m8n8.x1.shared.b16",
                   {"1wm", load_matrix<1, false>, PTX_MEET_ALL, rows});
    ptx_opcode_add("ldmatrix.sync.aligned.m8n8.x2.shared.b16",
                   {"2wm", load_matrix<2, false>, PTX_MEET_ALL, rows});
    ptx_opcode_add("ldmatrix.sync.aligned.m8n8.x4.shared.b16",
                   {"4wm", load_matrix<4, false>, PTX_MEET_ALL, rows});
    ptx_opcode_add("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16",
                   {"2wm", load_matrix<2, true>, PTX_MEET_ALL, rows});
    ptx_opcode_add("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16",
                   {"4wm", load_matrix<4, true>, PTX_MEET_ALL, rows});
    ptx_opcode_add("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
                   {"4w4w2w4w", multiply, PTX_MEET_ALL, {}});
    ptx_opcode_add("bar.sync", {"w", nothing, PTX_BARRIER, {}});
    for (const char *name : {"bra", "bra.uni"})
        ptx_opcode_add(name, {"l", nothing, PTX_BRANCH, {}});
    for (const char *name : {"ret", "exit"})
        ptx_opcode_add(name, {"", nothing, PTX_EXIT, {}});
}
