/* cuda_multiply.cu - rows times weights on tensor cores, to nearly single precision, whatever the batch
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A float is split into two bf16 numbers, x = high + low, to 2^-16 of it; weights of bf16 and E4M3 are exact,
 * others are split likewise. So y = high w + low w costs two products of the tensor cores and loses little
 * more than the order of the sum. The scales of E4M3 multiply the sums of 128 inputs. While a step is bound
 * by the bytes of the weights (below some 300 rows for each weight) the second product costs nothing. Lower
 * precision is y = high w: one product, by weights of bf16 alone.
 *
 * Each number of the result is one chain of sums along K, 16 inputs at a time, in rising order; it does not
 * depend on the rows beside it, nor on the size of the tile. So a row has the same bits in every batch. */
#include "kernels/cuda/cuda_launch.h"
#include "kernels/cuda/gpu.cuh"

/* A block computes 16 ROWS x COLUMNS numbers: each of its warps all rows of 16 columns. */
enum { THREADS = 128, COLUMNS = 64, DEPTH = 32, PADDED = DEPTH + 8, COLUMN_TILES = 2 };

struct product {
    const float *x;
    float *out;
    const float *bias;    /* [columns of out]; NULL: none */
    struct cuda_weight w; /* of all rows, when there are no slots */
    const struct cuda_weight *weights;
    const int32_t *order, *first; /* rows of each slot; NULL: rows 0 ... rows - 1 */
    int rows, n;                  /* out [rows, n]; with slots: most rows of one that is not left alone */
    int x_stride, out_stride;
    bool lower;
};

/* Which rows a block works on. */
struct share {
    const int32_t *order; /* NULL: row numbers themselves */
    int first, count;
};

static __device__ __forceinline__ int row_of(struct share s, int i)
{
    return s.order ? s.order[i] : s.first + i;
}

/* Asks for the weights of inputs k0 ... k0 + DEPTH - 1, of up to two planes. Columns behind the last repeat
 * it. */
static __device__ void fetch_weights(uint16_t (*to)[COLUMNS][PADDED], const struct cuda_weight &w, int n0,
                                     int k0)
{
    int planes = w.plane ? 2 : 1;

    for (int i = threadIdx.x; !w.scale && i < planes * COLUMNS * (DEPTH / 8); i += THREADS) {
        int plane = i / (COLUMNS * (DEPTH / 8));
        int column = i / (DEPTH / 8) % COLUMNS;
        int k = i % (DEPTH / 8) * 8;

        cp_async16(&to[plane][column][k],
                   w.data + plane * w.plane + (size_t)min(n0 + column, w.rows - 1) * w.stride + k0 + k);
    }
    for (int i = threadIdx.x; w.scale && i < COLUMNS * (DEPTH / 16); i += THREADS) {
        int column = i / (DEPTH / 16);
        int k = i % (DEPTH / 16) * 16;
        const uint8_t *codes = reinterpret_cast<const uint8_t *>(w.data);
        uint4 v = ld_stream16(codes + (size_t)min(n0 + column, w.rows - 1) * w.stride + k0 + k);
        uint32_t words[4] = {v.x, v.y, v.z, v.w};

#pragma unroll
        for (int b = 0; b < 16; b++)
            to[0][column][k + b] = bf16_of_e4m3(words[b / 4] >> (8 * (b % 4)) & 0xffu);
    }
    cp_async_commit();
}

/* x of ROWS * 16 rows, split; zero behind the last row and input. */
template <int ROWS>
static __device__ void split_rows(uint16_t (*to)[16 * ROWS][PADDED], const struct product *p, struct share s,
                                  int m0, int k0, int inputs)
{
    for (int i = threadIdx.x; i < 16 * ROWS * DEPTH; i += THREADS) {
        int row = i / DEPTH, k = i % DEPTH;
        bool inside = m0 + row < s.count && k0 + k < inputs;
        float x = inside ? p->x[(size_t)row_of(s, m0 + row) * p->x_stride + k0 + k] : 0.0f;
        __nv_bfloat16 high = __float2bfloat16(x);

        to[0][row][k] = __bfloat16_as_ushort(high);
        to[1][row][k] = __bfloat16_as_ushort(__float2bfloat16(x - __bfloat162float(high)));
    }
}

template <int ROWS>
static __device__ __forceinline__ void multiply_tile(float (*sum)[COLUMN_TILES][4],
                                                     const uint16_t (*x)[16 * ROWS][PADDED],
                                                     const uint16_t (*w)[COLUMNS][PADDED], bool two,
                                                     bool lower)
{
    int lane = lane_id();
    int column = (int)(threadIdx.x / 32) * 16 + lane % 8;

#pragma unroll
    for (int k = 0; k < DEPTH; k += 16) {
        uint32_t b[COLUMN_TILES][2], rest[COLUMN_TILES][2];

#pragma unroll
        for (int j = 0; j < COLUMN_TILES; j++) {
            ldmatrix_x2(b[j], &w[0][column + 8 * j][k + (lane / 8 & 1) * 8]);
            if (two)
                ldmatrix_x2(rest[j], &w[1][column + 8 * j][k + (lane / 8 & 1) * 8]);
        }
#pragma unroll
        for (int m = 0; m < ROWS; m++) {
            uint32_t high[4], low[4];

            ldmatrix_x4(high, &x[0][16 * m + lane % 16][k + lane / 16 * 8]);
            if (!lower)
                ldmatrix_x4(low, &x[1][16 * m + lane % 16][k + lane / 16 * 8]);
#pragma unroll
            for (int j = 0; j < COLUMN_TILES; j++) {
                mma_bf16_16816(sum[m][j], high, b[j]);
                if (!lower)
                    mma_bf16_16816(sum[m][j], low, b[j]);
                if (two)
                    mma_bf16_16816(sum[m][j], high, rest[j]);
            }
        }
    }
}

