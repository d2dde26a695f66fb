/* cuda_rows.cu - kernels that turn each row by itself: embed, norm, rotate, move and add rows
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * One block for each row. Sums over a row run in an order that depends on the row's width alone. */
#include "kernels/cuda/cuda_launch.h"
#include "kernels/cuda/gpu.cuh"

enum { THREADS = 128, WARPS = THREADS / 32 };

/* The rows of a matrix as kernels take them. */
struct rows {
    float *data;
    int columns, stride;
};

static struct rows rows_of(struct matrix m)
{
    return {m.data, m.columns, m.stride};
}

static __device__ __forceinline__ float *row_at(struct rows m, int row)
{
    return m.data + (size_t)row * m.stride;
}

static __device__ __forceinline__ float from_bits(uint16_t bits)
{
    return __uint_as_float((uint32_t)bits << 16);
}

/* The sum over the block, known to all of it; `room` [WARPS] is free again after the next barrier. */
static __device__ float block_sum(float v, float *room)
{
    float total = 0.0f;

    v = warp_sum(v);
    if (lane_id() == 0)
        room[threadIdx.x / 32] = v;
    __syncthreads();
    for (int w = 0; w < WARPS; w++)
        total += room[w];
    __syncthreads();
    return total;
}

static __global__ __launch_bounds__(THREADS) void embed(struct rows out, struct cuda_weight w,
                                                        const int32_t *tokens, int first_token)
{
    size_t row = (size_t)(tokens[blockIdx.x] - first_token);
    const uint16_t *from = w.data + row * w.stride;
    const uint8_t *codes = reinterpret_cast<const uint8_t *>(w.data) + row * w.stride;
    const float *scale = w.scale + row * w.scales;
    float *to = row_at(out, blockIdx.x);

    for (int i = threadIdx.x; w.scale && i < out.columns; i += THREADS)
        to[i] = from_bits(bf16_of_e4m3(codes[i])) * scale[i / SCALE_INPUTS];
    for (int i = threadIdx.x; !w.scale && i < out.columns; i += THREADS)
        to[i] = from_bits(from[i]) + (w.plane ? from_bits(from[w.plane + i]) : 0.0f);
}

static __global__ __launch_bounds__(THREADS) void rms_norm(struct rows out, struct rows x, const float *gain,
                                                           float epsilon)
{
    SHARED_VAR(room, float[WARPS]);
    const float *from = row_at(x, blockIdx.x);
    float *to = row_at(out, blockIdx.x);
    float sum = 0.0f;

    for (int i = threadIdx.x; i < x.columns; i += THREADS)
        sum = fmaf(from[i], from[i], sum);
    sum = block_sum(sum, room);
    float scale = 1.0f / sqrtf(sum / (float)x.columns + epsilon);
    for (int i = threadIdx.x; i < x.columns; i += THREADS)
        to[i] = gain ? from[i] * scale * gain[i] : from[i] * scale;
}

/* A warp for each head, heads in turn. */
static __global__ __launch_bounds__(THREADS) void squares(struct rows out, struct rows x, int head_width)
{
    for (int head = threadIdx.x / 32; head < out.columns; head += WARPS) {
        const float *from = row_at(x, blockIdx.x) + (size_t)head * head_width;
        float sum = 0.0f;

        for (int i = lane_id(); i < head_width; i += 32)
            sum = fmaf(from[i], from[i], sum);
        sum = warp_sum(sum);
        if (lane_id() == 0)
            row_at(out, blockIdx.x)[head] = sum;
    }
}

static __global__ __launch_bounds__(THREADS) void norm_by(struct rows x, struct rows squares, int width,
                                                          const float *gain, float epsilon)
{
    float *row = row_at(x, blockIdx.x);
    float sum = 0.0f;

    for (int h = 0; h < squares.columns; h++)
        sum += row_at(squares, blockIdx.x)[h];
    float scale = 1.0f / sqrtf(sum / (float)width + epsilon);
    for (int i = threadIdx.x; i < x.columns; i += THREADS)
        row[i] = row[i] * scale * gain[i];
}

