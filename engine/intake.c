/* intake.c - lines of JSON into the scheduler: requests and their copies, cancels, names that must not come
 * twice
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/intake.h"

#include "engine/base/log.h"

#include <stdio.h>
#include <string.h>

enum { SET_SIZE = 2 * INTAKE_IDS };

static const uint64_t HASH_PRIME = 0x100000001b3u; /* FNV-1a, 64 bits */
static const uint64_t HASH_START = 0xcbf29ce484222325u;

size_t intake_bytes(const struct intake_options *options, int positions)
{
    return sizeof(struct request_line) + (size_t)positions * sizeof(int32_t) +
           REQUEST_LINE_MESSAGE_LIMIT *
               (sizeof(struct chat_message) + CHAT_PROMPT_PARTS * sizeof(struct tokenizer_span)) +
           options->longest + 2 * SET_SIZE * sizeof(uint64_t) + 16 * ARENA_ALIGN;
}

enum status intake_open(struct intake *in, struct arena *arena, const struct intake_options *options,
                        struct scheduler *s, struct answer *answer)
{
    *in = (struct intake){.options = *options, .scheduler = s, .answer = answer};
    in->tokens.capacity = s->limits.positions;
    TRY(arena_take(arena, sizeof *in->line, "a line of JSON", &in->line));
    TRY(arena_take_array(arena, (size_t)s->limits.positions, sizeof(int32_t), "tokens of a prompt",
                         &in->tokens.ids));
    TRY(arena_take_array(arena, REQUEST_LINE_MESSAGE_LIMIT, sizeof *in->messages, "messages", &in->messages));
    in->rendered.capacity = options->longest;
    TRY(arena_take(arena, options->longest, "messages in their chat form", &in->rendered.text));
    if (options->literal_text) {
        in->rendered.content_capacity = REQUEST_LINE_MESSAGE_LIMIT * CHAT_PROMPT_PARTS;
        TRY(arena_take_array(arena, REQUEST_LINE_MESSAGE_LIMIT * CHAT_PROMPT_PARTS,
                             sizeof *in->rendered.content, "content of messages", &in->rendered.content));
    }
    for (int i = 0; i < 2; i++)
        TRY(arena_take_array(arena, SET_SIZE, sizeof(uint64_t), "ids that came", &in->ids[i]));
    return STATUS_OK;
}

void intake_close(struct intake *in)
{
    if (in->line)
        request_line_close(in->line);
    memset(in, 0, sizeof *in);
}

/* -- ids -- */

/* Never 0. The bits are mixed once more, because a stream of random numbers is named by them. */
static uint64_t hash_id(const char *id)
{
    uint64_t hash = HASH_START;

    for (; *id; id++)
        hash = (hash ^ (unsigned char)*id) * HASH_PRIME;
    hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdu; /* the finish of MurmurHash3 (Appleby) */
    hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53u;
    hash ^= hash >> 33;
    return hash ? hash : 1;
}

static uint64_t *place_of(uint64_t *set, uint64_t hash)
{
    size_t at = hash % SET_SIZE;

    while (set[at] && set[at] != hash)
        at = (at + 1) % SET_SIZE;
    return &set[at];
}

static void remember(struct intake *in, uint64_t hash)
{
    if (in->id_count == INTAKE_IDS) {
        uint64_t *old = in->ids[1];

        memset(old, 0, SET_SIZE * sizeof *old);
        in->ids[1] = in->ids[0];
        in->ids[0] = old;
        in->id_count = 0;
    }
    *place_of(in->ids[0], hash) = hash;
    in->id_count++;
}

/* The request or copies of this name that are still kept, one after another: the one behind `after`. */
static struct request *find(const struct intake *in, const struct request *after, const char *id)
{
    struct request *r = after ? after->newer : scheduler_oldest(in->scheduler);

    while (r && (!r->options.id || strcmp(r->options.id, id) != 0))
        r = r->newer;
    return r;
}

static bool came_before(const struct intake *in, uint64_t hash, const char *id)
{
    return *place_of(in->ids[0], hash) || *place_of(in->ids[1], hash) || find(in, NULL, id);
}

/* -- lines -- */

static enum status refuse(struct intake *in, int64_t number, const char *why)
{
    char text[ANSWER_ERROR_BYTES];

    in->refused++;
    snprintf(text, sizeof text, "line %lld: %s", (long long)number, why);
    if (in->answer)
        return answer_refuse(in->answer, in->scheduler, in->line->id, text);
    log_line(LOG_ERROR, "prompt %lld is refused: %s", (long long)number, why);
    in->blank(in->context);
    return STATUS_OK;
}

enum status intake_unread(struct intake *in, int64_t number, const char *why)
{
    in->requests++;
    snprintf(in->line->id, sizeof in->line->id, "null");
    return refuse(in, number, why);
}

/* Ends all that is left of a request. One that has ended already, or never was, is not there to be cancelled:
 * that is a race, not a mistake. */
static void cancel(struct intake *in, int64_t number)
{
    const char *id = in->line->id;
    struct request *r = find(in, NULL, id);

    if (!r)
        log_line(LOG_INFO, "line %lld: no request %s is being worked on: nothing to cancel",
                 (long long)number, id);
    for (; r; r = find(in, r, id))
        scheduler_cancel(in->scheduler, r);
}

