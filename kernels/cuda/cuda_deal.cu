/* cuda_deal.cu - kernels that deal rows out to ranks and group them where they arrive
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A warp for each rank, or for each slot, looks at all choices in order, 32 at a time; a lane's place is the
 * number of those before it. Nobody adds to a common counter, so places do not depend on who comes first. */
#include "kernels/cuda/cuda_launch.h"
#include "kernels/cuda/gpu.cuh"

enum { WARP = 32, THREADS = 128 };

static __device__ __forceinline__ unsigned lanes_below(void)
{
    return (1u << lane_id()) - 1u;
}

static __device__ __forceinline__ int32_t *mark_of(struct matrix m, int column, int row)
{
    return reinterpret_cast<int32_t *>(m.data + (size_t)row * m.stride + column);
}

/* The slot of choice i. */
static __device__ __forceinline__ int slot_of(const struct deal &d, const struct deal_table &t, int i)
{
    int e = d.expert[i];
    int begin = t.first[e], replicas = t.first[e + 1] - begin;

    return t.slot[begin + (int)DEAL_HASH(d.number + i / d.choices, replicas)];
}

/* A block of one warp for each rank: places, marks and counts of its slots. */
static __global__ __launch_bounds__(WARP) void places(struct deal d, struct deal_table t, int mark)
{
    int rank = (int)blockIdx.x, choices = d.x.rows * d.choices, used = 0;
    int begin = t.rank_first[rank], end = t.rank_first[rank + 1];

    for (int i0 = 0; i0 < choices; i0 += WARP) {
        int i = i0 + lane_id();
        int slot = i < choices ? slot_of(d, t, i) : -1;
        bool mine = slot >= begin && slot < end;
        unsigned taken = __ballot_sync(GPU_WARP, mine);
        int place = used + __popc(taken & lanes_below());

        if (mine && place < d.room) {
            d.place[i] = rank * d.room + place;
            *mark_of(d.out, mark, rank * d.room + place) = slot - begin;
        }
        used += __popc(taken);
    }
    for (int place = used + lane_id(); place < d.room; place += WARP)
        *mark_of(d.out, mark, rank * d.room + place) = -1;
    for (int slot = begin + lane_id(); slot < end; slot += WARP) {
        int count = 0;

        for (int i = 0; i < choices; i++)
            count += slot_of(d, t, i) == slot;
        d.counts[slot] = count;
    }
}

/* A block for each choice: its row to its place. */
static __global__ __launch_bounds__(THREADS) void carry(struct deal d)
{
    int i = (int)blockIdx.x;
    const float *from = d.x.data + (size_t)(i / d.choices) * d.x.stride;
    float *to = d.out.data + (size_t)d.place[i] * d.out.stride;

    for (int c = (int)threadIdx.x; c < d.x.columns; c += THREADS)
        to[c] = d.scale ? from[c] * d.scale[i] : from[c];
}

/* A block of one warp for each slot: how many rows lower slots have, then its own in their order. */
static __global__ __launch_bounds__(WARP) void group(struct matrix arrivals, int column, int slots,
                                                     int32_t *order, int32_t *first)
{
    int slot = (int)blockIdx.x, next = 0;

    for (int row0 = 0; row0 < arrivals.rows; row0 += WARP) {
        int row = row0 + lane_id();
        int mark = row < arrivals.rows ? *mark_of(arrivals, column, row) : -1;

        next += __popc(__ballot_sync(GPU_WARP, mark >= 0 && mark < slot));
    }
    if (lane_id() == 0)
        first[slot] = next;
    for (int row0 = 0; slot < slots && row0 < arrivals.rows; row0 += WARP) {
        int row = row0 + lane_id();
        bool mine = row < arrivals.rows && *mark_of(arrivals, column, row) == slot;
        unsigned taken = __ballot_sync(GPU_WARP, mine);

        if (mine)
            order[next + __popc(taken & lanes_below())] = row;
        next += __popc(taken);
    }
}

cudaError_t cuda_deal_load(void)
{
    return gpu_load(places, carry, group);
}

cudaError_t cuda_deal_rows(const struct deal *d, cudaStream_t s)
{
    cudaError_t error =
        GPU_LAUNCH(places, (unsigned)d->table->ranks, WARP, 0, s, *d, *d->table, deal_mark(d->x.columns));

    if (error != cudaSuccess || d->x.rows == 0)
        return error;
    return GPU_LAUNCH(carry, (unsigned)(d->x.rows * d->choices), THREADS, 0, s, *d);
}

cudaError_t cuda_deal_group(struct matrix arrivals, int width, int slots, int32_t *order, int32_t *first,
                            cudaStream_t s)
{
    return GPU_LAUNCH(group, (unsigned)slots + 1, WARP, 0, s, arrivals, deal_mark(width), slots, order,
                      first);
}
