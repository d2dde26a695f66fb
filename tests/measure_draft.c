/* measure_draft.c - what looking for drafts costs a step, by how much comes again in a text
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * usage: measure_draft [SEQUENCES [TOKENS [THREADS]]]; microseconds of the best of 20 look-ups for all
 * sequences together, n-grams of 2 to 5 tokens, by the reference and by the cpu backend. */
#include "engine/base/clock.h"
#include "kernels/cpu/cpu.h"
#include "kernels/reference/reference.h"

#include <stdio.h>
#include <stdlib.h>

enum { LOOKS = 20 };

/* Tokens of `kinds` different ones. */
static double measure(struct kernels *k, int count, int tokens, int kinds)
{
    struct draft_sequence *sequences = calloc((size_t)count, sizeof *sequences);
    int32_t *found = calloc((size_t)count * (1 + DRAFT_TOKENS_MOST), sizeof *found);
    struct draft draft = {.rows = count,
                          .stride = tokens,
                          .sequences = sequences,
                          .count = count,
                          .shortest = 2,
                          .longest = 5,
                          .found = found};
    double best = 1e30;
    void *history;

    if (!sequences || !found ||
        k->alloc(k, (size_t)count * (size_t)tokens * sizeof(int32_t), "histories", &history) != STATUS_OK)
        abort();
    draft.history = history; /* both backends' memory is the host's */
    for (int i = 0; i < count * tokens; i++)
        draft.history[i] = rand() % kinds;
    for (int i = 0; i < count; i++)
        sequences[i] = (struct draft_sequence){.row = i, .known = tokens, .most = 3};
    for (int look = 0; look < LOOKS; look++) {
        int64_t start = clock_now();
        double spent;

        if (k->draft(k, &draft) != STATUS_OK)
            abort();
        spent = (double)(clock_now() - start) * 1e-3;
        best = spent < best ? spent : best;
    }
    free(sequences);
    free(found);
    return best;
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 64, tokens = argc > 2 ? atoi(argv[2]) : 8192;
    int threads = argc > 3 ? atoi(argv[3]) : 1;
    static const int kinds[] = {100000, 1000, 30, 4};
    struct kernels *reference, *cpu;

    if (count < 1 || tokens < 1 || reference_open(&reference) != STATUS_OK ||
        cpu_open(cpu_best_path(), threads, NULL, &cpu) != STATUS_OK) {
        fprintf(stderr, "measure_draft: %s\n", status_text());
        return 1;
    }
    printf("%d sequences of %d tokens; microseconds\n%-16s %10s  %s\n", count, tokens, "different ones",
           "reference", cpu->name);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        printf("%-16d %10.1f  %.1f\n", kinds[i], measure(reference, count, tokens, kinds[i]),
               measure(cpu, count, tokens, kinds[i]));
    reference->close(reference);
    cpu->close(cpu);
    return 0;
}
