/* migrate.c - experts move from slot to slot while steps go on
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/migrate.h"

#include "comm/watch.h"
#include "engine/base/clock.h"
#include "eplb/moves.h"
#include "kernels/checksum.h"

#include <string.h>

static const size_t CHUNK_LEAST = (size_t)512 << 10;
enum {
    EXPERT_STEPS = 16, /* a large expert takes no more steps than this */
    PIECE_ALIGN = 16,  /* of where a piece begins, but for what follows the last bytes of an expert */
};
static const int64_t SUM_BITS = ((int64_t)1 << 62) - 1; /* a sum and its negative are both int64_t */

/* -- the life of staging -- */

/* Where ranks share experts, staging is the rooms of this rank. */
static void find_rooms(struct migrate *m)
{
    for (int i = 0; m->weights->node.at && i < m->staging; i++) {
        struct weights_piece at = weights_node_room(&m->weights->node, i);

        m->room[i].gate_up.data = at.gate_up;
        m->room[i].down.data = at.down;
    }
}

static enum status take_rooms(struct migrate *m, struct arena *arena)
{
    size_t gate_up = kernels_piece_bytes(m->kernels, m->slot.gate_up);
    size_t down = kernels_piece_bytes(m->kernels, m->slot.down);
    char *at;

    TRY(arena_take_array(arena, (size_t)m->staging, sizeof *m->room, "staging", &m->room));
    m->room_bytes = (size_t)m->staging * (gate_up + down);
    if (m->grid->share) { /* planned and taken with the weights */
        find_rooms(m);
        return STATUS_OK;
    }
    TRY(m->kernels->alloc(m->kernels, m->room_bytes, "staging of experts", &m->memory));
    at = m->memory;
    for (int i = 0; i < m->staging; i++) {
        m->room[i].gate_up.data = at;
        m->room[i].down.data = at + gate_up;
        at += gate_up + down;
    }
    return STATUS_OK;
}

enum status migrate_open(struct migrate *m, struct arena *arena, struct grid *g, struct weights *w,
                         struct placement *p, const struct weights_slot *slot, size_t message_bytes)
{
    size_t ranks = (size_t)g->ranks, part = (slot->gate_up + slot->down) / EXPERT_STEPS;

    *m = (struct migrate){.grid = g,
                          .kernels = w->kernels,
                          .weights = w,
                          .placement = p,
                          .model_layer = m->model_layer,
                          .staging = m->staging,
                          .slot = *slot};
    m->chunk = part > CHUNK_LEAST ? part : CHUNK_LEAST;
    if (m->chunk > message_bytes)
        m->chunk = message_bytes;
    m->chunk -= m->chunk % PIECE_ALIGN;
    TRY(arena_take(arena, m->chunk, "pieces of experts", &m->pack));
    TRY(arena_take_array(arena, ranks * ranks, sizeof *m->between, "bytes between ranks", &m->between));
    TRY(arena_take_array(arena, 2 * ranks, sizeof *m->left, "bytes of ranks", &m->left));
    return take_rooms(m, arena);
}

void migrate_close(struct migrate *m)
{
    if (m->memory) /* some of which may be slots by now: close after the last step */
        m->kernels->release(m->kernels, m->memory);
    memset(m, 0, sizeof *m);
}

/* -- one move -- */

static int rank_of(const struct migrate *m, int slot)
{
    return placement_rank(m->placement, slot);
}

static struct weights_layer *layer_of(const struct migrate *m, int i)
{
    return &m->weights->layer[m->model_layer[m->moves[i].layer]];
}

static int64_t size_of(const struct migrate *m, int i)
{
    const struct weights_layer *l = layer_of(m, i);

    return m->carried[i] ? (int64_t)(l->gate_up_bytes + l->down_bytes) : 0;
}

/* A slot that becomes empty needs no bytes, nor one whose rank shares memory with a rank that has the expert
 * or gets it by a move before. */
static bool is_carried(const struct migrate *m, int i)
{
    const struct batch_move *move = &m->moves[i];
    const int32_t *node = m->grid->share ? m->grid->share->node : NULL;
    int rank = rank_of(m, move->slot);

    if (move->expert < 0 || moves_shared(m->placement, node, move->layer, move->expert, rank))
        return false;
    for (int j = 0; node && j < i; j++)
        if (m->moves[j].layer == move->layer && m->moves[j].expert == move->expert &&
            node[rank_of(m, m->moves[j].slot)] == node[rank])
            return false;
    return true;
}

