/* budget.h - what every rank will take, before any of it is taken
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The plan is made by the very functions that later allocate: they run on a table of kernels that counts and
 * gives nothing, rank after rank. So what a backend, a family or a layout takes is never said twice. Only
 * headers of the files are needed, no exchanges, and no rank but this process.
 *
 * What is not in it: the program and its libraries, the page cache of the files, and what a prompt takes on
 * rank 0 while it runs. What driver and libraries take of a device is no function's to say: it is measured,
 * or estimated where there is no device. */
#ifndef BUDGET_H
#define BUDGET_H

#include "engine/engine.h"

/* Bytes on one rank. */
struct budget_rank {
    size_t weights;
    size_t shared;    /* of the weights: experts that lie in shared memory of the node */
    size_t cache;     /* keys and values */
    size_t buffers;   /* of a step, in the backend's memory */
    size_t exchanges; /* of the comms, shared with the node or not */
    size_t libraries; /* that driver and libraries hold of a device */
    size_t backend;   /* of a backend whose memory is apart, for itself */
    size_t host;      /* of the host's memory, where the backend's is apart; in no sum */
    size_t pinned;    /* for copies to and from a device; part of `host` */
    size_t tables;    /* names and places of tensors, page tables; on rank 0 room for logits; part of `host`
                         where the backend's memory is apart */
    size_t reserved;  /* of buffers and tables, what is kept free when the cache is sized */
    int slots;        /* of experts, per layer */
};

/* Where a run is to take place. */
struct budget_place {
    size_t
        memory; /* bytes that a rank may take, all together; where the backend has its own, not asked for */
    int nodes;  /* machines; ranks lie on them evenly */
    int node_size;        /* consecutive ranks that are near each other; 0: those of a machine */
    bool shared;          /* exchanges through shared memory */
    const char *name;     /* of the backend: "cpu" */
    struct kernels *real; /* the backend, to be asked for sizes while the plan is made */
    bool measured; /* what driver and libraries hold of a device is `held` bytes, on the rank with the */
    size_t held;   /* most; else it is estimated */
};

struct budget {
    struct engine_options options; /* as planned */
    struct budget_place place;
    int groups;               /* data groups */
    int copies;               /* of the set of experts */
    int64_t pages;            /* of each group's pool; 0: the memory holds not even one */
    int positions;            /* most of one sequence: --max-model-len or the model's own */
    int64_t most_pages;       /* that the pool would use at most */
    size_t page_bytes;        /* most of all ranks */
    struct budget_rank *rank; /* [ranks] */
    int heaviest;             /* rank with the most bytes */
    size_t device;            /* bytes of a rank's device, of which it may take place.memory; 0: none */
    bool loads;               /* everything but keys and values fits */
};

/* `read` is an engine that has read its files and no more; `options` says how it would be run (ranks, limits;
 * `rank` and `node_ranks` do not matter). The array lies in `arena`. STATUS_USAGE: no such layout. */
enum status budget_plan(struct budget *b, struct arena *arena, const struct engine *read,
                        const struct engine_options *options, const struct budget_place *place);

/* All of a rank, and what of a device its backend and exchanges need to be opened. */
size_t budget_total(const struct budget_rank *r);
size_t budget_first(const struct budget_rank *r);

/* Positions that one sequence must be able to have: --max-model-len; where that was not given a run takes
 * what the cache holds. */
int budget_wanted(const struct budget *b);

/* Does the plan fit: memory, one page at least, and one sequence of the length that was asked for? */
bool budget_fits(const struct budget *b);

#endif
