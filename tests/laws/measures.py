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


SMALL = ("--num-prompts", 6, "--input-len", 19, "--output-len", 9, "--num-warmups", 2)
VLLM_THROUGHPUT = ("elapsed_time", "num_requests", "total_num_tokens", "requests_per_second", "tokens_per_second")


def bench(program, ranks, command, *options):
    """The report of a benchmark."""
    return json.loads(program.answers(ranks, "bench", command, "--model", DEMO, "--json", *options))


def check_throughput(report, requests, prompt, output):
    """Counts are what was asked for, and rates are counts over time."""
    counts = {"num_requests": requests, "num_prompt_tokens": prompt, "num_output_tokens": output,
              "total_num_tokens": prompt + output, "prompt_tokens": prompt, "generated_tokens": output}
    for key, wanted in counts.items():
        if report[key] != wanted:
            fail(f"{key}: {report[key]}, wanted {wanted}")
    for key, amount in (("requests_per_second", requests), ("tokens_per_second", prompt + output),
                        ("output_tokens_per_second", output)):
        near(key, report[key] * report["elapsed_time"] / amount, 1, 1e-9)
    for kind in ("ttft", "tpot", "itl", "e2el"):
        values = [report[f"{figure}_{kind}_ms"] for figure in ("median", "p90", "p99")]
        if not 0 < values[0] <= values[1] <= values[2] <= report["elapsed_time"] * 1000:
            fail(f"{kind}: {values}")


def bench_throughput(program):
    """Counts, names and arithmetic of the report; one hash for equal settings on any ranks, at any arrivals."""
    first = bench(program, 1, "throughput", *SMALL)
    check_throughput(first, 6, 6 * 19, 6 * 9)
    if any(key not in first for key in VLLM_THROUGHPUT):
        fail(f"a field of vllm bench throughput is missing: {sorted(first)}")
    hashes = {first["tokens_hash"]}
    for count, more in ((2, ()), (3, ("--request-rate", 40)), (4, ("-tp", 2)), (2, ("--max-num-seqs", 2)),
                        (2, ("--num-warmups", 0)), (1, ("--enable-prefix-caching",))):
        report = bench(program, count, "throughput", *SMALL, *more)
        if "--enable-prefix-caching" not in more:
            check_throughput(report, 6, 6 * 19, 6 * 9)
        hashes.add(report["tokens_hash"])
    if len(hashes) != 1:
        fail(f"equal settings, different tokens: {hashes}")
    if bench(program, 1, "throughput", *SMALL, "--seed", 1)["tokens_hash"] in hashes:
        fail("another seed, and the same tokens")
    slow = bench(program, 2, "throughput", *SMALL, "--request-rate", 20)
    near("six arrivals at 20 a second take time", min(slow["elapsed_time"], 0.1), 0.1, 1e-9)
    with tempfile.TemporaryDirectory() as name:
        file = pathlib.Path(name) / "prompts"
        file.write_text('In the beginning\n{"prompt": "static int", "max_tokens": 5}\n{"prompt_token_ids": [1, 2, 3]}\n')
        saved = pathlib.Path(name) / "report.json"
        report = bench(program, 2, "throughput", "--dataset", file, "--num-prompts", 7, "--output-len", 6, "--output-json", saved)
        once = program.answers(1, "tokenize", "--model", DEMO, "--add-special-tokens", stdin=b"In the beginning\nstatic int\n")
        lengths = [len(line.split()) for line in once.splitlines()] + [3]
        check_throughput(report, 7, sum(lengths) * 2 + lengths[0], 17 * 2 + 6)
        if json.loads(saved.read_text()) != report:
            fail("--output-json and --json differ")
        file.write_text("In the beginning\nstatic int\nDie Datei\n")
        program.answers(1, "generate", "--model", DEMO, "--max-tokens", 12, "--ignore-eos", "--stats", saved,
                        stdin=file.read_bytes())
        report = bench(program, 3, "throughput", "--dataset", file, "--num-prompts", 3, "--output-len", 12)
        if report["tokens_hash"] != json.loads(saved.read_text())["tokens_hash"]:
            fail("bench and generate make different tokens of the same prompts")
        text = program.answers(2, "bench", "throughput", "--model", DEMO, *SMALL).decode()
        if not text.startswith("Throughput: ") or f"tokens {first['tokens_hash']}" not in text:
            fail(f"the report as text:\n{text}")


