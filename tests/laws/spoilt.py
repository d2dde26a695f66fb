#!/usr/bin/env python3
# spoilt.py - experts that move arrive damaged at random: the same bytes, and each refusal is said and counted
#
# SPDX-License-Identifier: Apache-2.0
"""spoilt.py BINARY SPOILT MPIEXEC [SEED]

SPOILT is spoilt.c, the program whose ranks damage a share of the experts that reach them and say so. --eplb-force moves
experts at every step."""

import json
import pathlib
import random
import re
import sys
import tempfile

from laws import ROOT, SAMPLED, generate, lines
from run import Program, expect_equal, fail

EXPERT = rb"expert (-?\d+) of layer (\d+)"
SPOILT = re.compile(rb"^spoilt after (\d+) dropped: " + EXPERT + rb" on rank (\d+)$", re.MULTILINE)
REFUSED = re.compile(EXPERT + rb" came to rank (\d+) damaged .* experts stay where they are")
PERCENT = 20  # of experts, from the first that move on
LAYOUTS = ((1, ()), (2, ("--num-redundant-experts", 5)), (2, ("--eplb-dispatch", "even")),
           (3, ("--num-redundant-experts", 16, "--eplb-dispatch", "flow")),
           (4, ("--dispatch", "auto", "--node-size", 2, "--num-redundant-experts", 6)), (8, ("--num-redundant-experts", 24)))


def run(program, count, seed, percent, *options):
    """What was answered, the balancer's figures, what ranks damaged by group, what rank 0 refused, where experts lie."""
    with tempfile.TemporaryDirectory() as folder:
        stats, placement, said = (pathlib.Path(folder) / name for name in ("stats.json", "placement.json", "spoilt"))
        done = program.run(count, seed, percent, said, *generate(*SAMPLED, tokens=24), "--enable-eplb", "--stats", stats,
                           "--expert-placement", placement, *options, stdin=lines(7))
        if done.returncode != 0:
            fail(f"{count} ranks {options}: exit {done.returncode}\n{done.stderr.decode(errors='replace')}")
        figures = json.loads(stats.read_text())["balancer"]
        places = json.loads(placement.read_text())["physical_to_logical_map"]
        damaged = said.read_bytes()
    groups = {}
    for dropped, *expert in SPOILT.findall(damaged):
        groups.setdefault(int(dropped), []).append(expert)
    refused = [list(expert) for expert in REFUSED.findall(done.stderr)]
    return done.stdout, figures, [groups[dropped] for dropped in sorted(groups)], refused, places


def check(what, figures, spoilt, refused):
    """Each damaged group was refused, by the name of one of its damaged experts; no other was."""
    print(f"    {figures['moves']} moves, {figures['dropped']} dropped in {len(refused)} groups, {sum(map(len, spoilt))} damaged",
          flush=True)
    if len(spoilt) != len(refused) or any(one not in group for group, one in zip(spoilt, refused)):
        fail(f"{what}: damaged by group {spoilt}, refused {refused}")
    if figures["dropped"] < sum(map(len, spoilt)):
        fail(f"{what}: {sum(map(len, spoilt))} damaged, {figures['dropped']} dropped")


def main():
    if len(sys.argv) not in (4, 5):
        fail(f"usage: {__doc__.splitlines()[0]}")
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.SystemRandom().randrange(1 << 31)
    program = Program(sys.argv[2], sys.argv[3])
    wanted = Program(sys.argv[1], sys.argv[3]).answers(1, *generate(*SAMPLED, tokens=24), stdin=lines(7))
    seen = []

    print(f"seed {seed}", flush=True)
    for number, (count, options) in enumerate(LAYOUTS):
        what = f"{count} ranks {options}, some damaged by seed {seed + number}"
        found, figures, spoilt, refused, _ = run(program, count, seed + number, PERCENT, "--eplb-force", *options)
        expect_equal(what, found, wanted)
        check(what, figures, spoilt, refused)
        if count > 1 and (not spoilt or figures["moves"] == 0 or spoilt in seen):
            fail(f"{what}: {figures['moves']} moves, {spoilt} damaged; before {seen}")
        seen.append(spoilt)
    found, figures, spoilt, refused, places = run(program, 3, seed, 100, "--eplb-force")
    expect_equal("all damaged", found, wanted)
    check("all damaged", figures, spoilt, refused)
    if figures["moves"] != 0 or not spoilt or any(row != sorted(row) for row in places):  # without copies they start in order
        fail(f"all damaged: {figures['moves']} moves, experts lie as {places}")


if __name__ == "__main__":
    main()
