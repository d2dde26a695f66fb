/* request.c - what one user asked for, and how it takes what a step brought (rank 0 only)
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/request.h"

#include "engine/base/clock.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum status request_ground_open(struct request_ground *g, struct arena *arena, int vocabulary,
                                const struct tokenizer *tokenizer, const int *stop_ids, int stop_count)
{
    *g = (struct request_ground){.tokenizer = tokenizer,
                                 .stop_ids = stop_ids,
                                 .stop_count = stop_count,
                                 .id_limit = vocabulary,
                                 .vocabulary = vocabulary};
    if (tokenizer && tokenizer_size(tokenizer) < vocabulary)
        g->id_limit = tokenizer_size(tokenizer);
    if (tokenizer) {
        g->scratch_bytes = detokenizer_room(tokenizer);
        TRY(arena_take(arena, g->scratch_bytes, "text of a token", &g->scratch));
    }
    TRY(arena_take_array(arena, (size_t)vocabulary, sizeof *g->changed, "changed logits", &g->changed));
    TRY(arena_take_array(arena, (size_t)vocabulary, sizeof *g->counts, "counts of tokens", &g->counts));
    return sampler_open(&g->sampler, arena, vocabulary, g->id_limit);
}

enum status request_attach(struct request *r, struct arena *arena, int positions)
{
    TRY(arena_take(arena, sizeof *r->store, "what requests bring", &r->store));
    return arena_take_array(arena, (size_t)positions, (1 + REQUEST_TOP) * sizeof *r->store->choices,
                            "logarithms of probabilities", &r->store->choices);
}

/* Brings into the store what the options point to, so that their owner may go on. */
static enum status keep_options(struct request *r)
{
    struct request_options *o = &r->options;
    struct request_store *store = r->store;

    if (o->stop_count > DETOKENIZER_STOP_LIMIT || o->stop_id_count > REQUEST_STOP_IDS ||
        o->change.bias_count > REQUEST_BIASES || (o->id && strlen(o->id) >= sizeof store->id))
        return FAIL(STATUS_BAD_INPUT,
                    "%d stop strings, %d stop tokens, %d biases: there may be %d, %d and %d", o->stop_count,
                    o->stop_id_count, o->change.bias_count, DETOKENIZER_STOP_LIMIT, REQUEST_STOP_IDS,
                    REQUEST_BIASES);
    for (int i = 0; i < o->stop_count; i++) {
        snprintf(store->stop_text[i], sizeof store->stop_text[i], "%s", o->stops[i]);
        store->stops[i] = store->stop_text[i];
    }
    for (int i = 0; i < o->stop_id_count; i++)
        store->stop_ids[i] = o->stop_ids[i];
    for (int i = 0; i < o->change.bias_count; i++)
        store->biases[i] = o->change.biases[i];
    if (o->id)
        snprintf(store->id, sizeof store->id, "%s", o->id);
    o->stops = store->stops;
    o->stop_ids = store->stop_ids;
    o->change.biases = store->biases;
    o->id = o->id ? store->id : NULL;
    return STATUS_OK;
}

static enum status check_options(const struct request *r, const struct request_ground *g)
{
    const struct request_options *o = &r->options;

    TRY(sampler_check(&o->sampling));
    if (o->min_tokens > o->max_tokens)
        return FAIL(STATUS_BAD_INPUT, "min_tokens is %d, more than max_tokens, which is %d", o->min_tokens,
                    o->max_tokens);
    if (o->min_tokens > 0 && o->stop_id_count + g->stop_count >= g->id_limit)
        return FAIL(STATUS_BAD_INPUT, "min_tokens leaves no token to choose: all of them may be stop tokens");
    if ((o->logprobs.wanted || o->prompt_logprobs.wanted) && !r->store)
        return FAIL(STATUS_BUG, "logprobs are wanted of a request that has no store for them");
    for (int i = 0; i < o->stop_id_count; i++)
        if (o->stop_ids[i] < 0 || o->stop_ids[i] >= g->vocabulary)
            return FAIL(STATUS_BAD_INPUT, "stop token %d: ids are from 0 to %d", o->stop_ids[i],
                        g->vocabulary - 1);
    for (int i = 0; i < o->change.bias_count; i++)
        if (o->change.biases[i].token < 0 || o->change.biases[i].token >= g->vocabulary)
            return FAIL(STATUS_BAD_INPUT, "biased token %d: ids are from 0 to %d", o->change.biases[i].token,
                        g->vocabulary - 1);
    if (o->stop_count > 0 && !g->tokenizer)
        return FAIL(STATUS_BAD_INPUT, "stop strings need a tokenizer, and the model directory has none");
    return STATUS_OK;
}

