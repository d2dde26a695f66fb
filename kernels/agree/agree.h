/* agree.h - does a backend compute what the reference computes, and does it keep the law?
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Lists of checks, one for each entry of the table (agree_kernels, agree_attention, agree_law), run on a
 * backend over random shapes: by the tests on every backend of this machine, by `bench selftest` on the one
 * that a run would take.
 *
 *     agree_start     the seed of all checks that follow
 *     agree_run       one check; its failure is a sentence with backend, seed, shape and number
 *
 * The rest is for the checks. One gets open backends and draws its own shapes. Host memory comes from
 * agree_take and is gone after the check; backend memory is gone when the backend closes. What does not agree
 * ends the check where it is seen, by a jump back into agree_run. One thread at a time. */
#ifndef AGREE_H
#define AGREE_H

#include "kernels/kernels.h"

enum { AGREE_THREADS = 3 };

/* Of one entry: compared with the reference, or, with another backend's table for each number of threads,
 * with itself. One of the two functions is there. */
struct agree_check {
    const char *entry; /* NULL ends a list */
    const char *promise;
    int rounds;
    void (*agrees)(struct kernels *reference, struct kernels *k);
    void (*law)(struct kernels **k); /* k[0] ... k[AGREE_THREADS - 1] */
};

/* How tables of a backend are opened. */
struct agree_backend {
    const char *name;
    enum status (*open)(const struct agree_backend *b, int threads, struct kernels **out);
    bool device;      /* as kernels/cuda: factors as two bf16 numbers, heads of a multiple of 16 */
    int number;       /* for `open`: a path, a device */
    const char *file; /* for `open`: a module */
    bool exact;       /* for `open`: as with --exact; set by agree_run for the law, and in turn */
};

/* Draws begin at `seed`; no check has more than `most_rounds` rounds. */
void agree_start(uint64_t seed, int most_rounds);

/* The rounds of a check, with 1, 2 and 3 threads in turn; *rounds is how many there were. STATUS_BUG says
 * what does not agree, STATUS_UNAVAILABLE why this machine lacks the backend. */
enum status agree_run(const struct agree_check *check, const struct agree_backend *backend, int *rounds);

/* Ends the check: the backend's name, the seed and the shape come first. */
_Noreturn void agree_fail(struct kernels *k, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What is being computed, for the message of a failure: "[3, 40] by bf16 [70, 40]". */
void agree_shape(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Two whole numbers are equal; `what` says which. */
void agree_number(struct kernels *k, const char *what, long long got, long long want);

/* Which round of the check this is, from 0: for what must come in every run, whatever is drawn. */
int agree_round(void);

int agree_between(int low, int high); /* both included */
float agree_uniform(void);            /* -1 ... 1 */
bool agree_chance(int percent);

/* A width that is awkward for vectors in most cases, up to `most`. */
int agree_width(int most);

/* What is lost of a factor, relatively: the cuda backend multiplies numbers as two of 8 bits each. */
double agree_split(void);

/* A head width that the backend can do. */
int agree_head_width(int most);

void agree_shuffle(int32_t *numbers, int count);

/* Zeroed host memory for this check. */
void *agree_take(size_t count, size_t size);
float *agree_rows(int rows, int columns);        /* [rows, columns], zero */
float *agree_random_rows(int rows, int columns); /* uniform */

/* A matrix in backend memory inside a frame of numbers that nobody may touch; starts anywhere in a cache
 * line. */
struct framed {
    struct matrix view;
    struct matrix frame;
};

/* `rows` [rows, columns] on the host; NULL: filled with rubbish, for results. */
struct framed agree_framed(struct kernels *k, int rows, int columns, const float *content);

/* The content on the host; fails when the frame was touched. */
float *agree_content(struct kernels *k, const struct framed *m);

/* Floats in backend memory, not a matrix (gains, biases, blocks). */
float *agree_upload(struct kernels *k, const float *content, size_t count);

/* Whole numbers in backend memory; content NULL: zeros, for results. */
int32_t *agree_numbers(struct kernels *k, const int32_t *content, size_t count);

/* `count` numbers of 4 bytes of the backend's memory, on the host. */
void *agree_bring(struct kernels *k, const void *there, size_t count);

/* A random tensor as a file would hold it, and the same as floats. */
struct drawn {
    enum dtype dtype;
    int rows;
    int columns;
    const void *data;
    const float *values; /* [rows, columns] */
    const float *scale;  /* F8_E4M3: [rows, scale_count(columns)] */
    bool transposed;     /* the file holds [columns, rows] */
};

struct drawn agree_tensor(enum dtype dtype, int rows, int columns, bool transposed);

/* BF16, F16, F32 or F8_E4M3 */
enum dtype agree_dtype(void);

/* Rows first ... first + rows - 1 of a tensor as a weight, filled in pieces cut anywhere. */
struct weight agree_weight(struct kernels *k, const struct drawn *tensor, int first, int rows);

/* Fails with words unless |got - want| <= bound; NaN agrees with NaN only. */
void agree_close(struct kernels *k, const char *what, int row, int column, float got, float want,
                 double bound);

/* Fails unless `count` floats have the same bytes; `what` and `row` go into the message. */
void agree_same(struct kernels *k, const char *what, int row, const float *got, const float *want, int count);

/* The same for rows [rows, columns]. */
void agree_equal(struct kernels *k, const char *what, const float *got, const float *want, int rows,
                 int columns);

/* Rows [rows, columns], equal but for what the backend loses of a factor. */
void agree_near(struct kernels *k, const char *what, const float *got, const float *want, int rows,
                int columns);

/* The call succeeded; prints its words if not. */
void agree_ok(struct kernels *k, const char *what, enum status status);

#endif
