/* options_nccl.h - settings of NCCL in the environment that its exchanges could not work with
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef OPTIONS_NCCL_H
#define OPTIONS_NCCL_H

#include "engine/base/status.h"

/* Where rows are to go by NCCL. STATUS_USAGE names the setting and why it must not be. */
enum status options_nccl_check(void);

#endif
