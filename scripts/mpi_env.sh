# mpi_env.sh - what Open MPI needs for many ranks on few processors, as root or not; to be sourced
# shellcheck shell=bash
#
# SPDX-License-Identifier: Apache-2.0
#
# A value that is already set stays. MPICH ignores all of it.
export OMPI_ALLOW_RUN_AS_ROOT="${OMPI_ALLOW_RUN_AS_ROOT:-1}"                  # else mpirun refuses root (containers, CI)
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM:-1}"  # ... and wants to be told twice
export OMPI_MCA_rmaps_base_oversubscribe="${OMPI_MCA_rmaps_base_oversubscribe:-1}"  # more ranks than processors are meant
export OMPI_MCA_mpi_yield_when_idle="${OMPI_MCA_mpi_yield_when_idle:-1}"      # a rank that waits lets the others run
export OMPI_MCA_hwloc_base_binding_policy="${OMPI_MCA_hwloc_base_binding_policy:-none}"  # no two ranks tied to one core
export OMPI_MCA_btl="${OMPI_MCA_btl:-self,vader,tcp}"                         # shared memory and TCP; no search for fabrics
export OMPI_MCA_btl_vader_single_copy_mechanism="${OMPI_MCA_btl_vader_single_copy_mechanism:-none}"  # containers forbid it
export OMPI_MCA_btl_tcp_if_include="${OMPI_MCA_btl_tcp_if_include:-lo}"       # one machine: nothing listens outside
export OMPI_MCA_oob_tcp_if_include="${OMPI_MCA_oob_tcp_if_include:-lo}"       # ... neither does mpirun itself
export PMIX_MCA_gds="${PMIX_MCA_gds:-hash}"                                   # PMIx 4.2.2's shared store fails now and then
