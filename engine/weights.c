/* weights.c - the slices of a model that one rank holds
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/weights.h"

#include "engine/roles.h"
#include "engine/weights_read.h"

#include <string.h>

enum { CHUNK_IDS = 32, PIECES_PER_LAYER = 16, PIECES_BESIDE = 8 };

struct range weights_vocabulary(const struct config *c, int ranks, int rank)
{
    struct range chunks = range_share((c->vocabulary + CHUNK_IDS - 1) / CHUNK_IDS, ranks, rank);
    struct range ids = {.first = chunks.first * CHUNK_IDS, .count = chunks.count * CHUNK_IDS};

    if (ids.first > c->vocabulary)
        ids.first = c->vocabulary;
    if (ids.count > c->vocabulary - ids.first)
        ids.count = c->vocabulary - ids.first;
    return ids;
}

struct range weights_kv_heads(const struct config *c, const struct grid *g, int part)
{
    struct range heads = range_share(c->heads, g->tensor, part);
    int per_kv = c->heads / c->kv_heads;
    struct range kv = {0};

    if (heads.count > 0) {
        kv.first = heads.first / per_kv;
        kv.count = (heads.first + heads.count - 1) / per_kv - kv.first + 1;
    }
    return kv;
}

enum status weights_share(struct weights *w, const struct config *c, const struct grid *g)
{
    w->heads = range_share(c->heads, g->tensor, g->my_part);
    w->kv_heads = weights_kv_heads(c, g, g->my_part);
    w->columns = range_share(c->width, g->tensor, g->my_part);
    w->dense_columns = range_share(c->dense_width, g->tensor, g->my_part);
    w->shared_columns = range_share(c->shared_width, g->tensor, g->my_part);
    w->vocabulary = weights_vocabulary(c, g->ranks, g->rank);
    return STATUS_OK;
}

static enum status check_placement(const struct config *c, const struct grid *g, const struct placement *p)
{
    if (c->expert_layers > 0 &&
        (p->layers != c->expert_layers || p->experts != c->experts || p->ranks != g->ranks))
        return FAIL(STATUS_BUG,
                    "placement of %d experts in %d layers over %d ranks; the model has %d in %d, over %d",
                    p->experts, p->layers, p->ranks, c->experts, c->expert_layers, g->ranks);
    return STATUS_OK;
}

/* The structures of w, without any weights. */
static enum status take_structures(struct weights *w, const struct config *c, const struct grid *g,
                                   const struct placement *p)
{
    int slots = c->expert_layers > 0 ? p->rank_first[g->rank + 1] - p->rank_first[g->rank] : 0;
    size_t pieces = (size_t)c->layers * PIECES_PER_LAYER + PIECES_BESIDE;
    size_t bytes = (size_t)c->layers * sizeof(struct weights_layer) + pieces * sizeof(void *) +
                   2 * ARENA_ALIGN +
                   (size_t)c->expert_layers * 2 * ((size_t)slots * sizeof(struct weight) + ARENA_ALIGN) +
                   weights_node_arena_bytes(g, p);

    TRY(arena_open(&w->arena, "the list of weights", bytes));
    TRY(arena_take_array(&w->arena, (size_t)c->layers, sizeof *w->layer, "layers", &w->layer));
    TRY(arena_take_array(&w->arena, pieces, sizeof *w->memory, "pieces of memory", &w->memory));
    TRY(weights_node_open(&w->node, &w->arena, g, p));
    for (int i = 0; i < c->layers; i++) {
        struct weights_layer *l = &w->layer[i];

        if (!c->layer[i].experts)
            continue;
        TRY(arena_take_array(&w->arena, (size_t)slots, sizeof *l->gate_up, "slots", &l->gate_up));
        TRY(arena_take_array(&w->arena, (size_t)slots, sizeof *l->down, "slots", &l->down));
    }
    return STATUS_OK;
}

/* What a pass over everything needs to know. */
struct walk {
    const struct config *config;
    const struct grid *grid;
    const struct placement *placement;
    const struct roles *roles;
    struct weights *weights; /* shares are set, structures are taken */
    struct weights_reader *reader;
};

/* The tensor of a role, and its scales. */
static enum status find_tensor(const struct walk *walk, struct weights_part *p, enum family_role role,
                               int layer, int expert)
{
    TRY(roles_find(walk->roles, role, layer, expert, &p->tensor));
    return roles_scale(walk->roles, p->tensor, &p->scale);
}

