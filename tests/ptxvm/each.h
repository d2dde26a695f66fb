/* each.h - an opcode from what it computes for one lane
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EACH_H
#define EACH_H

#include "ptx.h"

#include <tuple>

template <class T> using ptx_cell = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

/* A cell as a number; narrow ones are the lower bits of 32. */
template <class T> static inline T ptx_get(ptx_cell<T> cell)
{
    if constexpr (std::is_floating_point_v<T>) {
        T value;
        memcpy(&value, &cell, sizeof value);
        return value;
    } else if constexpr (std::is_same_v<T, bool>) {
        return cell != 0;
    } else {
        return (T)cell;
    }
}

template <class T> static inline ptx_cell<T> ptx_put(T value)
{
    if constexpr (std::is_floating_point_v<T>) {
        ptx_cell<T> cell;
        memcpy(&cell, &value, sizeof cell);
        return cell;
    } else {
        return (ptx_cell<T>)value; /* signs are extended */
    }
}

/* Which letters operands of a type have. */
template <class T> static inline char ptx_letter(void)
{
    return sizeof(T) == 8 ? 'd' : 'w';
}

template <class F, class D, class... A, size_t... N>
static inline void ptx_over(ptx_warp &w, const ptx_instruction &i, uint32_t lanes, const F &f,
                            std::index_sequence<N...>)
{
    auto *to = ptx_cells<ptx_cell<D>>(w, i.at[0]);
    auto from = std::make_tuple(ptx_cells<ptx_cell<A>>(w, i.at[N + 1])...);

    if (lanes == ~0u) {
#pragma GCC ivdep
        for (int l = 0; l < PTX_LANES; l++)
            to[l] = ptx_put<D>(f(ptx_get<A>(std::get<N>(from)[l])...));
        return;
    }
    for (; lanes != 0; lanes &= lanes - 1) {
        int l = __builtin_ctz(lanes);

        to[l] = ptx_put<D>(f(ptx_get<A>(std::get<N>(from)[l])...));
    }
}

/* Adds an opcode whose first operand becomes f of the others, a function without state. */
template <class D, class... A, class F> static void ptx_each(const std::string &name, F f)
{
    static const F kept = f;
    static const char letters[] = {ptx_letter<D>(), ptx_letter<A>()..., '\0'};

    ptx_opcode_add(name, {letters,
                          [](ptx_warp &w, const ptx_instruction &i, uint32_t lanes) {
                              ptx_over<F, D, A...>(w, i, lanes, kept, std::index_sequence_for<A...>());
                          },
                          PTX_PLAIN,
                          {}});
}

#endif
