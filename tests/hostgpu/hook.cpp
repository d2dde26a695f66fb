/* hook.cpp - settings, failure, and the calls that other layers replace
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "hostgpu.h"
#include "runtime.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <string>

enum { EXIT_HOSTGPU = 97, TIMEOUT_SECONDS = 20 };

static uint64_t random_state;

static hostgpu_settings read_settings(void)
{
    hostgpu_settings s = {1, HOSTGPU_RANDOM, 1, TIMEOUT_SECONDS, nullptr};

    if (const char *text = getenv("HOSTGPU_SEED"))
        s.seed = strtoull(text, nullptr, 0);
    if (const char *text = getenv("HOSTGPU_ORDER"))
        s.order = *text == 'e' ? HOSTGPU_EAGER : *text == 'l' ? HOSTGPU_LAZY : HOSTGPU_RANDOM;
    if (const char *text = getenv("HOSTGPU_RESIDENT"))
        s.resident = atoi(text);
    if (const char *text = getenv("HOSTGPU_TIMEOUT"))
        s.timeout = atoi(text);
    if (const char *folder = getenv("HOSTGPU_TRACE"))
        s.trace = fopen((std::string(folder) + "/" + std::to_string(getpid())).c_str(), "we");
    if (s.trace)
        setvbuf(s.trace, nullptr, _IOLBF, 0); /* a process may be killed */
    random_state = s.seed * 0x9e3779b97f4a7c15ull + 1;
    return s;
}

static hostgpu_settings &settings(void)
{
    static hostgpu_settings s = read_settings();
    return s;
}

const hostgpu_settings &hostgpu_settings_get(void)
{
    return settings();
}

extern "C" void hostgpu_patience(int seconds)
{
    std::lock_guard<std::recursive_mutex> held(hostgpu_lock());

    settings().timeout = seconds;
}

/* xorshift64 (Marsaglia 2003) */
uint32_t hostgpu_random(uint32_t n)
{
    hostgpu_settings_get();
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32) % n;
}

struct strike {
    int signal;
    long left; /* operations of this name until it comes; 0: it never does */
    char name[64];
};

static strike read_strike(void)
{
    const char *text = getenv("HOSTGPU_STRIKE");
    strike s = {0, 0, ""};

    if (text && sscanf(text, "%d:%ld:%63[^\n]", &s.signal, &s.left, s.name) != 3)
        hostgpu_fail("HOSTGPU_STRIKE=%s is not signal:count:operation", text);
    return s;
}

void hostgpu_strike(const char *what)
{
    static strike s = read_strike();

    if (s.left > 0 && strcmp(s.name, what) == 0 && --s.left == 0)
        raise(s.signal);
}

std::recursive_mutex &hostgpu_lock(void)
{
    static auto *lock = new std::recursive_mutex; /* never destroyed: the device thread may outlive main */
    return *lock;
}

hostgpu_place &hostgpu_here(void)
{
    static thread_local hostgpu_place place;
    return place;
}

void hostgpu_poison(void *p, size_t bytes)
{
    memset(p, 0xff, bytes);
}

extern "C" void hostgpu_fail(const char *format, ...)
{
    const hostgpu_place &here = hostgpu_here();
    va_list arguments;

    fprintf(stderr, "hostgpu: %s", here.what);
    if (here.in_kernel)
        fprintf(stderr, " block (%u,%u,%u) thread (%u,%u,%u)", hostgpu_self->bid.x, hostgpu_self->bid.y,
                hostgpu_self->bid.z, hostgpu_self->tid.x, hostgpu_self->tid.y, hostgpu_self->tid.z);
    fprintf(stderr, ": ");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    fflush(stderr);
    _exit(EXIT_HOSTGPU);
}

#define WEAK __attribute__((weak))
WEAK void hostgpu_race_memory(void *p, size_t bytes, bool shared)
{
    (void)p, (void)bytes, (void)shared;
}
WEAK void hostgpu_race_access(const void *p, size_t bytes, bool write, const void *from)
{
    (void)p, (void)bytes, (void)write, (void)from;
}
WEAK void hostgpu_why_stuck(void)
{
}
