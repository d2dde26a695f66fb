/* summary.c - the last line of a run: what was done, how fast, and what the time went into
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/summary.h"

#include "engine/balance_report.h"
#include "engine/base/log.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

static const uint64_t HASH_PRIME = 0x100000001b3u; /* FNV-1a, 64 bits */
static const uint64_t HASH_START = 0xcbf29ce484222325u;

void summary_hash(struct summary *s, int32_t token)
{
    uint32_t bits = (uint32_t)token;

    if (s->hash == 0)
        s->hash = HASH_START;
    for (int shift = 0; shift < 32; shift += 8)
        s->hash = (s->hash ^ ((bits >> shift) & 0xffu)) * HASH_PRIME;
}

void summary_hash_request(struct summary *s, int64_t number, const int32_t *tokens, int count)
{
    struct summary own = {0};

    summary_hash(&own, (int32_t)number);
    for (int i = 0; i < count; i++)
        summary_hash(&own, tokens[i]);
    s->hash += own.hash;
}

enum status summary_gather(struct summary *s, struct comm *world)
{
    int64_t times[WATCH_PHASE_COUNT + 2];
    int64_t waiting, total = 0;

    watch_times(times, &waiting);
    if (world->rank != 0) /* a follower that waits for the next batch is idle, not held up */
        waiting = waiting > times[WATCH_IDLE] ? waiting - times[WATCH_IDLE] : 0;
    times[WATCH_PHASE_COUNT] = waiting;
    times[WATCH_PHASE_COUNT + 1] = s->loose_products;
    times[WATCH_START] = times[WATCH_LOAD] = times[WATCH_END] = 0;
    TRY(world->reduce(world, COMM_SUM, times, WATCH_PHASE_COUNT + 2));
    for (int phase = 0; phase < WATCH_PHASE_COUNT; phase++)
        total += phase == WATCH_IDLE ? 0 : times[phase];
    for (int phase = 0; phase < WATCH_PHASE_COUNT; phase++)
        s->share[phase] = total > 0 ? (double)times[phase] / (double)total : 0;
    s->loose_products = times[WATCH_PHASE_COUNT + 1];
    s->idle = total > 0 ? (double)times[WATCH_PHASE_COUNT] / (double)total : 0;
    return STATUS_OK;
}

static double experts_share(const struct summary *s)
{
    return s->share[WATCH_ROUTE] + s->share[WATCH_EXPERTS];
}

/* Between nodes and inside them. */
static double dispatch_share(const struct summary *s)
{
    return s->share[WATCH_DISPATCH] + s->share[WATCH_SPREAD];
}

static double rate(int64_t tokens, double seconds)
{
    return seconds > 0 ? (double)tokens / seconds : 0;
}

static double acceptance_rate(const struct summary *s)
{
    return s->draft_tokens > 0 ? (double)s->accepted_tokens / (double)s->draft_tokens : 0;
}

/* Tokens of a step with drafts: one would come anyway. */
static double acceptance_length(const struct summary *s)
{
    return s->drafts > 0 ? 1 + (double)s->accepted_tokens / (double)s->drafts : 0;
}

void summary_law(int64_t loose_products, char *text, size_t size)
{
    *text = '\0';
    if (loose_products > 0)
        snprintf(text, size,
                 "rule 2 of the law was given up, a row's bytes depend on its batch: cuBLAS made %lld "
                 "products (--exact: none); ",
                 (long long)loose_products);
}

void summary_log(const struct summary *s)
{
    char balance[256] = "", law[160], lowered[224] = "", crossed[96] = "", replayed[96] = "";
    char halved[48] = "", drafted[128] = "";
    double each = s->decode_tokens > 0 ? 1000 * s->decode_seconds / (double)s->decode_tokens : 0;

    if (s->balance)
        balance_report_text(s->balance, balance, sizeof balance);
    if (s->balance && s->balance->meter)
        lowering_text(s->balance->lowering, s->balance->meter->all_rows, lowered, sizeof lowered);
    summary_law(s->loose_products, law, sizeof law);
    if (s->nodes)
        snprintf(crossed, sizeof crossed, "rows to other nodes %lld, %lld by --dispatch direct; ",
                 (long long)s->crossed, (long long)s->crossed_direct);
    if (s->decoded && s->decoded[RECORDING_NEW] > 0)
        snprintf(replayed, sizeof replayed, "%lld decode steps replayed, %lld recorded, %lld eager; ",
                 (long long)s->decoded[RECORDING_AGAIN], (long long)s->decoded[RECORDING_NEW],
                 (long long)s->decoded[RECORDING_NONE]);
    if (s->halved > 0)
        snprintf(halved, sizeof halved, "%lld steps in halves; ", (long long)s->halved);
    if (s->speculates)
        snprintf(drafted, sizeof drafted,
                 "%lld drafts of %lld tokens, %lld accepted (%.1f%%), %.2f tokens a draft; ",
                 (long long)s->drafts, (long long)s->draft_tokens, (long long)s->accepted_tokens,
                 100 * acceptance_rate(s), acceptance_length(s));
    log_line(LOG_INFO,
             "%lld requests (%lld refused), %lld prompt (%lld more from the cache) + %lld generated tokens "
             "in %.3f s "
             "on %d rank%s: %.1f token/s, decode "
             "%.3f ms/token; attention %.0f%% experts %.0f%% dispatch %.0f%% combine %.0f%% head %.0f%%, "
             "waiting %.0f%%; "
             "imbalance %.2f; %lld preemptions; %s%s%s%s%s%s%s%stokens %016llx",
             (long long)s->requests, (long long)s->refused, (long long)s->prompt_tokens,
             (long long)s->cached_tokens, (long long)s->generated_tokens, s->seconds, s->ranks,
             s->ranks == 1 ? "" : "s", rate(s->generated_tokens, s->seconds), each,
             100 * s->share[WATCH_ATTENTION], 100 * experts_share(s), 100 * dispatch_share(s),
             100 * s->share[WATCH_COMBINE], 100 * (s->share[WATCH_HEAD] + s->share[WATCH_SAMPLE]),
             100 * s->idle, s->imbalance, (long long)s->preemptions, balance, balance[0] ? "; " : "", crossed,
             lowered, law, replayed, halved, drafted, (unsigned long long)s->hash);
}

