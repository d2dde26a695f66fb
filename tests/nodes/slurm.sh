#!/bin/bash
# slurm.sh - a Slurm cluster to throw away, on the nodes of nodes.sh
#
# SPDX-License-Identifier: Apache-2.0
#
#   slurm.sh DIR up COUNT [CPUS [GPUS]]   nodes, a controller on node 1, a daemon on every node; nodes claim CPUS
#                                  processors (8) and GPUS devices (0)
#   slurm.sh DIR run COMMAND..     run a Slurm command (sbatch, srun, squeue ...) on node 1, in the current folder
#   slurm.sh DIR down              end all of it; DIR stays
#
# Without munge, systemd, cgroups or a database: it trusts everybody and is for tests only. Exit code 77, with a line that
# says what is missing, where it cannot be had.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -ge 2 ] || {
    echo "usage: slurm.sh DIR up|run|down ..." >&2
    exit 1
}
state=$(cd "$1" && pwd)
action=$2
shift 2
export SLURM_CONF=$state/slurm.conf
export PMIX_MCA_gds=hash # with PMIx 4.2.2's shared store one launch in twenty dies in MPI_Init

nodes() {
    "$here/nodes.sh" "$state" "$@"
}

configuration() {
    local set=$1 processors=$2 gpus=$3 first=$4 has=
    cat <<CONF
ClusterName=$set
SlurmctldHost=$first
AuthType=auth/none
CredType=cred/none
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$state/slurm/state
SlurmdSpoolDir=$state/slurm/spool/%n
TmpFS=$state/slurm/tmp/%n
SlurmctldPidFile=$state/slurm/slurmctld.pid
SlurmdPidFile=$state/slurm/slurmd.%n.pid
SlurmctldLogFile=$state/slurm/slurmctld.log
SlurmdLogFile=$state/slurm/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=pmix
ReturnToService=2
KillWait=5
SlurmctldTimeout=30
SlurmdTimeout=30
CONF
    if [ "$gpus" -gt 0 ]; then
        echo "GresTypes=gpu"
        has=" Gres=gpu:$gpus"
    fi
    while read -r address name; do
        echo "NodeName=$name NodeAddr=$address CPUs=$processors RealMemory=1000$has State=UNKNOWN"
    done <"$state/hosts"
    echo "PartitionName=all Nodes=ALL Default=YES MaxTime=60 State=UP OverSubscribe=YES"
}

# Devices are files that nobody opens: from the numbers of their names Slurm makes what it sets for a task. It takes no others
# than character devices for that.
devices() {
    local i
    [ "$1" -gt 0 ] || return 0
    for ((i = 0; i < $1; i++)); do mknod "$state/slurm/gpu$i" c 1 3; done
    echo "Name=gpu File=$state/slurm/gpu[0-$(($1 - 1))]" >"$state/gres.conf"
}

up() {
    local count=$1 processors=${2:-8} gpus=${3:-0} name address number=0 i
    for name in slurmctld slurmd srun sbatch; do
        command -v "$name" >/dev/null || {
            echo "skipped: Slurm ($name is not there)"
            exit 77
        }
    done
    nodes up "$count"
    mkdir -p "$state/slurm/state"
    read -r address name <"$state/hosts"
    devices "$gpus"
    configuration "$(cat "$state/name")" "$processors" "$gpus" "$name($address)" >"$SLURM_CONF"
    nodes exec 1 slurmctld -f "$SLURM_CONF" -i
    while read -r name; do
        number=$((number + 1))
        mkdir -p "$state/slurm/spool/$name" "$state/slurm/tmp/$name"
        nodes exec "$number" slurmd -N "$name" -f "$SLURM_CONF"
    done < <(nodes names)
    for ((i = 0; i < 300; i++)); do
        [ "$(nodes exec 1 sinfo -h -t idle -o %D 2>/dev/null || true)" != "$count" ] || return 0
        sleep 0.1
    done
    echo "slurm.sh: the nodes did not come up within 30 s" >&2
    tail -n 5 "$state"/slurm/*.log >&2
    return 1
}

down() {
    local file i
    for file in "$state"/slurm/slurmd.*.pid "$state"/slurm/slurmctld.pid; do
        [ ! -s "$file" ] || kill "$(cat "$file")" 2>/dev/null || true
    done
    for ((i = 0; i < 30; i++)); do
        compgen -G "$state/slurm/*.pid" >/dev/null || break
        sleep 0.1
    done
    nodes down
    rm -rf "$state/slurm" "$SLURM_CONF" "$state/gres.conf"
}

case $action in
up) up "$@" ;;
run) nodes exec 1 "$@" ;;
down) down ;;
*)
    echo "slurm.sh: knows up, run and down, not $action" >&2
    exit 1
    ;;
esac