static __global__ __launch_bounds__(THREADS) void clamp(struct rows x, float limit)
{
    float *row = row_at(x, blockIdx.x);

    for (int i = threadIdx.x; i < x.columns; i += THREADS)
        row[i] = row[i] > limit ? limit : row[i] < -limit ? -limit : row[i];
}

static __global__ __launch_bounds__(THREADS) void gather(struct rows out, struct rows x, const int32_t *rows,
                                                         const float *scale)
{
    const float *from = row_at(x, rows[blockIdx.x]);
    float *to = row_at(out, blockIdx.x);

    for (int i = threadIdx.x; i < out.columns; i += THREADS)
        to[i] = scale ? from[i] * scale[blockIdx.x] : from[i];
}

static __global__ __launch_bounds__(THREADS) void activate(struct rows out, struct rows gate_up)
{
    const float *gate = row_at(gate_up, blockIdx.x);
    float *to = row_at(out, blockIdx.x);

    for (int i = threadIdx.x; i < out.columns; i += THREADS) {
        float up = gate[out.columns + i];

        to[i] = gate[i] / (1.0f + expf(-gate[i])) * up;
    }
}

static __global__ __launch_bounds__(THREADS) void add(struct rows x, struct rows y)
{
    for (int i = threadIdx.x; i < x.columns; i += THREADS)
        row_at(x, blockIdx.x)[i] += row_at(y, blockIdx.x)[i];
}

static __global__ __launch_bounds__(THREADS) void place(struct rows out, const float *block, int first,
                                                        int width)
{
    for (int i = threadIdx.x; i < width; i += THREADS)
        row_at(out, blockIdx.x)[first + i] = block[(size_t)blockIdx.x * width + i];
}

static __global__ __launch_bounds__(THREADS) void combine(struct rows x, struct rows shared,
                                                          struct rows results, const int32_t *place,
                                                          const float *weight, int choices)
{
    const int32_t *mine = place + (size_t)blockIdx.x * choices;

    for (int i = threadIdx.x; i < x.columns; i += THREADS) {
        float sum = shared.data ? row_at(shared, blockIdx.x)[i] : 0.0f;

        for (int j = 0; j < choices; j++) {
            if (mine[j] < 0)
                continue;
            float result = row_at(results, mine[j])[i];
            sum = weight ? fmaf(weight[(size_t)blockIdx.x * choices + j], result, sum) : sum + result;
        }
        row_at(x, blockIdx.x)[i] += sum;
    }
}

/* *= rsqrt(mean(head^2) + epsilon) * gain, by one warp */
static __device__ void norm_head(float *head, const float *gain, int width, float epsilon)
{
    float sum = 0.0f;

    for (int i = lane_id(); i < width; i += 32)
        sum = fmaf(head[i], head[i], sum);
    sum = warp_sum(sum);
    float scale = 1.0f / sqrtf(sum / (float)width + epsilon);
    for (int i = lane_id(); i < width; i += 32)
        head[i] = gain ? head[i] * scale * gain[i] : head[i] * scale;
    __syncwarp();
}

/* A warp for each head, heads in turn. */
static __global__ __launch_bounds__(THREADS) void rotate(struct rows x, struct cuda_turn turn)
{
    int half = turn.rotated / 2;

    for (int first = (int)(threadIdx.x / 32) * turn.head_width; first < x.columns;
         first += WARPS * turn.head_width) {
        float *head = row_at(x, blockIdx.x) + first;
        const float *table = turn.cosine_sine + (size_t)blockIdx.x * turn.rotated;

        if (turn.gain)
            norm_head(head, turn.gain, turn.head_width, turn.epsilon);
        for (int i = lane_id(); turn.cosine_sine && i < half; i += 32) {
            float *a = &head[turn.interleaved ? 2 * i : i];
            float *b = &head[turn.interleaved ? 2 * i + 1 : i + half];
            float cosine = table[2 * i], sine = table[2 * i + 1];
            float left = *a * cosine - *b * sine;
            float right = *a * sine + *b * cosine;

            *a = left;
            *b = right;
        }
        __syncwarp();
        if (turn.norm_after)
            norm_head(head, nullptr, turn.head_width, turn.epsilon);
        for (int i = lane_id(); turn.temperature && i < turn.head_width; i += 32)
            head[i] *= turn.temperature[blockIdx.x];
    }
}

