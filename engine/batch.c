/* batch.c - the one message: all that the ranks must agree on for a step
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/batch.h"

#include <limits.h>
#include <string.h>

/* The message: this head, then the pieces, the tokens, the pages and the moves, all in the byte order of the
 * machine. A rank of another order, or of another build, is found out by the version. */
struct head {
    uint32_t version;
    uint32_t flags;
    uint64_t bytes; /* of the whole message */
    uint64_t number;
    uint64_t placement_version;
    int32_t piece_count;
    int32_t row_count;
    int32_t page_count;
    int32_t move_count;
};

enum { VERSION = 0x53574203 }; /* "SWB", 3 */

_Static_assert(sizeof(struct head) == 48, "the head of a batch has no gaps");
_Static_assert(sizeof(struct batch_piece) == 40, "a piece of a batch has no gaps");

int batch_new_pages(int max_rows, int max_pieces)
{
    return max_rows / PAGE_ROWS + max_pieces + 1;
}

int batch_found_pages(int max_rows, int positions)
{
    int longest = positions / PAGE_ROWS + 1;

    return longest > max_rows ? longest : max_rows;
}

static size_t message_bytes(int pieces, int rows, int pages, int moves)
{
    return sizeof(struct head) + (size_t)pieces * sizeof(struct batch_piece) +
           ((size_t)rows + (size_t)pages) * sizeof(int32_t) + (size_t)moves * sizeof(struct batch_move);
}

size_t batch_message_bytes(int max_pieces, int max_rows, int max_pages)
{
    return message_bytes(max_pieces, max_rows, max_pages, BATCH_MOVES);
}

enum status batch_open(struct batch *b, struct arena *arena, int max_pieces, int max_rows, int max_pages)
{
    struct batch open = {.max_pieces = max_pieces, .max_rows = max_rows, .max_pages = max_pages};

    if (max_pieces < 1 || max_rows < 1 || max_pages < 0)
        return FAIL(STATUS_BUG, "batches of %d pieces, %d rows, %d pages", max_pieces, max_rows, max_pages);
    TRY(arena_take_array(arena, (size_t)max_pieces, sizeof *open.pieces, "pieces of a batch", &open.pieces));
    TRY(arena_take_array(arena, (size_t)max_rows, sizeof *open.tokens, "tokens of a batch", &open.tokens));
    TRY(arena_take_array(arena, (size_t)max_pages, sizeof *open.pages, "pages of a batch", &open.pages));
    TRY(arena_take_array(arena, BATCH_MOVES, sizeof *open.moves, "moves of a batch", &open.moves));
    TRY(arena_take(arena, batch_message_bytes(max_pieces, max_rows, max_pages), "the message of a batch",
                   &open.wire));
    *b = open;
    return STATUS_OK;
}

void batch_clear(struct batch *b)
{
    b->number++;
    b->placement_version = 0;
    b->flags = 0;
    b->piece_count = 0;
    b->row_count = 0;
    b->page_count = 0;
    b->move_count = 0;
}

static enum status check_counts(const struct batch *b)
{
    if (b->piece_count < 0 || b->piece_count > b->max_pieces)
        return FAIL(STATUS_BUG, "batch %llu: piece_count %d, at most %d", (unsigned long long)b->number,
                    b->piece_count, b->max_pieces);
    if (b->row_count < 0 || b->row_count > b->max_rows)
        return FAIL(STATUS_BUG, "batch %llu: row_count %d, at most %d", (unsigned long long)b->number,
                    b->row_count, b->max_rows);
    if (b->page_count < 0 || b->page_count > b->max_pages)
        return FAIL(STATUS_BUG, "batch %llu: page_count %d, at most %d", (unsigned long long)b->number,
                    b->page_count, b->max_pages);
    if (b->move_count < 0 || b->move_count > BATCH_MOVES)
        return FAIL(STATUS_BUG, "batch %llu: move_count %d, at most %d", (unsigned long long)b->number,
                    b->move_count, BATCH_MOVES);
    if (b->flags & ~(uint32_t)(BATCH_STOP | BATCH_IDLE))
        return FAIL(STATUS_BUG, "batch %llu: flags %#x", (unsigned long long)b->number, b->flags);
    return STATUS_OK;
}

