/* test_cpu.c - the cpu backend's own promises: paths, threads, packing, memory
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * What it computes is compared with the reference by agree_kernels, agree_attention and agree_law. The seed
 * of random numbers is printed and can be given as the first argument. */
#include "engine/base/clock.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/cpu_pool.h"

#include <dirent.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#include <cmocka.h>

enum { MOST_THREADS = 5, JOBS = 2000 };

static const int64_t PATIENCE = 60000000000; /* nanoseconds */

static unsigned long seed = 20250712;

static int between(int low, int high)
{
    seed = seed * 6364136223846793005ul + 1442695040888963407ul;
    return low + (int)((seed >> 33) % (unsigned long)(high - low + 1));
}

static void assert_words(const char *part)
{
    if (!strstr(status_text(), part))
        fail_msg("\"%s\" does not speak of \"%s\"", status_text(), part);
}

static struct kernels *opened(enum cpu_path path, int threads)
{
    struct kernels *k = NULL;

    assert_int_equal(cpu_open(path, threads, NULL, &k), STATUS_OK);
    return k;
}

static void the_backend_names_its_path_and_threads(void **unused)
{
    struct kernels *k;

    (void)unused;
    assert_string_equal(cpu_path_name(CPU_PORTABLE), "portable");
    assert_string_equal(cpu_path_name(CPU_AVX2), "avx2");
    assert_string_equal(cpu_path_name(CPU_AVX512), "avx512");
    k = opened(CPU_PORTABLE, 1);
    assert_string_equal(k->name, "cpu (portable, 1 thread)");
    assert_int_equal(k->threads, 1);
    assert_int_equal(k->cache_dtype, DTYPE_BF16);
    k->close(k);
    k = opened(CPU_PORTABLE, 3);
    assert_string_equal(k->name, "cpu (portable, 3 threads)");
    k->close(k);
}

static void a_path_that_the_machine_lacks_is_refused(void **unused)
{
    struct kernels *k = NULL;

    (void)unused;
    if (cpu_best_path() == CPU_AVX512) {
        print_message("skipped: a missing path (this machine has all)\n");
        return;
    }
    assert_int_equal(cpu_open(CPU_AVX512, 1, NULL, &k), STATUS_UNAVAILABLE);
    assert_words("avx512");
    assert_words(cpu_path_name(cpu_best_path()));
    assert_null(k);
}

static void threads_that_cannot_be_are_refused(void **unused)
{
    struct kernels *k = NULL;
    int nowhere[] = {0, CPU_SETSIZE};
    int absent[] = {CPU_SETSIZE - 1};

    (void)unused;
    assert_int_equal(cpu_open(CPU_PORTABLE, 0, NULL, &k), STATUS_USAGE);
    assert_words("0 threads");
    assert_int_equal(cpu_open(CPU_PORTABLE, 2, nowhere, &k), STATUS_UNAVAILABLE);
    assert_words("thread 1");
    if (get_nprocs_conf() < CPU_SETSIZE) {
        assert_int_equal(cpu_open(CPU_PORTABLE, 1, absent, &k), STATUS_UNAVAILABLE);
        assert_words("processor 1023");
    }
    assert_null(k);
}

/* How often each part was called. */
struct tally {
    int threads;
    int calls[MOST_THREADS];
    bool strange;
};

static void count(const void *job, int part, int parts)
{
    struct tally *tally = *(struct tally *const *)job;

    tally->calls[part]++; /* parts are different threads, each its own number */
    if (parts != tally->threads)
        tally->strange = true;
}

static void every_part_of_every_job_runs_once(void **unused)
{
    (void)unused;
    for (int threads = 1; threads <= MOST_THREADS; threads++) {
        struct cpu_worker workers[MOST_THREADS];
        struct tally tally = {.threads = threads}, *job = &tally;
        struct cpu_pool pool;

        assert_int_equal(cpu_pool_open(&pool, workers, threads, NULL), STATUS_OK);
        for (int n = 1; n <= JOBS; n++) {
            cpu_pool_run(&pool, count, &job);
            if (n % 500 == 0)
                clock_sleep(1000000); /* long enough for the others to go to sleep */
            for (int part = 0; part < threads; part++)
                assert_int_equal(tally.calls[part], n);
        }
        assert_false(tally.strange);
        cpu_pool_close(&pool);
    }
}

