/* counting.h - a backend that gives no memory and counts what is asked of it
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Whatever takes its buffers from a table of kernels can be asked beforehand how many bytes that will be, by
 * running it on this one. Sizes are those of the real backend; no stage may be called, and nothing written to
 * the addresses that alloc gives. */
#ifndef COUNTING_H
#define COUNTING_H

#include "kernels/kernels.h"

struct counting {
    struct kernels table; /* first: a pointer to the table is one to this */
    struct kernels *real; /* not owned */
    size_t bytes;         /* asked of alloc so far, each piece rounded up as it takes it */
};

void counting_open(struct counting *c, struct kernels *real);

#endif
