/* shared_window.c - memory that the ranks of one node share
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/shared_window.h"

#include "comm/mpi_border.h"

#include <stdint.h>
#include <string.h>
#include <sys/statvfs.h>

/* Where both MPIs put windows unless they are told otherwise. */
static const char SHARED_FOLDER[] = "/dev/shm";

/* A page that cannot be had is a bus error at the first touch, so ask beforehand. All ranks of `mpi` agree.
 */
static enum status check_room(const struct shared_window *w, MPI_Comm mpi, const char *what,
                              const char *advice)
{
    uint64_t mine = w->bytes;
    uint64_t needed = 0;
    uint64_t room = UINT64_MAX;
    struct statvfs folder;
    int lacks;
    int anywhere;

    TRY(mpi_border_check(MPI_Allreduce(&mine, &needed, 1, MPI_UINT64_T, MPI_SUM, w->node),
                         "to add up sizes"));
    if (w->rank == 0 && w->size > 1 && statvfs(SHARED_FOLDER, &folder) == 0)
        room = (uint64_t)folder.f_bavail * folder.f_frsize;
    TRY(mpi_border_check(MPI_Bcast(&room, 1, MPI_UINT64_T, 0, w->node), "to tell the room"));
    lacks = needed > room;
    TRY(mpi_border_check(MPI_Allreduce(&lacks, &anywhere, 1, MPI_INT, MPI_MAX, mpi), "to agree"));
    if (!anywhere)
        return STATUS_OK;
    if (!lacks)
        return FAIL(STATUS_NO_MEMORY, "shared memory for %s: another node has not enough of it", what);
    return FAIL(
        STATUS_NO_MEMORY,
        "shared memory for %s: the %d ranks of this node need %.1f MiB, %s has %.1f MiB free; make it larger "
        "(containers: --shm-size), or %s",
        what, w->size, (double)needed / 1048576.0, SHARED_FOLDER, (double)room / 1048576.0, advice);
}

static unsigned char *aligned(void *base)
{
    uintptr_t address = (uintptr_t)base;
    uintptr_t up = (address + ARENA_ALIGN - 1) & ~(uintptr_t)(ARENA_ALIGN - 1);

    return (unsigned char *)base + (up - address);
}

/* Every mapping begins on a page, so a part has the same alignment in all processes. */
static enum status map_parts(struct shared_window *w, struct arena *arena, size_t bytes)
{
    MPI_Info info;
    MPI_Aint length;
    void *base;
    int unit;
    int code;

    TRY(arena_take_array(arena, (size_t)w->size, sizeof *w->part, "addresses of shared memory", &w->part));
    TRY(mpi_border_check(MPI_Info_create(&info), "to make an info object"));
    MPI_Info_set(info, "alloc_shared_noncontig", "true");
    code = MPI_Win_allocate_shared((MPI_Aint)(bytes + ARENA_ALIGN), 1, info, w->node, &base, &w->window);
    MPI_Info_free(&info);
    if (code != MPI_SUCCESS) {
        w->window = MPI_WIN_NULL;
        return mpi_border_check(code, "to share memory among the ranks of a node");
    }
    TRY(mpi_border_check(MPI_Win_lock_all(MPI_MODE_NOCHECK, w->window), "to open shared memory"));
    for (int p = 0; p < w->size; p++) {
        TRY(mpi_border_check(MPI_Win_shared_query(w->window, p, &length, &unit, &base),
                             "to find shared memory"));
        w->part[p] = aligned(base);
    }
    memset(w->part[w->rank], 0, bytes);
    return mpi_border_check(MPI_Barrier(w->node), "to meet after sharing memory");
}

static enum status find_node(struct shared_window *w, MPI_Comm mpi, int node_limit)
{
    MPI_Comm whole;
    int rank;

    TRY(mpi_border_check(MPI_Comm_rank(mpi, &rank), "to number ranks"));
    TRY(mpi_border_check(MPI_Comm_split_type(mpi, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &w->node),
                         "to find the ranks of a node"));
    MPI_Comm_rank(w->node, &w->rank);
    if (node_limit > 0) {
        whole = w->node;
        TRY(mpi_border_check(MPI_Comm_split(whole, w->rank / node_limit, rank, &w->node),
                             "to divide a node"));
        MPI_Comm_free(&whole);
        MPI_Comm_rank(w->node, &w->rank);
    }
    MPI_Comm_size(w->node, &w->size);
    MPI_Comm_set_errhandler(w->node, MPI_ERRORS_RETURN);
    return STATUS_OK;
}

enum status shared_window_open(struct shared_window *w, struct arena *arena, MPI_Comm mpi, size_t bytes,
                               int node_limit, const char *what, const char *advice)
{
    enum status status;

    memset(w, 0, sizeof *w);
    w->window = MPI_WIN_NULL;
    TRY(find_node(w, mpi, node_limit));
    w->bytes = bytes;
    status = check_room(w, mpi, what, advice);
    if (status == STATUS_OK)
        status = map_parts(w, arena, bytes);
    if (status != STATUS_OK)
        shared_window_close(w);
    return status;
}

void shared_window_close(struct shared_window *w)
{
    if (w->size == 0)
        return;
    if (w->window != MPI_WIN_NULL) {
        MPI_Win_unlock_all(w->window);
        MPI_Win_free(&w->window);
    }
    MPI_Comm_free(&w->node);
    memset(w, 0, sizeof *w);
}
