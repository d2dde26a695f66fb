/* eplb_tool.c - the commands eplb plan, eval, bound and diff: plans without a model and without ranks
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/eplb_tool.h"

#include "launch/eplb_print.h"
#include "launch/report.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define TEXT_BYTES ((size_t)1 << 30)    /* of an input; only what is used is touched */
#define PROBLEM_BYTES ((size_t)8 << 30) /* what a plan may take; likewise */

/* A text that holds one thing, or one in each line. */
struct source {
    struct arena arena;
    const char *name;
    char *text;
    size_t bytes;
    bool lines;
    size_t at; /* of the line to come */
    int line;  /* the last one given, from 1 */
};

struct work {
    const struct options *o;
    FILE *out;
    struct source problems;
    struct source maps[2];
    struct arena arena; /* of one problem */
};

static enum status read_all(struct source *s, int from)
{
    while (s->bytes < TEXT_BYTES) {
        ssize_t got = read(from, s->text + s->bytes, TEXT_BYTES - s->bytes);

        if (got == 0)
            return STATUS_OK;
        if (got < 0 && errno != EINTR)
            return FAIL(STATUS_NO_INPUT, "%s: %s", s->name, strerror(errno));
        if (got > 0)
            s->bytes += (size_t)got;
    }
    return FAIL(STATUS_BAD_INPUT, "%s is longer than %zu bytes", s->name, TEXT_BYTES);
}

/* file: NULL for standard input. */
static enum status source_open(struct source *s, const char *file, bool lines)
{
    int from = STDIN_FILENO;
    enum status status;

    s->name = file ? file : "standard input";
    s->lines = lines;
    TRY(arena_open(&s->arena, s->name, TEXT_BYTES));
    TRY(arena_take(&s->arena, TEXT_BYTES, "a text", &s->text));
    if (file)
        from = open(file, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return FAIL(STATUS_NO_INPUT, "%s: %s", file, strerror(errno));
    status = read_all(s, from);
    if (file)
        close(from);
    return status;
}

/* The whole text, or the next line that is not empty; false at the end. */
static bool source_next(struct source *s, const char **text, size_t *bytes)
{
    while (s->at < s->bytes) {
        const char *at = s->text + s->at;
        const char *end = s->lines ? memchr(at, '\n', s->bytes - s->at) : NULL;

        *text = at;
        *bytes = end ? (size_t)(end - at) : s->bytes - s->at;
        s->at += *bytes + 1;
        s->line++;
        if (!s->lines || strspn(at, " \t\r") < *bytes)
            return true;
    }
    return false;
}

static enum status source_blame(const struct source *s, enum status status)
{
    if (status == STATUS_OK)
        return STATUS_OK;
    return s->lines ? status_prefix(status, "%s, line %d: ", s->name, s->line)
                    : status_prefix(status, "%s: ", s->name);
}

/* -- placements --- */

/* A file with one object over several lines, or with an object in each line. */
static enum status maps_open(struct source *s, const char *file)
{
    const char *end;

    TRY(source_open(s, file, true));
    end = memchr(s->text, '\n', s->bytes);
    if (end && s->text[0] == '{') {
        const char *last = end;

        while (last > s->text && strchr(" \t\r\n", *last))
            last--;
        s->lines = *last == '}';
    }
    return STATUS_OK;
}

static enum status read_next_map(struct source *s, struct arena *arena, struct problem_map *map)
{
    struct json json = {0};
    const char *text;
    enum status status;
    size_t bytes;

    if (!source_next(s, &text, &bytes)) {
        if (s->line != 1)
            return FAIL(STATUS_BAD_INPUT, "%s has %d placements, fewer than there are problems", s->name,
                        s->line);
        s->at = 0; /* one for all */
        s->line = 0;
        if (!source_next(s, &text, &bytes))
            return FAIL(STATUS_BAD_INPUT, "%s holds no placement", s->name);
    }
    status = json_open(&json, "the text", text, bytes, 0);
    if (status == STATUS_OK)
        status = problem_read_map(map, arena, &json);
    json_close(&json);
    return source_blame(s, status);
}

/* A file with placements that nothing has asked for is not the one that was meant. */
static enum status check_used_up(struct source *s, const char *others)
{
    const char *text;
    size_t bytes;

