/* recorded.c - what the cuda backend promises of recorded steps, on the emulated device
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/cuda_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

enum {
    ROWS = 2,
    WIDTH = 16,
    MANY = RECORDING_ROWS_MOST + 1,
    KEPT = CUDA_PLAN_RECORD_GRAPHS,
    POSITIONS = 1024
};

static const float frequency[WIDTH / 2] = {1.0f, 0.5f, 0.25f, 0.125f, 0.1f, 0.05f, 0.01f, 0.001f};
static const struct rotation rotation = {.frequency = frequency,
                                         .rotated = WIDTH,
                                         .attention_factor = 1.0f,
                                         .temperature_scale = 0.5f,
                                         .temperature_floor = 4.0f};
static struct kernels *k;
static struct matrix x, keys;
static int32_t here[MANY], elsewhere[MANY];
static float ones[ROWS * WIDTH], plain[ROWS * WIDTH], again[ROWS * WIDTH];

static int start(void **state)
{
    (void)state;
    for (int i = 0; i < ROWS * WIDTH; i++)
        ones[i] = 1.0f;
    for (int i = 0; i < MANY; i++)
        here[i] = 3 + i, elsewhere[i] = 900 - i;
    return cuda_open(&(struct module_request){.exact = true}, &k) != STATUS_OK ||
           kernels_matrix(k, MANY, WIDTH, "queries", &x) != STATUS_OK ||
           kernels_matrix(k, MANY, WIDTH, "keys", &keys) != STATUS_OK;
}

static int end(void **state)
{
    (void)state;
    k->wait(k);
    k->release(k, keys.data);
    k->release(k, x.data);
    k->close(k);
    return 0;
}

static enum status turn(const int32_t *positions, int rows)
{
    return k->rotate(k, matrix_top(x, rows), matrix_top(keys, rows), &rotation, WIDTH, positions);
}

static uint64_t moved; /* how often weights have moved */

static enum recording_way ask(int32_t key, const int32_t *positions)
{
    struct recording r = {.key = &key,
                          .count = 1,
                          .most = POSITIONS - 1,
                          .weights = moved,
                          .positions = positions,
                          .rows = ROWS};
    enum recording_way way;

    assert_int_equal(k->record(k, &r, &way), STATUS_OK);
    return way;
}

static void reset(void)
{
    assert_int_equal(x.stride, WIDTH);
    assert_int_equal(k->upload(k, x.data, ones, sizeof ones), STATUS_OK);
}

static void result(float *to)
{
    assert_int_equal(k->download(k, to, x.data, sizeof ones), STATUS_OK);
}

/* The second step of a key is recorded, the others replay it, with the angles of their own positions. */
static void replays_turn_by_their_own_positions(void **state)
{
    (void)state;
    reset();
    assert_int_equal(turn(elsewhere, ROWS), STATUS_OK);
    result(plain);

    assert_int_equal(ask(1, here), RECORDING_NONE);
    assert_int_equal(turn(here, ROWS), STATUS_OK);
    assert_int_equal(turn(here, MANY), STATUS_OK); /* a prompt, for which tables grow */
    assert_int_equal(ask(1, here), RECORDING_NEW);
    assert_int_equal(k->recorded(k, STATUS_BUG), STATUS_BUG); /* what could not be queued is dropped */

    reset();
    assert_int_equal(ask(1, here), RECORDING_NEW);
    assert_int_equal(turn(here, ROWS), STATUS_OK);
    assert_int_equal(k->recorded(k, STATUS_OK), STATUS_OK);
    result(again);
    assert_memory_not_equal(again, plain, sizeof plain);
    reset();
    assert_int_equal(ask(1, elsewhere), RECORDING_AGAIN);
    result(again);
    assert_memory_equal(again, plain, sizeof plain);
}

