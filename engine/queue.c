/* queue.c - requests that wait, the most urgent on top (rank 0 only)
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/queue.h"

enum status queue_open(struct queue *q, struct arena *arena, int capacity)
{
    *q = (struct queue){.capacity = capacity};
    return arena_take_array(arena, (size_t)capacity, sizeof(void *), "waiting requests", &q->heap);
}

static void put(struct queue *q, int place, struct request *r)
{
    q->heap[place] = r;
    r->place = place;
}

/* Moves r, which belongs at `place` or above, to where it belongs. */
static void rise(struct queue *q, int place, struct request *r)
{
    for (; place > 0 && request_before(r, q->heap[(place - 1) / 2]); place = (place - 1) / 2)
        put(q, place, q->heap[(place - 1) / 2]);
    put(q, place, r);
}

/* The same downwards. */
static void sink(struct queue *q, int place, struct request *r)
{
    for (int child = 2 * place + 1; child < q->count; child = 2 * place + 1) {
        if (child + 1 < q->count && request_before(q->heap[child + 1], q->heap[child]))
            child++;
        if (request_before(r, q->heap[child]))
            break;
        put(q, place, q->heap[child]);
        place = child;
    }
    put(q, place, r);
}

void queue_add(struct queue *q, struct request *r)
{
    rise(q, q->count++, r);
}

struct request *queue_first(const struct queue *q)
{
    return q->count > 0 ? q->heap[0] : NULL;
}

void queue_remove(struct queue *q, struct request *r)
{
    int place = r->place;
    struct request *last = q->heap[--q->count];

    if (last == r)
        return;
    if (place > 0 && request_before(last, q->heap[(place - 1) / 2]))
        rise(q, place, last);
    else
        sink(q, place, last);
}