static void a_pool_starts_and_stops_again_and_again(void **unused)
{
    struct cpu_pool zeroed = {0};

    (void)unused;
    for (int n = 0; n < 100; n++) {
        struct kernels *k = opened(CPU_PORTABLE, 1 + n % 4);

        k->close(k);
    }
    cpu_pool_close(&zeroed);
}

static void the_caller_runs_where_it_could_before_once_the_backend_is_closed(void **unused)
{
    cpu_set_t before, during, after;
    struct kernels *k = NULL;
    int first = 0;

    (void)unused;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    while (!CPU_ISSET(first, &before))
        first++;
    assert_int_equal(cpu_open(CPU_PORTABLE, 2, (const int[]){first, first}, &k), STATUS_OK);
    assert_int_equal(sched_getaffinity(0, sizeof during, &during), 0);
    assert_int_equal(CPU_COUNT(&during), 1);
    assert_true(CPU_ISSET(first, &during));
    k->close(k);
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
}

/* How often the other threads of this process were switched to; -1: one of them is not asleep. */
static long switches(void)
{
    DIR *folder = opendir("/proc/self/task");
    struct dirent *entry;
    long sum = 0;

    assert_non_null(folder);
    while ((entry = readdir(folder)) != NULL) {
        char path[64], line[128];
        FILE *file;

        if (entry->d_name[0] == '.' || atoi(entry->d_name) == gettid())
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%d/status", atoi(entry->d_name));
        file = fopen(path, "re");
        assert_non_null(file);
        while (fgets(line, sizeof line, file)) {
            if (strncmp(line, "State:", 6) == 0 && !strchr(line + 6, 'S'))
                sum = LONG_MIN / 2;
            if (strstr(line, "voluntary_ctxt_switches:"))
                sum += strtol(strchr(line, ':') + 1, NULL, 10);
        }
        fclose(file);
    }
    closedir(folder);
    return sum < 0 ? -1 : sum;
}

/* Asleep, and woken by nothing. How long threads take to go to sleep is up to who else is running. */
static void idle(int threads)
{
    struct cpu_worker workers[MOST_THREADS];
    struct tally tally = {.threads = threads}, *job = &tally;
    struct cpu_pool pool;
    int64_t begin = clock_now();
    long before;

    assert_int_equal(cpu_pool_open(&pool, workers, threads, NULL), STATUS_OK);
    cpu_pool_run(&pool, count, &job);
    while ((before = switches()) < 0 && clock_now() - begin < PATIENCE)
        clock_sleep(1000000);
    assert_true(before >= threads - 1);
    clock_sleep(200000000);
    assert_int_equal(switches(), before);
    cpu_pool_close(&pool);
}

/* With a processor for every thread, when threads watch for work before they sleep, and without. */
static void an_idle_pool_uses_no_processor(void **unused)
{
    (void)unused;
    idle(2);
    idle(MOST_THREADS);
}

/* A tensor of random bits (no NaN: one exponent bit is clear) and what its numbers are as floats. */
enum { WIDEST = 140 };

static unsigned char bytes[WIDEST * WIDEST * 4 + 4];
static float values[WIDEST * WIDEST]; /* [rows, columns] */
static float scales[WIDEST * 2];      /* [rows, scale_count(columns)] */

static struct source random_source(int rows, int columns)
{
    static const enum dtype dtypes[] = {DTYPE_BF16, DTYPE_F16, DTYPE_F32, DTYPE_F8_E4M3};
    struct source s = {.dtype = dtypes[between(0, 3)], .rows = rows, .columns = columns};
    int element = dtype_bits(s.dtype) / 8;
    bool transposed = between(0, 1);
    unsigned char *data = bytes + between(0, 3); /* files align nothing */