static void what_changes_from_step_to_step_is_not_recorded(void **state)
{
    const int32_t rows[ROWS] = {1, 0};
    enum status status;

    (void)state;
    assert_int_equal(ask(2, here), RECORDING_NONE);
    assert_int_equal(ask(2, here), RECORDING_NEW);
    status = k->gather(k, matrix_top(keys, ROWS), matrix_top(x, ROWS), rows, NULL);
    assert_int_equal(status, STATUS_BUG);
    assert_int_equal(k->recorded(k, status), STATUS_BUG);
    assert_int_equal(ask(2, here), RECORDING_NEW);
    status = turn(elsewhere, ROWS); /* positions that were not told */
    assert_int_equal(status, STATUS_BUG);
    assert_int_equal(k->recorded(k, status), STATUS_BUG);
    assert_int_equal(ask(2, here), RECORDING_NEW);
    status = k->wait(k);
    assert_int_equal(status, STATUS_BUG);
    assert_int_equal(k->recorded(k, status), STATUS_BUG);
}

static void the_recording_used_longest_ago_gives_way(void **state)
{
    (void)state;
    for (int32_t key = 100; key < 100 + KEPT; key++)
        assert_int_equal(ask(key, here), RECORDING_NONE);
    assert_int_equal(ask(100, here), RECORDING_NEW);
    assert_int_equal(turn(here, ROWS), STATUS_OK);
    assert_int_equal(k->recorded(k, STATUS_OK), STATUS_OK);
    assert_int_equal(ask(7, here), RECORDING_NONE); /* in the place of 101 */
    assert_int_equal(ask(100, here), RECORDING_AGAIN);
    assert_int_equal(ask(101, here), RECORDING_NONE);
}

/* Two rows of a sequence that stand at `position`, over the cache that it has. */
static struct attention attention_at(struct span *span, const int32_t *pages, int position, void *cache)
{
    static const int32_t kv_of[1] = {0};

    *span = (struct span){.rows = ROWS, .first_position = position, .pages = pages};
    assert_int_equal(k->begin(k, span, 1, ROWS), STATUS_OK);
    return (struct attention){
        .out = matrix_top(x, ROWS),
        .queries = matrix_top(keys, ROWS),
        .cache = {.data = cache, .pages = POSITIONS / PAGE_ROWS, .kv_heads = 1, .head_width = WIDTH},
        .spans = span,
        .span_count = 1,
        .heads = 1,
        .kv_of = kv_of,
        .scale = 1.0f};
}

/* Keys and values of all positions, each other than the one before. */
static void fill_cache(const struct attention *a, const int32_t *pages)
{
    static float content[POSITIONS * WIDTH];
    struct span all = {.rows = POSITIONS, .pages = pages};
    struct matrix rows;

    for (int i = 0; i < POSITIONS * WIDTH; i++)
        content[i] = (float)(i * 37 % 101) / 50.0f - 1.0f;
    assert_int_equal(kernels_matrix(k, POSITIONS, WIDTH, "keys of all positions", &rows), STATUS_OK);
    assert_int_equal(k->upload(k, rows.data, content, sizeof content), STATUS_OK);
    assert_int_equal(k->append(k, a->cache, rows, rows, &all, 1), STATUS_OK);
    assert_int_equal(k->wait(k), STATUS_OK);
    k->release(k, rows.data);
}