enum status request_start(struct request *r, const struct request_ground *g, int64_t number, int count,
                          int positions, const struct request_options *options)
{
    int room = positions - count;
    int wanted = options->max_tokens < room ? options->max_tokens : room;

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
                          .options = *options,
                          .stream = options->own_stream ? options->stream : (uint64_t)number,
                          .measured = 1,
                          .store = r->store,
                          .pages = r->pages,
                          .arrived = clock_now()};
    TRY(check_options(r, g));
    if (r->store)
        TRY(keep_options(r));
    if (g->tokenizer)
        TRY(detokenizer_start(&r->text, g->tokenizer, r->options.stops, r->options.stop_count, false));
    r->text.quiet = r->options.min_tokens;
    return STATUS_OK;
}

bool request_before(const struct request *a, const struct request *b)
{
    return a->priority != b->priority ? a->priority < b->priority : a->number < b->number;
}

/* Do rows `first` ... `first + rows - 1` bring logprobs of the prompt that are not known yet? */
static bool measures(const struct request *r, int first, int rows)
{
    int from = first + 1 > r->measured ? first + 1 : r->measured;
    int last = first + rows < r->prompt ? first + rows : r->prompt - 1;

    return r->options.prompt_logprobs.wanted && from <= last;
}

int request_most_rows(const struct request *r, int rows, int *spare)
{
    int more = *spare < rows - 1 ? *spare : rows - 1;

    if (!measures(r, r->computed, rows))
        return rows;
    if (more < 0)
        more = 0;
    *spare -= more;
    return 1 + more;
}

bool request_reads_cache(const struct request *r)
{
    return !r->options.prompt_logprobs.wanted || r->measured >= r->prompt;
}

/* May stop tokens not come yet? */
static bool too_early_to_stop(const struct request *r)
{
    return r->count - r->prompt < r->options.min_tokens;
}

void request_wants(const struct request *r, int rows, struct batch_piece *piece)
{
    const struct request_options *o = &r->options;
    bool all = o->logprobs.wanted || logits_changed(&o->change) || too_early_to_stop(r);

    if (measures(r, r->computed, rows)) {
        piece->want = BATCH_WANT_ALL;
        return;
    }
    if (r->computed + rows < r->count)
        return;
    piece->keep = all ? 0 : sampler_needs(&o->sampling);
    piece->want = piece->keep > 0 ? BATCH_WANT_CANDIDATES : BATCH_WANT_LOGITS;
    if (r->computed + rows > r->count)
        piece->want = BATCH_WANT_EACH;
}

static const struct request_logprobs *logprobs_of(const struct request *r, int position)
{
    return position < r->prompt ? &r->options.prompt_logprobs : &r->options.logprobs;
}

/* What the logits say of the token at `position`, which they were to predict. */
static enum status measure(struct request *r, int position, const float *values, int count)
{
    struct request_choice *choice = &r->store->choices[(size_t)position * (1 + REQUEST_TOP)];
    struct logits_scale scale = logits_measure(values, count);
    int32_t ids[REQUEST_TOP];
    int top = logits_best(values, count, logprobs_of(r, position)->top, ids);
    int32_t token = r->tokens[position];

