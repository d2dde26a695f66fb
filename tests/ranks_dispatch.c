/* ranks_dispatch.c - every row reaches the slots it was sent to, and every result its row and choice, by
 * whichever way
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/dispatch.h"

#include "ranks.h"

#include "comm/comm_mpi.h"
#include "comm/comm_shared.h"
#include "comm/watch.h"
#include "kernels/reference/reference.h"

#include <signal.h>

enum { MAX_ROWS = 60, MAX_CHOICES = 8, MAX_WIDTH = 9, MAX_SLOTS = 64, MAX_RANKS = 8, ROUNDS = 60 };

struct kind {
    const char *name;
    enum status (*open)(MPI_Comm mpi, size_t most_bytes, struct comm **out);
};

static struct kind kinds[] = {{"mpi", comm_mpi_open}, {"shared", comm_shared_open}};

/* One dispatch: what all ranks agree on, and what this rank sends. */
struct shape {
    int tensor, width, choices, hot;
    int rows; /* of this rank */
    bool scaled;
    struct placement placement;
    int32_t rank_node[MAX_RANKS];
    int32_t expert[MAX_ROWS * MAX_CHOICES];
    float scale[MAX_ROWS * MAX_CHOICES];
    float x[MAX_ROWS * MAX_WIDTH];
};

/* A comm that counts what this rank sends to other nodes. */
struct counting {
    struct comm table;
    struct comm *inner;
    const int32_t *rank_node;
    size_t bytes;
    int calls, stop_at; /* exchanges; the one before which this rank stands still, 0: none */
};

static struct arena arena;
static uint64_t common; /* the same stream on all ranks */
static uint64_t own;    /* and one of this rank */

/* Memory as it is at the start: zero. */
static void fresh(void)
{
    memset(arena.base, 0, arena.used);
    arena.used = 0;
}

static int below(uint64_t *stream, int n)
{
    *stream = *stream * 6364136223846793005u + 1442695040888963407u;
    return (int)((*stream >> 33) % (uint64_t)n);
}

static int divisor(int of)
{
    int d = 1 + below(&common, of);

    while (of % d)
        d--;
    return d;
}

/* Uneven ranks, some without slots, empty slots, replicas. */
static void random_placement(struct placement *p)
{
    int experts = MAX_CHOICES + below(&common, 12), slots = experts + below(&common, MAX_SLOTS - experts);

    assert_ok(placement_open(p, &arena, 2, experts, slots, ranks_size));
    for (int r = 1; r < ranks_size; r++) {
        int least = p->rank_first[r - 1], room = 1 + 2 * slots / ranks_size;

        p->rank_first[r] = least + below(&common, room < slots - least ? room : slots - least + 1);
    }
    for (int layer = 0; layer < 2; layer++) {
        int shift = below(&common, experts);

        for (int r = 0; r < ranks_size; r++) {
            for (int s = p->rank_first[r]; s < p->rank_first[r + 1]; s++)
                p->expert[layer * slots + s] = s - p->rank_first[r] < experts ? (s + shift) % experts : -1;
        }
    }
    assert_ok(placement_index(p));
}

/* Rows of this rank: the batch's rows are drawn for the groups, some of which get none. */
static int random_rows(const struct grid *g)
{
    int left = below(&common, MAX_ROWS + 1), mine = 0;

    for (int group = 0; group < g->groups; group++) {
        int rows = below(&common, 3) == 0 ? 0 : below(&common, left + 1);

        if (group == g->my_group)
            mine = grid_rows(g, rows, g->my_part).count;
        left -= rows;
    }
    return mine;
}

/* Different experts for one row: of one rank if there is a hot one that has enough, else any. */
static void choose_experts(const struct shape *s, int layer, int32_t *expert)
{
    const struct placement *p = &s->placement;
    int32_t list[MAX_SLOTS];
    int count = 0;

    for (int i = s->hot >= 0 ? p->rank_first[s->hot] : 0; s->hot >= 0 && i < p->rank_first[s->hot + 1]; i++) {
        if (p->expert[layer * p->slots + i] >= 0)
            list[count++] = p->expert[layer * p->slots + i];
    }
    if (count < s->choices) {
        for (count = 0; count < p->experts; count++)
            list[count] = count;
    }
    for (int k = 0; k < s->choices; k++) {
        int at = k + below(&own, count - k);

        expert[k] = list[at];
        list[at] = list[k];
    }
}

