/* comm_alone.h - a group of one rank: every exchange gives back what it was given
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Nothing is copied: a result is the caller's own memory and lives as long as that. */
#ifndef COMM_ALONE_H
#define COMM_ALONE_H

#include "comm/comm.h"

enum status comm_alone_open(struct comm **out);

#endif