static bool decodes(const struct batch_piece *p)
{
    return p->rows == 1 || p->want == BATCH_WANT_EACH;
}

bool batch_prompts(const struct batch *b)
{
    int rows = 0;

    for (int i = 0; i < b->piece_count; i++)
        rows += decodes(&b->pieces[i]) ? 0 : b->pieces[i].rows;
    return 2 * rows > b->row_count;
}

bool batch_decodes(const struct batch *b)
{
    for (int i = 0; i < b->piece_count; i++)
        if (!decodes(&b->pieces[i]))
            return false;
    return true;
}

int batch_piece_wanted(const struct batch_piece *p)
{
    if (p->want == BATCH_WANT_NONE)
        return 0;
    return p->want == BATCH_WANT_ALL || p->want == BATCH_WANT_EACH ? p->rows : 1;
}

bool batch_starts(const struct batch_piece *p)
{
    return p->position == (int64_t)p->found_pages * PAGE_ROWS;
}

/* Piece i, which must go on at `row` and `page` in a group not below `group`. */
static enum status check_piece(const struct batch *b, int i, int64_t row, int64_t page, int group, int groups)
{
    const struct batch_piece *p = &b->pieces[i];
    const struct {
        const char *name;
        int64_t value, least, most;
    } rules[] = {
        {"sequence", p->sequence, 0, INT_MAX},
        {"group", p->group, group, groups - 1},
        {"first_row", p->first_row, row, row},
        {"rows", p->rows, 1, b->row_count - row},
        {"position", p->position, 0, INT_MAX - (int64_t)p->rows},
        {"want", p->want, BATCH_WANT_NONE, BATCH_WANT_EACH},
        {"keep", p->keep, p->want == BATCH_WANT_CANDIDATES, INT_MAX},
        {"first_page", p->first_page, page, page},
        {"new_pages", p->new_pages, 0, b->page_count - page},
        {"found_pages", p->found_pages, 0, p->new_pages},
    };

    for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
        if (rules[r].value < rules[r].least || rules[r].value > rules[r].most)
            return FAIL(STATUS_BUG, "batch %llu: %s of piece %d is %lld, not in %lld ... %lld",
                        (unsigned long long)b->number, rules[r].name, i, (long long)rules[r].value,
                        (long long)rules[r].least, (long long)rules[r].most);
    }
    if (p->found_pages > 0 && !batch_starts(p))
        return FAIL(STATUS_BUG, "batch %llu: piece %d at position %d stands behind %d found pages",
                    (unsigned long long)b->number, i, p->position, p->found_pages);
    return STATUS_OK;
}

enum status batch_check(const struct batch *b, int groups)
{
    int64_t row = 0, page = 0;
    int group = 0;

    TRY(check_counts(b));
    for (int i = 0; i < b->piece_count; i++) {
        TRY(check_piece(b, i, row, page, group, groups));
        row += b->pieces[i].rows;
        page += b->pieces[i].new_pages;
        group = b->pieces[i].group;
    }
    if (row != b->row_count || page != b->page_count)
        return FAIL(STATUS_BUG,
                    "batch %llu: the pieces have %lld rows and %lld pages, row_count is %d, page_count %d",
                    (unsigned long long)b->number, (long long)row, (long long)page, b->row_count,
                    b->page_count);
    for (int i = 0; i < b->row_count; i++) {
        if (b->tokens[i] < 0)
            return FAIL(STATUS_BUG, "batch %llu: token of row %d is %d", (unsigned long long)b->number, i,
                        b->tokens[i]);
    }
    for (int i = 0; i < b->page_count; i++) {
        if (b->pages[i] < 0)
            return FAIL(STATUS_BUG, "batch %llu: page %d is number %d", (unsigned long long)b->number, i,
                        b->pages[i]);
    }
    return STATUS_OK;
}

