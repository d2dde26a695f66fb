/* fold.h - whole numbers of many ranks into one
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FOLD_H
#define FOLD_H

#include "comm/comm.h"
#include "engine/base/status.h"

#include <stddef.h>

/* STATUS_BUG unless 0 <= count <= COMM_REDUCE_LIMIT. */
enum status fold_check(int count);

/* Bytes that the largest reduction of `ranks` ranks gathers. */
size_t fold_room(int ranks);

/* all [ranks, count]; values [count] becomes the sum, least or greatest of each column. Sums wrap around. */
void fold_columns(enum comm_operation operation, const int64_t *all, int ranks, int64_t *values, int count);

/* The reduce of a table that exchanges rows in a backend's memory: numbers of the host have no place there.
 * STATUS_BUG. */
enum status fold_no_rows(struct comm *c, enum comm_operation operation, int64_t *values, int count);

#endif
