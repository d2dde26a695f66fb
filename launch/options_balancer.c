/* options_balancer.c - options of the balancer that must fit together, and vLLM's JSON for them
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_balancer.h"

#include "launch/options_json.h"

#include <string.h>

/* Keys of vLLM's EPLBConfig. What only says how it is done there, and is always so here, may stand. */
static const char *const known[] = {
    "window_size", "step_interval", "num_redundant_experts", "log_balancedness", "use_async", "policy", NULL};

static enum status take_config(void *owner, const struct json_at *root)
{
    struct options_balancer *o = owner;
    const char *policy = "default";
    bool flag;

    TRY(json_get_int(root, "window_size", 4, 100000, &o->window));
    TRY(json_get_int(root, "step_interval", 0, 1000000, &o->interval));
    TRY(json_get_int(root, "num_redundant_experts", 0, 65536, &o->redundant));
    TRY(json_get_bool(root, "log_balancedness", &flag));
    TRY(json_get_bool(root, "use_async", &flag));
    TRY(json_get_text(root, "policy", &policy));
    if (strcmp(policy, "default") != 0)
        return FAIL(STATUS_USAGE, "--eplb-config: the policy '%s' is not known; leave it out", policy);
    return STATUS_OK;
}

enum status options_balancer_check(struct options_balancer *o)
{
    static const struct options_json json = {
        .option = "--eplb-config",
        .known = known,
        .names = "window_size, step_interval, num_redundant_experts, log_balancedness, use_async and policy",
        .take = take_config};
    const char *lonely = o->redundant > 0 ? "num-redundant-experts"
                         : o->placement   ? "expert-placement"
                         : o->force       ? "eplb-force"
                         : o->config      ? "eplb-config"
                                          : NULL;

    if (lonely && !o->enable)
        return FAIL(STATUS_USAGE, "--%s is for the balancer: add --enable-eplb", lonely);
    return o->config ? options_json_read(&json, o->config, o) : STATUS_OK;
}
