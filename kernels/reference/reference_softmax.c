/* reference_softmax.c - the parts of a soft-max's denominator
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/reference/reference_softmax.h"

#include "kernels/reference/reference_rows.h"

#include <math.h>

struct softmax_chunk reference_softmax_chunk(const float *logits, int count)
{
    struct softmax_chunk c = {.most = -HUGE_VAL};

    for (int i = 0; i < count; i++)
        if ((double)logits[i] > c.most)
            c.most = (double)logits[i];
    for (int i = 0; i < count; i++) {
        double x = (double)logits[i];

        if (isnan(x))
            c.sum += x;
        else if (c.most > -HUGE_VAL)
            c.sum += exp(x - c.most);
    }
    return c;
}

enum status reference_softmax(struct kernels *k, const struct softmax_chunks *s)
{
    int columns = s->logits.columns;
    struct softmax_chunk *out = s->chunk;

    (void)k;
    TRY(softmax_check(s));
    for (int t = 0; t < s->logits.rows; t++) {
        const float *logits = reference_rows_at(s->logits, t);

        for (int i = 0; i < columns; i += SOFTMAX_CHUNK)
            *out++ = reference_softmax_chunk(logits + i,
                                             columns - i < SOFTMAX_CHUNK ? columns - i : SOFTMAX_CHUNK);
        s->logit[t] = s->column[t] < 0 ? 0.0f : logits[s->column[t]];
    }
    return STATUS_OK;
}