/* The next piece of at most `most` bytes of an expert: gate and up first, then down. *data is where it lies.
 */
static size_t piece_of(const struct weight *gate_up, const struct weight *down, size_t split, int64_t done,
                       size_t most, unsigned char **data)
{
    if ((size_t)done < split) {
        *data = (unsigned char *)gate_up->data + done;
        return most < split - (size_t)done ? most : split - (size_t)done;
    }
    *data = (unsigned char *)down->data + ((size_t)done - split);
    return most;
}

/* Copies bytes done ... done + bytes of the expert at one end into `host`, or from it. */
static enum status copy_pieces(struct migrate *m, int i, const struct migrate_room *at, unsigned char *host,
                               size_t bytes, bool out)
{
    int64_t done = m->done[i];

    while (bytes > 0) {
        unsigned char *data;
        size_t piece = piece_of(&at->gate_up, &at->down, layer_of(m, i)->gate_up_bytes, done, bytes, &data);

        if (out)
            TRY(m->kernels->download(m->kernels, host, data, piece));
        else
            TRY(m->kernels->upload(m->kernels, data, host, piece));
        host += piece;
        bytes -= piece;
        done += (int64_t)piece;
    }
    return m->kernels->wait(m->kernels);
}

static struct migrate_room source_of(const struct migrate *m, int i)
{
    int local = m->moves[i].source - m->placement->rank_first[m->grid->rank];
    const struct weights_layer *l = layer_of(m, i);

    return (struct migrate_room){.gate_up = l->gate_up[local], .down = l->down[local]};
}

/* -- a group begins -- */

static enum status check_move(struct migrate *m, int i)
{
    const struct batch_move *move = &m->moves[i];
    const struct placement *p = m->placement;
    int rank, places = 0;

    if (move->layer < 0 || move->layer >= p->layers || move->slot < 0 || move->slot >= p->slots ||
        move->expert < -1 || move->expert >= p->experts ||
        (move->expert >= 0 && (move->source < 0 || move->source >= p->slots ||
                               p->expert[(ptrdiff_t)move->layer * p->slots + move->source] != move->expert)))
        return FAIL(STATUS_BUG, "expert %d of layer %d cannot move from slot %d to slot %d", move->expert,
                    move->layer, move->source, move->slot);
    rank = rank_of(m, move->slot);
    for (int j = 0; j < i; j++) {
        if (m->moves[j].layer == move->layer && m->moves[j].slot == move->slot)
            return FAIL(STATUS_BUG, "slot %d of layer %d gets two experts", move->slot, move->layer);
        places += m->carried[j] && rank_of(m, m->moves[j].slot) == rank;
    }
    m->carried[i] = is_carried(m, i);
    if (m->carried[i] && places >= m->staging)
        return FAIL(STATUS_BUG, "rank %d gets more experts at a time than it has staging for (%d)", rank,
                    m->staging);
    m->place[i] = places;
    return STATUS_OK;
}

/* Writes the experts that slots get, or puts back the others; `other` keeps what was there. */
static void change_places(struct migrate *m, int32_t *other)
{
    for (int i = 0; i < m->count; i++) {
        int32_t *expert =
            m->placement->expert + (ptrdiff_t)m->moves[i].layer * m->placement->slots + m->moves[i].slot;
        int32_t had = *expert;

        *expert = other[i];
        other[i] = had;
    }
}

static enum status index_layers(struct migrate *m)
{
    for (int i = 0; i < m->count; i++)
        TRY(placement_index_layer(m->placement, m->moves[i].layer));
    return STATUS_OK;
}

/* Are all experts placed once the group has moved? */
static enum status check_outcome(struct migrate *m)
{
    int32_t expert[BATCH_MOVES];
    enum status status;

    for (int i = 0; i < m->count; i++)
        expert[i] = m->moves[i].expert;
    change_places(m, expert);
    status = index_layers(m);
    change_places(m, expert);
    if (status != STATUS_OK)
        return status_prefix(STATUS_BUG, "a group of moves: ");
    return index_layers(m);
}

/* Are the least and the largest value equal, over all ranks? least, most [count]; a rank without a value
 * gives INT64_MAX and INT64_MIN. */