cudaError_t cuda_rows_load(void)
{
    return gpu_load(embed, rms_norm, squares, norm_by, clamp, gather, activate, add, place, combine, rotate);
}

cudaError_t cuda_rows_embed(struct matrix out, struct cuda_weight w, const int32_t *tokens, int first_token,
                            cudaStream_t s)
{
    if (out.rows == 0)
        return cudaSuccess;
    return GPU_LAUNCH(embed, out.rows, THREADS, 0, s, rows_of(out), w, tokens, first_token);
}

cudaError_t cuda_rows_norm(struct matrix out, struct matrix x, const float *gain, float epsilon,
                           cudaStream_t s)
{
    if (x.rows == 0)
        return cudaSuccess;
    return GPU_LAUNCH(rms_norm, x.rows, THREADS, 0, s, rows_of(out), rows_of(x), gain, epsilon);
}

cudaError_t cuda_rows_squares(struct matrix out, struct matrix x, int head_width, cudaStream_t s)
{
    if (x.rows == 0)
        return cudaSuccess;
    return GPU_LAUNCH(squares, x.rows, THREADS, 0, s, rows_of(out), rows_of(x), head_width);
}

cudaError_t cuda_rows_norm_by(struct matrix x, struct matrix squares, int width, const float *gain,
                              float epsilon, cudaStream_t s)
{
    if (x.rows == 0)
        return cudaSuccess;
    return GPU_LAUNCH(norm_by, x.rows, THREADS, 0, s, rows_of(x), rows_of(squares), width, gain, epsilon);
}

cudaError_t cuda_rows_clamp(struct matrix x, float limit, cudaStream_t s)
{
    if (x.rows == 0)
        return cudaSuccess;
    return GPU_LAUNCH(clamp, x.rows, THREADS, 0, s, rows_of(x), limit);
}

cudaError_t cuda_rows_gather(struct matrix out, struct matrix x, const int32_t *rows, const float *scale,
                             cudaStream_t s)
{
    if (out.rows == 0)
        return cudaSuccess;
    return GPU_LAUNCH(gather, out.rows, THREADS, 0, s, rows_of(out), rows_of(x), rows, scale);
}

cudaError_t cuda_rows_activate(struct matrix out, struct matrix gate_up, cudaStream_t s)
{
    if (out.rows == 0)
        return cudaSuccess;
    return GPU_LAUNCH(activate, out.rows, THREADS, 0, s, rows_of(out), rows_of(gate_up));
}

cudaError_t cuda_rows_add(struct matrix x, struct matrix y, cudaStream_t s)
{
    if (x.rows == 0)
        return cudaSuccess;
    return GPU_LAUNCH(add, x.rows, THREADS, 0, s, rows_of(x), rows_of(y));
}

cudaError_t cuda_rows_place(struct matrix out, const float *block, int first, int width, cudaStream_t s)
{
    if (out.rows == 0 || width == 0)
        return cudaSuccess;
    return GPU_LAUNCH(place, out.rows, THREADS, 0, s, rows_of(out), block, first, width);
}

cudaError_t cuda_rows_combine(struct matrix x, struct matrix shared, struct matrix results,
                              const int32_t *place, const float *weight, int choices, cudaStream_t s)
{
    if (x.rows == 0)
        return cudaSuccess;
    if (shared.rows == 0)
        shared.data = nullptr;
    return GPU_LAUNCH(combine, x.rows, THREADS, 0, s, rows_of(x), rows_of(shared), rows_of(results), place,
                      weight, choices);
}

cudaError_t cuda_rows_rotate(struct matrix x, struct cuda_turn turn, cudaStream_t s)
{
    if (x.rows == 0 || x.columns == 0)
        return cudaSuccess;
    return GPU_LAUNCH(rotate, x.rows, THREADS, 0, s, rows_of(x), turn);
}
