/* block.cpp - thread blocks: barriers, warps, shared memory, asynchronous copies, and the run of a kernel
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Threads run one at a time and change only at barriers and warp primitives; in which order is drawn from the
 * seed. What a real device would do wrongly now and then is an error here every time: a barrier that not all
 * threads reach, a warp primitive whose mask does not fit, shared memory that nobody wrote (it is NaN).
 *
 * A kernel runs in parts: when all threads that can run have only asked, again and again, for what another
 * stream or process writes, the rest of the device has its turn, as it would beside them. */
#include "fibre.h"
#include "hostgpu.h"
#include "runtime.h"

#include <stdlib.h>

#include <algorithm>
#include <deque>

enum { WARP = 32, MEETINGS = 4, VALUE_BYTES = 32, SHARED_ALIGN = 16 };
enum { SYNCWARP = 9 };

struct block;

struct copy {
    void *to;
    const void *from;
};

struct fibre {
    hostgpu_thread self;
    struct fibre_stack stack;
    struct block *block;
    int index;
    bool done;
    std::vector<copy> copies;   /* cp.async issued and not waited for */
    std::vector<size_t> groups; /* how many copies each committed group ends with */
};

/* Lanes of a warp that meet at one primitive. */
struct meeting {
    bool busy;
    unsigned mask, here, left;
    int kind, bytes;
    const char *site;
    char value[WARP][VALUE_BYTES];
};

struct shared_variable {
    const void *key;
    void *memory;
    size_t bytes;
};

struct kernel {
    dim3 grid, block;
    size_t shared;
    std::function<void()> body;
};

struct block {
    const kernel *of;
    uint32_t index;
    std::vector<fibre *> fibres;
    std::vector<meeting> meetings; /* [warps, MEETINGS] */
    std::vector<shared_variable> variables;
    std::vector<uint16_t> warp_epoch;
    std::vector<int> order; /* in which threads become runnable */
    void *dynamic;
    size_t shared_bytes;
    const char *site; /* of the barrier that some have reached */
    int alive, arrived, count, result;
    uint16_t barrier_epoch;
};

/* A kernel between its first and its last part. */
struct hostgpu_run {
    kernel of;
    const char *name;
    std::vector<uint32_t> order; /* of the blocks */
    size_t next;                 /* of them */
    int live;                    /* blocks that have begun and not ended */
    std::deque<fibre *> runnable;
    size_t spins; /* of threads that asked in vain, since one got on */
    bool greedy;  /* what became runnable last runs first: one warp gets as far ahead as barriers allow */
};

hostgpu_thread *hostgpu_self;

static fibre *current;
static hostgpu_run *running;

static void make_runnable(fibre *f)
{
    if (running->greedy)
        running->runnable.push_front(f);
    else
        running->runnable.push_back(f);
}

static void resume(fibre *f)
{
    hostgpu_place &here = hostgpu_here();

    current = f;
    hostgpu_self = &f->self;
    here.block = f->block->index;
    here.thread = (uint16_t)f->index;
    here.barrier = f->block->barrier_epoch;
    here.warp = f->block->warp_epoch[f->index / WARP];
    here.in_kernel = true;
    fibre_resume(&f->stack);
    here.in_kernel = false;
    here.block = ~0u;
    current = nullptr;
}

static void pause_here(void)
{
    fibre_pause(&current->stack);
}

static void thread_main(void)
{
    fibre_entered();
    fibre *f = current;

    f->block->of->body();
    if (!f->copies.empty())
        hostgpu_fail("exits with cp.async copies not waited for");
    f->done = true;
    fibre_leave(&f->stack);
}

/* -- barriers ----------------------------------------------------------------------------------------------
 */

extern "C" int hostgpu_barrier(int predicate, const char *site)
{
    block *b = current->block;

    if (b->alive != (int)b->fibres.size())
        hostgpu_fail("__syncthreads at %s after %d threads of the block have exited", site,
                     (int)b->fibres.size() - b->alive);
    if (b->arrived > 0 && b->site != site)
        hostgpu_fail("divergent __syncthreads: %s here, %s in other threads", site, b->site);
    b->site = site;
    b->count += predicate;
    if (++b->arrived == b->alive) {
        b->arrived = 0;
        b->result = b->count;
        b->count = 0;
        b->barrier_epoch++;
        running->spins = 0;
        for (int i : b->order)
            make_runnable(b->fibres[i]);
    }
    pause_here();
    return b->result;
}

/* -- warps -------------------------------------------------------------------------------------------------
 */

static void check_mask(const block *b, int warp, int lane, unsigned mask, const char *site)
{
    if (!(mask >> lane & 1))
        hostgpu_fail("%s: warp primitive by lane %d, which its mask %08x lacks", site, lane, mask);
    for (int i = 0; i < WARP; i++) {
        size_t other = (size_t)(warp * WARP + i);

        if (!(mask >> i & 1))
            continue;
        if (other >= b->fibres.size() || b->fibres[other]->done)
            hostgpu_fail("%s: mask %08x names lane %d, which %s", site, mask, i,
                         other >= b->fibres.size() ? "does not exist" : "has exited");
    }
}