    s.data = data;
    s.row_step = transposed ? 1 : columns;
    s.column_step = transposed ? rows : 1;
    for (int i = 0; i < rows * columns * element; i++)
        data[i] = (unsigned char)(i % element == element - 1 ? between(0, 255) & 0xbf : between(0, 255));
    if (s.dtype == DTYPE_F8_E4M3) {
        s.scale = scales;
        for (int i = 0; i < rows * scale_count(columns); i++)
            scales[i] = (float)between(1, 1 << 20) * 0x1p-24f;
    }
    for (int n = 0; n < rows; n++)
        for (int c = 0; c < columns; c++) {
            const unsigned char *from = data + (n * s.row_step + c * s.column_step) * element;

            if (s.scale)
                values[n * columns + c] =
                    dtype_from_e4m3(*from) * scales[n * scale_count(columns) + c / SCALE_INPUTS];
            else
                assert_int_equal(dtype_widen(&values[n * columns + c], from, s.dtype, 1), STATUS_OK);
        }
    return s;
}

/* Puts the source into the weight in pieces cut anywhere. */
static void fill(struct kernels *k, struct weight *w, const struct source *whole)
{
    int element = dtype_bits(whole->dtype) / 8;

    for (int first = 0; first < whole->rows;) {
        struct source part = *whole;

        part.rows = between(1, whole->rows - first);
        part.data = (const char *)whole->data + first * whole->row_step * element;
        if (part.scale)
            part.scale += first * scale_count(whole->columns);
        assert_int_equal(k->weight_fill(k, w, first, &part), STATUS_OK);
        first += part.rows;
    }
}

static void what_was_packed_is_read_back_exactly(void **unused)
{
    (void)unused;
    for (int round = 0; round < 300; round++) {
        struct kernels *k = opened((enum cpu_path)between(0, (int)cpu_best_path()), between(1, 3));
        int rows = between(1, WIDEST), columns = between(1, WIDEST);
        struct source source = random_source(rows, columns);
        int32_t tokens[WIDEST];
        struct matrix out;
        struct weight w;

        assert_int_equal(kernels_weight(k, source.dtype, rows, columns, "test", &w), STATUS_OK);
        assert_int_equal(w.format, source.dtype == DTYPE_F16 ? DTYPE_F32 : source.dtype);
        if (source
                .scale) { /* a byte for each number, and a float for each scale, of whole panels and fours */
            assert_int_equal(w.bytes, (rows + 15) / 16 * 64 * ((columns + 3) / 4 + scale_count(columns)));
            if (between(0, 3) == 0) /* beside another format */
                assert_int_equal(kernels_weight(k, DTYPE_F32, rows, columns, "test", &w), STATUS_OK);
        }
        fill(k, &w, &source);
        for (int n = 0; n < rows; n++)
            tokens[n] = 1000 + n;
        assert_int_equal(kernels_matrix(k, rows, columns, "test", &out), STATUS_OK);
        assert_int_equal(k->embed(k, out, &w, tokens, 1000), STATUS_OK);
        for (int n = 0; n < rows; n++)
            if (memcmp(out.data + (ptrdiff_t)n * out.stride, &values[n * columns],
                       (size_t)columns * sizeof(float)))
                fail_msg("%s: row %d of [%d, %d] %s came back changed", k->name, n, rows, columns,
                         dtype_name(source.dtype));
        k->close(k);
    }
}