    return source_next(s, &text, &bytes)
               ? FAIL(STATUS_BAD_INPUT, "%s has more placements than %s has lines", s->name, others)
               : STATUS_OK;
}

/* The next placement of a file, for a shape that is known. */
static enum status next_map(struct source *s, struct arena *arena, const struct placement_shape *shape,
                            int32_t **expert)
{
    struct problem_map map;

    TRY(read_next_map(s, arena, &map));
    if (map.layers != shape->layers || map.slots != shape->slots)
        return source_blame(s, FAIL(STATUS_BAD_INPUT, "%d layers of %d slots, the loads are for %d of %d",
                                    map.layers, map.slots, shape->layers, shape->slots));
    TRY(source_blame(s, problem_check_map(map.expert, shape, arena)));
    *expert = map.expert;
    return STATUS_OK;
}

/* -- plan --- */

static int millionths(double share)
{
    return (int)(share * 1e6 + 0.5);
}

static enum status imbalance_of(struct work *w, const struct planned *p, const int64_t *load, double **out)
{
    const struct placement_shape *s = &p->shape;
    double *work, *imbalance;

    TRY(arena_take_array(&w->arena, (size_t)s->ranks, sizeof *work, "work of ranks", &work));
    TRY(arena_take_array(&w->arena, (size_t)s->layers, sizeof *imbalance, "imbalance", &imbalance));
    for (int i = 0; i < s->layers; i++) {
        double sum = 0, most = 0;

        planned_even(p, load, i, work);
        for (int r = 0; r < s->ranks; r++) {
            sum += work[r];
            most = work[r] > most ? work[r] : most;
        }
        imbalance[i] = sum > 0 ? most * s->ranks / sum : 1;
    }
    *out = imbalance;
    return STATUS_OK;
}

static enum status print_ranks(struct work *w, const struct problem *problem, const struct planned *p)
{
    double *work;

    if (problem->shape.layers > 1)
        return STATUS_OK;
    TRY(arena_take_array(&w->arena, (size_t)p->shape.ranks, sizeof *work, "work of ranks", &work));
    planned_even(p, problem->load, 0, work);
    eplb_print_ranks(w->out, work, p->shape.ranks);
    return STATUS_OK;
}

/* Beside what was before: the previous placement, or an expert a slot in order. */
static enum status print_plan(struct work *w, const struct problem *problem, const struct planned *p)
{
    enum plan_levels levels = planned_levels(&problem->shape, (enum planned_policy)w->o->eplb.policy,
                                             (enum plan_levels)w->o->eplb.levels);
    size_t layers = (size_t)problem->shape.layers;
    struct planned_layer *layer;
    struct planned before;
    double *imbalance;
    int *moves;

    TRY(problem->previous ? planned_take(&before, &w->arena, &problem->shape, problem->previous)
                          : planned_plain(&before, &w->arena, &problem->shape));
    TRY(arena_take_array(&w->arena, layers, sizeof *layer, "figures of layers", &layer));
    TRY(arena_take_array(&w->arena, layers, sizeof *moves, "moves of layers", &moves));
    TRY(imbalance_of(w, &before, problem->load, &imbalance));
    TRY(planned_judge(p, &w->arena, problem->load, levels, layer));
    TRY(planned_moves(&before, p, &w->arena, moves));
    eplb_print_head(w->out, problem, levels);
    eplb_print_layers(w->out, layer, imbalance, moves, problem->shape.layers);
    return print_ranks(w, problem, p);
}

static enum status run_plan(struct work *w, struct problem *problem)
{
    const struct options_eplb *e = &w->o->eplb;
    int format = e->format != OPTIONS_EPLB_AUTO ? e->format
                 : e->input == OPTIONS_EPLB_CSV ? OPTIONS_EPLB_TEXT
                                                : e->input;
    struct planned_options options = {.policy = (enum planned_policy)e->policy,
                                      .levels = (enum plan_levels)e->levels,
                                      .split = (enum plan_split)e->split,
                                      .tolerance = millionths(e->tolerance),
                                      .kicks = PLAN_GOOD_KICKS,
                                      .seed = w->o->seed,
                                      .layer_moves = e->max_moves};
    struct planned p;
    double *imbalance;

