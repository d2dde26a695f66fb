/* reference.h - the backend that defines what is right: plain C, single precision, one thread
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Every entry is written as its formula. Weights keep the precision of their source (BF16 stays BF16, F16
 * and F8_E4M3 times its scales become F32); keys and values are F32, or rounded as the other backends keep
 * them. Those are compared with this one, entry by entry. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include "kernels/kernels.h"

/* Opens the backend. *out is closed by (*out)->close(*out). */
enum status reference_open(struct kernels **out);

/* Keys and values are rounded to BF16 from now on, in the room of F32. */
void reference_round_cache(struct kernels *k);

#endif
