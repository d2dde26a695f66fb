/* bench.h - the commands `bench throughput` and `bench latency`
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Options and fields of the report are those of vLLM's benchmarks of the same names; docs/running.md has all
 * of them, engine/timeline.h the formulas. */
#ifndef BENCH_H
#define BENCH_H

#include "launch/options.h"

/* Both are collective over all ranks that the launcher started; they start and end MPI. They return main's
 * exit code, and do not return where the job had to be ended. */
int bench_throughput(const struct options *o, const struct environment *environment);
int bench_latency(const struct options *o, const struct environment *environment);

#endif
