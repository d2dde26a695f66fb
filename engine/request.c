/* request.c - what one user asked for, and how it takes what a step brought (rank 0 only)
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/request.h"

#include "engine/base/clock.h"

enum status request_ground_open(struct request_ground *g, struct arena *arena, int vocabulary,
                                const struct tokenizer *tokenizer, const int *stop_ids, int stop_count)
{
    *g = (struct request_ground){
        .tokenizer = tokenizer, .stop_ids = stop_ids, .stop_count = stop_count, .id_limit = vocabulary};
    if (tokenizer && tokenizer_size(tokenizer) < vocabulary)
        g->id_limit = tokenizer_size(tokenizer);
    if (tokenizer) {
        g->scratch_bytes = detokenizer_room(tokenizer);
        TRY(arena_take(arena, g->scratch_bytes, "text of a token", &g->scratch));
    }
    return sampler_open(&g->sampler, arena, vocabulary, g->id_limit);
}

enum status request_start(struct request *r, const struct request_ground *g, int64_t number, int count,
                          int positions, const struct request_options *options)
{
    int room = positions - count;
    int wanted = options->max_tokens < room ? options->max_tokens : room;

    TRY(sampler_check(&options->sampling));
    if (count < 1)
        return FAIL(STATUS_BAD_INPUT, "the prompt has no tokens");
    if (room < 1)
        return FAIL(STATUS_BAD_INPUT,
                    "the prompt has %d tokens, --max-model-len %d leaves no room for an answer", count,
                    positions);
    *r = (struct request){.number = number,
                          .state = REQUEST_WAITING,
                          .tokens = r->tokens,
                          .prompt = count,
                          .count = count,
                          .most = count + wanted,
                          .priority = options->priority,
                          .group = -1,
                          .slot = -1,
                          .sampling = options->sampling,
                          .ignore_eos = options->ignore_eos,
                          .pages = r->pages,
                          .arrived = clock_now()};
    if (g->tokenizer)
        TRY(detokenizer_start(&r->text, g->tokenizer, options->stops, options->stop_count, false));
    return STATUS_OK;
}

bool request_before(const struct request *a, const struct request *b)
{
    return a->priority != b->priority ? a->priority < b->priority : a->number < b->number;
}

int request_most_rows(const struct request *r, int rows)
{
    (void)r;
    return rows;
}

bool request_reads_cache(const struct request *r)
{
    (void)r;
    return true;
}

void request_wants(const struct request *r, int rows, struct batch_piece *piece)
{
    if (r->computed + rows < r->count)
        return;
    piece->keep = sampler_needs(&r->sampling);
    piece->want = piece->keep > 0 ? BATCH_WANT_CANDIDATES : BATCH_WANT_LOGITS;
}

static bool is_stop_id(const struct request_ground *g, int32_t token)
{
    for (int i = 0; i < g->stop_count; i++)
        if (g->stop_ids[i] == token)
            return true;
    return false;
}

enum status request_take(struct request *r, const struct request_ground *g, const struct head_result *result)
{
    int32_t token;
    size_t bytes;

    TRY(sampler_pick(g->sampler, &r->sampling, result->values, result->ids, result->count,
                     (uint64_t)r->number, (uint64_t)r->count, &token));
    if (r->count == r->prompt)
        r->first_token = clock_now();
    r->tokens[r->count++] = token;
    if (!r->ignore_eos && is_stop_id(g, token)) {
        r->finish = FINISH_STOP;
        return STATUS_OK;
    }
    if (g->tokenizer)
        TRY(detokenizer_push(&r->text, token, g->scratch, g->scratch_bytes, &bytes));
    if (g->tokenizer && r->text.stopped)
        r->finish = FINISH_STOP;
    else if (r->count == r->most)
        r->finish = FINISH_LENGTH;
    return STATUS_OK;
}
