/* topology.c - which processors this rank works on, and with how many threads
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/topology.h"

#include "engine/base/log.h"
#include "engine/base/range.h"

#include <errno.h>
#include <hwloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Cores, or hardware threads where the system shows no cores, that have a part in `set`. */
static hwloc_obj_t next_processor(hwloc_topology_t machine, hwloc_const_bitmap_t set, hwloc_obj_t last)
{
    hwloc_obj_type_t type =
        hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_CORE) > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
    hwloc_obj_t object = last;

    do
        object = hwloc_get_next_obj_by_type(machine, type, object);
    while (object && !hwloc_bitmap_intersects(object->cpuset, set));
    return object;
}

static int count_processors(hwloc_topology_t machine, hwloc_const_bitmap_t set)
{
    int count = 0;

    for (hwloc_obj_t o = next_processor(machine, set, NULL); o; o = next_processor(machine, set, o))
        count++;
    return count;
}

static enum status set_write(struct topology_set *out, hwloc_const_bitmap_t set)
{
    int length = hwloc_bitmap_snprintf(out->text, sizeof out->text, set);

    if (length < 0 || (size_t)length >= sizeof out->text)
        return FAIL(STATUS_UNAVAILABLE,
                    "this machine's set of processors takes %d characters, %zu can be kept", length,
                    sizeof out->text);
    return STATUS_OK;
}

/* What launcher and cpuset leave to this process, of what hwloc says anybody may use. */
static enum status find_allowed(struct topology *t)
{
    hwloc_topology_t machine = t->machine;
    hwloc_bitmap_t allowed = hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(machine));
    hwloc_bitmap_t mine = hwloc_bitmap_alloc();
    enum status status;

    t->machine_processors = count_processors(machine, allowed);
    if (t->real && hwloc_get_cpubind(machine, mine, HWLOC_CPUBIND_PROCESS) == 0 &&
        hwloc_bitmap_intersects(mine, allowed))
        hwloc_bitmap_and(allowed, allowed, mine);
    status = set_write(&t->allowed, allowed);
    hwloc_bitmap_free(mine);
    hwloc_bitmap_free(allowed);
    return status;
}

/* What a container may use of the processors' time, in processors: control groups version 2, then 1, as seen
 * from inside. Files that are not there set no limit. */