/* Recorded near the beginning, replayed far out: attention goes over all chunks of the positions then. */
static void replays_attend_to_their_own_positions(void **state)
{
    int32_t pages[POSITIONS / PAGE_ROWS];
    struct attention a;
    struct span span;
    void *cache;

    (void)state;
    for (int i = 0; i < POSITIONS / PAGE_ROWS; i++)
        pages[i] = i;
    assert_int_equal(k->alloc(k, kernels_page_bytes(k, 1, WIDTH) * (POSITIONS / PAGE_ROWS), "cache", &cache),
                     STATUS_OK);
    assert_int_equal(k->upload(k, keys.data, ones, sizeof ones), STATUS_OK);
    a = attention_at(&span, pages, 900, cache);
    fill_cache(&a, pages);
    assert_int_equal(k->attend(k, &a), STATUS_OK);
    result(plain);
    for (int step = 0; step < 3; step++) {
        reset();
        a = attention_at(&span, pages, step < 2 ? 40 : 900, cache);
        assert_int_equal(ask(3, here), step);
        if (step < 2)
            assert_int_equal(k->attend(k, &a), STATUS_OK);
        if (step == 1)
            assert_int_equal(k->recorded(k, STATUS_OK), STATUS_OK);
        result(again);
        assert_int_equal(memcmp(again, plain, sizeof plain) == 0, step == 2);
    }
    assert_int_equal(k->begin(k, NULL, 0, 0), STATUS_OK); /* the span ends here */
    assert_int_equal(k->wait(k), STATUS_OK);
    k->release(k, cache);
}

enum { FAR_ROWS = 3, FAR_HEADS = 40, FAR_KV_HEADS = 8, FAR_WIDTH = 256, FAR_COLUMNS = FAR_HEADS * FAR_WIDTH };

/* Of three rows, which share a tile where there is room for what they bring, with positions to `most`. */
static void attend_far(struct attention *a, int32_t key, int most, float *to)
{
    struct recording r = {.key = &key, .count = 1, .most = most, .positions = here, .rows = FAR_ROWS};
    enum recording_way way;

    assert_int_equal(k->begin(k, a->spans, 1, FAR_ROWS), STATUS_OK);
    assert_int_equal(k->append(k, a->cache, matrix_columns(a->queries, 0, FAR_KV_HEADS * FAR_WIDTH),
                               matrix_columns(a->queries, FAR_WIDTH, FAR_KV_HEADS * FAR_WIDTH), a->spans, 1),
                     STATUS_OK);
    assert_int_equal(k->record(k, &r, &way), STATUS_OK);
    assert_int_equal(way, RECORDING_NONE);
    assert_int_equal(k->attend(k, a), STATUS_OK);
    assert_int_equal(k->download(k, to, a->out.data, FAR_ROWS * FAR_COLUMNS * sizeof *to), STATUS_OK);
}

/* A step may be far out: then there is room for fewer rows at a time, and each still has its bytes. */
static void far_positions_part_rows(void **state)
{
    static float content[FAR_ROWS * FAR_COLUMNS], near[FAR_ROWS * FAR_COLUMNS], far[FAR_ROWS * FAR_COLUMNS];
    const int room = CUDA_PLAN_PARTIAL_FLOATS / (FAR_HEADS * (FAR_WIDTH + 2)); /* rows times chunks */
    const int32_t page = 0;
    int32_t kv_of[FAR_HEADS];
    struct span span = {.rows = FAR_ROWS, .pages = &page};
    struct attention a = {.cache = {.pages = 1, .kv_heads = FAR_KV_HEADS, .head_width = FAR_WIDTH},
                          .spans = &span,
                          .span_count = 1,
                          .heads = FAR_HEADS,
                          .kv_of = kv_of,
                          .scale = 0.1f};

    (void)state;
    for (int i = 0; i < FAR_HEADS; i++)
        kv_of[i] = i * FAR_KV_HEADS / FAR_HEADS;
    for (int i = 0; i < FAR_ROWS * FAR_COLUMNS; i++)
        content[i] = (float)(i * 37 % 101) / 50.0f - 1.0f;
    assert_int_equal(kernels_matrix(k, FAR_ROWS, FAR_COLUMNS, "queries", &a.queries), STATUS_OK);
    assert_int_equal(kernels_matrix(k, FAR_ROWS, FAR_COLUMNS, "results", &a.out), STATUS_OK);
    assert_int_equal(k->alloc(k, kernels_page_bytes(k, FAR_KV_HEADS, FAR_WIDTH), "cache", &a.cache.data),
                     STATUS_OK);
    assert_int_equal(k->upload(k, a.queries.data, content, sizeof content), STATUS_OK);
    attend_far(&a, 5, POSITIONS - 1, near);
    attend_far(&a, 6, (room / FAR_ROWS + 1) * POSITIONS / 4 - 1, far);
    assert_memory_equal(far, near, sizeof near);
    assert_int_equal(k->begin(k, NULL, 0, 0), STATUS_OK); /* the span ends here */
    assert_int_equal(k->wait(k), STATUS_OK);
    k->release(k, a.cache.data);
    k->release(k, a.out.data);
    k->release(k, a.queries.data);
}

