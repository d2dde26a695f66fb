/* relay.c - one rank's message to many, passed on by those who have it
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/relay.h"

#include <stdint.h>
#include <string.h>

enum { CHILDREN = 8 };

struct header {
    uint64_t bytes;   /* of the message */
    uint64_t travels; /* bytes of it that are sent: none when there are too many */
};

size_t relay_buffer_bytes(size_t most)
{
    return most + RELAY_HEADER > RELAY_FIRST ? most + RELAY_HEADER : RELAY_FIRST;
}

void relay_fill(unsigned char *buffer, const void *data, size_t bytes, size_t most)
{
    struct header header = {.bytes = bytes, .travels = bytes <= most ? bytes : 0};

    memcpy(buffer, &header, sizeof header);
    if (header.travels > 0)
        memcpy(buffer + RELAY_HEADER, data, bytes);
}

enum status relay_length(const unsigned char *buffer, size_t most, size_t *bytes)
{
    struct header header;

    memcpy(&header, buffer, sizeof header);
    if (header.bytes > most)
        return FAIL(STATUS_BUG, "a broadcast of %zu bytes, there is room for %zu", (size_t)header.bytes,
                    most);
    *bytes = header.bytes;
    return STATUS_OK;
}

static size_t travelling(const unsigned char *buffer)
{
    struct header header;

    memcpy(&header, buffer, sizeof header);
    return RELAY_HEADER + header.travels;
}

/* Numbers count from the root: v passes on to 8 v + 1 ... 8 v + 8. */
static enum status pass_on(struct transfer *t, const int *ranks, int count, int root, int v,
                           const unsigned char *data, size_t bytes)
{
    for (int child = CHILDREN * v + 1; child <= CHILDREN * v + CHILDREN && child < count; child++)
        TRY(comm_mpi_transfer_send(t, ranks[(child + root) % count], data, bytes));
    return STATUS_OK;
}

enum status relay_pass(struct transfer *t, const int *ranks, int count, int root, int me,
                       unsigned char *buffer)
{
    int v = (me - root + count) % count;
    int parent = v > 0 ? ranks[((v - 1) / CHILDREN + root) % count] : -1;
    size_t total;
    size_t rest;

    if (parent >= 0) {
        TRY(comm_mpi_transfer_receive(t, parent, buffer, RELAY_FIRST));
        TRY(comm_mpi_transfer_finish(t));
    }
    total = travelling(buffer);
    rest = total > RELAY_FIRST ? total - RELAY_FIRST : 0;
    TRY(pass_on(t, ranks, count, root, v, buffer, total - rest));
    if (parent >= 0 && rest > 0) {
        TRY(comm_mpi_transfer_receive(t, parent, buffer + RELAY_FIRST, rest));
        TRY(comm_mpi_transfer_finish(t));
    }
    TRY(pass_on(t, ranks, count, root, v, buffer + RELAY_FIRST, rest));
    return comm_mpi_transfer_finish(t);
}
