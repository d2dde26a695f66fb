/* test_weights.c - every rank holds its slices and no more, and together the ranks hold the model
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/weights.h"

#include "tests/held.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static struct range times(struct range r, int width)
{
    return (struct range){.first = r.first * width, .count = r.count * width};
}

static struct range whole(int count)
{
    return (struct range){.count = count};
}

static void expect_block(const struct held *h, const struct weights_block *b, enum family_role gate,
                         int layer, struct range share)
{
    int rows = held_expect_rows(h, &b->gate_up, 0, gate, layer, 0, share);

    rows = held_expect_rows(h, &b->gate_up, rows, (enum family_role)(gate + 1), layer, 0, share);
    assert_int_equal(rows, b->gate_up.rows);
    rows = held_expect_rows(h, &b->down, 0, (enum family_role)(gate + 2), layer, 0, h->weights.columns);
    assert_int_equal(rows, b->down.rows);
}

static void expect_experts(const struct held *h, const struct weights_layer *l, int layer)
{
    const struct placement *p = &h->placement;
    int first = p->rank_first[h->grid.rank];
    const int32_t *expert = p->expert + h->config.layer[layer].expert_layer * p->slots + first;

    for (int i = 0; i < p->rank_first[h->grid.rank + 1] - first; i++) {
        held_expect_rows(h, &l->gate_up[i], 0, ROLE_EXPERTS_GATE_UP, layer, expert[i],
                         whole(2 * h->config.expert_width));
        held_expect_rows(h, &l->down[i], 0, ROLE_EXPERTS_DOWN, layer, expert[i], whole(h->config.width));
    }
}

static void expect_attention(const struct held *h, const struct weights_layer *l, int layer)
{
    const struct config *c = &h->config;
    const struct weights *w = &h->weights;
    struct range queries = times(w->heads, c->head_width), keys = times(w->kv_heads, c->head_width);
    int rows = held_expect_rows(h, &l->qkv, 0, ROLE_QUERY, layer, 0, queries);

    rows = held_expect_rows(h, &l->qkv, rows, ROLE_KEY, layer, 0, keys);
    assert_int_equal(held_expect_rows(h, &l->qkv, rows, ROLE_VALUE, layer, 0, keys), l->qkv.rows);
    assert_int_equal(held_expect_rows(h, &l->out, 0, ROLE_OUT, layer, 0, w->columns), l->out.rows);
    assert_int_equal(l->out.columns, c->heads * c->head_width);
    held_expect_floats(h, l->attention_norm, 0, ROLE_ATTENTION_NORM, layer, whole(c->width));
    held_expect_floats(h, l->feed_norm, 0, ROLE_FEED_NORM, layer, whole(c->width));
    assert_int_equal(l->qkv_bias != NULL, c->attention_bias_qkv && l->qkv.rows > 0);
    if (l->qkv_bias) {
        rows = held_expect_floats(h, l->qkv_bias, 0, ROLE_QUERY_BIAS, layer, queries);
        rows = held_expect_floats(h, l->qkv_bias, rows, ROLE_KEY_BIAS, layer, keys);
        held_expect_floats(h, l->qkv_bias, rows, ROLE_VALUE_BIAS, layer, keys);
    }
    if (c->attention_bias_out)
        held_expect_floats(h, l->out_bias, 0, ROLE_OUT_BIAS, layer, w->columns);
}

static void expect_slices(const struct held *h)
{
    const struct config *c = &h->config;
    const struct weights *w = &h->weights;

    held_expect_rows(h, &w->embedding, 0, ROLE_EMBEDDING, 0, 0, w->vocabulary);
    if (c->tied)
        assert_ptr_equal(w->head.data, w->embedding.data);
    else
        held_expect_rows(h, &w->head, 0, ROLE_HEAD, 0, 0, w->vocabulary);
    held_expect_floats(h, w->final_norm, 0, ROLE_FINAL_NORM, 0, whole(c->width));
    for (int i = 0; i < c->layers; i++) {
        const struct weights_layer *l = &w->layer[i];

        expect_attention(h, l, i);
        if (!c->layer[i].experts) {
            expect_block(h, &l->dense, ROLE_DENSE_GATE, i, w->dense_columns);
            continue;
        }
        held_expect_rows(h, &l->router, 0, ROLE_ROUTER, i, 0, whole(c->experts));
        expect_experts(h, l, i);
        expect_block(h, &l->shared, ROLE_SHARED_GATE, i, w->shared_columns);
    }
}

/* Loads the model as each of `ranks` ranks; the shares of all must join to the whole. */
static void expect_split(const char *directory, int ranks, int tensor)
{
    struct range vocabulary = {0}, heads = {0}, columns = {0}, dense = {0}, shared = {0};

    for (int rank = 0; rank < ranks; rank++) {
        const struct weights *w;
        struct held h;
        size_t plan, given;

        held_open(&h, directory, directory, ranks, tensor, rank);
        held_must(weights_plan(&plan, &given, &h.config, &h.grid, &h.placement, &h.set, h.kernels));
        assert_int_equal(held_allocated, 0);
        held_must(held_load(&h));
        w = &h.weights;
        assert_int_equal(plan, held_allocated);
        assert_int_equal(plan, w->bytes);
        expect_slices(&h);

        assert_int_equal(w->vocabulary.first, vocabulary.count);
        assert_true(w->vocabulary.first % 32 == 0);
        vocabulary.count += w->vocabulary.count;
        if (rank % tensor == 0)
            heads.count = columns.count = dense.count = shared.count = 0;
        assert_int_equal(w->heads.first, heads.count);
        heads.count += w->heads.count;
        assert_int_equal(w->columns.first, columns.count);
        columns.count += w->columns.count;
        dense.count += w->dense_columns.count;
        shared.count += w->shared_columns.count;
        for (int head = w->heads.first; head < w->heads.first + w->heads.count; head++)
            assert_in_range(head * h.config.kv_heads / h.config.heads, w->kv_heads.first,
                            w->kv_heads.first + w->kv_heads.count - 1);
        if (rank % tensor == tensor - 1) {
            assert_int_equal(heads.count, h.config.heads);
            assert_int_equal(columns.count, h.config.width);
            assert_int_equal(dense.count, h.config.dense_width);
            assert_int_equal(shared.count, h.config.shared_width);
        }
        if (rank == ranks - 1)
            assert_int_equal(vocabulary.count, h.config.vocabulary);
        held_close(&h);
    }
}

