/* test_safetensors.c - weight files are read exactly, and each way of being wrong has its own sentence
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * The attacks are those of the format's own reader, written into a scratch directory; good files are the
 * golden ones. */
#include "engine/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static char scratch[] = "/tmp/switchyard-safetensors-XXXXXX";
static struct arena arena;

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(scratch) && arena_open(&arena, "test", (size_t)1 << 30) == STATUS_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    arena_close(&arena);
    snprintf(command, sizeof command, "rm -rf %s", scratch);
    return system(command);
}

static const char *in_scratch(const char *name)
{
    static char path[4][512];
    static int turn;
    char *next = path[turn++ % 4];

    snprintf(next, 512, "%s/%s", scratch, name);
    return next;
}

/* length (little endian) | header_bytes of header | data_bytes of data */
static void write_parts(const char *path, uint64_t length, const char *header, size_t header_bytes,
                        size_t data_bytes)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    for (int i = 0; i < 8; i++)
        fputc((int)(length >> (8 * i) & 255), file);
    fwrite(header, 1, header_bytes, file);
    for (size_t i = 0; i < data_bytes; i++)
        fputc((int)(i & 255), file);
    assert_int_equal(fclose(file), 0);
}

static void write_good(const char *path, const char *header, size_t data_bytes)
{
    write_parts(path, strlen(header), header, strlen(header), data_bytes);
}

static void expect_refused_file(const char *path, const char *words)
{
    struct safetensors s;

    assert_int_equal(safetensors_open(&s, &arena, path), STATUS_BAD_INPUT);
    if (!strstr(status_text(), words) || !strstr(status_text(), path))
        fail_msg("\"%s\" does not say \"%s\"", status_text(), words);
    assert_null(s.file.path);
}

static void expect_refused(const char *header, size_t data_bytes, const char *words)
{
    const char *path = in_scratch("x.safetensors");

    write_good(path, header, data_bytes);
    expect_refused_file(path, words);
}

static void expect_accepted(struct safetensors *s, const char *header, size_t data_bytes)
{
    const char *path = in_scratch("x.safetensors");

    write_good(path, header, data_bytes);
    if (safetensors_open(s, &arena, path) != STATUS_OK)
        fail_msg("%.200s: %s", header, status_text());
}

static void test_lengths_that_cannot_be_are_refused(void **state)
{
    const char *path = in_scratch("x.safetensors");
    FILE *file = fopen(path, "wb");

    (void)state;
    assert_non_null(file);
    fputs("short", file);
    fclose(file);
    expect_refused_file(path, "5 bytes");
    write_parts(path, 100000001, "{}", 2, 0);
    expect_refused_file(path, "more than the 100000000");
    write_parts(path, UINT64_MAX, "{}", 2, 0);
    expect_refused_file(path, "18446744073709551615");
    write_parts(path, 0xffffff000000003cu, "{}", 2, 0);
    expect_refused_file(path, "more than the 100000000");
    write_parts(path, 3, "{}", 2, 0);
    expect_refused_file(path, "truncated");
    write_parts(path, 100000000, "{}", 2, 0);
    expect_refused_file(path, "truncated");
    write_parts(path, 0, "", 0, 0);
    expect_refused_file(path, "header: line 1");
}

