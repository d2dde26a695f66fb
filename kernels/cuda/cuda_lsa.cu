/* cuda_lsa.cu - kernels that store rows straight into the windows of other ranks, and wait for those of
 * others
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The device counts exchanges itself, as the arguments of a recorded step stay what they were; the host says
 * which place of every window rows go to, and takes the three places in turn. No barrier is needed before one
 * is written again. A source writes a place for exchange n + 3 in its push of n + 3, which its stream runs
 * after its wait of n + 2. That wait saw the flags that the receiver raised in its push of n + 2, which the
 * receiver's stream ran after all that was queued before it: its wait of n, and whatever read the rows of n
 * up to its call of n + 2.
 *
 * Exchanges may go on a second stream, beside work on the first, which reads the rows; halves of a step do.
 * Each begins behind an event of the first stream, recorded at its call, and ends with an event that the
 * first stream waits for before rows are read. None is queued on the first stream before all have ended,
 * which comm_nccl_lsa.c sees to. So wherever they are queued, a rank's exchanges run one after the other by
 * their numbers, each behind all that the first stream had been given at its call: that is what the argument
 * above takes of "its stream". It holds for both halves together, which take the places in one turn: rows of
 * each are read before its results leave, the second next call, and results before the second call of the
 * next layer. What goes behind less than the first stream had been given is not stored, but goes by NCCL.
 *
 * No wait can be for itself: a push or a wait is behind nothing but what its rank queued before it, and a
 * wait ends with the pushes of the same number, which the ranks queue in one order.
 *
 * A recorded step goes to the places whose turn it was when it was recorded, whatever ran before it. So the
 * first exchange of a recording, and the first one behind a launch, comes after a meeting: an exchange m of
 * no rows. Whoever has waited for m has seen the flags that the others raised in their push of m, behind all
 * that read rows of exchanges before m: those of a recorded step are read in it, others before the next one.
 * So behind m the places are free, in whatever order, and from there on they are taken in turn again.
 *
 * Flags have three places too, by the number of the exchange, meetings counted, whichever place its rows
 * have: so one is not raised for n + 3 before it was read for n, by the argument above. A flag holds the
 * number, 16 bits of it, and how many words each rank sends, likewise. Numbers wrap around: what stands in a
 * flag before its turn is of the exchange three numbers before, and the zeros at the start are of no exchange
 * as long as the first number is not a multiple of 2^16. */
#include "kernels/cuda/cuda_launch.h"
#include "kernels/cuda/gpu.cuh"

enum { THREADS = 256, POLL_NANOSECONDS = 100 };

static __device__ __forceinline__ uint32_t flag_word(uint64_t number, size_t bytes)
{
    return ((uint32_t)number & 0xffffu) << 16 | ((uint32_t)(bytes / 4) & 0xffffu);
}

/* The flags [ranks, chunks] of an exchange in a window. */
static __device__ __forceinline__ uint32_t *flags_of(const struct cuda_lsa &lsa, char *window,
                                                     uint64_t number)
{
    size_t turn = (size_t)(number % CUDA_LSA_PLACES);

    return reinterpret_cast<uint32_t *>(window + CUDA_LSA_PLACES * lsa.place) +
           turn * (size_t)lsa.ranks * CUDA_LSA_CHUNKS;
}

/* A block for each chunk of what goes to each rank; all its threads store, then one raises the flag. `unit`
 * is as wide as the rows' alignment allows. */
template <class unit>
static __global__ __launch_bounds__(THREADS) void lsa_push(struct cuda_lsa lsa, const unit *rows,
                                                           size_t units, int turn)
{
    uint64_t number = *lsa.number;
    size_t to = blockIdx.y, chunk = blockIdx.x;
    size_t begin = units * chunk / CUDA_LSA_CHUNKS, end = units * (chunk + 1) / CUDA_LSA_CHUNKS;
    char *window = lsa.window[to];
    unit *out = reinterpret_cast<unit *>(window + (size_t)turn * lsa.place) + (size_t)lsa.rank * units;
    const unit *in = rows + to * units;

    for (size_t i = begin + threadIdx.x; i < end; i += blockDim.x)
        out[i] = in[i];
    __syncthreads();
    if (threadIdx.x == 0)
        st_release_sys(flags_of(lsa, window, number) + (size_t)lsa.rank * CUDA_LSA_CHUNKS + chunk,
                       flag_word(number, units * sizeof(unit)));
}

