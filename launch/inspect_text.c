/* inspect_text.c - the report of inspect for people
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/inspect.h"

#include <inttypes.h>
#include <string.h>

enum { SIZE_BYTES = 32 };

/* "12.3 GiB" */
static const char *size_text(char out[static SIZE_BYTES], size_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes;
    int unit = 0;

    while (value >= 1023.95 && unit < 5) {
        value /= 1024;
        unit++;
    }
    snprintf(out, SIZE_BYTES, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}

/* -- the model --- */

static void print_layers(FILE *out, const struct config *c)
{
    int dense = c->layers - c->expert_layers;

    fprintf(out, "  layers      %d", c->layers);
    if (c->expert_layers > 0) {
        fputs(": ", out);
        if (dense > 0)
            fprintf(out, "%d dense, ", dense);
        fprintf(out, "%d with %d experts, top %d", c->expert_layers, c->experts, c->choices);
        if (c->shared_width > 0)
            fputs(", and a shared expert", out);
    }
    fputc('\n', out);
}

static void print_widths(FILE *out, const struct config *c)
{
    fprintf(out, "  widths      model %d", c->width);
    if (c->expert_layers > 0)
        fprintf(out, ", experts %d", c->expert_width);
    if (c->shared_width > 0)
        fprintf(out, ", shared expert %d", c->shared_width);
    if (c->expert_layers < c->layers)
        fprintf(out, ", dense %d", c->dense_width);
    fprintf(out, "; %d heads of %d, %d of keys and values\n", c->heads, c->head_width, c->kv_heads);
}

/* "401.1 billion" */
static void print_count(FILE *out, int64_t count)
{
    if (count >= 1000000000)
        fprintf(out, "%.2f billion", (double)count / 1e9);
    else if (count >= 1000000)
        fprintf(out, "%.2f million", (double)count / 1e6);
    else
        fprintf(out, "%" PRId64, count);
}

static void print_formats(FILE *out, const struct census *census)
{
    const char *between = ": ";

    for (int d = 0; d < DTYPE_COUNT; d++) {
        if (census->of_dtype[d] == 0)
            continue;
        fprintf(out, "%s%s %.1f %%", between, dtype_name((enum dtype)d),
                100 * (double)census->of_dtype[d] / (double)census->bytes);
        between = ", ";
    }
}

static void print_model(FILE *out, const struct inspect_report *r)
{
    const struct engine *e = r->engine;
    const struct config *c = &e->config;
    int files = e->tensors.shard_count;
    char size[SIZE_BYTES];

    fprintf(out, "%s in %s\n", c->architecture, e->directory);
    print_layers(out, c);
    print_widths(out, c);
    fprintf(out, "  vocabulary  %d; made for %d positions\n", c->vocabulary, c->max_positions);
    fputs("  parameters  ", out);
    print_count(out, r->census.parameters);
    if (r->census.active != r->census.parameters) {
        fputs(", of which a token meets ", out);
        print_count(out, r->census.active);
    }
    fprintf(out, "\n  weights     %s in %d file%s", size_text(size, (size_t)r->census.bytes), files,
            files == 1 ? "" : "s");
    print_formats(out, &r->census);
    fputc('\n', out);
}

/* -- what does not fit --- */

static void print_nearest(FILE *out, const struct inspect_plan *p)
{
    const struct budget_nearest *n = &p->nearest;
    char size[SIZE_BYTES];

    fputs("  nearest settings that fit, each with the others as they are:\n", out);
    if (n->positions > 0)
        fprintf(out, "    --max-model-len %d\n", n->positions);
    if (n->cache_memory > 0)
        fprintf(out, "    --kv-cache-memory %zu (%s)\n", n->cache_memory, size_text(size, n->cache_memory));
    if (n->rows > 0)
        fprintf(out, "    --max-num-batched-tokens %d\n", n->rows);
    if (n->tensor > 0)
        fprintf(out, "    --tensor-parallel-size %d\n", n->tensor);
    if (n->memory > 0)
        fprintf(out, "    %s of memory for each rank%s\n", size_text(size, n->memory),
                p->budget.device ? ", all of its GPU" : "");
    if (n->ranks > 0)
        fprintf(out, "    %d ranks on %d node%s, with as much memory each\n", n->ranks, n->nodes,
                n->nodes == 1 ? "" : "s");
    else
        fprintf(out, "    (no number of such ranks up to %d)\n", BUDGET_RANKS_MOST);
}

static void print_verdict(FILE *out, const struct inspect_plan *p)
{
    const struct budget *b = &p->budget;
    const struct budget_rank *r = &b->rank[b->heaviest];
    char took[SIZE_BYTES], has[SIZE_BYTES];

    size_text(has, b->place.memory);
    if (budget_fits(b)) {
        fprintf(out, "  fits: rank %d takes %s of %s\n", b->heaviest, size_text(took, budget_total(r)), has);
        return;
    }
    if (!b->loads)
        fprintf(out, "  does not fit: rank %d takes %s beside keys and values, and may take %s\n",
                b->heaviest, size_text(took, budget_total(r) - r->cache), has);
    else if (budget_total(r) > b->place.memory)
        fprintf(out, "  does not fit: rank %d takes %s, and may take %s\n", b->heaviest,
                size_text(took, budget_total(r)), has);
    else
        fprintf(out, "  does not fit: the cache holds %" PRId64 " positions, --max-model-len asks for %d\n",
                b->pages * PAGE_ROWS, budget_wanted(b));
    print_nearest(out, p);
}

/* -- one number of ranks --- */

static void print_cache(FILE *out, const struct budget *b)
{
    int64_t positions = b->pages * PAGE_ROWS;
    char page[SIZE_BYTES], sequence[SIZE_BYTES];
    int longest = positions < b->positions ? (int)positions : b->positions;

    if (b->pages == 0) {
        fprintf(out, "  cache       not one page of %d positions, %s on a rank\n", PAGE_ROWS,
                size_text(page, b->page_bytes));
        return;
    }
    fprintf(out, "  cache       %" PRId64 " pages of %d positions for each data group, %s a page on a rank\n",
            b->pages, PAGE_ROWS, size_text(page, b->page_bytes));
    fprintf(out, "              a sequence has at most %d positions, then %s\n", longest,
            size_text(sequence, (size_t)((longest + PAGE_ROWS - 1) / PAGE_ROWS) * b->page_bytes));
}

enum { PARTS = 6, PARTS_MOST = PARTS + 2 };

/* The columns of a rank; two more where the backend has memory of its own. */
static int bytes_of(const struct budget *b, const struct budget_rank *r, size_t bytes[static PARTS_MOST])
{
    const size_t here[PARTS] = {r->weights, r->cache, r->buffers, r->exchanges, r->tables, budget_total(r)};
    const size_t apart[PARTS_MOST] = {r->weights, r->cache,     r->buffers,      r->exchanges,
                                      r->backend, r->libraries, budget_total(r), r->host};

    memcpy(bytes, b->device ? apart : here, b->device ? sizeof apart : sizeof here);
    return b->device ? PARTS_MOST : PARTS;
}

static void print_heading(FILE *out, const struct budget *b, const char *first)
{
    static const char *const here[PARTS] = {"weights", "cache", "buffers", "exchanges", "tables", "together"};
    static const char *const apart[PARTS_MOST] = {"weights", "cache",     "buffers",  "exchanges",
                                                  "backend", "libraries", "together", "host"};

    fprintf(out, "  %-11s %5s", first, "slots");
    for (int i = 0; i < (b->device ? PARTS_MOST : PARTS); i++)
        fprintf(out, " %10s", b->device ? apart[i] : here[i]);
}

static void print_bytes(FILE *out, const struct budget *b, const struct budget_rank *r)
{
    size_t bytes[PARTS_MOST];
    int count = bytes_of(b, r, bytes);
    char size[SIZE_BYTES];

    fprintf(out, " %5d", r->slots);
    for (int i = 0; i < count; i++)
        fprintf(out, " %10s", size_text(size, bytes[i]));
}

/* Do two ranks show the same line? */
static bool look_alike(const struct budget *b, const struct budget_rank *one, const struct budget_rank *two)
{
    size_t bytes[PARTS_MOST], others[PARTS_MOST];
    int count = bytes_of(b, one, bytes);
    char text[SIZE_BYTES], other[SIZE_BYTES];
    bool alike = one->slots == two->slots;

    bytes_of(b, two, others);
    for (int i = 0; alike && i < count; i++)
        alike = strcmp(size_text(text, bytes[i]), size_text(other, others[i])) == 0;
    return alike;
}

/* Ranks that follow each other and take alike share a line. */
static void print_ranks(FILE *out, const struct budget *b)
{
    print_heading(out, b, "rank");
    fputc('\n', out);
    for (int first = 0, end; first < b->options.ranks; first = end) {
        char name[32];

        end = first + 1;
        while (end < b->options.ranks && look_alike(b, &b->rank[first], &b->rank[end]))
            end++;
        if (end - first == 1)
            snprintf(name, sizeof name, "%d", first);
        else
            snprintf(name, sizeof name, "%d-%d", first, end - 1);
        fprintf(out, "  %-11s", name);
        print_bytes(out, b, &b->rank[first]);
        fputc('\n', out);
    }
}

/* Ranks lie on the machines in order; the one whose ranks share most. */
static void print_shared(FILE *out, const struct budget *b)
{
    int machine = (b->options.ranks + b->place.nodes - 1) / b->place.nodes;
    char size[SIZE_BYTES];
    size_t most = 0;

    for (int first = 0; first < b->options.ranks; first += machine) {
        size_t together = 0;

        for (int r = first; r < first + machine && r < b->options.ranks; r++)
            together += b->rank[r].shared;
        most = together > most ? together : most;
    }
    if (most > 0)
        fprintf(out, "  shared      %s of the weights are experts in /dev/shm, on the fullest node\n",
                size_text(size, most));
}

static void print_plan(FILE *out, const struct inspect_plan *p)
{
    const struct budget *b = &p->budget;
    int tensor = b->options.ranks / b->groups;
    char size[SIZE_BYTES], device[SIZE_BYTES];

    fprintf(out, "%d rank%s on %d node%s, backend %s, %s of memory for each rank%s%s\n", b->options.ranks,
            b->options.ranks == 1 ? "" : "s", b->place.nodes, b->place.nodes == 1 ? "" : "s", b->place.name,
            size_text(size, b->place.memory), b->device ? ", of a GPU's " : "",
            b->device ? size_text(device, b->device) : "");
    fprintf(out,
            "  layout      %d data group%s of %d rank%s, %d cop%s of the experts, slots per layer below\n",
            b->groups, b->groups == 1 ? "" : "s", tensor, tensor == 1 ? "" : "s", b->copies,
            b->copies == 1 ? "y" : "ies");
    print_cache(out, b);
    print_ranks(out, b);
    print_shared(out, b);
    print_verdict(out, p);
}

/* -- several numbers of ranks --- */

static void print_table(FILE *out, const struct inspect_report *r)
{
    const struct budget *first = &r->plan[0].budget;

    fprintf(out, "the heaviest rank, backend %s\n", first->place.name);
    print_heading(out, first, "ranks");
    fprintf(out, " %10s %10s  fits\n", "memory", "positions");
    for (int i = 0; i < r->plans; i++) {
        const struct budget *b = &r->plan[i].budget;
        char size[SIZE_BYTES];

        fprintf(out, "  %-11d", b->options.ranks);
        print_bytes(out, b, &b->rank[b->heaviest]);
        fprintf(out, " %10s %10" PRId64 "  %s\n", size_text(size, b->place.memory), b->pages * PAGE_ROWS,
                budget_fits(b)                                                       ? "yes"
                : !b->loads || budget_total(&b->rank[b->heaviest]) > b->place.memory ? "no: memory"
                                                                                     : "no: --max-model-len");
    }
}

void inspect_text(FILE *out, const struct inspect_report *r)
{
    print_model(out, r);
    fputc('\n', out);
    if (r->plans == 1)
        print_plan(out, &r->plan[0]);
    else
        print_table(out, r);
    fprintf(out, "\nplanned in %.3f s, beside %s\n", r->seconds,
            r->plan[0].budget.device ? "the driver's context on each GPU; libraries are an estimate, a run "
                                       "measures them and its cache takes what is left"
                                     : "the memory of the program and its libraries");
}
