#!/usr/bin/env python3
# whole.py - the whole program on emulated devices: the same tokens on any ranks, and those of other backends
#
# SPDX-License-Identifier: Apache-2.0
"""Usage: whole.py PROGRAM MPIEXEC MODULE CASE

Every rank has an emulated device of its own. Tokens must be equal at 1, 2 and 4 ranks, whatever the order in which the
emulated streams run, and be those of the gold values, or, where keys and values of 16 bits decide otherwise, those of the
cpu backend, which keeps them so too.
"""
import json
import os
import pathlib
import subprocess
import sys

GOLDEN = pathlib.Path("tests/golden")
LAYOUTS = ((1, ()), (2, ()), (4, ("-tp", "2")))


def fail(words):
    """The end of the test."""
    sys.exit(f"whole.py: {words}")


class Program:
    """The program on the emulated devices of some ranks."""

    def __init__(self, program, mpiexec, module):
        self.program, self.mpiexec, self.module = program, mpiexec, module

    def run(self, ranks, *options, text="", order="random", seed=1):
        """What it wrote to stdout; the test ends if it failed."""
        command = [self.mpiexec, "-n", str(ranks), self.program, *map(str, options)]
        environment = {**os.environ, "HOSTGPU_ORDER": order, "HOSTGPU_SEED": str(seed)}
        done = subprocess.run(command, input=text.encode(), capture_output=True, env=environment, timeout=280, check=False)
        if done.returncode != 0:
            fail(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr.decode()[-2000:]}")
        return done.stdout

    def tokens(self, ranks, model, lines, *options, backend="cuda", **how):
        """The token ids of each line."""
        module = ("--cuda-module", self.module) if backend == "cuda" else ()
        out = self.run(ranks, "generate", "--model", model, "--backend", backend, *module, "--input", "jsonl", "--no-stream",
                       "--ordered", "--max-num-seqs", 4, "--kv-cache-memory", "4M", *options,
                       text="".join(json.dumps(line) + "\n" for line in lines), **how)
        return [json.loads(line)["token_ids"] for line in out.splitlines()]


def lines_of(gold):
    """A greedy request whose answer is known, and two that are drawn."""
    prompt = gold["prompt"]
    return [{"id": 0, "prompt_token_ids": prompt, "max_tokens": len(gold["greedy"]), "temperature": 0, "ignore_eos": True},
            {"id": 1, "prompt_token_ids": prompt[:3], "max_tokens": 7, "seed": 5, "temperature": 1, "ignore_eos": True},
            {"id": 2, "prompt_token_ids": prompt[4:20], "max_tokens": 5, "seed": 6, "top_k": 8, "ignore_eos": True}]


def check_model(program, name, *more):
    """One golden checkpoint over all layouts."""
    model = GOLDEN / name
    gold = json.loads((model / "gold.json").read_text())
    lines = lines_of(gold)
    first = None
    for seed, (ranks, layout) in enumerate(LAYOUTS):
        order = ("eager", "lazy", "random")[seed]
        found = program.tokens(ranks, model, lines, *layout, *more, order=order, seed=seed + 1)
        first = first or found
        if found != first:
            fail(f"{name} on {ranks} ranks {layout}, order {order}: {found}, on one rank {first}")
        print(f"  equal: {name} on {ranks} devices {layout}, streams {order}")
    if first[0] != gold["greedy"] and first[0] != program.tokens(1, model, lines, backend="cpu")[0]:
        fail(f"{name}: greedy tokens {first[0]}, transformers has {gold['greedy']}")


def families(program):
    """A checkpoint of each family and format."""
    for name in ("llama4_b", "qwen3moe_b", "mixtral_f16", "olmoe", "glm4moe", "qwen3moe_fp8block"):
        check_model(program, name)


def balancer(program):
    """Experts move at every step from device to device, and nothing changes."""
    check_model(program, "llama4_b", "--enable-eplb", "--num-redundant-experts", 2, "--eplb-force")


def fallback(program):
    """Without a driver auto says why and uses the processor; asked for by name it is an error. Skipped where there is one."""
    if pathlib.Path("/dev/nvidiactl").exists():
        print("skipped: fallback (there is a device)")
        sys.exit(77)
    options = ("generate", "--model", "models/demo", "--max-tokens", "3")
    auto = subprocess.run([program.program, *options], input=b"In\n", capture_output=True, timeout=60, check=False)
    if auto.returncode != 0 or b"no GPU is used: no NVIDIA driver is loaded" not in auto.stderr:
        fail(f"--backend auto: exit code {auto.returncode}\n{auto.stderr.decode()}")
    asked = subprocess.run([program.program, *options, "--backend", "cuda"], input=b"In\n", capture_output=True, timeout=60,
                           check=False)
    if asked.returncode != 69 or b"--backend cuda: no NVIDIA driver is loaded" not in asked.stderr or asked.stdout:
        fail(f"--backend cuda: exit code {asked.returncode}\n{asked.stderr.decode()}")


def selftest(program):
    """What a person with a device runs first."""
    out = program.run(1, "bench", "selftest", "--backend", "cuda", "--cuda-module", program.module, "--rounds", 1, "--size",
                      "16KiB", "--json", order="random")
    told = json.loads(out)
    if not told["right"] or not told["backend"].startswith("cuda") or len(told["checks"]) < 24 or len(told["memory"]) != 4:
        fail(f"bench selftest: {told}")
    print(f"  {len(told['checks'])} checks on {told['backend']}")


CASES = {case.__name__: case for case in (families, balancer, fallback, selftest)}

if __name__ == "__main__":
    if len(sys.argv) != 5 or sys.argv[4] not in CASES:
        fail(f"usage: whole.py PROGRAM MPIEXEC MODULE {'|'.join(CASES)}")
    CASES[sys.argv[4]](Program(*sys.argv[1:4]))
