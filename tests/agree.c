/* agree.c - a list of checks on every backend of this machine: AGREE_CHECKS, out of kernels/agree
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The first argument is the seed, the second the most rounds of a check. Built with AGREE_CUDA it runs on the
 * cuda backend, which must be there, else on every path of the processor; a path that this machine lacks is
 * skipped by name. */
#include "kernels/agree/agree_attention.h"
#include "kernels/agree/agree_kernels.h"
#include "kernels/agree/agree_law.h"
#include "kernels/agree/agree_multiply.h"
#ifdef AGREE_CUDA
#include "kernels/cuda/cuda.h"
#else
#include "kernels/cpu/cpu.h"
#endif
#include "kernels/reference/reference.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { MOST_CHECKS = 64 };

static const unsigned long long DEFAULT_SEED = 20250711;

static enum status open_reference(const struct agree_backend *b, int threads, struct kernels **out)
{
    (void)b, (void)threads;
    return reference_open(out);
}

static const struct agree_backend REFERENCE = {.name = "reference", .open = open_reference};

#ifdef AGREE_CUDA
static enum status open_cuda(const struct agree_backend *b, int threads, struct kernels **out)
{
    struct module_request request = {.device = b->number, .exact = b->exact};

    (void)threads;
    return cuda_open(&request, out);
}

static const struct agree_backend BACKENDS[] = {{.name = "cuda", .open = open_cuda, .device = true}};
#else
static enum status open_cpu(const struct agree_backend *b, int threads, struct kernels **out)
{
    return cpu_open((enum cpu_path)b->number, threads, NULL, out);
}

static const struct agree_backend BACKENDS[] = {
    {.name = "cpu portable", .open = open_cpu, .number = CPU_PORTABLE},
    {.name = "cpu avx2", .open = open_cpu, .number = CPU_AVX2},
    {.name = "cpu avx512", .open = open_cpu, .number = CPU_AVX512},
};
#endif

static void on_backend(const struct agree_check *check, const struct agree_backend *backend)
{
    int rounds;
    enum status status = agree_run(check, backend, &rounds);

    if (status == STATUS_UNAVAILABLE && !backend->device)
        print_message("skipped: %s (not on this machine)\n", backend->name);
    else if (status != STATUS_OK)
        fail_msg("%s: %s", backend->name, status_text());
}

static void on_every_backend(void **state)
{
    const struct agree_check *check = *state;

    if (check->law)
        on_backend(check, &REFERENCE);
    for (size_t b = 0; b < sizeof BACKENDS / sizeof BACKENDS[0]; b++)
        on_backend(check, &BACKENDS[b]);
}

int main(int argc, char **argv)
{
    unsigned long long seed = argc > 1 ? strtoull(argv[1], NULL, 0) : DEFAULT_SEED;
    static struct CMUnitTest tests[MOST_CHECKS];
    static char names[MOST_CHECKS][96];
    size_t count = 0;

    printf("seed %llu\n", seed);
    agree_start(seed, argc > 2 ? atoi(argv[2]) : INT_MAX);
    for (const struct agree_check *check = AGREE_CHECKS; check->entry && count < MOST_CHECKS; check++) {
        snprintf(names[count], sizeof names[count], "%s: %s", check->entry, check->promise);
        tests[count] = (struct CMUnitTest){
            .name = names[count], .test_func = on_every_backend, .initial_state = (void *)(uintptr_t)check};
        count++;
    }
    return _cmocka_run_group_tests("agree", tests, count, NULL, NULL);
}
