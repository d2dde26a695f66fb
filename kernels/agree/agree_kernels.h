/* agree_kernels.h - every entry but attention, beside the reference
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef AGREE_KERNELS_H
#define AGREE_KERNELS_H

#include "kernels/agree/agree.h"

extern const struct agree_check agree_kernels_checks[];

/* Rotation of more rows than a device has tables for. */
void agree_kernels_rotate_many(struct kernels *reference, struct kernels *k);

/* Routes among more experts than a block of a device has room for. */
void agree_kernels_route_many(struct kernels *reference, struct kernels *k);

#endif
