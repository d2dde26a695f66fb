/* test_agree.c - the comparison of backends finds a wrong entry and says which, in what shape, at which
 * number
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The backend is the reference with one entry that is a little wrong. */
#include "kernels/agree/agree_attention.h"
#include "kernels/agree/agree_kernels.h"
#include "kernels/agree/agree_law.h"
#include "kernels/agree/agree_multiply.h"
#include "kernels/reference/reference.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static struct kernels real;
static int calls;

static enum status off_by_a_bit(struct kernels *k, struct matrix x, struct matrix y)
{
    TRY(real.add(k, x, y));
    if (x.rows > 1 && x.columns > 0)
        x.data[x.stride] *= 1.0f + 0x1p-20f;
    return STATUS_OK;
}

static enum status last_input_lost(struct kernels *k, struct matrix out, struct matrix x,
                                   const struct weight *w, const float *bias)
{
    if (x.rows > 0 && x.columns > 0)
        x.data[(ptrdiff_t)(x.rows - 1) * x.stride + x.columns - 1] = 0;
    return real.multiply(k, out, x, w, bias);
}

static enum status writes_past_the_row(struct kernels *k, struct matrix out, struct matrix gate_up)
{
    TRY(real.activate(k, out, gate_up));
    if (out.rows > 0)
        out.data[out.columns] = 0;
    return STATUS_OK;
}

/* A row's norm depends on how many rows there are. */
static enum status by_company(struct kernels *k, struct matrix out, struct matrix x, const float *gain,
                              float epsilon)
{
    return real.rms_norm(k, out, x, gain, x.rows > 1 ? epsilon * 1.01f : epsilon);
}

static enum status always_fails(struct kernels *k, struct matrix out, struct matrix gate_up)
{
    (void)k, (void)out, (void)gate_up;
    return FAIL(STATUS_UNAVAILABLE, "the device is gone");
}

static enum status open_wrong(const struct agree_backend *b, int threads, struct kernels **out)
{
    (void)threads;
    TRY(reference_open(out));
    real = **out;
    calls++;
    switch (b->number) {
    case 1:
        (*out)->add = off_by_a_bit;
        break;
    case 2:
        (*out)->multiply = last_input_lost;
        break;
    case 3:
        (*out)->activate = writes_past_the_row;
        break;
    case 4:
        (*out)->rms_norm = by_company;
        break;
    case 5:
        (*out)->activate = always_fails;
        break;
    default:
        break;
    }
    return STATUS_OK;
}

static const struct agree_check *find(const struct agree_check *list, const char *entry)
{
    while (list->entry && strcmp(list->entry, entry) != 0)
        list++;
    assert_non_null(list->entry);
    return list;
}

static void finds(int fault, const struct agree_check *check, const char *const *parts)
{
    const struct agree_backend wrong = {.name = "wrong", .open = open_wrong, .number = fault};
    int rounds = 0;

    agree_start(7, INT_MAX);
    assert_int_equal(agree_run(check, &wrong, &rounds), STATUS_BUG);
    for (; *parts; parts++)
        if (!strstr(status_text(), *parts))
            fail_msg("\"%s\" does not say \"%s\"", status_text(), *parts);
}

static void a_wrong_entry_is_named_with_shape_and_number(void **state)
{
    (void)state;
    finds(1, find(agree_kernels_checks, "add"),
          (const char *const[]){"add: ", "seed 7, [", "of row 1, column 0 is ", NULL});
    finds(
        2, find(agree_multiply_checks, "multiply"),
        (const char *const[]){"multiply: ", "seed 7, [", "] by ", "the reference says ", "allowed is", NULL});
    finds(3, find(agree_kernels_checks, "activate"),
          (const char *const[]){"activate: ", "was written at row 0, column ", NULL});
    finds(4, find(agree_law_checks, "norm"),
          (const char *const[]){"norm: ", "[65, ", "depending on what it should not", NULL});
    finds(5, find(agree_kernels_checks, "activate"),
          (const char *const[]){"activate: ", "the device is gone", NULL});
}

static void a_right_backend_passes_everything(void **state)
{
    static const struct agree_check *const lists[] = {agree_kernels_checks, agree_multiply_checks,
                                                      agree_attention_checks, agree_law_checks};
    const struct agree_backend right = {.name = "right", .open = open_wrong};

    (void)state;
    agree_start(8, 2);
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        for (const struct agree_check *check = lists[i]; check->entry; check++) {
            int rounds = 0, before = calls;

            assert_int_equal(agree_run(check, &right, &rounds), STATUS_OK);
            assert_int_equal(rounds, 2);
            assert_int_equal(calls - before, AGREE_THREADS);
        }
}

static enum status open_none(const struct agree_backend *b, int threads, struct kernels **out)
{
    (void)b, (void)threads, (void)out;
    return FAIL(STATUS_UNAVAILABLE, "not on this machine");
}

static void a_backend_that_is_not_there_is_no_disagreement(void **state)
{
    const struct agree_backend none = {.name = "none", .open = open_none};
    int rounds;

    (void)state;
    assert_int_equal(agree_run(&agree_kernels_checks[0], &none, &rounds), STATUS_UNAVAILABLE);
    assert_int_equal(agree_run(&agree_law_checks[0], &none, &rounds), STATUS_UNAVAILABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrong_entry_is_named_with_shape_and_number),
        cmocka_unit_test(a_right_backend_passes_everything),
        cmocka_unit_test(a_backend_that_is_not_there_is_no_disagreement),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
