/* watch_guard.h - threads that see a dead process at once and a wait that lasts too long
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * One sleeps in poll(): on the life of the other processes of the node (pidfd), and for a second at most. The
 * other sleeps on the lock that the next process of the node holds as long as it lives: the kernel gives it
 * up as the first thing when that process dies, which leaves time for a line before the launcher ends
 * everybody. What they find is written as one line (once per node) and kept as the failure that the waiting
 * call then returns. A process that does not end within two seconds after that is ended here. They make no
 * MPI calls. */
#ifndef WATCH_GUARD_H
#define WATCH_GUARD_H

#include "comm/watch_seat.h"
#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <poll.h>
#include <pthread.h>

struct watch_guard {
    struct watch_board *board;
    int count;                  /* seats */
    int me;                     /* this process's seat */
    double patience;            /* seconds; 0: no limit */
    const char *host;           /* for messages; not copied */
    struct pollfd *descriptors; /* [count + 1] other processes, then the end of this one */
    pthread_t looker;           /* the thread in poll() */
    pthread_t heir;             /* the thread that gets the lock of the next process */
    bool running;

    _Atomic(_Atomic uint32_t *) bell; /* the word that this process's main thread sleeps on, or NULL */
    _Atomic bool failing;             /* somebody writes the text */
    _Atomic bool failed;              /* the text is there */
    char text[512];

    /* of the looker alone */
    int64_t looked;    /* when it last looked */
    int64_t silent;    /* nanoseconds that the present wait has lasted without a sign of life on the node */
    int64_t abandoned; /* when a rank that left on purpose will be missed; 0: none has */
    uint32_t wait_number; /* at the last look */
    uint32_t pulse;       /* sum of all heartbeats at the last look */
};

/* Before the ranks of a node meet: this process takes its seat's lock. */
enum status watch_guard_prepare(struct watch_guard *g);

/* Starts the threads. All seats are filled. */
enum status watch_guard_open(struct watch_guard *g, struct arena *arena);

/* Ends the threads, by the thread that called watch_guard_prepare, as soon as the next process does the same.
 * Takes a zeroed guard. */
void watch_guard_close(struct watch_guard *g);

#endif