static void encode(struct batch *b)
{
    size_t piece_bytes = (size_t)b->piece_count * sizeof *b->pieces;
    size_t token_bytes = (size_t)b->row_count * sizeof *b->tokens;
    size_t page_bytes = (size_t)b->page_count * sizeof *b->pages;
    size_t move_bytes = (size_t)b->move_count * sizeof *b->moves;
    struct head head = {
        .version = VERSION,
        .flags = b->flags,
        .bytes = message_bytes(b->piece_count, b->row_count, b->page_count, b->move_count),
        .number = b->number,
        .placement_version = b->placement_version,
        .piece_count = b->piece_count,
        .row_count = b->row_count,
        .page_count = b->page_count,
        .move_count = b->move_count,
    };
    unsigned char *to = b->wire;

    memcpy(to, &head, sizeof head);
    memcpy(to + sizeof head, b->pieces, piece_bytes);
    memcpy(to + sizeof head + piece_bytes, b->tokens, token_bytes);
    memcpy(to + sizeof head + piece_bytes + token_bytes, b->pages, page_bytes);
    memcpy(to + sizeof head + piece_bytes + token_bytes + page_bytes, b->moves, move_bytes);
    b->wire_bytes = head.bytes;
}

/* Nothing of b but what a batch of this head may hold is written before the head is known to be good. */
static enum status decode(struct batch *b, const unsigned char *from, size_t bytes)
{
    struct head head;
    struct batch next = *b;
    size_t piece_bytes, token_bytes, page_bytes, move_bytes, wanted;

    if (bytes < sizeof head)
        return FAIL(STATUS_BUG, "a batch of %zu bytes, its head has %zu", bytes, sizeof head);
    memcpy(&head, from, sizeof head);
    if (head.version != VERSION)
        return FAIL(STATUS_BUG,
                    "a batch of version %#x, this build reads %#x: all ranks must run the same build",
                    head.version, (unsigned)VERSION);
    next.number = head.number;
    next.placement_version = head.placement_version;
    next.flags = head.flags;
    next.piece_count = head.piece_count;
    next.row_count = head.row_count;
    next.page_count = head.page_count;
    next.move_count = head.move_count;
    TRY(check_counts(&next));
    wanted = message_bytes(head.piece_count, head.row_count, head.page_count, head.move_count);
    if (head.bytes != bytes || head.bytes != wanted)
        return FAIL(STATUS_BUG, "batch %llu: %zu bytes came, its head says %llu and counts that need %zu",
                    (unsigned long long)head.number, bytes, (unsigned long long)head.bytes, wanted);
    if (head.number < b->number)
        return FAIL(STATUS_BUG, "batch %llu came after batch %llu", (unsigned long long)head.number,
                    (unsigned long long)b->number);
    piece_bytes = (size_t)head.piece_count * sizeof *b->pieces;
    token_bytes = (size_t)head.row_count * sizeof *b->tokens;
    page_bytes = (size_t)head.page_count * sizeof *b->pages;
    move_bytes = (size_t)head.move_count * sizeof *b->moves;
    memcpy(b->pieces, from + sizeof head, piece_bytes);
    memcpy(b->tokens, from + sizeof head + piece_bytes, token_bytes);
    memcpy(b->pages, from + sizeof head + piece_bytes + token_bytes, page_bytes);
    memcpy(b->moves, from + sizeof head + piece_bytes + token_bytes + page_bytes, move_bytes);
    next.wire_bytes = bytes;
    *b = next;
    return STATUS_OK;
}

enum status batch_send(struct batch *b, struct comm *world)
{
    const void *out;

    TRY(batch_check(b, world->size));
    encode(b);
    return world->broadcast(world, 0, b->wire, &b->wire_bytes, &out);
}

enum status batch_receive(struct batch *b, struct comm *world)
{
    size_t bytes = 0;
    const void *message;

    TRY(world->broadcast(world, 0, NULL, &bytes, &message));
    TRY(decode(b, message, bytes));
    return batch_check(b, world->size);
}

struct range batch_group_rows(const struct batch *b, int group)
{
    struct range rows = {0, 0};

    for (int i = 0; i < b->piece_count && b->pieces[i].group <= group; i++) {
        if (b->pieces[i].group < group)
            rows.first += b->pieces[i].rows;
        else
            rows.count += b->pieces[i].rows;
    }
    return rows;
}

int batch_wanted(const struct batch *b, int32_t *out)
{
    int count = 0;

    for (int i = 0; i < b->piece_count; i++) {
        const struct batch_piece *p = &b->pieces[i];
        int32_t behind = p->first_row + p->rows;

        for (int32_t row = behind - batch_piece_wanted(p); row < behind; row++) {
            if (out)
                out[count] = row;
            count++;
        }
    }
    return count;
}
