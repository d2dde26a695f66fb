/* watch_phase.c - what a rank can be busy with
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/watch_phase.h"

static const char *const names[WATCH_PHASE_COUNT] = {
    [WATCH_START] = "start",         [WATCH_LOAD] = "load",       [WATCH_IDLE] = "idle",
    [WATCH_BATCH] = "batch",         [WATCH_EMBED] = "embed",     [WATCH_LAYERS] = "layers",
    [WATCH_ATTENTION] = "attention", [WATCH_ROUTE] = "route",     [WATCH_DISPATCH] = "dispatch",
    [WATCH_EXPERTS] = "experts",     [WATCH_COMBINE] = "combine", [WATCH_HEAD] = "head",
    [WATCH_SAMPLE] = "sample",       [WATCH_BALANCE] = "balance", [WATCH_END] = "end",
    [WATCH_SPREAD] = "spread",
};

const char *watch_phase_name(enum watch_phase phase)
{
    return phase >= 0 && phase < WATCH_PHASE_COUNT ? names[phase] : "unknown";
}
