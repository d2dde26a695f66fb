/* options_value.c - the value of one option: from text into its field, and what is legal
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch/options_value.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool options_value_bytes(const char *text, size_t *bytes)
{
    static const char units[] = "KMGT";
    const char *digits = text;
    double number = 0, place = 1;
    const char *unit;

    for (; *text >= '0' && *text <= '9'; text++)
        number = number * 10 + (*text - '0');
    if (text == digits)
        return false;
    if (*text == '.') {
        const char *fraction = ++text;

        for (; *text >= '0' && *text <= '9'; text++)
            number += (*text - '0') * (place /= 10);
        if (text == fraction)
            return false;
    }
    unit = *text ? strchr(units, *text >= 'a' ? *text - 'a' + 'A' : *text) : NULL;
    if (unit) {
        number *= (double)((uint64_t)1 << (10 * (unit - units + 1)));
        text++;
        if (*text == 'i' && (text[1] == 'B' || text[1] == 'b'))
            text++;
    }
    if (*text == 'B' || *text == 'b')
        text++;
    if (*text || number < 1 || number >= 9223372036854775808.0)
        return false;
    *bytes = (size_t)number;
    return true;
}

static bool read_whole(const char *text, const struct options_row *row, int *out)
{
    const char *digits = text + (*text == '-');
    char *end;
    long long number;

    if (*digits < '0' || *digits > '9')
        return false;
    errno = 0;
    number = strtoll(text, &end, 10);
    if (errno || *end || (double)number < row->least || (double)number > row->most)
        return false;
    *out = (int)number;
    return true;
}

static bool read_seed(const char *text, uint64_t *out)
{
    char *end;
    unsigned long long number;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    number = strtoull(text, &end, 10);
    if (errno || *end)
        return false;
    *out = number;
    return true;
}

/* Decimal numbers only, and "inf" where there is no most: strtod alone would take "nan", hexadecimal and
 * leading spaces as well. */
static bool read_real(const char *text, const struct options_row *row, double *out)
{
    char *end;
    double number;

    if (isinf(row->most) && strcmp(text, "inf") == 0) {
        *out = (double)INFINITY;
        return true;
    }
    if (!*text || strspn(text, "0123456789.eE+-") != strlen(text))
        return false;
    number = strtod(text, &end);
    if (*end || !isfinite(number) || number < row->least || number > row->most ||
        (row->above && number == row->least))
        return false;
    *out = number;
    return true;
}

static bool read_word(const char *text, const struct options_row *row, int *out)
{
    for (const struct options_word *w = row->words; w->word; w++)
        if (strcmp(w->word, text) == 0) {
            *out = w->value;
            return true;
        }
    return false;
}

/* What values of this option are legal: "a whole number from 1 to 1024". */
void options_value_legal(const struct options_row *row, char out[static OPTIONS_LEGAL_BYTES])
{
    size_t used = 0;

    switch (row->type) {
    case OPTIONS_WHOLE:
        snprintf(out, OPTIONS_LEGAL_BYTES, "a whole number from %.0f to %.0f", row->least, row->most);
        return;
    case OPTIONS_SEED:
        snprintf(out, OPTIONS_LEGAL_BYTES, "a whole number from 0 to 18446744073709551615");
        return;
    case OPTIONS_REAL:
    case OPTIONS_DOUBLE:
        if (row->above)
            snprintf(out, OPTIONS_LEGAL_BYTES, "a number above %g and at most %g", row->least, row->most);
        else
            snprintf(out, OPTIONS_LEGAL_BYTES, "a number from %g to %g", row->least, row->most);
        return;
    case OPTIONS_SIZE:
        snprintf(out, OPTIONS_LEGAL_BYTES, "a number of bytes such as 512M or 2GiB");
        return;
    case OPTIONS_WORD:
        used = (size_t)snprintf(out, OPTIONS_LEGAL_BYTES, "one of");
        for (const struct options_word *w = row->words; w->word && used < OPTIONS_LEGAL_BYTES; w++)
            used += (size_t)snprintf(out + used, OPTIONS_LEGAL_BYTES - used, "%s %s",
                                     w == row->words ? "" : ",", w->word);
        return;
    case OPTIONS_STRINGS:
        snprintf(out, OPTIONS_LEGAL_BYTES, "a text of 1 to %d bytes", DETOKENIZER_STOP_BYTES - 1);
        return;
    case OPTIONS_WHOLES:
        snprintf(out, OPTIONS_LEGAL_BYTES, "a list of at most %d whole numbers from %.0f to %.0f",
                 OPTIONS_LIST_LIMIT, row->least, row->most);
        return;
    case OPTIONS_STRING:
    case OPTIONS_FLAG:
    case OPTIONS_ASK:
        snprintf(out, OPTIONS_LEGAL_BYTES, "a name");
    }
}

