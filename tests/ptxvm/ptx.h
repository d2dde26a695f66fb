/* ptx.h - PTX as it is run: kernels, instructions, warps
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A warp runs in lock-step as far as its lanes agree where to go. Its registers are a file of *cells*: 32
 * values of 32 or 64 bits, one for each lane. Special registers and constants are cells too, so every operand
 * is the place of cells in the file. */
#ifndef PTX_H
#define PTX_H

#include "tests/hostgpu/hostgpu.h"

#include <memory>
#include <string>
#include <vector>

enum { PTX_LANES = 32, PTX_OPERANDS = 18, PTX_DYNAMIC = 1 << 20 /* where dynamic shared memory begins */ };

/* Addresses of shared memory are small numbers; the generic address of a shared byte is this much more. */
static const uint64_t PTX_SHARED_WINDOW = 1ull << 40;

struct ptx_warp;
struct ptx_instruction;
using ptx_run = void(ptx_warp &w, const ptx_instruction &i, uint32_t lanes);

/* How an instruction takes part in the order of its warp. */
enum ptx_kind {
    PTX_PLAIN,
    PTX_BRANCH,
    PTX_EXIT,
    PTX_BARRIER, /* of the block */
    PTX_MEET,    /* the lanes of a mask, the last operand, come together */
    PTX_MEET_ALL /* all lanes of the warp do */
};

enum ptx_space { PTX_GENERIC, PTX_GLOBAL, PTX_SHARED, PTX_PARAMETER };

/* What an access to memory is: `count` elements of `bytes`. */
struct ptx_access {
    uint8_t bytes, count;
    bool sign; /* extends its sign into a wider register */
    enum ptx_space space;
};

struct ptx_instruction {
    ptx_run *run;
    enum ptx_kind kind;
    struct ptx_access access;
    uint32_t at[PTX_OPERANDS]; /* places of cells, operands in order, those in braces one by one */
    uint32_t wide;             /* bit n: operand n has 64 bits */
    int64_t displacement;      /* of the address */
    int count;                 /* operands */
    int guard;                 /* cells of the predicate; -1: none */
    bool unless;
    int target;     /* of a branch */
    int line, file; /* in the source, as .loc says */
    const std::string *text;
    mutable uint64_t from, to; /* the allocation that it accessed last; forgotten when a kernel begins */
};

struct ptx_parameter {
    uint32_t offset, bytes;
};

struct ptx_kernel {
    std::string name; /* as the source says it: attend<8> */
    std::vector<ptx_instruction> code;
    std::vector<ptx_parameter> parameters;
    std::vector<uint8_t> cells; /* a warp's file at its start: constants, everything else a pattern */
    std::vector<ptx_parameter> variables; /* in shared memory */
    uint32_t shared_end;                  /* behind the last of them */
    uint32_t dynamic;                     /* where dynamic shared memory begins; 0: not used */
    uint32_t most_threads;                /* .maxntid; 0: not said */
    uint32_t granule;                     /* bytes of the smallest access to shared memory */
    std::vector<std::string> files;       /* by the number in .loc */
    std::vector<std::unique_ptr<std::string>> texts;
};

/* Special registers stand first in the file. */
enum ptx_special {
    PTX_TID_X,
    PTX_TID_Y,
    PTX_TID_Z,
    PTX_NTID_X,
    PTX_NTID_Y,
    PTX_NTID_Z,
    PTX_CTAID_X,
    PTX_CTAID_Y,
    PTX_CTAID_Z,
    PTX_NCTAID_X,
    PTX_NCTAID_Y,
    PTX_NCTAID_Z,
    PTX_LANEID,
    PTX_LANEMASK_LT,
    PTX_SPECIALS
};

/* One 16-byte (or smaller) copy that has been asked for. */
struct ptx_copy {
    uint64_t to, from;
    uint32_t bytes;
};