/* Many threads share the work of packing and reading only when there is much of it. */
static void large_weights_are_packed_alike_by_any_number_of_threads(void **unused)
{
    static uint16_t numbers[515 * 301];
    struct kernels *one = opened(cpu_best_path(), 1), *three = opened(cpu_best_path(), 3);

    (void)unused;
    for (int i = 0; i < 515 * 301; i++)
        numbers[i] = (uint16_t)between(0, 0x7f7f);
    for (int transposed = 0; transposed < 2; transposed++) {
        struct source source = {numbers, DTYPE_BF16, 515, 301, transposed ? 1 : 301, transposed ? 515 : 1,
                                NULL};
        struct weight a, b;

        assert_int_equal(kernels_weight(one, DTYPE_BF16, 515, 301, "test", &a), STATUS_OK);
        assert_int_equal(kernels_weight(three, DTYPE_BF16, 515, 301, "test", &b), STATUS_OK);
        assert_int_equal(one->weight_fill(one, &a, 0, &source), STATUS_OK);
        assert_int_equal(three->weight_fill(three, &b, 0, &source), STATUS_OK);
        assert_int_equal(a.bytes, b.bytes);
        assert_memory_equal(a.data, b.data, a.bytes);
    }
    one->close(one);
    three->close(three);
}

static void formats_that_cannot_be_multiplied_are_refused(void **unused)
{
    struct kernels *k = opened(cpu_best_path(), 1);
    float number = 1.0f;
    struct source part = {&number, DTYPE_F32, 1, 1, 1, 1, NULL};
    struct weight w = {0};

    (void)unused;
    assert_int_equal(k->weight_plan(k, &w, DTYPE_F8_E5M2, 4, 4), STATUS_BAD_INPUT);
    assert_words(dtype_name(DTYPE_F8_E5M2));
    assert_int_equal(kernels_weight(k, DTYPE_I8, 4, 4, "router of layer 3", &w), STATUS_BAD_INPUT);
    assert_words("router of layer 3");
    assert_int_equal(kernels_weight(k, DTYPE_BF16, 1, 1, "test", &w), STATUS_OK);
    assert_int_equal(k->weight_fill(k, &w, 0, &part), STATUS_BUG);
    assert_int_equal(k->weight_fill(k, &w, 1, &part), STATUS_BUG);
    part.dtype = DTYPE_F8_E4M3;
    assert_int_equal(kernels_weight(k, DTYPE_F8_E4M3, 1, 1, "test", &w), STATUS_OK);
    assert_int_equal(k->weight_fill(k, &w, 0, &part), STATUS_BUG);
    assert_words("scales");
    k->close(k);
}

static void memory_that_is_not_there_is_refused_by_name(void **unused)
{
    struct kernels *k = opened(CPU_PORTABLE, 1);
    struct weight w = {0};
    void *memory = NULL;

    (void)unused;
    assert_int_equal(k->alloc(k, SIZE_MAX / 4, "keys and values", &memory), STATUS_NO_MEMORY);
    assert_words("keys and values");
    assert_null(memory);
    assert_int_equal(kernels_weight(k, DTYPE_F32, INT32_MAX, INT32_MAX, "the head", &w), STATUS_NO_MEMORY);
    assert_words("the head");
    assert_null(w.data);
    k->close(k);
}

static void free_memory_is_some_and_not_more_than_there_is(void **unused)
{
    struct kernels *k = opened(CPU_PORTABLE, 1);
    struct sysinfo info;

    (void)unused;
    assert_int_equal(sysinfo(&info), 0);
    assert_true(k->free_bytes(k) > 0);
    assert_true(k->free_bytes(k) <= (size_t)info.totalram * info.mem_unit);
    k->close(k);
}

/* One product on one path, large enough for blocks of rows and of inputs and for several threads. */
static void product(enum cpu_path path, float *out, const float *x, const struct source *source, int rows)
{
    struct kernels *k = opened(path, 2);
    struct matrix to = {out, rows, source->rows, source->rows};
    struct matrix from = {(float *)(uintptr_t)x, rows, source->columns, source->columns};
    struct weight w;

    assert_int_equal(kernels_weight(k, source->dtype, source->rows, source->columns, "test", &w), STATUS_OK);
    assert_int_equal(k->weight_fill(k, &w, 0, source), STATUS_OK);
    assert_int_equal(k->multiply(k, to, from, &w, NULL), STATUS_OK);
    k->close(k);
}

/* A product of many rows and wide inputs: sums are put down and taken up again between blocks. */
enum { ROWS = 131, OUTPUTS = 75, INPUTS = 2501 };

