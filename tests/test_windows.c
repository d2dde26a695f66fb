/* test_windows.c - windows of a text count every token once, with enough before it
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/windows.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

enum { MOST = 60 };

/* Every token but the first is predicted once; in a later window at least window - stride stand before it. */
static void check(int tokens, int window, int stride)
{
    int count = windows_count(tokens, window, stride);
    int counted[MOST + 1] = {1};

    for (int i = 0; i < count; i++) {
        struct window w = windows_at(tokens, window, stride, i);

        assert_true(w.first == i * stride && w.count <= window && w.first + w.count <= tokens);
        assert_true(w.counted >= 1);
        assert_true(tokens == 1 || w.counted < w.count);
        if (i > 0)
            assert_true(w.counted >= window - stride);
        for (int at = w.counted; at < w.count; at++)
            counted[w.first + at]++;
    }
    for (int at = 0; at < tokens; at++)
        if (counted[at] != 1)
            fail_msg("token %d of %d, window %d, stride %d: counted %d times", at, tokens, window, stride,
                     counted[at]);
}

static void every_token_counts_once(void **state)
{
    (void)state;
    for (int tokens = 1; tokens <= MOST; tokens++)
        for (int window = 2; window <= MOST + 2; window++)
            for (int stride = 1; stride < window; stride++)
                check(tokens, window, stride);
}

static void a_text_that_fits_is_one_window(void **state)
{
    (void)state;
    assert_int_equal(windows_count(64, 64, 32), 1);
    assert_int_equal(windows_count(65, 64, 32), 2);
    assert_int_equal(windows_count(96, 64, 32), 2);
    assert_int_equal(windows_count(97, 64, 32), 3);
    assert_int_equal(windows_at(64, 64, 32, 0).counted, 1);
    assert_int_equal(windows_at(97, 64, 32, 2).count, 33);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_token_counts_once),
        cmocka_unit_test(a_text_that_fits_is_one_window),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