struct ptx_block;
struct ptx_warp {
    uint8_t *file;
    ptx_block *block;
    uint32_t first;                      /* thread of lane 0 */
    uint32_t lanes;                      /* that exist */
    uint32_t alive, at_barrier, meeting; /* lanes; meeting: stand at a PTX_MEET and wait for others */
    uint32_t pc[PTX_LANES];
    uint32_t syncs; /* how many bar.warp.sync of all lanes have passed */
    std::vector<ptx_copy> copies[PTX_LANES];
    std::vector<size_t> groups[PTX_LANES]; /* how many of `copies` belong to the groups up to here */
};

/* When and by whom a granule of shared memory was accessed. */
struct ptx_stamp {
    uint32_t barrier; /* barriers of the block that had passed, counted over all blocks of the launch */
    uint32_t thread : 10, sync : 22;
};

struct ptx_granule {
    ptx_stamp writer, reader[2];
    uint8_t state;                      /* enum ptx_state */
    bool written, was_read, read_twice; /* which stamps mean something */
};

enum ptx_state { PTX_NOT_THERE, PTX_NEVER_WRITTEN, PTX_WRITTEN, PTX_IN_FLIGHT };

struct ptx_block {
    const ptx_kernel *kernel;
    dim3 grid, size, number;
    const std::vector<uint8_t> *parameters;
    std::vector<uint8_t> shared;
    std::vector<ptx_granule> granules;
    std::vector<ptx_warp> warps;
    uint32_t barriers;
};

template <class T> static inline T *ptx_cells(ptx_warp &w, uint32_t at)
{
    return reinterpret_cast<T *>(w.file + at);
}

/* An operand of one lane, of either width. */
static inline uint64_t ptx_value(ptx_warp &w, const ptx_instruction &i, int operand, int lane)
{
    return i.wide >> operand & 1 ? ptx_cells<uint64_t>(w, i.at[operand])[lane]
                                 : ptx_cells<uint32_t>(w, i.at[operand])[lane];
}

/* -- parse.cpp --------------------------------------------------------------------------------------------
 */

/* Adds the kernels of a file. What it does not know ends the process, by name. */
void ptx_parse(std::vector<std::unique_ptr<ptx_kernel>> &to, const char *path);

/* -- opcodes.cpp ------------------------------------------------------------------------------------------
 */

/* What is known of an opcode with all its suffixes. `operands` has a letter for each: w cells of 32 bits, d
 * of 64, x of either, m an address, l a label, q a destination of 32 bits with or without "|predicate" behind
 * it (then two operands); 2 or 4 before a letter: as many in braces. */
struct ptx_opcode {
    const char *operands;
    ptx_run *run;
    enum ptx_kind kind;
    struct ptx_access access;
};

/* The forms of an opcode; none: unknown. */
const std::vector<ptx_opcode> *ptx_opcode_forms(const std::string &name);
void ptx_opcode_add(const std::string &name, ptx_opcode form);

void ptx_integer_register(void); /* integer.cpp */
void ptx_float_register(void);   /* float.cpp */
void ptx_access_register(void);  /* access.cpp */
void ptx_warp_register(void);    /* warp.cpp */

/* -- shared.cpp -------------------------------------------------------------------------------------------
 */

/* The bytes of a shared access by one lane, after every check. */
uint8_t *ptx_shared_access(ptx_warp &w, const ptx_instruction &i, int lane, uint64_t address, uint32_t bytes,
                           bool write);
void ptx_copy_issue(ptx_warp &w, const ptx_instruction &i, int lane, ptx_copy copy);
void ptx_copy_commit(ptx_warp &w, int lane);
/* All but the newest `keep` groups; ~0 with `all`: also what was never committed. */
void ptx_copy_wait(ptx_warp &w, const ptx_instruction &i, int lane, size_t keep);

/* -- machine.cpp ------------------------------------------------------------------------------------------
 */

/* Ends the process: kernel, block, thread, instruction, source line, and what is wrong. */
void ptx_fail(const ptx_warp &w, const ptx_instruction &i, int lane, const char *format, ...)
    __attribute__((noreturn, format(printf, 4, 5)));

#endif