static enum status compare(struct migrate *m, const int64_t *least, const int64_t *most, int count,
                           bool *equal)
{
    int64_t both[2 * BATCH_MOVES];

    for (int i = 0; i < count; i++) {
        both[2 * i] = least[i];
        both[2 * i + 1] = most[i] == INT64_MIN ? INT64_MAX : -most[i];
    }
    TRY(m->grid->world->reduce(m->grid->world, COMM_MIN, both, 2 * count));
    for (int i = 0; i < count; i++)
        equal[i] = both[2 * i] == -both[2 * i + 1];
    return STATUS_OK;
}

enum status migrate_begin(struct migrate *m, const struct batch_move *moves, int count)
{
    uint64_t hash = placement_hash(m->placement) ^ m->placement->version;
    int64_t value;
    bool equal, carries = false;

    if (m->state != MIGRATE_IDLE || count < 1 || count > BATCH_MOVES)
        return FAIL(STATUS_BUG, "%d moves begin in state %d", count, (int)m->state);
    watch_enter(WATCH_BALANCE, -1);
    memcpy(m->moves, moves, (size_t)count * sizeof *moves);
    memset(m->done, 0, sizeof m->done);
    memset(m->sent, 0, sizeof m->sent);
    memset(m->held, 0, sizeof m->held);
    m->count = count;
    hash = checksum_add(hash, moves, (size_t)count * sizeof *moves, 0);
    value = (int64_t)(hash & (uint64_t)SUM_BITS);
    TRY(compare(m, &value, &value, 1, &equal));
    if (!equal)
        return FAIL(STATUS_BUG,
                    "the ranks do not agree on where experts lie or on what shall move (version %llu)",
                    (unsigned long long)m->placement->version);
    for (int i = 0; i < count; i++)
        TRY(check_move(m, i));
    for (int i = 0; i < count; i++)
        carries = carries || m->carried[i];
    TRY(check_outcome(m));
    if (m->grid->mover)
        TRY(m->grid->mover->begin(m->grid->mover));
    m->state = carries || !m->grid->share ? MIGRATE_MOVING : MIGRATE_READY;
    return STATUS_OK;
}

/* -- a step of it -- */

/* Bytes of each move in this step, so that no rank sends or gets more than a chunk. */
static void share_step(struct migrate *m, size_t *piece)
{
    int ranks = m->grid->ranks;
    size_t *send = m->left, *get = m->left + ranks;

    memset(m->between, 0, (size_t)ranks * (size_t)ranks * sizeof *m->between);
    for (int r = 0; r < 2 * ranks; r++)
        m->left[r] = m->chunk;
    for (int i = 0; i < m->count; i++) {
        int to = rank_of(m, m->moves[i].slot);
        int from = m->moves[i].expert < 0 ? to : rank_of(m, m->moves[i].source);

        piece[i] = (size_t)(size_of(m, i) - m->done[i]);
        piece[i] = piece[i] < send[from] ? piece[i] : send[from];
        piece[i] = piece[i] < get[to] ? piece[i] : get[to];
        send[from] -= piece[i];
        get[to] -= piece[i];
        m->between[(ptrdiff_t)from * ranks + to] += piece[i];
    }
}

static enum status pack_pieces(struct migrate *m, const size_t *piece)
{
    unsigned char *to = m->pack;

    for (int rank = 0; rank < m->grid->ranks; rank++) {
        for (int i = 0; i < m->count; i++) {
            struct migrate_room at;

            if (piece[i] == 0 || rank_of(m, m->moves[i].slot) != rank ||
                rank_of(m, m->moves[i].source) != m->grid->rank)
                continue;
            at = source_of(m, i);
            TRY(copy_pieces(m, i, &at, to, piece[i], true));
            m->sent[i] = checksum_add(m->sent[i], to, piece[i], (size_t)m->done[i]);
            to += piece[i];
        }
    }
    return STATUS_OK;
}

/* What came goes into staging, and the sum is that of what staging then holds. */
static enum status unpack_pieces(struct migrate *m, const size_t *piece, const unsigned char *from)
{
    for (int rank = 0; rank < m->grid->ranks; rank++) {
        for (int i = 0; i < m->count; i++) {
            struct migrate_room *at = &m->room[m->place[i]];

            if (piece[i] == 0 || rank_of(m, m->moves[i].source) != rank ||
                rank_of(m, m->moves[i].slot) != m->grid->rank)
                continue;
            TRY(copy_pieces(m, i, at, (unsigned char *)(uintptr_t)from, piece[i], false));
            if (m->spoil)
                m->spoil(m->spoil_context, m, i);
            TRY(copy_pieces(m, i, at, m->pack, piece[i], true));
            m->held[i] = checksum_add(m->held[i], m->pack, piece[i], (size_t)m->done[i]);
            from += piece[i];
        }
    }
    return STATUS_OK;
}