/* One more part of s: `share` of the outputs of the tensor that has this role. */
static enum status add_part(const struct walk *walk, struct weights_source *s, enum family_role role,
                            int layer, struct range share)
{
    struct weights_part *p = &s->part[s->parts++];

    *p = (struct weights_part){.first = share.first, .count = share.count};
    return find_tensor(walk, p, role, layer, 0);
}

static struct range whole(int count)
{
    return (struct range){.first = 0, .count = count};
}

static struct range times(struct range heads, int width)
{
    return (struct range){.first = heads.first * width, .count = heads.count * width};
}

/* A matrix that is a range of outputs of one tensor. */
static enum status read_rows(struct walk *walk, struct weight *w, enum family_role role, int layer,
                             struct range share, int inputs)
{
    struct weights_source s = {.inputs = inputs};

    TRY(add_part(walk, &s, role, layer, share));
    return weights_read_matrix(walk->reader, w, &s, "weights");
}

static enum status read_floats(struct walk *walk, float **out, enum family_role role, int layer,
                               struct range share)
{
    struct weights_source s = {.inputs = 1};

    TRY(add_part(walk, &s, role, layer, share));
    return weights_read_vector(walk->reader, out, &s, "norms and biases");
}

/* -- attention -- */

static enum status read_attention(struct walk *walk, struct weights_layer *l, int layer)
{
    const struct config *c = walk->config;
    const struct weights *w = walk->weights;
    struct range queries = times(w->heads, c->head_width);
    struct range keys = times(w->kv_heads, c->head_width);
    struct weights_source matrix = {.inputs = c->width}, bias = {.inputs = 1};

    TRY(read_floats(walk, &l->attention_norm, ROLE_ATTENTION_NORM, layer, whole(c->width)));
    TRY(add_part(walk, &matrix, ROLE_QUERY, layer, queries));
    TRY(add_part(walk, &matrix, ROLE_KEY, layer, keys));
    TRY(add_part(walk, &matrix, ROLE_VALUE, layer, keys));
    TRY(weights_read_matrix(walk->reader, &l->qkv, &matrix, "attention weights"));
    TRY(read_rows(walk, &l->out, ROLE_OUT, layer, w->columns, c->heads * c->head_width));
    if (c->attention_bias_qkv) {
        TRY(add_part(walk, &bias, ROLE_QUERY_BIAS, layer, queries));
        TRY(add_part(walk, &bias, ROLE_KEY_BIAS, layer, keys));
        TRY(add_part(walk, &bias, ROLE_VALUE_BIAS, layer, keys));
        TRY(weights_read_vector(walk->reader, &l->qkv_bias, &bias, "attention biases"));
    }
    if (c->qk_norm == QK_NORM_HEAD_BEFORE_ROPE) {
        TRY(read_floats(walk, &l->query_norm, ROLE_QUERY_NORM, layer, whole(c->head_width)));
        TRY(read_floats(walk, &l->key_norm, ROLE_KEY_NORM, layer, whole(c->head_width)));
    }
    if (c->qk_norm == QK_NORM_WHOLE_BEFORE_ROPE) {
        TRY(read_floats(walk, &l->query_norm, ROLE_QUERY_NORM, layer, queries));
        TRY(read_floats(walk, &l->key_norm, ROLE_KEY_NORM, layer, keys));
    }
    if (c->attention_bias_out)
        TRY(read_floats(walk, &l->out_bias, ROLE_OUT_BIAS, layer, w->columns));
    return STATUS_OK;
}

/* -- dense blocks and the shared expert -- */

/* Gate, up and down are the roles `gate`, gate + 1 and gate + 2; this rank has `share` of the block's F
 * columns. */
static enum status read_block(struct walk *walk, struct weights_block *b, enum family_role gate, int layer,
                              struct range share)
{
    const struct config *c = walk->config;
    bool dense = gate == ROLE_DENSE_GATE;
    struct weights_source s = {.inputs = c->width};

    TRY(add_part(walk, &s, gate, layer, share));
    TRY(add_part(walk, &s, (enum family_role)(gate + 1), layer, share));
    TRY(weights_read_matrix(walk->reader, &b->gate_up, &s,
                            dense ? "dense weights" : "shared expert weights"));
    return read_rows(walk, &b->down, (enum family_role)(gate + 2), layer, walk->weights->columns,
                     dense ? c->dense_width : c->shared_width);
}

