/* machine.cpp - blocks of PTX, run warp by warp
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Lanes of a warp that stand at the same instruction go together; of several groups the one that is furthest
 * back goes first, so that they meet again. Which warp goes on, and how far, is drawn from the seed. */
#include "machine.h"

#include "ptx.h"
#include "tests/hostgpu/runtime.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <set>

enum { SLICE = 2000, EXIT_NOT_RUN = 98 };

void ptx_fail(const ptx_warp &w, const ptx_instruction &i, int lane, const char *format, ...)
{
    static hostgpu_thread self;
    const ptx_block &b = *w.block;
    uint32_t thread = w.first + (uint32_t)lane;
    const std::vector<std::string> &files = b.kernel->files;
    std::string file = (size_t)i.file < files.size() ? files[(size_t)i.file] : "";
    char what[400];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    self.tid = {thread % b.size.x, thread / b.size.x % b.size.y, thread / (b.size.x * b.size.y)};
    self.bid = {b.number.x, b.number.y, b.number.z};
    hostgpu_self = &self;
    hostgpu_here().in_kernel = true;
    hostgpu_fail("ptxvm: %s [%s] at %s:%d", what, i.text->c_str(), file.substr(file.rfind('/') + 1).c_str(),
                 i.line);
}

/* Lanes for which the predicate holds. */
static uint32_t guarded(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    uint32_t result = 0;

    if (i.guard < 0)
        return lanes;
    const uint32_t *predicate = ptx_cells<uint32_t>(w, (uint32_t)i.guard);
    for (int l = 0; l < PTX_LANES; l++)
        result |= (uint32_t)((predicate[l] != 0) != i.unless) << l;
    return result & lanes;
}

static void stand(ptx_warp &w, uint32_t lanes, uint32_t pc)
{
    for (; lanes != 0; lanes &= lanes - 1)
        w.pc[__builtin_ctz(lanes)] = pc;
}

/* The lanes that a lane wants to meet. */
static uint32_t wanted(ptx_warp &w, const ptx_instruction &i, int lane)
{
    uint32_t mask = i.kind == PTX_MEET_ALL ? w.lanes : (uint32_t)ptx_value(w, i, i.count - 1, lane);

    if (!(mask >> lane & 1))
        ptx_fail(w, i, lane, "lane %d is not in its own mask %08x", lane, mask);
    if (mask & ~w.alive)
        ptx_fail(w, i, lane, "mask %08x names lanes %08x, which are not there or have left", mask,
                 mask & ~w.alive);
    return mask;
}

/* Executes a meeting when everybody has come; `lanes` stand at pc. */
static bool meet(ptx_warp &w, const ptx_instruction &i, uint32_t lanes, uint32_t pc)
{
    uint32_t mask = wanted(w, i, __builtin_ctz(lanes));

    for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
        int l = __builtin_ctz(rest);

        if (!((w.meeting | lanes) >> l & 1) || w.pc[l] != pc)
            return false;
        if (wanted(w, i, l) != mask)
            ptx_fail(w, i, l, "lanes that meet have different masks, %08x and %08x", mask, wanted(w, i, l));
    }
    i.run(w, i, mask);
    w.meeting &= ~mask;
    stand(w, mask, pc + 1);
    return true;
}

static void leave(ptx_warp &w, const ptx_instruction &i, uint32_t lanes)
{
    w.alive &= ~lanes;
    for (; lanes != 0; lanes &= lanes - 1)
        if (!w.copies[__builtin_ctz(lanes)].empty())
            ptx_fail(w, i, __builtin_ctz(lanes), "ends with cp.async copies that it has not waited for");
}

static uint32_t ready(const ptx_warp &w)
{
    return w.alive & ~w.at_barrier & ~w.meeting;
}

/* The group that is furthest back, and where the next one stands. */
static uint32_t choose(const ptx_warp &w, uint32_t *pc, uint32_t *next)
{
    uint32_t group = 0;

    *pc = *next = ~0u;
    for (uint32_t rest = ready(w); rest != 0; rest &= rest - 1) {
        int l = __builtin_ctz(rest);

        if (w.pc[l] < *pc) {
            *next = *pc;
            *pc = w.pc[l];
            group = 0;
        } else if (w.pc[l] > *pc && w.pc[l] < *next) {
            *next = w.pc[l];
        }
        group |= (uint32_t)(w.pc[l] == *pc) << l;
    }
    return group;
}

