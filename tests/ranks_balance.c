/* ranks_balance.c - logits stay the same bits while experts move, arrive damaged, and stay where they were
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "ranks.h"

#include "comm/watch.h"
#include "kernels/checksum.h"
#include "rig.h"

#include <signal.h>

enum { PROMPT = 40, STEPS = 60, WINDOW = 8, LIMIT = 8, PATIENCE = 2 };

static const char *const models[] = {"models/demo", "tests/golden/llama4_a"};

/* The same tokens on all ranks. */
static int32_t token(int at, int vocabulary)
{
    uint64_t x = (ranks_seed + (uint64_t)at) * 0x9e3779b97f4a7c15u;

    return (int32_t)((x >> 33) % (uint64_t)(vocabulary - 64));
}

static uint64_t hash_logits(const struct head_result *result, int count)
{
    const unsigned char *bytes = (const unsigned char *)result->values;
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < (size_t)count * sizeof *result->values; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}

/* A prompt, then token by token; out [STEPS] hashes of the logits at rank 0. */
static void run_steps(struct rig *rig, uint64_t *out)
{
    int vocabulary = rig->engine.config.vocabulary;
    const struct head_result *results;
    int32_t tokens[PROMPT];

    for (int i = 0; i < PROMPT; i++)
        tokens[i] = token(i, vocabulary);
    for (int step = 0; step < STEPS; step++) {
        int32_t next = token(PROMPT + step, vocabulary);

        if (step == 0)
            assert_all_ok(rig_run(rig, tokens, PROMPT, 0, false, &results));
        else
            assert_all_ok(rig_run(rig, &next, 1, PROMPT + step - 1, false, &results));
        if (rig->engine.grid.rank == 0)
            out[step] = hash_logits(&results[0], vocabulary);
    }
}

/* What one process alone computes without the balancer. */
static void run_alone(const char *model, uint64_t *out)
{
    struct rig_options options = {.model = model, .comm = RIG_ALONE, .threads = 1, .tensor = 1};
    struct rig rig;

    assert_all_ok(rig_open(&rig, &options));
    run_steps(&rig, out);
    rig_close(&rig);
}

static struct balance_options forced(int redundant, enum replicas_policy policy)
{
    return (struct balance_options){.on = true,
                                    .redundant = redundant,
                                    .policy = policy,
                                    .steer = {.window = WINDOW, .staging = 2, .force = true}};
}

static void expect_equal(const uint64_t *found, const uint64_t *wanted)
{
    bool equal = ranks_rank != 0 || memcmp(found, wanted, STEPS * sizeof *found) == 0;

    assert_all(equal);
}

/* Does this piece arrive damaged? While fewer than half of the moves so far were dropped, the first move of
 * the group that carries bytes does, and a third of the others: some group is damaged and some is not,
 * whatever is drawn. */
static bool is_damaged(const struct migrate *m, int move, uint64_t *state)
{
    int first = 0;

    if (m->dropped > m->committed / 2)
        return false;
    while (!m->carried[first])
        first++;
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return move == first || (*state >> 33) % 3 == 0;
}

/* A bit is changed in staging. */
static void damage(void *context, struct migrate *m, int move)
{
    size_t split = m->weights->layer[m->model_layer[m->moves[move].layer]].gate_up_bytes;
    size_t done = (size_t)m->done[move]; /* where the piece begins */
    struct migrate_room *room = &m->room[m->place[move]];

    if (is_damaged(m, move, context))
        ((unsigned char *)(done < split ? room->gate_up.data
                                        : room->down.data))[done < split ? done : done - split] ^= 0x40;
}

/* A mover as a device is one: what it sends has arrived when it says so, at another time on each rank. */
struct late {
    struct mover table; /* first, so that a pointer to the table is one to this */
    struct migrate *migrate;
    uint64_t sent[BATCH_MOVES], held[BATCH_MOVES], state;
    bool damages;
    int asked;
    unsigned char *pack;
};

static struct late *late_of(struct mover *m)
{
    return (struct late *)(void *)m;
}

static enum status late_begin(struct mover *m)
{
    memset(late_of(m)->sent, 0, sizeof late_of(m)->sent);
    memset(late_of(m)->held, 0, sizeof late_of(m)->held);
    return STATUS_OK;
}