    if (e->previous)
        TRY(next_map(&w->maps[0], &w->arena, &problem->shape, &problem->previous));
    TRY(planned_make(&p, &w->arena, problem, &options));
    if (format == OPTIONS_EPLB_TEXT)
        return print_plan(w, problem, &p);
    if (format == OPTIONS_EPLB_CSV) {
        eplb_print_csv(w->out, &p);
        return STATUS_OK;
    }
    TRY(imbalance_of(w, &p, problem->load, &imbalance));
    eplb_print_json(w->out, problem, &p, imbalance, format == OPTIONS_EPLB_JSON);
    return STATUS_OK;
}

/* -- eval, bound --- */

static enum status run_eval(struct work *w, struct problem *problem)
{
    enum plan_levels levels = (enum plan_levels)w->o->eplb.levels;
    struct planned_layer *layer;
    struct planned p;
    int32_t *map;
    int active = 0;

    TRY(next_map(&w->maps[0], &w->arena, &problem->shape, &map));
    TRY(planned_take(&p, &w->arena, &problem->shape, map));
    TRY(arena_take_array(&w->arena, (size_t)problem->shape.layers, sizeof *layer, "figures of layers",
                         &layer));
    TRY(planned_judge(&p, &w->arena, problem->load, levels, layer));
    for (int i = 0; i < problem->shape.layers; i++)
        active = layer[i].active > active ? layer[i].active : active;
    eplb_print_head(w->out, problem, levels);
    eplb_print_layers(w->out, layer, NULL, NULL, problem->shape.layers);
    fprintf(w->out, "at most %d experts are active on a rank when as few replicas as can be are used\n",
            active);
    return print_ranks(w, problem, &p);
}

static enum status run_bound(struct work *w, struct problem *problem)
{
    enum plan_levels levels = (enum plan_levels)w->o->eplb.levels;
    double *bound, mean = 0;

    TRY(arena_take_array(&w->arena, (size_t)problem->shape.layers, sizeof *bound, "bounds", &bound));
    TRY(planned_bound(&problem->shape, &w->arena, problem->load, levels, bound));
    eplb_print_head(w->out, problem, levels);
    fputs("layer    bound\n", w->out);
    for (int i = 0; i < problem->shape.layers; i++) {
        fprintf(w->out, "%5d %.6f\n", i, bound[i]);
        mean += bound[i] / problem->shape.layers;
    }
    fprintf(w->out, " mean %.6f\n", mean);
    return STATUS_OK;
}

/* -- problems, one after another --- */

static enum status read_problem(struct work *w, const char *text, size_t bytes, struct problem *problem)
{
    const struct options_eplb *e = &w->o->eplb;
    struct problem_defaults defaults = {.slots = e->slots,
                                        .redundant = e->redundant,
                                        .ranks = e->ranks,
                                        .nodes = e->nodes,
                                        .groups = e->groups};
    struct json json = {0};
    enum status status;

    if (e->input == OPTIONS_EPLB_CSV)
        return problem_read_csv(problem, &w->arena, text, bytes, &defaults);
    status = json_open(&json, "the text", text, bytes, 0);
    if (status == STATUS_OK)
        status = problem_read_json(problem, &w->arena, &json, &defaults);
    json_close(&json);
    return status;
}

static enum status answer(struct work *w, const char *text, size_t bytes)
{
    struct problem problem;

    TRY(read_problem(w, text, bytes, &problem));
    if (w->o->command == OPTIONS_EPLB_PLAN)
        return run_plan(w, &problem);
    return w->o->command == OPTIONS_EPLB_EVAL ? run_eval(w, &problem) : run_bound(w, &problem);
}

static enum status run_problems(struct work *w)
{
    const struct options_eplb *e = &w->o->eplb;
    const char *maps = w->o->command == OPTIONS_EPLB_EVAL ? e->placement : e->previous;
    const char *text;
    size_t bytes;

