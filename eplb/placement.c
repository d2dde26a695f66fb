/* placement.c - which slot of which rank holds which expert
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "eplb/placement.h"

#include "engine/base/range.h"

#include <stdio.h>
#include <string.h>

/* The multiples of `of` next to `number`, the lower one not below `least`, in words. */
static void nearest_multiples(char *text, size_t size, int number, int of, int least)
{
    int below = number / of * of, above = below + of;

    if (below >= least && below > 0)
        snprintf(text, size, "%d or %d", below, above);
    else
        snprintf(text, size, "%d", above >= least ? above : (least + of - 1) / of * of);
}

enum status placement_check(const struct placement_shape *shape)
{
    char fits[48];

    if (shape->layers < 1 || shape->experts < 1 || shape->groups < 1 || shape->nodes < 1 || shape->ranks < 1)
        return FAIL(STATUS_USAGE, "%d layers, %d experts, %d groups, %d nodes, %d ranks: none may be below 1",
                    shape->layers, shape->experts, shape->groups, shape->nodes, shape->ranks);
    if (shape->slots % shape->ranks) {
        nearest_multiples(fits, sizeof fits, shape->slots, shape->ranks, shape->experts);
        return FAIL(STATUS_USAGE, "%d slots are not shared evenly by %d ranks: use %s", shape->slots,
                    shape->ranks, fits);
    }
    if (shape->slots < shape->experts)
        return FAIL(STATUS_USAGE, "%d slots cannot hold %d experts: use %d at least", shape->slots,
                    shape->experts, (shape->experts + shape->ranks - 1) / shape->ranks * shape->ranks);
    if (shape->groups % shape->nodes)
        return STATUS_OK;
    if (shape->experts % shape->groups) {
        nearest_multiples(fits, sizeof fits, shape->experts, shape->groups, 1);
        return FAIL(STATUS_USAGE,
                    "%d experts do not form %d equal groups: as many groups as divide them, or %s experts",
                    shape->experts, shape->groups, fits);
    }
    if (shape->ranks % shape->nodes) {
        nearest_multiples(fits, sizeof fits, shape->ranks, shape->nodes, 1);
        return FAIL(STATUS_USAGE, "%d ranks do not stand on %d nodes alike: use %s", shape->ranks,
                    shape->nodes, fits);
    }
    return STATUS_OK;
}

static enum status open_sized(struct placement *p, struct arena *arena, struct placement shape)
{
    size_t layers = (size_t)shape.layers, experts = (size_t)shape.experts, slots = (size_t)shape.slots;
    size_t blocks = (size_t)(shape.ranks / shape.block_ranks);

    TRY(arena_take_array(arena, (size_t)shape.ranks + 1, sizeof(int32_t), "slots of ranks",
                         &shape.rank_first));
    TRY(arena_take_array(arena, layers * slots, sizeof(int32_t), "experts of slots", &shape.expert));
    TRY(arena_take_array(arena, layers * (experts + 1), sizeof(int32_t), "replica counts", &shape.first));
    TRY(arena_take_array(arena, layers * slots, sizeof(int32_t), "replicas", &shape.replica));
    TRY(arena_take_array(arena, layers * blocks * experts, sizeof(int32_t), "nearest replicas", &shape.near));
    TRY(arena_take_array(arena, experts, sizeof(int32_t), "ranks of experts", &shape.seen));
    for (size_t i = 0; i < layers * slots; i++)
        shape.expert[i] = -1;
    *p = shape;
    return STATUS_OK;
}

enum status placement_open(struct placement *p, struct arena *arena, int layers, int experts, int slots,
                           int ranks)
{
    struct placement shape = {
        .layers = layers, .experts = experts, .slots = slots, .ranks = ranks, .block_ranks = ranks};

    if (layers < 0 || experts < 1 || slots < experts || ranks < 1)
        return FAIL(STATUS_BUG, "a placement of %d layers, %d experts in %d slots on %d ranks", layers,
                    experts, slots, ranks);
    TRY(open_sized(p, arena, shape));
    for (int r = 0; r < ranks; r++)
        p->rank_first[r] = range_share(slots, ranks, r).first;
    p->rank_first[ranks] = slots;
    return STATUS_OK;
}

enum status placement_like(struct placement *p, struct arena *arena, const struct placement *like)
{
    struct placement shape = {.layers = like->layers,
                              .experts = like->experts,
                              .slots = like->slots,
                              .ranks = like->ranks,
                              .block_ranks = like->block_ranks};

