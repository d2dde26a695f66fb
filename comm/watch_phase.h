/* watch_phase.h - what a rank can be busy with
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef WATCH_PHASE_H
#define WATCH_PHASE_H

enum watch_phase {
    WATCH_START,
    WATCH_LOAD,
    WATCH_IDLE, /* rank 0 waits for input, the others for rank 0's next batch */
    WATCH_BATCH,
    WATCH_EMBED,
    WATCH_LAYERS, /* all of them at once, recorded before */
    WATCH_ATTENTION,
    WATCH_ROUTE,
    WATCH_DISPATCH,
    WATCH_SPREAD, /* what a dispatch does inside nodes after it has crossed between them */
    WATCH_EXPERTS,
    WATCH_COMBINE,
    WATCH_HEAD,
    WATCH_SAMPLE,
    WATCH_BALANCE, /* experts move between ranks */
    WATCH_END,
    WATCH_PHASE_COUNT
};

/* "dispatch"; for messages and the closing line. */
const char *watch_phase_name(enum watch_phase phase);

#endif
