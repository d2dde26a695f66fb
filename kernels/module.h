/* module.h - a backend that is a file of its own, opened when the program runs
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * So one program starts on machines with and without the libraries of a device. */
#ifndef MODULE_H
#define MODULE_H

#include "kernels/kernels.h"

/* The cuda backend on device `number`, out of `file`; NULL: switchyard-cuda.so beside the program or where it
 * is installed. STATUS_UNAVAILABLE says why there is none: no driver, no module, no device, ... The table's
 * close leaves the module loaded. */
enum status module_open_cuda(const char *file, int number, struct kernels **out);

#endif
