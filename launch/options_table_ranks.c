/* options_table_ranks.c - options: how the work is laid over ranks and processors
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_table.h"

#include "comm/comm_device.h"
#include "comm/dispatch.h"

static const struct options_word backends[] = {{"auto", OPTIONS_BACKEND_AUTO},
                                               {"reference", OPTIONS_BACKEND_REFERENCE},
                                               {"cpu", OPTIONS_BACKEND_CPU},
                                               {"cuda", OPTIONS_BACKEND_CUDA},
                                               {NULL, 0}};
static const struct options_word paths[] = {{"auto", OPTIONS_PATH_AUTO},
                                            {"portable", OPTIONS_PATH_PORTABLE},
                                            {"avx2", OPTIONS_PATH_AVX2},
                                            {"avx512", OPTIONS_PATH_AVX512},
                                            {NULL, 0}};
static const struct options_word caches[] = {
    {"auto", OPTIONS_CACHE_AUTO}, {"bfloat16", OPTIONS_CACHE_BFLOAT16}, {NULL, 0}};
static const struct options_word comms[] = {
    {"auto", OPTIONS_COMM_AUTO}, {"mpi", OPTIONS_COMM_MPI}, {"shared", OPTIONS_COMM_SHARED}, {NULL, 0}};

static const struct options_word exchanges[] = {
    {"auto", COMM_DEVICE_AUTO}, {"nccl", COMM_DEVICE_NCCL}, {"host", COMM_DEVICE_HOST}, {NULL, 0}};

static const struct options_word dispatches[] = {{"auto", DISPATCH_AUTO},
                                                 {"direct", DISPATCH_DIRECT},
                                                 {"node-once", DISPATCH_NODE_ONCE},
                                                 {"lsa", DISPATCH_LSA},
                                                 {NULL, 0}};

static const struct options_row rows[] = {
    {.name = "tensor-parallel-size",
     .also = "tp",
     .value = "T",
     .type = OPTIONS_WHOLE,
     .least = 1,
     .most = 65536,
     .preset = "1",
     .field = OPTIONS_FIELD(tensor_parallel_size),
     .commands = OPTIONS_PLANNING,
     .help = "ranks that share the attention of a request; P ranks form P / T data groups"},
    {.name = "expert-parallel-size",
     .value = "E",
     .type = OPTIONS_WHOLE,
     .least = 1,
     .most = 65536,
     .unset = "all ranks",
     .field = OPTIONS_FIELD(expert_parallel_size),
     .commands = OPTIONS_PLANNING,
     .help = "ranks that share one copy of the experts; P ranks hold P / E copies"},
    {.name = "comm",
     .value = "auto|mpi|shared",
     .type = OPTIONS_WORD,
     .words = comms,
     .preset = "auto",
     .field = OPTIONS_FIELD(comm),
     .commands = OPTIONS_PLANNING | OPTIONS_COMPUTING,
     .help = "how ranks exchange rows; auto: shared memory where a node has several ranks, MPI elsewhere"},
    {.name = "backend",
     .value = "auto|reference|cpu|cuda",
     .type = OPTIONS_WORD,
     .words = backends,
     .preset = "auto",
     .field = OPTIONS_FIELD(backend),
     .commands = OPTIONS_PLANNING | OPTIONS_COMPUTING,
     .help =
         "what computes; reference: plain C in single precision, the slow definition of right; cuda: one GPU "
         "for each rank; auto: cuda where every rank has a GPU, else cpu"},
    {.name = "device-exchange",
     .value = "auto|nccl|host",
     .type = OPTIONS_WORD,
     .words = exchanges,
     .preset = "auto",
     .field = OPTIONS_FIELD(device_exchange),
     .commands = OPTIONS_COMPUTING,
     .help = "how rows go from GPU to GPU; nccl: by NCCL; host: through pinned host memory and --comm, for "
             "machines where NCCL does not work; auto: nccl where the build has it"},
    {.name = "dispatch",
     .value = "auto|direct|node-once|lsa",
     .type = OPTIONS_WORD,
     .words = dispatches,
     .preset = "auto",
     .field = OPTIONS_FIELD(dispatch),
     .commands = OPTIONS_PLANNING,
     .help =
         "how rows go to their experts; direct: each to every rank that holds one; node-once: once to "
         "each node that holds one, and copied there; lsa: direct, and in small steps stored straight into "
         "the memory of the other GPUs, which all must be joined by NVLink (never yet run on a real one); "
         "auto: node-once where ranks stand on several nodes and a token has several experts, never lsa"},
    {.name = "node-size",
     .value = "N",
     .type = OPTIONS_WHOLE,
     .least = 1,
     .most = 65536,
     .unset = "the ranks of a machine",
     .field = OPTIONS_FIELD(node_size),
     .commands = OPTIONS_PLANNING,
     .help =
         "consecutive ranks that count as a node, where rows between nodes are what costs: half a machine, "
         "or several machines whose GPUs are joined"},
    {.name = "enforce-eager",
     .type = OPTIONS_FLAG,
     .field = OPTIONS_FIELD(enforce_eager),
     .commands = OPTIONS_LOADING,
     .help = "cuda: queue every kernel and exchange of every step; without it the layers of steps that only "
             "decode are "
             "recorded as CUDA graphs, up to 32, and replayed; answers are the same bytes"},
    {.name = "enable-dbo",
     .type = OPTIONS_FLAG,
     .field = OPTIONS_FIELD(enable_dbo),
     .commands = OPTIONS_PLANNING,
     .help = "cuda: dual batch overlap; rows go to experts in two halves, and those of the one "
             "travel while experts multiply the other's; answers are the same bytes"},
    {.name = "cuda-module",
     .value = "FILE",
     .type = OPTIONS_STRING,
     .unset = "switchyard-cuda.so beside the program or where it is installed",
     .local = true,
     .field = OPTIONS_FIELD(cuda_module),
     .commands = OPTIONS_PLANNING | OPTIONS_COMPUTING,
     .help = "the module that holds the cuda backend"},
    {.name = "exact",
     .type = OPTIONS_FLAG,
     .field = OPTIONS_FIELD(exact),
     .commands = OPTIONS_PLANNING,
     .help =
         "cuda: our own products instead of cuBLAS, so that the bytes of an answer do not depend on what is "
         "computed beside it, as they never do with the backends reference and cpu; prompts take longer"},
    {.name = "separate-allocations",
     .type = OPTIONS_FLAG,
     .field = OPTIONS_FIELD(separate_allocations),
     .commands = OPTIONS_LOADING,
     .help =
         "cuda: every piece of memory is an allocation of its own instead of a part of one, so that tools "
         "such as compute-sanitizer see what runs past its end; for finding faults"},
    {.name = "cpu-path",
     .value = "auto|portable|avx2|avx512",
     .type = OPTIONS_WORD,
     .words = paths,
     .preset = "auto",
     .field = OPTIONS_FIELD(cpu_path),
     .commands = OPTIONS_COMPUTING,
     .help = "force a lesser instruction path than the best that all ranks have; paths differ in the last "
             "bits of a sum"},
    {.name = "kv-cache-dtype",
     .value = "auto|bfloat16",
     .type = OPTIONS_WORD,
     .words = caches,
     .preset = "auto",
     .field = OPTIONS_FIELD(kv_cache_dtype),
     .commands = OPTIONS_LOADING,
     .help =
         "numbers that keys and values are kept as; auto: float32 with the backend reference, bfloat16 "
         "with the others, whose tokens can be compared with those of a reference that rounds as they do"},
    {.name = "threads",
     .letter = 't',
     .value = "N",
     .type = OPTIONS_WHOLE,
     .least = 1,
     .most = 1024,
     .local = true,
     .unset = "the rank's share of the processors",
     .field = OPTIONS_FIELD(threads),
     .commands = OPTIONS_COMPUTING,
     .help = "threads of each rank"},
};

const struct options_section options_table_ranks = {"Ranks and processors", rows,
                                                    sizeof rows / sizeof rows[0]};
