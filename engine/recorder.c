/* recorder.c - which steps the backend may record and replay, and what tells one from another
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/recorder.h"

enum { LEAST_STEP = 256, STEPS_OF_REACH = 4 };

void recorder_open(struct recorder *r, const struct config *c, struct step *s, int positions, bool eager)
{
    const struct grid *g = s->grid;

    *r = (struct recorder){.positions = positions};
    r->on = !eager && s->kernels->record && g->rows->recordable && g->group_rows->recordable &&
            g->groups + 2 <= RECORDING_KEY_MOST;
    s->by_row = r->on;
    for (int layer = 0; layer < c->layers; layer++)
        r->bounded = r->bounded || c->layer[layer].mask != MASK_FULL;
}

/* Positions are rounded to so many: the reach of a key is at most a quarter more than that of a step. */
static int step_of(int reach)
{
    int step = LEAST_STEP;

    while (step <= reach / (2 * STEPS_OF_REACH))
        step *= 2;
    return step;
}

/* The first and the last position that a step of this key can have. */
static void round_positions(const struct recorder *r, const struct batch *b, int *least, int *most)
{
    int step, last = 0;
    int first = b->piece_count > 0 ? b->pieces[0].position : 0;

    for (int i = 0; i < b->piece_count; i++) {
        int position = b->pieces[i].position;
        int behind = position + b->pieces[i].rows;

        first = position < first ? position : first;
        last = behind > last + 1 ? behind - 1 : last;
    }
    step = step_of(last);
    *least = r->bounded ? first / step * step : 0;
    *most = last > r->positions - step ? r->positions - 1 : last / step * step + step - 1;
    if (*most < last)
        *most = last;
}

enum status recorder_begin(struct recorder *r, struct step *s, const struct batch *b,
                           const struct placement *p, bool waits, enum recording_way *way)
{
    struct recording recording = {.key = r->key,
                                  .count = s->grid->groups + 2,
                                  .weights = p ? p->version : 0,
                                  .positions = s->positions,
                                  .rows = s->rows};
    int most_rows = 0;

    *way = RECORDING_NONE;
    if (!batch_decodes(b))
        return STATUS_OK;
    for (int group = 0; r->on && group < s->grid->groups; group++) {
        int rows = batch_group_rows(b, group).count;

        r->key[group + 2] = rows;
        most_rows = rows > most_rows ? rows : most_rows;
    }
    if (r->on && !waits && most_rows <= RECORDING_ROWS_MOST) {
        round_positions(r, b, &recording.least, &recording.most);
        r->key[0] = recording.least;
        r->key[1] = recording.most;
        TRY(s->kernels->record(s->kernels, &recording, way));
    }
    r->steps[*way]++;
    return STATUS_OK;
}
