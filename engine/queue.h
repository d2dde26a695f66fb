/* queue.h - requests that wait, the most urgent on top (rank 0 only)
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A heap in the order of request_before: adding and taking out cost the logarithm of its length, also from
 * the middle, so a long queue does not slow a step. */
#ifndef QUEUE_H
#define QUEUE_H

#include "engine/base/arena.h"
#include "engine/request.h"

struct queue {
    struct request **heap; /* [capacity]; r->place is the index of r */
    int count;
    int capacity;
};

enum status queue_open(struct queue *q, struct arena *arena, int capacity);

/* There must be room, and r must not be in it. */
void queue_add(struct queue *q, struct request *r);

/* The most urgent, NULL: none. It stays. */
struct request *queue_first(const struct queue *q);

/* Takes r out, which is in it. */
void queue_remove(struct queue *q, struct request *r);

#endif