/* The meeting that this lane belongs to: one under way that fits, or a new one. */
static meeting *find_meeting(block *b, int warp, unsigned mask, int kind, const char *site)
{
    meeting *unused = nullptr;

    for (int i = 0; i < MEETINGS; i++) {
        meeting *m = &b->meetings[warp * MEETINGS + i];

        if (!m->busy) {
            unused = unused ? unused : m;
            continue;
        }
        if (m->here == m->mask)
            continue; /* complete, and being read */
        if (m->mask == mask && m->kind == kind && m->site == site)
            return m;
        if (m->mask & mask)
            hostgpu_fail("warp primitives do not match: %s mask %08x here, %s mask %08x in other lanes", site,
                         mask, m->site, m->mask);
    }
    if (!unused)
        hostgpu_fail("%s: too many warp primitives under way", site);
    *unused = meeting{};
    unused->busy = true;
    unused->mask = unused->left = mask;
    unused->kind = kind;
    unused->site = site;
    return unused;
}

/* Lanes of the mask wait for each other; each brings a value. */
static meeting *meet(unsigned mask, const void *value, int bytes, int kind, const char *site)
{
    block *b = current->block;
    int lane = current->index % WARP;
    int warp = current->index / WARP;

    check_mask(b, warp, lane, mask, site);
    meeting *m = find_meeting(b, warp, mask, kind, site);
    memcpy(m->value[lane], value, (size_t)bytes);
    m->bytes = bytes;
    m->here |= 1u << lane;
    if (m->here == mask) {
        running->spins = 0;
        if (kind == SYNCWARP)
            b->warp_epoch[warp]++;
        for (int i : b->order)
            if (i / WARP == warp && (mask >> (i % WARP) & 1))
                make_runnable(b->fibres[i]);
    }
    pause_here();
    return m;
}

static void leave(meeting *m)
{
    m->left &= ~(1u << (current->index % WARP));
    if (m->left == 0)
        m->busy = false;
}

extern "C" void hostgpu_warp_sync(unsigned mask, const char *site)
{
    char nothing = 0;

    leave(meet(mask, &nothing, 0, SYNCWARP, site));
}

extern "C" void hostgpu_warp_shuffle(unsigned mask, void *value, int bytes, int source, int kind,
                                     const char *site)
{
    meeting *m = meet(mask, value, bytes, kind, site);

    if (!(mask >> source & 1))
        hostgpu_fail("%s: shuffle reads lane %d, outside mask %08x", site, source, mask);
    memcpy(value, m->value[source], (size_t)bytes);
    leave(m);
}

extern "C" void hostgpu_warp_gather(unsigned mask, const void *value, int bytes, void *all, int kind,
                                    const char *site)
{
    meeting *m = meet(mask, value, bytes, kind, site);

    for (int lane = 0; lane < WARP; lane++)
        if (mask >> lane & 1)
            memcpy((char *)all + lane * bytes, m->value[lane], (size_t)bytes);
    leave(m);
}

extern "C" void hostgpu_yield(void)
{
    running->spins++;
    running->runnable.push_back(current);
    pause_here();
}

/* -- shared memory -----------------------------------------------------------------------------------------
 */

static void *take_shared(block *b, const void *key, size_t bytes, const char *name)
{
    void *memory = nullptr;

    if (posix_memalign(&memory, SHARED_ALIGN, bytes ? bytes : 1))
        abort();
    hostgpu_poison(memory, bytes);
    b->variables.push_back({key, memory, bytes});
    hostgpu_race_memory(memory, bytes, true);
    b->shared_bytes += (bytes + SHARED_ALIGN - 1) / SHARED_ALIGN * SHARED_ALIGN;
    if (b->shared_bytes > HOSTGPU_SHARED_BYTES)
        hostgpu_fail("%zu bytes of shared memory, with %s", b->shared_bytes, name);
    return memory;
}

extern "C" void *hostgpu_shared(const void *key, size_t bytes, const char *name)
{
    for (const shared_variable &v : current->block->variables)
        if (v.key == key)
            return v.memory;
    return take_shared(current->block, key, bytes, name);
}

extern "C" void *hostgpu_shared_dynamic(void)
{
    block *b = current->block;

    if (!b->dynamic) {
        if (b->of->shared == 0)
            hostgpu_fail("dynamic shared memory used, none given at launch");
        b->dynamic = take_shared(b, b, b->of->shared, "dynamic shared memory");
    }
    return b->dynamic;
}

extern "C" void hostgpu_copy_issue(void *to, const void *from)
{
    current->copies.push_back({to, from});
}