/* Adds "1,2,8" to what the list holds; nothing when one of them is not legal. */
static bool read_wholes(const char *text, const struct options_row *row, struct options_wholes *out)
{
    int count = out->count;

    for (;;) {
        size_t digits = strcspn(text, ",");
        char number[32];

        if (digits >= sizeof number || count == OPTIONS_LIST_LIMIT)
            return false;
        memcpy(number, text, digits);
        number[digits] = '\0';
        if (!read_whole(number, row, &out->value[count]))
            return false;
        count++;
        if (!text[digits])
            break;
        text += digits + 1;
    }
    out->count = count;
    return true;
}

static bool store_text(struct options *o, const struct options_row *row, const char *text)
{
    if (!*text || (row->type == OPTIONS_STRINGS && strlen(text) >= DETOKENIZER_STOP_BYTES))
        return false;
    if (row->type == OPTIONS_STRINGS)
        o->stop[o->stop_count++] = text;
    else
        memcpy((char *)o + row->field, &text, sizeof text);
    return true;
}

/* Writes the value of an option into its field; false when the text is none of its legal values. */
bool options_value_store(struct options *o, const struct options_row *row, const char *text)
{
    void *field = (char *)o + row->field;
    double number;

    switch (row->type) {
    case OPTIONS_FLAG:
        *(bool *)field = true;
        return true;
    case OPTIONS_ASK:
        *(int *)field = (int)row->least;
        return true;
    case OPTIONS_WHOLE:
        return read_whole(text, row, field);
    case OPTIONS_SEED:
        return read_seed(text, field);
    case OPTIONS_REAL:
        if (!read_real(text, row, &number))
            return false;
        *(float *)field = (float)number;
        return true;
    case OPTIONS_DOUBLE:
        return read_real(text, row, field);
    case OPTIONS_SIZE:
        return options_value_bytes(text, field);
    case OPTIONS_WORD:
        return read_word(text, row, field);
    case OPTIONS_WHOLES:
        return read_wholes(text, row, field);
    case OPTIONS_STRING:
    case OPTIONS_STRINGS:
        return store_text(o, row, text);
    }
    return false;
}

void options_value_defaults(struct options *o, int command)
{
    const struct options_row *row;

    memset(o, 0, sizeof *o);
    o->command = command;
    o->temperature = o->top_p = o->min_p = o->repetition_penalty = NAN;
    o->top_k = OPTIONS_TOP_K_MODEL;
    for (int i = 0; (row = options_table_row(i)); i++)
        if (row->preset && (row->commands & (unsigned)command))
            options_value_store(o, row, row->preset);
}

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t count)
{
    const unsigned char *byte = bytes;

    for (size_t i = 0; i < count; i++)
        hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    return hash;
}

static uint64_t hash_texts(uint64_t hash, const char *const *texts, int count)
{
    for (int i = 0; i < count; i++)
        hash = hash_bytes(hash, texts[i], strlen(texts[i]) + 1);
    return hash;
}

static uint64_t hash_wholes(uint64_t hash, const struct options_wholes *list)
{
    return hash_bytes(hash, list->value, (size_t)list->count * sizeof list->value[0]);
}

static size_t value_bytes(enum options_type type)
{
    switch (type) {
    case OPTIONS_FLAG:
        return sizeof(bool);
    case OPTIONS_SEED:
        return sizeof(uint64_t);
    case OPTIONS_DOUBLE:
        return sizeof(double);
    case OPTIONS_SIZE:
        return sizeof(size_t);
    default:
        return sizeof(int); /* as wide as a float */
    }
}

uint64_t options_value_hash(const struct options *o)
{
    uint64_t hash = hash_bytes(UINT64_C(0xcbf29ce484222325), &o->command, sizeof o->command);
    const struct options_row *row;

    for (int i = 0; (row = options_table_row(i)); i++) {
        const char *field = (const char *)o + row->field;

        if (row->local || !(row->commands & (unsigned)o->command))
            continue;
        if (row->type == OPTIONS_STRINGS)
            hash = hash_texts(hash, o->stop, o->stop_count);
        else if (row->type == OPTIONS_STRING)
            hash = hash_texts(hash, (const char *const *)(const void *)field,
                              *(const char *const *)(const void *)field != NULL);
        else if (row->type == OPTIONS_WHOLES)
            hash = hash_wholes(hash, (const void *)field);
        else
            hash = hash_bytes(hash, field, value_bytes(row->type));
    }
    return hash;
}
