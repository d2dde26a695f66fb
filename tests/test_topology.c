/* test_topology.c - processors and threads of ranks, on machines that hwloc is told of
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * tests/golden/topology/dgx.xml: two packages of 16 cores and eight GPUs, made with hwloc 2.9's synthetic
 * backend. */
#include "launch/topology.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <hwloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANK_LIMIT = 64 };

static struct topology ranks[RANK_LIMIT];
static struct topology_set sets[RANK_LIMIT];

static const char SMALL[] = "pack:1 core:2 pu:1";
static const char HYPER[] = "pack:2 core:4 pu:2";

/* A machine for the topologies opened from now on; NULL: this one. */
static void machine(const char *synthetic)
{
    unsetenv("HWLOC_XMLFILE");
    if (synthetic)
        setenv("HWLOC_SYNTHETIC", synthetic, 1);
    else
        unsetenv("HWLOC_SYNTHETIC");
}

static void dgx(void)
{
    unsetenv("HWLOC_SYNTHETIC");
    setenv("HWLOC_XMLFILE", "tests/golden/topology/dgx.xml", 1);
}

static void open_ranks(int count)
{
    for (int i = 0; i < count; i++) {
        assert_int_equal(topology_open(&ranks[i]), STATUS_OK);
        sets[i] = ranks[i].allowed;
    }
}

/* Divides the node among `count` ranks that are allowed what `sets` says. */
static void divide(int count, int threads, int cpus_per_task)
{
    for (int i = 0; i < count; i++) {
        struct topology_request request = {.allowed = sets,
                                           .node_rank = i,
                                           .node_size = count,
                                           .threads = threads,
                                           .cpus_per_task = cpus_per_task};

        assert_int_equal(topology_divide(&ranks[i], &request), STATUS_OK);
    }
}

static void close_ranks(int count)
{
    for (int i = 0; i < count; i++)
        topology_close(&ranks[i]);
}

/* hwloc's set of the processors from `first` to `last`. */
static struct topology_set set_of(unsigned first, int last)
{
    struct topology_set set;
    hwloc_bitmap_t bits = hwloc_bitmap_alloc();

    hwloc_bitmap_set_range(bits, first, last);
    hwloc_bitmap_snprintf(set.text, sizeof set.text, bits);
    hwloc_bitmap_free(bits);
    return set;
}

static void says(int rank, int count, int nodes, bool open_mpi, const char *words)
{
    struct topology_scene scene = {.ranks = count, .nodes = nodes, .open_mpi = open_mpi, .least = 4096};
    char text[TOPOLOGY_TEXT_BYTES];

    for (int i = 0; i < count / nodes; i++) {
        scene.least = ranks[i].threads < scene.least ? ranks[i].threads : scene.least;
        scene.most = ranks[i].threads > scene.most ? ranks[i].threads : scene.most;
    }
    for (int i = 0; i < count / nodes; i++)
        ranks[i].real = true; /* what would be said there */
    topology_describe(&ranks[rank], &scene, text);
    if (strcmp(text, words) != 0)
        fail_msg("\"%s\", not \"%s\"", text, words);
}

static void one_rank_has_the_machine_and_is_not_bound(void **state)
{
    (void)state;
    machine(SMALL);
    open_ranks(1);
    divide(1, 0, -1);
    assert_int_equal(ranks[0].threads, 2);
    assert_int_equal(ranks[0].binding, TOPOLOGY_FREE);
    assert_false(ranks[0].pin);
    says(0, 1, 1, false, "1 rank on 1 node, 2 threads, not bound (2 processors)");
    close_ranks(1);
}

static void ranks_beyond_the_processors_share_them_unbound(void **state)
{
    (void)state;
    machine(SMALL);
    open_ranks(8);
    divide(8, 0, -1);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(ranks[i].threads, 1);
        assert_int_equal(ranks[i].binding, TOPOLOGY_SHARED);
        assert_false(ranks[i].pin);
    }
    says(0, 8, 1, true, "8 ranks on 1 node, 1 thread each, not bound (2 processors shared)");
    close_ranks(8);
}

static void hardware_threads_are_not_counted_twice(void **state)
{
    (void)state;
    machine(HYPER);
    open_ranks(2);
    assert_int_equal(ranks[0].machine_processors, 8);
    divide(2, 0, -1);
    assert_int_equal(ranks[0].threads, 4);
    assert_string_equal(ranks[0].own.text, "0x000000ff");
    assert_string_equal(ranks[1].own.text, "0x0000ff00");
    assert_int_equal(ranks[1].pinned[0], 8);
    assert_int_equal(ranks[1].pinned[3], 14);
    close_ranks(2);
}

/* For every number of ranks up to the processors: parts of the machine are disjoint, together the whole of
 * it, their sizes differ by one at most, and pinned threads lie in them. */