static enum status exchange_counted(struct comm *c, const void *mine, const size_t *bytes,
                                    const void **arrivals)
{
    struct counting *n = (struct counting *)(void *)c;

    if (++n->calls == n->stop_at)
        raise(SIGSTOP);
    for (int to = 0; to < c->size; to++)
        if (n->rank_node[to] != n->rank_node[c->rank])
            n->bytes += bytes[c->rank * c->size + to];
    return n->inner->exchange(n->inner, mine, bytes, arrivals);
}

/* As many consecutive ranks to a node as there are, the last one may have fewer; or nodes in turn. */
static void random_nodes(int32_t *rank_node)
{
    int size = 1 + below(&common, ranks_size), turns = below(&common, 4) == 0;

    for (int r = 0; r < ranks_size; r++)
        rank_node[r] = turns ? 7 - r % size : r / size;
}

static void random_shape(struct shape *s, struct grid *g, struct comm *world, int layer)
{
    s->tensor = divisor(ranks_size);
    assert_ok(grid_shape(g, ranks_size, ranks_rank, s->tensor, 0));
    g->world = g->rows = world;
    s->width = 2 + below(&common, MAX_WIDTH - 1);
    s->choices = 1 + below(&common, MAX_CHOICES);
    s->hot = below(&common, 3) == 0 ? below(&common, ranks_size) : -1;
    s->scaled = below(&common, 2);
    if (below(&common, 3) == 0)
        assert_ok(placement_spread(&s->placement, &arena, 2, 8, ranks_size, divisor(ranks_size)));
    else
        random_placement(&s->placement);
    random_nodes(s->rank_node);
    s->rows = random_rows(g);
    for (int t = 0; t < s->rows; t++) {
        choose_experts(s, layer, s->expert + t * s->choices);
        for (int k = 0; k < s->choices; k++)
            s->scale[t * s->choices + k] = (float)(1 + below(&own, 7));
        for (int c = 0; c < s->width; c++)
            s->x[t * MAX_WIDTH + c] = (float)(ranks_rank * MAX_ROWS + t + c);
    }
}

static float factor(int expert)
{
    return (float)(expert + 2);
}

/* Groups cover all arrivals once; within a slot rows stand by source rank and row. */
static bool grouped(const struct dispatch *d, const struct shape *s, int arriving, struct matrix arrivals)
{
    int local = s->placement.rank_first[ranks_rank + 1] - s->placement.rank_first[ranks_rank];
    bool seen[MAX_ROWS * MAX_CHOICES] = {false};
    bool good = d->first[0] == 0 && d->first[local] == arriving && arrivals.rows == arriving;

    for (int slot = 0; good && slot < local; slot++) {
        for (int i = d->first[slot]; good && i < d->first[slot + 1]; i++) {
            int row = d->order[i];

            good = row >= 0 && row < arriving && !seen[row];
            if (good)
                seen[row] = true;
            if (good && !s->scaled && i > d->first[slot])
                good = arrivals.data[(ptrdiff_t)row * arrivals.stride] >
                       arrivals.data[(ptrdiff_t)d->order[i - 1] * arrivals.stride];
        }
    }
    return good;
}

/* What was gathered is what this rank chose, and the slots of each expert take all of its rows. */
static bool counted(const struct dispatch *d, const struct shape *s, int layer)
{
    const struct placement *p = &s->placement;
    int32_t mine[MAX_SLOTS] = {0};
    int sent = 0;
    bool good = true;

    for (int c = 0; c < d->cohorts; c++)
        sent += d->cohort[c].sent;
    good &= sent == s->rows * s->choices;
    for (int i = 0; i < s->rows * s->choices; i++)
        mine[s->expert[i]]++;
    for (int e = 0; e < p->experts; e++)
        good &= d->wanted[(ptrdiff_t)ranks_rank * p->experts + e] == mine[e];
    for (int r = 0; r < ranks_size; r++) {
        int32_t left[MAX_SLOTS];

        good &= d->notes[r] == 100 + r;
        memcpy(left, d->wanted + (ptrdiff_t)r * p->experts, (size_t)p->experts * sizeof *left);
        for (int slot = 0; slot < p->slots; slot++) {
            int e = p->expert[layer * p->slots + slot];

            if (e >= 0)
                left[e] -= d->counts[(ptrdiff_t)r * p->slots + slot];
            else
                good &= d->counts[(ptrdiff_t)r * p->slots + slot] == 0;
        }
        for (int e = 0; e < p->experts; e++)
            good &= left[e] == 0;
    }
    return good;
}