    TRY(source_open(&w->problems, w->o->operand_count > 0 ? w->o->operands[0] : NULL,
                    e->input == OPTIONS_EPLB_JSONL));
    if (maps)
        TRY(maps_open(&w->maps[0], maps));
    while (source_next(&w->problems, &text, &bytes)) {
        enum status status;

        TRY(arena_open(&w->arena, "a problem", PROBLEM_BYTES));
        status = source_blame(&w->problems, answer(w, text, bytes));
        arena_close(&w->arena);
        /* Whatever is wrong with a problem came from outside. */
        if (status != STATUS_OK)
            return status == STATUS_USAGE ? status_prefix(STATUS_BAD_INPUT, "%s", "") : status;
    }
    if (w->problems.line == 0)
        return FAIL(STATUS_BAD_INPUT, "%s holds no problem", w->problems.name);
    return maps ? check_used_up(&w->maps[0], w->problems.name) : STATUS_OK;
}

/* -- diff --- */

static enum status diff_next(struct work *w)
{
    struct placement_shape shape = {.groups = 1, .nodes = 1, .ranks = w->o->eplb.ranks};
    struct problem_map map;
    struct planned plans[2];
    int32_t *other;
    int *moves;
    int64_t sum = 0;

    TRY(read_next_map(&w->maps[0], &w->arena, &map));
    shape.layers = map.layers;
    shape.slots = map.slots;
    shape.experts = map.experts;
    if (shape.ranks > shape.slots)
        return FAIL(STATUS_USAGE, "--ranks: %d slots are too few for %d ranks", shape.slots, shape.ranks);
    TRY(source_blame(&w->maps[0], problem_check_map(map.expert, &shape, &w->arena)));
    TRY(next_map(&w->maps[1], &w->arena, &shape, &other));
    TRY(planned_take(&plans[0], &w->arena, &shape, map.expert));
    TRY(planned_take(&plans[1], &w->arena, &shape, other));
    TRY(arena_take_array(&w->arena, (size_t)shape.layers, sizeof *moves, "moves", &moves));
    TRY(planned_moves(&plans[0], &plans[1], &w->arena, moves));
    for (int i = 0; i < shape.layers; i++) {
        fprintf(w->out, "layer %d: %d of %d slots\n", i, moves[i], shape.slots);
        sum += moves[i];
    }
    fprintf(w->out, "%lld moves, %.2f a layer, %.2f %% of the slots", (long long)sum,
            (double)sum / shape.layers, 100.0 * (double)sum / shape.layers / shape.slots);
    if (w->o->eplb.expert_bytes > 0)
        fprintf(w->out, ", %.0f bytes", (double)sum * (double)w->o->eplb.expert_bytes);
    fputc('\n', w->out);
    return STATUS_OK;
}

static enum status run_diff(struct work *w)
{
    if (w->o->eplb.ranks == 0)
        return FAIL(STATUS_USAGE, "eplb diff needs --ranks P: what moves depends on which slots a rank has");
    for (int i = 0; i < 2; i++)
        TRY(maps_open(&w->maps[i], w->o->operands[i]));
    do {
        TRY(arena_open(&w->arena, "two placements", PROBLEM_BYTES));
        TRY(diff_next(w));
        arena_close(&w->arena);
    } while (w->maps[0].lines && w->maps[0].at < w->maps[0].bytes);
    return check_used_up(&w->maps[1], w->maps[0].name);
}

enum status eplb_tool_run(const struct options *o, const struct environment *e, int answers)
{
    static struct work w;
    enum status status;

    (void)e;
    w = (struct work){.o = o};
    TRY(report_open(answers, &w.out));
    status = o->command == OPTIONS_EPLB_DIFF ? run_diff(&w) : run_problems(&w);
    status = report_end(w.out, status);
    arena_close(&w.arena);
    arena_close(&w.problems.arena);
    for (int i = 0; i < 2; i++)
        arena_close(&w.maps[i].arena);
    return status;
}
