/* cuda_attend.cu - keys and values in pages, and attention over them on tensor cores
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A warp takes up to 16 (row, head) pairs that share a key-value head and looks at one chunk of positions, a
 * page of 16 at a time; what the chunks of a row bring is added up in order by a second kernel. Prompts and
 * single tokens go the same way, so a row has the same bits in every batch. Queries and shares of the
 * soft-max are split into two bf16 numbers, as in cuda_multiply.cu. */
#include "kernels/cuda/cuda_launch.h"
#include "kernels/cuda/gpu.cuh"

enum { THREADS = 128, TILE = 16, PADDING = 8 };

/* The keys of one page and head; its values, [W, 16], lie behind those of all heads. */
static __device__ __forceinline__ uint16_t *page_keys(struct cuda_cache c, int page, int kv_head)
{
    size_t head = (size_t)PAGE_ROWS * c.head_width;

    return c.data + (2 * (size_t)c.kv_heads * page + kv_head) * head;
}

static __device__ __forceinline__ uint16_t *page_values(struct cuda_cache c, int page, int kv_head)
{
    return page_keys(c, page, c.kv_heads + kv_head);
}

/* A block for each row. */
static __global__ __launch_bounds__(THREADS) void append(struct cuda_cache c, const float *keys,
                                                         int key_stride, const float *values,
                                                         int value_stride)
{
    int row = (int)blockIdx.x;
    int position = c.position[row];
    int page = c.pages[c.first_page[row] + position / PAGE_ROWS];
    int within = position % PAGE_ROWS;

    for (int i = threadIdx.x; i < c.kv_heads * c.head_width; i += THREADS) {
        int head = i / c.head_width, d = i % c.head_width;

        page_keys(c, page, head)[within * c.head_width + d] =
            __bfloat16_as_ushort(__float2bfloat16(keys[(size_t)row * key_stride + i]));
        page_values(c, page, head)[d * PAGE_ROWS + within] =
            __bfloat16_as_ushort(__float2bfloat16(values[(size_t)row * value_stride + i]));
    }
}

/* The first position that a query at `position` sees. */
static __device__ __forceinline__ int first_seen(int mask, int size, int position)
{
    if (mask == MASK_CHUNK)
        return position - position % size;
    if (mask == MASK_WINDOW)
        return max(position - size + 1, 0);
    return 0;
}

/* What a warp works on: pairs 0 ... pairs - 1 of (row, head), rows varying slowest. */
struct work {
    int row, rows;  /* of the step */
    int heads;      /* query heads of this key-value head, of these up to 16 */
    int first_head; /* into head_list */
    int kv_head;
    int begin, end; /* positions of the chunk that any of the rows sees */
};

static __device__ struct work find_work(const struct cuda_attend &a)
{
    int parts = (a.most_heads + TILE - 1) / TILE;
    struct work w;

    w.row = a.tile[2 * blockIdx.x];
    w.rows = a.tile[2 * blockIdx.x + 1];
    w.kv_head = (int)blockIdx.y / parts;
    w.first_head = a.head_of[w.kv_head] + (int)blockIdx.y % parts * TILE;
    w.heads = max(min(a.head_of[w.kv_head + 1] - w.first_head, (int)TILE), 0);
    w.begin = (a.first_chunk + (int)blockIdx.z) * CUDA_ATTEND_CHUNK;
    w.end = w.begin + CUDA_ATTEND_CHUNK;
    int least = first_seen(a.mask, a.mask_size, a.cache.position[w.row]);
    int most = a.cache.position[w.row + w.rows - 1] + 1;
    w.begin = max(w.begin, least / TILE * TILE);
    w.end = min(w.end, most);
    return w;
}

/* Where the results of a pair go: greatest score, sum, then W weighted values. */
static __device__ __forceinline__ float *partial_at(const struct cuda_attend &a, int row, int head)
{
    size_t pair = (size_t)(row - a.first_row) * a.heads + head;

    return a.partial + (pair * a.chunks + blockIdx.z) * (a.cache.head_width + 2);
}

/* Queries of the pairs, split; zero where there is no pair and behind the head's width. */
template <int W16>
static __device__ void load_queries(uint16_t (*to)[TILE][16 * W16 + PADDING], const struct cuda_attend &a,
                                    const struct work &w)
{
    int width = a.cache.head_width;

    for (int i = lane_id(); i < TILE * 16 * W16; i += 32) {
        int pair = i / (16 * W16), d = i % (16 * W16);
        float q = 0.0f;

        if (pair < w.rows * w.heads && d < width) {
            int head = a.head_list[w.first_head + pair % w.heads];

            q = a.queries
                    .data[(size_t)(w.row + pair / w.heads) * a.queries.stride + (size_t)head * width + d];
        }
        __nv_bfloat16 high = __float2bfloat16(q);

        to[0][pair][d] = __bfloat16_as_ushort(high);
        to[1][pair][d] = __bfloat16_as_ushort(__float2bfloat16(q - __bfloat162float(high)));
    }
}

