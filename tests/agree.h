/* agree.h - what the tests of backends share: the list of backends, random numbers, framed matrices, weights
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A check gets open backends and draws its own shapes. Host memory comes from agree_take and is gone after
 * the check; backend memory is gone when the backend closes. All failures name the backend and the seed. */
#ifndef AGREE_H
#define AGREE_H

#include "kernels/kernels.h"

enum { AGREE_THREADS = 3 };

/* The seed is the first argument of the program, or a fixed number; it is printed. The second, if there, is
 * the most rounds that a check runs. */
void agree_start(int argc, char **argv);

/* Runs `check` `rounds` times for each backend beside the reference, with 1, 2 and 3 threads in turn. A
 * backend that this machine lacks is reported as skipped by name. */
void agree_each(int rounds, void (*check)(struct kernels *reference, struct kernels *k));

/* The same for the law: the backend is opened with 1, 2 and 3 threads, k[0] ... k[2]. The reference is a
 * backend here. */
void agree_each_law(int rounds, void (*check)(struct kernels **k));

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

/* A random tensor as a file would hold it, and the same as floats. */
struct tensor {
    enum dtype dtype;
    int rows;
    int columns;
    const void *data;
    const float *values; /* [rows, columns] */
    const float *scale;  /* F8_E4M3: [rows, scale_count(columns)] */
    bool transposed;     /* the file holds [columns, rows] */
};

struct tensor agree_tensor(enum dtype dtype, int rows, int columns, bool transposed);

/* BF16, F16, F32 or F8_E4M3 */
enum dtype agree_dtype(void);

/* Rows first ... first + rows - 1 of a tensor as a weight, filled in pieces cut anywhere. */
struct weight agree_weight(struct kernels *k, const struct tensor *tensor, int first, int rows);

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
