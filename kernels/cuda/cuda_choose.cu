/* cuda_choose.cu - the largest of a row: experts of a token, candidates for the next
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A warp for each row of experts, a block for each row of a vocabulary. NaN is below everything, and on ties
 * the lower number comes first, so the choice does not depend on how the work is shared. */
#include "kernels/cuda/cuda_launch.h"
#include "kernels/cuda/gpu.cuh"

enum { CANDIDATE_THREADS = 256, ROUTE_THREADS = 128 };

/* A number of a row and where it stands; place < 0: none. */
struct entry {
    float value;
    int place;
};

/* Does a come before b? */
static __device__ __forceinline__ bool before(struct entry a, struct entry b)
{
    bool a_number = a.value == a.value, b_number = b.value == b.value;

    if (a.place < 0 || b.place < 0)
        return b.place < 0 && a.place >= 0;
    if (a_number != b_number)
        return a_number;
    if (a_number && a.value != b.value)
        return a.value > b.value;
    return a.place < b.place;
}

static __device__ __forceinline__ struct entry best_of_warp(struct entry mine)
{
    for (int o = 16; o > 0; o >>= 1) {
        struct entry other = {__shfl_xor_sync(GPU_WARP, mine.value, o),
                              __shfl_xor_sync(GPU_WARP, mine.place, o)};

        if (before(other, mine))
            mine = other;
    }
    return mine;
}

static __device__ __forceinline__ float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

/* The best of values[lane], values[lane + 32], ... that come after `last` (place < 0: all). */
static __device__ struct entry next_best(const float *values, int count, int first, struct entry last)
{
    struct entry best = {0.0f, -1};

    for (int i = first + lane_id(); i < first + count; i += 32) {
        struct entry mine = {values[i], i};

        if ((last.place < 0 || before(last, mine)) && before(mine, best))
            best = mine;
    }
    return best_of_warp(best);
}

/* The sum of the two largest of a group. */
static __device__ float group_sum(const float *scores, int first, int size)
{
    struct entry none = {0.0f, -1};
    struct entry one = next_best(scores, size, first, none);
    struct entry two = next_best(scores, size, first, one);

    return one.value + two.value;
}

/* scores[E] of the row: logits, or score + bias with the groups left out that are not kept. */
static __device__ void fill_scores(const struct route &r, const float *logits, float *scores, float *sums)
{
    int experts = r.logits.columns;
    bool by_score = r.bias || r.groups > 1;

    for (int e = lane_id(); e < experts; e += 32)
        scores[e] = by_score ? sigmoid(logits[e]) + (r.bias ? r.bias[e] : 0.0f) : logits[e];
    __syncwarp();
    if (r.groups <= 1)
        return;
    int size = experts / r.groups;
    for (int g = 0; g < r.groups; g++) {
        float sum = group_sum(scores, g * size, size);

        if (lane_id() == 0)
            sums[g] = sum;
    }
    __syncwarp();
    struct entry last = {0.0f, -1};
    for (int kept = 0; kept < r.groups; kept++) {
        struct entry group = next_best(sums, r.groups, 0, last);

        for (int i = lane_id(); kept >= r.kept_groups && i < size; i += 32)
            scores[group.place * size + i] = -INFINITY;
        last = group;
    }
    __syncwarp();
}

/* Weights of the chosen, as reference_choose.c says; lane 0 alone, in the order of the choice. */
static __device__ void weigh(const struct route &r, const float *logits, const int32_t *expert, float *weight)
{
    float greatest = logits[expert[0]];
    float total = 0.0f, all = 1.0f;

    if (r.score == SCORE_SOFTMAX_ALL) {
        all = 0.0f;
        for (int e = 0; e < r.logits.columns; e++)
            all += expf(logits[e] - greatest);
    }
    for (int j = 0; j < r.choices; j++) {
        float logit = logits[expert[j]];

        weight[j] = r.score == SCORE_SIGMOID ? sigmoid(logit) : expf(logit - greatest) / all;
        total += weight[j];
    }
    bool share = r.renormalise || r.score == SCORE_SOFTMAX_CHOSEN;
    for (int j = 0; j < r.choices; j++) {
        float w = share ? weight[j] / (total + 1e-20f) : weight[j];

        weight[j] = r.scale != 0.0f ? w * r.scale : w;
    }
}

