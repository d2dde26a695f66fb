/* balance_report.h - what the balancer saw and did, as text and as JSON
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef BALANCE_REPORT_H
#define BALANCE_REPORT_H

#include "engine/balance.h"

#include <jansson.h>

/* "12 experts moved (1.7 MiB, 3.1 ms), 2 of 40 plans were worth it; waiting"; "" without the balancer. */
void balance_report_text(const struct balance *b, char *text, size_t bytes);

/* Figures of the experts' work: per layer, and rank by rank over time. Also without the balancer. The caller
 * owns *out; NULL in a model without experts. */
enum status balance_report_work(const struct balance *b, json_t **out);

/* What the balancer did. NULL without the balancer. */
enum status balance_report_moves(const struct balance *b, json_t **out);

#endif