/* -- routed experts -- */

enum expert_half { GATE_UP, DOWN };

/* Where gate and up, or down, of one expert stand, however the file stores experts. */
static enum status expert_source(const struct walk *walk, int layer, int expert, enum expert_half which,
                                 struct weights_source *s)
{
    const struct config *c = walk->config;
    const struct roles *r = walk->roles;
    bool down = which == DOWN;

    *s = (struct weights_source){.parts = 1, .inputs = down ? c->expert_width : c->width};
    if (roles_fused(r, layer)) {
        s->part[0].plane = expert;
        s->part[0].input_first = r->family->fusion == FUSED_INPUT_FIRST;
        s->part[0].count = down ? c->width : 2 * c->expert_width;
        return find_tensor(walk, &s->part[0], down ? ROLE_EXPERTS_DOWN : ROLE_EXPERTS_GATE_UP, layer, 0);
    }
    if (down) {
        s->part[0].count = c->width;
        return find_tensor(walk, &s->part[0], ROLE_EXPERT_DOWN, layer, expert);
    }
    s->parts = 2;
    s->part[0].count = c->expert_width;
    s->part[1].count = c->expert_width;
    TRY(find_tensor(walk, &s->part[0], ROLE_EXPERT_GATE, layer, expert));
    return find_tensor(walk, &s->part[1], ROLE_EXPERT_UP, layer, expert);
}

/* One format for all experts of a layer, on all ranks, so that any slot can take any of them. */
static enum status expert_dtype(const struct walk *walk, int layer, enum expert_half which, enum dtype *dtype)
{
    bool fused = roles_fused(walk->roles, layer);
    enum dtype common = DTYPE_F32;

    for (int expert = 0; expert < (fused ? 1 : walk->config->experts); expert++) {
        struct weights_source s;

        TRY(expert_source(walk, layer, expert, which, &s));
        if (expert == 0)
            common = weights_read_dtype(&s);
        else if (weights_read_dtype(&s) != common)
            common = DTYPE_F32;
    }
    *dtype = common;
    return STATUS_OK;
}

static enum status plan_expert(const struct walk *walk, struct weight *planned, int layer,
                               enum expert_half which)
{
    const struct config *c = walk->config;
    struct kernels *k = walk->reader->kernels;
    enum dtype dtype;

    TRY(expert_dtype(walk, layer, which, &dtype));
    return k->weight_plan(k, planned, dtype, which == DOWN ? c->width : 2 * c->expert_width,
                          which == DOWN ? c->expert_width : c->width);
}

/* w is planned and has its place. */
static enum status read_expert(struct walk *walk, struct weight *w, int layer, int expert,
                               enum expert_half which)
{
    struct weights_source s;

    TRY(expert_source(walk, layer, expert, which, &s));
    return weights_read_fill(walk->reader, w, &s);
}

/* Experts in the places that this rank brings; its slots point to those of all. */
static enum status read_places(struct walk *walk, struct weight *slots, const struct weight *planned,
                               int layer, enum expert_half which)
{
    struct weights_node *n = &walk->weights->node;
    const struct placement *p = walk->placement;
    int expert_layer = walk->config->layer[layer].expert_layer;
    const int32_t *held = n->places.expert + (ptrdiff_t)expert_layer * n->places.count;
    const int32_t *expert = p->expert + (ptrdiff_t)expert_layer * p->slots;
    struct range own = places_share(&n->places, n->index);
    int first = p->rank_first[walk->grid->rank], end = p->rank_first[walk->grid->rank + 1];

    walk->reader->taken += weights_node_lay(n, expert_layer, which == DOWN,
                                            kernels_piece_bytes(walk->reader->kernels, planned->bytes));
    for (int i = own.first; i < own.first + own.count; i++) {
        struct weights_piece at = n->at[(ptrdiff_t)expert_layer * n->places.count + i];
        struct weight w = *planned;

        w.data = which == DOWN ? at.down : at.gate_up;
        if (held[i] >= 0)
            TRY(read_expert(walk, &w, layer, held[i], which));
    }
    for (int s = first; s < end; s++) {
        struct weights_piece at = weights_node_expert(n, expert_layer, expert[s]);

        slots[s - first] = *planned;
        slots[s - first].data = which == DOWN ? at.down : at.gate_up;
    }
    return STATUS_OK;
}

