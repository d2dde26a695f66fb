/* mpi_border.c - MPI's codes and ranks in our words
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "comm/mpi_border.h"

#include <sched.h>

enum { PAUSES = 2000 };

enum status mpi_border_check(int code, const char *what)
{
    char text[MPI_MAX_ERROR_STRING + 1];
    int length = 0;

    if (code == MPI_SUCCESS)
        return STATUS_OK;
    if (MPI_Error_string(code, text, &length) != MPI_SUCCESS)
        length = 0;
    text[length] = '\0';
    return FAIL(STATUS_UNAVAILABLE, "MPI failed %s: %s (code %d)", what, text, code);
}

enum status mpi_border_world_ranks(MPI_Comm mpi, int *world)
{
    MPI_Group ours;
    MPI_Group all;
    int size;

    TRY(mpi_border_check(MPI_Comm_size(mpi, &size), "to count ranks"));
    TRY(mpi_border_check(MPI_Comm_group(mpi, &ours), "to list ranks"));
    TRY(mpi_border_check(MPI_Comm_group(MPI_COMM_WORLD, &all), "to list ranks"));
    for (int r = 0; r < size; r++)
        TRY(mpi_border_check(MPI_Group_translate_ranks(ours, 1, &r, all, &world[r]), "to translate ranks"));
    MPI_Group_free(&ours);
    MPI_Group_free(&all);
    return STATUS_OK;
}

enum status mpi_border_pauses(MPI_Comm mpi, int *pauses)
{
    cpu_set_t mine;
    cpu_set_t all;
    MPI_Comm node;
    int size;

    CPU_ZERO(&mine);
    if (sched_getaffinity(0, sizeof mine, &mine) != 0)
        CPU_ZERO(&mine);
    TRY(mpi_border_check(MPI_Comm_split_type(mpi, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node),
                         "to find the ranks of a node"));
    MPI_Comm_size(node, &size);
    TRY(mpi_border_check(MPI_Allreduce(&mine, &all, (int)sizeof mine, MPI_BYTE, MPI_BOR, node),
                         "to count processors"));
    MPI_Comm_free(&node);
    *pauses = size <= CPU_COUNT(&all) ? PAUSES : 0;
    return STATUS_OK;
}

void mpi_border_help(void)
{
    int there;

    MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_SELF, &there, MPI_STATUS_IGNORE);
}