def bench_latency(program):
    """As many batches as were asked for, their mean and percentiles, and one hash."""
    options = ("--batch-size", 3, "--input-len", 11, "--output-len", 6, "--num-iters", 5, "--num-iters-warmup", 1)
    hashes = set()
    for count in (1, 2, 3):
        report = bench(program, count, "latency", *options)
        values = sorted(report["latencies"])
        if len(values) != 5 or report["generated_tokens"] != 5 * 3 * 6 or report["prompt_tokens"] != 5 * 3 * 11:
            fail(f"counts: {report}")
        near("avg_latency", report["avg_latency"], sum(values) / 5, 1e-12)
        if list(report["percentiles"]) != ["10", "25", "50", "75", "90", "99"]:
            fail(f"percentiles: {report['percentiles']}")
        for percent, found in report["percentiles"].items():
            place = int(percent) / 100 * 4
            below = int(place)
            wanted = values[below] + (place - below) * (values[min(below + 1, 4)] - values[below])
            near(f"percentile {percent}", found, wanted, 1e-12)
        hashes.add(report["tokens_hash"])
    if len(hashes) != 1:
        fail(f"equal settings, different tokens: {hashes}")


def bench_faults(program):
    """Wrong values are named, and all ranks end with the right code."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "bad").write_text('good\n{"prompt": 5}\n')
        cases = (
            (64, "--num-prompts: '0'", ("bench", "throughput", "--num-prompts", 0)),
            (64, "--request-rate: '0' is not a number above 0", ("bench", "throughput", "--request-rate", 0)),
            (64, "--request-rate: 'nan'", ("bench", "throughput", "--request-rate", "nan")),
            (64, "--num-prompts is no option of the command 'bench latency'", ("bench", "latency", "--num-prompts", 3)),
            (64, "--batch-size 300", ("bench", "latency", "--batch-size", 300)),
            (64, "--input-len 4000", ("bench", "throughput", "--input-len", 4000)),
            (64, "--max-model-len 100", ("bench", "latency", "--max-model-len", 100)),
            (66, "none: No such file", ("bench", "throughput", "--dataset", folder / "none")),
            (64, "--input-len is for random", ("bench", "throughput", "--dataset", folder / "bad", "--input-len", 3)),
            (65, "bad: line 2: ", ("bench", "throughput", "--dataset", folder / "bad")),
            (74, "--output-json", ("bench", "latency", "--output-json", folder / "no" / "such")),
        )
        for code, words, options in cases:
            done = program.run(2, *options, "--model", DEMO)
            text = done.stderr.decode(errors="replace")
            if done.returncode != code or words not in text or done.stdout:
                fail(f"{options}: exit {done.returncode}, wanted {code} and '{words}':\n{text}")
            print(f"  exit {code}: {words}", flush=True)
        done = program.run(1, "bench")
        if done.returncode != 64 or b"bench throughput, bench latency and bench selftest" not in done.stderr:
            fail(f"bench alone: exit {done.returncode}\n{done.stderr.decode()}")


CASES = {case.__name__: case for case in (perplexity, windows, perplexity_faults, bench_throughput, bench_latency, bench_faults)}


def main():
    if len(sys.argv) != 4 or sys.argv[3] not in CASES:
        fail(f"usage: measures.py BINARY MPIEXEC {'|'.join(CASES)}")
    CASES[sys.argv[3]](Program(sys.argv[1], sys.argv[2]))


if __name__ == "__main__":
    main()
