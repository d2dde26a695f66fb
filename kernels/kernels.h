/* kernels.h - the table of arithmetic: all that the floors above know of hardware
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A backend fills one struct kernels. Its entries are the stages of a layer; each is large enough that an
 * indirect call costs nothing. Work is queued in call order; only `wait`, `download` and `fetched` wait for
 * it. The CPU backends have finished an entry when it returns.
 *
 * The alphabet of shapes, used everywhere: T rows (tokens of this step), D model width, H query heads, K
 * key-value heads, W head width, F expert width, E experts, V vocabulary, P ranks. [T, D] is T rows of D
 * numbers.
 *
 * The law on kernels: the arithmetic of a row does not depend on the rows beside it, nor on the number of
 * threads, nor on which columns a rank holds. Every sum over an inner width runs in one order whatever T is.
 * A backend that gives this up for speed counts where it did (loose_products).
 *
 * All entries return STATUS_BUG for shapes that contradict each other. Matrices are the backend's memory, and
 * so are the arrays that say which expert takes which row (of route, expert_batch and combine): they come
 * from one stage and go to the next. What the host has made (tokens, rows, pages, positions) is host memory.
 * A CPU backend's memory is host memory. */
#ifndef KERNELS_H
#define KERNELS_H

#include "engine/base/arena.h"
#include "engine/base/status.h"
#include "kernels/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A view of rows in backend memory; owns nothing. Elements are floats in both CPU backends. */
struct matrix {
    float *data;
    int rows;
    int columns;
    int stride; /* elements from one row to the next, >= columns */
};

/* The first `rows` rows of a larger matrix. */
static inline struct matrix matrix_top(struct matrix whole, int rows)
{
    whole.rows = rows;
    return whole;
}

/* Columns first ... first + columns - 1. */
static inline struct matrix matrix_columns(struct matrix whole, int first, int columns)
{
    whole.data += first;
    whole.columns = columns;
    return whole;
}

/* Rows first ... first + rows - 1. */
static inline struct matrix matrix_rows(struct matrix whole, int first, int rows)
{
    whole.data += (ptrdiff_t)first * whole.stride;
    whole.rows = rows;
    return whole;
}

/* A matrix [rows = outputs N, columns = inputs K] as the backend multiplies it fastest; y = x W^T. Opaque
 * above the kernels floor but for its size: `bytes` at `data` can be copied to another weight of the same
 * shape and format, and that copy multiplies alike (so experts can move between ranks). */
struct weight {
    void *data;
    size_t bytes;
    int rows;
    int columns;
    enum dtype format; /* what the numbers are stored as: BF16, F32, or F8_E4M3 with scales */
};

/* Neighbouring inputs of an output of an F8_E4M3 weight that share a scale. */
enum { SCALE_INPUTS = 128 };

/* Scales of one output. */
static inline int scale_count(int columns)
{
    return columns / SCALE_INPUTS + (columns % SCALE_INPUTS != 0);
}

/* Part of a matrix as a file holds it, in host memory: element (n, k) lies at n * row_step + k * column_step
 * elements. So a transposed tensor [K, N] has row_step 1 and column_step N. */
struct source {
    const void *data;
    enum dtype dtype; /* BF16, F16, F32 or F8_E4M3, of which no code is NaN */
    int rows;         /* outputs */
    int columns;      /* inputs */
    int64_t row_step;
    int64_t column_step;
    const float *scale; /* F8_E4M3: [rows, scale_count(columns)]; element (n, k) counts
                           scale[n][k / SCALE_INPUTS] times, rounded to a float. |scale| < SCALE_MOST */
};

#define SCALE_MOST 256.0f

/* How queries and keys are turned before attention; one for each layer kind, made once from the
 * configuration. */
