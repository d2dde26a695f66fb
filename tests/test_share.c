/* test_share.c - the first prompt keeps half of a step, and short ones need not wait for long ones
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/share.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 9 };

static struct arena arena;
static struct share share;

static int start(void **state)
{
    (void)state;
    return arena_open(&arena, "share test", 1 << 16) != STATUS_OK ||
           share_open(&share, &arena, MOST) != STATUS_OK;
}

static int end(void **state)
{
    (void)state;
    arena_close(&arena);
    return 0;
}

static void divides(int budget, int count, const int *left, const int *wanted)
{
    memcpy(share.left, left, (size_t)count * sizeof *left);
    share_rows(&share, count, budget);
    for (int i = 0; i < count; i++)
        if (share.rows[i] != wanted[i])
            fail_msg("prompt %d of %d gets %d of %d rows, not %d", i, count, share.rows[i], budget,
                     wanted[i]);
}

static void half_goes_in_order_and_half_to_the_shortest(void **state)
{
    (void)state;
    divides(100, 1, (const int[]){1000}, (const int[]){100});
    divides(100, 2, (const int[]){1000, 1000}, (const int[]){100, 0});
    divides(100, 2, (const int[]){1000, 30}, (const int[]){70, 30});
    divides(100, 4, (const int[]){1000, 900, 800, 40}, (const int[]){50, 0, 10, 40});
    divides(100, 3, (const int[]){20, 1000, 10}, (const int[]){20, 70, 10});
    divides(1, 3, (const int[]){1000, 5, 4}, (const int[]){1, 0, 0});
    divides(0, 2, (const int[]){5, 4}, (const int[]){0, 0});
}

static void no_row_is_wasted_and_none_invented(void **state)
{
    unsigned seed = (unsigned)time(NULL);

    (void)state;
    print_message("seed %u\n", seed);
    srand(seed);
    for (int round = 0; round < 20000; round++) {
        int count = rand() % (MOST + 1), budget = rand() % 60, total = 0, given = 0, shortest = 0;

        for (int i = 0; i < count; i++) {
            share.left[i] = 1 + rand() % 40;
            total += share.left[i];
            if (share.left[i] < share.left[shortest])
                shortest = i;
        }
        share_rows(&share, count, budget);
        for (int i = 0; i < count; i++) {
            assert_in_range(share.rows[i], 0, share.left[i]);
            given += share.rows[i];
        }
        assert_int_equal(given, total < budget ? total : budget);
        if (count > 0) {
            assert_true(share.rows[0] >=
                        (share.left[0] < (budget + 1) / 2 ? share.left[0] : (budget + 1) / 2));
            assert_true(share.rows[shortest] >=
                        (share.left[shortest] < budget / 2 ? share.left[shortest] : budget / 2));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(half_goes_in_order_and_half_to_the_shortest, start, end),
        cmocka_unit_test_setup_teardown(no_row_is_wasted_and_none_invented, start, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
