/* session.h - an engine on this rank, from options to closing: what every command that loads a model shares
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *     session_open      MPI starts, the ranks agree on options, the watchdog wakes
 *     (the command opens its files, so that a wrong name is found before weights are read)
 *     session_load      processors, kernels, exchanges, weights, cache, buffers
 *     session_record    from here on every step goes into the trace, if one is asked for
 *     (the command's own work)
 *     session_recorded  the trace is whole
 *     session_close     good or bad */
#ifndef SESSION_H
#define SESSION_H

#include "engine/engine.h"
#include "engine/sampler.h"
#include "kernels/cpu/cpu.h"
#include "launch/options.h"
#include "launch/process.h"
#include "launch/topology.h"

/* Too large for a stack that may be limited: a static of its command. */
struct session {
    const struct options *options;
    const struct environment *environment;
    struct process process;
    struct arena arena; /* of the start */
    struct topology topology;
    const int32_t *rank_node;  /* [ranks]; NULL: one node */
    bool rising;               /* the ranks of a node follow each other */
    const int32_t *share_node; /* [ranks] the lowest rank that shares experts with each; NULL: none do */
    struct kernels *kernels;
    enum options_backend backend; /* what the kernels are, never auto */
    enum cpu_path path;           /* of the processor's */
    int device;                   /* of those that are visible here */
    size_t device_memory;         /* of the smallest device of all ranks, in whole MiB */
    int64_t pages;                /* of the cache, where that was planned beforehand; 0: it was not */
    struct comm *world, *group;
    struct engine engine;
    struct arena trace_arena; /* rank 0 */
    struct trace trace;
};

/* Collective, once a process. After a failure, session_close. */
enum status session_open(struct session *s, const struct options *o, const struct environment *environment);

/* What the command line asks of an engine that is one rank alone. */
struct engine_options session_engine(const struct options *o, const struct environment *environment);

/* Collective, after session_place: would this run compute on devices? Then s->device is this rank's. Part of
 * session_kernels. */
enum status session_device(struct session *s, bool *there);

/* Collective; agreed on by all ranks: its processors, and then the backend. Parts of session_load; for
 * commands without a model. */
enum status session_place(struct session *s);
enum status session_kernels(struct session *s);

/* Collective; agreed on by all ranks: the model's configuration and headers. Part of session_load. */
enum status session_read(struct session *s);

/* Collective; agreed on by all ranks. */
enum status session_load(struct session *s);

/* Collective; agreed on by all ranks. Between the two every step is recorded as --trace asks; later steps are
 * not. */
enum status session_record(struct session *s);

/* Of this rank alone: could all be written? */
enum status session_recorded(struct session *s);

/* How tokens are chosen: the command line first, then the model's generation_config.json, then vLLM's
 * defaults. */
struct sampling session_sampling(const struct session *session);

/* The way out of the command: returns main's exit code for `status`. Collective where all ranks come here; a
 * failure that the others do not know of ends the job instead. Takes a session that is half open. */
int session_close(struct session *s, enum status status);

#endif