struct rotation {
    const float
        *frequency;   /* [rotated / 2] radians per position (host memory); NULL: no rotary embedding (NoPE) */
    int rotated;      /* dimensions of a head that turn, even, <= W */
    bool interleaved; /* pairs (2i, 2i+1); otherwise halves (i, i + rotated / 2) */
    float attention_factor;             /* multiplies cosine and sine; 1 unless yarn says otherwise */
    bool norm_after;                    /* weightless RMS norm of each q and k head after turning (Llama 4) */
    const float *query_gain, *key_gain; /* [W] backend memory: RMS norm of each q and k head with this gain
                                           before turning; NULL: none */
    float norm_epsilon;
    float temperature_scale; /* q *= 1 + scale * log1p(floor((position + 1) / floor)); 0: off */
    float temperature_floor;
};

/* Keys and values of all sequences of one layer on this rank: pages of PAGE_ROWS positions from one pool. The
 * page number is good for every layer. A page holds keys and values of all local
 * heads in elements of the backend's cache_dtype, in an order that is the backend's own; it can be copied
 * whole. */
enum { PAGE_ROWS = 16 };

struct cache_layer {
    void *data; /* [pages] pages of kernels_page_bytes(kernels, kv_heads, head_width) */
    int pages;
    int kv_heads; /* held by this rank */
    int head_width;
};

/* Rows of this step that belong to one sequence: consecutive positions. */
struct span {
    int first_row; /* of q, k, v and out */
    int rows;
    int first_position;   /* of first_row in its sequence */
    const int32_t *pages; /* pages of the sequence from position 0 on, at least up to the last row */
};

enum mask_kind { MASK_FULL, MASK_CHUNK, MASK_WINDOW };

/* One attention of one layer: keys and values of these rows are already in the cache. */
struct attention {
    struct matrix out;     /* [T, heads * W] */
    struct matrix queries; /* [T, heads * W] */
    struct cache_layer cache;
    const struct span *spans;
    int span_count;
    int heads;            /* query heads on this rank */
    const int32_t *kv_of; /* [heads] local key-value head of each query head (host memory) */
    float scale;
    enum mask_kind mask; /* full: j <= p;  chunk: and j / size == p / size;  window: and j > p - size */
    int mask_size;
};

enum score_kind { SCORE_SIGMOID, SCORE_SOFTMAX_ALL, SCORE_SOFTMAX_CHOSEN };

/* Which experts a row goes to. Choice is by falling logit, the lower expert first on ties. */
struct route {
    struct matrix logits; /* [T, E], from multiply by the router */
    int choices;          /* k */
    enum score_kind score;
    bool renormalise; /* divide the weights of a row by their sum */
    int32_t *expert;  /* [T, k] out, backend memory, best first */
    float *weight;    /* [T, k] out, backend memory */

    /* SCORE_SIGMOID only. With a bias or groups the choice is by falling score + bias, and weights are the
     * scores alone. */
    const float *bias; /* [E] backend memory; NULL: none */
    int groups;        /* of E / groups neighbours each; up to 1: no groups */
    int kept_groups;   /* whose two largest have the largest sums; the other groups are out */
    float scale;       /* multiplies the weights at last; 0: they stay as they are */
};

enum { ROUTE_EXPERTS_MOST = 4096, ROUTE_GROUPS_MOST = 64 }; /* of a route with bias or groups */

/* Does the route choose by score + bias? */
static inline bool route_by_score(const struct route *r)
{
    return r->bias || r->groups > 1;
}

/* Can this route be computed at all? */
static inline enum status route_check(const struct route *r)
{
    int experts = r->logits.columns;
    int groups = r->groups > 1 ? r->groups : 1;
    int kept = groups > 1 ? r->kept_groups : 1;

    if (r->choices < 1 || r->choices > experts)
        return FAIL(STATUS_BUG, "%d choices among %d experts", r->choices, experts);
    if (route_by_score(r) && (r->score != SCORE_SIGMOID || experts > ROUTE_EXPERTS_MOST))
        return FAIL(STATUS_BUG, "choice by score among %d experts, score %d", experts, (int)r->score);
    if (groups > 1 && (groups > ROUTE_GROUPS_MOST || experts % groups != 0 || experts / groups < 2 ||
                       kept < 1 || kept > groups || r->choices > experts / groups * kept))
        return FAIL(STATUS_BUG, "%d choices in %d of %d groups of %d experts", r->choices, kept, groups,
                    experts);
    return STATUS_OK;
}