/* total += sum * scale, sum = 0: the inputs that share a scale have been added up, all of them without
 * scales. */
template <int ROWS>
static __device__ __forceinline__ void fold_tile(float (*total)[COLUMN_TILES][4],
                                                 float (*sum)[COLUMN_TILES][4], const struct cuda_weight &w,
                                                 int n0, int group)
{
    int column = n0 + (int)(threadIdx.x / 32) * 16 + lane_id() % 4 * 2;

#pragma unroll
    for (int j = 0; j < COLUMN_TILES; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            size_t row = (size_t)min(column + 8 * j + i % 2, w.rows - 1);
            float scale = w.scale ? w.scale[row * w.scales + group] : 1.0f;

#pragma unroll
            for (int m = 0; m < ROWS; m++) {
                total[m][j][i] = fmaf(sum[m][j][i], scale, total[m][j][i]);
                sum[m][j][i] = 0.0f;
            }
        }
    }
}

template <int ROWS>
static __device__ void store_tile(const float (*sum)[COLUMN_TILES][4], const struct product *p,
                                  struct share s, int m0, int n0)
{
    int lane = lane_id();

#pragma unroll
    for (int m = 0; m < ROWS; m++) {
#pragma unroll
        for (int j = 0; j < COLUMN_TILES; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int row = m0 + 16 * m + lane / 4 + i / 2 * 8;
                int column = n0 + (int)(threadIdx.x / 32) * 16 + 8 * j + lane % 4 * 2 + i % 2;

                if (row < s.count && column < p->n)
                    p->out[(size_t)row_of(s, row) * p->out_stride + column] =
                        p->bias ? sum[m][j][i] + p->bias[column] : sum[m][j][i];
            }
        }
    }
}

/* Grid: (columns / COLUMNS, rows / 16 ROWS, slots). Weights come two stages ahead of the products. */
template <int ROWS> static __global__ __launch_bounds__(THREADS) void multiply(struct product p)
{
    SHARED_VAR(weights, uint16_t[2][2][COLUMNS][PADDED]); /* stage, plane */
    SHARED_VAR(rows, uint16_t[2][16 * ROWS][PADDED]);     /* high, low */
    int n0 = (int)blockIdx.x * COLUMNS;
    int m0 = (int)blockIdx.y * 16 * ROWS;
    int slot = (int)blockIdx.z;
    struct share s = {nullptr, 0, p.rows};
    const struct cuda_weight w = p.weights ? p.weights[slot] : p.w;
    bool lower = p.lower && !w.plane && !w.scale;
    float sum[ROWS][COLUMN_TILES][4] = {}, total[ROWS][COLUMN_TILES][4] = {};

    if (p.first)
        s = {p.order + p.first[slot], 0, p.first[slot + 1] - p.first[slot]};
    if (m0 >= s.count || s.count > p.rows) /* the whole block, before any barrier */
        return;
    fetch_weights(weights[0], w, n0, 0);
    for (int k0 = 0, stage = 0; k0 < w.columns; k0 += DEPTH, stage ^= 1) {
        if (k0 + DEPTH < w.columns) {
            fetch_weights(weights[stage ^ 1], w, n0, k0 + DEPTH);
            cp_async_wait<1>();
        } else {
            cp_async_wait<0>();
        }
        split_rows<ROWS>(rows, &p, s, m0, k0, w.columns);
        __syncthreads();
        multiply_tile<ROWS>(sum, rows, weights[stage], w.plane != 0, lower);
        if ((w.scale && (k0 + DEPTH) % SCALE_INPUTS == 0) || k0 + DEPTH >= w.columns)
            fold_tile<ROWS>(total, sum, w, n0, k0 / SCALE_INPUTS);
        __syncthreads(); /* before the next stage overwrites what others still read */
    }
    store_tile<ROWS>(total, &p, s, m0, n0);
}

/* Few rows take a small tile: the weights are read once either way, and fewer products are thrown away. */
static cudaError_t launch(struct product p, int rows, int slots, cudaStream_t s)
{
    unsigned columns = (unsigned)(p.n + COLUMNS - 1) / COLUMNS;

    if (rows == 0 || p.n == 0 || slots == 0)
        return cudaSuccess;
    if (rows <= 16)
        return GPU_LAUNCH(multiply<1>, dim3(columns, 1, (unsigned)slots), THREADS, 0, s, p);
    return GPU_LAUNCH(multiply<4>, dim3(columns, (unsigned)(rows + 63) / 64, (unsigned)slots), THREADS, 0, s,
                      p);
}

cudaError_t cuda_multiply_load(void)
{
    return gpu_load(multiply<1>, multiply<4>);
}

cudaError_t cuda_multiply_rows(struct matrix out, struct matrix x, struct cuda_weight w, const float *bias,
                               cudaStream_t s)
{
    struct product p = {};

    p.x = x.data;
    p.out = out.data;
    p.bias = bias;
    p.w = w;
    p.rows = x.rows;
    p.n = w.rows;
    p.x_stride = x.stride;
    p.out_stride = out.stride;
    return launch(p, x.rows, 1, s);
}

cudaError_t cuda_multiply_slots(struct matrix out, struct matrix x, struct cuda_slots slots, cudaStream_t s)
{
    struct product p = {};

    p.x = x.data;
    p.out = out.data;
    p.weights = slots.weights;
    p.order = slots.order;
    p.first = slots.first;
    p.rows = slots.most;
    p.lower = slots.lower;
    p.n = slots.rows;
    p.x_stride = x.stride;
    p.out_stride = out.stride;
    return launch(p, slots.most, slots.slots, s);
}
