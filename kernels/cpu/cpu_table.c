/* cpu_table.c - the stages of one instruction path
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu_table.h"

#include "kernels/cpu/cpu_attend.h"
#include "kernels/cpu/cpu_choose.h"
#include "kernels/cpu/cpu_draft.h"
#include "kernels/cpu/cpu_experts.h"
#include "kernels/cpu/cpu_lower.h"
#include "kernels/cpu/cpu_multiply.h"
#include "kernels/cpu/cpu_rows.h"

const struct cpu_stages cpu_table = {
    .embed = cpu_rows_embed,
    .norm = cpu_rows_norm,
    .multiply = cpu_multiply,
    .rotate = cpu_rows_rotate,
    .append = cpu_rows_append,
    .attend = cpu_attend,
    .route = cpu_choose_route,
    .gather = cpu_rows_gather,
#if defined(__AVX512F__)
    .lower_inputs = cpu_lower_inputs,
    .lower_inner = cpu_lower_inner,
#endif
    .gate_up = cpu_experts_gate_up,
    .down = cpu_experts_down,
    .activate = cpu_rows_activate,
    .add = cpu_rows_add,
    .join = cpu_rows_join,
    .combine = cpu_rows_combine,
    .candidates = cpu_choose_candidates,
    .draft = cpu_draft,
};