/* Rows for experts of this rank, grouped by slot, all at once. For each slot s the rows order[first[s]] ...
 * order[first[s + 1] - 1] of x go through  down( silu(gate x) * (up x) )  and the results land in the same
 * rows of out. */
struct expert_batch {
    struct matrix out;      /* [N, D] */
    struct matrix x;        /* [N, D] */
    const int32_t *order;   /* [N] row numbers, backend memory */
    const int32_t *first;   /* [slots + 1] backend memory */
    const int32_t *counted; /* the same as `first` in host memory; NULL: the host does not know it, but ... */
    int most;               /* ... that no slot has more rows than these */
    int slots;
    bool lower; /* of a backend with lower_speed: inputs of products by BF16 weights are rounded to BF16 */
    const struct weight *gate_up; /* [slots] of [2F, D]: rows 0 ... F-1 gate, F ... 2F-1 up */
    const struct weight *down;    /* [slots] of [D, F] */
    struct matrix scratch;        /* [N, 2F] at least */
};

/* Where experts lie in one layer, in backend memory: expert e in slots slot[first[e]] ... slot[first[e + 1] -
 * 1], and rank r holds slots rank_first[r] ... rank_first[r + 1] - 1. Several slots of an expert share its
 * rows by the hash of the row's number. */
struct deal_table {
    const int32_t *first;      /* [E + 1] */
    const int32_t *slot;       /* [first[E]] */
    const int32_t *rank_first; /* [P + 1] */
    int experts, slots, ranks; /* slots of all ranks */
};

/* Rows dealt out to ranks without the host: each rank gets `room` places, rank 0 the first ones, filled from
 * the front by row and choice; the rest is empty. Behind the D numbers of a row stands, as an int32_t in the
 * place of a float, which slot of its rank it is for, -1 in an empty place. */
struct deal {
    struct matrix out;     /* [P * room, deal_width(D)] */
    struct matrix x;       /* [T, D] */
    const int32_t *expert; /* [T, k] backend memory, those of a row all different */
    const float *scale;    /* [T, k] backend memory: multiplies the row for a choice; NULL: all 1 */
    const struct deal_table *table;
    int choices, room; /* no rank gets more than `room` of these rows, whatever is chosen */
    int number;        /* of the first row in the batch */
    int32_t *place;    /* [T, k] out, backend memory: row of `out` */
    int32_t *counts;   /* [slots] out, backend memory: rows for each slot */
};

enum { DEAL_ALIGN = 4, DEAL_MARKS = 4 }; /* so that rows of floats stay aligned to 16 bytes */

/* The column of the mark, and columns of a row that travels with it. */
static inline int deal_mark(int width)
{
    return (width + DEAL_ALIGN - 1) / DEAL_ALIGN * DEAL_ALIGN;
}

static inline int deal_width(int width)
{
    return deal_mark(width) + DEAL_MARKS;
}

/* Knuth's multiplier spreads neighbours: which of `replicas` slots takes row `number`. As in eplb/replicas.
 */
#define DEAL_HASH(number, replicas) ((((uint32_t)(number)*2654435761u) >> 16) % (uint32_t)(replicas))

/* x[t] += shared[t] + weight[t, 0] * result[place[t, 0]] + weight[t, 1] * ..., added in this order to one sum
 * that starts at shared[t] (or at 0), then added to x[t]. place < 0: no result for this choice. */
