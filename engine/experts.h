/* experts.h - the expert block of a layer: route, dispatch, multiply, combine
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EXPERTS_H
#define EXPERTS_H

#include "comm/dispatch.h"
#include "engine/block.h"
#include "engine/config.h"
#include "engine/meter.h"
#include "engine/step.h"
#include "engine/trace.h"
#include "engine/weights.h"
#include "eplb/load.h"
#include "eplb/placement.h"

struct experts {
    const struct config *config;
    const struct weights *weights;
    struct placement *placement;
    struct dispatch dispatch;
    struct block shared;   /* the shared expert; unused without one */
    struct matrix logits;  /* [own rows, E] */
    int32_t *expert;       /* [own rows, k] backend memory */
    float *weight;         /* [own rows, k] backend memory */
    int32_t *chosen;       /* expert, and ... */
    float *factor;         /* ... weight in host memory, as far as the host needs them */
    struct matrix results; /* [arrivals, D] */
    struct matrix scratch; /* [arrivals, 2F] */
    struct meter meter;
    struct load *load;   /* where counts go as well; NULL: nowhere */
    struct trace *trace; /* likewise */
};

enum status experts_open(struct experts *e, struct arena *arena, const struct config *c,
                         const struct weights *w, struct placement *p, const struct step *s);
void experts_close(struct experts *e);

/* x[own rows, D] += experts(normed[own rows, D]); collective over the world. */
enum status experts_forward(struct experts *e, struct step *s, int layer, struct matrix x,
                            struct matrix normed);

#endif
