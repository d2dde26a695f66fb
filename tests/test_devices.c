/* test_devices.c - each rank of a node takes the device next to its processors, and no two take the same
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * tests/golden/topology/dgx.xml: two packages of 16 cores, each with four GPUs and an InfiniBand adapter. The
 * random matchings are compared with a search through all of them. */
#include "launch/devices_match.h"
#include "launch/topology_device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS = 8, LEAST = 80 };

static const char *const BUSES[] = {"0000:1b:00.0", "0000:2b:00.0", "0000:3b:00.0", "0000:4b:00.0",
                                    "0000:9b:00.0", "0000:ab:00.0", "0000:bb:00.0", "0000:cb:00.0"};

static struct devices_match_seen seen[RANKS];
static int number[RANKS];
static struct arena arena;

static unsigned long seed = 20251123;

static int between(int low, int high)
{
    seed = seed * 6364136223846793005ul + 1442695040888963407ul;
    return low + (int)((seed >> 33) % (unsigned long)(high - low + 1));
}

static void sees(int rank, const char *bus, int distance)
{
    struct devices_match_one *one = &seen[rank].device[seen[rank].count++];

    *one = (struct devices_match_one){.capability = 90, .distance = distance};
    strcpy(one->bus, bus);
}

static enum status match(int ranks)
{
    enum status status;

    assert_int_equal(arena_open(&arena, "a test", 16 << 20), STATUS_OK);
    status = devices_match(seen, ranks, LEAST, &arena, number);
    arena_close(&arena);
    return status;
}

static void refuses(int ranks, const char *words)
{
    assert_int_equal(match(ranks), STATUS_UNAVAILABLE);
    if (!strstr(status_text(), words))
        fail_msg("\"%s\" does not say \"%s\"", status_text(), words);
}

static int fresh(void **state)
{
    (void)state;
    memset(seen, 0, sizeof seen);
    return 0;
}

static void without_distances_ranks_take_devices_by_number(void **state)
{
    (void)state;
    for (int r = 0; r < 4; r++)
        for (int d = 0; d < 8; d++)
            sees(r, BUSES[d], -1);
    assert_int_equal(match(4), STATUS_OK);
    for (int r = 0; r < 4; r++)
        assert_int_equal(number[r], r);
}

/* On the machine of the file, whatever order CUDA lists the devices in. */
static void ranks_take_devices_of_their_package(void **state)
{
    struct topology ranks[RANKS];
    struct topology_set sets[RANKS];
    struct topology_device machine;
    int32_t order[RANKS] = {5, 0, 7, 2, 4, 1, 6, 3};

    (void)state;
    unsetenv("HWLOC_SYNTHETIC");
    setenv("HWLOC_XMLFILE", "tests/golden/topology/dgx.xml", 1);
    assert_int_equal(topology_device_open(&machine), STATUS_OK);
    for (int r = 0; r < RANKS; r++) {
        assert_int_equal(topology_open(&ranks[r]), STATUS_OK);
        sets[r] = ranks[r].allowed;
    }
    for (int r = 0; r < RANKS; r++) {
        struct topology_request request = {
            .allowed = sets, .node_rank = r, .node_size = RANKS, .cpus_per_task = -1};

        assert_int_equal(topology_divide(&ranks[r], &request), STATUS_OK);
        for (int i = 0; i < RANKS; i++)
            sees(r, BUSES[order[i]], topology_device_distance(&machine, &ranks[r].own, BUSES[order[i]]));
    }
    assert_int_equal(match(RANKS), STATUS_OK);
    for (int r = 0; r < RANKS; r++) {
        assert_true(seen[r].device[0].distance >= 0);
        if (order[number[r]] / 4 != r / 4)
            fail_msg("rank %d takes %s", r, BUSES[order[number[r]]]);
    }
    /* of equal sums the first ranks take the first numbers: 1 3 5 7 are near rank 0, 0 2 4 6 near rank 4 */
    assert_int_equal(number[0], 1);
    assert_int_equal(number[1], 3);
    assert_int_equal(number[3], 7);
    assert_int_equal(number[4], 0);
    assert_int_equal(number[7], 6);
    for (int r = 0; r < RANKS; r++)
        topology_close(&ranks[r]);
    topology_device_close(&machine);
    unsetenv("HWLOC_XMLFILE");
}

static void the_adapter_of_the_package_is_named(void **state)
{
    char name[TOPOLOGY_DEVICE_NAME_BYTES];
    struct topology_device machine;

    (void)state;
    setenv("HWLOC_XMLFILE", "tests/golden/topology/dgx.xml", 1);
    assert_int_equal(topology_device_open(&machine), STATUS_OK);
    topology_device_network(&machine, BUSES[2], name);
    assert_string_equal(name, "mlx5_0");
    topology_device_network(&machine, BUSES[7], name);
    assert_string_equal(name, "mlx5_1");
    topology_device_network(&machine, "0000:77:00.0", name);
    assert_string_equal(name, "");
    assert_int_equal(topology_device_distance(&machine, &(struct topology_set){"0x1"}, "0000:77:00.0"),
                     TOPOLOGY_DEVICE_UNSEEN);
    topology_device_close(&machine);
    unsetenv("HWLOC_XMLFILE");
}

