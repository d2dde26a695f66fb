/* eplb_poc.h - the command eplb poc: the published experiment, and what its figures mean for ranks
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * 128 experts, 10,000 tokens, loads by Zipf's law so that the busiest expert has 341, 4.36 times the mean.
 * The published 1.20 is the load of the busiest *replica* over the mean load of an *expert*: more slots lower
 * it without end. What limits speed is the busiest rank; both stand beside each other. */
#ifndef EPLB_POC_H
#define EPLB_POC_H

#include "launch/options.h"

/* This process alone. Answers go to the descriptor `answers`, which is closed. */
enum status eplb_poc_run(const struct options *o, const struct environment *e, int answers);

#endif
