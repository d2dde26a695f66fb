/* options_balancer.c - options of the balancer that must fit together, and vLLM's JSON for them
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_balancer.h"

#include "engine/json.h"

#include <string.h>

/* Keys of vLLM's EPLBConfig. What only says how it is done there, and is always so here, may stand. */
static const char *const known[] = {
    "window_size", "step_interval", "num_redundant_experts", "log_balancedness", "use_async", "policy", NULL};

static enum status check_keys(const struct json_at *root)
{
    const char *key;
    json_t *value;

    json_object_foreach(root->object, key, value)
    {
        int i = 0;

        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (!known[i])
            return FAIL(STATUS_USAGE,
                        "--eplb-config: '%s' is not known; there are window_size, step_interval, "
                        "num_redundant_experts, log_balancedness, use_async and policy",
                        key);
    }
    return STATUS_OK;
}

static enum status take_config(struct options_balancer *o, const struct json *json)
{
    const char *policy = "default";
    struct json_at root;
    bool flag;

    TRY(json_get_root(json, &root));
    TRY(check_keys(&root));
    TRY(json_get_int(&root, "window_size", 4, 100000, &o->window));
    TRY(json_get_int(&root, "step_interval", 0, 1000000, &o->interval));
    TRY(json_get_int(&root, "num_redundant_experts", 0, 65536, &o->redundant));
    TRY(json_get_bool(&root, "log_balancedness", &flag));
    TRY(json_get_bool(&root, "use_async", &flag));
    TRY(json_get_text(&root, "policy", &policy));
    if (strcmp(policy, "default") != 0)
        return FAIL(STATUS_USAGE, "--eplb-config: the policy '%s' is not known; leave it out", policy);
    return STATUS_OK;
}

static enum status read_config(struct options_balancer *o)
{
    struct json json = {0};
    enum status status = json_open(&json, "--eplb-config", o->config, strlen(o->config), 0);

    if (status == STATUS_OK)
        status = take_config(o, &json);
    json_close(&json);
    return status == STATUS_BAD_INPUT ? status_prefix(STATUS_USAGE, "%s", "") : status;
}

enum status options_balancer_check(struct options_balancer *o)
{
    const char *lonely = o->redundant > 0 ? "num-redundant-experts"
                         : o->placement   ? "expert-placement"
                         : o->force       ? "eplb-force"
                         : o->config      ? "eplb-config"
                                          : NULL;

    if (lonely && !o->enable)
        return FAIL(STATUS_USAGE, "--%s is for the balancer: add --enable-eplb", lonely);
    return o->config ? read_config(o) : STATUS_OK;
}
