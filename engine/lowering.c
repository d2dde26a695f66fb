/* lowering.c - ranks that stay overloaded in a batch of prompts run their experts at lower precision
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/lowering.h"

#include "engine/base/log.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum status lowering_check(const struct lowering_options *o, const struct kernels *k)
{
    if (!o->on || k->lower_speed > 0)
        return STATUS_OK;
    return FAIL(
        STATUS_UNAVAILABLE,
        "--precision-balance: %s has no lower precision that is worth its loss (one is there on "
        "processors with AVX512_BF16, by the path avx512, on GPUs, and with --backend reference); leave "
        "the option out",
        k->name);
}

enum status lowering_check_weights(const struct lowering_options *o, const struct config *c,
                                   const struct weights *w, const struct placement *p, int rank)
{
    int slots = p->rank_first[rank + 1] - p->rank_first[rank];

    if (!o->on)
        return STATUS_OK;
    if (c->expert_layers == 0)
        return FAIL(STATUS_USAGE, "--precision-balance: this model has no experts; leave the option out");
    for (int layer = 0; layer < c->layers; layer++) {
        const struct weights_layer *l = &w->layer[layer];

        for (int s = 0; c->layer[layer].experts && s < slots; s++)
            if (l->gate_up[s].format != DTYPE_BF16 || l->down[s].format != DTYPE_BF16)
                return FAIL(STATUS_USAGE,
                            "--precision-balance: experts of layer %d have weights of %s, and only those of "
                            "BF16 multiply faster at lower precision; leave the option out",
                            layer, dtype_name(l->gate_up[s].format));
    }
    return STATUS_OK;
}

enum status lowering_open(struct lowering *l, struct arena *arena, const struct lowering_options *o,
                          const struct kernels *k, int ranks)
{
    *l = (struct lowering){.on = o->on, .ranks = ranks};
    if (!o->on)
        return STATUS_OK;
    l->rules = (struct precision_rules){
        .min_rows = o->min_rows, .budget = (int)lround(1000 * o->budget), .speed = k->lower_speed};
    return arena_take_array(arena, (size_t)ranks, sizeof *l->lower, "ranks at lower precision", &l->lower);
}

void lowering_introduce(const struct lowering *l)
{
    if (l->on)
        log_line(
            LOG_INFO,
            "precision balance: lossy and outside the law. Ranks that are overloaded in a layer of a batch "
            "of prompts with %lld rows or more multiply experts at lower precision there, taken "
            "to be %.2f times as fast; at most %.1f%% of a layer's rows",
            (long long)l->rules.min_rows, l->rules.speed * 0.01, l->rules.budget * 0.1);
}

void lowering_forget(struct lowering *l)
{
    l->batches = l->rows = l->before = l->after = 0;
}

void lowering_begin(struct lowering *l, const struct batch *b)
{
    l->prompts = l->on && batch_prompts(b);
    l->happened = false;
}

bool lowering_counts(const struct lowering *l)
{
    return l->prompts;
}

bool lowering_choose(struct lowering *l, const int64_t *rows, int rank)
{
    struct precision_effect effect;

    if (!l->prompts)
        return false;
    precision_select(&l->rules, rows, l->ranks, l->lower, &effect);
    if (effect.lowered == 0)
        return false;
    l->happened = true;
    l->rows += effect.lowered;
    l->before += effect.before;
    l->after += effect.after;
    return l->lower[rank];
}

void lowering_end(struct lowering *l)
{
    l->batches += l->happened;
}

static double share_of(const struct lowering *l, int64_t all)
{
    return all > 0 ? (double)l->rows / (double)all : 0;
}

static double speedup_of(const struct lowering *l)
{
    return l->after > 0 ? (double)l->before / (double)l->after : 1;
}

void lowering_text(const struct lowering *l, int64_t all, char *text, size_t bytes)
{
    text[0] = '\0';
    if (l->on && l->rows == 0)
        snprintf(text, bytes, "no rows at lower precision; ");
    else if (l->on)
        snprintf(text, bytes,
                 "%lld batches with %lld of %lld rows of experts (%.1f%%) at lower precision, outside the "
                 "law, predicted to make their layers' experts %.2f times as fast; ",
                 (long long)l->batches, (long long)l->rows, (long long)all, 100 * share_of(l, all),
                 speedup_of(l));
}

enum status lowering_report(const struct lowering *l, int64_t all, json_t **out)
{
    *out = NULL;
    if (!l->on)
        return STATUS_OK;
    *out = json_pack("{s:I, s:I, s:f, s:I, s:f, s:f, s:I, s:f}", "lowered_rows", (json_int_t)l->rows, "rows",
                     (json_int_t)all, "lowered_share", share_of(l, all), "batches", (json_int_t)l->batches,
                     "predicted_speedup", speedup_of(l), "budget", l->rules.budget * 0.001, "min_rows",
                     (json_int_t)l->rules.min_rows, "speed_ratio", l->rules.speed * 0.01);
    return *out ? STATUS_OK : FAIL(STATUS_NO_MEMORY, "no memory for the statistics of lower precision");
}