static enum status need_tokenizer(const struct intake *in)
{
    if (in->options.tokenizer)
        return STATUS_OK;
    return FAIL(STATUS_BAD_INPUT,
                "%s: tokenizer.json is not there: only \"prompt_token_ids\" can be served, not text",
                in->options.directory);
}

static enum status encode_text(struct intake *in, const char *text, size_t bytes)
{
    unsigned literal = in->options.literal_text ? TOKENIZER_LITERAL : 0;

    TRY(need_tokenizer(in));
    return tokenizer_encode(in->options.tokenizer, text, bytes, TOKENIZER_ADD_SPECIAL | literal, &in->tokens);
}

static enum status encode_messages(struct intake *in, int count, bool no_thinking)
{
    struct chat_job job = {
        .messages = in->messages, .count = count, .generation_prompt = true, .no_thinking = no_thinking};
    struct chat_prompt *p = &in->rendered;

    TRY(need_tokenizer(in));
    if (!in->options.chat)
        return FAIL(STATUS_BAD_INPUT, "%s", in->options.chat_missing);
    TRY(chat_render(in->options.chat, &job, p));
    /* the template writes the begin-of-text token itself */
    return tokenizer_encode_spans(in->options.tokenizer, p->text, p->bytes, p->content, p->content_count,
                                  &in->tokens);
}

/* The prompt's tokens into in->tokens. */
static enum status encode(struct intake *in)
{
    const struct request_line *l = in->line;
    int count;

    in->tokens.count = 0;
    if (l->form == REQUEST_LINE_IDS)
        return request_line_ids(l, in->options.vocabulary, &in->tokens);
    if (l->form == REQUEST_LINE_MESSAGES) {
        TRY(request_line_messages(l, in->messages, &count));
        return encode_messages(in, count, l->no_thinking);
    }
    return encode_text(in, l->text, l->bytes);
}

/* Without a seed of its own a request draws by the run's seed and its name, so neither its place in the input
 * nor its company changes what it gets. */
static void choose_stream(struct request_line *l, uint64_t hash)
{
    if (!l->options.own_stream)
        l->options.stream = hash;
    l->options.own_stream = true;
}

static enum status add_copy(struct intake *in)
{
    struct request_options options = in->line->options;
    struct tokens room = scheduler_prompt(in->scheduler);

    memcpy(room.ids, in->tokens.ids, (size_t)in->tokens.count * sizeof *room.ids);
    options.index = in->next;
    options.stream += (uint64_t)in->next;
    return scheduler_add(in->scheduler, in->tokens.count, &options);
}

/* What was read is to become requests, or says why it cannot. */
static enum status accept(struct intake *in, enum status status, int64_t number)
{
    in->number = number;
    in->next = 0;
    in->waits = status == STATUS_OK;
    if (status == STATUS_BAD_INPUT)
        return refuse(in, number, status_text());
    TRY(status);
    return intake_continue(in);
}

enum status intake_continue(struct intake *in)
{
    while (in->waits && scheduler_has_room(in->scheduler)) {
        enum status status = add_copy(in);

        /* the first tells whether it can run at all */
        if (status == STATUS_BAD_INPUT && in->next == 0) {
            in->waits = false;
            return refuse(in, in->number, status_text());
        }
        TRY(status);
        if (in->next++ == 0 && in->hash)
            remember(in, in->hash);
        in->waits = in->next < in->line->copies;
    }
    return STATUS_OK;
}

static enum status read_line(struct intake *in, const char *text, size_t bytes)
{
    const struct intake_options *o = &in->options;

    TRY(request_line_open(in->line, &o->defaults, o->vocabulary, text, bytes));
    in->hash = hash_id(in->line->id);
    if (in->line->form == REQUEST_LINE_CANCEL)
        return STATUS_OK;
    if (came_before(in, in->hash, in->line->id))
        return FAIL(STATUS_BAD_INPUT, "the id %s came before", in->line->id);
    choose_stream(in->line, in->hash);
    return encode(in);
}

enum status intake_line(struct intake *in, const char *text, size_t bytes, int64_t number)
{
    enum status status;

    in->requests++;
    request_line_close(in->line);
    status = read_line(in, text, bytes);
    if (status != STATUS_OK || in->line->form != REQUEST_LINE_CANCEL)
        return accept(in, status, number);
    in->requests--;
    cancel(in, number);
    return STATUS_OK;
}

enum status intake_text(struct intake *in, const char *text, size_t bytes, bool chat, int64_t number)
{
    struct request_line *l = in->line;
    enum status status;

    in->requests++;
    snprintf(l->id, sizeof l->id, "%lld", (long long)number);
    l->options = in->options.defaults;
    l->options.id = in->answer ? l->id : NULL;
    l->copies = 1;
    in->hash = 0;
    in->tokens.count = 0;
    if (chat) {
        in->messages[0] = (struct chat_message){.role = "user", .content = text, .bytes = bytes};
        status = encode_messages(in, 1, false);
    } else {
        status = encode_text(in, text, bytes);
    }
    return accept(in, status, number);
}