static void late_arrive(struct late *l, const struct mover_piece *p, const unsigned char *from)
{
    memcpy(p->target, from, p->bytes);
    if (l->damages && is_damaged(l->migrate, p->sum, &l->state))
        ((unsigned char *)p->target)[p->bytes - 1] ^= 0x40;
    l->held[p->sum] = checksum_add(l->held[p->sum], p->target, p->bytes, p->at);
}

static enum status late_send(struct mover *m, const struct mover_piece *pieces, int count)
{
    struct late *l = late_of(m);
    struct comm *world = l->migrate->grid->world;
    size_t between[LIMIT * LIMIT] = {0}, out = 0, in = 0;
    const void *arrived;

    for (int rank = 0; rank < world->size; rank++)
        for (int i = 0; i < count; i++) {
            const struct mover_piece *p = &pieces[i];

            if (p->to != rank)
                continue;
            between[p->from * world->size + rank] += p->bytes;
            if (p->from != world->rank)
                continue;
            memcpy(l->pack + out, p->source, p->bytes);
            l->sent[p->sum] = checksum_add(l->sent[p->sum], p->source, p->bytes, p->at);
            out += p->bytes;
        }
    TRY(world->exchange(world, l->pack, between, &arrived));
    for (int rank = 0; rank < world->size; rank++)
        for (int i = 0; i < count; i++)
            if (pieces[i].from == rank && pieces[i].to == world->rank) {
                late_arrive(l, &pieces[i], (const unsigned char *)arrived + in);
                in += pieces[i].bytes;
            }
    l->asked = 0;
    return STATUS_OK;
}

static enum status late_ready(struct mover *m, bool *ready, uint64_t *sent, uint64_t *held)
{
    struct late *l = late_of(m);

    l->state = l->state * 6364136223846793005u + 1442695040888963407u;
    *ready = (l->state >> 33) % 2 == 0 || ++l->asked > PATIENCE;
    memcpy(sent, l->sent, sizeof l->sent);
    memcpy(held, l->held, sizeof l->held);
    return STATUS_OK;
}

static enum status late_join(struct mover *m)
{
    (void)m;
    return STATUS_OK;
}

static void late_open(struct late *l, struct rig *rig, bool damages)
{
    struct migrate *m = &rig->engine.balance.migrate;

    *l = (struct late){.table = {.sums = BATCH_MOVES,
                                 .begin = late_begin,
                                 .send = late_send,
                                 .ready = late_ready,
                                 .join = late_join},
                       .migrate = m,
                       .damages = damages,
                       .state = ranks_seed + (uint64_t)ranks_rank};
    l->pack = malloc(m->chunk);
    assert_all(l->pack != NULL && ranks_size <= LIMIT);
    rig->engine.grid.mover = &l->table;
}

enum { DAMAGED = 1, LATE = 2 };

/* *bytes: that moved. */
static void run_moving(const struct rig_options *options, int how, const uint64_t *wanted, int64_t *bytes)
{
    bool spoil = (how & DAMAGED) != 0;
    struct late late = {0};
    uint64_t found[STEPS], state = ranks_seed + (uint64_t)ranks_rank;
    struct rig rig;
    struct migrate *m;

    assert_all_ok(rig_open(&rig, options));
    m = &rig.engine.balance.migrate;
    if (how & LATE)
        late_open(&late, &rig, spoil);
    else if (spoil) {
        m->spoil = damage;
        m->spoil_context = &state;
    }
    run_steps(&rig, found);
    if (ranks_rank == 0)
        print_message("%s: %lld moves, %lld dropped, version %llu, %lld bytes\n", options->model,
                      (long long)m->committed, (long long)m->dropped,
                      (unsigned long long)rig.engine.placement.version, (long long)m->bytes);
    assert_all(ranks_size == 1 || m->committed > 0);
    assert_all(ranks_size == 1 || !spoil || m->dropped > 0);
    assert_all(spoil || m->dropped == 0);
    expect_equal(found, wanted);
    *bytes = m->bytes;
    rig_close(&rig);
    free(late.pack);
}

static void moved_logits(const char *model, const struct balance_options *balance, int how,
                         const uint64_t *wanted)
{
    struct rig_options options = {
        .model = model, .comm = RIG_SHARED, .threads = 1, .tensor = 1, .balance = *balance};
    int64_t bytes;

    run_moving(&options, how, wanted, &bytes);
}

