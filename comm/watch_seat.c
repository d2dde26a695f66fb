/* watch_seat.c - what a rank tells the others of its node about itself, and how to find who holds all up
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/watch_seat.h"

#include "comm/watch_phase.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NODE_RANKS = 1024 }; /* ranks of a node that a search follows */

/* From the likeliest cause of a standstill to the least likely. */
enum standing { GONE, STOPPED, BUSY, WAITING };

static const char *const standing_words[] = {
    [GONE] = "has died", [STOPPED] = "is stopped", [BUSY] = "is busy", [WAITING] = "waits as well"};

size_t watch_seat_board_bytes(int count)
{
    return sizeof(struct watch_board) + (size_t)count * sizeof(struct watch_seat);
}

uint64_t watch_seat_pid_space(void)
{
    struct stat space;

    return stat("/proc/self/ns/pid", &space) == 0 ? space.st_ino : 0;
}

void watch_seat_place(const struct watch_seat *seat, char *text, size_t bytes)
{
    const char *phase = watch_phase_name((enum watch_phase)atomic_load(&seat->phase));
    int layer = atomic_load(&seat->layer);

    if (layer < 0)
        snprintf(text, bytes, "phase %s", phase);
    else
        snprintf(text, bytes, "phase %s of layer %d", phase, layer);
}

/* The letter behind the name in /proc/PID/stat; '?' when it cannot be read. */
static char process_state(int pid)
{
    char path[64];
    char line[512];
    const char *name_end;
    ssize_t got;
    int file;

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return '?';
    got = read(file, line, sizeof line - 1);
    close(file);
    line[got > 0 ? got : 0] = '\0';
    name_end = strrchr(line, ')');
    return name_end && name_end[1] == ' ' && name_end[2] ? name_end[2] : '?';
}

static enum standing standing_of(const struct watch_seat *seat)
{
    uint64_t space = watch_seat_pid_space();

    if (space != 0 && space == atomic_load(&seat->pid_space)) {
        char state = process_state(atomic_load(&seat->pid));

        if (state == 'T' || state == 't')
            return STOPPED;
        if (state == 'Z' || state == 'X')
            return GONE;
    }
    return atomic_load(&seat->wait_number) & 1 ? WAITING : BUSY;
}

static int seat_of_rank(const struct watch_board *board, int count, int rank)
{
    for (int i = 0; i < count; i++)
        if (atomic_load(&board->seat[i].rank) == rank)
            return i;
    return -1;
}

/* Marks whom seat `from` waits for; *elsewhere becomes a rank of another node among them. */
static void follow(const struct watch_board *board, int count, int from, bool *reached, int *elsewhere)
{
    const struct watch_seat *seat = &board->seat[from];
    int missing = atomic_load(&seat->missing_count);

    if (!(atomic_load(&seat->wait_number) & 1))
        return;
    if (missing < 0)
        memset(reached, true, (size_t)count);
    for (int i = 0; i < missing && i < WATCH_MISSING_LIMIT; i++) {
        int rank = atomic_load(&seat->missing[i]);
        int there = seat_of_rank(board, count, rank);

        if (there >= 0)
            reached[there] = true;
        else
            *elsewhere = rank;
    }
}

void watch_seat_culprit(const struct watch_board *board, int count, int me, const char *host, char *text,
                        size_t bytes)
{
    bool reached[NODE_RANKS] = {false};
    bool followed[NODE_RANKS] = {false};
    int searched = count < NODE_RANKS ? count : NODE_RANKS;
    enum standing worst = WAITING;
    int culprit = -1;
    int elsewhere = -1;
    int next = me;
    char place[64];

    while (next >= 0) {
        followed[next] = true;
        follow(board, searched, next, reached, &elsewhere);
        next = -1;
        for (int i = 0; i < searched; i++)
            if (reached[i] && !followed[i])
                next = i;
    }
    for (int i = 0; i < searched; i++) {
        enum standing standing = reached[i] && i != me ? standing_of(&board->seat[i]) : WAITING;

        if (reached[i] && i != me && (culprit < 0 || standing < worst)) {
            worst = standing;
            culprit = i;
        }
    }
    if (elsewhere >= 0 && worst == WAITING) {
        snprintf(text, bytes, "rank %d on another node", elsewhere);
        return;
    }
    if (culprit < 0) {
        snprintf(text, bytes, "a rank that cannot be told");
        return;
    }
    watch_seat_place(&board->seat[culprit], place, sizeof place);
    snprintf(text, bytes, "rank %d (pid %d on %s), which %s in %s", atomic_load(&board->seat[culprit].rank),
             atomic_load(&board->seat[culprit].pid), host, standing_words[worst], place);
}
