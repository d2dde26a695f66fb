/* inspect_json.c - the report of inspect for programs
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/inspect.h"

#include "engine/json_text.h"

#include <inttypes.h>
#include <string.h>

enum { CHUNK = 1024 };

static void print_string(FILE *out, const char *text)
{
    char escaped[JSON_TEXT_GROWTH * CHUNK];
    size_t bytes = strlen(text);

    fputc('"', out);
    for (size_t at = 0; at < bytes; at += CHUNK)
        fwrite(escaped, 1, json_text_escape(escaped, text + at, bytes - at < CHUNK ? bytes - at : CHUNK),
               out);
    fputc('"', out);
}

static void print_model(FILE *out, const struct inspect_report *r)
{
    const struct config *c = &r->engine->config;
    const char *between = "";

    fputs("{\"model\":{\"directory\":", out);
    print_string(out, r->engine->directory);
    fputs(",\"architecture\":", out);
    print_string(out, c->architecture);
    fprintf(out,
            ",\"layers\":%d,\"expert_layers\":%d,\"experts\":%d,\"experts_per_token\":%d,"
            "\"width\":%d,\"expert_width\":%d,\"shared_width\":%d,\"dense_width\":%d,"
            "\"heads\":%d,\"kv_heads\":%d,\"head_width\":%d,\"vocabulary\":%d,\"positions\":%d,"
            "\"parameters\":%" PRId64 ",\"active_parameters\":%" PRId64 ",\"files\":%d,\"file_bytes\":{",
            c->layers, c->expert_layers, c->experts, c->choices, c->width, c->expert_width, c->shared_width,
            c->dense_width, c->heads, c->kv_heads, c->head_width, c->vocabulary, c->max_positions,
            r->census.parameters, r->census.active, r->engine->tensors.shard_count);
    for (int d = 0; d < DTYPE_COUNT; d++)
        if (r->census.of_dtype[d] > 0) {
            fprintf(out, "%s\"%s\":%" PRId64, between, dtype_name((enum dtype)d), r->census.of_dtype[d]);
            between = ",";
        }
    fputs("}}", out);
}

static void print_rank(FILE *out, const struct budget_rank *r, int rank)
{
    fprintf(out,
            "%s{\"rank\":%d,\"slots\":%d,\"weights\":%zu,\"shared\":%zu,\"cache\":%zu,\"buffers\":%zu,"
            "\"exchanges\":%zu,\"backend\":%zu,\"libraries\":%zu,\"tables\":%zu,\"together\":%zu,"
            "\"host\":%zu,\"pinned\":%zu}",
            rank ? "," : "", rank, r->slots, r->weights, r->shared, r->cache, r->buffers, r->exchanges,
            r->backend, r->libraries, r->tables, budget_total(r), r->host, r->pinned);
}

/* Only what helps is named. */
static void print_nearest(FILE *out, const struct budget_nearest *n)
{
    const struct {
        const char *name;
        size_t value;
    } all[] = {{"ranks", (size_t)n->ranks},
               {"nodes", (size_t)n->nodes},
               {"tensor_parallel_size", (size_t)n->tensor},
               {"max_num_batched_tokens", (size_t)n->rows},
               {"max_model_len", (size_t)n->positions},
               {"kv_cache_memory", n->cache_memory},
               {"memory", n->memory}};
    const char *between = "";

    fputs(",\"nearest\":{", out);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i].value > 0) {
            fprintf(out, "%s\"%s\":%zu", between, all[i].name, all[i].value);
            between = ",";
        }
    fputc('}', out);
}

static void print_plan(FILE *out, const struct inspect_plan *p)
{
    const struct budget *b = &p->budget;

    fprintf(out, "{\"ranks\":%d,\"nodes\":%d,\"backend\":", b->options.ranks, b->place.nodes);
    print_string(out, b->place.name);
    fprintf(out,
            ",\"tensor_parallel_size\":%d,\"data_groups\":%d,\"expert_copies\":%d,\"device_memory\":%zu,"
            "\"memory\":%zu,"
            "\"pages\":%" PRId64 ",\"page_positions\":%d,\"page_bytes\":%zu,\"cache_positions\":%" PRId64
            ",\"max_model_len\":%d,\"fits\":%s",
            b->options.ranks / b->groups, b->groups, b->copies, b->device, b->place.memory, b->pages,
            PAGE_ROWS, b->page_bytes, b->pages * PAGE_ROWS, b->positions, budget_fits(b) ? "true" : "false");
    print_nearest(out, &p->nearest);
    fputs(",\"bytes\":[", out);
    for (int i = 0; i < b->options.ranks; i++)
        print_rank(out, &b->rank[i], i);
    fputs("]}", out);
}

void inspect_json(FILE *out, const struct inspect_report *r)
{
    print_model(out, r);
    fputs(",\"plans\":[", out);
    for (int i = 0; i < r->plans; i++) {
        if (i > 0)
            fputc(',', out);
        print_plan(out, &r->plan[i]);
    }
    fprintf(out, "],\"seconds\":%.3f}\n", r->seconds);
}
