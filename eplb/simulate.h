/* simulate.h - recorded steps on a cluster that is only imagined
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The rows of each batch are those of the record; which rank holds which expert, how copies share rows and
 * what is moved when is played through for any number of ranks. Times are a model: a rank's experts take the
 * longer of reading their weights and multiplying their rows; rows of a batch come evenly from all ranks and
 * travel there and back; moved weights travel over all ranks' links alike. */
#ifndef SIMULATE_H
#define SIMULATE_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stdint.h>

/* Rates are of each rank, sizes in bytes. */
struct simulate_cluster {
    int ranks, nodes;
    double rate;              /* operations a second */
    double memory_bandwidth;  /* bytes a second */
    double node_bandwidth;    /* to other ranks of the node */
    double network_bandwidth; /* to other nodes */
    double expert_bytes;      /* weights of an expert in a layer; a row takes as many operations */
    double row_bytes;         /* of a row that travels, one way */
};

/* Batches with rows. */
struct simulate_stream {
    int batches, layers, experts;
    const int32_t *rows; /* [batches, layers, experts] over all ranks */
};

enum simulate_policy {
    SIMULATE_NONE, /* one slot for each expert, in order; nothing moves */
    SIMULATE_REFERENCE,
    SIMULATE_BALANCED, /* this and the next: for batches that may come, not for the load alone */
    SIMULATE_SPILL,
    SIMULATE_INCREMENTAL, /* the first plan is balanced, then few moves at a time */
};

/* What plans are made for. */
enum simulate_load {
    SIMULATE_LAST,   /* the last SIMULATE_SCENARIOS batches, one by one; for incremental plans */
    SIMULATE_WINDOW, /* the last batches together */
    SIMULATE_EWMA,   /* a moving average */
};

/* How copies share the rows of a batch. */
enum simulate_dispatch {
    SIMULATE_EVEN,   /* alike */
    SIMULATE_FLOW,   /* so that the busiest rank has as few rows as can be */
    SIMULATE_FEWEST, /* so that it has as few experts to read as can be */
    SIMULATE_AUTO,   /* the faster of these two, layer by layer */
    SIMULATE_DISPATCHES
};

struct simulate_options {
    enum simulate_policy policy;
    enum simulate_load load;
    int redundant; /* slots beside one for each expert */
    int groups;    /* of experts; for reference, balanced and spill */
    int interval;  /* batches from one plan to the next; the first is made after so many */
    int window;    /* batches that a plan is made for */
    double share;  /* of the newest batch in the moving average, above 0 and 1 at most */
    int first;     /* batch from which on results are counted, interval at least */
};

enum { SIMULATE_SCENARIOS = 8, SIMULATE_LAYER_MOVES = 8 }; /* of incremental plans */

/* Means over batches and layers that are counted. */
struct simulate_result {
    double imbalance[SIMULATE_DISPATCHES]; /* rows of the busiest rank over the mean */
    double time[SIMULATE_DISPATCHES];      /* seconds of all expert layers of a step, moves included */
    double moves;                          /* a layer and plan, but for the first plan */
    double moved_bytes;                    /* in all, likewise */
    int plans;
};

/* A shape that cannot work is STATUS_USAGE. */
enum status simulate_run(const struct simulate_stream *stream, const struct simulate_cluster *cluster,
                         const struct simulate_options *options, struct simulate_result *result);

#endif
