/* comm_nccl_team.c - NCCL's communicators of one device: how they begin and end, and waits that cannot hang
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/comm_nccl_team.h"

#include "comm/mpi_border.h"
#include "comm/wait.h"
#include "comm/watch.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

enum { WORDS = 256, OLDEST_VERSION = NCCL_VERSION_CODE / 100 * 100, MOST_BLOCKS = 64 };

/* Of each communicator: its name for NCCL's own log, and whose it is. */
static const struct {
    const char *name, *ranks;
} members[] = {[COMM_NCCL_TEAM_WHOLE] = {"switchyard", "all ranks"},
               [COMM_NCCL_TEAM_PART] = {"switchyard group", "a group"},
               [COMM_NCCL_TEAM_NODE] = {"switchyard node", "a node"},
               [COMM_NCCL_TEAM_MOVES] = {"switchyard moves", "all ranks for moves"}};

static const int64_t QUICK = 2 * 1000 * 1000;    /* that long the processor is only yielded */
static const int64_t USUAL = 1000 * 1000 * 1000; /* what a device may need without being waited for */
static const int64_t NAP = 50 * 1000;
static const int64_t LONGEST_NAP = 1000 * 1000;
static const int64_t LONGEST_CALL = 600 * (int64_t)1000000000; /* to connect, to leave, to be on the stream */

/* -- pauses of a wait --- */

struct pause {
    int64_t since;
    struct wait wait;
};

static void pause_open(struct pause *p)
{
    p->since = clock_now();
    wait_open(&p->wait, 0, false, NULL);
}

/* Between two questions. Only a wait longer than a device's usual work is one that the watchdog sees. */
static enum status pause_round(struct pause *p)
{
    int64_t lasted = clock_now() - p->since;
    int64_t nap = NAP;

    TRY(watch_failure());
    if (lasted < QUICK) {
        sched_yield();
        return STATUS_OK;
    }
    mpi_border_help();
    if (lasted >= USUAL)
        TRY(wait_round(&p->wait, &nap));
    clock_sleep(nap < LONGEST_NAP ? nap : LONGEST_NAP);
    return STATUS_OK;
}

/* -- failures --- */

static const char *ordinal(int number)
{
    int last = number % 100 / 10 == 1 ? 0 : number % 10;

    return last == 1 ? "st" : last == 2 ? "nd" : last == 3 ? "rd" : "th";
}

/* "exchange, the 3rd of the dispatch of layer 5, with ranks 0 to 3" */
static void describe(const struct comm_nccl_call *call, char *words, size_t size)
{
    char layer[32] = "", peers[64] = "", which[48];

    if (call->layer >= 0)
        snprintf(layer, sizeof layer, " of layer %d", call->layer);
    if (call->peers == 1)
        snprintf(peers, sizeof peers, ", with rank %d", call->least);
    else if (call->peers > 1)
        snprintf(peers, sizeof peers, ", with %d ranks from %d to %d", call->peers, call->least, call->most);
    snprintf(which, sizeof which, "the %d%s of the %s", call->number, ordinal(call->number),
             watch_phase_name(call->phase));
    if (call->exchanges > 0)
        snprintf(which, sizeof which, "%d exchanges of all layers", call->exchanges);
    snprintf(words, size, "%s, %s%s%s", call->name, which, layer, peers);
}

/* The first call that has not ended, or the last one. While a step is recorded nothing may be asked. */
static void describe_unfinished(struct comm_nccl_team *team, char *words, size_t size)
{
    unsigned from = team->called > COMM_NCCL_TEAM_RECENT ? team->called - COMM_NCCL_TEAM_RECENT : 0;
    unsigned at = from;

    cuda_record_forget(team->record);
    if (team->called == 0) {
        snprintf(words, size, "no call");
        return;
    }
    while (at + 1 < team->called &&
           cudaEventQuery(team->done[at % COMM_NCCL_TEAM_RECENT]) != cudaErrorNotReady)
        at++;
    describe(&team->recent[at % COMM_NCCL_TEAM_RECENT], words, size);
}

/* Graphs first: NCCL waits for those that hold calls, and for a recording. The whole last: the others use
 * what it holds. */
static void abort_all(struct comm_nccl_team *team)
{
    cuda_record_forget(team->record);
    team->broken = true;
    for (int m = COMM_NCCL_TEAM_MEMBERS - 1; m >= 0; m--)
        if (team->member[m])
            ncclCommAbort(team->member[m]);
    memset(team->member, 0, sizeof team->member);
}