/* What the experts of this rank would do: each multiplies by its own factor. */
static void multiply(const struct dispatch *d, const struct shape *s, struct matrix arrivals, float *results)
{
    const int32_t *expert = s->placement.expert + s->placement.slots; /* of layer 1 */
    int begin = s->placement.rank_first[ranks_rank];
    int local = s->placement.rank_first[ranks_rank + 1] - begin;

    for (int slot = 0; slot < local; slot++) {
        for (int i = d->first[slot]; i < d->first[slot + 1]; i++) {
            for (int c = 0; c < d->width; c++)
                results[d->order[i] * d->width + c] =
                    arrivals.data[(ptrdiff_t)d->order[i] * arrivals.stride + c] *
                    factor(expert[begin + slot]);
        }
    }
}

static bool returned_to_choices(const struct dispatch *d, const struct shape *s,
                                const struct dispatch_cohort *cohort, struct matrix returned)
{
    int begin = cohort->own.first * s->choices, end = begin + cohort->own.count * s->choices;
    bool good = returned.rows == cohort->sent;

    for (int i = begin; good && i < end; i++) {
        int t = i / s->choices;

        good = d->place[i] >= 0 && d->place[i] < returned.rows;
        for (int c = 0; good && c < s->width; c++) {
            float wanted = s->x[t * MAX_WIDTH + c] * (s->scaled ? s->scale[i] : 1.0f) * factor(s->expert[i]);
            float got = returned.data[(ptrdiff_t)d->place[i] * returned.stride + c];

            good = got >= wanted && got <= wanted;
        }
    }
    return good;
}

/* Rows of a cohort that go to other nodes, and their choices that are there. */
static void add_crossings(const struct dispatch *d, const struct shape *s, const struct dispatch_cohort *c,
                          int64_t *sums)
{
    const struct placement *p = &s->placement;
    int32_t rank_of[MAX_ROWS * MAX_CHOICES]; /* of each place */
    int sent = 0;

    for (int to = 0; to < ranks_size; to++)
        for (int slot = p->rank_first[to]; slot < p->rank_first[to + 1]; slot++)
            for (int i = 0; i < c->counts[(ptrdiff_t)ranks_rank * p->slots + slot]; i++)
                rank_of[sent++] = to;
    for (int t = c->own.first; t < c->own.first + c->own.count; t++) {
        bool there[MAX_RANKS] = {false};

        for (int k = 0; k < s->choices; k++) {
            int32_t node = s->rank_node[rank_of[d->place[t * s->choices + k]]];

            if (node == s->rank_node[ranks_rank])
                continue;
            sums[0] += !there[node];
            sums[1]++;
            there[node] = true;
        }
    }
}

/* Each row crosses once to each other node that has one of its choices; and that is what the comm was given.
 */
static bool crossed_once(const struct dispatch *d, const struct shape *s, const struct counting *c)
{
    int64_t sums[2] = {0};
    size_t mine;

    for (int i = 0; i < d->cohorts; i++)
        add_crossings(d, s, &d->cohort[i], sums);
    mine = (size_t)sums[0] * (size_t)s->width * sizeof(float);
    MPI_Allreduce(MPI_IN_PLACE, sums, 2, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD); /* no call of the comm */
    return c->bytes == mine && sums[0] == d->crossed && sums[1] == d->crossed_direct;
}

/* Arrivals of a way, to be those of the other. */
struct kept {
    float arrivals[MAX_ROWS * MAX_CHOICES * MAX_WIDTH];
    int32_t order[MAX_ROWS * MAX_CHOICES], first[MAX_SLOTS + 1];
};

static void keep(struct kept *k, const struct dispatch *d, struct matrix arrivals)
{
    size_t arriving = (size_t)arrivals.rows;

    memset(k, 0, sizeof *k);
    memcpy(k->order, d->order, arriving * sizeof *d->order);
    memcpy(k->first, d->first, ((size_t)d->local_slots + 1) * sizeof *d->first);
    if (arriving > 0)
        memcpy(k->arrivals, arrivals.data, arriving * (size_t)d->width * sizeof(float));
}

