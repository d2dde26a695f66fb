/* test_batch.c - what rank 0 sends is what the others get, and nothing else is believed
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "comm/comm_alone.h"

enum { PIECES = 6, ROWS = 40, PAGES = 9, GROUPS = 4 };

static struct arena arena;
static struct batch sender, receiver;

/* A wire of one message: the root's broadcast writes it, the other's reads it. */
static unsigned char wire[4096];
static size_t wire_bytes;

static enum status carry(struct comm *c, int root, const void *data, size_t *bytes, const void **out)
{
    assert_int_equal(root, 0);
    if (c->rank == 0) {
        assert_in_range(*bytes, 1, sizeof wire - 1);
        memcpy(wire + 1, data, *bytes); /* odd on purpose: a comm promises no alignment */
        wire_bytes = *bytes;
    }
    *bytes = wire_bytes;
    *out = wire + 1;
    return STATUS_OK;
}

static struct comm rank0 = {.rank = 0, .size = GROUPS, .broadcast = carry};
static struct comm rank1 = {.rank = 1, .size = GROUPS, .broadcast = carry};

static int start(void **state)
{
    (void)state;
    return arena_open(&arena, "batch test", 1 << 20) != STATUS_OK ||
           batch_open(&sender, &arena, PIECES, ROWS, PAGES) != STATUS_OK ||
           batch_open(&receiver, &arena, PIECES, ROWS, PAGES) != STATUS_OK;
}

static int end(void **state)
{
    (void)state;
    arena_close(&arena);
    return 0;
}

static uint64_t seed = 5;

static int below(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)n);
}

static void add_piece(struct batch *b, int group, int rows, int new_pages, enum batch_want want)
{
    b->pieces[b->piece_count++] =
        (struct batch_piece){.sequence = below(4),
                             .group = group,
                             .first_row = b->row_count,
                             .rows = rows,
                             .position = below(1000),
                             .want = want,
                             .keep = want == BATCH_WANT_CANDIDATES ? 1 + below(64) : 0,
                             .first_page = b->page_count,
                             .new_pages = new_pages};
    for (int i = 0; i < rows; i++)
        b->tokens[b->row_count++] = below(200000);
    for (int i = 0; i < new_pages; i++)
        b->pages[b->page_count++] = below(100);
}

static void fill_random(struct batch *b)
{
    int pieces = below(PIECES + 1), group = 0;

    batch_clear(b);
    b->placement_version = (uint64_t)below(1000) << 33;
    b->flags = (uint32_t)below(4);
    for (int i = 0; i < pieces; i++) {
        group += below(GROUPS - group);
        add_piece(b, group, 1 + below(ROWS / PIECES), below(2), (enum batch_want)below(4));
    }
}

static void assert_same(const struct batch *a, const struct batch *b)
{
    assert_int_equal(a->number, b->number);
    assert_int_equal(a->placement_version, b->placement_version);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->piece_count, b->piece_count);
    assert_int_equal(a->row_count, b->row_count);
    assert_int_equal(a->page_count, b->page_count);
    assert_memory_equal(a->pieces, b->pieces, (size_t)a->piece_count * sizeof *a->pieces);
    assert_memory_equal(a->tokens, b->tokens, (size_t)a->row_count * sizeof *a->tokens);
    assert_memory_equal(a->pages, b->pages, (size_t)a->page_count * sizeof *a->pages);
}

static void what_is_sent_is_what_is_received(void **state)
{
    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < 500; round++) {
        fill_random(&sender);
        assert_int_equal(batch_send(&sender, &rank0), STATUS_OK);
        assert_int_equal(batch_receive(&receiver, &rank1), STATUS_OK);
        assert_same(&sender, &receiver);
        assert_int_equal(receiver.number, round + 1);
        assert_true(sender.wire_bytes <= batch_message_bytes(PIECES, ROWS, PAGES));
    }
}

static void a_world_of_one_sends_to_itself(void **state)
{
    struct comm *alone;

    (void)state;
    assert_int_equal(comm_alone_open(&alone), STATUS_OK);
    batch_clear(&sender);
    add_piece(&sender, 0, 3, 1, BATCH_WANT_LOGITS);
    assert_int_equal(batch_send(&sender, alone), STATUS_OK);
    assert_int_equal(sender.row_count, 3);
    alone->close(alone);
}

/* Two groups: [0] 3 rows, [0] 2 rows with a page, [2] 4 rows with two pages. */
static void fill_known(struct batch *b)
{
    batch_clear(b);
    add_piece(b, 0, 3, 0, BATCH_WANT_NONE);
    add_piece(b, 0, 2, 1, BATCH_WANT_CANDIDATES);
    add_piece(b, 2, 4, 2, BATCH_WANT_ALL);
}

static void rows_of_groups_and_wanted_rows_follow_from_the_pieces(void **state)
{
    const int32_t wanted[] = {4, 5, 6, 7, 8};
    const struct range groups[GROUPS] = {{0, 5}, {5, 0}, {5, 4}, {9, 0}};
    int32_t out[ROWS];

    (void)state;
    fill_known(&sender);
    for (int g = 0; g < GROUPS; g++) {
        assert_int_equal(batch_group_rows(&sender, g).first, groups[g].first);
        assert_int_equal(batch_group_rows(&sender, g).count, groups[g].count);
    }
    assert_int_equal(batch_wanted(&sender, NULL), 5);
    assert_int_equal(batch_wanted(&sender, out), 5);
    assert_memory_equal(out, wanted, sizeof wanted);
}

