/* reference_draft.c - tokens that a sequence may go on with, looked up in itself
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/reference/reference_draft.h"

#include <string.h>

/* Where the first n-gram that is the one at the end ends; 0: there is no other. */
static int first_end(const int32_t *tokens, int count, int n)
{
    for (int end = n; end < count; end++)
        if (memcmp(tokens + end - n, tokens + count - n, (size_t)n * sizeof *tokens) == 0)
            return end;
    return 0;
}

enum status reference_draft(struct kernels *k, const struct draft *d)
{
    (void)k;
    TRY(draft_check(d));
    for (int i = 0; i < d->count; i++) {
        const struct draft_sequence *s = &d->sequences[i];
        int32_t *tokens = d->history + (ptrdiff_t)s->row * d->stride;
        int32_t *found = d->found + (ptrdiff_t)i * (1 + DRAFT_TOKENS_MOST);
        int count = s->known + s->added, end = 0;

        memcpy(tokens + s->known, s->tokens, (size_t)s->added * sizeof *tokens);
        for (int n = d->longest; n >= d->shortest && end == 0; n--)
            end = first_end(tokens, count, n);
        found[0] = 0;
        for (int next = end; end > 0 && next < count && found[0] < s->most; next++)
            found[1 + found[0]++] = tokens[next];
    }
    return STATUS_OK;
}
