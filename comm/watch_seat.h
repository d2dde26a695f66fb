/* watch_seat.h - what a rank tells the others of its node about itself, and how to find who holds all up
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The board lies in memory shared by the node. A seat is written by its rank alone and read by everybody. */
#ifndef WATCH_SEAT_H
#define WATCH_SEAT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WATCH_MISSING_LIMIT = 8 };

struct watch_seat {
    _Alignas(64) _Atomic int32_t rank; /* in MPI_COMM_WORLD */
    _Atomic int32_t pid;
    _Atomic uint64_t pid_space; /* in which the pid means something */
    _Atomic int32_t phase;
    _Atomic int32_t layer;         /* -1: of no layer */
    _Atomic uint32_t heartbeat;    /* grows whenever a phase is entered */
    _Atomic uint32_t wait_number;  /* odd while it waits */
    _Atomic int32_t missing_count; /* ranks it waits for; -1: all others */
    _Atomic int32_t missing[WATCH_MISSING_LIMIT];
    _Atomic int32_t leaving; /* it ends by its own decision */
    pthread_mutex_t
        life; /* its main thread holds it; robust, so its death is told before all else of it is gone */
};

struct watch_board {
    _Alignas(64) _Atomic int32_t told; /* somebody of this node has written the line about the failure */
    struct watch_seat seat[];
};

/* Bytes of a board for `count` ranks. */
size_t watch_seat_board_bytes(int count);

/* The name space of process ids that this process lives in; 0 when the system does not say. */
uint64_t watch_seat_pid_space(void);

/* "phase dispatch of layer 7", "phase load". */
void watch_seat_place(const struct watch_seat *seat, char *text, size_t bytes);

/* "rank 3 (pid 4711 on HOST), which is stopped in phase dispatch of layer 7": of those that the rank of seat
 * `me` waits for, and that these wait for in turn, the one that is dead or stopped, else the one that does
 * not wait itself. */
void watch_seat_culprit(const struct watch_board *board, int count, int me, const char *host, char *text,
                        size_t bytes);

#endif