extern "C" void hostgpu_copy_commit(void)
{
    current->groups.push_back(current->copies.size());
}

extern "C" void hostgpu_copy_wait(int newest, void (*move)(void *, const void *))
{
    fibre *f = current;

    if ((int)f->groups.size() <= newest)
        return;
    size_t upto = f->groups[f->groups.size() - 1 - (size_t)newest];
    for (size_t i = 0; i < upto; i++)
        move(f->copies[i].to, f->copies[i].from);
    f->copies.erase(f->copies.begin(), f->copies.begin() + (ptrdiff_t)upto);
    f->groups.erase(f->groups.begin(), f->groups.end() - newest);
    for (size_t &end : f->groups)
        end -= upto;
}

/* -- a kernel ----------------------------------------------------------------------------------------------
 */

/* Threads forward, backward or in any order. */
static std::vector<int> thread_order(int threads)
{
    std::vector<int> order;
    uint32_t how = hostgpu_random(3);

    for (int i = 0; i < threads; i++)
        order.push_back(how == 1 ? threads - 1 - i : i);
    for (int i = threads - 1; how == 2 && i > 0; i--)
        std::swap(order[(size_t)i], order[hostgpu_random((uint32_t)i + 1)]);
    return order;
}

static uint3 place_of(uint32_t i, dim3 extent)
{
    return uint3{i % extent.x, i / extent.x % extent.y, i / (extent.x * extent.y)};
}

static block *start_block(const kernel *k, uint32_t index)
{
    block *b = new block{};
    int threads = (int)(k->block.x * k->block.y * k->block.z);
    size_t warps = (size_t)(threads + WARP - 1) / WARP;

    b->of = k;
    b->index = index;
    b->alive = threads;
    b->barrier_epoch = 1;
    b->warp_epoch.assign(warps, 1);
    b->meetings.assign(warps * MEETINGS, meeting{});
    b->order = thread_order(threads);
    for (int i = 0; i < threads; i++) {
        fibre *f = new fibre{};

        f->block = b;
        f->index = i;
        f->self = {place_of((uint32_t)i, k->block), place_of(index, k->grid), k->block, k->grid};
        fibre_start(&f->stack, thread_main);
        b->fibres.push_back(f);
    }
    for (int i : b->order)
        make_runnable(b->fibres[(size_t)i]);
    return b;
}

static void end_block(block *b)
{
    for (fibre *f : b->fibres) {
        fibre_end(&f->stack);
        delete f;
    }
    for (const shared_variable &v : b->variables) {
        hostgpu_race_memory(v.memory, 0, true);
        free(v.memory);
    }
    delete b;
}

/* true: its block has ended too. */
static bool after_thread(const char *name, fibre *f)
{
    block *b = f->block;

    if (!f->done)
        return false;
    if (--b->alive > 0) {
        if (b->arrived > 0 && b->arrived == b->alive)
            hostgpu_fail("%s: a thread of block %u exits while others wait at __syncthreads %s", name,
                         b->index, b->site);
        return false;
    }
    end_block(b);
    return true;
}

std::shared_ptr<hostgpu_run> hostgpu_block_begin(const char *name, dim3 grid, dim3 threads, size_t shared,
                                                 const std::function<void()> &body)
{
    auto run = std::make_shared<hostgpu_run>();
    size_t blocks = (size_t)grid.x * grid.y * grid.z;

    run->of = {grid, threads, shared, body};
    run->name = name;
    run->order.resize(blocks);
    for (size_t i = 0; i < blocks; i++)
        run->order[i] = (uint32_t)i;
    for (size_t i = blocks - 1; i > 0; i--)
        std::swap(run->order[i], run->order[hostgpu_random((uint32_t)i + 1)]);
    run->greedy = hostgpu_random(2) != 0;
    return run;
}

/* One thread as far as its next barrier or question. */
static void step(hostgpu_run *run)
{
    std::deque<fibre *> &runnable = run->runnable;

    if (runnable.empty())
        hostgpu_fail("%s: deadlock: some threads wait for others that will never come", run->name);
    if (run->live > 1)
        std::swap(runnable[0], runnable[hostgpu_random((uint32_t)std::min<size_t>(runnable.size(), 64))]);
    fibre *f = runnable.front();
    runnable.pop_front();
    resume(f);
    if (f->done)
        run->spins = 0;
    run->live -= after_thread(run->name, f);
}

bool hostgpu_block_part(hostgpu_run *run)
{
    running = run;
    run->spins = 0;
    while (run->next < run->order.size() || run->live > 0) {
        for (; run->next < run->order.size() && run->live < hostgpu_settings_get().resident; run->live++)
            start_block(&run->of, run->order[run->next++]);
        step(run);
        if (run->spins > run->runnable.size())
            return false;
    }
    return true;
}
