/* perplexity.h - the command `perplexity`: how well the model predicts texts
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef PERPLEXITY_H
#define PERPLEXITY_H

#include "launch/options.h"

/* Collective over all ranks that the launcher started; starts and ends MPI. Returns main's exit code, and
 * does not return where the job had to be ended. */
int perplexity_run(const struct options *o, const struct environment *environment);

#endif