/* A token and drafts are no prompt, however many rows that is, and all of them want logits. */
static void drafts_are_part_of_decoding(void **state)
{
    const int32_t wanted[] = {3, 4, 5, 6, 7};
    int32_t out[ROWS];

    (void)state;
    batch_clear(&sender);
    add_piece(&sender, 0, 3, 0, BATCH_WANT_NONE);
    add_piece(&sender, 1, 4, 0, BATCH_WANT_EACH);
    sender.pieces[1].keep = 0; /* all logits */
    assert_false(batch_decodes(&sender));
    assert_false(batch_prompts(&sender));
    add_piece(&sender, 1, 1, 0, BATCH_WANT_LOGITS);
    assert_int_equal(batch_check(&sender, GROUPS), STATUS_OK);
    assert_int_equal(batch_wanted(&sender, out), 5);
    assert_memory_equal(out, wanted, sizeof wanted);
    batch_clear(&sender);
    add_piece(&sender, 1, 4, 0, BATCH_WANT_EACH);
    add_piece(&sender, 1, 1, 0, BATCH_WANT_LOGITS);
    assert_true(batch_decodes(&sender));
}

static void refused(const char *words)
{
    enum status sent = batch_send(&sender, &rank0);

    assert_int_equal(sent, STATUS_BUG);
    if (!strstr(status_text(), words))
        fail_msg("\"%s\" does not say \"%s\"", status_text(), words);
    fill_known(&sender);
}

static void a_field_that_contradicts_the_rules_is_named(void **state)
{
    (void)state;
    fill_known(&sender);
    sender.piece_count = PIECES + 1, refused("piece_count 7, at most 6");
    sender.row_count = -1, refused("row_count -1");
    sender.page_count = PAGES + 1, refused("page_count 10");
    sender.flags = 8, refused("flags 0x8");
    sender.pieces[1].sequence = -1, refused("sequence of piece 1 is -1");
    sender.pieces[2].group = GROUPS, refused("group of piece 2 is 4, not in 0 ... 3");
    sender.pieces[0].group = 1, refused("group of piece 1 is 0, not in 1 ... 3");
    sender.pieces[1].first_row = 4, refused("first_row of piece 1 is 4");
    sender.pieces[1].rows = 0, refused("rows of piece 1 is 0");
    sender.pieces[2].rows = 5, refused("rows of piece 2 is 5, not in 1 ... 4");
    sender.pieces[2].rows = 3, refused("the pieces have 8 rows and 3 pages, row_count is 9");
    sender.pieces[0].position = INT32_MAX, refused("position of piece 0");
    sender.pieces[0].want = 5, refused("want of piece 0 is 5");
    sender.pieces[1].keep = 0, refused("keep of piece 1 is 0");
    sender.pieces[2].first_page = 0, refused("first_page of piece 2 is 0");
    sender.pieces[2].new_pages = 1, refused("rows and 2 pages, row_count is 9, page_count 3");
    sender.pieces[2].found_pages = 3, refused("found_pages of piece 2 is 3, not in 0 ... 2");
    sender.pieces[2].found_pages = 1, sender.pieces[2].position = 15,
    refused("piece 2 at position 15 stands behind 1 found");
    sender.tokens[4] = -5, refused("token of row 4 is -5");
    sender.pages[0] = -1, refused("page 0 is number -1");
}

static void not_believed(const char *words)
{
    enum status status = batch_receive(&receiver, &rank1);

    assert_int_equal(status, STATUS_BUG);
    if (!strstr(status_text(), words))
        fail_msg("\"%s\" does not say \"%s\"", status_text(), words);
}

static void a_damaged_message_is_not_believed(void **state)
{
    struct batch before;

    (void)state;
    fill_known(&sender);
    assert_int_equal(batch_send(&sender, &rank0), STATUS_OK);
    assert_int_equal(batch_receive(&receiver, &rank1), STATUS_OK);
    before = receiver;
    wire[1] ^= 1, not_believed("all ranks must run the same build"), wire[1] ^= 1;
    wire_bytes -= 4, not_believed("bytes came"), wire_bytes += 4;
    wire_bytes = 47, not_believed("its head has 48"), wire_bytes = sender.wire_bytes;
    memset(wire + 1 + 32, 0x7f, 4), not_believed("piece_count");
    assert_same(&before, &receiver);
    fill_known(&sender);
    sender.number = 9;
    assert_int_equal(batch_send(&sender, &rank0), STATUS_OK);
    assert_int_equal(batch_receive(&receiver, &rank1), STATUS_OK);
    sender.number = 8;
    assert_int_equal(batch_send(&sender, &rank0), STATUS_OK);
    not_believed("batch 8 came after batch 9");
}

static void no_damage_of_one_byte_escapes_the_limits(void **state)
{
    (void)state;
    fill_known(&sender);
    assert_int_equal(batch_send(&sender, &rank0), STATUS_OK);
    for (size_t i = 1; i <= wire_bytes; i++) {
        for (int bit = 0; bit < 8; bit++) {
            wire[i] ^= (unsigned char)(1 << bit);
            receiver.number = 0;
            if (batch_receive(&receiver, &rank1) == STATUS_OK)
                assert_int_equal(batch_check(&receiver, GROUPS), STATUS_OK);
            wire[i] ^= (unsigned char)(1 << bit);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_sent_is_what_is_received, start, end),
        cmocka_unit_test_setup_teardown(a_world_of_one_sends_to_itself, start, end),
        cmocka_unit_test_setup_teardown(rows_of_groups_and_wanted_rows_follow_from_the_pieces, start, end),
        cmocka_unit_test_setup_teardown(drafts_are_part_of_decoding, start, end),
        cmocka_unit_test_setup_teardown(a_field_that_contradicts_the_rules_is_named, start, end),
        cmocka_unit_test_setup_teardown(a_damaged_message_is_not_believed, start, end),
        cmocka_unit_test_setup_teardown(no_damage_of_one_byte_escapes_the_limits, start, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