static void test_headers_that_are_no_json_of_the_format_are_refused(void **state)
{
    static const char one[] = "{\"a\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [0, 1]}}";

    (void)state;
    expect_refused("{", 0, "line 1");
    expect_refused("{\"\xff\": 1}", 0, "not UTF-8 (byte 0xff at 10)");
    expect_refused("{\"\xed\xa0\x80\": 1}", 0, "not UTF-8");
    expect_refused("{\"\xc0\x80\": 1}", 0, "not UTF-8");
    expect_refused("[]", 0, "not a JSON object");
    expect_refused("{} x", 0, "end of file");
    write_parts(in_scratch("x.safetensors"), sizeof one, one, sizeof one, 1); /* with a NUL behind */
    expect_refused_file(in_scratch("x.safetensors"), "line 1");
    expect_refused("{\"a\": 7}", 0, "tensor a: the header has no object");
    expect_refused("{\"a\": {\"shape\": [1], \"data_offsets\": [0, 1]}}", 1, "no \"dtype\"");
    expect_refused("{\"a\": {\"dtype\": \"U8\", \"data_offsets\": [0, 1]}}", 1, "no \"shape\"");
    expect_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [1]}}", 1, "no \"data_offsets\"");
    expect_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [0, 1], \"x\": 1}}", 1,
                   "says more");
    expect_refused("{\"a\": {\"dtype\": \"Q4\", \"shape\": [1], \"data_offsets\": [0, 1]}}", 1,
                   "\"dtype\" is Q4");
    expect_refused("{\"a\": {\"dtype\": 1, \"shape\": [1], \"data_offsets\": [0, 1]}}", 1,
                   "\"dtype\" is not text");
    expect_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [-1], \"data_offsets\": [0, 1]}}", 1,
                   "\"shape\" holds");
    expect_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [1.0], \"data_offsets\": [0, 1]}}", 1,
                   "\"shape\" holds");
    expect_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": 1, \"data_offsets\": [0, 1]}}", 1,
                   "\"shape\" is not");
    expect_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [1,1,1,1,1,1,1,1,1], \"data_offsets\": [0, 1]}}",
                   1, "at most 8");
    expect_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [0]}}", 1, "data_offsets");
    expect_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [-1, 1]}}", 1,
                   "data_offsets");
    expect_refused(
        "{\"a\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [0, 1]}, \"a\": {\"dtype\": \"U8\", "
        "\"shape\": [1], \"data_offsets\": [0, 1]}}",
        1, "duplicate");
    expect_refused("{\"__metadata__\": {\"format\": 1}}", 0, "\"format\", whose value is not text");
    expect_refused("{\"__metadata__\": []}", 0, "__metadata__");
    expect_refused("{\"a\\u0000b\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [0, 1]}}", 1,
                   "line 1");
    expect_refused("{\"a\\u001b[2J\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [0, 1]}}", 1,
                   "control character");
}

static void test_places_that_contradict_each_other_are_refused(void **state)
{
    char many[2048] = "{";

    (void)state;
    for (int i = 0; i < 10; i++)
        sprintf(many + strlen(many),
                "%s\"t%d\": {\"dtype\": \"F32\", \"shape\": [2, 2], \"data_offsets\": [0, 16]}",
                i ? ", " : "", i);
    strcat(many, "}");
    expect_refused(many, 16, "holes and overlaps");
    expect_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [1, 2]}}", 2,
                   "holes and overlaps");
    expect_refused(
        "{\"a\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [0, 1]}, \"b\": {\"dtype\": \"U8\", "
        "\"shape\": [1], \"data_offsets\": [2, 3]}}",
        3, "tensor b: its data stands at 2 to 3");
    expect_refused(
        "{\"a\": {\"dtype\": \"U8\", \"shape\": [0], \"data_offsets\": [0, 0]}, \"b\": {\"dtype\": \"U8\", "
        "\"shape\": [1], \"data_offsets\": [1, 0]}}",
        1, "holes and overlaps");
    expect_refused(
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [2, 18446744073709551614], \"data_offsets\": [0, 16]}}", 16,
        "too big");
    expect_refused(
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [2, 9223372036854775807], \"data_offsets\": [0, 16]}}", 16,
        "more elements than can be counted");
    expect_refused("{\"a\": {\"dtype\": \"F4\", \"shape\": [3], \"data_offsets\": [0, 2]}}", 2,
                   "not whole bytes");
    expect_refused("{\"a\": {\"dtype\": \"BF16\", \"shape\": [2, 3], \"data_offsets\": [0, 16]}}", 16,
                   "has 16 bytes of data, its shape and dtype need 12");
    expect_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}}", 2,
                   "it is truncated");
    expect_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}}", 5,
                   "longer than");
    expect_refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [9223372036854775807], \"data_offsets\": [0, "
                   "9223372036854775807]}}",
                   4, "more elements than can be counted");
}

