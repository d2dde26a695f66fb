/* comm_mpi_transfer.c - messages of any length by nonblocking MPI, and the wait for them
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/comm_mpi_transfer.h"

#include "comm/mpi_border.h"
#include "comm/watch.h"
#include "engine/base/clock.h"

#include <limits.h>

enum { TAG = 7, NAMED = 8 };

enum status comm_mpi_transfer_open(struct transfer *t, struct arena *arena, size_t messages, size_t most)
{
    size_t limit = messages * (1 + most / t->piece);

    if (t->piece > INT_MAX || limit > INT_MAX)
        return FAIL(STATUS_BUG, "%zu messages in pieces of %zu bytes at once", limit, t->piece);
    t->limit = (int)limit;
    t->count = 0;
    t->pending = 0;
    t->bytes = 0;
    TRY(arena_take_array(arena, limit, sizeof *t->requests, "MPI requests", &t->requests));
    TRY(arena_take_array(arena, limit, sizeof *t->peers, "peers of MPI requests", &t->peers));
    return arena_take_array(arena, limit, sizeof *t->ended, "ended MPI requests", &t->ended);
}

static MPI_Request *next_request(struct transfer *t, int peer, size_t bytes)
{
    t->bytes += bytes;
    t->peers[t->count] = peer;
    t->pending++;
    return &t->requests[t->count++];
}

static enum status check_room(const struct transfer *t, size_t bytes)
{
    size_t messages = bytes / t->piece + (bytes % t->piece > 0);

    if (messages > (size_t)(t->limit - t->count))
        return FAIL(STATUS_BUG, "more than %d MPI requests in one exchange", t->limit);
    return STATUS_OK;
}

enum status comm_mpi_transfer_send(struct transfer *t, int peer, const void *data, size_t bytes)
{
    TRY(check_room(t, bytes));
    for (size_t at = 0; at < bytes; at += t->piece) {
        size_t length = bytes - at < t->piece ? bytes - at : t->piece;
        MPI_Request *request = next_request(t, peer, length);

        TRY(mpi_border_check(
            MPI_Isend((const unsigned char *)data + at, (int)length, MPI_BYTE, peer, TAG, t->mpi, request),
            "to send"));
    }
    return STATUS_OK;
}

enum status comm_mpi_transfer_receive(struct transfer *t, int peer, void *data, size_t bytes)
{
    TRY(check_room(t, bytes));
    for (size_t at = 0; at < bytes; at += t->piece) {
        size_t length = bytes - at < t->piece ? bytes - at : t->piece;
        MPI_Request *request = next_request(t, peer, length);

        TRY(mpi_border_check(
            MPI_Irecv((unsigned char *)data + at, (int)length, MPI_BYTE, peer, TAG, t->mpi, request),
            "to receive"));
    }
    return STATUS_OK;
}

enum status comm_mpi_transfer_test(struct transfer *t, bool *some)
{
    int ended = 0;

    *some = false;
    if (t->pending == 0)
        return STATUS_OK;
    TRY(mpi_border_check(MPI_Testsome(t->count, t->requests, &ended, t->ended, MPI_STATUSES_IGNORE),
                         "to exchange data"));
    if (ended == MPI_UNDEFINED)
        ended = t->pending;
    t->pending -= ended;
    if (t->pending == 0) {
        t->count = 0;
        t->bytes = 0;
    }
    *some = ended > 0;
    return STATUS_OK;
}

int comm_mpi_transfer_missing(const struct transfer *t, int *ranks, int limit)
{
    int found = 0;

    for (int i = 0; i < t->count && found < limit; i++) {
        bool known = t->requests[i] == MPI_REQUEST_NULL;

        for (int k = 0; k < found && !known; k++)
            known = ranks[k] == t->world[t->peers[i]];
        if (!known)
            ranks[found++] = t->world[t->peers[i]];
    }
    return found;
}

enum status comm_mpi_transfer_finish(struct transfer *t)
{
    enum status status = STATUS_OK;
    int missing[NAMED];
    int64_t nap = 0;
    struct wait w;
    bool some;

    wait_open(&w, t->pauses, true, NULL);
    w.bytes = t->bytes;
    while (status == STATUS_OK) {
        status = comm_mpi_transfer_test(t, &some);
        if (status != STATUS_OK || t->pending == 0)
            break;
        if (some)
            wait_again(&w);
        status = wait_round(&w, &nap);
        if (nap > 0) {
            watch_wait_missing(missing, comm_mpi_transfer_missing(t, missing, NAMED));
            clock_sleep(nap);
        }
    }
    wait_close(&w);
    return status;
}
