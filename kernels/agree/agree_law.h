/* agree_law.h - a row has the same bytes whatever else is computed beside it
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef AGREE_LAW_H
#define AGREE_LAW_H

#include "kernels/agree/agree.h"

extern const struct agree_check agree_law_checks[];

#endif
