/* version.h - what --version prints: the program and what it was built with
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef VERSION_H
#define VERSION_H

#include <stdio.h>

void version_print(FILE *out);

#endif
