/* serve.h - the command `generate`: from options to a finished run on this rank
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef SERVE_H
#define SERVE_H

#include "launch/options.h"

/* Collective over all ranks that the launcher started; starts and ends MPI. Returns main's exit code, and
 * does not return where the job had to be ended. */
int serve_generate(const struct options *o, const struct environment *environment);

#endif