static void logits_are_equal_while_experts_move_at_every_step(void **state)
{
    (void)state;
    for (size_t i = ranks_size > 3; i < sizeof models / sizeof *models; i++) { /* loading takes its time */
        uint64_t wanted[STEPS];

        run_alone(models[i], wanted);
        for (int policy = REPLICAS_AUTO; policy <= REPLICAS_EVEN; policy++) {
            struct balance_options balance = forced(policy, (enum replicas_policy)policy);

            moved_logits(models[i], &balance, 0, wanted);
        }
    }
}

/* Rows of small batches in fixed places: the same bits, and the same figures as when counts are exchanged. */
static void in_places(const char *model, const struct balance_options *balance, const uint64_t *wanted)
{
    struct rig_options options = {
        .model = model, .comm = RIG_SHARED, .threads = 1, .tensor = 1, .balance = *balance};
    int64_t rows[2], busiest[2];
    uint64_t found[STEPS];
    struct rig rig;

    for (int i = 0; i < 2; i++) {
        options.fixed = i == 1;
        assert_all_ok(rig_open(&rig, &options));
        run_steps(&rig, found);
        assert_all((rig.engine.model.experts.fixed.room > 0) == options.fixed);
        expect_equal(found, wanted);
        rows[i] = rig.engine.model.experts.meter.all_rows;
        busiest[i] = rig.engine.model.experts.meter.all_busiest;
        rig_close(&rig);
    }
    assert_all(rows[0] == rows[1]);
    assert_all(balance->on || busiest[0] == busiest[1]);
}

static void logits_are_equal_by_both_ways_of_dispatch(void **state)
{
    struct balance_options off = {0};

    (void)state;
    for (size_t i = ranks_size > 3; i < sizeof models / sizeof *models; i++) {
        struct balance_options moving = forced(2, REPLICAS_AUTO);
        uint64_t wanted[STEPS];

        run_alone(models[i], wanted);
        in_places(models[i], &off, wanted);
        in_places(models[i], &moving, wanted);
    }
}

static void a_damaged_expert_is_never_used(void **state)
{
    struct balance_options balance = forced(3, REPLICAS_FLOW);

    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        uint64_t wanted[STEPS];

        run_alone(models[i], wanted);
        moved_logits(models[i], &balance, DAMAGED, wanted);
    }
}

/* Where all ranks share, moves carry nothing; between nodes they do, arrive damaged, and do no harm. */
static void ranks_that_share_experts_move_bytes_between_nodes_only(void **state)
{
    struct rig_options options = {.model = models[0],
                                  .comm = RIG_SHARED,
                                  .threads = 1,
                                  .tensor = 1,
                                  .share = true,
                                  .balance = forced(ranks_size + 5, REPLICAS_FLOW)};
    uint64_t wanted[STEPS];
    int64_t bytes;

    (void)state;
    run_alone(models[0], wanted);
    run_moving(&options, 0, wanted, &bytes);
    assert_all(bytes == 0);
    if (ranks_size < 3)
        return;
    options.share_limit = 2;
    run_moving(&options, 0, wanted, &bytes);
    assert_all(bytes > 0);
    run_moving(&options, DAMAGED, wanted, &bytes);
}

/* By a mover that ranks wait for differently long, and that damages what it carries now and then. */
static void logits_are_equal_while_experts_arrive_beside_the_steps(void **state)
{
    struct balance_options balance = forced(3, REPLICAS_FLOW);
    uint64_t wanted[STEPS];

    (void)state;
    run_alone(models[1], wanted);
    moved_logits(models[1], &balance, LATE, wanted);
    moved_logits(models[1], &balance, LATE | DAMAGED, wanted);
}

