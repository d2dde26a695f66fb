/* grid.h - which ranks work together: D data groups of T tensor ranks, experts over all
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * P ranks form data groups of T consecutive ranks: rank r is number r % T of group r / T. A request belongs
 * to one group; its rows are shared out among the T ranks of it. */
#ifndef GRID_H
#define GRID_H

#include "comm/comm.h"
#include "comm/mover.h"
#include "engine/base/range.h"
#include "engine/base/status.h"

/* Ranks that share one copy of each expert in memory that all of them see. */
struct grid_share {
    const int32_t *node; /* [P] numbers, equal for ranks that share */
    int rooms;   /* experts that a rank can take in at a time from ranks with which it does not share */
    void **part; /* [P] what each of these ranks has given; NULL: other ranks'. The array: not taken yet */
};

struct grid {
    struct comm *world; /* all P ranks; not owned */
    struct comm *group; /* the T ranks of this rank's data group; not owned */
    struct comm *rows;  /* all P ranks, for rows in the backend's memory, after all that the backend has been
                           asked for before: `world` itself where that is host memory; not owned */
    struct comm *group_rows; /* likewise the T ranks */
    struct mover *mover; /* of the backend's memory, over all P ranks; NULL: it goes through the hosts; not
                            owned */
    int ranks;           /* P */
    int rank;
    int tensor;                     /* T */
    int groups;                     /* D */
    int my_group;                   /* rank / T */
    int my_part;                    /* rank % T */
    int expert_ranks;               /* ranks that share one copy of the expert set; P / expert_ranks copies */
    const struct grid_share *share; /* not owned, set by whoever opens the grid; NULL: each rank has experts
                                       of its own */
};

/* The plain numbers alone, before communicators exist; world and group are NULL. */
enum status grid_shape(struct grid *g, int ranks, int rank, int tensor, int expert_ranks);

/* Checks the sizes and fills the plain numbers; comms stay as given. tensor or expert_ranks 0: default (1,
 * P). STATUS_USAGE with the nearest sizes that work. */
enum status grid_open(struct grid *g, struct comm *world, struct comm *group, int tensor, int expert_ranks);

/* The check alone. */
enum status grid_check(int ranks, int tensor, int expert_ranks);

/* Of `rows` rows of a group, those that part `part` owns. */
struct range grid_rows(const struct grid *g, int rows, int part);

#endif
