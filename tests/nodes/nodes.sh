#!/bin/bash
# nodes.sh - several "machines" on one, without ssh, containers or daemons
#
# SPDX-License-Identifier: Apache-2.0
#
#   nodes.sh DIR up COUNT          make nodes 1 ... COUNT; DIR, an empty folder, keeps their state
#   nodes.sh DIR exec N COMMAND..  run a command on node N, in the current folder
#   nodes.sh DIR mpirun PER_NODE COMMAND..  Open MPI's mpirun over all nodes, started on node 1
#   nodes.sh DIR names             the host names, one a line
#   nodes.sh DIR down              end what runs on the nodes and remove them; DIR stays
#
# A node is a network namespace, with an address on a bridge in one more namespace, and a UTS namespace with a host name of
# its own; so MPI takes each for a machine. Nothing leaves the namespaces: every set of nodes has a network to itself, and
# host names carry the number of the process that made them, so sets do not meet in /dev/shm or /tmp either. Exit code 77,
# with a line that says what is missing, where such namespaces cannot be had.
set -euo pipefail

network=10.77.7

die() {
    echo "nodes.sh: $*" >&2
    exit 1
}

skip() {
    echo "skipped: nodes ($* is not there)"
    exit 77
}

[ $# -ge 2 ] || die "usage: nodes.sh DIR up|exec|mpirun|names|down ..."
state=$(cd "$1" && pwd) || die "no folder $1"
action=$2
shift 2

require() {
    command -v ip >/dev/null || skip "iproute2"
    command -v nsenter >/dev/null || skip "nsenter"
    [ "$(id -u)" -eq 0 ] || skip "the right of root to make namespaces"
    unshare -n true 2>/dev/null || skip "unshare -n"
    unshare -u true 2>/dev/null || skip "unshare -u"
}

set_name() {
    cat "$state/name"
}

count() {
    cat "$state/count"
}

on() {
    local name
    name=$(set_name)x$1
    shift
    [ -e "$state/$name.uts" ] || die "no node $name"
    exec nsenter --net="/run/netns/$name" --uts="$state/$name.uts" -- "$@"
}

make_node() {
    local set=$1 number=$2 name=$1x$2
    ip netns add "$name"
    ip -n "$name" link add eth0 type veth peer name "port$number" netns "$set"
    ip -n "$set" link set "port$number" master bridge0 up
    ip -n "$name" address add "$network.$number/24" dev eth0
    ip -n "$name" link set eth0 up
    ip -n "$name" link set lo up
    touch "$state/$name.uts"
    unshare --uts="$state/$name.uts" hostname "$name"
    echo "$network.$number $name" >>"$state/hosts"
}

# What mpirun takes for ssh: AGENT HOST COMMAND..., HOST being a name or an address.
make_agent() {
    cat >"$state/agent" <<AGENT
#!/bin/bash
host=\$1
shift
name=\$(awk -v host="\$host" '\$1 == host || \$2 == host {print \$2}' "$state/hosts")
[ -n "\$name" ] || { echo "no node \$host" >&2; exit 255; }
exec nsenter --net="/run/netns/\$name" --uts="$state/\$name.uts" -- /bin/sh -c "\$*"
AGENT
    chmod +x "$state/agent"
}

up() {
    local nodes=$1 set=sy$$ i
    [ ! -e "$state/name" ] || die "$state holds nodes already"
    require
    echo "$set" >"$state/name"
    echo "$nodes" >"$state/count"
    : >"$state/hosts"
    ip netns add "$set" 2>/dev/null || skip "the right to make network namespaces"
    ip -n "$set" link add bridge0 type bridge 2>/dev/null || skip "a bridge in the kernel"
    ip -n "$set" link set bridge0 up
    for ((i = 1; i <= nodes; i++)); do make_node "$set" "$i"; done
    make_agent
}

down() {
    local set name pid
    [ -e "$state/name" ] || return 0
    set=$(set_name)
    for name in "$set" $(awk '{print $2}' "$state/hosts"); do
        [ -e "/run/netns/$name" ] || continue
        for pid in $(ip netns pids "$name" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null || true; done
        ip netns delete "$name"
    done
    for name in "$state"/*.uts; do
        [ ! -e "$name" ] || umount "$name" 2>/dev/null || true
    done
    rm -f "$state"/*.uts "$state/name" "$state/count" "$state/hosts" "$state/agent"
}

over_all() {
    local per_node=$1 hosts ranks mpirun
    shift
    mpirun=$(command -v mpirun.openmpi) || skip "mpirun of Open MPI"
    hosts=$(awk -v n="$per_node" '{printf "%s%s:%d", comma, $2, n; comma = ","}' "$state/hosts")
    ranks=$(($(count) * per_node))
    # The interfaces of the nodes, not those that a caller chose for one machine.
    unset OMPI_MCA_btl_tcp_if_include OMPI_MCA_oob_tcp_if_include
    on 1 "$mpirun" --mca plm rsh --mca plm_rsh_agent "$state/agent" --mca plm_rsh_no_tree_spawn 1 --mca ras ^slurm \
        --mca oob_tcp_if_include eth0 --mca btl_tcp_if_include eth0 --mca btl self,vader,tcp \
        --host "$hosts" -np "$ranks" --map-by "ppr:$per_node:node" --bind-to none "$@"
}

case $action in
up) up "$1" ;;
exec) on "$@" ;;
mpirun) over_all "$@" ;;
names) awk '{print $2}' "$state/hosts" ;;
down) down ;;
*) die "nodes.sh knows up, exec, mpirun, names and down, not $action" ;;
esac
