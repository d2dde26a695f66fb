/* nccl_work.h - a communicator, and the operations of it that stand on a stream
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * An operation sends and receives in pieces as often as the stream's turn comes. Every message begins with
 * what its sender thinks it is. */
#ifndef HOSTGPU_NCCL_WORK_H
#define HOSTGPU_NCCL_WORK_H

#include "nccl_pipe.h"
#include "runtime.h"

#include <nccl.h>
#include <time.h>

#include <atomic>
#include <set>
#include <string>

enum { RANKS = 64, TEXT = 400, NAME = 64 };

enum call { SEND, ALL_GATHER, BROADCAST };

struct header {
    uint64_t sequence, count;
    int32_t call, type, reduction, root; /* reduction -1: none */
    int32_t graph, unused;               /* 1: of a graph, as it then is on every rank */
};

/* What the ranks of a communicator share. */
struct board {
    std::atomic<int> joined, left;
    std::atomic<int> mapped;   /* ranks that have mapped the windows of all */
    std::atomic<int> stopped;  /* two ranks disagree: text tells */
    std::atomic<int> deserter; /* 1 + the rank that aborted first */
    char text[TEXT];
    char doing[RANKS][TEXT];
    struct {
        std::atomic<uint32_t> round;
        int color[2], key[2]; /* of this round and the one before, which others may still read */
    } split[RANKS];
    struct {
        std::atomic<uint32_t> round;
        uint64_t bytes;
        char name[NAME];
    } window[RANKS]; /* that a rank registers */
    nccl_pipe pipes[];
};

struct part {
    int peer;
    bool sends;
    bool begins; /* a call of all ranks: the parts behind it up to the next are of the same */
    char *bytes;
    size_t count;
    header wanted;
    size_t header_done = 0, done = 0;
    header got = {};
};

struct work {
    ncclComm *comm;
    cudaStream_t stream;
    uint64_t ticket, turn; /* of its communicator, and of the family */
    std::vector<part> parts;
    time_t stuck = 0;
};

/* What a communicator shares with those that are split from it, where it was opened with splitShare: the
 * order in which their calls run, buffers to ranks, and their end. */
struct family {
    ncclComm *owner = nullptr;
    int members = 0;
    uint64_t issued = 0, finished = 0;
    const work *running = nullptr; /* has begun */
    bool aborted = false;
    size_t held = 0; /* bytes of the device */
    std::set<int> ways;
};

struct ncclComm {
    board *shared = nullptr;
    size_t mapped = 0;
    std::string name, called, error; /* called: by the one who opened it */
    std::shared_ptr<struct family> family;
    bool shares = false;  /* its family with what is split from it */
    std::vector<int> top; /* of each rank, its number in the owner of the family */
    std::shared_ptr<int> in_graphs = std::make_shared<int>(0); /* others that hold it: calls in graphs */
    int size = 0, rank = 0;
    bool finalized = false;
    uint64_t collectives = 0, issued = 0, finished = 0;
    std::vector<uint64_t> sent, received;
    uint32_t splits = 0, windows = 0;
    size_t held = 0;                         /* bytes of the device beside the family's */
    std::set<int> ways;                      /* that have been used: kinds of calls of all */
    int progress = 0;                        /* questions until what is under way is done */
    std::function<ncclResult_t()> under_way; /* ncclInProgress: not yet */
};

/* The call of the host that is now under way: it is done after some questions for errors, when `what` says
 * so. Ends the process when another one is. */
void nccl_work_follow(ncclComm *c, const char *call, std::function<ncclResult_t()> what);

/* All that were opened and not destroyed. */
std::vector<ncclComm *> &nccl_work_comms(void);

inline nccl_pipe &nccl_work_pipe(ncclComm *c, int from, int to)
{
    return c->shared->pipes[from * c->size + to];
}

/* "AllGather" */
const char *nccl_work_name(enum call call);

/* Ends the process when two ranks have disagreed. */
void nccl_work_stopped(ncclComm *c);

/* So many bytes of the device for this communicator; false: there are not so many left. And back. */
bool nccl_work_hold(ncclComm *c, size_t bytes);
void nccl_work_let_go(ncclComm *c);

/* Buffers are taken at the first call of a kind and size: for each channel to each peer of the family, for
 * each channel of calls of all ranks, and once more for long ones. HOSTGPU_CHANNELS: how many, 1. False: as
 * above. */
bool nccl_work_connect(const work &w);

/* HOSTGPU_FAULT=rank:call: this call of that rank, of a communicator and counted from 0, never ends.
 * rank:call:name: of the communicator of this name alone. */
bool nccl_work_fails(const ncclComm *c, uint64_t ticket);

/* Puts it on its stream. In a capture it is a pattern: every launch of the graph makes a call of its own by
 * it. */
void nccl_work_queue(const std::shared_ptr<work> &w);

#endif
