/* reference.c - the backend that defines what is right: plain C, single precision, one thread
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/reference/reference.h"

#include "kernels/deal.h"
#include "kernels/host.h"
#include "kernels/reference/reference_attend.h"
#include "kernels/reference/reference_choose.h"
#include "kernels/reference/reference_draft.h"
#include "kernels/reference/reference_multiply.h"
#include "kernels/reference/reference_rows.h"
#include "kernels/reference/reference_softmax.h"
#include "kernels/reference/reference_weight.h"

/* Its lower precision is no faster: it defines what comes out, and stands for a processor whose lower
 * precision is, so that the same ranks are lowered as there (kernels/cpu/cpu.c). */
enum { LOWER_SPEED = 160 };

struct reference {
    struct kernels table; /* first, so that a pointer to the table is one to this */
    struct host_memory memory;
};

static enum status memory_alloc(struct kernels *k, size_t bytes, const char *what, void **out)
{
    return host_alloc(&((struct reference *)k)->memory, bytes, what, out);
}

static void memory_release(struct kernels *k, void *memory)
{
    host_release(&((struct reference *)k)->memory, memory);
}

static size_t memory_free_bytes(struct kernels *k)
{
    (void)k;
    return host_free_bytes();
}

/* Both directions: this backend's memory is host memory. */
static enum status copy(struct kernels *k, void *to, const void *from, size_t bytes)
{
    (void)k;
    if (bytes > 0)
        memcpy(to, from, bytes);
    return STATUS_OK;
}

static enum status wait_nothing(struct kernels *k)
{
    (void)k;
    return STATUS_OK;
}

static enum status begin_nothing(struct kernels *k, const struct span *spans, int span_count, int rows)
{
    (void)k, (void)spans, (void)span_count, (void)rows;
    return STATUS_OK;
}

static void close_all(struct kernels *k)
{
    struct host_memory memory;

    if (!k)
        return;
    memory = ((struct reference *)k)->memory; /* the table lies in it */
    host_close(&memory);
}

enum status reference_open(struct kernels **out)
{
    struct host_memory memory = {0};
    struct reference *reference;
    void *space;

    TRY(host_alloc(&memory, sizeof *reference, "the reference backend", &space));
    reference = space;
    reference->table = (struct kernels){
        .name = "reference (1 thread)",
        .threads = 1,
        .cache_dtype = DTYPE_F32,
        .align = ARENA_ALIGN,
        .lower_speed = LOWER_SPEED,
        .alloc = memory_alloc,
        .release = memory_release,
        .free_bytes = memory_free_bytes,
        .upload = copy,
        .download = copy,
        .copy = copy,
        .wait = wait_nothing,
        .weight_plan = reference_weight_plan,
        .weight_fill = reference_weight_fill,
        .begin = begin_nothing,
        .embed = reference_rows_embed,
        .rms_norm = reference_rows_norm,
        .multiply = reference_multiply,
        .squares = reference_rows_squares,
        .norm_by = reference_rows_norm_by,
        .clamp = reference_rows_clamp,
        .rotate = reference_rows_rotate,
        .append = reference_attend_append,
        .attend = reference_attend,
        .route = reference_choose_route,
        .gather = reference_rows_gather,
        .deal = deal_rows,
        .group = deal_group,
        .multiply_experts = reference_multiply_experts,
        .activate = reference_rows_activate,
        .add = reference_rows_add,
        .join = reference_rows_join,
        .combine = reference_rows_combine,
        .candidates = reference_choose_candidates,
        .softmax = reference_softmax,
        .draft = reference_draft,
        .close = close_all,
    };
    reference->memory = memory;
    *out = &reference->table;
    return STATUS_OK;
}

void reference_round_cache(struct kernels *k)
{
    k->append = reference_attend_append_rounded;
}