/* What ends the straight run of a group: true, and where everybody stands is in the warp. */
static bool turn(ptx_warp &w, const ptx_instruction &i, uint32_t group, uint32_t *pc)
{
    uint32_t lanes = guarded(w, i, group);

    if (lanes != group && i.kind != PTX_EXIT && i.kind != PTX_BRANCH) {
        if (i.kind != PTX_PLAIN && lanes != 0)
            ptx_fail(w, i, __builtin_ctz(lanes), "under a predicate that only some lanes have");
        ++*pc;
        return false;
    }
    switch (i.kind) {
    case PTX_BRANCH:
        if (lanes == group || lanes == 0) {
            *pc = lanes ? (uint32_t)i.target : *pc + 1;
            return false;
        }
        stand(w, lanes, (uint32_t)i.target);
        stand(w, group & ~lanes, *pc + 1);
        return true;
    case PTX_EXIT:
        leave(w, i, lanes);
        stand(w, group, *pc + 1);
        return true;
    case PTX_BARRIER:
        if (ptx_value(w, i, 0, __builtin_ctz(group)) != 0)
            ptx_fail(w, i, __builtin_ctz(group), "a barrier other than 0");
        stand(w, group, *pc);
        w.at_barrier |= group;
        return true;
    default:
        for (uint32_t rest = group; rest != 0; rest &= rest - 1)
            wanted(w, i, __builtin_ctz(rest));
        stand(w, group, *pc);
        if (!meet(w, i, group, *pc))
            w.meeting |= group;
        return true;
    }
}

struct module {
    std::string name;
    std::vector<std::unique_ptr<ptx_kernel>> kernels;
};

static std::vector<std::unique_ptr<module>> &modules(void)
{
    static auto *all = new std::vector<std::unique_ptr<module>>;
    return *all;
}

/* PTXVM_ELSEWHERE: kernels that other tests run. */
static bool elsewhere(const char *names, const std::string &name)
{
    return (" " + std::string(names) + " ").find(" " + name + " ") != std::string::npos;
}

/* What was run, and of the files that were used what was not, said at the end: where PTXVM_ELSEWHERE is
 * given, any other is a failure. */
static struct totals {
    unsigned long long instructions, blocks;
    std::set<const ptx_kernel *> kernels;
    ~totals()
    {
        const char *others = getenv("PTXVM_ELSEWHERE");
        bool whole = true;

        printf("ptxvm: %zu kernels in %llu blocks, %llu instructions of warps; not run:", kernels.size(),
               blocks, instructions);
        for (const auto &m : modules())
            for (const auto &k : m->kernels)
                if (kernels.count(k.get()) == 0) {
                    printf(" %s", k->name.c_str());
                    whole = whole && (!others || elsewhere(others, k->name));
                }
        printf("\n");
        if (!whole) {
            printf("ptxvm: kernels were not run that PTXVM_ELSEWHERE does not name\n");
            fflush(stdout);
            _exit(EXIT_NOT_RUN);
        }
    }
} totals;

/* Runs a warp for some instructions; false when it could not go on. */
static bool run_warp(ptx_warp &w, uint32_t slice)
{
    const ptx_instruction *code = w.block->kernel->code.data();
    bool moved = false;

    while (slice > 0) {
        uint32_t pc, next, group = choose(w, &pc, &next);

        if (group == 0)
            return moved;
        moved = true;
        for (;; slice -= slice > 0) {
            const ptx_instruction &i = code[pc];

            totals.instructions++;
            if (i.kind == PTX_PLAIN) {
                uint32_t lanes = guarded(w, i, group);

                if (lanes != 0)
                    i.run(w, i, lanes);
                pc++;
            } else if (turn(w, i, group, &pc)) {
                break;
            }
            if (pc >= next || slice == 0) {
                stand(w, group, pc);
                break;
            }
        }
    }
    return moved;
}

/* -- blocks ------------------------------------------------------------------------------------------------
 */

static int left(const ptx_block &b)
{
    int count = 0;

    for (const ptx_warp &w : b.warps)
        count += __builtin_popcount(w.lanes & ~w.alive);
    return count;
}

