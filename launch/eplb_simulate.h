/* eplb_simulate.h - the command eplb simulate: a recorded run on an imagined cluster, under every policy
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EPLB_SIMULATE_H
#define EPLB_SIMULATE_H

#include "launch/options.h"

/* This process alone. Answers go to the descriptor `answers`, which is closed. */
enum status eplb_simulate_run(const struct options *o, const struct environment *e, int answers);

#endif