static double find_quota(void)
{
    static const char *const sources[][2] = {
        {"/sys/fs/cgroup/cpu.max", NULL},
        {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"}};

    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        FILE *quota_file = fopen(sources[i][0], "re");
        FILE *period_file = sources[i][1] ? fopen(sources[i][1], "re") : NULL;
        double quota = 0, period = 0;

        if (quota_file && fscanf(quota_file, "%lf", &quota) == 1 && /* "max" is no number */
            fscanf(period_file ? period_file : quota_file, "%lf", &period) != 1)
            period = 0;
        if (quota_file)
            fclose(quota_file);
        if (period_file)
            fclose(period_file);
        if (quota > 0 && period > 0)
            return quota / period;
    }
    return 0;
}

enum status topology_open(struct topology *t)
{
    hwloc_topology_t machine;
    enum status status;

    memset(t, 0, sizeof *t);
    if (hwloc_topology_init(&machine) != 0)
        return FAIL(STATUS_NO_MEMORY, "hwloc cannot start: %s", strerror(errno));
    if (hwloc_topology_load(machine) != 0) {
        status = FAIL(STATUS_UNAVAILABLE, "hwloc cannot read this machine's processors: %s", strerror(errno));
        hwloc_topology_destroy(machine);
        return status;
    }
    t->machine = machine;
    t->real = hwloc_topology_is_thissystem(machine) != 0;
    t->quota = t->real ? find_quota() : 0;
    status = find_allowed(t);
    if (status != STATUS_OK)
        topology_close(t);
    return status;
}

void topology_close(struct topology *t)
{
    if (t->machine)
        hwloc_topology_destroy(t->machine);
    t->machine = NULL;
}

/* Part `part` of `parts` of the processors in `set`: *own is what of them is in the set, *first their first
 * hardware thread. Returns their number; with fewer processors than parts it is 0. */
static int take_part(struct topology *t, hwloc_const_bitmap_t set, int parts, int part, hwloc_bitmap_t own)
{
    hwloc_topology_t machine = t->machine;
    struct range share = range_share(count_processors(machine, set), parts, part);
    hwloc_bitmap_t threads = hwloc_bitmap_alloc();
    int number = 0;

    hwloc_bitmap_zero(own);
    for (hwloc_obj_t o = next_processor(machine, set, NULL); o;
         o = next_processor(machine, set, o), number++) {
        if (number < share.first || number >= share.first + share.count)
            continue;
        hwloc_bitmap_and(threads, o->cpuset, set);
        hwloc_bitmap_or(own, own, threads);
        if (number - share.first < TOPOLOGY_THREAD_LIMIT)
            t->pinned[number - share.first] = hwloc_bitmap_first(threads);
    }
    hwloc_bitmap_free(threads);
    return share.count;
}

/* Threads of a rank with so many processors of its own; where processors are shared that may be none. */
static int choose_threads(const struct topology *t, const struct topology_request *r, int processors)
{
    double time = t->quota / r->node_size;
    int threads = processors;

    if (r->threads > 0)
        return r->threads;
    if (r->cpus_per_task > 0 && r->cpus_per_task < threads)
        threads = r->cpus_per_task;
    if (t->quota > 0 && time < threads)
        threads = (int)time; /* more would only be stopped by turns */
    if (threads < 1)
        return 1;
    return threads < TOPOLOGY_THREAD_LIMIT ? threads : TOPOLOGY_THREAD_LIMIT;
}

/* How many ranks of the node were given the very set of this rank, and how many of them come before it. */
static void count_peers(const struct topology_request *r, int *peers, int *before)
{
    const char *mine = r->allowed[r->node_rank].text;

    *peers = *before = 0;
    for (int i = 0; i < r->node_size; i++)
        if (strcmp(r->allowed[i].text, mine) == 0) {
            *before += i < r->node_rank;
            *peers += 1;
        }
}

static void decide(struct topology *t, const struct topology_request *r, hwloc_const_bitmap_t set,
                   hwloc_bitmap_t own)
{
    int all = count_processors(t->machine, set);
    int peers, before, mine;

    count_peers(r, &peers, &before);
    mine = take_part(t, set, peers, before, own);
    t->threads = choose_threads(t, r, mine);
    t->processors = all < peers ? all : mine;
    if (all < peers)
        t->binding = TOPOLOGY_SHARED;
    else if (t->threads > mine || (peers == 1 && mine == t->machine_processors))
        t->binding = TOPOLOGY_FREE;
    else
        t->binding = peers > 1 ? TOPOLOGY_DIVIDED : TOPOLOGY_LAUNCHER;
    /* Fewer threads than processors may move among them: two such jobs would otherwise meet on the first
     * ones. */
    t->pin =
        t->real && t->threads == mine && (t->binding == TOPOLOGY_DIVIDED || t->binding == TOPOLOGY_LAUNCHER);
}

enum status topology_divide(struct topology *t, const struct topology_request *request)
{
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    hwloc_bitmap_t own = hwloc_bitmap_alloc();
    enum status status;

    if (hwloc_bitmap_sscanf(set, request->allowed[request->node_rank].text) != 0 ||
        count_processors(t->machine, set) == 0) {
        status = FAIL(STATUS_UNAVAILABLE,
                      "none of the processors that this rank may use, '%s', is one of this machine",
                      request->allowed[request->node_rank].text);
    } else {
        decide(t, request, set, own);
        status = set_write(&t->own, own);
    }
    hwloc_bitmap_free(own);
    hwloc_bitmap_free(set);
    return status;
}

void topology_bind(const struct topology *t)
{
    hwloc_bitmap_t own;

    if (!t->real || t->binding != TOPOLOGY_DIVIDED)
        return;
    own = hwloc_bitmap_alloc();
    if (hwloc_bitmap_sscanf(own, t->own.text) == 0 &&
        hwloc_set_cpubind(t->machine, own, HWLOC_CPUBIND_PROCESS) != 0)
        log_line(LOG_WARN, "this rank could not be bound to its processors: %s", strerror(errno));
    hwloc_bitmap_free(own);
}

static const char *plural(int count)
{
    return count == 1 ? "" : "s";
}

static int describe_binding(const struct topology *t, const struct topology_scene *s, char *text, size_t size)
{
    int few = t->processors;

    switch (t->binding) {
    case TOPOLOGY_SHARED:
        return snprintf(text, size, "not bound (%d processor%s shared)", few, plural(few));
    case TOPOLOGY_FREE:
        if (s->ranks == 1)
            return snprintf(text, size, "not bound (%d processor%s)", few, plural(few));
        return snprintf(text, size, "not bound (%d processor%s for each rank)", few, plural(few));
    case TOPOLOGY_DIVIDED:
        return snprintf(text, size, "each rank bound to its own %d of %d processor%s", few,
                        t->machine_processors, plural(t->machine_processors));
    case TOPOLOGY_LAUNCHER:
        return snprintf(text, size, "bound by the launcher to %d of %d processor%s%s%s", few,
                        t->machine_processors, plural(t->machine_processors), s->ranks > 1 ? " each" : "",
                        s->open_mpi && s->ranks <= 2 ? " ('mpirun --bind-to none' gives them all)" : "");
    }
    return 0;
}

void topology_describe(const struct topology *t, const struct topology_scene *scene,
                       char text[static TOPOLOGY_TEXT_BYTES])
{
    char threads[48];
    size_t used;

    if (scene->least == scene->most)
        snprintf(threads, sizeof threads, "%d thread%s%s", scene->least, plural(scene->least),
                 scene->ranks > 1 ? " each" : "");
    else
        snprintf(threads, sizeof threads, "%d to %d threads each", scene->least, scene->most);
    used = (size_t)snprintf(text, TOPOLOGY_TEXT_BYTES, "%d rank%s on %d node%s, %s, ", scene->ranks,
                            plural(scene->ranks), scene->nodes, plural(scene->nodes), threads);
    used += (size_t)describe_binding(t, scene, text + used, TOPOLOGY_TEXT_BYTES - used);
    if (t->quota > 0 && t->quota < t->machine_processors && used < TOPOLOGY_TEXT_BYTES)
        used += (size_t)snprintf(text + used, TOPOLOGY_TEXT_BYTES - used,
                                 ", time limited to that of %.1f processors by the control group", t->quota);
    if (!t->real && used < TOPOLOGY_TEXT_BYTES)
        snprintf(text + used, TOPOLOGY_TEXT_BYTES - used,
                 " on a machine that hwloc was told of: nothing is bound");
}

/* Before hwloc makes them all: numbers of a level stand at its beginning or behind a colon. */
static bool few_enough(const char *description)
{
    unsigned long long count = 1;

    for (const char *at = description; *at; at++) {
        bool begins = at == description || at[-1] == ':' || at[-1] == ' ';

        if (!begins || *at < '1' || *at > '9')
            continue;
        count *= strtoull(at, NULL, 10);
        if (count > TOPOLOGY_IMAGINED || strspn(at, "0123456789") > 5)
            return false;
    }
    return true;
}

static int count_machines(hwloc_topology_t t)
{
    return hwloc_topology_get_depth(t) > 1 && hwloc_get_depth_type(t, 1) == HWLOC_OBJ_GROUP
               ? (int)hwloc_get_nbobjs_by_depth(t, 1)
               : hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_NUMANODE);
}

enum status topology_imagine(const char *description, int *machines, int *processors)
{
    hwloc_topology_t t;
    enum status status = STATUS_OK;

    if (!few_enough(description))
        return FAIL(STATUS_USAGE, "'%s' has more than %d processors", description, TOPOLOGY_IMAGINED);
    if (hwloc_topology_init(&t) != 0)
        return FAIL(STATUS_NO_MEMORY, "hwloc cannot start: %s", strerror(errno));
    if (hwloc_topology_set_synthetic(t, description) != 0 || hwloc_topology_load(t) != 0) {
        status = FAIL(
            STATUS_USAGE,
            "hwloc %s does not understand '%s': write levels from the top, each with how many the one above "
            "has, such as 'group:4 package:2 pu:8'",
            HWLOC_VERSION, description);
    } else {
        *machines = count_machines(t);
        *processors = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_PU);
    }
    hwloc_topology_destroy(t);
    return status;
}

const char *topology_library(void)
{
    return HWLOC_VERSION;
}