static void test_what_would_exhaust_memory_is_refused_first(void **state)
{
    size_t bytes = (size_t)90 << 20, used = 0;
    char *text = malloc(bytes);
    struct rusage before, after;

    (void)state;
    assert_non_null(text);
    text[used++] = '{';
    for (int i = 0; used + 128 < bytes; i++)
        used +=
            (size_t)sprintf(text + used, "%s\"%x\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}",
                            i ? "," : "", (unsigned)i);
    text[used++] = '}';
    write_parts(in_scratch("x.safetensors"), used, text, used, 1);
    getrusage(RUSAGE_SELF, &before);
    expect_refused_file(in_scratch("x.safetensors"), "more than 1048576 tensors");
    getrusage(RUSAGE_SELF, &after);
    assert_true(after.ru_maxrss - before.ru_maxrss < 200 << 10);

    memset(text, '[', 50 << 20);
    write_parts(in_scratch("x.safetensors"), 50 << 20, text, 50 << 20, 0);
    expect_refused_file(in_scratch("x.safetensors"), "depth");

    memset(text, 'n', 4 << 20);
    memcpy(text, "{\"", 2);
    used = (4 << 20) +
           (size_t)sprintf(text + (4 << 20), "\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}");
    write_parts(in_scratch("x.safetensors"), used, text, used, 1);
    expect_refused_file(in_scratch("x.safetensors"), "tensor name of 4194302 bytes");
    free(text);
}

static void test_everything_legal_is_accepted(void **state)
{
    struct safetensors s;

    (void)state;
    expect_accepted(&s, "{}", 0);
    assert_int_equal(s.count, 0);
    safetensors_close(&s);
    expect_accepted(&s, " \t\r\n{\"__metadata__\": {\"format\": \"pt\"}} \n\t   ", 0);
    safetensors_close(&s);
    expect_accepted(
        &s,
        "{\"b\": {\"dtype\": \"BF16\", \"shape\": [2, 3], \"data_offsets\": [1, 13]}, \"scalar\": "
        "{\"dtype\": "
        "\"F32\", \"shape\": [], \"data_offsets\": [13, 17]}, \"empty\": {\"dtype\": \"F64\", \"shape\": [0, "
        "5], "
        "\"data_offsets\": [1, 1]}, \"../../etc/a\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": "
        "[0, 1]}}",
        17);
    assert_int_equal(s.count, 4);
    assert_string_equal(s.tensors[0].name, "../../etc/a");
    assert_string_equal(s.tensors[1].name, "empty");
    assert_string_equal(s.tensors[2].name, "b");
    assert_int_equal(s.tensors[2].dtype, DTYPE_BF16);
    assert_int_equal(s.tensors[2].shape[1], 3);
    assert_int_equal(s.tensors[2].bytes, 12);
    assert_int_equal(s.tensors[3].dimensions, 0);
    assert_int_equal(s.tensors[3].offset + s.tensors[3].bytes, s.file.size);
    safetensors_close(&s);
}

static void test_a_missing_file_is_not_bad_input(void **state)
{
    struct safetensors s;

    (void)state;
    assert_int_equal(safetensors_open(&s, &arena, in_scratch("gone")), STATUS_NO_INPUT);
    assert_int_equal(symlink("loop", in_scratch("loop")), 0);
    assert_int_equal(safetensors_open(&s, &arena, in_scratch("loop")), STATUS_NO_INPUT);
    safetensors_close(&s);
}

/* -- directories -- */

static void write_shard(const char *name, const char *tensor)
{
    char header[256];

    snprintf(header, sizeof header, "{\"%s\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}}",
             tensor);
    write_good(in_scratch(name), header, 4);
}

