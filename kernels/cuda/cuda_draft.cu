/* cuda_draft.cu - tokens that a sequence may go on with, looked up in itself
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A block for each sequence; a thread looks at every THREADS-th place where the n-gram may end. Longer is
 * better, and of equal lengths the earlier place, so the choice does not depend on how the work is shared. */
#include "kernels/cuda/cuda_launch.h"
#include "kernels/cuda/gpu.cuh"

enum { THREADS = 256, WARPS = THREADS / 32 };

/* So many tokens before `end` are those at the end of the sequence. */
struct place {
    int tokens, end;
};

static __device__ __forceinline__ struct place better(struct place a, struct place b)
{
    return a.tokens > b.tokens || (a.tokens == b.tokens && a.end < b.end) ? a : b;
}

/* The best place of those of this thread; `longest` tokens are enough. */
static __device__ struct place best_of_thread(const int32_t *history, int count, int longest)
{
    struct place best = {0, 0};

    for (int end = 1 + (int)threadIdx.x; end < count && best.tokens < longest; end += THREADS) {
        int n = 0;

        while (n < longest && n < end && history[end - 1 - n] == history[count - 1 - n])
            n++;
        if (n > best.tokens)
            best = {n, end};
    }
    return best;
}

static __device__ __forceinline__ struct place best_of_warp(struct place mine)
{
    for (int o = 16; o > 0; o >>= 1)
        mine =
            better(mine, {__shfl_xor_sync(GPU_WARP, mine.tokens, o), __shfl_xor_sync(GPU_WARP, mine.end, o)});
    return mine;
}

/* New tokens to their history, then the drafts: found [count, 1 + DRAFT_TOKENS_MOST]. */
static __global__ __launch_bounds__(THREADS) void look(struct draft d, const struct draft_sequence *sequences,
                                                       int32_t *found)
{
    SHARED_VAR(best_of, struct place[WARPS]);
    const struct draft_sequence *s = sequences + blockIdx.x;
    int32_t *history = d.history + (size_t)s->row * d.stride;
    int32_t *drafts = found + (size_t)blockIdx.x * (1 + DRAFT_TOKENS_MOST);
    int count = s->known + s->added, thread = (int)threadIdx.x;

    if (thread < s->added)
        history[s->known + thread] = s->tokens[thread];
    __syncthreads(); /* all of them are looked at */
    struct place best = best_of_warp(best_of_thread(history, count, d.longest));
    if (lane_id() == 0)
        best_of[thread / 32] = best;
    __syncthreads();
    for (int w = 0; w < WARPS; w++)
        best = better(best, best_of[w]);
    int most = best.tokens < d.shortest ? 0 : count - best.end < s->most ? count - best.end : s->most;
    if (thread == 0)
        drafts[0] = most;
    if (thread < DRAFT_TOKENS_MOST)
        drafts[1 + thread] = thread < most ? history[best.end + thread] : 0;
}

cudaError_t cuda_draft_load(void)
{
    return gpu_load(look);
}

cudaError_t cuda_draft_look(const struct draft *d, const struct draft_sequence *sequences, int32_t *found,
                            cudaStream_t s)
{
    if (d->count == 0)
        return cudaSuccess;
    return GPU_LAUNCH(look, (unsigned)d->count, THREADS, 0, s, *d, sequences, found);
}
