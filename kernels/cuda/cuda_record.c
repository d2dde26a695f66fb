/* cuda_record.c - layers of a step as a CUDA graph: kept when their key comes a second time, then replayed
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda_record.h"

#include <string.h>

enum { PLACE = CUDA_PLAN_RECORD_PLACE, ALIGN = 16 };

enum status cuda_record_open(struct cuda_record *r, struct cuda_device *d, struct host_memory *memory)
{
    void *here, *there;

    TRY(host_alloc(memory, PLACE, "arrays of a recorded step", &here));
    *r = (struct cuda_record){.device = d, .here = here};
    TRY(cuda_device_take(d, CUDA_PLAN_RECORD_BYTES, "tables of recorded steps", &there));
    r->there = there;
    return STATUS_OK;
}

static void give_back(struct cuda_record_graph *g)
{
    if (g->exec)
        cudaGraphExecDestroy(g->exec); /* what runs of it ends as if it were still there */
    *g = (struct cuda_record_graph){0};
}

/* A recording that has not ended holds calls of NCCL like a graph. What was captured of it is of no use. */
static void break_off(struct cuda_record *r)
{
    cudaGraph_t graph = NULL;

    if (!r->device || !r->device->recording)
        return;
    cudaStreamEndCapture(r->origin, &graph);
    if (graph)
        cudaGraphDestroy(graph);
    r->device->recording = false;
}

void cuda_record_forget(struct cuda_record *r)
{
    break_off(r);
    for (int i = 0; i < CUDA_RECORD_GRAPHS; i++)
        give_back(&r->graph[i]);
    r->now = NULL;
}

void cuda_record_close(struct cuda_record *r)
{
    cuda_record_forget(r);
    if (r->device)
        cuda_device_give_back(r->device, r->there);
    *r = (struct cuda_record){0};
}

static bool same_key(const struct cuda_record_graph *g, const struct recording *what)
{
    return g->used > 0 && g->count == what->count &&
           memcmp(g->key, what->key, (size_t)what->count * sizeof *what->key) == 0;
}

enum status cuda_record_find(struct cuda_record *r, const struct recording *what, enum recording_way *way)
{
    struct cuda_record_graph *oldest = &r->graph[0];

    if (what->count < 0 || what->count > RECORDING_KEY_MOST || what->rows > RECORDING_ROWS_MOST)
        return FAIL(STATUS_BUG, "a key of %d numbers, a step of %d rows", what->count, what->rows);
    r->now = NULL;
    r->steps++;
    for (int i = 0; i < CUDA_RECORD_GRAPHS; i++) {
        if (same_key(&r->graph[i], what))
            r->now = &r->graph[i];
        if (r->graph[i].used < oldest->used)
            oldest = &r->graph[i];
    }
    *way = !r->now ? RECORDING_NONE : r->now->exec ? RECORDING_AGAIN : RECORDING_NEW;
    if (!r->now) {
        give_back(oldest);
        r->now = oldest;
        oldest->count = what->count;
        memcpy(oldest->key, what->key, (size_t)what->count * sizeof *what->key);
    }
    r->now->used = r->steps;
    return STATUS_OK;
}

/* Other threads may call CUDA meanwhile, NCCL's among them. */
enum status cuda_record_begin(struct cuda_record *r)
{
    r->origin = r->device->stream;
    CUDA_TRY(cudaStreamBeginCapture(r->origin, cudaStreamCaptureModeThreadLocal));
    r->device->recording = true;
    r->device->exchanges = 0;
    r->device->breaks++;
    r->arrays = 0;
    return STATUS_OK;
}

static char *place_of(const struct cuda_record *r)
{
    return r->there + (r->now - r->graph) * PLACE;
}

enum status cuda_record_keep(struct cuda_record *r, const void *array, size_t bytes, const void **out)
{
    size_t taken = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    int i = 0;

    while (i < r->arrays &&
           (r->first[i + 1] - r->first[i] != taken || memcmp(r->here + r->first[i], array, bytes) != 0))
        i++;
    if (i == CUDA_RECORD_ARRAYS || (i == r->arrays && taken > PLACE - r->first[i]))
        return FAIL(
            STATUS_NO_MEMORY,
            "a step's tables of attention are more than %d KiB; --enforce-eager goes without recording it",
            PLACE >> 10);
    if (i == r->arrays) {
        memset(r->here + r->first[i], 0, taken);
        memcpy(r->here + r->first[i], array, bytes);
        r->first[++r->arrays] = r->first[i] + taken;
    }
    *out = place_of(r) + r->first[i];
    return STATUS_OK;
}

enum status cuda_record_end(struct cuda_record *r, enum status layers)
{
    struct cuda_record_graph *g = r->now;
    const char *call = "cudaStreamEndCapture";
    cudaGraph_t graph = NULL;
    cudaError_t error;

    if (!r->device->recording) /* exchanges failed meanwhile, and all was forgotten */
        return layers == STATUS_OK ? FAIL(STATUS_BUG, "a step was recorded to its end that was broken off")
                                   : layers;
    error = cudaStreamEndCapture(r->origin, &graph);
    r->device->recording = false;
    r->device->breaks++;
    if (layers == STATUS_OK && error == cudaSuccess) {
        g->exchanges = r->device->exchanges;
        call = "cudaGraphInstantiate";
        error = cudaGraphInstantiate(&g->exec, graph, 0);
        if (error != cudaSuccess)
            g->exec = NULL;
    }
    if (graph)
        cudaGraphDestroy(graph);
    if (layers != STATUS_OK)
        return layers;
    if (error == cudaSuccess)
        return cuda_device_upload(r->device, place_of(r), r->here, r->first[r->arrays]);
    return status_prefix(cuda_device_error(error, call),
                         "a step is recorded, which --enforce-eager goes without: ");
}

enum status cuda_record_launch(struct cuda_record *r)
{
    struct cuda_device_guest *guest = &r->device->guest;

    CUDA_TRY(cudaGraphLaunch(r->now->exec, r->device->stream));
    r->device->breaks++;
    return guest->replayed ? guest->replayed(guest->owner, r->now->exchanges) : STATUS_OK;
}
