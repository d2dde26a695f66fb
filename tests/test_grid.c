/* test_grid.c - groups of ranks: sizes that divide, and what is said about those that do not
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/grid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

static void says(enum status status, enum status wanted, const char *words)
{
    assert_int_equal(status, wanted);
    if (!strstr(status_text(), words))
        fail_msg("\"%s\" does not say \"%s\"", status_text(), words);
}

static void sizes_that_divide_are_taken(void **state)
{
    (void)state;
    for (int ranks = 1; ranks <= 24; ranks++) {
        for (int size = 1; size <= ranks; size++) {
            enum status wanted = ranks % size ? STATUS_USAGE : STATUS_OK;

            assert_int_equal(grid_check(ranks, size, 0), wanted);
            assert_int_equal(grid_check(ranks, 0, size), wanted);
        }
        assert_int_equal(grid_check(ranks, 0, 0), STATUS_OK);
    }
}

static void a_refusal_names_option_value_ranks_and_what_fits(void **state)
{
    (void)state;
    says(grid_check(8, 3, 0), STATUS_USAGE, "--tensor-parallel-size 3 does not divide 8 ranks");
    says(grid_check(8, 3, 0), STATUS_USAGE, "use 2 or 4");
    says(grid_check(12, 0, 5), STATUS_USAGE, "--expert-parallel-size 5 does not divide 12 ranks");
    says(grid_check(12, 0, 5), STATUS_USAGE, "use 4 or 6");
    says(grid_check(4, 9, 0), STATUS_USAGE, "use 4");
    says(grid_check(4, -1, 0), STATUS_USAGE, "use 1");
    says(grid_check(1, 2, 0), STATUS_USAGE, "does not divide 1 rank into equal groups: use 1");
}

static void every_rank_finds_its_place(void **state)
{
    struct grid g;

    (void)state;
    assert_int_equal(grid_shape(&g, 6, 4, 3, 2), STATUS_OK);
    assert_int_equal(g.ranks, 6);
    assert_int_equal(g.groups, 2);
    assert_int_equal(g.my_group, 1);
    assert_int_equal(g.my_part, 1);
    assert_int_equal(g.expert_ranks, 2);
    assert_int_equal(grid_shape(&g, 6, 4, 0, 0), STATUS_OK);
    assert_int_equal(g.tensor, 1);
    assert_int_equal(g.groups, 6);
    assert_int_equal(g.my_group, 4);
    assert_int_equal(g.expert_ranks, 6);
}

static void a_grid_is_unchanged_by_a_failed_open(void **state)
{
    struct comm world = {.rank = 1, .size = 4}, group = {.rank = 1, .size = 2},
                wrong = {.rank = 0, .size = 2};
    struct grid g = {.ranks = 77};

    (void)state;
    says(grid_open(&g, &world, &wrong, 2, 0), STATUS_BUG,
         "rank 1 is 0 of 2 in its group, the grid says 1 of 2");
    assert_int_equal(grid_open(&g, &world, &group, 3, 0), STATUS_USAGE);
    assert_int_equal(g.ranks, 77);
    assert_int_equal(grid_open(&g, &world, &group, 2, 0), STATUS_OK);
    assert_ptr_equal(g.world, &world);
    assert_ptr_equal(g.group, &group);
}

static void the_rows_of_a_group_are_shared_without_gaps(void **state)
{
    struct grid g;

    (void)state;
    for (int tensor = 1; tensor <= 5; tensor++) {
        assert_int_equal(grid_shape(&g, tensor, 0, tensor, 0), STATUS_OK);
        for (int rows = 0; rows < 12; rows++) {
            int next = 0;

            for (int part = 0; part < tensor; part++) {
                struct range own = grid_rows(&g, rows, part);

                assert_int_equal(own.first, next);
                assert_in_range(own.count, (unsigned)(rows / tensor),
                                (unsigned)((rows + tensor - 1) / tensor));
                next += own.count;
            }
            assert_int_equal(next, rows);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_that_divide_are_taken),
        cmocka_unit_test(a_refusal_names_option_value_ranks_and_what_fits),
        cmocka_unit_test(every_rank_finds_its_place),
        cmocka_unit_test(a_grid_is_unchanged_by_a_failed_open),
        cmocka_unit_test(the_rows_of_a_group_are_shared_without_gaps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