enum status comm_nccl_team_error(struct comm_nccl_team *team, int member, ncclResult_t result,
                                 const char *words)
{
    char call[WORDS], last[WORDS];
    const char *text = team->member[member] ? ncclGetLastError(team->member[member]) : "";

    describe_unfinished(team, call, sizeof call);
    snprintf(last, sizeof last, "%s%s", text && *text ? ": " : "", text ? text : "");
    abort_all(team);
    return FAIL(STATUS_UNAVAILABLE, "%s, communicator of %s: NCCL says %s%s; under way: %s", words,
                members[member].ranks, ncclGetErrorString(result), last, call);
}

static enum status broken(void)
{
    return FAIL(STATUS_UNAVAILABLE, "the exchanges between devices were aborted");
}

/* The watchdog has found why nothing comes; its line is written, so ours is one more. */
static enum status given_up(struct comm_nccl_team *team, enum status status)
{
    char call[WORDS];

    describe_unfinished(team, call, sizeof call);
    log_line(LOG_ERROR, "NCCL is aborted; under way: %s", call);
    abort_all(team);
    return status;
}

/* Has NCCL found an error on any communicator? *busy: it still works on a call of the host. */
static enum status look(struct comm_nccl_team *team, bool *busy)
{
    *busy = false;
    for (int m = 0; m < COMM_NCCL_TEAM_MEMBERS; m++) {
        ncclResult_t state = ncclSuccess, result;

        if (!team->member[m])
            continue;
        result = ncclCommGetAsyncError(team->member[m], &state);
        if (result != ncclSuccess)
            return comm_nccl_team_error(team, m, result, "asked for errors");
        if (state == ncclInProgress)
            *busy = true;
        else if (state != ncclSuccess)
            return comm_nccl_team_error(team, m, state, "while the device was waited for");
    }
    return STATUS_OK;
}

enum status comm_nccl_team_follow(struct comm_nccl_team *team, const char *what)
{
    struct pause pause;
    enum status status;
    bool busy = false;

    pause_open(&pause);
    while ((status = look(team, &busy)) == STATUS_OK && busy) {
        status = pause_round(&pause);
        if (status != STATUS_OK)
            status = given_up(team, status);
        else if (clock_now() - pause.since > LONGEST_CALL)
            status = given_up(team, FAIL(STATUS_UNAVAILABLE, "NCCL did not end %s in %lld s", what,
                                         (long long)(LONGEST_CALL / 1000000000)));
        if (status != STATUS_OK)
            break;
    }
    wait_close(&pause.wait);
    return status;
}

/* A recorded step is on the stream again: one call, of which all others are part. */
static enum status replayed(void *owner, int exchanges)
{
    struct comm_nccl_team *team = owner;
    struct comm_nccl_call *call;

    if (exchanges == 0)
        return STATUS_OK;
    TRY(comm_nccl_team_begin(team, "a recorded step", &call));
    call->layer = -1;
    call->exchanges = exchanges;
    call->peers = team->size - 1;
    call->least = team->rank == 0 ? 1 : 0;
    call->most = team->rank == team->size - 1 ? team->size - 2 : team->size - 1;
    return comm_nccl_team_end(team);
}

static enum status ask_guard(struct comm_nccl_team *team, bool waits)
{
    enum status status = team->guard.look ? team->guard.look(team->guard.owner, waits) : STATUS_OK;

    return status == STATUS_OK ? STATUS_OK : given_up(team, status);
}

/* A call beside that nobody has ended, after a failure, counts as well; moves do for who leaves. */
static cudaError_t ask_streams(const struct comm_nccl_team *team, bool moves)
{
    cudaError_t error = cudaStreamQuery(team->home);

    if (error == cudaSuccess)
        error = cudaStreamQuery(team->beside);
    return error == cudaSuccess && moves && team->moves ? cudaStreamQuery(team->moves) : error;
}

/* Until the event has passed, NULL: until the streams are empty. */
static enum status drain(struct comm_nccl_team *team, cudaEvent_t event, bool moves)
{
    enum status status = team->broken ? broken() : STATUS_OK;
    cudaError_t error = cudaSuccess;
    struct pause pause;
    bool busy;

    pause_open(&pause);
    while (status == STATUS_OK &&
           (error = event ? cudaEventQuery(event) : ask_streams(team, moves)) == cudaErrorNotReady) {
        status = look(team, &busy);
        if (status != STATUS_OK)
            break;
        status = pause_round(&pause);
        if (status != STATUS_OK)
            status = given_up(team, status);
        else
            status = ask_guard(team, true);
    }
    wait_close(&pause.wait);
    if (status == STATUS_OK && error != cudaSuccess)
        return cuda_device_error(error, "cudaStreamQuery");
    return status == STATUS_OK && !event ? ask_guard(team, false) : status;
}