/* A weight [rows, columns] all of one number. */
static struct weight weight_of(int rows, int columns, float number)
{
    static float content[2 * WIDTH * WIDTH];
    struct source part = {.data = content,
                          .dtype = DTYPE_F32,
                          .rows = rows,
                          .columns = columns,
                          .row_step = columns,
                          .column_step = 1};
    struct weight w;

    for (int i = 0; i < rows * columns; i++)
        content[i] = number;
    assert_int_equal(kernels_weight(k, DTYPE_F32, rows, columns, "weight", &w), STATUS_OK);
    assert_int_equal(k->weight_fill(k, &w, 0, &part), STATUS_OK);
    return w;
}

/* As the balancer does: the expert's data lie elsewhere from one step to the next. */
static void replays_multiply_by_weights_that_have_moved(void **state)
{
    const int32_t order[ROWS] = {0, 1}, first[2] = {0, ROWS};
    struct weight gate_up = weight_of(2 * WIDTH, WIDTH, 0.25f), other = weight_of(2 * WIDTH, WIDTH, 0.5f);
    struct weight down = weight_of(WIDTH, WIDTH, 0.5f);
    void *data = gate_up.data, *places;
    struct expert_batch batch = {.out = matrix_top(x, ROWS),
                                 .x = matrix_top(keys, ROWS),
                                 .most = ROWS,
                                 .slots = 1,
                                 .gate_up = &gate_up,
                                 .down = &down};

    (void)state;
    assert_int_equal(k->alloc(k, sizeof order + sizeof first, "rows of slots", &places), STATUS_OK);
    assert_int_equal(kernels_matrix(k, ROWS, 2 * WIDTH, "scratch", &batch.scratch), STATUS_OK);
    assert_int_equal(k->upload(k, places, order, sizeof order), STATUS_OK);
    assert_int_equal(k->upload(k, (char *)places + sizeof order, first, sizeof first), STATUS_OK);
    batch.order = places;
    batch.first = batch.order + ROWS;
    assert_int_equal(k->upload(k, keys.data, ones, sizeof ones), STATUS_OK);
    gate_up.data = other.data;
    assert_int_equal(k->multiply_experts(k, &batch), STATUS_OK);
    result(plain);
    gate_up.data = data;
    for (int step = 0; step < 3; step++) {
        if (step == 2) {
            gate_up.data = other.data;
            moved++;
        }
        assert_int_equal(ask(4, here), step);
        if (step < 2)
            assert_int_equal(k->multiply_experts(k, &batch), STATUS_OK);
        if (step == 1)
            assert_int_equal(k->recorded(k, STATUS_OK), STATUS_OK);
        result(again);
        assert_int_equal(memcmp(again, plain, sizeof plain) == 0, step == 2);
    }
    k->release(k, batch.scratch.data);
    k->release(k, places);
    k->release(k, down.data);
    k->release(k, other.data);
    k->release(k, data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replays_turn_by_their_own_positions),
        cmocka_unit_test(replays_attend_to_their_own_positions),
        cmocka_unit_test(far_positions_part_rows),
        cmocka_unit_test(replays_multiply_by_weights_that_have_moved),
        cmocka_unit_test(what_changes_from_step_to_step_is_not_recorded),
        cmocka_unit_test(the_recording_used_longest_ago_gives_way),
    };

    return cmocka_run_group_tests(tests, start, end);
}