static float inputs[ROWS * INPUTS];

static struct source wide_source(enum dtype dtype)
{
    static uint16_t numbers[OUTPUTS * INPUTS];
    static uint8_t codes[OUTPUTS * INPUTS];
    static float wide_scales[OUTPUTS * (INPUTS / SCALE_INPUTS + 1)];

    for (int i = 0; i < ROWS * INPUTS; i++)
        inputs[i] = (float)between(-1000, 1000) / 1000.0f;
    for (int i = 0; i < OUTPUTS * INPUTS; i++) {
        numbers[i] = dtype_to_bf16((float)between(-1000, 1000) / 1000.0f);
        codes[i] = (uint8_t)(between(0, 1) << 7 | between(0, 126));
    }
    for (int i = 0; i < OUTPUTS * scale_count(INPUTS); i++)
        wide_scales[i] = (float)between(-1000, 1000) / 1e5f;
    if (dtype == DTYPE_F8_E4M3)
        return (struct source){codes, dtype, OUTPUTS, INPUTS, INPUTS, 1, wide_scales};
    return (struct source){numbers, DTYPE_BF16, OUTPUTS, INPUTS, INPUTS, 1, NULL};
}

static void avx512_and_avx2_give_the_same_bytes(void **unused)
{
    static const enum dtype dtypes[] = {DTYPE_BF16, DTYPE_F8_E4M3};
    static float narrow[ROWS * OUTPUTS], wide[ROWS * OUTPUTS];

    (void)unused;
    if (cpu_best_path() != CPU_AVX512) {
        print_message("skipped: cpu avx512 (not on this machine)\n");
        return;
    }
    for (int i = 0; i < 2; i++) {
        struct source source = wide_source(dtypes[i]);

        product(CPU_AVX2, narrow, inputs, &source, ROWS);
        product(CPU_AVX512, wide, inputs, &source, ROWS);
        assert_memory_equal(narrow, wide, sizeof narrow);
    }
}

/* Sums are put down between blocks when there are many rows, and only then. */
static void a_row_of_a_wide_product_has_the_same_bytes_alone(void **unused)
{
    static float all[ROWS * OUTPUTS], alone[OUTPUTS];

    (void)unused;
    for (int path = 0; path <= (int)cpu_best_path(); path++) {
        for (int format = 0; format < 2; format++) {
            struct source source = wide_source(format == 0 ? DTYPE_BF16 : DTYPE_F8_E4M3);

            product((enum cpu_path)path, all, inputs, &source, ROWS);
            for (int row = 0; row < ROWS; row += 13) {
                product((enum cpu_path)path, alone, inputs + row * INPUTS, &source, 1);
                assert_memory_equal(alone, all + row * OUTPUTS, sizeof alone);
            }
        }
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_backend_names_its_path_and_threads),
        cmocka_unit_test(a_path_that_the_machine_lacks_is_refused),
        cmocka_unit_test(threads_that_cannot_be_are_refused),
        cmocka_unit_test(every_part_of_every_job_runs_once),
        cmocka_unit_test(a_pool_starts_and_stops_again_and_again),
        cmocka_unit_test(the_caller_runs_where_it_could_before_once_the_backend_is_closed),
        cmocka_unit_test(an_idle_pool_uses_no_processor),
        cmocka_unit_test(what_was_packed_is_read_back_exactly),
        cmocka_unit_test(large_weights_are_packed_alike_by_any_number_of_threads),
        cmocka_unit_test(formats_that_cannot_be_multiplied_are_refused),
        cmocka_unit_test(memory_that_is_not_there_is_refused_by_name),
        cmocka_unit_test(free_memory_is_some_and_not_more_than_there_is),
        cmocka_unit_test(avx512_and_avx2_give_the_same_bytes),
        cmocka_unit_test(a_row_of_a_wide_product_has_the_same_bytes_alone),
    };

    if (argc > 1)
        seed = strtoul(argv[1], NULL, 10);
    print_message("seed %lu\n", seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
