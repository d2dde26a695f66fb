/* agree_deal.h - rows dealt out to ranks and grouped where they arrive, beside the reference and by their
 * promises
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef AGREE_DEAL_H
#define AGREE_DEAL_H

#include "kernels/agree/agree.h"

void agree_deal(struct kernels *reference, struct kernels *k);

#endif
