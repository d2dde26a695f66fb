/* version.c - what --version prints: the program and what it was built with
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/version.h"

#include "kernels/cpu/cpu.h"
#include "launch/process.h"
#include "launch/topology.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>
#include <string.h>
#include <utf8proc.h>

static const char *compiler(void)
{
#ifdef __clang__
    return __VERSION__;
#else
    return "gcc " __VERSION__;
#endif
}

/* Paths that were compiled in; the best one that this machine has. */
static void print_backends(FILE *out)
{
#ifdef __x86_64__
    const enum cpu_path last = CPU_AVX512;
#else
    const enum cpu_path last = CPU_PORTABLE;
#endif

    fputs("backends   reference, cpu (", out);
    for (int path = CPU_PORTABLE; path <= (int)last; path++)
        fprintf(out, "%s%s", path == CPU_PORTABLE ? "" : ", ", cpu_path_name((enum cpu_path)path));
    fprintf(out, "; this machine: %s)\n", cpu_path_name(cpu_best_path()));
}

void version_print(FILE *out)
{
    char mpi[64];
    char pcre2[64] = "";

    process_library(mpi);
    pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    fprintf(out, "switchyard %s\ncompiler   %s\nmpi        %s\n", SWITCHYARD_VERSION, compiler(), mpi);
    fprintf(out, "libraries  hwloc %s, jansson %s, PCRE2 %.*s, utf8proc %s\n", topology_library(),
            jansson_version_str(), (int)strcspn(pcre2, " "), pcre2, utf8proc_version());
    print_backends(out);
    fputs("exchanges  alone, mpi, shared\ncuda       " SWITCHYARD_CUDA "\nnccl       " SWITCHYARD_NCCL "\n",
          out);
}
