/* engine.h - the life of the engine on one rank: read, plan, load, serve, close
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *     engine_read    configuration and tensor headers; no weights, no exchanges       each rank alone
 *     engine_sizes   what the comms must deliver                                      each rank alone
 *     engine_place, engine_share    where experts start; the memory of those that ranks share
 *     engine_connect, engine_load, engine_size_cache, engine_prepare, engine_measure    exchanges, weights,
 * cache, buffers       then
 * the memory is sealed (model_forward, step by step) engine_close */
#ifndef ENGINE_H
#define ENGINE_H

#include "comm/comm_device.h"
#include "comm/grid.h"
#include "engine/balance.h"
#include "engine/config.h"
#include "engine/kv_cache.h"
#include "engine/model.h"
#include "engine/safetensors.h"
#include "engine/score.h"
#include "engine/speculate.h"
#include "engine/weights.h"

struct engine_options {
    const char *model;      /* directory, or ORG/NAME of the local cache */
    const char *cache_root; /* of the Hugging Face cache; "": none */
    int ranks, rank;
    int tensor, expert_ranks; /* 0: defaults */
    size_t kv_cache_memory;   /* bytes on a rank; 0: by utilization */
    double memory_utilization;
    int node_ranks;    /* ranks that share this rank's memory */
    int max_positions; /* --max-model-len; 0: the model's */
    int max_sequences;
    int max_rows;
    int max_wanted; /* rows of a batch that can want logits; 0: max_sequences and some more */
    struct balance_options balance;
    struct lowering_options lowering;
    enum comm_device_way exchange;      /* of rows in the memory of devices */
    bool scores;                        /* given tokens are scored: evaluate */
    const char *placement_file;         /* where experts lie, from run to run; NULL: none */
    bool eager;                         /* no step is recorded and replayed */
    struct speculate_options speculate; /* of requests that are generated */
    struct experts_ways ways;           /* of rows to experts */

    bool share_experts;        /* ranks of a node shall share one copy of each expert */
    const int32_t *share_node; /* [ranks] equal numbers for ranks that then do; NULL: none do */
    int share_limit;           /* ranks that do at most, of one machine; 0: all of it */
};

struct engine {
    struct engine_options options;
    struct arena arena; /* structures of this rank; sealed once loaded */
    const char *directory;
    struct config config;
    struct tensor_set tensors;
    struct placement placement;
    struct grid grid;
    struct grid_share share; /* what the grid points to, if anything is shared */
    struct weights weights;
    struct kv_cache kv;
    struct model model;
    struct balance balance;
    struct score score;         /* where tokens are scored */
    struct speculate speculate; /* rank 0, where drafts are wanted */
    struct batch batch;
    struct kernels *kernels; /* not owned */
    struct comm *apart[3]; /* exchanges of rows for a backend whose memory is apart: world, group; else NULL;
                              world by stores, if it was asked for */
    struct mover *mover;   /* of experts from device to device; NULL: through the hosts, or none */
    int pages;             /* of a data group's pool */
    int max_positions;     /* of a request */
    uint64_t fingerprint;  /* of configuration and tensor headers: equal on all ranks of a run */
};

enum status engine_read(struct engine *e, const struct engine_options *options);

/* What follows from the options alone once the files are read: limits, grid, placement. Part of engine_read;
 * apart for a plan of other ranks. */
enum status engine_arrange(struct engine *e);

void engine_sizes(const struct engine *e, size_t *world, size_t *group);

/* Where experts start, when a file says so: rank 0 reads it. Collective over `world`; agree before going on.
 */
enum status engine_place(struct engine *e, struct comm *world);

/* Can ranks share experts that lie in this backend's memory, if they shall? STATUS_USAGE. */
enum status engine_share_check(const struct engine_options *o, const struct kernels *k);

/* The memory of experts that ranks share, of the size that the placement asks for; nothing where none do.
 * Collective over `world`, whose memory it is; agree before going on. */
enum status engine_share(struct engine *e, struct comm *world, struct kernels *k);

/* The ranks of this run, and exchanges between their devices, which then hold what they ever will of them.
 * Collective over `world`. */
enum status engine_connect(struct engine *e, struct comm *world, struct comm *group, struct kernels *k);

/* The weights of this rank, once it is connected. Not collective: a rank can fail alone, so agree before
 * going on. */
enum status engine_load(struct engine *e);

/* Bytes that the buffers of a step will take on this rank beside the cache; needs weights_share. */
enum status engine_buffer_bytes(const struct engine *e, struct kernels *real, size_t *bytes);

/* Bytes for the cache of a rank when `free_bytes` are free on its node, or on its device, beside the weights,
 * and buffers are yet to be taken, and the pages that this rank can hold in so many; needs kernels and
 * weights_share. */
size_t engine_cache_bytes(const struct engine *e, size_t free_bytes, size_t buffer_bytes);
int64_t engine_cache_pages(const struct engine *e, size_t bytes);

/* How many pages the cache has, by what is free now. Collective over the world. */
enum status engine_size_cache(struct engine *e);

/* The same as a plan found it that all ranks made alike, before a byte was taken; engine_size_cache is then
 * not called. */
enum status engine_use_pages(struct engine *e, int64_t pages);

/* Cache and buffers of a step. Not collective, as engine_load. */
enum status engine_prepare(struct engine *e);

/* What the balancer must know of these machines. Collective over the world; without the balancer, nothing. */
enum status engine_measure(struct engine *e);

/* Rank 0, at the end: where experts lie by now. */
enum status engine_save(const struct engine *e);

/* Takes an engine that was only zeroed or read. */
void engine_close(struct engine *e);

#endif
