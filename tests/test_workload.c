/* test_workload.c - a benchmark's requests are those that a seed or a file says, and nothing else
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/workload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct workload a, b;

static int end(void **state)
{
    (void)state;
    workload_close(&a);
    workload_close(&b);
    return 0;
}

static struct workload_options made_up(int count, int input, uint64_t seed)
{
    return (struct workload_options){.count = count,
                                     .input = input,
                                     .output = 7,
                                     .positions = 4096,
                                     .vocabulary = 1000,
                                     .seed = seed,
                                     .rate = HUGE_VAL};
}

static void a_seed_says_all(void **state)
{
    struct workload_options options = made_up(100, 33, 5);
    int different = 0;

    (void)state;
    assert_int_equal(workload_open(&a, &options), STATUS_OK);
    options.count = 50; /* more requests change none of the others */
    assert_int_equal(workload_open(&b, &options), STATUS_OK);
    assert_int_equal(a.count, 100);
    assert_int_equal(a.input_tokens, 3300);
    assert_int_equal(a.output_tokens, 700);
    assert_memory_equal(a.ids, b.ids, 50 * 33 * sizeof *a.ids);
    workload_close(&b);
    options.seed = 6;
    assert_int_equal(workload_open(&b, &options), STATUS_OK);
    for (int i = 0; i < 50 * 33; i++)
        different += a.ids[i] != b.ids[i];
    assert_true(different > 1600);
}

/* Every id as often as any other, within what chance allows: 100,000 draws, 1,000 ids. */
static void random_ids_are_even(void **state)
{
    struct workload_options options = made_up(1000, 100, 1);
    int seen[1000] = {0};
    double square = 0;

    (void)state;
    assert_int_equal(workload_open(&a, &options), STATUS_OK);
    for (int i = 0; i < 100000; i++) {
        assert_in_range(a.ids[i], 0, 999);
        seen[a.ids[i]]++;
    }
    for (int i = 0; i < 1000; i++)
        square += (seen[i] - 100.0) * (seen[i] - 100.0) / 100.0;
    assert_true(square > 850 && square < 1150); /* chi squared, 999 degrees of freedom: 999 +- 45 */
}

static void arrivals_are_a_poisson_process(void **state)
{
    struct workload_options options = made_up(20000, 1, 3);
    double mean, square = 0;

    (void)state;
    assert_int_equal(workload_open(&a, &options), STATUS_OK);
    assert_int_equal(a.arrivals[19999], 0);
    options.rate = 50;
    assert_int_equal(workload_open(&b, &options), STATUS_OK);
    assert_int_equal(b.arrivals[0], 0);
    mean = (double)b.arrivals[19999] * 1e-9 / 19999;
    assert_true(fabs(mean * 50 - 1) < 0.03);
    for (int i = 1; i < 20000; i++) {
        double gap = (double)(b.arrivals[i] - b.arrivals[i - 1]) * 1e-9;

        assert_true(gap >= 0);
        square += (gap - mean) * (gap - mean);
    }
    assert_true(fabs(sqrt(square / 19998) * 50 - 1) < 0.05); /* of an exponential: as large as the mean */
}

static void write_file(char *path, const char *text)
{
    int file;

    strcpy(path, "/tmp/workload.XXXXXX");
    file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, text, strlen(text)), (ssize_t)strlen(text));
    close(file);
}

static void a_file_is_read_again_when_it_is_short(void **state)
{
    static const int32_t wanted[] = {1, 2, 3, 999, 4};
    struct workload_options options = made_up(5, 0, 0);
    char path[64];

    (void)state;
    write_file(path, "{\"prompt_token_ids\": [1, 2, 3]}\n\r\n\n"
                     "{\"prompt_token_ids\": [999], \"max_tokens\": 2, \"other\": null}\r\n"
                     "{\"prompt_token_ids\": [4]}");
    options.path = path;
    assert_int_equal(workload_open(&a, &options), STATUS_OK);
    assert_int_equal(a.count, 5);
    assert_memory_equal(a.ids, wanted, sizeof wanted);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(a.prompts[i].input, ((const int[]){3, 1, 1, 3, 1})[i]);
        assert_int_equal(a.prompts[i].output, ((const int[]){7, 2, 7, 7, 2})[i]);
        assert_int_equal(a.prompts[i].first, ((const int[]){0, 3, 4, 0, 3})[i]);
    }
    assert_int_equal(a.input_tokens, 9);
    assert_int_equal(a.output_tokens, 25);
    unlink(path);
}

static void refuses(const char *text, const char *words)
{
    struct workload_options options = made_up(3, 0, 0);
    char path[64];

    write_file(path, text);
    options.path = path;
    options.positions = 10;
    assert_int_equal(workload_open(&a, &options), STATUS_BAD_INPUT);
    if (!strstr(status_text(), words))
        fail_msg("%s: '%s', wanted '%s'", text, status_text(), words);
    unlink(path);
}

static void wrong_lines_are_named(void **state)
{
    struct workload_options options = made_up(3, 5, 0);

    (void)state;
    refuses("", "there is no prompt in it");
    refuses("\n\r\n", "there is no prompt in it");
    refuses("\nhello\n", "line 2: the model has no tokenizer");
    refuses("{\"prompt\": \"hello\"}", "line 1: the model has no tokenizer");
    refuses("{\"prompt_token_ids\": [1]}\n{\"prompt_token_ids\": [1000]}",
            "line 2: \"prompt_token_ids\" must be");
    refuses("{\"prompt_token_ids\": [-1]}", "from 0 to 999");
    refuses("{\"prompt_token_ids\": []}", "line 1: the prompt has no tokens");
    refuses("{\"prompt_token_ids\": [1, 2, 3, 4]}", "line 1: 4 tokens and an answer of 7");
    refuses("{\"prompt_token_ids\": [1], \"max_tokens\": 0}", "max_tokens");
    refuses("{\"prompt_token_ids\": [1], \"prompt\": \"x\"}", "needs either");
    refuses("{}", "needs either");
    refuses("{", "line 1:");
    options.path = "/no/such/file";
    assert_int_equal(workload_open(&a, &options), STATUS_NO_INPUT);
    options.path = NULL;
    options.positions = 11;
    assert_int_equal(workload_open(&a, &options), STATUS_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_seed_says_all, end),
        cmocka_unit_test_teardown(random_ids_are_even, end),
        cmocka_unit_test_teardown(arrivals_are_a_poisson_process, end),
        cmocka_unit_test_teardown(a_file_is_read_again_when_it_is_short, end),
        cmocka_unit_test_teardown(wrong_lines_are_named, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
