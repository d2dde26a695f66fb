/* selftest.h - the command `bench selftest`: is every entry right here, and how fast are memory and exchanges
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef SELFTEST_H
#define SELFTEST_H

#include "launch/options.h"

/* Collective over all ranks that the launcher started; starts and ends MPI. Returns main's exit code, and
 * does not return where the job had to be ended. */
int selftest_run(const struct options *o, const struct environment *environment);

#endif
