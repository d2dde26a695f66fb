/* plan_search.h - exchanges that take load off the busiest rank of a site
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef PLAN_SEARCH_H
#define PLAN_SEARCH_H

#include "eplb/plan_state.h"

/* Exchanges until the busiest rank has at most `target` or nothing helps: replicas change places, or an
 * expert gets a slot of another that has several. The largest load falls, or fewer ranks have it, with each.
 */
void plan_search_descend(struct plan_layer *l, int64_t target);

/* The same, then `kicks` times a few random exchanges and a descent from there; what is best stays. Random
 * numbers go on from l->random. */
void plan_search_kick(struct plan_layer *l, int64_t target, int kicks);

#endif
