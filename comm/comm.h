/* comm.h - the table of exchanges: all that the floors above know of the network
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * One struct comm is one group of ranks, and every function below is collective over it: all its ranks call
 * the same functions in the same order with agreeing arguments. No floating-point number is ever added here.
 *
 * What is received lies in memory of the comm (for ranks of one node the sender wrote it there, nobody copied
 * it again) and stays valid until the second next call on the same comm. Sizes never need a message: whoever
 * exchanges knows the counts of all, because they follow from the batch or were gathered before.
 *
 * A wait longer than the watchdog's patience, or the death of a rank, names the rank that is missing, its
 * layer and its phase; then every call fails with STATUS_UNAVAILABLE. A call never hangs. Sizes for which
 * there is no room are STATUS_BUG on all ranks alike. After any other failure of a call a group can only be
 * closed. */
#ifndef COMM_H
#define COMM_H

#include "engine/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum comm_operation { COMM_SUM, COMM_MIN, COMM_MAX };

struct comm {
    const char *kind; /* "mpi", "shared", "alone" */
    int rank;         /* of this process in the group */
    int size;
    bool recordable; /* its calls but broadcast only queue, always the same: kernels' record can keep them */

    /* `bytes` of `data` at rank `root` appear at *out on all ranks (at the root too). Other ranks learn
     * *bytes. */
    enum status (*broadcast)(struct comm *c, int root, const void *data, size_t *bytes, const void **out);

    /* Rank r gives bytes[r] bytes; *all holds those of rank 0, then rank 1, ... without gaps. bytes [size],
     * equal everywhere. */
    enum status (*all_gather)(struct comm *c, const void *mine, const size_t *bytes, const void **all);

    /* As all_gather, but only rank `root` gets *all; elsewhere it is NULL. */
    enum status (*gather)(struct comm *c, int root, const void *mine, const size_t *bytes, const void **all);

    /* All-to-all with uneven counts. bytes [size, size]: bytes[s * size + d] go from s to d; equal
     * everywhere. `mine` holds what this rank sends, to rank 0 first, without gaps; *arrivals what it gets,
     * from rank 0 first, without gaps. */
    enum status (*exchange)(struct comm *c, const void *mine, const size_t *bytes, const void **arrivals);

    /* As exchange, beside what is queued meanwhile on a backend whose memory is apart: begin comes behind all
     * that was queued before, and *arrivals can be read by what is queued after its end. Until then `mine`
     * stays as it is. Other calls may begin between the two, which count for how long arrivals stay valid.
     * NULL, all four: the comm has one way only. */
    enum status (*exchange_begin)(struct comm *c, const void *mine, const size_t *bytes,
                                  const void **arrivals);
    enum status (*exchange_end)(struct comm *c, const void *arrivals);

    /* For several exchanges with work of the backend between them: all that is asked of both from aside to
     * back goes beside what is queued meanwhile, in its own order, behind all that was queued before;
     * `behind` false: only behind what was queued before the last aside. Given to exchange_end, the arrivals
     * of the last exchange stand for all of it; NULL: there was none. back, after failures too. */
    enum status (*aside)(struct comm *c, bool behind);
    enum status (*back)(struct comm *c, const void *arrivals);

    /* `bytes` of zeroed memory of this rank that all ranks of its node see; part [size]: where each rank's
     * is, NULL for ranks of other nodes. A node counts as several of `node_limit` ranks each; 0: it does not.
     * Once, at the start; it stays until close. Whoever writes there for others tells them by another call.
     * `what` is for messages, `advice` ends the one of STATUS_NO_MEMORY, which all ranks return alike. NULL:
     * the comm has no such memory. */
    enum status (*share)(struct comm *c, size_t bytes, int node_limit, const char *what, const char *advice,
                         void **part);

    /* values[i] becomes the sum, least or greatest over all ranks; exact, in place. count <=
     * COMM_REDUCE_LIMIT. */
    enum status (*reduce)(struct comm *c, enum comm_operation operation, int64_t *values, int count);

    void (*close)(struct comm *c); /* collective; frees the table as well */
};

enum { COMM_REDUCE_LIMIT = 64 };

#endif
