/* migrate.h - experts move from slot to slot while steps go on
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A group of moves goes through these calls, each collective over the world and driven by the batch message,
 * so all ranks make them between the same two steps:
 *
 *     migrate_begin     all ranks compare what they are about to do and where experts lie now
 *     migrate_step      once a step: at most `chunk` bytes leave and reach any rank. Experts arrive in
 * staging, slots in use stay untouched. With the last bytes the checksums of both ends are compared and all
 * ranks learn the result migrate_commit    staging becomes the slots, the old memory becomes staging, the
 * version rises
 *
 * Where ranks share experts (--share-experts), a move is sent only if nobody who shares with its rank has the
 * expert; all others carry no bytes and need no staging, and a group of such moves alone is ready at once.
 * The commit lets slots point to where experts lie.
 *
 * Where the backend moves memory between ranks by itself (grid's mover), a step only queues the bytes. Once
 * the last are queued, each step asks whether all have arrived, on all ranks; none waits for it.
 *
 * A group whose checksums differ is dropped on all ranks alike and the old placement serves on. */
#ifndef MIGRATE_H
#define MIGRATE_H

#include "comm/grid.h"
#include "engine/batch.h"
#include "engine/weights.h"
#include "eplb/placement.h"
#include "kernels/kernels.h"

enum migrate_state { MIGRATE_IDLE, MIGRATE_MOVING, MIGRATE_READY };

/* Memory for one expert of any layer. */
struct migrate_room {
    struct weight gate_up, down;
};

struct migrate {
    struct grid *grid;
    struct kernels *kernels;
    struct weights *weights;
    struct placement *placement;
    const int *model_layer; /* [expert layers] */
    enum migrate_state state;
    int staging;       /* experts that this rank can take in at a time; 0: nothing moves */
    size_t room_bytes; /* memory of all staging on this rank */
    size_t chunk;
    struct weights_slot slot; /* sizes; where all layers are alike, slot and staging just change places */

    /* of the present group */
    struct batch_move moves[BATCH_MOVES];
    int count;
    bool carried[BATCH_MOVES];  /* are its bytes sent? */
    int64_t done[BATCH_MOVES];  /* bytes that have gone over */
    uint64_t sent[BATCH_MOVES]; /* sums of those, where they came from ... */
    uint64_t
        held[BATCH_MOVES];  /* ... and of what staging holds; both on one rank when it is its own source */
    int place[BATCH_MOVES]; /* staging at the receiver */

    /* since the start */
    int64_t bytes, nanoseconds; /* sent over all ranks, and spent in migrate_step */
    int64_t waits;              /* of the host for the backend, for the sake of moves */
    double rate;                /* bytes a nanosecond of the best step that waited for them; 0: none did */
    int64_t committed, dropped; /* moves */
    int64_t mapped;             /* those of the committed ones that carried nothing where ranks share */

    void (*spoil)(void *context, struct migrate *m, int move); /* tests: every piece that has arrived here */
    void *spoil_context;

    void *memory;              /* that began as staging; NULL: it is a node's */
    struct migrate_room *room; /* [staging] */
    unsigned char *pack;       /* [chunk] */
    size_t *between;           /* [P, P] bytes of this step */
    size_t *left;              /* [2, P] bytes that each rank may still send, and get */
};

/* Not collective. model_layer and staging are set, all else is zero; the weights need not be there yet.
 * message_bytes: the most that the world's comm delivers to a rank in one call. */
enum status migrate_open(struct migrate *m, struct arena *arena, struct grid *g, struct weights *w,
                         struct placement *p, const struct weights_slot *slot, size_t message_bytes);
void migrate_close(struct migrate *m);

/* Moves that do not fit the present placement or the staging are STATUS_BUG on all ranks. */
enum status migrate_begin(struct migrate *m, const struct batch_move *moves, int count);

/* *failed: the checksums of a move differ; its text names it. The state is MOVING, READY, or IDLE after a
 * failure. */
enum status migrate_step(struct migrate *m, int *failed);

/* Collective, with a mover: *ready on all ranks alike, if all have got what was sent; then m has the
 * checksums. */
enum status migrate_ready(struct migrate *m, bool *ready);

enum status migrate_commit(struct migrate *m);

/* The group is given up; nothing has changed. */
void migrate_drop(struct migrate *m);

#endif