static void write_index(const char *text)
{
    FILE *file = fopen(in_scratch("model.safetensors.index.json"), "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void expect_refused_set(const char *index, enum status status, const char *words)
{
    struct tensor_set set;

    write_index(index);
    if (tensor_set_open(&set, &arena, scratch) != status)
        fail_msg("%s: %s", index, status_text());
    if (!strstr(status_text(), words))
        fail_msg("\"%s\" does not say \"%s\"", status_text(), words);
    assert_null(set.shards);
}

static void test_an_index_must_agree_with_its_shards(void **state)
{
    struct tensor_set set;

    (void)state;
    assert_int_equal(tensor_set_open(&set, &arena, scratch), STATUS_NO_INPUT);
    assert_non_null(strstr(status_text(), "neither model.safetensors nor"));
    write_shard("a.safetensors", "x");
    write_shard("b.safetensors", "y");
    write_index("{\"metadata\": {\"total_size\": 8}, \"weight_map\": {\"y\": \"b.safetensors\", \"x\": "
                "\"a.safetensors\"}}");
    assert_int_equal(tensor_set_open(&set, &arena, scratch), STATUS_OK);
    assert_int_equal(set.count, 2);
    assert_int_equal(set.shard_count, 2);
    assert_int_equal(set.bytes, 8);
    assert_non_null(tensor_set_find(&set, "y"));
    assert_null(tensor_set_find(&set, "z"));
    tensor_set_close(&set);

    expect_refused_set("{\"weight_map\": {\"x\": \"a.safetensors\", \"y\": \"c.safetensors\"}}",
                       STATUS_NO_INPUT, "c.safetensors: this weight file is missing");
    expect_refused_set("{\"weight_map\": {\"x\": \"a.safetensors\", \"z\": \"b.safetensors\"}}",
                       STATUS_BAD_INPUT, "says tensor z is in b.safetensors, but it is not there");
    expect_refused_set("{\"weight_map\": {\"x\": \"b.safetensors\", \"y\": \"a.safetensors\"}}",
                       STATUS_BAD_INPUT, "but it is in");
    write_shard("b.safetensors", "x");
    expect_refused_set("{\"weight_map\": {\"x\": \"a.safetensors\", \"y\": \"b.safetensors\"}}",
                       STATUS_BAD_INPUT, "tensor x stands in two files");
    write_good(in_scratch("b.safetensors"),
               "{\"y\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}, \"more\": {\"dtype\": "
               "\"U8\", \"shape\": "
               "[0], \"data_offsets\": [4, 4]}}",
               4);
    expect_refused_set("{\"weight_map\": {\"x\": \"a.safetensors\", \"y\": \"b.safetensors\"}}",
                       STATUS_BAD_INPUT, "tensor more is not in model.safetensors.index.json");
    write_shard("b.safetensors", "y");
    expect_refused_set("{\"weight_map\": {\"x\": \"../a.safetensors\"}}", STATUS_BAD_INPUT, "plain names");
    expect_refused_set("{\"weight_map\": {\"x\": \"/etc/a.safetensors\"}}", STATUS_BAD_INPUT, "plain names");
    expect_refused_set("{\"weight_map\": {\"x\": \".safetensors\"}}", STATUS_BAD_INPUT, "plain names");
    expect_refused_set("{\"weight_map\": {\"x\": \"pytorch_model.bin\"}}", STATUS_BAD_INPUT, "plain names");
    expect_refused_set("{\"weight_map\": {\"x\": 7}}", STATUS_BAD_INPUT, "plain names");
    expect_refused_set("{\"weight_map\": {}}", STATUS_BAD_INPUT, "names 0 weight files");
    expect_refused_set("{\"weight_map\": []}", STATUS_BAD_INPUT, "weight_map");
    expect_refused_set("{}", STATUS_BAD_INPUT, "\"weight_map\" is missing");
    expect_refused_set("{\"weight_map\": {\"x\": \"a.safetensors\", \"x\": \"b.safetensors\"}}",
                       STATUS_BAD_INPUT, "duplicate");
}

static void test_shards_hold_what_the_single_file_holds(void **state)
{
    struct tensor_set one, three;

    (void)state;
    assert_int_equal(tensor_set_open(&one, &arena, "tests/golden/llama4_a"), STATUS_OK);
    assert_int_equal(tensor_set_open(&three, &arena, "tests/golden/llama4_a_sharded"), STATUS_OK);
    assert_int_equal(three.shard_count, 3);
    assert_int_equal(one.count, three.count);
    assert_int_equal(one.bytes, three.bytes);
    for (int i = 0; i < one.count; i++) {
        const struct tensor *a = one.by_name[i], *b = three.by_name[i];
        unsigned char *left = malloc((size_t)a->bytes), *right = malloc((size_t)a->bytes);

        assert_string_equal(a->name, b->name);
        assert_int_equal(a->bytes, b->bytes);
        assert_int_equal(file_read(a->file, a->offset, left, (size_t)a->bytes), STATUS_OK);
        assert_int_equal(file_read(b->file, b->offset, right, (size_t)a->bytes), STATUS_OK);
        assert_memory_equal(left, right, (size_t)a->bytes);
        free(left);
        free(right);
    }
    tensor_set_close(&one);
    tensor_set_close(&three);
}

/* The data of write_parts counts up, so every element says where it is from. */
static void test_parts_are_the_rectangles_that_were_asked_for(void **state)
{
    static const char header[] =
        "{\"vector\": {\"dtype\": \"U8\", \"shape\": [8], \"data_offsets\": [0, 8]}, \"matrix\": "
        "{\"dtype\": \"U8\", \"shape\": [4, 6], \"data_offsets\": [8, 32]}, \"planes\": {\"dtype\": "
        "\"U8\", \"shape\": [3, 4, 5], \"data_offsets\": [32, 92]}}";
    const struct tensor_part rectangle = {.row = 1, .rows = 2, .column = 2, .columns = 3};
    const struct tensor_part rows = {.row = 2, .rows = 2, .columns = 6};
    const struct tensor_part piece = {.rows = 1, .column = 3, .columns = 4};
    const struct tensor_part plane = {.plane = 2, .row = 1, .rows = 3, .column = 4, .columns = 1};
    const struct tensor_part beside = {.row = 3, .rows = 2, .columns = 6};
    struct safetensors s;
    unsigned char out[32];

    (void)state;
    expect_accepted(&s, header, 92);
    assert_int_equal(tensor_read(&s.tensors[0], &piece, out), STATUS_OK);
    assert_memory_equal(out, "\3\4\5\6", 4);
    assert_int_equal(tensor_read(&s.tensors[1], &rectangle, out), STATUS_OK);
    assert_memory_equal(out, "\20\21\22\26\27\30", 6); /* 8 + 6 * row + column */
    assert_int_equal(tensor_read(&s.tensors[1], &rows, out), STATUS_OK);
    assert_int_equal(out[0], 20);
    assert_int_equal(out[11], 31);
    assert_int_equal(tensor_read(&s.tensors[2], &plane, out), STATUS_OK);
    assert_int_equal(out[0], 32 + 40 + 9);
    assert_int_equal(out[2], 32 + 40 + 19);
    assert_int_equal(tensor_read(&s.tensors[1], &beside, out), STATUS_BUG);
    assert_int_equal(truncate(in_scratch("x.safetensors"), (off_t)(8 + strlen(header) + 20)), 0);
    assert_int_equal(tensor_read(&s.tensors[1], &rows, out), STATUS_BAD_INPUT);
    assert_non_null(strstr(status_text(), "truncated"));
    safetensors_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths_that_cannot_be_are_refused),
        cmocka_unit_test(test_headers_that_are_no_json_of_the_format_are_refused),
        cmocka_unit_test(test_places_that_contradict_each_other_are_refused),
        cmocka_unit_test(test_what_would_exhaust_memory_is_refused_first),
        cmocka_unit_test(test_everything_legal_is_accepted),
        cmocka_unit_test(test_a_missing_file_is_not_bad_input),
        cmocka_unit_test(test_an_index_must_agree_with_its_shards),
        cmocka_unit_test(test_shards_hold_what_the_single_file_holds),
        cmocka_unit_test(test_parts_are_the_rectangles_that_were_asked_for),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
