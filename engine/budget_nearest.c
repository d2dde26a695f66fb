/* budget_nearest.c - the nearest settings that fit, when a plan does not
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/budget_nearest.h"

static const size_t TRIAL_BYTES = (size_t)16 << 20; /* of address space, for the plan that is tried */

/* Would these options fit? */
static enum status fits(const struct engine *read, const struct budget *b,
                        const struct engine_options *options, int nodes, bool *yes)
{
    struct budget_place place = b->place;
    struct arena arena;
    struct budget trial;
    enum status status;

    place.nodes = nodes;
    TRY(arena_open(&arena, "a plan", TRIAL_BYTES));
    status = budget_plan(&trial, &arena, read, options, &place);
    if (status == STATUS_OK)
        *yes = budget_fits(&trial);
    arena_close(&arena);
    return status;
}

static int common_divisor(int a, int b)
{
    return b == 0 ? a : common_divisor(b, a % b);
}

/* Ranks come in such numbers. */
static int rank_unit(const struct engine_options *o)
{
    int tensor = o->tensor > 0 ? o->tensor : 1;
    int experts = o->expert_ranks > 0 ? o->expert_ranks : 1;

    return tensor / common_divisor(tensor, experts) * experts;
}

static enum status with_units(const struct engine *read, const struct budget *b, int units, int *nodes,
                              bool *yes)
{
    struct engine_options o = b->options;
    int each = (b->options.ranks + b->place.nodes - 1) / b->place.nodes;

    o.ranks = units * rank_unit(&b->options);
    *nodes = (o.ranks + each - 1) / each;
    return fits(read, b, &o, *nodes, yes);
}

/* The least number of units that fits: doubled until it does, then halved between. */
static enum status more_ranks(struct budget_nearest *out, const struct engine *read, const struct budget *b)
{
    int unit = rank_unit(&b->options);
    int low = b->options.ranks / unit; /* does not fit */
    int high = low, nodes;
    bool yes = false;

    while (!yes && high <= BUDGET_RANKS_MOST / unit / 2) {
        low = high;
        high *= 2;
        TRY(with_units(read, b, high, &nodes, &yes));
    }
    if (!yes)
        return STATUS_OK;
    while (high - low > 1) {
        int middle = low + (high - low) / 2;

        TRY(with_units(read, b, middle, &nodes, &yes));
        if (yes)
            high = middle;
        else
            low = middle;
    }
    TRY(with_units(read, b, high, &out->nodes, &yes));
    out->ranks = high * unit;
    return STATUS_OK;
}

/* The least larger group that the ranks divide into. */
static enum status larger_groups(struct budget_nearest *out, const struct engine *read,
                                 const struct budget *b)
{
    struct engine_options o = b->options;
    int tensor = o.tensor > 0 ? o.tensor : 1;
    bool yes = false;

    for (o.tensor = tensor + 1; o.tensor <= o.ranks && o.tensor <= read->config.heads; o.tensor++) {
        if (o.ranks % o.tensor != 0)
            continue;
        TRY(fits(read, b, &o, b->place.nodes, &yes));
        if (!yes)
            continue;
        out->tensor = o.tensor;
        return STATUS_OK;
    }
    return STATUS_OK;
}

/* The largest batch that fits. */
static enum status fewer_rows(struct budget_nearest *out, const struct engine *read, const struct budget *b)
{
    struct engine_options o = b->options;
    int low = 0, high = b->options.max_rows; /* fits; does not */
    bool yes;

    while (high - low > 1) {
        o.max_rows = low + (high - low) / 2;
        TRY(fits(read, b, &o, b->place.nodes, &yes));
        if (yes)
            low = o.max_rows;
        else
            high = o.max_rows;
    }
    out->rows = low;
    return STATUS_OK;
}

/* Bytes of keys and values that one sequence of the length that was asked for takes on a rank. */
static size_t sequence_bytes(const struct budget *b)
{
    return (size_t)((budget_wanted(b) + PAGE_ROWS - 1) / PAGE_ROWS) * b->page_bytes;
}

/* Memory in which this rank loads and has a cache as asked for, or for one sequence. */
static size_t enough_for(const struct budget *b, const struct budget_rank *r)
{
    const struct engine_options *o = &b->options;
    size_t cache = o->kv_cache_memory > 0 ? o->kv_cache_memory : sequence_bytes(b);
    size_t all = budget_total(r) - r->cache + cache;
    double share = (double)(cache + r->reserved) / o->memory_utilization;
    size_t divided =
        b->place.real->apart || o->kv_cache_memory > 0 ? 0 : r->weights + r->exchanges + (size_t)share + 1;

    if (b->place.real->apart) /* of which a share is used */
        return (size_t)((double)all / o->memory_utilization) + 1;
    return all > divided ? all : divided;
}

static size_t enough_memory(const struct budget *b)
{
    size_t most = 0;

    for (int i = 0; i < b->options.ranks; i++)
        if (enough_for(b, &b->rank[i]) > most)
            most = enough_for(b, &b->rank[i]);
    return most;
}

/* The rank's memory, less everything but keys and values. */
static size_t room_for_cache(const struct budget *b)
{
    size_t least = SIZE_MAX;

    for (int i = 0; i < b->options.ranks; i++) {
        size_t fixed = budget_total(&b->rank[i]) - b->rank[i].cache;
        size_t room = b->place.memory > fixed ? b->place.memory - fixed : 0;

        if (room < least)
            least = room;
    }
    return b->page_bytes > 0 ? least - least % b->page_bytes : 0;
}

enum status budget_nearest(struct budget_nearest *out, const struct engine *read, const struct budget *b)
{
    bool overfull = budget_total(&b->rank[b->heaviest]) > b->place.memory;
    size_t room = room_for_cache(b);

    *out = (struct budget_nearest){0};
    if (budget_fits(b))
        return STATUS_OK;
    if (room >= sequence_bytes(b) && (overfull || b->options.kv_cache_memory > 0))
        out->cache_memory = overfull ? room : sequence_bytes(b);
    if (!overfull && b->pages > 0 && b->pages * PAGE_ROWS < budget_wanted(b))
        out->positions = (int)(b->pages * PAGE_ROWS);
    if (overfull || !b->loads || b->options.kv_cache_memory == 0)
        out->memory = enough_memory(b);
    TRY(fewer_rows(out, read, b));
    TRY(larger_groups(out, read, b));
    return more_ranks(out, read, b);
}
