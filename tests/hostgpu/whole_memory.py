#!/usr/bin/env python3
# whole_memory.py - the whole program on emulated devices: what it takes of them, and of pinned memory
#
# SPDX-License-Identifier: Apache-2.0
"""Usage: whole_memory.py PROGRAM MPIEXEC MODULE, as whole.py

Libraries of the emulation take memory of a device as the real ones do, more of it where HOSTGPU_CHANNELS says so.
"""
import json
import os
import pathlib
import re
import subprocess
import sys

from whole import GOLDEN, MOVING, PATIENCE, PIECES, SPECULATING, Program, expect, fail, start


def memory_run(program, ranks, common, how, **environment):
    """A short run: exit code, stderr, and of each rank, sorted, the bytes (taken, held by libraries, pinned) at most, with allocations."""
    environment = {**os.environ, "HOSTGPU_PEAK": "1", "HOSTGPU_MEMORY": str(400 << 20), **environment}
    done = subprocess.run([program.mpiexec, "-n", str(ranks), program.program, "generate", *common, *how, "--input", "jsonl"],
                          input=b'{"id": 0, "prompt_token_ids": [1, 2, 3, 4, 5], "max_tokens": 3}\n', capture_output=True,
                          env=environment, timeout=PATIENCE, check=False)
    told = done.stderr.decode()
    lines = re.findall(r"hostgpu: (\d+) bytes of the device at most, in (\d+) allocations, (\d+) held by libraries, (\d+) of the "
                       "host pinned", told)
    return done.returncode, told, sorted((int(taken), int(held), int(pinned), int(count)) for taken, count, held, pinned in lines)


def memory(program):
    """A run takes of every device what was planned, to the byte, and of the host what is pinned; with what libraries take it is never
    more than the share of all memory that --gpu-memory-utilization says, of which the cache takes the rest."""
    ask = ("--model", "--backend", "cuda", "--cuda-module", program.module, "--max-num-batched-tokens", "64", "--max-num-seqs", "4")
    nccl = program.exchange == "nccl" # a communicator takes a tenth of these devices
    for ranks, name, share, *layout in ((1, "llama4_b", 0.36), (2, "qwen3moe_fp8block", 0.48 if nccl else 0.38),
                                        (2, "mixtral_f16", 0.58, "-tp", "2", *SPECULATING),
                                        (2, "olmoe", 0.58, "--exact", *MOVING, *(("--dispatch", "lsa", "--enable-dbo") if program.windows else ())),
                                        *([(4, "llama4_b", 0.58, "--enable-dbo", "--node-size", "2", "--dispatch", "node-once")] if nccl else [])):
        common = [ask[0], str(GOLDEN / name), *ask[1:], *layout]
        for how in (["--kv-cache-memory", "3M"], ["--gpu-memory-utilization", str(share)],
                    ["--gpu-memory-utilization", str(share - 0.0025), PIECES]):
            code, told, taken = memory_run(program, ranks, common, how)
            if code != 0:
                fail(f"{name} on {ranks} ranks, {how}: exit code {code}\n{told}")
            plan = inspect(program, ranks, *common, *how[:2])
            positions = int(re.search(r"a data group caches (\d+) positions", told)[1])
            cache = positions // plan["page_positions"] * plan["page_bytes"]
            # The plan of the very cache that the run has: how long sequences are depends on it.
            exact = inspect(program, ranks, *common, "--kv-cache-memory", str(cache))
            check_memory(f"{name} on {ranks} ranks, {' '.join(how)}", plan, exact, taken, told)
    memory_limits(program)


def inspect(program, ranks, *options):
    """The plan that is made without a device."""
    command = [program.program, "inspect", *options, "--ranks", str(ranks), "--memory", str(400 << 20), "--json"]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["plans"][0]


def check_memory(what, plan, exact, taken, told):
    """Ranks as planned and as they were."""
    many = {count for *_, count in taken}
    grain, share, page = 2 << 20, plan["memory"], plan["page_bytes"]
    wanted = sorted(rank["together"] - rank["libraries"] for rank in exact["bytes"])
    found = [all_ - held for all_, held, *_ in taken]
    slack = 0 if many == {2} else 1024  # by pieces an array goes back for which a longer one was taken
    expect(f"{what}: planned {wanted} beside libraries, taken {found}", len(wanted) == len(found) and
           all(w - slack <= f <= w for w, f in zip(wanted, found)) and (many == {2} or min(many) > 20), told)
    pinned = sorted(rank["pinned"] for rank in exact["bytes"])
    expect(f"pinned {pinned}", pinned == sorted(bytes for _, _, bytes, _ in taken), told)
    whole = "kv-cache-memory" in what or exact["cache_positions"] == exact["max_model_len"] * 4
    expect(f"with {taken[-1][1]} held by libraries no more than {share}; the rest is the cache's", taken[-1][0] <= share and
           (whole or share - taken[-1][0] < page + grain + slack), told)


def memory_limits(program):
    """What libraries take goes from the cache; what then has no room is refused before a weight is read."""
    common = ["--model", str(GOLDEN / "qwen3moe_fp8block"), "--backend", "cuda", "--cuda-module", program.module,
              "--max-num-batched-tokens", "64", "--max-num-seqs", "64", "--exact", "--gpu-memory-utilization", "0.5"]
    if program.exchange == "nccl":
        runs = [memory_run(program, 2, common, [], HOSTGPU_CHANNELS=channels) for channels in ("0", "1", "8")]
        caches = [int((re.search(r"caches (\d+) positions", told) or [0, 0])[1]) // 16 * 8192 for _, told, _ in runs]
        held = [taken[-1][1] for *_, taken in runs]
        lost = caches[0] - caches[1] - (held[1] - held[0])
        expect(f"libraries hold {held}, caches have {caches}", held[1] > held[0] + (30 << 20) and abs(lost) < 8192, runs[1][1])
        code, told, _ = runs[2]
        expect("what has no room is refused before weights are read", code == 75 and "for driver and libraries, and may take 200.0 MiB"
               in told and "loaded weights" not in told, told)
    nvml = {"LD_LIBRARY_PATH": str(pathlib.Path(program.module).parent)}
    for context, others, environment in ((25 << 20, 20 << 20, nvml), (25 << 20, 20 << 20, {"LD_LIBRARY_PATH": ""})):
        code, told, taken = memory_run(program, 1, common, [], HOSTGPU_CONTEXT=str(context), HOSTGPU_FOREIGN=str(others), **environment)
        seen = re.search(r"driver and libraries hold ([\d.]+) MiB", told)
        expect(f"of {context} bytes for a context and {others} of others counts what NVML tells: {seen and seen[1]} MiB are held",
               code == 0 and (seen and seen[1]) == ("27.0" if environment == nvml else None), told)
    code, told = start(program, 1, "cuda", HOSTGPU_MEMORY=str(400 << 20), HOSTGPU_FOREIGN=str(100 << 20), cache="")
    expect("a share that was not free is refused, with the one that was", code == 75 and "lower --gpu-memory-utilization to 0.75"
           in told, told)


if __name__ == "__main__":
    memory(Program(*sys.argv[1:4]))
