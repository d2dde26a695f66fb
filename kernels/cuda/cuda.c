/* cuda.c - the backend for NVIDIA devices: the table, its memory and its weights
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda.h"

#include "kernels/cuda/cuda_code.h"
#include "kernels/cuda/cuda_entries.h"
#include "kernels/cuda/cuda_plan.h"
#include "kernels/host.h"

#include <stdio.h>
#include <string.h>

/* Of lower precision: half of the products of the tensor cores. Counted; nobody has measured it. */
enum { LOWER_SPEED = 200 };

enum { WIDENED = 256 }; /* numbers of a weight's row at a time, on their way to planes */

static enum status memory_alloc(struct kernels *k, size_t bytes, const char *what, void **out)
{
    return cuda_device_take(&cuda_entries_of(k)->device, bytes, what, out);
}

static void memory_release(struct kernels *k, void *memory)
{
    cuda_device_give_back(&cuda_entries_of(k)->device, memory);
}

static size_t memory_free_bytes(struct kernels *k)
{
    const struct cuda_pool *pool = &cuda_entries_of(k)->device.pool;
    size_t left = 0, total = 0;

    if (pool->parts > 0)
        return cuda_pool_left(pool);
    return cudaMemGetInfo(&left, &total) == cudaSuccess ? left : 0;
}

static enum status extend(struct kernels *k, size_t bytes)
{
    return cuda_device_extend(&cuda_entries_of(k)->device, bytes);
}

static enum status held(struct kernels *k, size_t *bytes)
{
    return cuda_device_held(&cuda_entries_of(k)->device, bytes);
}

static enum status upload(struct kernels *k, void *device, const void *host, size_t bytes)
{
    return cuda_device_upload(&cuda_entries_of(k)->device, device, host, bytes);
}

static enum status download(struct kernels *k, void *host, const void *device, size_t bytes)
{
    return cuda_device_bring(&cuda_entries_of(k)->device, host, device, bytes);
}

static enum status fetch(struct kernels *k, void *host, const void *device, size_t bytes)
{
    return cuda_device_fetch(&cuda_entries_of(k)->device, host, device, bytes);
}

static enum status fetched(struct kernels *k)
{
    return cuda_device_fetched(&cuda_entries_of(k)->device);
}

static enum status copy(struct kernels *k, void *to, const void *from, size_t bytes)
{
    CUDA_TRY(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, cuda_entries_of(k)->device.stream));
    return STATUS_OK;
}

static enum status wait_all(struct kernels *k)
{
    return cuda_device_wait(&cuda_entries_of(k)->device);
}

/* Numbers of the source, `step` bytes apart, as floats: all at once where they lie side by side. */
static enum status widen(float *out, const char *from, enum dtype dtype, ptrdiff_t step, int count)
{
    if (step == dtype_bits(dtype) / 8)
        return dtype_widen(out, from, dtype, (size_t)count);
    for (int i = 0; i < count; i++)
        TRY(dtype_widen(&out[i], from + i * step, dtype, 1));
    return STATUS_OK;
}

/* One row of the source as planes of bf16; `second` NULL: there is one. */
static enum status split_row(uint16_t *first, uint16_t *second, const struct source *part, int row)
{
    ptrdiff_t element = dtype_bits(part->dtype) / 8, step = part->column_step * element;
    const char *from = (const char *)part->data + row * part->row_step * element;
    float values[WIDENED];

    if (!second && part->column_step == 1 && part->dtype == DTYPE_BF16) {
        memcpy(first, from, (size_t)part->columns * sizeof *first);
        return STATUS_OK;
    }
    for (int column = 0; column < part->columns; column += WIDENED) {
        int count = part->columns - column < WIDENED ? part->columns - column : WIDENED;

        TRY(widen(values, from + column * step, part->dtype, step, count));
        for (int i = 0; i < count; i++)
            first[column + i] = dtype_to_bf16(values[i]);
        for (int i = 0; second && i < count; i++)
            second[column + i] = dtype_to_bf16(values[i] - dtype_from_bf16(first[column + i]));
    }
    return STATUS_OK;
}