/* Both ends of every move have the same sum, and nobody else has one. */
static enum status check_sums(struct migrate *m, int *failed)
{
    int64_t least[BATCH_MOVES], most[BATCH_MOVES];
    bool equal[BATCH_MOVES];

    for (int i = 0; i < m->count; i++) {
        bool moves = m->carried[i];
        int64_t sent = (int64_t)(m->sent[i] & (uint64_t)SUM_BITS),
                held = (int64_t)(m->held[i] & (uint64_t)SUM_BITS);
        bool from = moves && rank_of(m, m->moves[i].source) == m->grid->rank;
        bool to = moves && rank_of(m, m->moves[i].slot) == m->grid->rank;

        least[i] = from ? sent : INT64_MAX;
        least[i] = to && held < least[i] ? held : least[i];
        most[i] = from ? sent : INT64_MIN;
        most[i] = to && held > most[i] ? held : most[i];
    }
    TRY(compare(m, least, most, m->count, equal));
    *failed = -1;
    for (int i = 0; i < m->count; i++)
        if (!equal[i] && m->carried[i])
            *failed = i;
    return STATUS_OK;
}

/* By way of the hosts, until the bytes are there. */
static enum status exchange_pieces(struct migrate *m, const size_t *piece)
{
    struct comm *world = m->grid->world;
    const void *arrived;

    TRY(pack_pieces(m, piece));
    TRY(world->exchange(world, m->pack, m->between, &arrived));
    return unpack_pieces(m, piece, arrived);
}

/* From device to device, beside the steps. An expert's gate and up, and its down, are pieces of their own. */
static enum status queue_pieces(struct migrate *m, const size_t *piece)
{
    struct mover_piece queued[2 * BATCH_MOVES];
    int count = 0;

    for (int i = 0; i < m->count; i++) {
        size_t split = layer_of(m, i)->gate_up_bytes, left = piece[i], done = (size_t)m->done[i];

        while (left > 0) {
            struct mover_piece *p = &queued[count++];
            unsigned char *data = NULL;

            *p = (struct mover_piece){.from = rank_of(m, m->moves[i].source),
                                      .to = rank_of(m, m->moves[i].slot),
                                      .at = done,
                                      .sum = i};
            p->bytes = done < split && left > split - done ? split - done : left;
            if (p->from == m->grid->rank) {
                struct migrate_room at = source_of(m, i);

                piece_of(&at.gate_up, &at.down, split, (int64_t)done, left, &data);
                p->source = data;
            }
            if (p->to == m->grid->rank) {
                struct migrate_room *at = &m->room[m->place[i]];

                piece_of(&at->gate_up, &at->down, split, (int64_t)done, left, &data);
                p->target = data;
            }
            left -= p->bytes;
            done += p->bytes;
        }
    }
    return m->grid->mover->send(m->grid->mover, queued, count);
}

enum status migrate_ready(struct migrate *m, bool *ready)
{
    struct mover *mover = m->grid->mover;
    int64_t least;
    bool mine;

    TRY(mover->ready(mover, &mine, m->sent, m->held));
    least = mine;
    TRY(m->grid->world->reduce(m->grid->world, COMM_MIN, &least, 1));
    *ready = least != 0;
    return STATUS_OK;
}

/* Queues the step's pieces, or when there are none asks for those of the steps before: *arrived is the same
 * on all ranks. */
static enum status move_beside(struct migrate *m, const size_t *piece, bool *arrived)
{
    bool last = true;

    for (int i = 0; i < m->count; i++)
        last = last && piece[i] == 0;
    *arrived = false;
    return last ? migrate_ready(m, arrived) : queue_pieces(m, piece);
}

enum status migrate_step(struct migrate *m, int *failed)
{
    size_t piece[BATCH_MOVES];
    int64_t start = clock_now(), waits = m->kernels->waits, moved = 0, spent;
    bool complete = true, arrived = true;
    int layer = 0;