/* Dynamic shared memory: [warps] of E scores and G group sums. */
static __global__ __launch_bounds__(ROUTE_THREADS) void route(struct route r)
{
    SHARED_DYN(float, room);
    int warp = (int)threadIdx.x / 32;
    int row = (int)blockIdx.x * (int)(blockDim.x / 32) + warp;
    int groups = r.groups > 1 ? r.groups : 0;
    float *scores = room + (size_t)warp * (r.logits.columns + groups);

    if (row >= r.logits.rows) /* a whole warp; there is no barrier of the block */
        return;
    const float *logits = r.logits.data + (size_t)row * r.logits.stride;
    int32_t *expert = r.expert + (size_t)row * r.choices;
    struct entry last = {0.0f, -1};

    fill_scores(r, logits, scores, scores + r.logits.columns);
    for (int j = 0; j < r.choices; j++) {
        last = next_best(scores, r.logits.columns, 0, last);
        if (lane_id() == 0)
            expert[j] = last.place;
    }
    if (lane_id() == 0)
        weigh(r, logits, expert, r.weight + (size_t)row * r.choices);
}

/* A block for each row: `keep` times the best that comes after the last one. */
static __global__ __launch_bounds__(CANDIDATE_THREADS) void candidates(const float *logits, int columns,
                                                                       int stride, int keep, float *values,
                                                                       int32_t *places)
{
    SHARED_VAR(best_of, struct entry[CANDIDATE_THREADS / 32]);
    const float *row = logits + (size_t)blockIdx.x * stride;
    struct entry last = {0.0f, -1};

    for (int k = 0; k < keep; k++) {
        struct entry best = {0.0f, -1};

        for (int i = (int)threadIdx.x; i < columns; i += CANDIDATE_THREADS) {
            struct entry mine = {row[i], i};

            if ((last.place < 0 || before(last, mine)) && before(mine, best))
                best = mine;
        }
        best = best_of_warp(best);
        if (lane_id() == 0)
            best_of[threadIdx.x / 32] = best;
        __syncthreads();
        last = best_of[0];
        for (int w = 1; w < CANDIDATE_THREADS / 32; w++)
            if (before(best_of[w], last))
                last = best_of[w];
        if (threadIdx.x == 0) {
            values[(size_t)blockIdx.x * keep + k] = last.value;
            places[(size_t)blockIdx.x * keep + k] = last.place;
        }
        __syncthreads(); /* before the next round overwrites what others still read */
    }
}

cudaError_t cuda_choose_load(void)
{
    return gpu_load(route, candidates);
}

cudaError_t cuda_choose_route(const struct route *r, cudaStream_t s)
{
    int groups = r->groups > 1 ? r->groups : 0;
    size_t row_bytes = (size_t)(r->logits.columns + groups) * sizeof(float);
    int warps = ROUTE_THREADS / 32;

    while (warps > 1 && (size_t)warps * row_bytes > 48 * 1024)
        warps /= 2;
    if (r->logits.rows == 0)
        return cudaSuccess;
    return GPU_LAUNCH(route, (unsigned)(r->logits.rows + warps - 1) / (unsigned)warps, (unsigned)warps * 32,
                      (size_t)warps * row_bytes, s, *r);
}

cudaError_t cuda_choose_candidates(struct matrix logits, int keep, float *values, int32_t *columns,
                                   cudaStream_t s)
{
    if (logits.rows == 0 || keep == 0)
        return cudaSuccess;
    return GPU_LAUNCH(candidates, (unsigned)logits.rows, CANDIDATE_THREADS, 0, s, logits.data, logits.columns,
                      logits.stride, keep, values, columns);
}