    if (token >= count)
        return FAIL(STATUS_BUG, "token %d of a request, %d logits", token, count);
    choice[0] = (struct request_choice){token, logits_logprob(&scale, values[token])};
    for (int i = 0; i < REQUEST_TOP; i++)
        choice[1 + i] = i < top ? (struct request_choice){ids[i], logits_logprob(&scale, values[ids[i]])}
                                : (struct request_choice){.token = -1};
    return STATUS_OK;
}

const struct request_choice *request_choices(const struct request *r, int position, int *count)
{
    const struct request_choice *choice = &r->store->choices[(size_t)position * (1 + REQUEST_TOP)];
    int top = logprobs_of(r, position)->top;

    for (*count = 1; *count <= top && choice[*count].token >= 0; ++*count)
        continue;
    return choice;
}

static bool is_among(const int32_t *ids, int count, int32_t token)
{
    for (int i = 0; i < count; i++)
        if (ids[i] == token)
            return true;
    return false;
}

/* The logits as the request changes them, in g->changed. */
static void change_logits(const struct request *r, const struct request_ground *g, const float *values)
{
    const struct request_options *o = &r->options;

    memcpy(g->changed, values, (size_t)g->vocabulary * sizeof *values);
    logits_apply(&o->change, g->changed, r->tokens, r->prompt, r->count, g->counts);
    if (!too_early_to_stop(r))
        return;
    for (int i = 0; i < g->stop_count; i++)
        if (g->stop_ids[i] < g->vocabulary)
            g->changed[g->stop_ids[i]] = -INFINITY;
    for (int i = 0; i < o->stop_id_count; i++)
        g->changed[o->stop_ids[i]] = -INFINITY;
}

/* The next token, from the logits or candidates of the row before it. */
static enum status sample(struct request *r, const struct request_ground *g, const struct head_result *result)
{
    bool change = logits_changed(&r->options.change) || too_early_to_stop(r);
    const float *values = result->values;

    if (change) {
        if (result->ids || result->count != g->vocabulary)
            return FAIL(STATUS_BUG, "%d logits to be changed, of %d", result->count, g->vocabulary);
        change_logits(r, g, values);
        values = g->changed;
    }
    return sampler_pick(g->sampler, &r->options.sampling, values, result->ids, result->count, r->stream,
                        (uint64_t)r->count, &r->tokens[r->count]);
}

/* The prompt's tokens that the rows were to predict. */
static enum status measure_prompt(struct request *r, const struct batch_piece *piece,
                                  const struct head_result *results)
{
    for (int i = 0; i < piece->rows; i++) {
        int position = piece->position + i + 1;

        if (position < r->measured || position >= r->prompt)
            continue;
        TRY(measure(r, position, results[i].values, results[i].count));
        r->measured = position + 1;
    }
    return STATUS_OK;
}

/* One more token, and whether it is the last. */
static enum status take_token(struct request *r, const struct request_ground *g,
                              const struct head_result *result)
{
    const struct request_options *o = &r->options;
    int32_t token;
    size_t bytes;

    TRY(sample(r, g, result));
    if (o->logprobs.wanted)
        TRY(measure(r, r->count, result->values, result->count));
    if (r->count == r->prompt)
        r->first_token = clock_now();
    token = r->tokens[r->count++];
    if ((!o->ignore_eos && is_among(g->stop_ids, g->stop_count, token)) ||
        is_among(o->stop_ids, o->stop_id_count, token)) {
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

enum status request_take(struct request *r, const struct request_ground *g, const struct batch_piece *piece,
                         const struct head_result *results)
{
    int drafts = piece->position + piece->rows - r->count;
    const struct head_result *last = results + batch_piece_wanted(piece) - 1;

    if (piece->want == BATCH_WANT_ALL)
        TRY(measure_prompt(r, piece, results));
    if (drafts < 0)
        return STATUS_OK;
    for (const struct head_result *result = last - drafts; result <= last; result++) {
        int32_t draft = result < last ? r->tokens[r->count] : -1;

        TRY(take_token(r, g, result));
        if (r->finish != FINISH_NONE || draft != r->tokens[r->count - 1])
            return STATUS_OK; /* the rows behind it stand behind another token */
    }
    return STATUS_OK;
}