static void parts_are_even_disjoint_and_complete(void **state)
{
    (void)state;
    for (int count = 2; count <= 32; count++) {
        hwloc_bitmap_t all = hwloc_bitmap_alloc();
        hwloc_bitmap_t own = hwloc_bitmap_alloc();

        dgx();
        open_ranks(count);
        assert_false(ranks[0].real);
        divide(count, 0, -1);
        for (int i = 0; i < count; i++) {
            assert_int_equal(hwloc_bitmap_sscanf(own, ranks[i].own.text), 0);
            assert_false(hwloc_bitmap_intersects(all, own));
            hwloc_bitmap_or(all, all, own);
            assert_int_equal(hwloc_bitmap_weight(own), ranks[i].threads);
            assert_in_range(ranks[i].threads, 32 / count, (32 + count - 1) / count);
            for (int t = 0; t < ranks[i].threads; t++)
                assert_true(hwloc_bitmap_isset(own, (unsigned)ranks[i].pinned[t]));
            assert_int_equal(ranks[i].binding, TOPOLOGY_DIVIDED);
            assert_false(ranks[i].pin); /* not this machine */
        }
        assert_int_equal(hwloc_bitmap_weight(all), 32);
        close_ranks(count);
        hwloc_bitmap_free(own);
        hwloc_bitmap_free(all);
    }
}

static void eight_ranks_of_a_large_node_take_four_processors_each(void **state)
{
    (void)state;
    dgx();
    open_ranks(8);
    divide(8, 0, -1);
    assert_string_equal(ranks[0].own.text, "0x0000000f");
    assert_string_equal(ranks[7].own.text, "0xf0000000");
    says(0, 16, 2, false,
         "16 ranks on 2 nodes, 4 threads each, each rank bound to its own 4 of 32 processors");
    close_ranks(8);
    open_ranks(3);
    divide(3, 0, -1);
    says(0, 3, 1, false,
         "3 ranks on 1 node, 10 to 11 threads each, each rank bound to its own 11 of 32 processors");
    close_ranks(3);
}

static void what_the_launcher_gave_one_rank_alone_it_keeps(void **state)
{
    (void)state;
    dgx();
    open_ranks(2);
    sets[0] = set_of(0, 0);
    sets[1] = set_of(1, 1);
    divide(2, 0, -1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ranks[i].binding, TOPOLOGY_LAUNCHER);
        assert_int_equal(ranks[i].threads, 1);
        assert_int_equal(ranks[i].pinned[0], i);
    }
    says(0, 2, 1, true,
         "2 ranks on 1 node, 1 thread each, bound by the launcher to 1 of 32 processors each "
         "('mpirun --bind-to none' gives them all)");
    says(0, 2, 1, false,
         "2 ranks on 1 node, 1 thread each, bound by the launcher to 1 of 32 processors each");
    divide(1, 0, -1);
    says(0, 1, 1, true,
         "1 rank on 1 node, 1 thread, bound by the launcher to 1 of 32 processors "
         "('mpirun --bind-to none' gives them all)");
    close_ranks(2);
}

static void ranks_given_the_same_part_divide_that_part(void **state)
{
    (void)state;
    dgx();
    open_ranks(4);
    sets[0] = sets[2] = set_of(0, 7);
    sets[1] = sets[3] = set_of(16, 23);
    divide(4, 0, -1);
    assert_string_equal(ranks[0].own.text, "0x0000000f");
    assert_string_equal(ranks[2].own.text, "0x000000f0");
    assert_string_equal(ranks[1].own.text, "0x000f0000");
    assert_string_equal(ranks[3].own.text, "0x00f00000");
    for (int i = 0; i < 4; i++)
        sets[i] = set_of((unsigned)(i % 2), i % 2);
    divide(4, 0, -1);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(ranks[i].binding, TOPOLOGY_SHARED);
        assert_int_equal(ranks[i].processors, 1);
    }
    says(0, 4, 1, false, "4 ranks on 1 node, 1 thread each, not bound (1 processor shared)");
    close_ranks(4);
}

static void slurms_processors_per_task_are_threads(void **state)
{
    (void)state;
    dgx();
    open_ranks(4);
    divide(4, 0, 2);
    assert_int_equal(ranks[0].threads, 2);
    assert_int_equal(ranks[0].processors, 8);
    assert_false(ranks[0].pin);
    divide(4, 0, 64); /* more than there are: a rank's part is the limit */
    assert_int_equal(ranks[0].threads, 8);
    close_ranks(4);
}

static void a_containers_share_of_time_limits_the_threads(void **state)
{
    (void)state;
    dgx();
    open_ranks(2);
    ranks[0].quota = ranks[1].quota = 4.5;
    divide(2, 0, -1);
    assert_int_equal(ranks[0].threads, 2);
    assert_false(ranks[0].pin);
    says(0, 2, 1, false,
         "2 ranks on 1 node, 2 threads each, each rank bound to its own 16 of 32 processors, time limited to "
         "that of "
         "4.5 processors by the control group");
    ranks[0].quota = ranks[1].quota = 0.5;
    divide(2, 0, -1);
    assert_int_equal(ranks[0].threads, 1);
    ranks[0].quota = ranks[1].quota = 64;
    divide(2, 0, -1);
    assert_int_equal(ranks[0].threads, 16);
    says(0, 2, 1, false,
         "2 ranks on 1 node, 16 threads each, each rank bound to its own 16 of 32 processors");
    ranks[0].quota = ranks[1].quota = 0.5;
    divide(2, 3, -1);
    assert_int_equal(ranks[0].threads, 3);
    close_ranks(2);
}

