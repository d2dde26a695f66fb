/* test_ptxvm.cpp - what the interpreter of PTX must find in kernels that are wrong, and let pass in right
 * ones
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Each kernel is a few lines of PTX for one block of 64 threads, run in a process of its own. %r1 is the
 * thread, %rd1 a buffer of 64 numbers of the device, %r2 the address of shared `room` plus four times the
 * thread. A thread that comes to the end leaves its number plus one in the buffer, so that a kernel which is
 * let pass has also run. */
#include "machine.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include <cmocka.h>
}

enum { THREADS = 64, REFUSED = 97 };

static const char FRAME[] =
    ".version 9.0\n.target sm_90\n.address_size 64\n"
    ".visible .entry work(\n.param .u64 work_param_0\n)\n.maxntid 64, 1, 1\n{\n"
    ".reg .pred %%p<8>;\n.reg .b32 %%r<16>;\n.reg .f32 %%f<8>;\n.reg .b64 %%rd<8>;\n"
    ".shared .align 16 .b8 room[256];\n.shared .align 2 .b8 odd[64];\n"
    "ld.param.u64 %%rd1, [work_param_0];\nmov.u32 %%r1, %%tid.x;\nshl.b32 %%r3, %%r1, 2;\n"
    "mov.u32 %%r2, room;\nadd.s32 %%r2, %%r2, %%r3;\n%s\n"
    "cvt.u64.u32 %%rd6, %%r3;\nadd.s64 %%rd7, %%rd1, %%rd6;\nadd.s32 %%r15, %%r1, 1;\n"
    "st.global.u32 [%%rd7], %%r15;\nret;\n}\n";

struct trial {
    const char *promise;
    const char *body;
    const char *words; /* of the message; NULL: the kernel is right */
};

#define STORE "st.shared.u32 [%r2], %r1;\n"
/* the number of the thread half a block away */
#define OTHER "xor.b32 %r4, %r3, 128;\nmov.u32 %r5, room;\nadd.s32 %r5, %r5, %r4;\n"
#define NEXT_LANE "xor.b32 %r4, %r3, 4;\nmov.u32 %r5, room;\nadd.s32 %r5, %r5, %r4;\n"
#define LOAD "ld.shared.u32 %r6, [%r5];\n"
#define BARRIER "bar.sync 0;\n"
#define COPY                                                                                                 \
    "mov.u32 %r7, room;\nshl.b32 %r8, %r1, 4;\nadd.s32 %r7, %r7, %r8;\nsetp.lt.u32 %p1, %r1, 16;\n"          \
    "cvt.u64.u32 %rd2, %r8;\nadd.s64 %rd3, %rd1, %rd2;\n"                                                    \
    "@%p1 cp.async.cg.shared.global [%r7], [%rd3], 16;\ncp.async.commit_group;\n"

static const struct trial trials[] = {
    {"a barrier orders warps", STORE BARRIER OTHER LOAD, nullptr},
    {"__syncwarp orders lanes", STORE "bar.warp.sync -1;\n" NEXT_LANE LOAD, nullptr},
    {"copies that were waited for", COPY "cp.async.wait_group 0;\n" BARRIER OTHER LOAD, nullptr},
    {"a shuffle among all lanes", "shfl.sync.bfly.b32 %r4|%p1, %r1, 1, 31, -1;\n", nullptr},
    {"lanes meet again after going apart",
     "and.b32 %r4, %r1, 1;\nsetp.eq.s32 %p1, %r4, 0;\n@%p1 bra $even;\nadd.s32 %r5, %r1, 1;\n$even:\n" BARRIER
     "vote.sync.ballot.b32 %r6, %p1, -1;\nsetp.ne.s32 %p2, %r6, 0x55555555;\n@%p2 st.global.u32 [%rd1+256], "
     "%r6;\n",
     nullptr},
    {"a read without a barrier", STORE BARRIER STORE OTHER LOAD, "race: "},
    {"a read without __syncwarp", STORE NEXT_LANE LOAD, "race: reads"},
    {"a write after a read without a barrier", STORE BARRIER OTHER LOAD STORE, "race: "},
    {"__syncwarp does not order warps", STORE BARRIER STORE "bar.warp.sync -1;\n" OTHER LOAD, "race: "},
    {"a read of what nobody wrote", OTHER LOAD, "which nobody has written"},
    {"shared memory that is not aligned", STORE BARRIER "mov.u32 %r5, odd;\nst.shared.u32 [%r5], %r1;\n",
     "is not aligned to 4"},
    {"global memory that is not aligned", "ld.global.u32 %r4, [%rd1+2];\n", "is not aligned to 4"},
    {"past the end of a shared variable", "st.shared.u32 [%r2+128], %r1;\n", "is no variable's"},
    {"past the end of an allocation", "ld.global.u32 %r4, [%rd1+256];\n", "not in memory of the device"},
    {"a copy read before the wait", COPY BARRIER OTHER LOAD, "before the cp.async to it has been waited for"},
    {"a copy that is left behind", COPY, "has not waited for"},
    {"a group not committed is not waited for",
     COPY "@%p1 cp.async.cg.shared.global [%r7], [%rd3], 16;\ncp.async.wait_group 0;\n", "waited for"},
    {"a mask that names a lane which has left",
     "setp.eq.s32 %p1, %r1, 5;\n@%p1 ret;\nshfl.sync.bfly.b32 %r4|%p2, %r1, 1, 31, -1;\n", "have left"},
    {"a lane outside its own mask", "shfl.sync.bfly.b32 %r4|%p1, %r1, 1, 31, 0x7fffffff;\n",
     "not in its own mask"},
    {"a shuffle from outside the mask",
     "setp.gt.u32 %p1, %r1, 15;\n@%p1 bra $end;\nshfl.sync.idx.b32 %r4|%p2, %r1, 20, 31, 0xffff;\n$end:\n",
     "which is not in the mask"},
    {"a barrier that some threads do not reach",
     "setp.eq.s32 %p1, %r1, 5;\n@%p1 bra $end;\n" BARRIER "$end:\n", "have left"},
    {"different barriers",
     "setp.lt.u32 %p1, %r1, 32;\n@%p1 bra $low;\n" BARRIER "bra $end;\n$low:\n" BARRIER "$end:\n",
     "different barriers"},
    {"division by zero", "div.s32 %r4, %r1, 0;\n", "division by zero"},
    {"an opcode that is not known", "fns.b32 %r4, %r1, 0, 1;\n", "unknown opcode: fns.b32"},
    {"a suffix that is not known", "add.sat.s32 %r4, %r1, 1;\n", "unknown opcode: add.sat.s32"},
    {"a special register that is not known", "mov.u32 %r4, %warpid;\n", "unknown operand: %warpid"},
    {"local memory", ".local .align 4 .b8 depot[8];\n", "unknown directive"},
};

