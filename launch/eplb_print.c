/* eplb_print.c - plans as text, JSON and CSV
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/eplb_print.h"

enum { BAR_COLUMNS = 40 };

static void print_row(FILE *out, const int32_t *numbers, int count)
{
    for (int i = 0; i < count; i++)
        fprintf(out, "%s%d", i ? "," : "", numbers[i]);
}

static void print_table(FILE *out, const char *key, const int32_t *numbers, int rows, int columns)
{
    fprintf(out, "\"%s\":[", key);
    for (int i = 0; i < rows; i++) {
        fputs(i ? ",[" : "[", out);
        print_row(out, numbers + (ptrdiff_t)i * columns, columns);
        fputc(']', out);
    }
    fputc(']', out);
}

static void print_lists(FILE *out, const struct planned *p)
{
    const struct placement_shape *s = &p->shape;

    fputs("\"log2phy\":[", out);
    for (int i = 0; i < s->layers; i++) {
        const int32_t *first = p->first + (ptrdiff_t)i * (s->experts + 1);

        fputs(i ? ",[" : "[", out);
        for (int e = 0; e < s->experts; e++) {
            fputs(e ? ",[" : "[", out);
            print_row(out, p->slot + (ptrdiff_t)i * s->slots + first[e], first[e + 1] - first[e]);
            fputc(']', out);
        }
        fputc(']', out);
    }
    fputc(']', out);
}

void eplb_print_json(FILE *out, const struct problem *problem, const struct planned *p,
                     const double *imbalance, bool whole)
{
    const struct placement_shape *s = &p->shape;

    fputc('{', out);
    if (problem->numbered)
        fprintf(out, "\"id\":%lld,", problem->id);
    if (whole)
        fprintf(out,
                "\"shape\":{\"layers\":%d,\"experts\":%d,\"replicas\":%d,\"groups\":%d,\"nodes\":%d,\"gpus\":"
                "%d},",
                s->layers, s->experts, s->slots, s->groups, s->nodes, s->ranks);
    print_table(out, "phy2log", p->expert, s->layers, s->slots);
    fputc(',', out);
    print_lists(out, p);
    fputc(',', out);
    print_table(out, "logcnt", p->replicas, s->layers, s->experts);
    fputs(",\"imbalance\":[", out);
    for (int i = 0; i < s->layers; i++)
        fprintf(out, "%s%.6f", i ? "," : "", imbalance[i]);
    fputc(']', out);
    if (whole) {
        fputc(',', out);
        print_table(out, "physical_to_logical_map", p->expert, s->layers, s->slots);
    }
    fputs("}\n", out);
}

void eplb_print_csv(FILE *out, const struct planned *p)
{
    for (int i = 0; i < p->shape.layers; i++) {
        print_row(out, p->expert + (ptrdiff_t)i * p->shape.slots, p->shape.slots);
        fputc('\n', out);
    }
}

void eplb_print_head(FILE *out, const struct problem *problem, enum plan_levels levels)
{
    static const char *const names[] = {
        [PLAN_GLOBAL] = "global", [PLAN_HIERARCHICAL] = "hierarchical", [PLAN_SPILL] = "spill"};
    const struct placement_shape *s = &problem->shape;

    if (problem->numbered)
        fprintf(out, "id %lld: ", problem->id);
    fprintf(out, "%d layers, %d experts in %d slots of %d ranks on %d nodes, %d groups, ", s->layers,
            s->experts, s->slots, s->ranks, s->nodes, s->groups);
    if (levels == PLAN_AUTO && s->groups % s->nodes != 0)
        fprintf(out, "global because %d nodes do not divide the groups\n", s->nodes);
    else
        fprintf(out, "%s\n", levels == PLAN_AUTO ? "hierarchical" : names[levels]);
}

static void print_figures(FILE *out, const struct planned_layer *l, const double *before, const double *moves)
{
    if (before)
        fprintf(out, " %8.3f", *before);
    fprintf(out, " %8.3f %8.3f %8.3f %7.2f %8.3f", l->even, l->flow, l->bound, 100 * (l->even / l->bound - 1),
            l->expert);
    if (moves)
        fprintf(out, " %6.1f", *moves);
    fputc('\n', out);
}

void eplb_print_layers(FILE *out, const struct planned_layer *layer, const double *before, const int *moves,
                       int layers)
{
    struct planned_layer sum = {0};
    double sum_before = 0, sum_moves = 0;

    fprintf(out, "layer %s     even     flow    bound   gap %% replica%s\n", before ? "  before" : "",
            moves ? "   moves" : "");
    for (int i = 0; i < layers; i++) {
        double now = before ? before[i] : 0, moved = moves ? moves[i] : 0;

        fprintf(out, "%5d", i);
        print_figures(out, &layer[i], before ? &now : NULL, moves ? &moved : NULL);
        sum_before += now / layers;
        sum_moves += moved / layers;
        sum.even += layer[i].even / layers;
        sum.flow += layer[i].flow / layers;
        sum.bound += layer[i].bound / layers;
        sum.expert += layer[i].expert / layers;
    }
    fputs(" mean", out);
    print_figures(out, &sum, before ? &sum_before : NULL, moves ? &sum_moves : NULL);
}

void eplb_print_ranks(FILE *out, const double *work, int ranks)
{
    double sum = 0, most = 0;

    for (int r = 0; r < ranks; r++) {
        sum += work[r];
        most = work[r] > most ? work[r] : most;
    }
    for (int r = 0; r < ranks && most > 0; r++) {
        int bar = (int)(work[r] / most * BAR_COLUMNS + 0.5);

        fprintf(out, "rank %4d %6.3f ", r, work[r] * ranks / sum);
        for (int i = 0; i < bar; i++)
            fputc('#', out);
        fputc('\n', out);
    }
}
