/* document.c - a program of the build: writes what is installed beside switchyard, from the table of options
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *     document manual        the manual page's source, for scdoc
 *     document completion    what bash reads */
#include "launch/options_completion.h"
#include "launch/options_manual.h"

#include <string.h>

int main(int argc, char **argv)
{
    const char *what = argc == 2 ? argv[1] : "";

    if (strcmp(what, "manual") == 0)
        options_manual(stdout, SWITCHYARD_VERSION);
    else if (strcmp(what, "completion") == 0)
        options_completion(stdout);
    else
        return fputs("document: manual or completion?\n", stderr), 64;
    return fflush(stdout) == 0 ? 0 : 74;
}
