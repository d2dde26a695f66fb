/* spoilt.c - the program, but experts that move arrive damaged at random
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *     switchyard-spoilt SEED PERCENT FILE COMMAND ...
 *
 * Ranks add what they have damaged to the file, a line in one write: on stderr the launcher may cut lines. */
#include "engine/migrate.h"

#include <stdio.h>
#include <stdlib.h>

/* Linked with --wrap: the program's own functions are __real_*, and who calls them gets ours. */
int __real_main(int argc, char **argv);
int __wrap_main(int argc, char **argv);
enum status __real_migrate_open(struct migrate *m, struct arena *arena, struct grid *g, struct weights *w,
                                struct placement *p, const struct weights_slot *slot, size_t message_bytes);
enum status __wrap_migrate_open(struct migrate *m, struct arena *arena, struct grid *g, struct weights *w,
                                struct placement *p, const struct weights_slot *slot, size_t message_bytes);

static uint64_t chance; /* of this rank */
static uint64_t percent;
static FILE *lines;

static uint64_t draw(uint64_t below)
{
    chance = chance * 6364136223846793005u + 1442695040888963407u;
    return (chance >> 33) % below;
}

/* Of the first group the first expert that is sent is damaged, and nothing until a group was whole, unless
 * all is to be: whatever is drawn, something is refused and something moves. All ranks count alike. */
static bool is_damaged(const struct migrate *m, int move)
{
    int first = 0;

    while (!m->carried[first])
        first++;
    if (percent < 100 && m->committed == 0)
        return m->dropped == 0 && move == first;
    return draw(100) < percent;
}

/* A bit is turned anywhere in an expert that has come in one piece, as the demo's do. The line names the
 * group by what was dropped before it, which all ranks count alike. */
static void damage(void *context, struct migrate *m, int move)
{
    const struct batch_move *at = &m->moves[move];
    const struct migrate_room *room = &m->room[m->place[move]];
    int layer = m->model_layer[at->layer];
    size_t split = m->weights->layer[layer].gate_up_bytes;
    size_t byte = draw(split + m->weights->layer[layer].down_bytes);
    unsigned char *to = byte < split ? (unsigned char *)room->gate_up.data + byte
                                     : (unsigned char *)room->down.data + (byte - split);

    (void)context;
    if (!is_damaged(m, move))
        return;
    *to ^= (unsigned char)(1 << draw(8));
    fprintf(lines, "spoilt after %lld dropped: expert %d of layer %d on rank %d\n", (long long)m->dropped,
            at->expert, layer, m->grid->rank);
    fflush(lines);
}

enum status __wrap_migrate_open(struct migrate *m, struct arena *arena, struct grid *g, struct weights *w,
                                struct placement *p, const struct weights_slot *slot, size_t message_bytes)
{
    TRY(__real_migrate_open(m, arena, g, w, p, slot, message_bytes));
    chance += (uint64_t)g->rank * 0x9e3779b97f4a7c15u;
    m->spoil = damage;
    return STATUS_OK;
}

int __wrap_main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: switchyard-spoilt SEED PERCENT FILE COMMAND ...\n");
        return 64;
    }
    chance = strtoull(argv[1], NULL, 10);
    percent = strtoull(argv[2], NULL, 10);
    lines = fopen(argv[3], "ae");
    if (!lines) {
        perror(argv[3]);
        return 74;
    }
    argv[3] = argv[0];
    return __real_main(argc - 3, argv + 3);
}
