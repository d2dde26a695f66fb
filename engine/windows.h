/* windows.h - a long text as windows that the model can see at once
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Window w holds the tokens w * stride ... w * stride + window - 1 of the text, the last one up to its end,
 * and starts afresh: nothing before it is seen. Every token but the text's first is predicted once, in the
 * first window that holds it and something before it. So the first window counts all its tokens, a later one
 * those that are new, each seen with window - stride tokens before it at least. A text that fits is one
 * window. This is the evaluation that Hugging Face's documentation calls a strided sliding window. */
#ifndef WINDOWS_H
#define WINDOWS_H

struct window {
    int first;   /* token of the text where it starts */
    int count;   /* tokens */
    int counted; /* the first of them that is predicted here, from 1 */
};

/* Windows of a text of `tokens` > 0; 0 < stride < window. */
int windows_count(int tokens, int window, int stride);

struct window windows_at(int tokens, int window, int stride, int index);

#endif