/* One rank believes that experts lie elsewhere: nothing moves, and all ranks say so. */
static void ranks_that_disagree_move_nothing(void **state)
{
    struct rig_options options = {.model = models[0],
                                  .comm = RIG_SHARED,
                                  .threads = 1,
                                  .tensor = 1,
                                  .balance = forced(16, REPLICAS_FLOW)};
    struct batch_move move = {.layer = 0, .slot = 0, .expert = 1, .source = 1};
    struct rig rig;
    struct placement *p;

    (void)state;
    if (ranks_size == 1)
        return;
    assert_all_ok(rig_open(&rig, &options));
    p = &rig.engine.placement;
    if (ranks_rank == ranks_size - 1)
        p->expert[0] = p->expert[1];
    assert_all(migrate_begin(&rig.engine.balance.migrate, &move, 1) == STATUS_BUG);
    assert_all(strstr(status_text(), "do not agree on where experts lie") != NULL);
    assert_all(rig.engine.balance.migrate.state == MIGRATE_IDLE);
    rig_close(&rig);
}

/* Moves that would leave an expert without a slot, or a rank with one twice, begin nowhere. */
static void illegal_moves_begin_nowhere(void **state)
{
    struct rig_options options = {.model = models[0],
                                  .comm = RIG_SHARED,
                                  .threads = 1,
                                  .tensor = 1,
                                  .balance = forced(0, REPLICAS_FLOW)};
    const struct batch_move moves[] = {
        {.layer = 0, .slot = 0, .expert = 63, .source = 63}, /* expert 0 would be gone */
        {.layer = 0, .slot = 1, .expert = 5, .source = 6},   /* slot 6 holds another */
        {.layer = 9, .slot = 1, .expert = 5, .source = 5},   /* there is no layer 9 */
        {.layer = 0, .slot = 640, .expert = 5, .source = 5},
    };
    struct rig rig;

    (void)state;
    assert_all_ok(rig_open(&rig, &options));
    for (size_t i = 0; i < sizeof moves / sizeof *moves; i++) {
        uint64_t before = placement_hash(&rig.engine.placement);

        assert_all(migrate_begin(&rig.engine.balance.migrate, &moves[i], 1) == STATUS_BUG);
        assert_all(placement_hash(&rig.engine.placement) == before);
        assert_all(rig.engine.balance.migrate.state == MIGRATE_IDLE);
    }
    rig_close(&rig);
}

/* With a second argument of "kill" or "stop": what happens to the last rank while an expert arrives there. */
static void strike(void *context, struct migrate *m, int move)
{
    (void)m;
    (void)move;
    raise(*(int *)context);
}

static int run_struck(int argc, char **argv, int with)
{
    struct rig_options options = {.model = models[0],
                                  .comm = RIG_SHARED,
                                  .threads = 1,
                                  .tensor = 1,
                                  .balance = forced(16, REPLICAS_FLOW)};
    const struct head_result *results;
    enum status status;
    struct rig rig;
    int given;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &given);
    MPI_Comm_rank(MPI_COMM_WORLD, &ranks_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks_size);
    status = rig_open(&rig, &options);
    if (status == STATUS_OK)
        status = watch_open(MPI_COMM_WORLD, 3);
    if (ranks_rank == ranks_size - 1) {
        rig.engine.balance.migrate.spoil = strike;
        rig.engine.balance.migrate.spoil_context = &with;
    }
    for (int step = 0; step < STEPS && status == STATUS_OK; step++) {
        int32_t next = token(step, rig.engine.config.vocabulary);

        status = rig_run(&rig, &next, 1, step, false, &results);
    }
    fprintf(stderr, "rank %d ends: %s\n", ranks_rank, status == STATUS_OK ? "well" : status_text());
    watch_leave();
    MPI_Abort(MPI_COMM_WORLD, status_exit_code(status));
    return 1;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_equal_while_experts_move_at_every_step),
        cmocka_unit_test(logits_are_equal_by_both_ways_of_dispatch),
        cmocka_unit_test(a_damaged_expert_is_never_used),
        cmocka_unit_test(ranks_that_share_experts_move_bytes_between_nodes_only),
        cmocka_unit_test(logits_are_equal_while_experts_arrive_beside_the_steps),
        cmocka_unit_test(ranks_that_disagree_move_nothing),
        cmocka_unit_test(illegal_moves_begin_nowhere),
    };

    if (argc > 2 && strcmp(argv[2], "kill") == 0)
        return run_struck(argc, argv, SIGKILL);
    if (argc > 2 && strcmp(argv[2], "stop") == 0)
        return run_struck(argc, argv, SIGSTOP);
    return ranks_run(argc, argv, tests, sizeof tests / sizeof *tests);
}