    TRY(open_sized(p, arena, shape));
    memcpy(p->rank_first, like->rank_first, ((size_t)like->ranks + 1) * sizeof *p->rank_first);
    return STATUS_OK;
}

enum status placement_spread(struct placement *p, struct arena *arena, int layers, int experts, int ranks,
                             int copies)
{
    struct placement shape = {.layers = layers, .experts = experts, .ranks = ranks};

    if (layers < 0 || experts < 1 || ranks < 1 || copies < 1 || ranks % copies)
        return FAIL(STATUS_BUG, "a spread of %d copies of %d experts over %d ranks, %d layers", copies,
                    experts, ranks, layers);
    shape.block_ranks = ranks / copies;
    if (__builtin_mul_overflow(experts, copies, &shape.slots))
        return FAIL(STATUS_BUG, "%d copies of %d experts are more slots than can be numbered", copies,
                    experts);
    TRY(open_sized(p, arena, shape));
    for (int r = 0; r < ranks; r++)
        p->rank_first[r] = r / shape.block_ranks * experts +
                           range_share(experts, shape.block_ranks, r % shape.block_ranks).first;
    p->rank_first[ranks] = shape.slots;
    for (int i = 0; i < layers * shape.slots; i++)
        p->expert[i] = i % shape.slots % experts;
    return placement_index(p);
}

/* The experts of one rank in one layer; *next is the expert that the next copy is of. */
static void fill_rank(struct placement *p, int32_t *expert, int rank, int *next)
{
    struct range primary = range_share(p->experts, p->ranks, rank);
    int slot = p->rank_first[rank];

    for (int e = 0; e < p->experts; e++)
        p->seen[e] = e >= primary.first && e < primary.first + primary.count;
    for (int i = 0; i < primary.count; i++)
        expert[slot++] = primary.first + i;
    for (int held = primary.count; slot < p->rank_first[rank + 1] && held < p->experts; held++) {
        while (p->seen[*next])
            *next = (*next + 1) % p->experts;
        p->seen[*next] = 1;
        expert[slot++] = *next;
        *next = (*next + 1) % p->experts;
    }
}

enum status placement_redundant(struct placement *p, struct arena *arena, int layers, int experts,
                                int redundant, int ranks)
{
    int slots;

    if (redundant < 0 || __builtin_add_overflow(experts, redundant, &slots))
        return FAIL(STATUS_BUG, "%d experts and %d redundant ones are no number of slots", experts,
                    redundant);
    TRY(placement_open(p, arena, layers, experts, slots, ranks));
    for (int layer = 0; layer < layers; layer++) {
        int next = 0;

        for (int rank = 0; rank < ranks; rank++)
            fill_rank(p, p->expert + (ptrdiff_t)layer * slots, rank, &next);
    }
    return placement_index(p);
}

static enum status check_ranks(const struct placement *p)
{
    if (p->rank_first[0] != 0 || p->rank_first[p->ranks] != p->slots)
        return FAIL(STATUS_BAD_INPUT, "placement: the ranks hold slots %d to %d, there are slots 0 to %d",
                    p->rank_first[0], p->rank_first[p->ranks] - 1, p->slots - 1);
    for (int r = 0; r < p->ranks; r++) {
        if (p->rank_first[r + 1] < p->rank_first[r])
            return FAIL(STATUS_BAD_INPUT, "placement: rank %d begins at slot %d, the rank before at slot %d",
                        r + 1, p->rank_first[r + 1], p->rank_first[r]);
    }
    return STATUS_OK;
}

static enum status check_layer(const struct placement *p, int layer)
{
    const int32_t *expert = p->expert + (ptrdiff_t)layer * p->slots;

    for (int e = 0; e < p->experts; e++)
        p->seen[e] = -1;
    for (int r = 0; r < p->ranks; r++) {
        for (int s = p->rank_first[r]; s < p->rank_first[r + 1]; s++) {
            int e = expert[s];

            if (e < -1 || e >= p->experts)
                return FAIL(STATUS_BAD_INPUT, "placement: slot %d of layer %d holds expert %d, there are %d",
                            s, layer, e, p->experts);
            if (e < 0)
                continue;
            if (p->seen[e] == r)
                return FAIL(STATUS_BAD_INPUT, "placement: rank %d holds expert %d of layer %d twice", r, e,
                            layer);
            p->seen[e] = r;
        }
    }
    for (int e = 0; e < p->experts; e++) {
        if (p->seen[e] < 0)
            return FAIL(STATUS_BAD_INPUT, "placement: expert %d of layer %d has no slot", e, layer);
    }
    return STATUS_OK;
}