/* All slots of this rank in one piece of memory. An empty slot has its place too. */
static enum status read_slots(struct walk *walk, struct weight *slots, int layer, enum expert_half which,
                              size_t *bytes)
{
    const struct placement *p = walk->placement;
    const struct config *c = walk->config;
    struct kernels *k = walk->reader->kernels;
    int first = p->rank_first[walk->grid->rank];
    int count = p->rank_first[walk->grid->rank + 1] - first;
    const int32_t *expert = p->expert + (size_t)c->layer[layer].expert_layer * (size_t)p->slots + first;
    struct weight planned = {0};
    void *memory = NULL;

    TRY(plan_expert(walk, &planned, layer, which));
    *bytes = planned.bytes;
    if (walk->grid->share)
        return read_places(walk, slots, &planned, layer, which);
    TRY(weights_read_take(walk->reader, kernels_piece_bytes(k, planned.bytes) * (size_t)count, "experts",
                          &memory));
    for (int i = 0; i < count; i++) {
        slots[i] = planned;
        slots[i].data = memory ? (char *)memory + kernels_piece_bytes(k, planned.bytes) * (size_t)i : NULL;
        if (expert[i] >= 0)
            TRY(read_expert(walk, &slots[i], layer, expert[i], which));
    }
    return STATUS_OK;
}

/* Sizes of an expert, the most of all layers. */
static struct weights_slot largest_slot(const struct walk *walk)
{
    struct weights_slot most = {.alike = true};

    for (int i = 0; i < walk->config->layers; i++) {
        const struct weights_layer *l = &walk->weights->layer[i];

        if (!walk->config->layer[i].experts)
            continue;
        most.alike = most.alike &&
                     (most.down == 0 || (l->gate_up_bytes == most.gate_up && l->down_bytes == most.down));
        most.gate_up = l->gate_up_bytes > most.gate_up ? l->gate_up_bytes : most.gate_up;
        most.down = l->down_bytes > most.down ? l->down_bytes : most.down;
    }
    return most;
}

/* Rooms change places with what lies in any layer, and nobody copies: so all experts must be of one size. */
static enum status lay_rooms(struct walk *walk)
{
    const struct grid_share *share = walk->grid->share;
    struct kernels *k = walk->reader->kernels;
    struct weights_slot slot;

    if (!share || share->rooms == 0)
        return STATUS_OK;
    slot = largest_slot(walk);
    if (!slot.alike)
        return FAIL(
            STATUS_USAGE,
            "--share-experts: layers of this model differ in the size of their experts, and such experts "
            "cannot move between nodes into shared memory; leave it out, or let experts stay with "
            "--eplb-step-interval 0");
    walk->reader->taken += weights_node_lay_rooms(&walk->weights->node, kernels_piece_bytes(k, slot.gate_up),
                                                  kernels_piece_bytes(k, slot.down));
    return STATUS_OK;
}

/* -- everything -- */

static enum status read_layer(struct walk *walk, int layer)
{
    const struct config *c = walk->config;
    const struct weights *w = walk->weights;
    struct weights_layer *l = &w->layer[layer];

    TRY(read_attention(walk, l, layer));
    TRY(read_floats(walk, &l->feed_norm, ROLE_FEED_NORM, layer, whole(c->width)));
    if (!c->layer[layer].experts)
        return read_block(walk, &l->dense, ROLE_DENSE_GATE, layer, w->dense_columns);
    TRY(read_rows(walk, &l->router, ROLE_ROUTER, layer, whole(c->experts), c->width));
    if (c->route_bias)
        TRY(read_floats(walk, &l->route_bias, ROLE_ROUTER_BIAS, layer, whole(c->experts)));
    TRY(read_slots(walk, l->gate_up, layer, GATE_UP, &l->gate_up_bytes));
    TRY(read_slots(walk, l->down, layer, DOWN, &l->down_bytes));
    if (c->shared_width > 0)
        TRY(read_block(walk, &l->shared, ROLE_SHARED_GATE, layer, w->shared_columns));
    return STATUS_OK;
}