struct combine {
    struct matrix x;       /* [T, D] in and out */
    struct matrix shared;  /* [T, D]; rows == 0: none */
    struct matrix results; /* [N, D] */
    const int32_t *place;  /* [T, k] row of results, backend memory */
    const float *weight;   /* [T, k] backend memory; NULL: all 1 (the input was scaled instead) */
    int choices;
};

/* The soft-max over a vocabulary begins with its parts: of each row of logits, the sums of so many columns
 * each (the last one may have fewer). Chunk c of a row begins at column c * SOFTMAX_CHUNK, so wherever ranks
 * cut the vocabulary between chunks, a chunk has the same bits. */
enum { SOFTMAX_CHUNK = 32 };

struct softmax_chunk {
    double most; /* the largest logit that is a number; -inf: none, or nothing larger */
    double sum;  /* of exp(logit - most); 0 when most is -inf, NaN when a logit is NaN or most is inf */
};

struct softmax_chunks {
    struct matrix logits;  /* [T, N] */
    const int32_t *column; /* [T] host memory: a column whose logit is wanted beside the sums, -1: none */
    struct softmax_chunk *chunk; /* [T, softmax_chunk_count(N)] out, host memory */
    float *logit;                /* [T] out, host memory; 0 where none is wanted */
};

static inline int softmax_chunk_count(int columns)
{
    return columns / SOFTMAX_CHUNK + (columns % SOFTMAX_CHUNK != 0);
}

static inline enum status softmax_check(const struct softmax_chunks *s)
{
    for (int t = 0; t < s->logits.rows; t++)
        if (s->column[t] < -1 || s->column[t] >= s->logits.columns)
            return FAIL(STATUS_BUG, "column %d of %d logits is wanted", s->column[t], s->logits.columns);
    return STATUS_OK;
}

/* A sequence whose next tokens are looked up in what it is so far. */
enum { DRAFT_ADDED_MOST = 28, DRAFT_TOKENS_MOST = 16 };

struct draft_sequence {
    int32_t row;   /* of the history */
    int32_t known; /* tokens that stand there */
    int32_t added; /* and those that come behind them now */
    int32_t most;  /* drafts that are wanted */
    int32_t tokens[DRAFT_ADDED_MOST];
};

/* Of the n-grams at the end of a sequence the longest one, of `longest` down to `shortest` tokens, that
 * stands in it earlier too, and of the places where it does the first: its drafts are the tokens that follow
 * there. So vLLM's method "ngram" proposes them. */
struct draft {
    int32_t *history; /* [rows, stride] in and out, backend memory: tokens of sequences */
    int rows, stride;
    const struct draft_sequence *sequences; /* [count] host memory, each of a row of its own */
    int count;
    int shortest, longest;
    int32_t *found; /* [count, 1 + DRAFT_TOKENS_MOST] out, host memory: how many drafts, and they */
};

/* Can this be looked up at all? */
static inline enum status draft_check(const struct draft *d)
{
    if (d->shortest < 1 || d->longest < d->shortest)
        return FAIL(STATUS_BUG, "n-grams of %d to %d tokens", d->shortest, d->longest);
    for (int i = 0; i < d->count; i++) {
        const struct draft_sequence *s = &d->sequences[i];

        if (s->row < 0 || s->row >= d->rows || s->known < 0 || s->added < 0 || s->added > DRAFT_ADDED_MOST ||
            s->known > d->stride - s->added || s->most < 0 || s->most > DRAFT_TOKENS_MOST)
            return FAIL(STATUS_BUG,
                        "%d drafts of sequence %d of %d, %d tokens and %d more, there is room for %d",
                        s->most, s->row, d->rows, s->known, s->added, d->stride);
    }
    return STATUS_OK;
}

/* A step whose layers may be recorded, see kernels' record. Everything but positions and rows is the same on
 * all ranks. */
