/* cuda_tables.c - where the weights of experts lie, told to the device once and again when they have moved
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda_tables.h"

#include <string.h>

static const size_t ROOM = CUDA_PLAN_TABLES_BYTES / sizeof(struct cuda_weight);

enum status cuda_tables_open(struct cuda_tables *t, struct cuda_device *d, struct host_memory *memory)
{
    void *sent, *table;

    TRY(host_alloc(memory, CUDA_PLAN_TABLES_BYTES, "tables of experts", &sent));
    *t = (struct cuda_tables){.sent = sent};
    TRY(cuda_device_take(d, CUDA_PLAN_TABLES_BYTES, "where experts lie", &table));
    t->table = table;
    return STATUS_OK;
}

void cuda_tables_close(struct cuda_tables *t, struct cuda_device *d)
{
    cuda_device_give_back(d, t->table);
    *t = (struct cuda_tables){0};
}

/* What is kept of a layer; NULL: nothing of this size. */
static struct cuda_tables_kept *find(struct cuda_tables *t, const struct cuda_tables_kept *layer)
{
    for (int i = 0; i < t->count; i++)
        if (t->kept[i].gate_up == layer->gate_up && t->kept[i].down == layer->down &&
            t->kept[i].slots == layer->slots)
            return &t->kept[i];
    return NULL;
}

/* A place for one more; without room for it all others are forgotten. */
static struct cuda_tables_kept *add(struct cuda_tables *t, const struct cuda_tables_kept *layer)
{
    size_t count = 2 * (size_t)layer->slots;
    struct cuda_tables_kept *kept;

    if (t->count == CUDA_TABLES_KEPT || count > ROOM - t->used)
        t->count = 0, t->used = 0;
    kept = &t->kept[t->count++];
    *kept = *layer;
    kept->first = t->used;
    t->used += count;
    return kept;
}

static bool same(const struct cuda_weight *a, const struct cuda_weight *b, int count)
{
    for (int i = 0; i < count; i++)
        if (a[i].data != b[i].data || a[i].scale != b[i].scale || a[i].plane != b[i].plane ||
            a[i].rows != b[i].rows || a[i].columns != b[i].columns || a[i].stride != b[i].stride ||
            a[i].scales != b[i].scales)
            return false;
    return true;
}

enum status cuda_tables_take(struct cuda_tables *t, struct cuda_device *d,
                             const struct cuda_tables_kept *layer, const struct cuda_weight *weights,
                             const struct cuda_weight **out)
{
    struct cuda_tables_kept *kept = find(t, layer);
    int count = 2 * layer->slots;
    bool fresh = !kept;
    struct cuda_weight *sent;

    if ((size_t)count > ROOM)
        return FAIL(STATUS_BUG, "%d weights of experts in one layer, at most %zu", count, ROOM);
    if (fresh && d->recording)
        return FAIL(
            STATUS_NO_MEMORY,
            "tables of all experts' weights need more than %d MiB; --enforce-eager goes without recording "
            "steps",
            CUDA_PLAN_TABLES_BYTES >> 20);
    if (fresh)
        kept = add(t, layer);
    sent = t->sent + kept->first;
    if (fresh || !same(sent, weights, count)) {
        memcpy(sent, weights, (size_t)count * sizeof *weights);
        TRY(cuda_device_upload(d, t->table + kept->first, sent, (size_t)count * sizeof *weights));
    }
    *out = t->table + kept->first;
    return STATUS_OK;
}
