/* comm_nccl_team.h - NCCL's communicators of one device: how they begin and end, and waits that cannot hang
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * NCCL is asked never to block (blocking = 0), so each of its calls is followed until it is on the stream,
 * and whoever waits for the device asks for errors meanwhile. An error, or a failure that the watchdog has
 * found, aborts every communicator of the team: what was on the stream ends, the wait returns, and the
 * message tells which call was the first that had not ended, with which ranks.
 *
 * All communicators share what the first one holds (splitShare): its connections, so one more takes next to
 * no memory of the device, and the order of its kernels. NCCL runs the kernels of communicators that share
 * one after the other, as the host queued them, on whatever streams and in recorded steps too. All ranks
 * queue in one order, so none waits for a rank that waits for it.
 *
 * One life: open by all ranks together, split for each other communicator, close when all is well or not. */
#ifndef COMM_NCCL_TEAM_H
#define COMM_NCCL_TEAM_H

#include "comm/comm.h"
#include "comm/watch_phase.h"
#include "kernels/cuda/cuda_record.h"

#include <nccl.h>

/* Communicators: the whole, a part of it, the ranks of a node, and the whole once more for what goes beside
 * all steps. */
enum {
    COMM_NCCL_TEAM_WHOLE,
    COMM_NCCL_TEAM_PART,
    COMM_NCCL_TEAM_NODE,
    COMM_NCCL_TEAM_MOVES,
    COMM_NCCL_TEAM_MEMBERS
};

enum { COMM_NCCL_TEAM_RECENT = 64 }; /* calls that are remembered */

/* A call that was queued, for messages. */
struct comm_nccl_call {
    const char *name; /* "exchange" */
    enum watch_phase phase;
    int layer;       /* -1: of none */
    int number;      /* 1: the first of this phase */
    int exchanges;   /* of a recorded step that was replayed; 0: it is one call */
    int peers;       /* other ranks that took part */
    int least, most; /* of them */
};

/* Whoever queues kernels that wait for other ranks: asked while the host waits for the stream, and once more
 * (waits false) when all is done. */
struct comm_nccl_guard {
    enum status (*look)(void *owner, bool waits); /* NULL: nobody */
    void *owner;
};

struct comm_nccl_team {
    struct cuda_device *device;
    struct comm_nccl_guard guard;
    struct cuda_record *record; /* whose graphs hold calls of the communicators */
    cudaStream_t home;          /* the device's, but between aside and back */
    cudaStream_t stream;        /* where calls are queued: home, or ... */
    cudaStream_t beside;        /* ... this one, between aside and back */
    cudaEvent_t before;         /* on the device's stream, what calls beside it come after */
    cudaStream_t moves;         /* of comm_nccl_mover; NULL: none. Nobody waits for it but who leaves */
    int rank, size;             /* of the whole */
    int units;                  /* multiprocessors of the smallest device */
    ncclComm_t member[COMM_NCCL_TEAM_MEMBERS]; /* NULL: none */
    bool broken;                               /* aborted */
    struct comm_nccl_call recent[COMM_NCCL_TEAM_RECENT];
    cudaEvent_t done[COMM_NCCL_TEAM_RECENT];
    unsigned called; /* the last ones are remembered */
};

/* Collective over `inner`, whose ranks each have a device. `mine`: a failure of this rank before, so that
 * none goes on. */
enum status comm_nccl_team_open(struct comm_nccl_team *team, struct cuda_device *device,
                                struct cuda_record *record, struct comm *inner, enum status mine);

/* Collective over the whole, when its calls have ended: ranks of equal `part` get one more communicator, in
 * the order of `key`. -1: none, for a rank alone. */
enum status comm_nccl_team_split(struct comm_nccl_team *team, int member, int part, int key);

/* Collective over the communicator; after a failure not, and then it is aborted. Takes what is not open. */
void comm_nccl_team_leave(struct comm_nccl_team *team, int member);
void comm_nccl_team_close(struct comm_nccl_team *team);

/* Around what a call queues: `call` is the place to note its peers in. Between them nothing waits for the
 * host; the end waits until NCCL has put everything on the stream. */
enum status comm_nccl_team_begin(struct comm_nccl_team *team, const char *name, struct comm_nccl_call **call);
enum status comm_nccl_team_end(struct comm_nccl_team *team);

/* The same for a call that was queued on another stream than the team's. */
enum status comm_nccl_team_end_on(struct comm_nccl_team *team, cudaStream_t stream);

/* A rank of the whole takes part in the call. */
void comm_nccl_team_peer(struct comm_nccl_call *call, int peer);

/* Until NCCL has done what the host asked it for: "splitting the ranks". */
enum status comm_nccl_team_follow(struct comm_nccl_team *team, const char *what);

/* Calls and kernels between the two go beside the device's stream, behind what is queued there at aside;
 * `done` is recorded behind them (NULL: nothing is), and whoever reads what arrived lets the device's stream
 * wait for it. `behind` false: only behind what the last time beside was behind. */
enum status comm_nccl_team_aside(struct comm_nccl_team *team, bool behind);
enum status comm_nccl_team_back(struct comm_nccl_team *team, cudaEvent_t done);

/* A failure of NCCL on a communicator: aborts the team, and says what was under way. */
enum status comm_nccl_team_error(struct comm_nccl_team *team, int member, ncclResult_t result,
                                 const char *words);

#endif