/* Both cohorts together are what was planned, and each has its part of every slot's rows but for one row. */
static bool halved(const struct dispatch *d, const struct shape *s, int layer)
{
    const struct placement *p = &s->placement;
    bool good = true;

    for (int r = 0; r < ranks_size; r++)
        for (int slot = 0; slot < p->slots; slot++) {
            ptrdiff_t at = (ptrdiff_t)r * p->slots + slot;
            int expert = p->expert[layer * p->slots + slot];
            int64_t both = d->counts[at], one = d->cohort[0].counts[at], all, half = 0;

            if (d->cohorts == 1 || expert < 0)
                continue;
            for (int other = 0; other < p->slots; other++)
                if (p->expert[layer * p->slots + other] == expert)
                    half += d->cohort[0].counts[(ptrdiff_t)r * p->slots + other];
            all = d->wanted[(ptrdiff_t)r * p->experts + expert];
            good &= one + d->cohort[1].counts[at] == both && one >= 0 && one <= both;
            good &= all == 0 || ((one - 1) * all < both * half && both * half < (one + 1) * all);
        }
    return good;
}

/* The rows of a cohort that have arrived: multiplied and on their way back. */
static void answer_cohort(struct dispatch *d, const struct shape *s, int cohort, struct kept *kept)
{
    static float results[DISPATCH_COHORTS][MAX_ROWS * MAX_CHOICES * MAX_WIDTH];
    struct matrix arrivals;

    assert_all_ok(dispatch_arrive(d, cohort, &arrivals));
    assert_all(grouped(d, s, d->cohort[cohort].arriving, arrivals));
    keep(kept, d, arrivals);
    multiply(d, s, arrivals, results[cohort]);
    assert_all_ok(
        dispatch_return(d, cohort, (struct matrix){results[cohort], arrivals.rows, s->width, s->width}));
}

static void one_dispatch(struct comm *world, struct kernels *kernels)
{
    static struct kept kept[2][DISPATCH_COHORTS];
    static struct shape s;
    struct grid g;
    struct dispatch d;
    struct counting counting = {.table = *world, .inner = world, .rank_node = s.rank_node};
    struct matrix x = {.data = s.x, .stride = MAX_WIDTH}, returned;
    struct node_once *once;

    fresh();
    random_shape(&s, &g, world, 1);
    x.rows = s.rows;
    x.columns = s.width;
    assert_ok(dispatch_open(&d, &arena, &g, kernels, &s.placement, s.width, MAX_ROWS, MAX_CHOICES));
    counting.table.exchange = exchange_counted;
    g.rows = &counting.table;
    d.rank_node = s.rank_node;
    d.cohorts = 1 + below(&common, DISPATCH_COHORTS);
    d.policy = below(&common, 2) ? REPLICAS_FLOW : REPLICAS_EVEN;
    if (below(&common, 2))
        assert_ok(replicas_open(&d.replicas, &arena, &s.placement, s.rank_node));
    assert_ok(dispatch_by_nodes(&d, &arena, &s.placement));
    once = d.once;
    for (int again = 0; again < 2; again++) {
        counting.bytes = 0;
        d.once = again ? once : NULL;
        d.note = 100 + ranks_rank;
        assert_all_ok(dispatch_plan(&d, &s.placement, 1, s.expert, s.rows, s.choices));
        assert_all(counted(&d, &s, 1) && halved(&d, &s, 1));
        for (int i = 0; i < d.cohorts; i++)
            assert_all_ok(dispatch_send(&d, i, x, s.scaled ? s.scale : NULL));
        assert_all(again == 0 || crossed_once(&d, &s, &counting));
        for (int i = 0; i < d.cohorts; i++)
            answer_cohort(&d, &s, i, &kept[again][i]);
        for (int i = 0; i < d.cohorts; i++) {
            assert_all_ok(dispatch_returned(&d, i, &returned));
            assert_all(returned_to_choices(&d, &s, &d.cohort[i], returned));
        }
    }
    assert_all(memcmp(kept[0], kept[1], sizeof kept[0][0] * (size_t)d.cohorts) == 0);
    dispatch_close(&d);
}

/* Runs `check` over each kind of comm. */
static void over_all_kinds(void (*check)(struct comm *world, struct kernels *kernels))
{
    size_t counts = (size_t)ranks_size * MAX_SLOTS * sizeof(int32_t);
    size_t rows = (size_t)MAX_ROWS * MAX_CHOICES * MAX_WIDTH * sizeof(float);
    size_t lists = node_once_message_bytes(ranks_size, MAX_ROWS, MAX_CHOICES);
    struct kernels *kernels;

    assert_ok(arena_open(&arena, "dispatch test", 16 << 20));
    assert_ok(reference_open(&kernels));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct comm *world;

        rows = lists > rows ? lists : rows;
        assert_all_ok(kinds[i].open(MPI_COMM_WORLD, counts > rows ? counts : rows, &world));
        check(world, kernels);
        world->close(world);
    }
    kernels->close(kernels);
    arena_close(&arena);
}