/* Rows of a part that go into a weight together. */
struct rows {
    const struct source *part;
    int to, from, count; /* first row of the weight, and of the part */
};

/* Codes and scales as they are. */
static enum status fill_codes(struct cuda_entries *c, const struct cuda_weight *w, struct rows r)
{
    const struct source *part = r.part;
    size_t stride = (size_t)w->stride, scales = (size_t)w->scales, rows = (size_t)r.count;
    size_t code_bytes = rows * stride, scale_bytes = rows * scales * sizeof(float);
    void *room;
    uint8_t *codes;

    TRY(cuda_load_room(&c->load, &c->device, code_bytes + scale_bytes, &room));
    codes = (uint8_t *)room + scale_bytes;
    memcpy(room, part->scale + (size_t)r.from * scales, scale_bytes);
    memset(codes, 0, code_bytes);
    for (int row = 0; row < r.count; row++) {
        const uint8_t *from = (const uint8_t *)part->data + (r.from + row) * part->row_step;
        uint8_t *to = codes + (size_t)row * stride;

        for (int column = 0; column < part->columns; column++)
            to[column] = from[column * part->column_step];
    }
    TRY(cuda_load_send(&c->load, &c->device, (char *)(uintptr_t)w->data + (size_t)r.to * stride, codes,
                       code_bytes));
    return cuda_load_send(&c->load, &c->device, (void *)(uintptr_t)(w->scale + (size_t)r.to * scales), room,
                          scale_bytes);
}

static enum status fill_planes(struct cuda_entries *c, const struct cuda_weight *w, struct rows r)
{
    size_t stride = (size_t)w->stride, numbers = (size_t)r.count * stride, bytes = numbers * sizeof(uint16_t);
    uint16_t *data = (uint16_t *)(uintptr_t)w->data + (size_t)r.to * stride, *planes;
    void *room;

    TRY(cuda_load_room(&c->load, &c->device, w->plane ? 2 * bytes : bytes, &room));
    planes = room;
    memset(planes, 0, w->plane ? 2 * bytes : bytes);
    for (int row = 0; row < r.count; row++) {
        uint16_t *first = planes + (size_t)row * stride;

        TRY(split_row(first, w->plane ? first + numbers : NULL, r.part, r.from + row));
    }
    TRY(cuda_load_send(&c->load, &c->device, data, planes, bytes));
    return w->plane ? cuda_load_send(&c->load, &c->device, data + w->plane, planes + numbers, bytes)
                    : STATUS_OK;
}

/* As many rows at a time as a buffer takes. */
static enum status fill(struct cuda_entries *c, const struct cuda_weight *w, int first_row,
                        const struct source *part)
{
    size_t bytes = w->scale ? (size_t)w->stride + (size_t)w->scales * sizeof(float)
                            : (size_t)w->stride * sizeof(uint16_t) * (w->plane ? 2 : 1);
    int most = (int)(CUDA_LOAD_BYTES / (bytes > 0 ? bytes : 1));

    for (int row = 0; row < part->rows; row += most) {
        struct rows r = {part, first_row + row, row, part->rows - row < most ? part->rows - row : most};

        TRY(w->scale ? fill_codes(c, w, r) : fill_planes(c, w, r));
    }
    return STATUS_OK;
}

static enum status weight_fill(struct kernels *k, struct weight *w, int first_row, const struct source *part)
{
    bool codes = part->dtype == DTYPE_F8_E4M3;
    struct cuda_weight shape;

    if (part->columns != w->columns || first_row < 0 || part->rows < 0 || part->rows > w->rows - first_row)
        return FAIL(STATUS_BUG, "rows [%d, %d] put at row %d of a weight [%d, %d]", part->rows, part->columns,
                    first_row, w->rows, w->columns);
    if ((w->format == DTYPE_BF16 && part->dtype != DTYPE_BF16) || codes != (w->format == DTYPE_F8_E4M3))
        return FAIL(STATUS_BUG, "%s numbers put into a %s weight", dtype_name(part->dtype),
                    dtype_name(w->format));
    if (codes && !part->scale)
        return FAIL(STATUS_BUG, "F8_E4M3 numbers without scales");
    shape = cuda_entries_weight(w);
    return fill(cuda_entries_of(k), &shape, first_row, part);
}