/* All threads stand at one barrier, or the block can go on no more. */
static void pass_barrier(ptx_block &b)
{
    const ptx_instruction *code = b.kernel->code.data();
    uint32_t at = ~0u;

    for (ptx_warp &w : b.warps)
        for (uint32_t rest = w.alive; rest != 0; rest &= rest - 1) {
            int l = __builtin_ctz(rest);
            const ptx_instruction &i = code[w.pc[l]];

            if (!(w.at_barrier >> l & 1))
                ptx_fail(w, i, l, "waits for lanes that never come");
            if (left(b) > 0)
                ptx_fail(w, i, l, "barrier after %d threads of the block have left", left(b));
            if (at != ~0u && w.pc[l] != at)
                ptx_fail(w, i, l, "threads wait at different barriers, this one and [%s] at line %d",
                         code[at].text->c_str(), code[at].line);
            at = w.pc[l];
        }
    for (ptx_warp &w : b.warps) {
        stand(w, w.alive, at + 1);
        w.at_barrier = 0;
    }
    b.barriers++;
}

static void run_block(ptx_block &b)
{
    std::vector<ptx_warp *> order;

    for (ptx_warp &w : b.warps)
        order.push_back(&w);
    for (;;) {
        bool moved = false, done = true;

        for (size_t i = order.size() - 1; i > 0; i--)
            std::swap(order[i], order[hostgpu_random((uint32_t)i + 1)]);
        for (ptx_warp *w : order)
            moved |= run_warp(*w, 1 + hostgpu_random(SLICE));
        for (const ptx_warp &w : b.warps)
            done &= w.alive == 0;
        if (done)
            return;
        if (!moved)
            pass_barrier(b);
    }
}

static void set_special(ptx_warp &w, enum ptx_special which, int lane, uint32_t value)
{
    ptx_cells<uint32_t>(w, (uint32_t)which * PTX_LANES * 4)[lane] = value;
}

static void start_warp(ptx_block &b, ptx_warp &w)
{
    w.alive = w.lanes;
    w.at_barrier = w.meeting = w.syncs = 0;
    stand(w, w.lanes, 0);
    for (int l = 0; l < PTX_LANES; l++) {
        uint32_t thread = w.first + (uint32_t)l;
        const uint32_t values[PTX_SPECIALS] = {thread % b.size.x,
                                               thread / b.size.x % b.size.y,
                                               thread / (b.size.x * b.size.y),
                                               b.size.x,
                                               b.size.y,
                                               b.size.z,
                                               b.number.x,
                                               b.number.y,
                                               b.number.z,
                                               b.grid.x,
                                               b.grid.y,
                                               b.grid.z,
                                               (uint32_t)l,
                                               (1u << l) - 1};

        for (int s = 0; s < PTX_SPECIALS; s++)
            set_special(w, (enum ptx_special)s, l, values[s]);
    }
}

static void start_block(ptx_block &b, uint32_t number, size_t dynamic)
{
    const ptx_kernel &k = *b.kernel;

    b.number = dim3(number % b.grid.x, number / b.grid.x % b.grid.y, number / (b.grid.x * b.grid.y));
    b.barriers++; /* of another block: ordered with everything here */
    memset(b.shared.data(), 0xff, b.shared.size());
    for (const ptx_parameter &v : k.variables)
        for (uint32_t n = 0; n < v.bytes; n += k.granule)
            b.granules[(v.offset + n) / k.granule].state = PTX_NEVER_WRITTEN;
    for (size_t n = 0; n < dynamic; n += k.granule)
        b.granules[(k.shared_end + n) / k.granule].state = PTX_NEVER_WRITTEN;
    for (ptx_warp &w : b.warps)
        start_warp(b, w);
}

/* The register files of all warps, constants in place. */
static std::vector<uint8_t> take_files(const ptx_kernel &k, size_t warps)
{
    std::vector<uint8_t> files;

    files.reserve(k.cells.size() * warps);
    for (size_t i = 0; i < warps; i++)
        files.insert(files.end(), k.cells.begin(), k.cells.end());
    return files;
}