static void the_threads_option_has_the_last_word(void **state)
{
    (void)state;
    dgx();
    open_ranks(4);
    divide(4, 3, 2);
    assert_int_equal(ranks[0].threads, 3);
    assert_int_equal(ranks[0].binding, TOPOLOGY_DIVIDED);
    divide(4, 9, -1); /* beyond its part nobody is bound */
    assert_int_equal(ranks[0].threads, 9);
    assert_int_equal(ranks[0].binding, TOPOLOGY_FREE);
    says(0, 4, 1, false, "4 ranks on 1 node, 9 threads each, not bound (8 processors for each rank)");
    close_ranks(4);
    machine(SMALL);
    open_ranks(4);
    divide(4, 2, -1);
    assert_int_equal(ranks[0].threads, 2);
    assert_int_equal(ranks[0].binding, TOPOLOGY_SHARED);
    close_ranks(4);
}

static void another_machine_is_never_bound_to(void **state)
{
    hwloc_topology_t here;
    hwloc_bitmap_t before = hwloc_bitmap_alloc();
    hwloc_bitmap_t after = hwloc_bitmap_alloc();
    char text[TOPOLOGY_TEXT_BYTES];
    struct topology_scene scene = {.ranks = 2, .nodes = 1, .least = 1, .most = 1};

    (void)state;
    machine(NULL);
    hwloc_topology_init(&here);
    hwloc_topology_load(here);
    hwloc_get_cpubind(here, before, HWLOC_CPUBIND_PROCESS);
    machine(SMALL);
    open_ranks(2);
    divide(2, 0, -1);
    topology_bind(&ranks[1]);
    hwloc_get_cpubind(here, after, HWLOC_CPUBIND_PROCESS);
    assert_true(hwloc_bitmap_isequal(before, after));
    topology_describe(&ranks[0], &scene, text);
    assert_non_null(strstr(text, "nothing is bound"));
    close_ranks(2);
    hwloc_bitmap_free(before);
    hwloc_bitmap_free(after);
    hwloc_topology_destroy(here);
}

static void on_this_machine_a_rank_is_bound_to_its_part(void **state)
{
    hwloc_bitmap_t before = hwloc_bitmap_alloc();
    hwloc_bitmap_t bound = hwloc_bitmap_alloc();
    hwloc_bitmap_t own = hwloc_bitmap_alloc();

    (void)state;
    machine(NULL);
    open_ranks(2);
    divide(2, 0, -1);
    assert_true(ranks[0].real);
    if (ranks[1].binding == TOPOLOGY_DIVIDED) { /* not on one processor */
        hwloc_get_cpubind(ranks[1].machine, before, HWLOC_CPUBIND_PROCESS);
        topology_bind(&ranks[1]);
        hwloc_get_cpubind(ranks[1].machine, bound, HWLOC_CPUBIND_PROCESS);
        hwloc_bitmap_sscanf(own, ranks[1].own.text);
        assert_true(hwloc_bitmap_isequal(bound, own));
        assert_true(ranks[1].pin);
        hwloc_set_cpubind(ranks[1].machine, before, HWLOC_CPUBIND_PROCESS);
    }
    close_ranks(2);
    hwloc_bitmap_free(before);
    hwloc_bitmap_free(bound);
    hwloc_bitmap_free(own);
}

static void a_set_of_another_machine_is_refused(void **state)
{
    struct topology_request request = {.allowed = sets, .node_rank = 0, .node_size = 1};

    (void)state;
    machine(SMALL);
    open_ranks(1);
    sets[0] = set_of(100, 101);
    assert_int_equal(topology_divide(&ranks[0], &request), STATUS_UNAVAILABLE);
    assert_non_null(strstr(status_text(), "none of the processors that this rank may use"));
    close_ranks(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_rank_has_the_machine_and_is_not_bound),
        cmocka_unit_test(ranks_beyond_the_processors_share_them_unbound),
        cmocka_unit_test(hardware_threads_are_not_counted_twice),
        cmocka_unit_test(parts_are_even_disjoint_and_complete),
        cmocka_unit_test(eight_ranks_of_a_large_node_take_four_processors_each),
        cmocka_unit_test(what_the_launcher_gave_one_rank_alone_it_keeps),
        cmocka_unit_test(ranks_given_the_same_part_divide_that_part),
        cmocka_unit_test(slurms_processors_per_task_are_threads),
        cmocka_unit_test(a_containers_share_of_time_limits_the_threads),
        cmocka_unit_test(the_threads_option_has_the_last_word),
        cmocka_unit_test(another_machine_is_never_bound_to),
        cmocka_unit_test(on_this_machine_a_rank_is_bound_to_its_part),
        cmocka_unit_test(a_set_of_another_machine_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