/* In a process of its own, on the file in `folder`. Code 0: all threads came to the end. */
static void run(const char *folder)
{
    cudaStream_t stream;
    void *room, *seen;

    if (setenv("PTXVM_PATH", folder, 1) != 0 || setenv("PTXVM_TARGET", "90", 1) != 0 ||
        cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess ||
        cudaMalloc(&room, THREADS * 4) != cudaSuccess || cudaMallocHost(&seen, THREADS * 4) != cudaSuccess ||
        cudaMemsetAsync(room, 0, THREADS * 4, stream) != cudaSuccess ||
        ptxvm_launch("trial", "work", 1, THREADS, 0, stream, {ptxvm_bytes(room)}) != cudaSuccess ||
        cudaMemcpyAsync(seen, room, THREADS * 4, cudaMemcpyDeviceToHost, stream) != cudaSuccess ||
        cudaStreamSynchronize(stream) != cudaSuccess)
        _exit(1);
    for (int i = 0; i < THREADS; i++)
        if (static_cast<const int *>(seen)[i] != i + 1)
            _exit(2);
    _exit(0);
}

/* The kernel as a file in a folder of its own. */
static void write_kernel(const char *body, char folder[PATH_MAX], char path[PATH_MAX + 16])
{
    const char *where = getenv("TMPDIR");

    assert_true(snprintf(folder, PATH_MAX, "%s/ptxvm-XXXXXX", where && *where ? where : "/tmp") < PATH_MAX);
    assert_non_null(mkdtemp(folder));
    snprintf(path, PATH_MAX + 16, "%s/trial.90.ptx", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fprintf(f, FRAME, body) > 0);
    assert_int_equal(fclose(f), 0);
}

static void check(void **state)
{
    const struct trial *t = static_cast<const struct trial *>(*state);
    char said[4096] = "", folder[PATH_MAX], path[PATH_MAX + 16];
    size_t length = 0;
    int ends[2], status;

    write_kernel(t->body, folder, path);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        run(folder);
    }
    close(ends[1]);
    for (ssize_t n;
         length < sizeof said - 1 && (n = read(ends[0], said + length, sizeof said - 1 - length)) > 0;)
        length += (size_t)n;
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != (t->words ? REFUSED : 0) ||
        (t->words && !strstr(said, t->words)))
        fail_msg("status %#x, wanted \"%s\": %s", (unsigned)status, t->words ? t->words : "nothing", said);
}

int main(void)
{
    const size_t count = sizeof trials / sizeof *trials;
    static struct CMUnitTest tests[sizeof trials / sizeof *trials];

    for (size_t i = 0; i < count; i++)
        tests[i] = {trials[i].promise, check, nullptr, nullptr, const_cast<struct trial *>(&trials[i])};
    return cmocka_run_group_tests_name("ptxvm", tests, nullptr, nullptr);
}
