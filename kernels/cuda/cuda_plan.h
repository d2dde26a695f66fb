/* cuda_plan.h - what the cuda backend takes, known without a device
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Part of the program as well as of the module, so that a plan for devices can be made anywhere. What the
 * driver and libraries take is their own affair: a run measures it, and a plan without a device has an
 * estimate of NCCL's part and nothing of the rest. */
#ifndef CUDA_PLAN_H
#define CUDA_PLAN_H

#include "kernels/kernels.h"

enum {
    CUDA_PLAN_ALIGN = 256,               /* of every piece of memory: what cudaMalloc gives */
    CUDA_PLAN_RING_BYTES = 8 << 20,      /* index arrays on their way, on the device and pinned on the host */
    CUDA_PLAN_LOAD_BYTES = 8 << 20,      /* of a pinned buffer for weights on their way, ... */
    CUDA_PLAN_LOAD_BUFFERS = 2,          /* ... and how many there are */
    CUDA_PLAN_PARTIAL_FLOATS = 16 << 20, /* results of attention not yet added up */
    CUDA_PLAN_TABLES_BYTES = 2 << 20,    /* where the weights of experts lie */
    CUDA_PLAN_WORKSPACE_BYTES = 32 << 20, /* cuBLAS' own: NVIDIA recommends it for Hopper and later */
    CUDA_PLAN_SPAN_NUMBERS = 1 << 20,     /* that describe the spans of a step */
    CUDA_PLAN_RECORD_GRAPHS = 32,         /* recorded steps that are kept, ... */
    CUDA_PLAN_RECORD_PLACE = 64 << 10,    /* ... and tables of attention of each */
    CUDA_PLAN_RECORD_BYTES = CUDA_PLAN_RECORD_GRAPHS * CUDA_PLAN_RECORD_PLACE,
    CUDA_PLAN_KINDS = 4,              /* of attention in a model */
    CUDA_PLAN_KIND_NUMBERS = 1 << 16, /* that describe one kind's way over them */
    CUDA_PLAN_TURN_FLOATS = 1 << 20,  /* of a table of cosines and sines */
    CUDA_PLAN_TURN_ROWS = 1 << 13,    /* of a table */
    CUDA_PLAN_ROW_ELEMENTS = 1 << 18, /* most inputs of a weight */
    CUDA_PLAN_ELEMENT_STEP = 32,      /* rows of a weight are padded to so many inputs */
    CUDA_PLAN_WINDOW_PLACES = 3,      /* for rows that others store here: cuda_lsa.cu */
    CUDA_PLAN_WINDOW_CHUNKS = 8,      /* of a rank's rows in a place, each with a flag */
    CUDA_PLAN_GRAIN = 2 << 20,        /* what the driver, and NCCL a window, rounds an allocation up to */
    CUDA_PLAN_NCCL_RINGS = 24,        /* channels of a communicator: of calls of all ranks, ... */
    CUDA_PLAN_NCCL_PAIRS = 32,        /* ... and to each peer of the node, ... */
    CUDA_PLAN_NCCL_BYTES =
        12 << 20,             /* ... and what a channel takes at one peer, 10 MiB to receive, 2 to send */
    CUDA_PLAN_SUM_PARTS = 16, /* that a checksum is added up in: blocks, each of 4 KiB at a time */
};

/* Elements from one row of a weight to the next. */
static inline int cuda_plan_stride(int columns)
{
    return (columns + CUDA_PLAN_ELEMENT_STEP - 1) / CUDA_PLAN_ELEMENT_STEP * CUDA_PLAN_ELEMENT_STEP;
}

/* As kernels' weight_plan. */
enum status cuda_plan_weight(struct kernels *k, struct weight *w, enum dtype dtype, int rows, int columns);

/* Bytes of the device that the backend takes for itself when it is opened, `exact` without cuBLAS. */
size_t cuda_plan_own_bytes(bool exact);

/* Pinned memory of the host that the backend takes when it is opened, and that of --dispatch lsa. */
size_t cuda_plan_pinned_bytes(void);
size_t cuda_plan_state_bytes(int ranks);

/* An estimate of the device's memory that NCCL takes for a communicator of `ranks` ranks, `near` of them on
 * one node: (24 + 32 x (near - 1)) x 12 MiB. NCCL's log of channels and allocations, as its users have
 * published it, says so of all-to-all among eight H100. Slower links have fewer channels; what it takes for
 * ranks of other nodes is not in it. */
size_t cuda_plan_nccl_bytes(int ranks, int near);

/* For calls of all ranks of one more communicator, whose pairs use what the first one has: 24 x 12 MiB. */
size_t cuda_plan_nccl_ring_bytes(void);

/* Of the device: a window for up to `most` bytes that arrive from `ranks` ranks, a place of it, its flags. */
size_t cuda_plan_window_bytes(int ranks, size_t most);
size_t cuda_plan_place_bytes(size_t most);
size_t cuda_plan_flag_bytes(int ranks);

/* Of the device: checksums of so many things that move, of both ends. */
size_t cuda_plan_sum_bytes(int sums);

/* Fills a table that is asked for sizes and never computes, of a device with `total` bytes that nobody else
 * uses. */
void cuda_plan_table(struct kernels *out, size_t total, bool exact);

#endif