    if (m->state != MIGRATE_MOVING)
        return FAIL(STATUS_BUG, "experts do not move in state %d", (int)m->state);
    *failed = -1;
    for (int i = m->count - 1; i >= 0; i--)
        if (m->done[i] < size_of(m, i))
            layer = m->model_layer[m->moves[i].layer];
    watch_enter(WATCH_BALANCE, layer);
    share_step(m, piece);
    TRY(m->grid->mover ? move_beside(m, piece, &arrived) : exchange_pieces(m, piece));
    for (int i = 0; i < m->count; i++) {
        m->done[i] += (int64_t)piece[i];
        moved += (int64_t)piece[i];
        complete = complete && m->done[i] == size_of(m, i);
    }
    m->bytes += moved;
    if (complete && arrived) {
        TRY(check_sums(m, failed));
        m->state = MIGRATE_READY;
        if (*failed >= 0)
            migrate_drop(m);
    }
    spent = clock_now() - start;
    m->nanoseconds += spent;
    m->waits += m->kernels->waits - waits;
    if (!m->grid->mover && spent > 0 && (double)moved / (double)spent > m->rate)
        m->rate = (double)moved / (double)spent;
    return STATUS_OK;
}

/* -- the end of it -- */

static void swap(void **a, void **b)
{
    void *kept = *a;

    *a = *b;
    *b = kept;
}

/* Staging of this rank becomes the slot of move i. */
static enum status settle(struct migrate *m, int i)
{
    struct weights_layer *l = layer_of(m, i);
    int local = m->moves[i].slot - m->placement->rank_first[m->grid->rank];
    struct migrate_room *room = &m->room[m->place[i]];

    if (m->slot.alike) {
        swap(&l->gate_up[local].data, &room->gate_up.data);
        swap(&l->down[local].data, &room->down.data);
        return STATUS_OK;
    }
    TRY(m->kernels->copy(m->kernels, l->gate_up[local].data, room->gate_up.data, l->gate_up_bytes));
    return m->kernels->copy(m->kernels, l->down[local].data, room->down.data, l->down_bytes);
}

/* What has arrived in this layer on the node of this rank. */
static int list_arrivals(const struct migrate *m, int layer, struct places_arrival *arrival)
{
    const struct places_shape *node = &m->weights->node.places.shape;
    int count = 0;

    for (int i = 0; i < m->count; i++) {
        int rank = rank_of(m, m->moves[i].slot), index = 0;

        while (index < node->ranks && node->member[index] != rank)
            index++;
        if (m->carried[i] && m->moves[i].layer == layer && index < node->ranks)
            arrival[count++] =
                (struct places_arrival){.expert = m->moves[i].expert, .index = index, .room = m->place[i]};
    }
    return count;
}

/* Where ranks share experts: slots point to where these lie in the new placement, and rooms are what is free.
 */
static enum status map_experts(struct migrate *m)
{
    struct places_arrival arrival[BATCH_MOVES];

    for (int i = 0; i < m->count; i++) {
        int layer = m->moves[i].layer, first = 0;

        while (m->moves[first].layer != layer)
            first++;
        m->mapped += !m->carried[i];
        if (first == i)
            TRY(weights_commit(m->weights, layer_of(m, i), m->grid, m->placement, layer, arrival,
                               list_arrivals(m, layer, arrival)));
    }
    find_rooms(m);
    return STATUS_OK;
}

enum status migrate_commit(struct migrate *m)
{
    int32_t expert[BATCH_MOVES];

    if (m->state != MIGRATE_READY)
        return FAIL(STATUS_BUG, "a placement is committed in state %d", (int)m->state);
    if (m->grid->mover)
        TRY(m->grid->mover->join(m->grid->mover));
    for (int i = 0; i < m->count; i++) {
        expert[i] = m->moves[i].expert;
        if (m->carried[i] && !m->grid->share && rank_of(m, m->moves[i].slot) == m->grid->rank)
            TRY(settle(m, i));
    }
    change_places(m, expert);
    TRY(index_layers(m));
    if (m->grid->share)
        TRY(map_experts(m));
    m->placement->version++;
    m->committed += m->count;
    m->count = 0;
    m->state = MIGRATE_IDLE;
    return STATUS_OK;
}

void migrate_drop(struct migrate *m)
{
    m->dropped += m->count;
    m->count = 0;
    m->state = MIGRATE_IDLE;
}
