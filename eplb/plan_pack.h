/* plan_pack.h - replicas for the experts of a site, and a first place for each
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef PLAN_PACK_H
#define PLAN_PACK_H

#include "eplb/plan_state.h"

/* Homes of all experts: groups to nodes, so that the busiest node has as little as can be (exact for few
 * groups). */
void plan_pack_homes(struct plan_layer *l);

/* The site becomes node `node`, or with -1 everything. */
void plan_pack_site(struct plan_layer *l, int node);

/* The spare slots of the site go to the experts whose replicas carry most, as many as can be used. The result
 * is the load of the busiest replica or the mean load, whichever is more: no plan of the site is below. */
int64_t plan_pack_replicas(struct plan_layer *l);

/* Replicas to ranks: heavy ones first, each to the lightest rank that has room and does not hold the expert
 * yet. With l->alike, replicated experts come first, in equal numbers on the ranks. */
void plan_pack_ranks(struct plan_layer *l);

#endif
