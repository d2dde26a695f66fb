/* options_speculative.h - --speculative-config: vLLM's JSON for speculation
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef OPTIONS_SPECULATIVE_H
#define OPTIONS_SPECULATIVE_H

#include "engine/base/status.h"
#include "launch/options_table.h"

/* Takes the JSON, if there is any, into the other fields. STATUS_USAGE. */
enum status options_speculative_check(struct options_speculative *o);

#endif
