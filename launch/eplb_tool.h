/* eplb_tool.h - the commands eplb plan, eval, bound and diff: plans without a model and without ranks
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *     plan   problems -> placements, or how good they are
 *     eval   problems and a placement -> how good it is: even and flow split, bound
 *     bound  problems -> what no placement can be below
 *     diff   two placements -> slots that get another expert, and bytes
 *
 * Problems are those of eplb/problem.h. A failure names the file and, in lines of JSON, the line. */
#ifndef EPLB_TOOL_H
#define EPLB_TOOL_H

#include "launch/options.h"

/* This process alone. Answers go to the descriptor `answers`, which is closed. */
enum status eplb_tool_run(const struct options *o, const struct environment *e, int answers);

#endif
