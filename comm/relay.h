/* relay.h - one rank's message to many, passed on by those who have it
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The receivers do not know the length. A first piece of fixed size carries it in front of the data; what
 * does not fit follows. Every receiver passes both on to eight others at most. */
#ifndef RELAY_H
#define RELAY_H

#include "comm/comm_mpi_transfer.h"

#include <stddef.h>

enum { RELAY_HEADER = 64, RELAY_FIRST = 16 << 10 };

/* Bytes of a buffer for messages of `most` bytes. */
size_t relay_buffer_bytes(size_t most);

/* Puts the message into the root's buffer, behind its header. */
void relay_fill(unsigned char *buffer, const void *data, size_t bytes, size_t most);

/* The length of the message in a buffer; STATUS_BUG when it is more than `most` (then nothing but the header
 * came). */
enum status relay_length(const unsigned char *buffer, size_t most, size_t *bytes);

/* The message passes from the buffer of ranks[root] to those of all `count` ranks; this process is ranks[me].
 * `ranks` are of t->mpi. Returns when the buffer is complete and passed on. */
enum status relay_pass(struct transfer *t, const int *ranks, int count, int root, int me,
                       unsigned char *buffer);

#endif
