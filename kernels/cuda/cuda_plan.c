/* cuda_plan.c - what the cuda backend takes, known without a device
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda_plan.h"

enum status cuda_plan_weight(struct kernels *k, struct weight *w, enum dtype dtype, int rows, int columns)
{
    struct weight plan = *w;
    size_t elements, bytes, scales = 0;

    (void)k;
    TRY(kernels_check_dtype(dtype));
    if (rows < 0 || columns < 0 || columns > CUDA_PLAN_ROW_ELEMENTS)
        return FAIL(STATUS_BUG, "a weight of %d rows and %d columns", rows, columns);
    plan.rows = rows;
    plan.columns = columns;
    plan.format = dtype == DTYPE_BF16 || dtype == DTYPE_F8_E4M3 ? dtype : DTYPE_F32;
    if (plan.format == DTYPE_F8_E4M3)
        scales = (size_t)rows * (size_t)scale_count(columns) * sizeof(float);
    if (__builtin_mul_overflow((size_t)rows, (size_t)cuda_plan_stride(columns), &elements) ||
        __builtin_mul_overflow(elements, (size_t)dtype_bits(plan.format) / 8, &bytes) ||
        __builtin_add_overflow(bytes, scales, &plan.bytes))
        return FAIL(STATUS_NO_MEMORY, "a weight of %d rows and %d columns is too large", rows, columns);
    *w = plan;
    return STATUS_OK;
}

size_t cuda_plan_place_bytes(size_t most)
{
    return (most + 15) / 16 * 16;
}

size_t cuda_plan_flag_bytes(int ranks)
{
    return (size_t)CUDA_PLAN_WINDOW_PLACES * CUDA_PLAN_WINDOW_CHUNKS * (size_t)ranks * sizeof(uint32_t);
}

size_t cuda_plan_window_bytes(int ranks, size_t most)
{
    size_t bytes = CUDA_PLAN_WINDOW_PLACES * cuda_plan_place_bytes(most) + cuda_plan_flag_bytes(ranks);

    return (bytes + CUDA_PLAN_GRAIN - 1) / CUDA_PLAN_GRAIN * CUDA_PLAN_GRAIN;
}

size_t cuda_plan_state_bytes(int ranks)
{
    return (size_t)ranks * CUDA_PLAN_WINDOW_CHUNKS * sizeof(int32_t);
}

size_t cuda_plan_nccl_bytes(int ranks, int near)
{
    int peers = (near < ranks ? near : ranks) - 1;

    if (ranks < 2)
        return 0;
    return cuda_plan_nccl_ring_bytes() + (size_t)CUDA_PLAN_NCCL_PAIRS * (size_t)peers * CUDA_PLAN_NCCL_BYTES;
}

size_t cuda_plan_nccl_ring_bytes(void)
{
    return (size_t)CUDA_PLAN_NCCL_RINGS * CUDA_PLAN_NCCL_BYTES;
}

/* The ring, the buffers of weights, and what tables of turning are made of: positions and their numbers, of
 * each kind and of temperatures. */
size_t cuda_plan_pinned_bytes(void)
{
    return CUDA_PLAN_RING_BYTES + (size_t)CUDA_PLAN_LOAD_BUFFERS * CUDA_PLAN_LOAD_BYTES +
           (CUDA_PLAN_KINDS + 1) * CUDA_PLAN_TURN_ROWS * sizeof(int32_t) +
           (CUDA_PLAN_KINDS * CUDA_PLAN_TURN_FLOATS + CUDA_PLAN_TURN_ROWS) * sizeof(float);
}

size_t cuda_plan_sum_bytes(int sums)
{
    return 2 * (size_t)sums * CUDA_PLAN_SUM_PARTS * sizeof(uint64_t);
}

size_t cuda_plan_own_bytes(bool exact)
{
    return CUDA_PLAN_RING_BYTES + CUDA_PLAN_TABLES_BYTES + CUDA_PLAN_RECORD_BYTES +
           CUDA_PLAN_PARTIAL_FLOATS * sizeof(float) +
           (CUDA_PLAN_SPAN_NUMBERS + CUDA_PLAN_KINDS * CUDA_PLAN_KIND_NUMBERS) * sizeof(int32_t) +
           (CUDA_PLAN_KINDS * CUDA_PLAN_TURN_FLOATS + CUDA_PLAN_TURN_ROWS) * sizeof(float) +
           (exact ? 0 : CUDA_PLAN_WORKSPACE_BYTES);
}

static size_t free_bytes(struct kernels *k)
{
    return k->total_bytes - k->own_bytes;
}

static void close_nothing(struct kernels *k)
{
    (void)k;
}

void cuda_plan_table(struct kernels *out, size_t total, bool exact)
{
    *out = (struct kernels){.name = "cuda",
                            .threads = 1,
                            .cache_dtype = DTYPE_BF16,
                            .align = CUDA_PLAN_ALIGN,
                            .apart = true,
                            .total_bytes = total,
                            .own_bytes = cuda_plan_own_bytes(exact),
                            .free_bytes = free_bytes,
                            .weight_plan = cuda_plan_weight,
                            .close = close_nothing};
}