struct recording {
    const int32_t *key; /* [count] what the work of the layers follows from, beside what lies in memory */
    int count;          /* <= RECORDING_KEY_MOST */
    int least, most;    /* positions between which every row of every rank stands; they follow from the key */
    uint64_t weights;   /* another number than the last time: data of experts' weights lie elsewhere */
    const int32_t *positions; /* [rows] host memory: those of this rank's group, as rotate would be told */
    int rows;                 /* <= RECORDING_ROWS_MOST */
};

enum { RECORDING_KEY_MOST = 256, RECORDING_ROWS_MOST = 512 };

enum recording_way {
    RECORDING_NONE,  /* the layers are queued as ever */
    RECORDING_NEW,   /* they are queued too, but run when `recorded` is called */
    RECORDING_AGAIN, /* they are under way: nothing is to be queued */
};

struct comm;
struct mover;

struct kernels {
    const char *name; /* "cpu (avx2, 2 threads)", for the log; lives as long as the table */
    int threads;
    enum dtype cache_dtype; /* F32 or BF16 */
    size_t align;           /* of what alloc gives, which takes so many bytes or a multiple of them */
    bool apart;             /* its memory is not the host's: rows travel by copies */
    int64_t waits;          /* times the host has waited for queued work since the start */
    int lower_speed; /* of many rows for one expert with BF16 weights in an expert_batch with `lower`, in per
                        cent of their speed without: as measured once, the same on every machine, so that
                        choices that depend on it are the same twice; 0: it cannot or gains nothing */
    int64_t loose_products; /* made so far by a library that picks its order of sums by the shape: for their
                               rows the law does not hold */

    /* where it is apart; else 0 */
    size_t total_bytes;   /* of its memory, all of it */
    size_t foreign_bytes; /* that the driver and others had taken when the table was opened */
    size_t own_bytes;     /* that the backend takes for itself beside what is asked of alloc */

    /* Where it is apart, and planned: `bytes` more to give out pieces of, once, and what driver and libraries
     * hold of it for this process beside all that was taken here. */
    enum status (*extend)(struct kernels *k, size_t bytes);
    enum status (*held)(struct kernels *k, size_t *bytes);

    /* Exchanges (comm/comm.h) of rows in this backend's memory that go from device to device; NULL: it has
     * none. Collective over the ranks of `inner`, which is not owned and may be used beside them, and over
     * those of `whole`: NULL, or exchanges opened so by more ranks, of which those with this `part` are a
     * group. Up to `most` bytes arrive in one call. `whole` is closed last. */
    enum status (*open_exchange)(struct kernels *k, struct comm *inner, struct comm *whole, int part,
                                 size_t most, struct comm **out);

    /* From now on those of `rows`, which was opened so by all ranks, in which nothing leaves its node go by
     * exchanges of the node alone; node [ranks] any numbers, equal for ranks of one node. Collective. NULL:
     * the build has none. */
    enum status (*open_nodes)(struct comm *rows, const int32_t *node);

    /* The same exchanges as `rows`, which was opened so by all ranks, is not owned and is closed later; but
     * where all ranks send all others as many bytes, a multiple of 4, and no more than `most` arrive at one,
     * they store them into each other's memory. Collective, and refused by all ranks alike:
     * STATUS_UNAVAILABLE says what is in the way. NULL: the build has none. */
    enum status (*open_stores)(struct kernels *k, struct comm *rows, size_t most, struct comm **out);

    /* Memory that moves from device to device beside the steps (comm/mover.h), with `sums` checksums, over
     * the ranks of `rows`, which were opened by all and are closed later. Collective. NULL: the build has
     * none. */
    enum status (*open_mover)(struct kernels *k, struct comm *rows, int sums, struct mover **out);

    /* -- memory: taken at start, given back by close
     * ------------------------------------------------------------- */

