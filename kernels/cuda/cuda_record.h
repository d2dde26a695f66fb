/* cuda_record.h - layers of a step as a CUDA graph: kept when their key comes a second time, then replayed
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Of each step cuda_record_find, and then, as it says: nothing; cuda_record_begin, the layers,
 * cuda_record_end, cuda_record_launch; or cuda_record_launch. What a graph itself takes of the device is the
 * driver's, so there are few of them: a new one takes the place of the one that was not used for longest.
 *
 * While a step is recorded nothing can be sent. An array that only depends on the key gets a place of the
 * graph's own, and goes to the device when the recording ends. */
#ifndef CUDA_RECORD_H
#define CUDA_RECORD_H

#include "kernels/cuda/cuda_device.h"
#include "kernels/host.h"

enum { CUDA_RECORD_GRAPHS = CUDA_PLAN_RECORD_GRAPHS, CUDA_RECORD_ARRAYS = 2048 };

struct cuda_record_graph {
    int32_t key[RECORDING_KEY_MOST];
    int count;
    int64_t used;         /* which step did last; 0: none, the place is free */
    cudaGraphExec_t exec; /* NULL: the key came once */
    int exchanges;        /* calls of the device's guest in it */
    int64_t products;     /* of cuBLAS in it */
};

struct cuda_record {
    struct cuda_device *device; /* not owned */
    struct cuda_record_graph graph[CUDA_RECORD_GRAPHS];
    struct cuda_record_graph *now; /* of this step */
    cudaStream_t origin;           /* that the present recording began with */
    int64_t steps;

    char *there; /* [graphs, CUDA_PLAN_RECORD_PLACE] device: arrays of each graph */
    char *here;  /* [CUDA_PLAN_RECORD_PLACE] those of the graph that is being recorded */
    size_t first[CUDA_RECORD_ARRAYS + 1];
    int arrays;
};

enum status cuda_record_open(struct cuda_record *r, struct cuda_device *d, struct host_memory *memory);
void cuda_record_close(struct cuda_record *r);

enum status cuda_record_find(struct cuda_record *r, const struct recording *what, enum recording_way *way);
enum status cuda_record_begin(struct cuda_record *r);
enum status cuda_record_end(struct cuda_record *r, enum status layers);
enum status cuda_record_launch(struct cuda_record *r);

/* Between begin and end: *out [bytes] on the device, for what is recorded. Equal arrays share a place. */
enum status cuda_record_keep(struct cuda_record *r, const void *array, size_t bytes, const void **out);

/* Gives all graphs back, and breaks off a recording: before the exchanges end that they hold calls of, as
 * NCCL waits for that. */
void cuda_record_forget(struct cuda_record *r);

#endif