/* What cuda_device does instead of a wait that nothing could end. */
static enum status settle(void *owner, cudaEvent_t event)
{
    return drain(owner, event, false);
}

/* -- begin and end --- */

/* All ranks can, and their libraries agree? *units: multiprocessors of the smallest device. */
static enum status agree(struct comm *inner, enum status mine, int version, int *units)
{
    int64_t least[] = {mine == STATUS_OK, version, -version, *units};

    TRY(inner->reduce(inner, COMM_MIN, least, 4));
    *units = (int)least[3];
    TRY(mine);
    if (!least[0])
        return FAIL(STATUS_UNAVAILABLE, "another rank cannot exchange rows between devices");
    if (least[1] < OLDEST_VERSION)
        return FAIL(STATUS_UNAVAILABLE,
                    "NCCL %lld.%lld is installed, this program was built for %d.%d or newer; "
                    "--device-exchange host goes without it",
                    (long long)least[1] / 10000, (long long)least[1] / 100 % 100, NCCL_MAJOR, NCCL_MINOR);
    if (least[1] != -least[2])
        return FAIL(STATUS_UNAVAILABLE,
                    "the ranks have different versions of NCCL, %lld and %lld; install one, or use "
                    "--device-exchange host",
                    (long long)least[1], (long long)-least[2]);
    return STATUS_OK;
}

/* An exchange holds at most half of a device: then what waits beside it, as stores do, finds room as well. */
static ncclConfig_t config_of(const struct comm_nccl_team *team, int member)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;

    config.blocking = 0;
    config.splitShare = 1;
    config.commName = members[member].name;
    if (team->units / 2 < MOST_BLOCKS)
        config.maxCTAs = team->units / 2;
    return config;
}

static enum status connect_ranks(struct comm_nccl_team *team, struct comm *inner)
{
    ncclConfig_t config = config_of(team, COMM_NCCL_TEAM_WHOLE);
    ncclUniqueId id = {0};
    size_t bytes = sizeof id;
    ncclResult_t result = ncclSuccess;
    const void *there;

    if (inner->rank == 0)
        result = ncclGetUniqueId(&id); /* when it fails the others hear of it by an empty one */
    if (result != ncclSuccess)
        memset(&id, 0, sizeof id);
    TRY(inner->broadcast(inner, 0, &id, &bytes, &there));
    if (result != ncclSuccess)
        return FAIL(STATUS_UNAVAILABLE, "ncclGetUniqueId: %s: %s", ncclGetErrorString(result),
                    ncclGetLastError(NULL));
    memcpy(&id, there, sizeof id);
    if (!id.internal[0] && !memcmp(id.internal, id.internal + 1, sizeof id.internal - 1))
        return FAIL(STATUS_UNAVAILABLE, "rank 0 got no NCCL identity");
    result = ncclCommInitRankConfig(&team->member[0], inner->size, id, inner->rank, &config);
    if (result != ncclSuccess && result != ncclInProgress)
        return comm_nccl_team_error(team, 0, result, "ncclCommInitRankConfig");
    return comm_nccl_team_follow(team, "connecting the ranks");
}

static enum status count_units(struct comm_nccl_team *team)
{
    CUDA_TRY(cudaDeviceGetAttribute(&team->units, cudaDevAttrMultiProcessorCount, team->device->number));
    return STATUS_OK;
}

enum status comm_nccl_team_open(struct comm_nccl_team *team, struct cuda_device *device,
                                struct cuda_record *record, struct comm *inner, enum status mine)
{
    int version = 0;

    *team = (struct comm_nccl_team){.device = device,
                                    .record = record,
                                    .home = device->stream,
                                    .stream = device->stream,
                                    .rank = inner->rank,
                                    .size = inner->size};
    if (ncclGetVersion(&version) != ncclSuccess)
        version = 0;
    if (mine == STATUS_OK)
        mine = count_units(team);
    TRY(agree(inner, mine, version, &team->units));
    for (int i = 0; i < COMM_NCCL_TEAM_RECENT; i++)
        CUDA_TRY(cudaEventCreateWithFlags(&team->done[i], cudaEventDisableTiming));
    CUDA_TRY(cudaEventCreateWithFlags(&team->before, cudaEventDisableTiming));
    CUDA_TRY(cudaStreamCreateWithFlags(&team->beside, cudaStreamNonBlocking));
    TRY(connect_ranks(team, inner));
    device->guest = (struct cuda_device_guest){.settle = settle, .replayed = replayed, .owner = team};
    return STATUS_OK;
}

