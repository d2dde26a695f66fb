/* node_once.h - rows to the ranks that hold their experts, each row once to each node
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The way of dispatch_send where ranks lie on several nodes and a row has several experts: between nodes
 * bytes are dear, inside a node they are not. Four stages, collective over the world:
 *
 *   - lists: every rank tells all ranks which of its rows each of its places wants, and the factors. That is
 * 4 or 8 bytes a place beside the 4 D of its row, and its size is known, so it is one gather of the hosts
 *   - rails: a row goes once to each node that has one of its experts, to the rank there that has the
 * sender's index on its node (node_map_rank); on the sender's own node to the sender itself
 *   - spread: those ranks copy the rows that came for each place, multiply, and send the copies inside the
 * node
 *   - what arrived is put in order of its source
 *
 * So arrivals are, byte for byte and in their order, those of the direct way, and results go back as always:
 * one for each choice, because nothing is added on the way. Both exchanges of rows are asked of the comm of
 * all ranks, which between devices sends the second by a communicator of the node (kernels->open_nodes).
 * Rails have none: rows meet in pairs there, one for each other node. */
#ifndef NODE_ONCE_H
#define NODE_ONCE_H

#include "comm/grid.h"
#include "comm/node_map.h"
#include "engine/base/arena.h"
#include "eplb/placement.h"
#include "kernels/kernels.h"

/* What it is made for. */
struct node_once_shape {
    const int32_t *rank_node; /* [P] any numbers, equal for ranks of one node */
    const struct placement *placement;
    int width;    /* D */
    int rows;     /* of a batch, over all ranks */
    int own;      /* of them, rows that one rank can own */
    int choices;  /* most k */
    int arrivals; /* that can come to this rank in a step */
};

struct node_once {
    struct grid *grid;
    struct kernels *kernels;
    struct node_map map;
    int own;
    int room; /* copies that any rank can send inside its node */

    /* of the present call; nodes are those of the map */
    int32_t *seen;          /* [own] node + 1 that a row was numbered for, 0: none */
    int32_t *number;        /* [own] its number among those that go there */
    int32_t *leave;         /* [own * most] rows of x in the order they leave */
    int32_t *message;       /* [nodes + 2 * own * k] what this rank tells: see gather_lists */
    const int32_t **told;   /* [P] what the others tell, memory of the comm */
    size_t *share;          /* [P] bytes of it */
    int32_t *place;         /* [P, P + 1] the first place of each rank for each */
    size_t *rails, *spread; /* [P, P] bytes from rank to rank */
    int32_t *base;          /* [P] where rows of a rank begin among those that came, or arrive */
    int32_t *row;           /* [room] which of the rows that came each copy is of, and ... */
    float *factor;          /* [room] ... its factor */
    int32_t *order;         /* [arrivals] */
    struct matrix copies;   /* [room, D] */
    struct matrix arrivals; /* [arrivals, D] */
    const void *came;       /* of the last exchange of the last call, memory of the comm */
    int64_t crossed;        /* rows that all ranks sent to other nodes in the last call */
};

/* What dispatch knows of a step: bytes [P, P] and row [sent] as the direct way would send them. */
struct node_once_rows {
    const size_t *bytes;
    const int32_t *row;    /* row of x in each place */
    const float *factor;   /* [sent] NULL: 1, on all ranks */
    struct matrix x;       /* [T, D] */
    struct matrix leaving; /* [own * k, D] room for rows that leave */
    int first;             /* place of the first row that arrives among those that are kept */
};

enum status node_once_open(struct node_once *n, struct arena *arena, struct grid *grid,
                           struct kernels *kernels, const struct node_once_shape *shape);
void node_once_close(struct node_once *n);

/* *arrivals [those of the plan, D] stays until a call of the same places. */
enum status node_once_send(struct node_once *n, const struct node_once_rows *rows, struct matrix *arrivals);

/* What a call of the world's comm must deliver for it. */
size_t node_once_message_bytes(int ranks, int rows, int choices);

#endif
