/* cpu_draft.c - tokens that a sequence may go on with, looked up in itself
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu_draft.h"

#include "engine/base/range.h"

#include <string.h>

enum { BLOCK = 64 }; /* tokens looked at together */

/* Do the two tokens that are `apart` stand so in one of BLOCK places? Without branches, so that vectors do
 * it. */
static bool stand(const int32_t *tokens, int apart, int32_t first, int32_t second)
{
    int32_t seen = 0;

    for (int i = 0; i < BLOCK; i++)
        seen |= (tokens[i - apart] == first) & (tokens[i] == second);
    return seen != 0;
}

/* How many tokens before `end` are those before `count`; `most` are enough. */
static int common(const int32_t *tokens, int end, int count, int most)
{
    int n = 0;

    while (n < most && n < end && tokens[end - 1 - n] == tokens[count - 1 - n])
        n++;
    return n;
}

/* Where the longest n-gram that is one at the end ends first; 0: there is none. What is longer than the best
 * so far has its last token and the one that it would be longer by. */
static int find(const int32_t *tokens, int count, int shortest, int longest)
{
    int best = shortest - 1, found = 0;

    for (int end = shortest; end < count && best < longest;) {
        int stop = end + BLOCK < count ? end + BLOCK : count;

        if (stop == end + BLOCK &&
            !stand(tokens + end - 1, best, tokens[count - 1 - best], tokens[count - 1])) {
            end = stop;
            continue;
        }
        for (; end < stop && best < longest; end++) {
            int n = common(tokens, end, count, longest);

            if (n <= best)
                continue;
            best = n;
            found = end;
        }
    }
    return found;
}

void cpu_draft(const void *job, int part, int parts)
{
    const struct draft *d = job;
    struct range mine = range_share(d->count, parts, part);

    for (int i = mine.first; i < mine.first + mine.count; i++) {
        const struct draft_sequence *s = &d->sequences[i];
        int32_t *tokens = d->history + (ptrdiff_t)s->row * d->stride;
        int32_t *drafts = d->found + (ptrdiff_t)i * (1 + DRAFT_TOKENS_MOST);
        int count = s->known + s->added, end;

        memcpy(tokens + s->known, s->tokens, (size_t)s->added * sizeof *tokens);
        end = find(tokens, count, d->shortest, d->longest);
        drafts[0] = end == 0 ? 0 : count - end < s->most ? count - end : s->most;
        memcpy(drafts + 1, tokens + end, (size_t)drafts[0] * sizeof *tokens);
    }
}