enum status comm_nccl_team_split(struct comm_nccl_team *team, int member, int part, int key)
{
    ncclConfig_t config = config_of(team, member);
    ncclResult_t result;

    if (team->broken || !team->member[0])
        return broken();
    if (team->member[member])
        return FAIL(STATUS_BUG, "a team of devices is split twice");
    result = ncclCommSplit(team->member[0], part < 0 ? NCCL_SPLIT_NOCOLOR : part, key, &team->member[member],
                           &config);
    if (result != ncclSuccess && result != ncclInProgress)
        return comm_nccl_team_error(team, 0, result, "ncclCommSplit");
    return comm_nccl_team_follow(team, "splitting the ranks");
}

void comm_nccl_team_leave(struct comm_nccl_team *team, int member)
{
    ncclResult_t result;

    if (!team->member[member])
        return;
    cuda_record_forget(team->record);
    /* What is still queued must end before; where it does not, drain has aborted all. */
    if (drain(team, NULL, true) != STATUS_OK) {
        abort_all(team);
        return;
    }
    result = ncclCommFinalize(team->member[member]);
    if ((result != ncclSuccess && result != ncclInProgress) ||
        comm_nccl_team_follow(team, "leaving the others") != STATUS_OK) {
        abort_all(team);
        return;
    }
    ncclCommDestroy(team->member[member]);
    team->member[member] = NULL;
}

void comm_nccl_team_close(struct comm_nccl_team *team)
{
    for (int m = COMM_NCCL_TEAM_MEMBERS - 1; m >= 0; m--)
        comm_nccl_team_leave(team, m);
    if (team->device)
        team->device->guest = (struct cuda_device_guest){0};
    for (int i = 0; i < COMM_NCCL_TEAM_RECENT; i++)
        if (team->done[i])
            cudaEventDestroy(team->done[i]);
    if (team->before)
        cudaEventDestroy(team->before);
    if (team->beside)
        cudaStreamDestroy(team->beside);
    *team = (struct comm_nccl_team){0};
}

/* -- calls --- */

enum status comm_nccl_team_begin(struct comm_nccl_team *team, const char *name, struct comm_nccl_call **call)
{
    const struct comm_nccl_call *last = &team->recent[(team->called - 1) % COMM_NCCL_TEAM_RECENT];
    struct comm_nccl_call *next = &team->recent[team->called % COMM_NCCL_TEAM_RECENT];
    struct comm_nccl_call fresh = {.name = name, .number = 1};

    if (team->broken)
        return broken();
    watch_place(&fresh.phase, &fresh.layer);
    if (team->called > 0 && last->phase == fresh.phase && last->layer == fresh.layer)
        fresh.number = last->number + 1;
    *next = fresh;
    *call = next;
    return STATUS_OK;
}

void comm_nccl_team_peer(struct comm_nccl_call *call, int peer)
{
    if (call->peers == 0)
        call->least = call->most = peer;
    call->least = peer < call->least ? peer : call->least;
    call->most = peer > call->most ? peer : call->most;
    call->peers++;
}

enum status comm_nccl_team_end_on(struct comm_nccl_team *team, cudaStream_t stream)
{
    TRY(comm_nccl_team_follow(team, "queueing a call"));
    if (team->device->recording) { /* an event of a recording could not be asked for */
        team->device->exchanges++;
        return STATUS_OK;
    }
    CUDA_TRY(cudaEventRecord(team->done[team->called % COMM_NCCL_TEAM_RECENT], stream));
    team->called++;
    return STATUS_OK;
}

enum status comm_nccl_team_end(struct comm_nccl_team *team)
{
    return comm_nccl_team_end_on(team, team->stream);
}

enum status comm_nccl_team_aside(struct comm_nccl_team *team, bool behind)
{
    if (behind) {
        CUDA_TRY(cudaEventRecord(team->before, team->home));
        CUDA_TRY(cudaStreamWaitEvent(team->beside, team->before, 0));
    }
    team->stream = team->device->stream = team->beside;
    return STATUS_OK;
}

enum status comm_nccl_team_back(struct comm_nccl_team *team, cudaEvent_t done)
{
    team->stream = team->device->stream = team->home;
    if (done)
        CUDA_TRY(cudaEventRecord(done, team->beside));
    return STATUS_OK;
}
