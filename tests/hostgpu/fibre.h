/* fibre.h - one CUDA thread as a fibre: a stack of its own, switched by hand
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Fibres run on whichever thread of the host drives the device at the moment; they never move while running.
 */
#ifndef HOSTGPU_FIBRE_H
#define HOSTGPU_FIBRE_H

#include <stddef.h>

struct fibre_stack {
    void *pointer;   /* where it stands while it is not running */
    char *memory;    /* [FIBRE_STACK_BYTES], a page that faults below */
    void *sanitizer; /* AddressSanitizer's handle of its false stack */
};

enum { FIBRE_STACK_BYTES = 64 << 10 };

/* Makes a stack whose first fibre_resume enters `entry`, which begins with fibre_entered and ends by
 * fibre_leave. */
void fibre_start(struct fibre_stack *f, void (*entry)(void));

void fibre_entered(void);

/* Runs the fibre until it calls fibre_pause or fibre_leave. */
void fibre_resume(struct fibre_stack *f);

/* Back to whoever resumed this fibre. */
void fibre_pause(struct fibre_stack *f);
void fibre_leave(struct fibre_stack *f);

/* The stack may be used by another fibre. */
void fibre_end(struct fibre_stack *f);

#endif