/* As Slurm binds: every rank sees one, and calls it 0. */
static void ranks_that_see_one_device_each_take_it(void **state)
{
    (void)state;
    for (int r = 0; r < 4; r++)
        sees(r, BUSES[3 - r], r);
    assert_int_equal(match(4), STATUS_OK);
    for (int r = 0; r < 4; r++)
        assert_int_equal(number[r], 0);
}

static void one_device_given_to_two_ranks_is_refused(void **state)
{
    (void)state;
    sees(0, BUSES[0], 0);
    sees(1, BUSES[1], 0);
    sees(2, BUSES[1], 0);
    refuses(3, "ranks 1 and 2 of this machine were both given GPU 0000:2b:00.0 and no other; give each rank");
}

static void fewer_devices_than_ranks_are_refused(void **state)
{
    (void)state;
    for (int r = 0; r < 3; r++)
        for (int d = 0; d < 2; d++)
            sees(r, BUSES[d], 0);
    refuses(3, "this machine shows 2 GPUs to its 3 ranks and each needs one of its own; start fewer ranks");
}

/* Slurm starts one task on a node for an mpirun within a job, and --gpus-per-task=1 is for that task: all
 * ranks of the node see what it was given. */
static void one_device_shown_to_all_ranks_is_refused_with_the_way_to_more(void **state)
{
    (void)state;
    for (int r = 0; r < 2; r++)
        sees(r, BUSES[2], 0);
    refuses(
        2,
        "this machine shows 1 GPU to its 2 ranks and each needs one of its own; start fewer ranks, or show "
        "them more (CUDA_VISIBLE_DEVICES; Slurm: --gpus-per-node=2)");
}

static void old_devices_are_left_alone(void **state)
{
    (void)state;
    for (int r = 0; r < 2; r++)
        for (int d = 0; d < 3; d++) {
            sees(r, BUSES[d], d);
            seen[r].device[d].capability = d == 0 ? 75 : 90;
        }
    assert_int_equal(match(2), STATUS_OK);
    assert_int_equal(number[0], 1);
    assert_int_equal(number[1], 2);
    seen[0].device[1].capability = seen[1].device[1].capability = 61;
    refuses(
        2,
        "this machine shows 1 GPU to its 2 ranks and each needs one of its own (2 more are too old: compute "
        "capability ");
}

/* The least sum over all matchings, and the first of those that have it. */
struct
try {
    int ranks, best, chosen[RANKS], first[RANKS];
};

static void search(struct try *t, int rank, int sum)
{
    if (rank == t->ranks) {
        if (sum < t->best) {
            t->best = sum;
            memcpy(t->first, t->chosen, sizeof t->first);
        }
        return;
    }
    for (int i = 0; i < seen[rank].count; i++) {
        bool taken = false;

        for (int r = 0; r < rank; r++)
            taken = taken || strcmp(seen[r].device[t->chosen[r]].bus, seen[rank].device[i].bus) == 0;
        if (taken || seen[rank].device[i].capability < LEAST)
            continue;
        t->chosen[rank] = i;
        search(t, rank + 1, sum + seen[rank].device[i].distance);
    }
}

static void a_matching_is_the_first_of_the_best(void **state)
{
    (void)state;
    print_message("seed %lu\n", seed);
    for (int round = 0; round < 300; round++) {
        struct try t = {.ranks = between(1, 5), .best = 1 << 20};
        int all = between(1, 6);

        fresh(NULL);
        /* All see all, in one order, so that "first" means the same for every rank; some are too old for all.
         */
        for (int r = 0; r < t.ranks; r++)
            for (int d = 0; d < all; d++)
                sees(r, BUSES[d], between(0, 4));
        for (int d = 0; d < all; d++)
            if (between(0, 9) == 0)
                for (int r = 0; r < t.ranks; r++)
                    seen[r].device[d].capability = 70;
        search(&t, 0, 0);
        if (t.best == 1 << 20) {
            assert_int_equal(match(t.ranks), STATUS_UNAVAILABLE);
            continue;
        }
        assert_int_equal(match(t.ranks), STATUS_OK);
        for (int r = 0; r < t.ranks; r++)
            assert_int_equal(number[r], t.first[r]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(without_distances_ranks_take_devices_by_number, fresh),
        cmocka_unit_test_setup(ranks_take_devices_of_their_package, fresh),
        cmocka_unit_test_setup(the_adapter_of_the_package_is_named, fresh),
        cmocka_unit_test_setup(ranks_that_see_one_device_each_take_it, fresh),
        cmocka_unit_test_setup(one_device_given_to_two_ranks_is_refused, fresh),
        cmocka_unit_test_setup(fewer_devices_than_ranks_are_refused, fresh),
        cmocka_unit_test_setup(one_device_shown_to_all_ranks_is_refused_with_the_way_to_more, fresh),
        cmocka_unit_test_setup(old_devices_are_left_alone, fresh),
        cmocka_unit_test_setup(a_matching_is_the_first_of_the_best, fresh),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
