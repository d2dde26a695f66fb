/* agree_draft.h - drafts beside the reference
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef AGREE_DRAFT_H
#define AGREE_DRAFT_H

#include "kernels/agree/agree.h"

void agree_draft(struct kernels *reference, struct kernels *k);

#endif
