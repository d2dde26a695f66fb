#!/usr/bin/env python3
# whole_nccl.py - the whole program on emulated devices: communicators of nodes, and settings of NCCL
#
# SPDX-License-Identifier: Apache-2.0
"""Usage: whole_nccl.py PROGRAM MPIEXEC MODULE, as whole.py"""
import re
import sys

from whole import Program, expect, start


def nccl(program):
    """An exchange inside a node has a communicator of its own, which is named when it fails, with the ranks as all call them; what would
    undo the order of communicators, or the end of a call, is refused."""
    if program.exchange != "nccl":
        print("skipped: nccl (this build has no NCCL)")
        sys.exit(77)
    nodes = ("--enforce-eager", "--watchdog-timeout", "60", "--node-size", "2", "--dispatch", "node-once")
    code, told = start(program, 4, "cuda", HOSTGPU_FAULT="1:0:switchyard node", more=nodes)
    expect("an exchange inside a node that fails at the start is named on all ranks", code == 69 and "rank 0: comm_nccl_team.c" in told and
           "communicator of a node: NCCL says remote process exited" in told and "under way: exchange inside the node, " in told and
           "of the start, with rank 1 (all 4 ranks failed)" in told, told)
    code, told = start(program, 4, "cuda", HOSTGPU_FAULT="1:2:switchyard node", prompt=list(range(1, 13)), more=nodes)
    # The first rank that tells ends the others, so which ones do is chance.
    heard = re.findall(r"rank (\d): .*, communicator of .*: NCCL says (.*); under way: (.*)", told)
    near = [(rank, call[-1]) for rank, _, call in heard if " of the spread of layer " in call]
    expect(f"so is one in a step, with the ranks as all call them: {heard}", code != 0 and heard and "watchdog" not in told and
           all("a link of the emulated network is down" in said or "remote rank" in said for _, said, _ in heard) and
           set(near) <= {("0", "1"), ("1", "0"), ("2", "3"), ("3", "2")}, told)
    for setting, words in (("NCCL_COMM_BLOCKING=1", "has died"), ("NCCL_COMM_SPLIT_SHARE_RESOURCES=0", "wait for each other"),
                           ("NCCL_GRAPH_MIXING_SUPPORT=0", "recorded steps")):
        code, told = start(program, 2, "cuda", **dict([setting.split("=")]))
        expect(f"{setting} is refused", code == 64 and f"{setting} is in the environment" in told and words in told, told)


if __name__ == "__main__":
    nccl(Program(*sys.argv[1:4]))
