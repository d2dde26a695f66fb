/* test_queue.c - the most urgent is always on top, whatever was added and taken out before
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <time.h>

enum { REQUESTS = 70 };

static void the_most_urgent_is_on_top(void **state)
{
    static struct request requests[REQUESTS];
    bool waits[REQUESTS] = {false};
    unsigned seed = (unsigned)time(NULL);
    struct arena arena;
    struct queue q;

    (void)state;
    print_message("seed %u\n", seed);
    srand(seed);
    assert_int_equal(arena_open(&arena, "queue test", 1 << 16), STATUS_OK);
    assert_int_equal(queue_open(&q, &arena, REQUESTS), STATUS_OK);
    for (int round = 0; round < 50000; round++) {
        int i = rand() % REQUESTS, count = 0;
        struct request *first = NULL;

        if (waits[i]) {
            queue_remove(&q, &requests[i]);
        } else {
            requests[i] = (struct request){.number = i, .priority = rand() % 5 - 2};
            queue_add(&q, &requests[i]);
        }
        waits[i] = !waits[i];
        for (int r = 0; r < REQUESTS; r++) {
            if (waits[r] && (!first || request_before(&requests[r], first)))
                first = &requests[r];
            count += waits[r];
        }
        assert_ptr_equal(queue_first(&q), first);
        assert_int_equal(q.count, count);
    }
    arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_most_urgent_is_on_top),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
