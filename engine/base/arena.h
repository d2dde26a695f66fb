/* arena.h - memory taken at the start and given back all at once
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * An arena reserves its bytes when it is opened and hands them out from the front. Address space is reserved,
 * pages are only used once touched. After arena_seal nothing more can be taken: a step that tries is a bug.
 */
#ifndef ARENA_H
#define ARENA_H

#include "engine/base/status.h"

#include <stddef.h>

struct arena {
    const char *name; /* for messages; not copied */
    unsigned char *base;
    size_t size; /* bytes reserved */
    size_t used; /* bytes handed out, padding included */
    bool sealed;
};

enum { ARENA_ALIGN = 64 }; /* a cache line, and the widest vector */

/* Reserves `bytes` (rounded up to 2 MiB; huge pages are asked for where they are full). STATUS_NO_MEMORY
 * names the arena and the size. */
enum status arena_open(struct arena *arena, const char *name, size_t bytes);

/* `bytes` of zeroed memory, aligned to ARENA_ALIGN, in *out. `what` is for the message. Zero bytes give a
 * valid pointer. */
enum status arena_take(struct arena *arena, size_t bytes, const char *what, void *out);

/* count * size with an overflow check. */
enum status arena_take_array(struct arena *arena, size_t count, size_t size, const char *what, void *out);

/* From now on arena_take fails with STATUS_BUG. */
void arena_seal(struct arena *arena);

/* Gives everything back; takes a zeroed arena. */
void arena_close(struct arena *arena);

#endif
