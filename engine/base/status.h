/* status.h - what a call says when it fails
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Whoever sees a failure first describes it with FAIL, in words a user can act on; everyone above passes it
 * on with TRY. The description is kept per thread until the next FAIL; main prints it once. */
#ifndef STATUS_H
#define STATUS_H

#include <stdbool.h>

enum status {
    STATUS_OK = 0,
    STATUS_USAGE,       /* the command line is wrong                                exit 64 */
    STATUS_BAD_INPUT,   /* a file or a request holds something illegal              exit 65 */
    STATUS_NO_INPUT,    /* a file that was named is not there or cannot be opened   exit 66 */
    STATUS_UNAVAILABLE, /* a device, a rank or a service is gone                    exit 69 */
    STATUS_BUG,         /* this program contradicts itself                          exit 70 */
    STATUS_IO,          /* reading or writing failed                                exit 74 */
    STATUS_NO_MEMORY,   /* memory, or a watchdog's patience, ran out; a later try may do better   exit 75 */
};

/* Describe a failure here and now; the value is the status itself:  return FAIL(STATUS_BAD_INPUT, "...",
 * ...); */
#define FAIL(status, ...) status_fail((status), __FILE__, __LINE__, __VA_ARGS__)

/* Pass a failure on. */
#define TRY(call)                                                                                            \
    do {                                                                                                     \
        enum status try_status_ = (call);                                                                    \
        if (try_status_ != STATUS_OK)                                                                        \
            return try_status_;                                                                              \
    } while (0)

/* Keeps file, line and words for this thread and returns `status`. Use FAIL. */
enum status status_fail(enum status status, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5), cold));

/* Puts words in front of the description, for a caller that knows more ("shard 3: "). Returns `status`. */
enum status status_prefix(enum status status, const char *format, ...)
    __attribute__((format(printf, 2, 3), cold));

/* The words of this thread's last failure, without file and line; "" when there was none. */
const char *status_text(void);

/* The place of this thread's last failure, "weights.c:118"; "" when there was none. */
const char *status_place(void);

/* The code from sysexits.h that a program which ends with `status` returns. */
int status_exit_code(enum status status);

#endif
