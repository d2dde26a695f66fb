/* nccl_work.cpp - operations of a communicator: their messages, in pieces, and their place on a stream
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A receiver that expects something else than what comes stops both ranks with both descriptions. */
#include "nccl_work.h"

#include <stdio.h>
#include <stdlib.h>

#include <map>

enum { CHANNEL_BYTES = 12 << 20, LONG = 1024 };
enum { RING = RANKS, LONG_RING }; /* ways behind those to ranks */

static const char *const call_names[] = {"Send/Recv", "AllGather", "Broadcast"};

const char *nccl_work_name(enum call call)
{
    return call_names[call];
}

std::vector<ncclComm *> &nccl_work_comms(void)
{
    static auto *all = new std::vector<ncclComm *>;
    return *all;
}

static std::string words(const header &h)
{
    char text[160];

    snprintf(text, sizeof text, "%s number %llu of %llu elements, type %d, reduction %d, root %d%s",
             call_names[h.call], (unsigned long long)h.sequence, (unsigned long long)h.count, h.type,
             h.reduction, h.root, h.graph ? ", of a graph" : "");
    return text;
}

/* Whoever sees a disagreement first tells it; the other side stops with the same words. */
void nccl_work_stopped(ncclComm *c)
{
    if (c->shared->stopped.load(std::memory_order_acquire) == 2)
        hostgpu_fail("%s", c->shared->text);
}

static void stop_all(ncclComm *c, const std::string &text)
{
    int nobody = 0;

    if (c->shared->stopped.compare_exchange_strong(nobody, 1)) {
        snprintf(c->shared->text, TEXT, "%s", text.c_str());
        c->shared->stopped.store(2, std::memory_order_release);
    }
    hostgpu_fail("%s", text.c_str());
}

/* -- pieces --- */

static bool done_with(const part &x)
{
    return x.header_done == sizeof(header) && x.done == x.count;
}

static void send_piece(ncclComm *c, part &x)
{
    nccl_pipe &p = nccl_work_pipe(c, c->rank, x.peer);

    if (x.header_done < sizeof(header))
        x.header_done += nccl_pipe_put(p, (char *)&x.wanted + x.header_done, sizeof(header) - x.header_done);
    if (x.header_done == sizeof(header))
        x.done += nccl_pipe_put(p, x.bytes + x.done, x.count - x.done);
}

static void receive_piece(ncclComm *c, part &x)
{
    nccl_pipe &p = nccl_work_pipe(c, x.peer, c->rank);

    if (x.header_done < sizeof(header)) {
        x.header_done += nccl_pipe_take(p, (char *)&x.got + x.header_done, sizeof(header) - x.header_done);
        if (x.header_done == sizeof(header) && memcmp(&x.got, &x.wanted, sizeof(header)) != 0)
            stop_all(c, "nccl: rank " + std::to_string(c->rank) + " of " + c->name + " expects from rank " +
                            std::to_string(x.peer) + ": " + words(x.wanted) + "; rank " +
                            std::to_string(x.peer) + " sends: " + words(x.got));
    }
    if (x.header_done == sizeof(header))
        x.done += nccl_pipe_take(p, x.bytes + x.done, x.count - x.done);
}

void hostgpu_why_stuck(void)
{
    for (ncclComm *c : nccl_work_comms())
        for (int r = 0; c->shared && r < c->size; r++)
            fprintf(stderr, "hostgpu: rank %d of %d of %s: %s\n", r, c->size, c->name.c_str(),
                    c->shared->doing[r]);
}

bool nccl_work_fails(const ncclComm *c, uint64_t ticket)
{
    const char *text = getenv("HOSTGPU_FAULT");
    char name[NAME] = "";
    int rank;
    unsigned long long call;

    return text && sscanf(text, "%d:%llu:%63[^:]", &rank, &call, name) >= 2 && rank == c->rank &&
           call == ticket && (!*name || c->called == name);
}

/* Kernels of communicators that share nothing may run at a time, and each needs room on a device that the
 * other may have: two devices that begin them in different order wait for ever. */
static void check_order(const work *w)
{
    for (const ncclComm *other : nccl_work_comms())
        if (other->family != w->comm->family && other->family->running)
            hostgpu_fail(
                "nccl: calls of '%s' and of '%s' run at a time, and nothing orders them on the device",
                other->called.c_str(), w->comm->called.c_str());
    w->comm->family->running = w;
}

/* True when the operation is complete: then it is the stream's to end. Messages to one peer go in order, and
 * operations of a family in the order of issue, whatever their streams. */