/* One page: keys [16, W] and values [W, 16]. */
template <int W16>
static __device__ void load_page(uint16_t (*keys)[16 * W16 + PADDING], uint16_t (*values)[TILE + PADDING],
                                 struct cuda_cache c, int row, int kv_head, int position, int end)
{
    int page = c.pages[c.first_page[row] + position / PAGE_ROWS];
    const uint16_t *from_keys = page_keys(c, page, kv_head);
    const uint16_t *from_values = page_values(c, page, kv_head);
    int eights = c.head_width / 8;

    for (int i = lane_id(); i < TILE * eights; i += 32)
        cp_async16(&keys[i / eights][i % eights * 8],
                   from_keys + (size_t)(i / eights) * c.head_width + i % eights * 8);
    for (int i = lane_id(); i < c.head_width * 2; i += 32)
        cp_async16(&values[i / 2][i % 2 * 8], from_values + (size_t)(i / 2) * PAGE_ROWS + i % 2 * 8);
    cp_async_commit();
    cp_async_wait<0>();
    __syncwarp();
    /* What others left in the page behind the last row may be anything, and zero times a NaN is a NaN. */
    if (position + TILE > end) {
        for (int i = lane_id(); i < c.head_width * TILE; i += 32)
            if (position + i % TILE >= end)
                values[i / TILE][i % TILE] = 0;
        __syncwarp();
    }
}

static __device__ __forceinline__ uint32_t pack(float first, float second)
{
    return (uint32_t)__bfloat16_as_ushort(__float2bfloat16(first)) |
           (uint32_t)__bfloat16_as_ushort(__float2bfloat16(second)) << 16;
}

static __device__ __forceinline__ float left_over(float v)
{
    return v - __bfloat162float(__float2bfloat16(v));
}

/* Over the four lanes that hold one row of a tile of results. */
static __device__ __forceinline__ float quad_max(float v)
{
    v = fmaxf(v, __shfl_xor_sync(GPU_WARP, v, 1));
    return fmaxf(v, __shfl_xor_sync(GPU_WARP, v, 2));
}

static __device__ __forceinline__ float quad_sum(float v)
{
    v += __shfl_xor_sync(GPU_WARP, v, 1);
    return v + __shfl_xor_sync(GPU_WARP, v, 2);
}

/* The running soft-max of the two rows of results that a lane has a part in. */
struct running {
    float greatest[2], sum[2]; /* sum: of this lane's columns only */
};

/* score[2][4] becomes shares of the soft-max; returns through scale[2] what earlier results are worth. */
static __device__ __forceinline__ void soften(float (*score)[4], struct running *r, float *scale)
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float greatest =
            fmaxf(fmaxf(score[0][2 * h], score[0][2 * h + 1]), fmaxf(score[1][2 * h], score[1][2 * h + 1]));
        float now = fmaxf(r->greatest[h], quad_max(greatest));
        bool none = now == -INFINITY; /* nothing seen yet */

        scale[h] = none ? 1.0f : expf(r->greatest[h] - now);
        r->greatest[h] = now;
        r->sum[h] *= scale[h];
#pragma unroll
        for (int j = 0; j < 2; j++) {
#pragma unroll
            for (int i = 2 * h; i < 2 * h + 2; i++) {
                score[j][i] = none ? 0.0f : expf(score[j][i] - now);
                r->sum[h] += score[j][i];
            }
        }
    }
}

