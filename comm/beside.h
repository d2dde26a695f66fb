/* beside.h - exchanges that may go beside what the backend does meanwhile
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * One life: begin, whatever has nothing to do with it, end, and what arrived may be read. Where the comm has
 * one way only, or nothing is to be done meanwhile, all of it happens at the beginning. */
#ifndef BESIDE_H
#define BESIDE_H

#include "comm/comm.h"

struct beside {
    const void *arrived; /* memory of the comm */
    bool open;           /* begun and not yet ended */
};

/* What is to be beside what: nothing; all that is queued from now on; that, and what was queued since the
 * last thing went beside as well, of which it takes nothing. */
enum beside_what { BESIDE_NOTHING, BESIDE_NEXT, BESIDE_LAST };

/* For several exchanges with work between them: all that is asked of the comm and its backend from enter to
 * leave goes beside. `last`: what the last exchange brought; `failed`: what all of it came to. */
enum status beside_enter(struct beside *b, struct comm *c, enum beside_what what);
enum status beside_leave(struct beside *b, struct comm *c, const void *last, enum status failed);

/* As comm's exchange; `meanwhile` false: nothing will be done between. */
enum status beside_begin(struct beside *b, struct comm *c, bool meanwhile, const void *mine,
                         const size_t *bytes);
enum status beside_end(struct beside *b, struct comm *c);

#endif