    enum status (*alloc)(struct kernels *k, size_t bytes, const char *what,
                         void **out); /* zeroed, aligned to `align`, at least to 64 bytes */
    void (*release)(struct kernels *k, void *memory);
    size_t (*free_bytes)(struct kernels *k); /* that the backend could still give */
    enum status (*upload)(struct kernels *k, void *device, const void *host, size_t bytes);
    enum status (*download)(struct kernels *k, void *host, const void *device, size_t bytes);
    enum status (*copy)(struct kernels *k, void *to, const void *from,
                        size_t bytes); /* both of the backend */
    enum status (*wait)(struct kernels *k);

    /* download in two parts, one at a time: `host` has it after fetched, which does not wait for what was
     * queued after fetch. NULL, both: the backend has no way to. */
    enum status (*fetch)(struct kernels *k, void *host, const void *device, size_t bytes);
    enum status (*fetched)(struct kernels *k);

    /* -- weights
     * ------------------------------------------------------------------------------------------------- */

    /* Bytes that a weight of this shape takes in this backend when its source has this dtype; fills
     * weight->bytes, rows, columns and format, leaves data. A dtype the backend cannot multiply is
     * STATUS_BAD_INPUT. */
    enum status (*weight_plan)(struct kernels *k, struct weight *w, enum dtype dtype, int rows, int columns);

    /* Puts `part` at rows first_row ... of w, whose data the caller has provided (weight_plan's bytes,
     * zeroed, 64-byte aligned). All rows of w are covered by such calls before it is multiplied. part.columns
     * == w->columns. The part may be overwritten when this returns; the copies are queued. */
    enum status (*weight_fill)(struct kernels *k, struct weight *w, int first_row, const struct source *part);

    /* -- steps
     * ------------------------------------------------------------------------------------------------- */

    /* The spans of the step that begins, for `rows` rows: every append and attend that is given this very
     * array reads what is said here, so it travels once and not for every layer. Until the next call the
     * array and its pages stay as they are. Spans that were not said before are taken as they come. */
    enum status (*begin)(struct kernels *k, const struct span *spans, int span_count, int rows);

    /* -- recorded steps; NULL: the backend has none
     * ------------------------------------------------------------------------------------------------- */

    /* After begin, before the layers. The first step of a key is only remembered; of the second, what is
     * queued up to `recorded` is kept; each later one is replayed at once. Which it is, and which recording
     * gives way to a new one, follows from the keys so far alone, so that ranks which tell the same keys go
     * the same way. What is queued between must not depend on anything that the host knows but the key,
     * begin's spans, the positions and where weights lie. */
    enum status (*record)(struct kernels *k, const struct recording *r, enum recording_way *way);

    /* After the layers of RECORDING_NEW: runs them. `layers` that failed are dropped, and their status is
     * returned. */
    enum status (*recorded)(struct kernels *k, enum status layers);

    /* -- stages
     * ---------------------------------------------------------------------------------------------------- */

    /* out[t] = row (tokens[t] - first_token) of w, for out.rows tokens; all tokens lie in w. */
    enum status (*embed)(struct kernels *k, struct matrix out, const struct weight *w, const int32_t *tokens,
                         int first_token);

    /* out = x * rsqrt(mean(x^2) + epsilon) * gain, per row; gain [D] floats in backend memory, NULL: none.
     * out may be x. */
    enum status (*rms_norm)(struct kernels *k, struct matrix out, struct matrix x, const float *gain,
                            float epsilon);

    /* out[T, N] = x[T, K] W^T + bias; bias [N] floats in backend memory, NULL: none. */
    enum status (*multiply)(struct kernels *k, struct matrix out, struct matrix x, const struct weight *w,
                            const float *bias);

    /* out[T, heads] = the sum of squares of each head of x [T, heads * W]. */
    enum status (*squares)(struct kernels *k, struct matrix out, struct matrix x, int head_width);

    /* x[T, N] *= rsqrt(sum of squares[t] / width + epsilon) * gain[N], squares [T, H] added in head order:
     * the norm of a row of `width` numbers of which this rank holds N. gain in backend memory. */
    enum status (*norm_by)(struct kernels *k, struct matrix x, struct matrix squares, int width,
                           const float *gain, float epsilon);