/* Counting sort of the slots by expert; slots rise within an expert because they are taken in order. */
static void index_replicas(struct placement *p, int layer)
{
    const int32_t *expert = p->expert + (ptrdiff_t)layer * p->slots;
    int32_t *first = p->first + (ptrdiff_t)layer * (p->experts + 1);
    int32_t *replica = p->replica + (ptrdiff_t)layer * p->slots;

    memset(first, 0, sizeof *first * ((size_t)p->experts + 1));
    for (int s = 0; s < p->slots; s++) {
        if (expert[s] >= 0)
            first[expert[s] + 1]++;
    }
    for (int e = 0; e < p->experts; e++) {
        first[e + 1] += first[e];
        p->seen[e] = first[e];
    }
    for (int s = 0; s < p->slots; s++) {
        if (expert[s] >= 0)
            replica[p->seen[expert[s]]++] = s;
    }
}

static void index_near(struct placement *p, int layer)
{
    const int32_t *first = p->first + (ptrdiff_t)layer * (p->experts + 1);
    const int32_t *replica = p->replica + (ptrdiff_t)layer * p->slots;
    int blocks = p->ranks / p->block_ranks;

    for (int block = 0; block < blocks; block++) {
        int32_t *near = p->near + ((ptrdiff_t)layer * blocks + block) * p->experts;
        int from = p->rank_first[block * p->block_ranks], to = p->rank_first[(block + 1) * p->block_ranks];

        for (int e = 0; e < p->experts; e++) {
            int i = first[e];

            while (i < first[e + 1] && replica[i] < from)
                i++;
            near[e] = i < first[e + 1] && replica[i] < to ? i : first[e];
        }
    }
}

enum status placement_index(struct placement *p)
{
    TRY(check_ranks(p));
    for (int layer = 0; layer < p->layers; layer++)
        TRY(check_layer(p, layer));
    for (int layer = 0; layer < p->layers; layer++) {
        index_replicas(p, layer);
        index_near(p, layer);
    }
    return STATUS_OK;
}

enum status placement_index_layer(struct placement *p, int layer)
{
    TRY(check_layer(p, layer));
    index_replicas(p, layer);
    index_near(p, layer);
    return STATUS_OK;
}

static uint64_t mix(uint64_t hash, const int32_t *numbers, int count)
{
    for (int i = 0; i < count; i++)
        hash = (hash ^ (uint32_t)numbers[i]) * 0x100000001b3u; /* FNV-1a, by whole numbers */
    return hash;
}

uint64_t placement_hash(const struct placement *p)
{
    const int32_t sizes[] = {p->layers, p->experts, p->slots, p->ranks};
    uint64_t hash = mix(0xcbf29ce484222325u, sizes, sizeof sizes / sizeof sizes[0]);

    hash = mix(hash, p->rank_first, p->ranks + 1);
    return mix(hash, p->expert, p->layers * p->slots);
}

int placement_rank(const struct placement *p, int slot)
{
    int low = 0, high = p->ranks;

    /* rank_first[low] <= slot < rank_first[high]; ranks without slots are passed over */
    while (high - low > 1) {
        int middle = (low + high) / 2;

        if (p->rank_first[middle] <= slot)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void placement_choose(const struct placement *p, int layer, int rank, const int32_t *expert, int32_t *slot,
                      int count)
{
    const int32_t *first = p->first + (ptrdiff_t)layer * (p->experts + 1);
    const int32_t *replica = p->replica + (ptrdiff_t)layer * p->slots;
    int blocks = p->ranks / p->block_ranks;
    const int32_t *near = p->near + ((ptrdiff_t)layer * blocks + rank / p->block_ranks) * p->experts;
    int own = p->rank_first[rank], behind = p->rank_first[rank + 1];

    for (int i = 0; i < count; i++) {
        int e = expert[i], at = near[e];

        /* Replicas rise, so one of this rank stands at or behind the first of its block: as a rule, at once.
         */
        slot[i] = replica[at];
        for (; at < first[e + 1] && replica[at] < behind; at++) {
            if (replica[at] >= own)
                slot[i] = replica[at];
        }
    }
}
