/* hosted.h - exchanges between emulated devices as if they moved memory of the host, so that tests of those
 * fit
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * What is sent is uploaded and, once the call is queued, overwritten on the stream; what arrived by this call
 * and by the one before is downloaded after each call, so both must still be whole. A result that is sent
 * again goes from device to device. */
#ifndef HOSTED_H
#define HOSTED_H

#include "comm/comm.h"

/* Collective over `inner`, which is owned from then on. `whole` NULL, or what was opened so by more ranks.
 * nodes above 0: rank r is on node r % nodes, and each exchange is held to go by the nodes' communicators or
 * not. */
enum status hosted_open(struct comm *inner, struct comm *whole, int part, int device, int nodes, size_t most,
                        struct comm **out);

#endif
