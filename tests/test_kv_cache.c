/* test_kv_cache.c - page tables follow the batches, and a batch that contradicts them is found out
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/kv_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "kernels/reference/reference.h"

enum { LAYERS = 3, HEADS = 2, WIDTH = 8, POOL = 20, SEQUENCES = 4, POSITIONS = 100, TABLE = 7 };

static const struct config config = {.layers = LAYERS, .head_width = WIDTH};
static struct arena arena;
static struct kernels *kernels;
static struct kv_cache kv;
static struct batch batch;

static int start(void **state)
{
    (void)state;
    return arena_open(&arena, "cache test", 1 << 20) != STATUS_OK || reference_open(&kernels) != STATUS_OK ||
           kv_cache_open(&kv, &arena, kernels, &config, HEADS, POOL, SEQUENCES, POSITIONS) != STATUS_OK ||
           batch_open(&batch, &arena, 8, 200, 50) != STATUS_OK;
}

static int end(void **state)
{
    (void)state;
    kv_cache_close(&kv);
    kernels->close(kernels);
    arena_close(&arena);
    return 0;
}

static void add_piece(int sequence, int group, int position, int rows, const int32_t *pages, int new_pages)
{
    batch.pieces[batch.piece_count++] = (struct batch_piece){.sequence = sequence,
                                                             .group = group,
                                                             .first_row = batch.row_count,
                                                             .rows = rows,
                                                             .position = position,
                                                             .first_page = batch.page_count,
                                                             .new_pages = new_pages};
    batch.row_count += rows;
    for (int i = 0; i < new_pages; i++)
        batch.pages[batch.page_count++] = pages[i];
}

static enum status apply_one(int sequence, int position, int rows, const int32_t *pages, int new_pages)
{
    batch_clear(&batch);
    add_piece(sequence, 1, position, rows, pages, new_pages);
    return kv_cache_apply(&kv, &batch, 1);
}

static void pages_are_appended_and_position_0_begins_anew(void **state)
{
    const int32_t first[] = {7, 3}, more[] = {11}, anew[] = {5};

    (void)state;
    assert_int_equal(apply_one(2, 0, 20, first, 2), STATUS_OK);
    assert_int_equal(apply_one(2, 20, 12, NULL, 0), STATUS_OK);
    assert_int_equal(kv.table_used[2], 2);
    assert_int_equal(apply_one(2, 32, 1, more, 1), STATUS_OK);
    assert_int_equal(kv.table_used[2], 3);
    assert_memory_equal(kv.table + 2 * TABLE, ((int32_t[]){7, 3, 11}), 3 * sizeof(int32_t));
    assert_int_equal(apply_one(2, 0, 1, anew, 1), STATUS_OK);
    assert_int_equal(kv.table_used[2], 1);
    assert_int_equal(kv.table[2 * TABLE], 5);
    assert_int_equal(kv.table_used[1], 0);
}

static void found_pages_begin_a_table_behind_what_they_hold(void **state)
{
    const int32_t first[] = {7, 3}, found[] = {7, 3, 9};

    (void)state;
    assert_int_equal(apply_one(2, 0, 20, first, 2), STATUS_OK);
    batch_clear(&batch);
    add_piece(2, 1, 32, 5, found, 3); /* another sequence gets the slot */
    batch.pieces[0].found_pages = 2;
    assert_int_equal(kv_cache_apply(&kv, &batch, 1), STATUS_OK);
    assert_int_equal(kv.table_used[2], 3);
    assert_memory_equal(kv.table + 2 * TABLE, found, sizeof found);
    assert_int_equal(apply_one(2, 37, 11, NULL, 0), STATUS_OK);
    assert_int_equal(kv.table_used[2], 3);
}