static void run_kernel(const ptx_kernel &k, dim3 grid, dim3 size, size_t dynamic,
                       const std::vector<uint8_t> &parameters)
{
    uint32_t threads = size.x * size.y * size.z, blocks = grid.x * grid.y * grid.z;
    size_t warps = (threads + PTX_LANES - 1) / PTX_LANES;
    std::vector<uint8_t> files = take_files(k, warps);
    std::vector<uint32_t> order(blocks);
    ptx_block b = {};

    for (const ptx_instruction &i : k.code)
        i.from = i.to = 0;
    b.kernel = &k;
    b.grid = grid;
    b.size = size;
    b.parameters = &parameters;
    b.shared.resize(k.shared_end + dynamic);
    b.granules.resize(b.shared.size() / k.granule + 1);
    b.warps.resize(warps);
    for (size_t n = 0; n < warps; n++) {
        uint32_t rest = threads - (uint32_t)n * PTX_LANES;

        b.warps[n].file = files.data() + n * k.cells.size();
        b.warps[n].block = &b;
        b.warps[n].first = (uint32_t)n * PTX_LANES;
        b.warps[n].lanes = rest >= PTX_LANES ? ~0u : (1u << rest) - 1;
    }
    for (uint32_t n = 0; n < blocks; n++)
        order[n] = n;
    for (uint32_t n = blocks - 1; n > 0; n--)
        std::swap(order[n], order[hostgpu_random(n + 1)]);
    totals.kernels.insert(&k);
    totals.blocks += blocks;
    for (uint32_t number : order) {
        start_block(b, number, dynamic);
        run_block(b);
    }
}

/* -- launches ----------------------------------------------------------------------------------------------
 */

/* From the first folder of PTXVM_PATH that has the file for capability PTXVM_TARGET. */
static const module &find_module(const std::string &name)
{
    const char *folders = getenv("PTXVM_PATH"), *target = getenv("PTXVM_TARGET");

    for (const auto &m : modules())
        if (m->name == name)
            return *m;
    if (!folders || !target)
        hostgpu_fail("ptxvm: set PTXVM_PATH to the folders with %s.90.ptx, and PTXVM_TARGET to 90",
                     name.c_str());
    modules().push_back(std::make_unique<module>());
    module &m = *modules().back();
    m.name = name;
    for (std::string rest = folders; !rest.empty();) {
        size_t colon = std::min(rest.find(':'), rest.size());
        std::string path = rest.substr(0, colon) + "/" + name + "." + target + ".ptx";

        rest.erase(0, colon + 1);
        if (FILE *f = fopen(path.c_str(), "r")) {
            fclose(f);
            ptx_parse(m.kernels, path.c_str());
            return m;
        }
    }
    hostgpu_fail("ptxvm: no %s.%s.ptx in %s", name.c_str(), target, folders);
}

static std::vector<uint8_t> place_arguments(const ptx_kernel &k, const std::vector<std::string> &arguments)
{
    std::vector<uint8_t> room;

    if (arguments.size() != k.parameters.size())
        hostgpu_fail("ptxvm: %s has %zu parameters, the launch gives %zu", k.name.c_str(),
                     k.parameters.size(), arguments.size());
    for (size_t i = 0; i < arguments.size(); i++) {
        const ptx_parameter &p = k.parameters[i];

        if (arguments[i].size() != p.bytes)
            hostgpu_fail("ptxvm: parameter %zu of %s has %u bytes, the launch gives %zu", i, k.name.c_str(),
                         p.bytes, arguments[i].size());
        room.resize(p.offset + p.bytes);
        memcpy(&room[p.offset], arguments[i].data(), p.bytes);
    }
    return room;
}

cudaError_t ptxvm_launch(const char *file, const char *name, dim3 grid, dim3 block, size_t shared,
                         cudaStream_t stream, const std::vector<std::string> &arguments)
{
    std::string close;
    size_t bytes = shared;

    for (const char *c = name; *c; c++)
        close += *c == ' ' || *c == '(' || *c == ')' ? "" : std::string(1, *c);
    for (const auto &k : find_module(file).kernels) {
        if (k->name != close)
            continue;
        std::vector<uint8_t> parameters = place_arguments(*k, arguments);
        for (const ptx_parameter &v : k->variables)
            bytes += v.bytes;
        if (bytes > HOSTGPU_SHARED_BYTES || (size_t)block.x * block.y * block.z > k->most_threads)
            return cudaErrorInvalidValue;
        const ptx_kernel *kernel = k.get();
        return hostgpu_launch_whole(grid, block, shared, stream, kernel->name.c_str(),
                                    [=] { run_kernel(*kernel, grid, block, shared, parameters); });
    }
    hostgpu_fail("ptxvm: %s has no kernel %s", file, name);
}

extern "C" cudaError_t ptxvm_other_launch(dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                                          const char *name, const void *code, std::function<void()> body)
{
    (void)grid, (void)block, (void)shared, (void)stream, (void)code, (void)body;
    hostgpu_fail("ptxvm: %s is launched otherwise than by GPU_LAUNCH, which is all that is known here", name);
}