/* Under "experts", "balancer" and "precision_balance", what there is of them. */
static enum status add_balance(const struct balance *b, json_t *all)
{
    json_t *work, *moves, *lowered = NULL;

    TRY(balance_report_work(b, &work));
    if (work && json_object_set_new(all, "experts", work) != 0)
        return FAIL(STATUS_NO_MEMORY, "no memory for the statistics");
    TRY(balance_report_moves(b, &moves));
    if (moves && json_object_set_new(all, "balancer", moves) != 0)
        return FAIL(STATUS_NO_MEMORY, "no memory for the statistics");
    if (b->meter)
        TRY(lowering_report(b->lowering, b->meter->all_rows, &lowered));
    if (lowered && json_object_set_new(all, "precision_balance", lowered) != 0)
        return FAIL(STATUS_NO_MEMORY, "no memory for the statistics");
    return STATUS_OK;
}

/* Were all products made in the one order and at the one precision? */
static bool exact(const struct summary *s)
{
    bool lowered = s->balance && s->balance->lowering && s->balance->lowering->rows > 0;

    return s->loose_products == 0 && !lowered;
}

/* Named as vLLM's counters and its figures of them. */
static json_t *pack_speculation(const struct summary *s)
{
    return json_pack("{s:I, s:I, s:I, s:f, s:f}", "spec_decode_num_drafts", (json_int_t)s->drafts,
                     "spec_decode_num_draft_tokens", (json_int_t)s->draft_tokens,
                     "spec_decode_num_accepted_tokens", (json_int_t)s->accepted_tokens, "acceptance_rate",
                     acceptance_rate(s), "mean_acceptance_length", acceptance_length(s));
}

json_t *summary_pack(const struct summary *s)
{
    char hash[20];
    json_t *shares, *all;

    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)s->hash);
    shares = json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "attention", s->share[WATCH_ATTENTION], "experts",
                       experts_share(s), "dispatch", dispatch_share(s), "combine", s->share[WATCH_COMBINE],
                       "head", s->share[WATCH_HEAD] + s->share[WATCH_SAMPLE], "waiting", s->idle);
    all = json_pack(
        "{s:i, s:i, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, "
        "s:I, s:f, s:s, s:o}",
        "ranks", s->ranks, "tensor_parallel_size", s->tensor, "backend", s->backend, "comm", s->comm, "exact",
        exact(s), "loose_products", (json_int_t)s->loose_products, "num_requests", (json_int_t)s->requests,
        "refused", (json_int_t)s->refused, "prompt_tokens", (json_int_t)s->prompt_tokens, "cached_tokens",
        (json_int_t)s->cached_tokens, "recomputed_tokens", (json_int_t)s->recomputed_tokens, "preemptions",
        (json_int_t)s->preemptions, "generated_tokens", (json_int_t)s->generated_tokens, "steps",
        (json_int_t)s->steps, "elapsed_time", s->seconds, "tokens_per_second",
        rate(s->generated_tokens, s->seconds), "decode_time", s->decode_seconds, "decode_tokens",
        (json_int_t)s->decode_tokens, "imbalance", s->imbalance, "tokens_hash", hash, "shares", shares);
    if (all && s->speculates && json_object_set_new(all, "speculation", pack_speculation(s)) != 0) {
        json_decref(all);
        return NULL;
    }
    return all;
}

static json_t *pack_decoded(const struct summary *s)
{
    return json_pack("{s:I, s:I, s:I}", "eager", (json_int_t)s->decoded[RECORDING_NONE], "recorded",
                     (json_int_t)s->decoded[RECORDING_NEW], "replayed",
                     (json_int_t)s->decoded[RECORDING_AGAIN]);
}

enum status summary_write(const struct summary *s, const char *path)
{
    json_t *all = summary_pack(s);
    int failed;

    if (!all)
        return FAIL(STATUS_NO_MEMORY, "no memory for the statistics");
    if (json_object_set_new(all, "waits_per_layer", json_real(s->waits)) != 0 ||
        json_object_set_new(all, "waits_per_result", json_real(s->result_waits)) != 0 ||
        json_object_set_new(all, "halved_steps", json_integer((json_int_t)s->halved)) != 0 ||
        json_object_set_new(all, "halved_planned", json_integer((json_int_t)s->halved_planned)) != 0 ||
        json_object_set_new(all, "dispatch", json_string(s->dispatch)) != 0 ||
        json_object_set_new(all, "node_rows", json_integer((json_int_t)s->crossed)) != 0 ||
        json_object_set_new(all, "node_rows_direct", json_integer((json_int_t)s->crossed_direct)) != 0 ||
        (s->decoded && json_object_set_new(all, "decode_steps", pack_decoded(s)) != 0)) {
        json_decref(all);
        return FAIL(STATUS_NO_MEMORY, "no memory for the statistics");
    }
    if (s->balance) {
        enum status status = add_balance(s->balance, all);

        if (status != STATUS_OK) {
            json_decref(all);
            return status;
        }
    }
    failed = json_dump_file(all, path, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(all);
    if (failed)
        return FAIL(STATUS_IO, "--stats %s: %s", path, strerror(errno));
    return STATUS_OK;
}
