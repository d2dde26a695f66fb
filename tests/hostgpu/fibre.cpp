/* fibre.cpp - one CUDA thread as a fibre: a stack of its own, switched by hand
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "fibre.h"

#include <stdlib.h>
#include <sys/mman.h>

#include <vector>

#if !defined(__x86_64__)
#error "hostgpu switches fibres in x86-64 assembly; another processor needs its own hostgpu_switch"
#endif

/* AddressSanitizer must know of stacks that it did not make. */
extern "C" {
__attribute__((weak)) void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t bytes);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void *save, const void **bottom, size_t *bytes);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void *at, size_t bytes);
}

extern "C" void hostgpu_switch(void **save, void *to);
/* Saves the registers that a call keeps, changes the stack, restores them. */
asm(R"(
.text
.globl hostgpu_switch
.hidden hostgpu_switch
.type hostgpu_switch,@function
hostgpu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size hostgpu_switch,.-hostgpu_switch
)");

enum { PAGE = 4096, SAVED_REGISTERS = 6 };

/* Of the side that resumes; only one thread drives the device at a time. */
static void *driver_pointer;
static void *driver_sanitizer;
static const void *driver_bottom;
static size_t driver_bytes;

static std::vector<char *> &spare_stacks(void)
{
    static auto *stacks = new std::vector<char *>; /* never destroyed: the device thread may outlive main */
    return *stacks;
}

static char *take_stack(void)
{
    if (spare_stacks().empty()) {
        void *memory = mmap(nullptr, FIBRE_STACK_BYTES + PAGE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (memory == MAP_FAILED)
            abort();
        mprotect(memory, PAGE, PROT_NONE);
        return (char *)memory + PAGE;
    }
    char *stack = spare_stacks().back();
    spare_stacks().pop_back();
    return stack;
}

void fibre_start(struct fibre_stack *f, void (*entry)(void))
{
    f->memory = take_stack();
    f->sanitizer = nullptr;
    if (__asan_unpoison_memory_region)
        __asan_unpoison_memory_region(f->memory, FIBRE_STACK_BYTES);

    void **top = (void **)(f->memory + FIBRE_STACK_BYTES);
    *--top = nullptr; /* the entry finds the stack pointer at 8 mod 16, as after a call */
    *--top = (void *)entry;
    for (int i = 0; i < SAVED_REGISTERS; i++)
        *--top = nullptr;
    f->pointer = top;
}

void fibre_resume(struct fibre_stack *f)
{
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(&driver_sanitizer, f->memory, FIBRE_STACK_BYTES);
    hostgpu_switch(&driver_pointer, f->pointer);
    if (__sanitizer_finish_switch_fiber)
        __sanitizer_finish_switch_fiber(driver_sanitizer, nullptr, nullptr);
}

static void to_driver(struct fibre_stack *f, void **save)
{
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(save, driver_bottom, driver_bytes);
    hostgpu_switch(&f->pointer, driver_pointer);
    if (__sanitizer_finish_switch_fiber)
        __sanitizer_finish_switch_fiber(f->sanitizer, &driver_bottom, &driver_bytes);
}

void fibre_entered(void)
{
    if (__sanitizer_finish_switch_fiber)
        __sanitizer_finish_switch_fiber(nullptr, &driver_bottom, &driver_bytes);
}

void fibre_pause(struct fibre_stack *f)
{
    to_driver(f, &f->sanitizer);
}

void fibre_leave(struct fibre_stack *f)
{
    to_driver(f, nullptr);
    abort(); /* nobody resumes a fibre that has left */
}

void fibre_end(struct fibre_stack *f)
{
    spare_stacks().push_back(f->memory);
    f->memory = nullptr;
}
