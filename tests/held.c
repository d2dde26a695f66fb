/* held.c - one model on one rank with the reference backend, for tests of weights
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "tests/held.h"

#include "kernels/reference/reference.h"
#include "tests/checkpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

size_t held_allocated;

static enum status (*real_alloc)(struct kernels *k, size_t bytes, const char *what, void **out);

static enum status counted_alloc(struct kernels *k, size_t bytes, const char *what, void **out)
{
    held_allocated += kernels_piece_bytes(k, bytes);
    return real_alloc(k, bytes, what, out);
}

void held_must(enum status status)
{
    if (status != STATUS_OK)
        fail_msg("%s", status_text());
}

void held_open(struct held *h, const char *configuration, const char *files, int ranks, int tensor, int rank)
{
    memset(h, 0, sizeof *h);
    held_must(arena_open(&h->arena, "test", 64 << 20));
    held_must(config_read(&h->config, &h->arena, configuration));
    held_must(tensor_set_open(&h->set, &h->arena, files));
    held_must(reference_open(&h->kernels));
    real_alloc = h->kernels->alloc;
    h->kernels->alloc = counted_alloc;
    h->grid = (struct grid){.ranks = ranks,
                            .rank = rank,
                            .tensor = tensor,
                            .groups = ranks / tensor,
                            .my_group = rank / tensor,
                            .my_part = rank % tensor,
                            .expert_ranks = ranks};
    held_must(
        placement_spread(&h->placement, &h->arena, h->config.expert_layers, h->config.experts, ranks, 1));
    held_allocated = 0;
}

void held_close(struct held *h)
{
    weights_close(&h->weights);
    h->kernels->close(h->kernels);
    tensor_set_close(&h->set);
    arena_close(&h->arena);
}

enum status held_load(struct held *h)
{
    return weights_open(&h->weights, &h->config, &h->grid, &h->placement, &h->set, h->kernels);
}

/* Where a tensor's numbers are, and how to step through its outputs and inputs. */
struct numbers {
    uint16_t *data;
    int64_t output_step, input_step;
};

static struct numbers numbers_of(const struct held *h, enum family_role role, int layer, int expert)
{
    const struct family *f = family_find(h->config.family);
    const struct family_prefix *prefix = f->prefixes;
    char name[FAMILY_NAME_BYTES];
    struct numbers n = {0};
    const struct tensor *t;

    held_must(family_tensor_name(f, prefix, ROLE_EMBEDDING, 0, 0, name, sizeof name));
    if (!tensor_set_find(&h->set, name))
        prefix++;
    held_must(family_tensor_name(f, prefix, role, layer, expert, name, sizeof name));
    t = tensor_set_find(&h->set, name);
    if (!t)
        fail_msg("no tensor %s", name);
    n.data = checkpoint_bytes(t);
    n.output_step = t->shape[t->dimensions - 1];
    n.input_step = 1;
    if (t->dimensions == 3) { /* [E, inputs, outputs] */
        memmove(n.data, n.data + expert * t->shape[1] * t->shape[2], (size_t)(t->shape[1] * t->shape[2]) * 2);
        n.output_step = 1;
        n.input_step = t->shape[2];
    }
    return n;
}

int held_expect_rows(const struct held *h, const struct weight *w, int to, enum family_role role, int layer,
                     int expert, struct range share)
{
    struct numbers n = numbers_of(h, role, layer, expert);

    assert_int_equal(w->format, DTYPE_BF16);
    assert_in_range(to + share.count, 0, w->rows);
    for (int r = 0; r < share.count; r++)
        for (int i = 0; i < w->columns; i++)
            if (((uint16_t *)w->data)[(size_t)(to + r) * (size_t)w->columns + (size_t)i] !=
                n.data[(share.first + r) * n.output_step + i * n.input_step])
                fail_msg("role %d, layer %d, expert %d: row %d, column %d differs", (int)role, layer, expert,
                         r, i);
    free(n.data);
    return to + share.count;
}

int held_expect_floats(const struct held *h, const float *floats, int to, enum family_role role, int layer,
                       struct range share)
{
    struct numbers n = numbers_of(h, role, layer, 0);

    for (int i = 0; i < share.count; i++)
        assert_true(floats[to + i] == dtype_from_bf16(n.data[share.first + i]));
    free(n.data);
    return to + share.count;
}
