/* eplb_print.h - plans as text, JSON and CSV
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EPLB_PRINT_H
#define EPLB_PRINT_H

#include "eplb/planned.h"
#include "eplb/problem.h"

#include <stdio.h>

/* One line: {"id", "phy2log", "log2phy", "logcnt", "imbalance"}; whole: the shape and SGLang's key as well.
 * imbalance [layers]. */
void eplb_print_json(FILE *out, const struct problem *problem, const struct planned *p,
                     const double *imbalance, bool whole);

/* A layer a line, the expert of each slot. */
void eplb_print_csv(FILE *out, const struct planned *p);

/* "id 3: 2 layers, 12 experts in 16 slots of 8 ranks on 2 nodes, 4 groups, hierarchical". */
void eplb_print_head(FILE *out, const struct problem *problem, enum plan_levels levels);

/* A table, a line for each layer, and the means. before and moves are NULL where there are none; both
 * [layers]. */
void eplb_print_layers(FILE *out, const struct planned_layer *layer, const double *before, const int *moves,
                       int layers);

/* A bar for each rank, as multiples of the mean. */
void eplb_print_ranks(FILE *out, const double *work, int ranks);

#endif
