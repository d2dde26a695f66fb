/* options_balancer.h - options of the balancer that must fit together, and vLLM's JSON for them
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef OPTIONS_BALANCER_H
#define OPTIONS_BALANCER_H

#include "engine/base/status.h"
#include "launch/options_table.h"

/* Takes --eplb-config into the other fields, then checks them. STATUS_USAGE. */
enum status options_balancer_check(struct options_balancer *o);

#endif
