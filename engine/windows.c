/* windows.c - a long text as windows that the model can see at once
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/windows.h"

int windows_count(int tokens, int window, int stride)
{
    return tokens <= window ? 1 : 1 + (tokens - window - 1) / stride + 1;
}

struct window windows_at(int tokens, int window, int stride, int index)
{
    struct window w = {.first = index * stride, .counted = index == 0 ? 1 : window - stride};

    w.count = tokens - w.first < window ? tokens - w.first : window;
    return w;
}