static void many_dispatches(struct comm *world, struct kernels *kernels)
{
    common = 4711;
    own = 4711 + 1000003 * (uint64_t)(ranks_rank + 1);
    print_message("%s, seed %llu\n", world->kind, (unsigned long long)common);
    for (int round = 0; round < ROUNDS; round++)
        one_dispatch(world, kernels);
}

static void every_result_comes_back_to_its_row_and_choice(void **state)
{
    (void)state;
    over_all_kinds(many_dispatches);
}

/* Twice the same expert for one row is more than a rank has room for; all ranks must say so, none may wait.
 */
static void crowd(struct comm *world, struct kernels *kernels)
{
    const int32_t expert[] = {0, 0};
    struct placement p;
    struct grid g;
    struct dispatch d;

    fresh();
    assert_ok(grid_shape(&g, ranks_size, ranks_rank, 0, 0));
    g.world = g.rows = world;
    assert_ok(placement_spread(&p, &arena, 1, ranks_size, ranks_size, 1));
    assert_ok(dispatch_open(&d, &arena, &g, kernels, &p, 4, 1, 2));
    assert_all(dispatch_plan(&d, &p, 0, expert, ranks_rank == 0, 2) == STATUS_BUG);
    assert_all(strstr(status_text(), "2 rows go to rank 0, which has room for 1") != NULL);
    dispatch_close(&d);
}

static void all_ranks_refuse_more_rows_than_one_has_room_for(void **state)
{
    (void)state;
    over_all_kinds(crowd);
}

/* Rows of every rank for two experts of the rank behind the next, which is on another node. */
static enum status send_far(struct comm *world, struct kernels *kernels, int stop_at)
{
    int32_t far = 2 * ((ranks_rank + 2) % ranks_size), expert[] = {far, far + 1}, rank_node[MAX_RANKS];
    float row[4] = {0};
    struct counting counting = {.table = *world, .inner = world, .rank_node = rank_node, .stop_at = stop_at};
    struct matrix x = {.data = row, .rows = 1, .columns = 4, .stride = 4};
    struct placement p;
    struct dispatch d;
    struct grid g;

    for (int r = 0; r < ranks_size; r++)
        rank_node[r] = r / 2;
    TRY(grid_shape(&g, ranks_size, ranks_rank, 0, 0));
    counting.table.exchange = exchange_counted;
    g.world = world;
    g.rows = &counting.table;
    TRY(placement_spread(&p, &arena, 1, 2 * ranks_size, ranks_size, 1));
    TRY(dispatch_open(&d, &arena, &g, kernels, &p, 4, ranks_size, 2));
    d.rank_node = rank_node;
    TRY(dispatch_by_nodes(&d, &arena, &p));
    for (int layer = 0; layer < ROUNDS; layer++) {
        watch_enter(WATCH_DISPATCH, layer);
        TRY(dispatch_plan(&d, &p, 0, expert, 1, 2));
        TRY(dispatch_send(&d, 0, x, NULL));
    }
    return STATUS_OK;
}

/* With a second argument of "rails" or "spread": the last rank stands still before this half of layer 3. */
static int run_stopped(int argc, char **argv, int half)
{
    struct kernels *kernels;
    struct comm *world;
    enum status status;
    int given;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &given);
    MPI_Comm_rank(MPI_COMM_WORLD, &ranks_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks_size);
    status = arena_open(&arena, "dispatch test", 16 << 20);
    if (status == STATUS_OK)
        status = reference_open(&kernels);
    if (status == STATUS_OK)
        status = comm_shared_open(MPI_COMM_WORLD, 1 << 16, &world);
    if (status == STATUS_OK)
        status = watch_open(MPI_COMM_WORLD, 2);
    if (status == STATUS_OK)
        status = send_far(world, kernels, ranks_rank == ranks_size - 1 ? 2 * 3 + half : 0);
    fprintf(stderr, "rank %d ends: %s\n", ranks_rank, status == STATUS_OK ? "well" : status_text());
    watch_leave();
    MPI_Abort(MPI_COMM_WORLD, status_exit_code(status));
    return 1;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_result_comes_back_to_its_row_and_choice),
        cmocka_unit_test(all_ranks_refuse_more_rows_than_one_has_room_for),
    };

    if (argc > 2 && strcmp(argv[2], "rails") == 0)
        return run_stopped(argc, argv, 1);
    if (argc > 2 && strcmp(argv[2], "spread") == 0)
        return run_stopped(argc, argv, 2);
    return ranks_run(argc, argv, tests, sizeof tests / sizeof *tests);
}