    /* Every number of x to -limit ... limit; NaN stays. */
    enum status (*clamp)(struct kernels *k, struct matrix x, float limit);

    /* Turns q [T, heads * W] and keys [T, kv_heads * W] in place by `r`; positions [T] in host memory. */
    enum status (*rotate)(struct kernels *k, struct matrix q, struct matrix keys, const struct rotation *r,
                          int head_width, const int32_t *positions);

    /* Writes keys and values [T, kv_heads * W] of the spans' rows into the cache. */
    enum status (*append)(struct kernels *k, struct cache_layer cache, struct matrix keys,
                          struct matrix values, const struct span *spans, int span_count);

    enum status (*attend)(struct kernels *k, const struct attention *a);

    enum status (*route)(struct kernels *k, const struct route *r);

    /* out[n] = x[rows[n]] * scale[n]; scale NULL: all 1. rows and scale in host memory, out.rows of them. */
    enum status (*gather)(struct kernels *k, struct matrix out, struct matrix x, const int32_t *rows,
                          const float *scale);

    enum status (*deal)(struct kernels *k, const struct deal *d);

    /* Rows that were dealt to this rank, [N, deal_width(D)], by slot: order [N] their numbers, first
     * [slots + 1], both backend memory, as expert_batch takes them. Empty places are left out; rows of a slot
     * stay in their order. */
    enum status (*group)(struct kernels *k, struct matrix arrivals, int width, int slots, int32_t *order,
                         int32_t *first);

    enum status (*multiply_experts)(struct kernels *k, const struct expert_batch *b);

    /* out[T, F] = silu(gate) * up, gate_up [T, 2F]: gate in columns 0 ... F-1. */
    enum status (*activate)(struct kernels *k, struct matrix out, struct matrix gate_up);

    /* x += y */
    enum status (*add)(struct kernels *k, struct matrix x, struct matrix y);

    /* out[T, sum of widths]: puts blocks that lie behind each other at `blocks`, block b [T, widths[b]]
     * without gaps, side by side. What a gather of columns from several ranks brings. */
    enum status (*join)(struct kernels *k, struct matrix out, const float *blocks, const int *widths,
                        int count);

    enum status (*combine)(struct kernels *k, const struct combine *c);

    /* The `keep` largest of each row of logits [T, N], falling, the lower column first on ties: values and
     * columns [T, keep] in host memory, for which a device is waited for once each 2 MiB. keep <= N. NaN
     * counts as the smallest. */
    enum status (*candidates)(struct kernels *k, struct matrix logits, int keep, float *values,
                              int32_t *columns);

    enum status (*softmax)(struct kernels *k, const struct softmax_chunks *s);

    enum status (*draft)(struct kernels *k, const struct draft *d);

    void (*close)(struct kernels *k); /* frees the table as well */
};

/* STATUS_BAD_INPUT, with words, unless weights may come in this format. */
enum status kernels_check_dtype(enum dtype dtype);

/* What alloc takes for a piece of so many bytes. */
static inline size_t kernels_piece_bytes(const struct kernels *k, size_t bytes)
{
    return (bytes + k->align - 1) / k->align * k->align;
}

/* Bytes of one page of one layer: keys and values of PAGE_ROWS positions. */
size_t kernels_page_bytes(const struct kernels *k, int kv_heads, int head_width);

/* A matrix in backend memory, rows padded so that rows do not fall on the same cache sets. */
enum status kernels_matrix(struct kernels *k, int rows, int columns, const char *what, struct matrix *out);

/* A weight of this shape in backend memory, planned and zeroed, ready for weight_fill. */
enum status kernels_weight(struct kernels *k, enum dtype dtype, int rows, int columns, const char *what,
                           struct weight *out);

#endif
