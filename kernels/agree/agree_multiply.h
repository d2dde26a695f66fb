/* agree_multiply.h - rows by weights and by their experts, beside the reference
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef AGREE_MULTIPLY_H
#define AGREE_MULTIPLY_H

#include "kernels/agree/agree.h"

extern const struct agree_check agree_multiply_checks[];

/* Very wide rows: only for backends that may cut them into turns, as they take a while. */
extern const struct agree_check agree_wide_checks[];

#endif
