/* eplb_traces.h - recorded routes and batches, where they can be found
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EPLB_TRACES_H
#define EPLB_TRACES_H

#include "eplb_gold.h"

#define EPLB_TRACES "../shared/eplb/traces/"

enum {
    EPLB_ESFT_LAYERS = 26,
    EPLB_ESFT_EXPERTS = 64,
    EPLB_ESFT_CHOICES = 6,
    EPLB_STREAM_BATCHES = 129,
    EPLB_STREAM_LAYERS = 6 /* 0, 5, ... 25 of those */
};

/* The file, or NULL after saying that it is skipped. */
static inline FILE *eplb_traces_file(const char *name)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof path, EPLB_TRACES "%s", name);
    file = fopen(path, "r");
    if (!file)
        print_message("skipped: %s (not there)\n", path);
    return file;
}

/* Adds tokens from ... to - 1 of a task's routes to load [26, 64]; all with a large `to`. False: not there.
 */
static inline bool eplb_traces_routes(const char *task, long from, long to, int64_t *load)
{
    char name[64];
    FILE *file;
    long tokens;

    snprintf(name, sizeof name, "esft_dsv2lite_%s_routes.u8", task);
    file = eplb_traces_file(name);
    if (!file)
        return false;
    fseek(file, 0, SEEK_END);
    tokens = ftell(file) / EPLB_ESFT_LAYERS / EPLB_ESFT_CHOICES;
    to = to < tokens ? to : tokens;
    for (int layer = 0; layer < EPLB_ESFT_LAYERS; layer++) {
        fseek(file, (layer * tokens + from) * EPLB_ESFT_CHOICES, SEEK_SET);
        for (long i = 0; i < (to - from) * EPLB_ESFT_CHOICES; i++) {
            int e = fgetc(file);

            assert_true(e >= 0 && e < EPLB_ESFT_EXPERTS);
            load[layer * EPLB_ESFT_EXPERTS + e]++;
        }
    }
    fclose(file);
    return true;
}

/* batch [129, 6, 64] of a stream. False: not there. */
static inline bool eplb_traces_stream(const char *name, int64_t *batch)
{
    FILE *file = eplb_traces_file(name);
    char line[1024];
    int rows = 0;

    if (!file)
        return false;
    while (fgets(line, sizeof line, file)) {
        char *at = line;

        if (line[0] == '#' || line[0] < '0' || line[0] > '9')
            continue;
        assert_int_equal(strtol(at, &at, 10), rows / EPLB_STREAM_LAYERS);
        assert_int_equal(strtol(at + 1, &at, 10), rows % EPLB_STREAM_LAYERS * 5);
        for (int e = 0; e < EPLB_ESFT_EXPERTS; e++)
            batch[rows * EPLB_ESFT_EXPERTS + e] = strtol(at + 1, &at, 10);
        rows++;
    }
    fclose(file);
    assert_int_equal(rows, EPLB_STREAM_BATCHES * EPLB_STREAM_LAYERS);
    return true;
}

#endif