static void only_pieces_of_the_group_count_and_rows_start_at_its_first(void **state)
{
    const int32_t pages[] = {1, 2, 3, 4};
    struct span spans[8];
    int count;

    (void)state;
    batch_clear(&batch);
    add_piece(0, 0, 0, 5, pages, 1);
    add_piece(3, 1, 0, 17, pages + 1, 2);
    add_piece(1, 1, 0, 2, pages + 3, 1);
    add_piece(2, 2, 0, 9, pages, 1);
    assert_int_equal(kv_cache_apply(&kv, &batch, 1), STATUS_OK);
    assert_int_equal(kv.table_used[0], 0);
    assert_int_equal(kv.table_used[2], 0);
    kv_cache_spans(&kv, &batch, 1, spans, &count);
    assert_int_equal(count, 2);
    assert_int_equal(spans[0].first_row, 0);
    assert_int_equal(spans[0].rows, 17);
    assert_int_equal(spans[1].first_row, 17);
    assert_int_equal(spans[1].rows, 2);
    assert_int_equal(spans[1].first_position, 0);
    assert_memory_equal(spans[0].pages, pages + 1, 2 * sizeof(int32_t));
    assert_memory_equal(spans[1].pages, pages + 3, sizeof(int32_t));
    kv_cache_spans(&kv, &batch, 3, spans, &count);
    assert_int_equal(count, 0);
}

static void refused(enum status status, const char *words)
{
    assert_int_equal(status, STATUS_BUG);
    if (!strstr(status_text(), words))
        fail_msg("\"%s\" does not say \"%s\"", status_text(), words);
}

static void a_batch_that_contradicts_the_tables_is_a_bug(void **state)
{
    const int32_t pages[] = {0, 1, 2, 3, 4, 5, 6, 7}, outside[] = {POOL};

    (void)state;
    refused(apply_one(SEQUENCES, 0, 1, pages, 1), "sequence 4, there are 4");
    refused(apply_one(0, 5, 1, pages, 1), "goes on at position 5, its table holds 0 pages");
    refused(apply_one(0, 0, 17, pages, 1), "reaches position 16, its 1 pages end at 15");
    refused(apply_one(0, 0, 1, outside, 1), "gets page 20, the pool has 20");
    refused(apply_one(0, 0, 100, pages, TABLE + 1), "gets 8 pages, its table of 7 holds 0");
    assert_int_equal(kv.table_used[0], 0);
    assert_int_equal(apply_one(0, 0, 100, pages, TABLE), STATUS_OK);
}

static void every_layer_has_its_own_aligned_pool(void **state)
{
    size_t page = kernels_page_bytes(kernels, HEADS, WIDTH);

    (void)state;
    assert_int_equal(kv_cache_page_bytes(&config, kernels, HEADS), LAYERS * page);
    for (int i = 0; i < LAYERS; i++) {
        assert_int_equal((uintptr_t)kv.layer[i].data % 64, 0);
        assert_int_equal(kv.layer[i].pages, POOL);
        assert_int_equal(kv.layer[i].kv_heads, HEADS);
        memset(kv.layer[i].data, i + 1, POOL * page);
    }
    for (int i = 0; i < LAYERS; i++) {
        assert_int_equal(((unsigned char *)kv.layer[i].data)[0], i + 1);
        assert_int_equal(((unsigned char *)kv.layer[i].data)[POOL * page - 1], i + 1);
    }
}

static void a_rank_without_heads_keeps_tables_only(void **state)
{
    const int32_t page = 3;
    struct kv_cache none;

    (void)state;
    assert_int_equal(kv_cache_open(&none, &arena, kernels, &config, 0, POOL, SEQUENCES, POSITIONS),
                     STATUS_OK);
    assert_int_equal(kv_cache_page_bytes(&config, kernels, 0), 0);
    assert_null(none.layer[0].data);
    batch_clear(&batch);
    add_piece(1, 1, 0, 4, &page, 1);
    assert_int_equal(kv_cache_apply(&none, &batch, 1), STATUS_OK);
    assert_int_equal(none.table[TABLE], 3);
    kv_cache_close(&none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pages_are_appended_and_position_0_begins_anew, start, end),
        cmocka_unit_test_setup_teardown(found_pages_begin_a_table_behind_what_they_hold, start, end),
        cmocka_unit_test_setup_teardown(only_pieces_of_the_group_count_and_rows_start_at_its_first, start,
                                        end),
        cmocka_unit_test_setup_teardown(a_batch_that_contradicts_the_tables_is_a_bug, start, end),
        cmocka_unit_test_setup_teardown(every_layer_has_its_own_aligned_pool, start, end),
        cmocka_unit_test_setup_teardown(a_rank_without_heads_keeps_tables_only, start, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
