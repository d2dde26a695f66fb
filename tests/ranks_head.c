/* ranks_head.c - candidates of all rows of a step are the best of their whole logits, however rows want them
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A prompt runs once and all its logits are kept; then the head is asked again for the same rows, cut into
 * pieces that want whole rows, one candidate, many or none, in messages of any size. */
#include "ranks.h"

#include "rig.h"

enum { PROMPT = 45, VOCABULARY = 256, ROUNDS = 40 };

static struct rig rig;
static float whole[PROMPT][VOCABULARY]; /* at rank 0 */
static uint64_t state;

/* The same on all ranks. */
static int draw(int below)
{
    uint64_t x = state += 0x9e3779b97f4a7c15U;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    return (int)((x >> 33) % (uint64_t)below);
}

static int open_all(void **unused)
{
    static const struct rig_options HOW = {
        .model = "tests/golden/qwen3moe_a", .comm = RIG_SHARED, .threads = 1, .tensor = 1};
    const struct head_result *results;
    int32_t prompt[PROMPT];

    (void)unused;
    state = ranks_seed;
    for (int i = 0; i < PROMPT; i++)
        prompt[i] = draw(VOCABULARY);
    assert_all_ok(rig_open(&rig, &HOW));
    assert_all_ok(rig_run(&rig, prompt, PROMPT, 0, true, &results));
    for (int row = 0; row < PROMPT && ranks_rank == 0; row++)
        memcpy(whole[row], results[row].values, sizeof whole[row]);
    return 0;
}

static int close_all(void **unused)
{
    (void)unused;
    rig_close(&rig);
    return 0;
}

/* Pieces of rows that follow each other and together are the prompt's; returns how many there are. */
static int draw_pieces(struct batch_piece *pieces)
{
    static const int WANTS[] = {BATCH_WANT_NONE, BATCH_WANT_CANDIDATES, BATCH_WANT_LOGITS, BATCH_WANT_ALL,
                                BATCH_WANT_EACH};
    int count = 0;

    for (int first = 0, rows; first < PROMPT; first += rows) {
        int want = WANTS[draw(5)], keep = 1 + draw(draw(2) ? 4 : HEAD_KEEP);

        rows = 1 + draw(PROMPT - first < 6 ? PROMPT - first : 6);
        if (want == BATCH_WANT_EACH && draw(3) == 0)
            keep = 0;
        pieces[count++] = (struct batch_piece){.first_row = first, .rows = rows, .want = want, .keep = keep};
    }
    return count;
}

/* Candidate `at` of a row: how many ids below `limit` come before it, by value and then by number? */
static bool stands(const struct head_result *r, int at, const float *logits, int limit)
{
    int32_t id = r->ids[at];
    int before = 0;

    if (id < 0 || id >= limit || r->values[at] != logits[id])
        return false;
    for (int i = 0; i < limit; i++)
        before += logits[i] > logits[id] || (logits[i] == logits[id] && i < id);
    return before == at;
}

static bool is_right(const struct head_result *r, int keep, const float *logits, int limit)
{
    if (keep == 0)
        return r->count == VOCABULARY && memcmp(r->values, logits, sizeof whole[0]) == 0;
    if (r->count != (keep < limit ? keep : limit))
        return false;
    for (int at = 0; at < r->count; at++)
        if (!stands(r, at, logits, limit))
            return false;
    return true;
}

/* Does rank 0 have for each piece what it wanted? */
static bool check_results(const struct head *head, const struct batch *batch, int limit)
{
    int next = 0;

    for (int p = 0; p < batch->piece_count; p++) {
        const struct batch_piece *piece = &batch->pieces[p];
        int wanted = batch_piece_wanted(piece);
        bool few = piece->want == BATCH_WANT_CANDIDATES || piece->want == BATCH_WANT_EACH;

        for (int i = 0; i < wanted; i++, next++)
            if (!is_right(&head->results[next], few ? piece->keep : 0,
                          whole[piece->first_row + piece->rows - wanted + i], limit)) {
                print_error("piece %d wants %d, %d candidates: row %d of it is wrong\n", p, (int)piece->want,
                            (int)piece->keep, i);
                return false;
            }
    }
    return head->result_count == next;
}

static void rows_get_what_each_wants(void **unused)
{
    struct model *model = &rig.engine.model;
    size_t message_floats = model->head.message_floats;
    struct batch_piece pieces[PROMPT];

    (void)unused;
    for (int round = 0; round < ROUNDS; round++) {
        struct batch batch = rig.engine.batch;
        int limit = draw(2) ? VOCABULARY : 1 + draw(VOCABULARY);

        batch.pieces = pieces;
        batch.piece_count = draw_pieces(pieces);
        head_limit(&model->head, limit);
        model->head.message_floats = draw(2) ? message_floats : (size_t)(VOCABULARY + draw(2000));
        assert_all_ok(
            head_forward(&model->head, &model->step, &batch, matrix_top(model->x, model->step.own.count)));
        assert_all(ranks_rank != 0 || check_results(&model->head, &batch, limit));
    }
    model->head.message_floats = message_floats;
    head_limit(&model->head, VOCABULARY);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_get_what_each_wants, open_all, close_all),
    };

    return ranks_run(argc, argv, tests, sizeof tests / sizeof *tests);
}