/* All but the memory that it lies in. */
static void close_parts(struct cuda_entries *c)
{
    cuda_device_finish(&c->device);
    if (c->blas.close)
        c->blas.close(&c->blas);
    cuda_turns_close(&c->turns, &c->device);
    cuda_spans_close(&c->spans, &c->device);
    cuda_tables_close(&c->tables, &c->device);
    cuda_record_close(&c->record);
    cuda_device_close(&c->device);
    cuda_load_close(&c->load);
}

static void close_all(struct kernels *k)
{
    struct cuda_entries *c;
    struct host_memory memory;

    if (!k)
        return;
    c = cuda_entries_of(k);
    close_parts(c);
    memory = c->memory; /* the table lies in it */
    host_close(&memory);
}

/* cuBLAS, if it was found when this was built and the law is not asked for. */
static enum status open_blas(struct cuda_entries *c, const struct module_request *request)
{
    const char *products = "exact";

#ifdef HAVE_CUBLAS
    if (!request->exact) {
        TRY(cuda_blas_open(&c->blas, &c->device));
        products = "cuBLAS";
    }
#else
    if (!request->exact)
        products = "exact, as this build has no cuBLAS";
#endif
    snprintf(c->name, sizeof c->name, "cuda (GPU %d, %s)", request->device, products);
    return STATUS_OK;
}

/* Everything of the host lies in `memory`, which the caller gives back when this fails; *out is set as soon
 * as there is something to close. */
static enum status open_in(struct host_memory *memory, const struct module_request *request,
                           struct cuda_entries **out)
{
    struct cuda_entries *c;
    void *space;

    TRY(host_alloc(memory, sizeof *c, "the cuda backend", &space));
    c = space;
    *out = c;
    TRY(cuda_device_open(&c->device, request->device, request->memory));
    c->device.waits = &c->table.waits;
    TRY(cuda_code_load(request->device));
    TRY(cuda_load_open(&c->load));
    TRY(cuda_record_open(&c->record, &c->device, memory));
    TRY(cuda_spans_open(&c->spans, &c->device, memory, &c->record));
    TRY(cuda_tables_open(&c->tables, &c->device, memory));
    TRY(cuda_turns_open(&c->turns, &c->device));
    TRY(open_blas(c, request));
    c->table = (struct kernels){.name = c->name,
                                .threads = 1,
                                .cache_dtype = DTYPE_BF16,
                                .lower_speed = LOWER_SPEED,
                                .align = CUDA_PLAN_ALIGN,
                                .apart = true,
                                .total_bytes = c->device.total_bytes,
                                .foreign_bytes = c->device.foreign_bytes,
                                .own_bytes = cuda_plan_own_bytes(!c->blas.close),
                                .extend = extend,
                                .held = held,
                                .alloc = memory_alloc,
                                .release = memory_release,
                                .free_bytes = memory_free_bytes,
                                .upload = upload,
                                .download = download,
                                .fetch = fetch,
                                .fetched = fetched,
                                .copy = copy,
                                .wait = wait_all,
                                .weight_plan = cuda_plan_weight,
                                .weight_fill = weight_fill,
                                .close = close_all};
    cuda_entries_enter(&c->table);
    return STATUS_OK;
}

enum status cuda_open(const struct module_request *request, struct kernels **out)
{
    struct host_memory memory = {0};
    struct cuda_entries *c = NULL;
    enum status status = open_in(&memory, request, &c);

    if (status != STATUS_OK) {
        if (c)
            close_parts(c);
        host_close(&memory);
        return status;
    }
    c->memory = memory;
    *out = &c->table;
    return STATUS_OK;
}
