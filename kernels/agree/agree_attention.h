/* agree_attention.h - attention, and norms over heads of several ranks, beside the reference and in other
 * company
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef AGREE_ATTENTION_H
#define AGREE_ATTENTION_H

#include "kernels/agree/agree.h"

extern const struct agree_check agree_attention_checks[];

#endif
