/* nccl_pipe.h - bytes from one process to another through memory that they share
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * One writer, one reader; both take as much as there is room or bytes for, and never wait. */
#ifndef HOSTGPU_NCCL_PIPE_H
#define HOSTGPU_NCCL_PIPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <atomic>

enum { PIPE = 1 << 16 };

struct nccl_pipe {
    std::atomic<uint64_t> head, tail;
    char bytes[PIPE];
};

/* How many of `bytes` went in, or came out. */
inline size_t nccl_pipe_put(nccl_pipe &p, const char *from, size_t bytes)
{
    uint64_t head = p.head.load(std::memory_order_relaxed), tail = p.tail.load(std::memory_order_acquire);
    size_t count = std::min<size_t>(bytes, PIPE - (size_t)(head - tail));

    for (size_t done = 0; done < count;) {
        size_t at = (size_t)((head + done) % PIPE), piece = std::min(count - done, PIPE - at);

        memcpy(p.bytes + at, from + done, piece);
        done += piece;
    }
    p.head.store(head + count, std::memory_order_release);
    return count;
}

inline size_t nccl_pipe_take(nccl_pipe &p, char *to, size_t bytes)
{
    uint64_t tail = p.tail.load(std::memory_order_relaxed), head = p.head.load(std::memory_order_acquire);
    size_t count = std::min<size_t>(bytes, (size_t)(head - tail));

    for (size_t done = 0; done < count;) {
        size_t at = (size_t)((tail + done) % PIPE), piece = std::min(count - done, PIPE - at);

        memcpy(to + done, p.bytes + at, piece);
        done += piece;
    }
    p.tail.store(tail + count, std::memory_order_release);
    return count;
}

#endif
