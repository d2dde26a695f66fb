/* topology.h - which processors this rank works on, and with how many threads
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A processor here is a core; its hardware threads are not counted twice. What a launcher, a cpuset or Slurm
 * allows is respected: ranks of a node that were given the same processors divide them evenly, a rank that
 * was given its own keeps them. Where ranks outnumber processors they share them, unbound.
 *
 *     topology_open      looks at the machine            (each rank)
 *     (the allowed sets of the node's ranks are exchanged: process_node_gather)
 *     topology_divide    decides; a pure function of what it is given
 *     topology_bind      does it
 *     topology_describe  the line for the log
 *
 * hwloc's own HWLOC_SYNTHETIC and HWLOC_XMLFILE put another machine in the place of this one; then nothing is
 * bound. */
#ifndef TOPOLOGY_H
#define TOPOLOGY_H

#include "engine/base/status.h"

enum { TOPOLOGY_IMAGINED = 4096 /* processors of a description, at most */ };
enum { TOPOLOGY_SET_BYTES = 1024, TOPOLOGY_THREAD_LIMIT = 1024, TOPOLOGY_TEXT_BYTES = 320 };

enum topology_binding {
    TOPOLOGY_FREE,     /* nothing is bound: one rank with the whole machine, or --threads beyond its part */
    TOPOLOGY_SHARED,   /* fewer processors than ranks; nothing is bound */
    TOPOLOGY_DIVIDED,  /* the rank takes its own part of what several ranks were given together */
    TOPOLOGY_LAUNCHER, /* this rank alone was given these processors: it keeps them */
};

/* A set of processors as text that hwloc reads, so that ranks can exchange it. */
struct topology_set {
    char text[TOPOLOGY_SET_BYTES];
};

struct topology {
    void *machine;               /* hwloc's */
    bool real;                   /* this very machine, not a synthetic one */
    int machine_processors;      /* that anybody may use here */
    double quota;                /* processors' time that a container may use, in processors; 0: no limit */
    struct topology_set allowed; /* to this rank, by launcher and cpuset */

    /* after topology_divide */
    enum topology_binding binding;
    int processors;                    /* this rank's own part; when SHARED, those that are shared */
    int threads;                       /* of this rank */
    bool pin;                          /* one thread per processor: `pinned` holds */
    int pinned[TOPOLOGY_THREAD_LIMIT]; /* a hardware thread (the system's number) for each thread */
    struct topology_set own;           /* where topology_bind puts the process */
};

/* What decides beside the machine. */
struct topology_request {
    const struct topology_set *allowed; /* [node_size] of the ranks of this node */
    int node_rank;
    int node_size;
    int threads;       /* --threads; 0: choose */
    int cpus_per_task; /* Slurm's; <= 0: not said */
};

/* The log line beside the topology of rank 0. */
struct topology_scene {
    int ranks;
    int nodes;
    int least, most; /* threads of a rank, over all ranks */
    bool open_mpi;   /* started by Open MPI's mpirun, whose default binds one or two ranks to single cores */
};

enum status topology_open(struct topology *t);
void topology_close(struct topology *t); /* takes a zeroed one */

enum status topology_divide(struct topology *t, const struct topology_request *request);

/* Binds the process and all its threads where topology_divide found a part of its own; otherwise does
 * nothing. A system that refuses costs only speed: it is logged, no error. */
void topology_bind(const struct topology *t);

/* "8 ranks on 1 node, 1 thread each, not bound (2 processors shared)" */
void topology_describe(const struct topology *t, const struct topology_scene *scene,
                       char text[static TOPOLOGY_TEXT_BYTES]);

/* Machines and processors that a synthetic description of hwloc's has ("group:4 package:2 pu:8": 4 and 64).
 * Machines are the groups right below the root; without those, the NUMA nodes. STATUS_USAGE: hwloc does not
 * understand it. */
enum status topology_imagine(const char *description, int *machines, int *processors);

/* "2.9.0": the hwloc this was built with. */
const char *topology_library(void);

#endif