static bool poll(work *w)
{
    ncclComm *c = w->comm;
    bool busy[2][RANKS] = {}, complete = true, moved = false;

    if (c->family->aborted)
        return true;
    nccl_work_stopped(c);
    if (w->turn != c->family->finished)
        return false;
    check_order(w);
    if (nccl_work_fails(c, w->ticket))
        return false;
    for (part &x : w->parts) {
        size_t before = x.header_done + x.done;

        if (done_with(x))
            continue;
        if (!busy[x.sends][x.peer]) {
            x.sends ? send_piece(c, x) : receive_piece(c, x);
            moved = moved || x.header_done + x.done > before;
        }
        if (done_with(x))
            continue;
        if (!busy[x.sends][x.peer])
            snprintf(c->shared->doing[c->rank], TEXT, "%s rank %d: %s", x.sends ? "sends to" : "waits for",
                     x.peer, words(x.wanted).c_str());
        busy[x.sends][x.peer] = true;
        complete = false;
    }
    if (complete)
        snprintf(c->shared->doing[c->rank], TEXT, "idle after %llu operations",
                 (unsigned long long)c->finished + 1);
    w->stuck = moved || complete || !w->stuck ? time(nullptr) : w->stuck;
    if (time(nullptr) - w->stuck > hostgpu_settings_get().timeout) {
        hostgpu_why_stuck();
        hostgpu_fail("nccl: nothing has moved for %d s", hostgpu_settings_get().timeout);
    }
    return complete;
}

/* HOSTGPU_PEAK: at the end it is told how many calls each communicator made. */
static std::map<std::string, uint64_t> &counts(void)
{
    static auto *all = new std::map<std::string, uint64_t>;
    return *all;
}

static void tell_counts(void)
{
    for (const auto &c : counts())
        fprintf(stderr, "hostgpu: %llu calls of '%s'\n", (unsigned long long)c.second, c.first.c_str());
}

static void count(const std::string &called)
{
    static const bool told = getenv("HOSTGPU_PEAK") && atexit(tell_counts) == 0;

    (void)told;
    counts()[called]++;
}

/* Its place among all of the communicator, and of the messages to each peer. */
static void number(work *w, bool graph)
{
    ncclComm *c = w->comm;
    uint64_t together = 0;

    w->ticket = c->issued++;
    w->turn = c->family->issued++;
    count(c->called);
    for (part &x : w->parts) {
        together = x.begins ? c->collectives++ : together;
        x.wanted.graph = graph;
        x.wanted.sequence = x.wanted.call != SEND ? together
                            : x.sends             ? c->sent[(size_t)x.peer]++
                                                  : c->received[(size_t)x.peer]++;
    }
}

static hostgpu_operation operation_of(const std::shared_ptr<work> &w)
{
    return {"nccl",
            [w] {
                if (w->comm->family->aborted)
                    return;
                for (part &x : w->parts)
                    hostgpu_touch(x.bytes, x.count, !x.sends);
                w->comm->finished++;
                w->comm->family->finished++;
                w->comm->family->running = nullptr;
            },
            [w] { return poll(w.get()); }, nullptr, nullptr};
}

static bool hold(ncclComm *c, size_t *held, size_t bytes)
{
    if (hostgpu_memory_hold(bytes) != cudaSuccess) {
        c->error = "Cuda failure 2 'out of memory'";
        return false;
    }
    *held += bytes;
    return true;
}

bool nccl_work_hold(ncclComm *c, size_t bytes)
{
    return hold(c, &c->held, bytes);
}

void nccl_work_let_go(ncclComm *c)
{
    hostgpu_memory_let_go(c->held);
    c->held = 0;
    if (--c->family->members > 0)
        return;
    hostgpu_memory_let_go(c->family->held);
    c->family->held = 0;
}

bool nccl_work_connect(const work &w)
{
    const char *text = getenv("HOSTGPU_CHANNELS");
    size_t channels = text ? strtoull(text, nullptr, 0) : 1;

    for (const part &x : w.parts) {
        ncclComm *c = w.comm;
        bool pair = x.wanted.call == SEND;
        int way = pair ? c->top[(size_t)x.peer] : x.count <= LONG ? RING : LONG_RING;
        std::set<int> &ways = pair ? c->family->ways : c->ways;

        if (ways.insert(way).second && !hold(c, pair ? &c->family->held : &c->held, channels * CHANNEL_BYTES))
            return false;
    }
    return true;
}

void nccl_work_queue(const std::shared_ptr<work> &w)
{
    hostgpu_operation pattern = {"nccl", nullptr, nullptr, nullptr, nullptr};
    auto in_graph = w->comm->in_graphs;

    if (!hostgpu_capture_of(w->stream)) {
        number(w.get(), false);
        hostgpu_push(w->stream, operation_of(w));
        return;
    }
    pattern.anew = [w, in_graph] {
        auto again = std::make_shared<work>(*w);

        number(again.get(), true);
        return operation_of(again);
    };
    hostgpu_push(w->stream, pattern);
}