static void test_tensor_ranks_together_hold_every_matrix(void **state)
{
    (void)state;
    for (int tensor = 1; tensor <= 4; tensor++) {
        expect_split(HELD_A, tensor, tensor);
        expect_split(HELD_B, tensor, tensor);
    }
    expect_split(HELD_A, 4, 2);
    expect_split(HELD_B, 5, 5); /* more ranks than heads: one holds none */
}

static void test_all_ranks_together_hold_every_expert_and_word(void **state)
{
    static const int ranks[] = {2, 3, 5, 8, 11};

    (void)state;
    for (size_t i = 0; i < sizeof ranks / sizeof ranks[0]; i++) {
        expect_split(HELD_A, ranks[i], 1);
        expect_split(HELD_B, ranks[i], 1);
    }
    expect_split("tests/golden/llama4_a_sharded", 3, 3);
}

static void test_vocabularies_of_any_size_split_in_whole_chunks(void **state)
{
    (void)state;
    for (int vocabulary = 1; vocabulary < 300; vocabulary += 7)
        for (int ranks = 1; ranks <= 11; ranks++) {
            struct config c = {.vocabulary = vocabulary};
            int next = 0;

            for (int rank = 0; rank < ranks; rank++) {
                struct range ids = weights_vocabulary(&c, ranks, rank);

                assert_int_equal(ids.first, next);
                assert_true(ids.count >= 0);
                next += ids.count;
                assert_true(next % 32 == 0 || next == vocabulary);
            }
            assert_int_equal(next, vocabulary);
        }
}

/* What this process has read from files so far. */
static long long bytes_read(void)
{
    FILE *file = fopen("/proc/self/io", "r");
    long long bytes = -1;

    if (file && fscanf(file, "rchar: %lld", &bytes) != 1)
        bytes = -1;
    if (file)
        fclose(file);
    return bytes;
}

static void test_a_rank_reads_only_what_it_holds(void **state)
{
    struct held h;
    long long before, after;

    (void)state;
    held_open(&h, HELD_A, HELD_A, 4, 4, 1);
    before = bytes_read();
    held_must(held_load(&h));
    after = bytes_read();
    if (before >= 0)
        assert_in_range(after - before, 1, (size_t)h.weights.bytes + 4096);
    assert_true(h.weights.bytes < (size_t)h.set.bytes * 35 / 100);
    held_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensor_ranks_together_hold_every_matrix),
        cmocka_unit_test(test_all_ranks_together_hold_every_expert_and_word),
        cmocka_unit_test(test_vocabularies_of_any_size_split_in_whole_chunks),
        cmocka_unit_test(test_a_rank_reads_only_what_it_holds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
