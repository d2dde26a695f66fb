/* reference_draft.h - tokens that a sequence may go on with, looked up in itself
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * An entry of struct kernels; kernels.h says what it does. */
#ifndef REFERENCE_DRAFT_H
#define REFERENCE_DRAFT_H

#include "kernels/kernels.h"

enum status reference_draft(struct kernels *k, const struct draft *d);

#endif