static enum status walk_all(struct walk *walk)
{
    const struct config *c = walk->config;
    struct weights *w = walk->weights;

    weights_node_begin(&w->node);
    TRY(read_rows(walk, &w->embedding, ROLE_EMBEDDING, 0, w->vocabulary, c->width));
    if (walk->roles->tied)
        w->head = w->embedding;
    else
        TRY(read_rows(walk, &w->head, ROLE_HEAD, 0, w->vocabulary, c->width));
    TRY(read_floats(walk, &w->final_norm, ROLE_FINAL_NORM, 0, whole(c->width)));
    for (int layer = 0; layer < c->layers; layer++)
        TRY(read_layer(walk, layer));
    return lay_rooms(walk);
}

/* -- the life of weights -- */

/* Shares, structures, and a pass that counts. */
static enum status count_all(struct walk *walk, struct roles *roles, const struct tensor_set *set)
{
    TRY(check_placement(walk->config, walk->grid, walk->placement));
    TRY(roles_open(roles, walk->config, set));
    walk->roles = roles;
    TRY(weights_share(walk->weights, walk->config, walk->grid));
    TRY(take_structures(walk->weights, walk->config, walk->grid, walk->placement));
    return walk_all(walk);
}

enum status weights_plan(size_t *bytes, size_t *shared, const struct config *c, const struct grid *g,
                         const struct placement *p, const struct tensor_set *set, struct kernels *k)
{
    struct weights w = {.kernels = k};
    struct weights_reader reader = {.kernels = k};
    struct walk walk = {.config = c, .grid = g, .placement = p, .weights = &w, .reader = &reader};
    struct roles roles;
    enum status status = count_all(&walk, &roles, set);

    if (status == STATUS_OK) {
        *bytes = reader.taken;
        *shared = w.node.bytes;
    }
    arena_close(&w.arena);
    return status;
}

enum status weights_slot_plan(struct weights_slot *slot, const struct config *c, const struct grid *g,
                              const struct placement *p, const struct tensor_set *set, struct kernels *k)
{
    struct weights w = {.kernels = k};
    struct weights_reader reader = {.kernels = k};
    struct walk walk = {.config = c, .grid = g, .placement = p, .weights = &w, .reader = &reader};
    struct roles roles;
    enum status status = count_all(&walk, &roles, set);

    if (status == STATUS_OK)
        *slot = largest_slot(&walk);
    arena_close(&w.arena);
    return status;
}

enum status weights_open(struct weights *w, const struct config *c, const struct grid *g,
                         const struct placement *p, const struct tensor_set *set, struct kernels *k)
{
    struct weights_reader reader = {.kernels = k, .speaks = g->rank == 0};
    struct walk walk = {.config = c, .grid = g, .placement = p, .weights = w, .reader = &reader};
    struct roles roles;
    enum status status;

    memset(w, 0, sizeof *w);
    w->kernels = k;
    status = count_all(&walk, &roles, set);
    reader.memory = w->memory;
    if (status == STATUS_OK)
        status = weights_read_begin(&reader, 0);
    if (status == STATUS_OK)
        status = walk_all(&walk);
    if (status == STATUS_OK)
        status = k->wait(k);
    if (status == STATUS_OK)
        weights_read_report(&reader);
    weights_read_end(&reader);
    w->bytes = reader.taken;
    w->memory_count = reader.memory_count;
    if (status != STATUS_OK)
        weights_close(w);
    return status;
}

void weights_close(struct weights *w)
{
    for (int i = 0; i < w->memory_count; i++)
        w->kernels->release(w->kernels, w->memory[i]);
    arena_close(&w->arena);
    memset(w, 0, sizeof *w);
}

enum status weights_commit(struct weights *w, struct weights_layer *l, const struct grid *g,
                           const struct placement *p, int layer, const struct places_arrival *arrival,
                           int arrivals)
{
    int first = p->rank_first[g->rank], end = p->rank_first[g->rank + 1];

    TRY(places_commit(&w->node.places, p, layer, arrival, arrivals));
    for (int s = first; s < end; s++) {
        struct weights_piece at =
            weights_node_expert(&w->node, layer, p->expert[(ptrdiff_t)layer * p->slots + s]);

        l->gate_up[s - first].data = at.gate_up;
        l->down[s - first].data = at.down;
    }
    return STATUS_OK;
}
