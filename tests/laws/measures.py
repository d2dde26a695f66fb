#!/usr/bin/env python3
# measures.py - the commands that judge a model or a machine: their figures are right, and the same on any ranks
#
# SPDX-License-Identifier: Apache-2.0
"""Whole-program tests of `perplexity` and `bench`: measures.py BINARY MPIEXEC CASE."""

import json
import math
import pathlib
import sys
import tempfile

from run import Program, expect_equal, fail

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = ROOT / "models" / "demo"
EVAL = sorted((DEMO / "eval").glob("*.txt"))
GOLD = json.loads((DEMO / "gold.json").read_text())["perplexity"]["files"]


def evaluate(*options, files=EVAL):
    return ("perplexity", "--model", DEMO, "--json", *options, *files)


def near(what, found, wanted, tolerance):
    """A figure must be within `tolerance` of what is wanted."""
    if not abs(found - wanted) <= tolerance:
        fail(f"{what}: {found}, wanted {wanted} +- {tolerance}")
    print(f"  {what}: {found:.6f}, {found - wanted:+.1e} beside {wanted:.6f}", flush=True)


def compare(report, tolerance):
    """A report beside the values of Hugging Face transformers."""
    sums = {"tokens": 0, "bytes": 0, "nats": 0.0}
    for entry in report["files"]:
        name = pathlib.Path(entry["file"]).stem
        wanted = GOLD[name]
        for key in ("tokens", "bytes"):
            if entry[key] != wanted[key]:
                fail(f"{name}: {entry[key]} {key}, wanted {wanted[key]}")
            sums[key] += entry[key]
        sums["nats"] += entry["tokens"] * entry["nats_per_token"]
        near(f"{name}, nats a token", entry["nats_per_token"], wanted["nats_per_token"], tolerance)
        near(f"{name}, nats a byte", entry["nats_per_byte"], wanted["nats_per_byte"], tolerance)
        near(f"{name}, perplexity", entry["perplexity"], math.exp(entry["nats_per_token"]), 1e-6)
        if entry["windows"] != 1:
            fail(f"{name}: {entry['windows']} windows")
    total = report["total"]
    if (total["tokens"], total["bytes"]) != (sums["tokens"], sums["bytes"]):
        fail(f"total: {total}, the files have {sums}")
    near("total, nats a token", total["nats_per_token"], sums["nats"] / sums["tokens"], 1e-9)
    near("total, nats a byte", total["nats_per_byte"], sums["nats"] / sums["bytes"], 1e-9)


def perplexity(program):
    """Equal to Hugging Face's float32 to 4 digits (reference), to bfloat16's own distance from it (cpu)."""
    found = program.answers(2, *evaluate("--backend", "reference", "-tp", 2))
    compare(json.loads(found), 5e-5)
    few = [file for file in EVAL if file.stem == "japanese"]
    wanted = program.answers(1, *evaluate("--backend", "reference", files=few))
    for count in (3, 5):
        expect_equal(f"reference on {count} ranks", program.answers(count, *evaluate("--backend", "reference", files=few)),
                     wanted)
    wanted = program.answers(1, *evaluate())
    compare(json.loads(wanted), 4e-3)
    for count, layout in ((2, ()), (3, ()), (5, ()), (2, ("-tp", 2)), (4, ("-tp", 2)), (3, ("--max-num-batched-tokens", 37)),
                          (2, ("--max-num-seqs", 1)), (3, ("--comm", "mpi"))):
        expect_equal(f"cpu on {count} ranks {layout}", program.answers(count, *evaluate(*layout)), wanted)


def windows(program):
    """Long texts: windows of few tokens, on any ranks, in a cache that holds only some of them."""
    options = ("--window", 64, "--stride", 24)
    wanted = program.answers(1, *evaluate(*options))
    report = json.loads(wanted)
    for entry in report["files"]:
        count = 1 + math.ceil((GOLD[pathlib.Path(entry["file"]).stem]["tokens"] + 1 - 64) / 24)
        if entry["windows"] != count or entry["tokens"] != GOLD[pathlib.Path(entry["file"]).stem]["tokens"]:
            fail(f"{entry}: wanted {count} windows and every token once")
    for count, layout in ((2, ("--kv-cache-memory", "200K")), (3, ("--max-num-batched-tokens", 50)), (4, ("-tp", 2)),
                          (5, ("--max-num-seqs", 3))):
        expect_equal(f"windows on {count} ranks {layout}", program.answers(count, *evaluate(*options, *layout)), wanted)
    text = program.answers(1, "perplexity", "--model", DEMO, *options, EVAL[0]).decode().splitlines()
    entry = report["files"][0]
    if len(text) != 3 or text[1].split()[1:4] != [str(entry[key]) for key in ("tokens", "bytes", "windows")]:
        fail(f"the report as text: {text}")
    near("the text's nats a token", float(text[1].split()[4]), entry["nats_per_token"], 5.1e-6)


def perplexity_faults(program):
    """What cannot be evaluated is named, and all ranks end with the right code."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "empty.txt").write_bytes(b"")
        (folder / "good.txt").write_bytes(b"some words")
        bare = folder / "bare"
        bare.mkdir()
        for file in ("config.json", "model.safetensors"):
            (bare / file).symlink_to(DEMO / file)
        cases = (
            (65, "empty.txt: the file is empty", ("--model", DEMO, folder / "good.txt", folder / "empty.txt")),
            (66, "none.txt: No such file", ("--model", DEMO, folder / "none.txt")),
            (66, "not a regular file", ("--model", DEMO, folder)),
            (66, "tokenizer.json", ("--model", bare, folder / "good.txt")),
            (64, "--stride 8", ("--model", DEMO, "--window", 8, "--stride", 8, folder / "good.txt")),
            (64, "--window", ("--model", DEMO, "--window", 1, folder / "good.txt")),
            (64, "--window", ("--model", DEMO, "--window", 1 << 30, folder / "good.txt")),
            (64, "FILE", ("--model", DEMO)),
            (65, "does not fit the key-value cache", ("--model", DEMO, "--kv-cache-memory", "100K", EVAL[0])),
        )
        for code, words, options in cases:
            done = program.run(2, "perplexity", *options)
            text = done.stderr.decode(errors="replace")
            if done.returncode != code or words not in text or done.stdout:
                fail(f"{options}: exit {done.returncode}, wanted {code} and '{words}':\n{text}")
            print(f"  exit {code}: {words}", flush=True)


CASES = {case.__name__: case for case in (perplexity, windows, perplexity_faults)}


def main():
    if len(sys.argv) != 4 or sys.argv[3] not in CASES:
        fail(f"usage: measures.py BINARY MPIEXEC {'|'.join(CASES)}")
    CASES[sys.argv[3]](Program(sys.argv[1], sys.argv[2]))


if __name__ == "__main__":
    main()