/* Scores of 16 pairs against 16 positions; what a pair does not see is minus infinity. */
template <int W16>
static __device__ __forceinline__ void score_page(float (*score)[4],
                                                  const uint16_t (*queries)[TILE][16 * W16 + PADDING],
                                                  const uint16_t (*keys)[16 * W16 + PADDING],
                                                  const struct cuda_attend &a, const struct work &w,
                                                  int position)
{
    int lane = lane_id();

#pragma unroll
    for (int k = 0; k < W16; k++) {
        uint32_t high[4], low[4];

        if (16 * k >= a.cache.head_width)
            break;
        ldmatrix_x4(high, &queries[0][lane % 16][16 * k + lane / 16 * 8]);
        ldmatrix_x4(low, &queries[1][lane % 16][16 * k + lane / 16 * 8]);
#pragma unroll
        for (int j = 0; j < 2; j++) {
            uint32_t b[2];

            ldmatrix_x2(b, &keys[8 * j + lane % 8][16 * k + (lane / 8 & 1) * 8]);
            mma_bf16_16816(score[j], high, b);
            mma_bf16_16816(score[j], low, b);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int pair = lane / 4 + i / 2 * 8;
        int row = pair < w.rows * w.heads ? w.row + pair / w.heads : w.row;
        int at = a.cache.position[row];
        int least = first_seen(a.mask, a.mask_size, at);

#pragma unroll
        for (int j = 0; j < 2; j++) {
            int seen = position + 8 * j + lane % 4 * 2 + i % 2;

            score[j][i] = seen >= least && seen <= at ? score[j][i] * a.scale : -INFINITY;
        }
    }
}

/* Grid: (tiles, key-value heads times parts of 16 query heads, chunks); one warp a block. */
template <int W16> static __global__ __launch_bounds__(32) void attend(struct cuda_attend a)
{
    SHARED_VAR(queries, uint16_t[2][TILE][16 * W16 + PADDING]); /* high, low */
    SHARED_VAR(keys, uint16_t[TILE][16 * W16 + PADDING]);
    SHARED_VAR(values, uint16_t[16 * W16][TILE + PADDING]);
    struct work w = find_work(a);
    struct running r = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}};
    float out[2 * W16][4] = {};
    int lane = lane_id();

    load_queries<W16>(queries, a, w);
    for (int position = w.begin; position < w.end; position += TILE) {
        float score[2][4] = {}, scale[2];

        __syncwarp(); /* before the page is overwritten, and after the queries */
        load_page<W16>(keys, values, a.cache, w.row, w.kv_head, position, w.end);
        score_page<W16>(score, queries, keys, a, w, position);
        soften(score, &r, scale);
        uint32_t high[4], low[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float first = score[i / 2][i % 2 * 2], second = score[i / 2][i % 2 * 2 + 1];

            high[i] = pack(first, second);
            low[i] = pack(left_over(first), left_over(second));
        }
#pragma unroll
        for (int n = 0; n < 2 * W16; n++) {
            uint32_t b[2];

            if (8 * n >= a.cache.head_width)
                break;
#pragma unroll
            for (int i = 0; i < 4; i++)
                out[n][i] *= scale[i / 2];
            ldmatrix_x2(b, &values[8 * n + lane % 8][(lane / 8 & 1) * 8]);
            mma_bf16_16816(out[n], high, b);
            mma_bf16_16816(out[n], low, b);
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int pair = lane / 4 + 8 * h;
        float sum = quad_sum(r.sum[h]);

        if (pair >= w.rows * w.heads)
            continue;
        float *to = partial_at(a, w.row + pair / w.heads, a.head_list[w.first_head + pair % w.heads]);
        if (lane % 4 == 0) {
            to[0] = r.greatest[h];
            to[1] = sum;
        }
#pragma unroll
        for (int n = 0; n < 2 * W16; n++) {
            if (8 * n >= a.cache.head_width)
                break;
            to[2 + 8 * n + lane % 4 * 2] = out[n][2 * h];
            to[2 + 8 * n + lane % 4 * 2 + 1] = out[n][2 * h + 1];
        }
    }
}

/* A block for each row: adds up the chunks of every head, in order. */
static __global__ __launch_bounds__(THREADS) void merge(struct cuda_attend a)
{
    int width = a.cache.head_width;
    int row = a.first_row + (int)blockIdx.x;

    for (int i = threadIdx.x; i < a.heads * width; i += THREADS) {
        const float *part = a.partial + ((size_t)blockIdx.x * a.heads + i / width) * a.chunks * (width + 2);
        float greatest = -INFINITY, total = 0.0f, value = 0.0f;

        for (int c = 0; c < a.chunks; c++)
            greatest = fmaxf(greatest, part[(size_t)c * (width + 2)]);
        for (int c = 0; c < a.chunks; c++) {
            const float *chunk = part + (size_t)c * (width + 2);

            if (chunk[0] == -INFINITY)
                continue;
            float share = expf(chunk[0] - greatest);
            total = fmaf(share, chunk[1], total);
            value = fmaf(share, chunk[2 + i % width], value);
        }
        a.out.data[(size_t)row * a.out.stride + i] = value / total;
    }
}

cudaError_t cuda_attend_load(void)
{
    return gpu_load(append, attend<1>, attend<2>, attend<4>, attend<8>, attend<16>, merge);
}

cudaError_t cuda_attend_append(struct cuda_cache cache, struct matrix keys, struct matrix values,
                               cudaStream_t s)
{
    if (keys.rows == 0 || keys.columns == 0)
        return cudaSuccess;
    return GPU_LAUNCH(append, (unsigned)keys.rows, THREADS, 0, s, cache, keys.data, keys.stride, values.data,
                      values.stride);
}

cudaError_t cuda_attend_chunks(const struct cuda_attend *a, cudaStream_t s)
{
    unsigned parts = (unsigned)((a->most_heads + TILE - 1) / TILE);
    dim3 grid((unsigned)a->tiles, (unsigned)a->cache.kv_heads * parts, (unsigned)a->chunks);

    if (a->cache.head_width <= 16)
        return GPU_LAUNCH(attend<1>, grid, 32, 0, s, *a);
    if (a->cache.head_width <= 32)
        return GPU_LAUNCH(attend<2>, grid, 32, 0, s, *a);
    if (a->cache.head_width <= 64)
        return GPU_LAUNCH(attend<4>, grid, 32, 0, s, *a);
    if (a->cache.head_width <= 128)
        return GPU_LAUNCH(attend<8>, grid, 32, 0, s, *a);
    return GPU_LAUNCH(attend<16>, grid, 32, 0, s, *a);
}

cudaError_t cuda_attend_merge(const struct cuda_attend *a, int rows, cudaStream_t s)
{
    return GPU_LAUNCH(merge, (unsigned)rows, THREADS, 0, s, *a);
}
