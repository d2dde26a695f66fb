/* drive.h - one step after the other, for all that serves requests
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * `generate` and `bench` differ in where requests come from and where tokens go. What lies between is here:
 * rank 0 leads with a scheduler, the other ranks follow its batches until it says that no more come. */
#ifndef DRIVE_H
#define DRIVE_H

#include "engine/engine.h"
#include "engine/scheduler.h"
#include "engine/summary.h"

/* Address space for the scheduler, with `beside` bytes more for each request. */
size_t drive_bytes(const struct engine *e, size_t beside);

/* What the engine was made for. */
struct scheduler_limits drive_limits(struct engine *e, bool prefix_caching);

/* Rank 0: the engine's batch, filled by the scheduler, is computed; `take` looks at the tokens that it
 * brought, and its time counts too. */
enum status drive_step(struct engine *e, struct scheduler *s, struct summary *summary,
                       enum status (*take)(void *context), void *context);

/* Rank 0: no work for now (BATCH_IDLE: a sign of life), or none any more (BATCH_STOP). */
enum status drive_tell(struct engine *e, uint32_t flag);

/* The other ranks, until rank 0 tells them to stop. */
enum status drive_follow(struct engine *e);

/* Fills the summary, but for what was asked, and writes the closing line. Collective. */
enum status drive_finish(struct engine *e, const struct scheduler *s, struct summary *summary);

#endif
