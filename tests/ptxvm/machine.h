/* machine.h - kernels by their names: what GPU_LAUNCH is where PTX is run
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A .cu file is compiled as C++ for its launchers alone: its kernels are compiled too, and never run. */
#ifndef MACHINE_H
#define MACHINE_H

/* Nothing may run as C++ here. */
#define hostgpu_launch ptxvm_other_launch
#include "tests/hostgpu/hostgpu.h"

#include <string>
#include <vector>

/* Queues the kernel `name` of file.cu with the bytes of its arguments. */
cudaError_t ptxvm_launch(const char *file, const char *name, dim3 grid, dim3 block, size_t shared,
                         cudaStream_t stream, const std::vector<std::string> &arguments);

template <class T> static inline std::string ptxvm_bytes(T value)
{
    return std::string(reinterpret_cast<const char *>(&value), sizeof value);
}

template <class... P, class... A>
static inline cudaError_t ptxvm_call(const char *file, const char *name, void (*kernel)(P...), dim3 grid,
                                     dim3 block, size_t shared, cudaStream_t stream, A... arguments)
{
    (void)kernel;
    return ptxvm_launch(file, name, grid, block, shared, stream,
                        {ptxvm_bytes<P>(static_cast<P>(arguments))...});
}
#undef GPU_LAUNCH
#define GPU_LAUNCH(kernel, ...) ptxvm_call(PTXVM_FILE, #kernel, kernel, __VA_ARGS__)

#endif
