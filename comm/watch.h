/* watch.h - what every rank is doing, and who is missing when a wait lasts too long
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The engine says where it is (watch_enter); comms say whom they wait for. One thread per process looks at
 * this once a second and at the life of the other processes of the node at once (pidfd). What it finds - a
 * dead process, a wait beyond the patience - it writes as one line and keeps as the failure that the waiting
 * call then returns.
 *
 * One life per process: watch_open after MPI has started, watch_close before MPI ends, or watch_leave where
 * the process ends the job because of a failure. Everything else works before watch_open as well; then
 * nothing is watched. */
#ifndef WATCH_H
#define WATCH_H

#include "comm/watch_phase.h"
#include "engine/base/status.h"

#include <mpi.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Collective over `mpi` (all ranks of the run). A wait in which no rank of the node enters a phase for
 * `patience` seconds (ten times as long in WATCH_START and WATCH_LOAD) fails; 0: never. */
enum status watch_open(MPI_Comm mpi, double patience);

/* Collective; call it when all is well. */
void watch_close(void);

/* From now on this process ends by its own decision and nobody shall call it dead. For use before MPI_Abort;
 * safe in a signal handler. */
void watch_leave(void);

/* This process enters a phase of a layer (-1: of no layer). Also adds up the time spent in each phase. */
void watch_enter(enum watch_phase phase, int layer);

/* Where this process is: the last watch_enter. */
void watch_place(enum watch_phase *phase, int *layer);

/* Nanoseconds spent in each phase since watch_clear_times; out [WATCH_PHASE_COUNT]. Waiting inside comm calls
 * is counted in the phase that waits, and once more in *waiting. */
void watch_times(int64_t *out, int64_t *waiting);
void watch_clear_times(void);

/* STATUS_OK, or STATUS_UNAVAILABLE with the line the watchdog found. Wait loops ask this in every round. */
enum status watch_failure(void);

/* Has the line of watch_failure been written to stderr by a process of this node, so that repeating it is
 * noise? */
bool watch_told(void);

/* For comms, around a wait that does not succeed at once. `bell`: a word that the waiting thread may sleep on
 * and that the watchdog wakes; NULL when it sleeps otherwise, never longer than half a second. */
void watch_wait_begin(_Atomic uint32_t *bell);
void watch_wait_end(void);

/* Whom the present wait is for: ranks of MPI_COMM_WORLD. count -1, and until this is called: all others. */
void watch_wait_missing(const int *ranks, int count);

#endif
