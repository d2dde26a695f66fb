/* beside.c - exchanges that may go beside what the backend does meanwhile
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/beside.h"

enum status beside_begin(struct beside *b, struct comm *c, bool meanwhile, const void *mine,
                         const size_t *bytes)
{
    b->open = meanwhile && c->exchange_begin;
    if (b->open)
        return c->exchange_begin(c, mine, bytes, &b->arrived);
    return c->exchange(c, mine, bytes, &b->arrived);
}

enum status beside_enter(struct beside *b, struct comm *c, enum beside_what what)
{
    b->open = what != BESIDE_NOTHING && c->aside;
    return b->open ? c->aside(c, what == BESIDE_NEXT) : STATUS_OK;
}

enum status beside_leave(struct beside *b, struct comm *c, const void *last, enum status failed)
{
    enum status back = b->open ? c->back(c, last) : STATUS_OK;

    b->arrived = last;
    return failed == STATUS_OK ? back : failed;
}

enum status beside_end(struct beside *b, struct comm *c)
{
    bool open = b->open;

    b->open = false;
    return open ? c->exchange_end(c, b->arrived) : STATUS_OK;
}
