/* watch.c - what every rank is doing, and who is missing when a wait lasts too long
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/watch.h"

#include "comm/mpi_border.h"
#include "comm/shared_window.h"
#include "comm/watch_guard.h"
#include "comm/watch_seat.h"
#include "engine/base/arena.h"
#include "engine/base/clock.h"

#include <string.h>
#include <unistd.h>

static struct watch_seat lonely = {.layer = -1}; /* before watch_open, and after watch_close */
static struct watch_seat *seat = &lonely;

static struct watch_guard guard;
static struct shared_window window;
static struct arena arena;
static char host[256];

static int64_t spent[WATCH_PHASE_COUNT]; /* nanoseconds */
static int64_t waited;
static int64_t entered; /* when the present phase began; 0: no phase was entered yet */
static int64_t wait_began;

static void take_seat(const struct watch_seat *before, int world_rank)
{
    struct watch_seat *mine = &guard.board->seat[guard.me];

    atomic_store(&mine->rank, world_rank);
    atomic_store(&mine->pid, (int32_t)getpid());
    atomic_store(&mine->pid_space, watch_seat_pid_space());
    atomic_store(&mine->phase, atomic_load(&before->phase));
    atomic_store(&mine->layer, atomic_load(&before->layer));
}

static enum status open_board(MPI_Comm mpi, double patience)
{
    int node_size;
    int world_rank;
    MPI_Comm node;

    /* One rank brings the whole board, so its size must be known first. */
    TRY(mpi_border_check(MPI_Comm_rank(MPI_COMM_WORLD, &world_rank), "to number ranks"));
    TRY(mpi_border_check(MPI_Comm_split_type(mpi, MPI_COMM_TYPE_SHARED, world_rank, MPI_INFO_NULL, &node),
                         "to find the ranks of a node"));
    MPI_Comm_size(node, &node_size);
    MPI_Comm_rank(node, &guard.me);
    MPI_Comm_free(&node);
    TRY(shared_window_open(&window, &arena, mpi, guard.me == 0 ? watch_seat_board_bytes(node_size) : 0, 0,
                           "the watchdog", "free some of it"));
    guard.board = (void *)window.part[0];
    guard.count = window.size;
    guard.me = window.rank;
    guard.patience = patience;
    guard.host = host;
    take_seat(&lonely, world_rank);
    TRY(watch_guard_prepare(&guard));
    TRY(mpi_border_check(MPI_Barrier(window.node), "to meet"));
    return watch_guard_open(&guard, &arena);
}

enum status watch_open(MPI_Comm mpi, double patience)
{
    enum status status;

    if (guard.running)
        return FAIL(STATUS_BUG, "the watchdog is opened twice");
    if (gethostname(host, sizeof host - 1) != 0)
        strcpy(host, "this node");
    memset(&guard, 0, sizeof guard);
    TRY(arena_open(&arena, "the watchdog", 256 << 10));
    status = open_board(mpi, patience);
    if (status != STATUS_OK) { /* perhaps here alone, so what is collective stays open */
        arena_close(&arena);
        return status;
    }
    seat = &guard.board->seat[guard.me];
    return STATUS_OK;
}

void watch_close(void)
{
    if (!guard.running)
        return;
    watch_leave();
    watch_guard_close(&guard);
    seat = &lonely;
    shared_window_close(
        &window); /* nobody passes before all have come, so no process ends under another's watch */
    arena_close(&arena);
}

void watch_leave(void)
{
    atomic_store(&seat->leaving, 1);
}

void watch_enter(enum watch_phase phase, int layer)
{
    int64_t now = clock_now();
    int32_t old = atomic_load_explicit(&seat->phase, memory_order_relaxed);
    uint32_t beat = atomic_load_explicit(&seat->heartbeat, memory_order_relaxed);

    if (entered)
        spent[old] += now - entered;
    entered = now;
    atomic_store_explicit(&seat->phase, (int32_t)phase, memory_order_relaxed);
    atomic_store_explicit(&seat->layer, layer, memory_order_relaxed);
    atomic_store_explicit(&seat->heartbeat, beat + 1, memory_order_release);
}

void watch_place(enum watch_phase *phase, int *layer)
{
    *phase = (enum watch_phase)atomic_load_explicit(&seat->phase, memory_order_relaxed);
    *layer = atomic_load_explicit(&seat->layer, memory_order_relaxed);
}

void watch_times(int64_t *out, int64_t *waiting)
{
    memcpy(out, spent, sizeof spent);
    if (entered)
        out[atomic_load_explicit(&seat->phase, memory_order_relaxed)] += clock_now() - entered;
    *waiting = waited;
}

void watch_clear_times(void)
{
    memset(spent, 0, sizeof spent);
    waited = 0;
    entered = clock_now();
}

enum status watch_failure(void)
{
    if (!atomic_load_explicit(&guard.failed, memory_order_acquire))
        return STATUS_OK;
    return FAIL(STATUS_UNAVAILABLE, "%s", guard.text);
}

bool watch_told(void)
{
    return atomic_load(&guard.failed) && atomic_load(&guard.board->told);
}

/* The number is odd while a wait lasts; the guard compares it with what it saw a second ago. */
static void next_wait_number(void)
{
    uint32_t number = atomic_load_explicit(&seat->wait_number, memory_order_relaxed);

    atomic_store_explicit(&seat->wait_number, number + 1, memory_order_release);
}

void watch_wait_begin(_Atomic uint32_t *bell)
{
    wait_began = clock_now();
    atomic_store_explicit(&seat->missing_count, -1, memory_order_relaxed);
    atomic_store_explicit(&guard.bell, bell, memory_order_release);
    next_wait_number();
}

void watch_wait_end(void)
{
    next_wait_number();
    atomic_store_explicit(&guard.bell, NULL, memory_order_release);
    waited += clock_now() - wait_began;
}

void watch_wait_missing(const int *ranks, int count)
{
    int kept = count < WATCH_MISSING_LIMIT ? count : WATCH_MISSING_LIMIT;

    for (int i = 0; i < kept; i++)
        atomic_store_explicit(&seat->missing[i], ranks[i], memory_order_relaxed);
    atomic_store_explicit(&seat->missing_count, kept, memory_order_release);
}
