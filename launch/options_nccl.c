/* options_nccl.c - settings of NCCL in the environment that its exchanges could not work with
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_nccl.h"

#include <stdlib.h>

/* They override what the communicators are opened with (comm/comm_nccl_team). */
static const struct {
    const char *name;
    long value; /* that may stand there */
    const char *why;
} settings[] = {
    {"NCCL_COMM_BLOCKING", 0, "a call could wait for a rank that has died, and nothing would end it"},
    {"NCCL_COMM_SPLIT_SHARE_RESOURCES", 1,
     "nothing would order the exchanges of two communicators on a GPU, and they could wait for each other"},
    {"NCCL_GRAPH_MIXING_SUPPORT", 1,
     "recorded steps and exchanges queued one by one would not wait for each other"}};

enum status options_nccl_check(void)
{
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        const char *text = getenv(settings[i].name);

        if (text && *text && strtol(text, NULL, 0) != settings[i].value)
            return FAIL(
                STATUS_USAGE,
                "%s=%s is in the environment, but with it %s; unset it, or use --device-exchange host",
                settings[i].name, text, settings[i].why);
    }
    return STATUS_OK;
}