/* The flag when it is that of the exchange, or any when it was given up, now or before. */
static __device__ __forceinline__ uint32_t wait_longer(const uint32_t *flag, uint32_t wanted,
                                                       const struct cuda_lsa_patience &patience,
                                                       volatile int32_t *state)
{
    uint64_t since = device_nanoseconds();
    uint32_t word = ~wanted;
    int32_t told = *state;

    while (told < CUDA_LSA_MISSING && (word = ld_acquire_sys(flag)) >> 16 != wanted >> 16) {
        uint64_t waited = device_nanoseconds() - since;
        int32_t now = waited > patience.most   ? CUDA_LSA_MISSING
                      : waited > patience.late ? CUDA_LSA_LATE
                                               : CUDA_LSA_WELL;

        if (now > told)
            *state = told = now;
        __nanosleep(POLL_NANOSECONDS);
    }
    if (told == CUDA_LSA_LATE)
        *state = CUDA_LSA_WELL;
    return word;
}

/* One block, a lane for each flag of this rank's window; when all are raised the exchange is over. */
static __global__ __launch_bounds__(THREADS) void lsa_wait(struct cuda_lsa lsa, size_t bytes,
                                                           struct cuda_lsa_patience patience,
                                                           volatile int32_t *state)
{
    uint64_t number = *lsa.number;
    const uint32_t *flags = flags_of(lsa, lsa.window[lsa.rank], number);
    uint32_t wanted = flag_word(number, bytes), word;

    for (int i = (int)threadIdx.x; i < lsa.ranks * CUDA_LSA_CHUNKS; i += (int)blockDim.x) {
        word = ld_acquire_sys(flags + i);
        if (word >> 16 != wanted >> 16)
            word = wait_longer(flags + i, wanted, patience, state + i);
        if (word >> 16 == wanted >> 16 && word != wanted)
            state[i] = CUDA_LSA_OTHER_SIZE;
    }
    __syncthreads();
    if (threadIdx.x == 0)
        *lsa.number = number + 1;
}

cudaError_t cuda_lsa_load(void)
{
    return gpu_load(lsa_push<uint4>, lsa_push<unsigned int>, lsa_wait);
}

cudaError_t cuda_lsa_push(struct cuda_lsa lsa, const void *rows, size_t bytes, int turn, cudaStream_t s)
{
    dim3 grid(CUDA_LSA_CHUNKS, (unsigned)lsa.ranks);

    if (bytes % sizeof(uint4) == 0)
        return GPU_LAUNCH(lsa_push<uint4>, grid, THREADS, 0, s, lsa, static_cast<const uint4 *>(rows),
                          bytes / sizeof(uint4), turn);
    return GPU_LAUNCH(lsa_push<unsigned int>, grid, THREADS, 0, s, lsa,
                      static_cast<const unsigned int *>(rows), bytes / sizeof(unsigned int), turn);
}

cudaError_t cuda_lsa_wait(struct cuda_lsa lsa, size_t bytes, struct cuda_lsa_patience patience,
                          volatile int32_t *state, cudaStream_t s)
{
    return GPU_LAUNCH(lsa_wait, 1, THREADS, 0, s, lsa, bytes, patience, state);
}

cudaError_t cuda_lsa_meet(struct cuda_lsa lsa, struct cuda_lsa_patience patience, volatile int32_t *state,
                          cudaStream_t s)
{
    cudaError_t error = cuda_lsa_push(lsa, nullptr, 0, 0, s);

    return error == cudaSuccess ? cuda_lsa_wait(lsa, 0, patience, state, s) : error;
}
