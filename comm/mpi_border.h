/* mpi_border.h - MPI's codes and ranks in our words
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef MPI_BORDER_H
#define MPI_BORDER_H

#include "engine/base/status.h"

#include <mpi.h>

/* STATUS_UNAVAILABLE with MPI's own text unless `code` is MPI_SUCCESS. `what` is what was tried: "to share
 * memory". */
enum status mpi_border_check(int code, const char *what);

/* world [size of mpi]: the rank in MPI_COMM_WORLD of each rank of `mpi`. */
enum status mpi_border_world_ranks(MPI_Comm mpi, int *world);

/* Collective: how many pauses a wait may begin with. 0 when the ranks of the node outnumber the processors
 * they may use together, for then every pause is taken from a rank that has work. */
enum status mpi_border_pauses(MPI_Comm mpi, int *pauses);

/* MPI moves data only inside its calls. Lets it send what it has taken from us and still holds back. */
void mpi_border_help(void);

#endif
