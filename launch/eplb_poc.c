/* eplb_poc.c - the command eplb poc: the published experiment, and what its figures mean for ranks
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/eplb_poc.h"

#include "eplb/bound.h"
#include "eplb/planned.h"
#include "launch/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    EXPERTS = 128,
    TOKENS = 10000,
    PARTS = 1000000, /* of a token, in loads that are no whole numbers */
};

#define ARENA_BYTES ((size_t)1 << 30)
#define MEAN ((double)TOKENS / EXPERTS)

struct poc {
    const struct options *o;
    FILE *out;
    struct arena arena;
    double share[EXPERTS];  /* by rank of the law, the largest first; together 1 */
    int order[EXPERTS];     /* expert that has share i */
    int64_t load[EXPERTS];  /* in parts of a token, by expert */
    int64_t batch[EXPERTS]; /* a new batch of the same law, likewise */
    uint64_t random;
};

static uint64_t draw(struct poc *p)
{
    uint64_t z = (p->random += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void make_loads(struct poc *p)
{
    double sum = 0;

    p->random = p->o->seed;
    for (int i = 0; i < EXPERTS; i++) {
        p->share[i] = pow(i + 1, -p->o->eplb.skew);
        sum += p->share[i];
        p->order[i] = i;
    }
    for (int i = 0; i < EXPERTS; i++)
        p->share[i] /= sum;
    for (int i = EXPERTS - 1; i > 0; i--) {
        int j = (int)(draw(p) % (uint64_t)(i + 1));
        int other = p->order[j];

        p->order[j] = p->order[i];
        p->order[i] = other;
    }
    for (int i = 0; i < EXPERTS; i++)
        p->load[p->order[i]] = (int64_t)llround(p->share[i] * TOKENS * PARTS);
    for (int t = 0; t < TOKENS; t++) {
        double at = (double)(draw(p) >> 11) / 9007199254740992.0;
        int i = 0;

        while (i < EXPERTS - 1 && at >= p->share[i])
            at -= p->share[i++];
        p->batch[p->order[i]] += PARTS;
    }
}

/* The busiest replica, in tokens. */
static enum status busiest_replica(struct poc *p, int redundant, double *tokens)
{
    const int32_t rank_first[2] = {0, EXPERTS + redundant};
    struct plan_shape shape = {
        .layers = 1, .experts = EXPERTS, .groups = 1, .ranks = 1, .rank_first = rank_first};
    struct bound *bound;

    TRY(bound_open(&bound, &p->arena, &shape, PLAN_GLOBAL));
    TRY(bound_share(bound, p->load, EXPERTS, EXPERTS + redundant, tokens));
    *tokens /= PARTS;
    return STATUS_OK;
}

static enum status print_line(struct poc *p, int redundant)
{
    struct planned_options options = {.levels = PLAN_GLOBAL,
                                      .policy = PLANNED_BALANCED,
                                      .split = PLAN_EVEN,
                                      .tolerance = PLAN_GOOD_TOLERANCE,
                                      .kicks = PLAN_GOOD_KICKS};
    struct problem problem = {.shape = {.layers = 1,
                                        .experts = EXPERTS,
                                        .slots = EXPERTS + redundant,
                                        .groups = 1,
                                        .nodes = 1,
                                        .ranks = p->o->eplb.ranks},
                              .load = p->load};
    double tokens, before = p->share[0] * TOKENS;
    struct planned_layer now, fresh;
    struct planned plan;

    TRY(busiest_replica(p, redundant, &tokens));
    if (redundant == 0)
        TRY(planned_plain(&plan, &p->arena, &problem.shape));
    else
        TRY(planned_make(&plan, &p->arena, &problem, &options));
    TRY(planned_judge(&plan, &p->arena, p->load, PLAN_GLOBAL, &now));
    TRY(planned_judge(&plan, &p->arena, p->batch, PLAN_GLOBAL, &fresh));
    fprintf(p->out, "%10d %6d %9.2f %6.3fx", redundant, EXPERTS + redundant, tokens, tokens / MEAN);
    if (redundant == 0)
        fprintf(p->out, "%16s", "");
    else
        fprintf(p->out, " %6.1f%% %6.2fx", 100 * (tokens / before - 1), before / tokens);
    fprintf(p->out, "  | %7.3fx %8.3fx %8.3fx\n", now.even, fresh.even, fresh.flow);
    return STATUS_OK;
}

static enum status print_all(struct poc *p)
{
    static const int published[] = {29, 32, 47};

    make_loads(p);
    fprintf(p->out,
            "%d experts, %d tokens, Zipf's law with exponent %g: the busiest expert has %.0f tokens, %.2fx "
            "the mean "
            "of %.3f\n\n",
            EXPERTS, TOKENS, p->o->eplb.skew, p->share[0] * TOKENS, p->share[0] * EXPERTS, MEAN);
    fprintf(p->out, "%42s%6s  | the busiest of %d ranks\n", "the busiest replica of an expert", "",
            p->o->eplb.ranks);
    fprintf(p->out, "%10s %6s %9s %7s %7s %7s  | %8s %9s %9s\n", "more slots", "slots", "tokens", "x mean",
            "change", "faster", "planned", "new even", "new flow");
    TRY(print_line(p, 0));
    if (p->o->eplb.redundant > 0)
        TRY(print_line(p, p->o->eplb.redundant));
    for (size_t i = 0; i < sizeof published / sizeof published[0] && p->o->eplb.redundant == 0; i++)
        TRY(print_line(p, published[i]));
    fprintf(
        p->out,
        "\npublished: 93.8 tokens, 1.20x, -72.5%%, 3.6x. Those figures are of replicas, over the mean of "
        "experts; "
        "a step lasts as long\nas its busiest rank. new: a batch drawn anew, its rows shared alike by the "
        "replicas, or in the best way.\n");
    return STATUS_OK;
}

enum status eplb_poc_run(const struct options *o, const struct environment *e, int answers)
{
    static struct poc p;
    enum status status;

    (void)e;
    p = (struct poc){.o = o};
    TRY(report_open(answers, &p.out));
    status = arena_open(&p.arena, "the experiment", ARENA_BYTES);
    if (status == STATUS_OK)
        status = print_all(&p);
    status = report_end(p.out, status);
    arena_close(&p.arena);
    return status;
}
