/* options_value.h - the value of one option: from text into its field, and what is legal
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef OPTIONS_VALUE_H
#define OPTIONS_VALUE_H

#include "launch/options_table.h"

enum { OPTIONS_LEGAL_BYTES = 128 };

/* Everything as if no option had been given to this command; 0: no command. */
void options_value_defaults(struct options *o, int command);

/* Writes the value that `text` says into the option's field; false, and nothing written, when it is not
 * legal. Flags take any text. Strings are not copied. */
bool options_value_store(struct options *o, const struct options_row *row, const char *text);

/* What is legal, to follow "is not": "a whole number from 1 to 1024". */
void options_value_legal(const struct options_row *row, char out[static OPTIONS_LEGAL_BYTES]);

/* "2GiB", "512M", "1.5G", "4096" to bytes: K, M, G, T are powers of 1024, with or without "iB" or "B". False:
 * not such a size. */
bool options_value_bytes(const char *text, size_t *bytes);

/* Equal on two ranks whose options are equal, but for those that may differ; for process_compare. */
uint64_t options_value_hash(const struct options *o);

#endif
