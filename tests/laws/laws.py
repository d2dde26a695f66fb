#!/usr/bin/env python3
# laws.py - the same prompts give the same bytes, whatever the ranks, the layout and the company
#
# SPDX-License-Identifier: Apache-2.0
"""Whole-program tests of the law: laws.py BINARY MPIEXEC CASE."""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

from run import Program, expect_equal, fail

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = ROOT / "models" / "demo"
GOLDEN = ROOT / "tests" / "golden"

PROMPTS = [entry["prompt"] for entry in json.loads((DEMO / "gold.json").read_text())["greedy"]]
THREE = "In the beginning\nstatic int\nDie Datei\n".encode()
GREEDY = ("--temperature", 0)
NODES = ("--dispatch", "auto", "--node-size")
FORCED = ("--enable-eplb", "--eplb-force", "--num-redundant-experts", 6)
JAPANESE = DEMO / "eval" / "japanese.txt"
POOL = 1 << 20  # bytes of a cache for few requests
SAMPLED = ("--temperature", 0.8, "--top-p", 0.95, "--seed", 7)


def lines(count):
    """`count` prompts of different kinds and lengths."""
    return "".join(f"{PROMPTS[i % len(PROMPTS)].strip()} {'and so on ' * (i % 5)}{i}\n" for i in range(count)).encode()


def generate(*options, model=DEMO, tokens=32):
    return ("generate", "--model", model, "--max-tokens", tokens, *options)


WAYS = ({"temperature": 0}, {"temperature": 0.8, "top_p": 0.95, "seed": 7})
FEW = {**WAYS[1], "top_k": 5}


def requested(*options, **more):
    """generate() with requests for input."""
    return generate("--input", "jsonl", "--output", "text", *options, **more)


def ways(text, *more):
    """Each prompt of `text` as requests that are greedy, drawn from all of the vocabulary, and as in `more`: one run for all."""
    return "".join(json.dumps({"id": f"{number} {way}", "prompt": prompt, **how}) + "\n"
                   for number, prompt in enumerate(text.decode().splitlines())
                   for way, how in enumerate((*WAYS, *more))).encode()


def tiny_models(folder):
    """The tiny checkpoints with a tokenizer of one token a byte, so that the whole program can run on them."""
    made = []
    for name in ("llama4_a", "llama4_b"):
        where = pathlib.Path(folder) / name
        where.mkdir()
        for file in (GOLDEN / name).iterdir():
            os.symlink(file, where / file.name)
        os.symlink(GOLDEN / "byte_tokenizer" / "tokenizer.json", where / "tokenizer.json")
        made.append(where)
    return made


def ranks(program):
    """1, 2, 3, 4, 5 and 8 ranks, greedy and sampled, both backends."""
    runs = [(f"cpu {way}", generate("--backend", "cpu", *way), THREE) for way in (GREEDY, SAMPLED)]
    runs.append(("reference", requested("--backend", "reference", tokens=12), ways(THREE)))
    for name, options, text in runs:
        wanted = program.answers(1, *options, stdin=text)
        for count in (2, 3, 4, 5, 8):
            expect_equal(f"{name} on {count} ranks", program.answers(count, *options, stdin=text), wanted)


def grids(program):
    """Tensor ranks, copies of the expert set, and both together."""
    options, text = requested(), ways(lines(5))
    wanted = program.answers(1, *options, stdin=text)
    for count, layout in ((2, ("-tp", 2)), (3, ("-tp", 3)), (4, ("-tp", 2)), (5, ("-tp", 5)), (8, ("-tp", 8)),
                          (8, ("-tp", 4)), (4, ("--expert-parallel-size", 2)), (6, ("--expert-parallel-size", 3)),
                          (4, ("-tp", 2, "--expert-parallel-size", 1))):
        found = program.answers(count, *options, *layout, stdin=text)
        expect_equal(f"{count} ranks {layout}", found, wanted)


def company(program):
    """Steps of 7, 64 and 2048 tokens; 1, 3 and 32 prompts at once; few or many sequences; each prompt alone."""
    wanted = program.answers(1, *generate(*GREEDY), stdin=lines(32))
    for size in (7, 64, 2048):
        for count in (1, 3):
            found = program.answers(count, *generate(*GREEDY, "--max-num-batched-tokens", size), stdin=lines(32))
            expect_equal(f"steps of {size} on {count} ranks", found, wanted)
    for most in (1, 3):
        found = program.answers(2, *generate(*GREEDY, "--max-num-seqs", most), stdin=lines(32))
        expect_equal(f"{most} sequences at once", found, wanted)
    found = program.answers(2, *generate(*GREEDY, "--kv-cache-memory", "512K"), stdin=lines(32))
    expect_equal("a small cache", found, wanted)
    alone = b"".join(program.answers(2, *generate(*GREEDY), stdin=line + b"\n") for line in lines(5).splitlines())
    expect_equal("each alone", alone, program.answers(2, *generate(*GREEDY), stdin=lines(5)))


def stats_of(program, count, *options, stdin):
    """Answers of a run and the figures of its closing line."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        found = program.answers(count, *options, "--stats", file.name, stdin=stdin)
        return found, json.load(open(file.name, encoding="utf-8"))


def many(count, seed):
    """`count` prompts of random length; half of them begin alike."""
    chance = random.Random(seed)
    text = " ".join(PROMPTS[i % len(PROMPTS)].strip().replace("\n", " ") for i in range(40))
    made = []
    for i in range(count):
        start = 0 if chance.random() < 0.5 else chance.randrange(400)
        made.append(f"{text[start:start + chance.randrange(10, 400)]} {i}\n")
    return "".join(made).encode()


def pages(program):
    """Pages shared, taken away and computed again: the same bytes with the prefix cache on and off, through a pool that
    holds few requests and one that holds all, on any ranks."""
    asked = many(80, 11)
    for way in (GREEDY, SAMPLED):
        options = generate(*way, "--max-num-batched-tokens", 300, "--max-num-seqs", 64, "--max-model-len", 256, tokens=40)
        wanted, stats = stats_of(program, 1, *options, "--no-enable-prefix-caching", stdin=asked)
        if stats["cached_tokens"] or stats["preemptions"]:
            fail(f"nothing was to be shared or taken away: {stats}")
        layouts = ((1, (), True), (2, ("-tp", 2), True)) if way is SAMPLED else ((1, (), False), (2, (), True), (3, (), False))
        for count, layout, small in layouts:
            memory = ("--kv-cache-memory", POOL // layout[1] if layout else POOL) if small else ()
            found, stats = stats_of(program, count, *options, *layout, *memory, stdin=asked)
            what = f"{way} on {count} ranks {layout} {memory}"
            expect_equal(what, found, wanted)
            print(f"    {stats['cached_tokens']} tokens from the cache, {stats['preemptions']} preemptions, "
                  f"{stats['recomputed_tokens']} tokens computed again", flush=True)
            if stats["cached_tokens"] == 0 or (small and stats["preemptions"] == 0):
                fail(f"{what}: pages were to be shared{' and taken away' if small else ''}: {stats}")
    with tempfile.TemporaryDirectory() as folder:  # attention in chunks of half a page, and in whole
        for model in tiny_models(folder):
            options = generate(*SAMPLED, "--ignore-eos", "--max-num-seqs", 1, model=model, tokens=20)
            alike = b"".join(b"The quick brown fox jumps over the dog " + name + b"\n" for name in (b"Rex", b"Ada", b"Rex II"))
            wanted = program.answers(1, *options, "--no-enable-prefix-caching", stdin=alike)
            found, stats = stats_of(program, 2, *options, "-tp", 2, stdin=alike)
            expect_equal(model.name, found, wanted)
            if stats["cached_tokens"] == 0:
                fail(f"{model.name}: pages were to be shared: {stats}")


def threads(program):
    """1, 2 and 3 threads a rank."""
    options, text = requested(), ways(lines(9))
    wanted = program.answers(1, *options, "--threads", 1, stdin=text)
    for count, each in ((1, 2), (1, 3), (2, 2), (3, 1)):
        found = program.answers(count, *options, "--threads", each, stdin=text)
        expect_equal(f"{count} ranks x {each} threads", found, wanted)


def comms(program):
    """comm_mpi and comm_shared."""
    options, text = requested(), ways(lines(9))
    wanted = program.answers(1, *options, stdin=text)
    for comm in ("mpi", "shared"):
        for count, layout in ((2, ()), (3, ()), (4, ("-tp", 2)), (8, ())):
            found = program.answers(count, *options, "--comm", comm, *layout, stdin=text)
            expect_equal(f"{comm} on {count} ranks {layout}", found, wanted)


def tiny(program):
    """The tiny checkpoints: more ranks than key-value heads and than experts."""
    text = ways(b"The quick brown fox\njumps\nover the lazy dog again and again\n")
    with tempfile.TemporaryDirectory() as folder:
        for model in tiny_models(folder):
            for backend in ("cpu", "reference"):
                options = requested("--backend", backend, "--ignore-eos", model=model, tokens=24)
                wanted = program.answers(1, *options, stdin=text)
                for count, layout in ((2, ()), (3, ()), (4, ("-tp", 4)), (5, ("-tp", 5)), (8, ("-tp", 2))):
                    found = program.answers(count, *options, *layout, stdin=text)
                    expect_equal(f"{model.name} {backend} on {count} ranks {layout}", found, wanted)


def padded(program):
    """A vocabulary beyond the tokenizer's last id: such ids are never chosen, on any number of ranks."""
    with tempfile.TemporaryDirectory() as folder:
        model = tiny_models(folder)[0]
        tokenizer = json.loads((model / "tokenizer.json").read_text())
        tokenizer["model"]["vocab"] = {text: number for text, number in tokenizer["model"]["vocab"].items() if number < 128}
        (model / "tokenizer.json").unlink()
        (model / "tokenizer.json").write_text(json.dumps(tokenizer))
        options, text = requested("--ignore-eos", model=model, tokens=24), ways(b"The quick brown fox\n", FEW)
        wanted = program.answers(1, *options, stdin=text)
        if any(byte >= 128 for byte in wanted):
            fail(f"ids beyond the tokenizer were chosen: {wanted!r}")
        for count in (3, 8):
            expect_equal(f"{count} ranks", program.answers(count, *options, stdin=text), wanted)


def paths(program):
    """Every instruction path this machine has: the same bytes at any rank count within the path."""
    for path in ("portable", "avx2", "avx512"):
        options = generate(*GREEDY, "--cpu-path", path, tokens=16)
        first = program.run(1, *options, stdin=THREE)
        if first.returncode == 69:
            print(f"  skipped: {path} (not on this machine)")
            continue
        expect_equal(f"{path} on 3 ranks", program.answers(3, *options, stdin=THREE), first.stdout)


def balancer(program):
    """Off, on, and moving experts at every step; each way to share rows; uneven slots, little staging, copies of the set."""
    dispatches = ("auto", "flow", "fewest", "even")
    options, text = requested(), ways(lines(9))
    wanted = program.answers(1, *options, stdin=text)
    on = (*options, "--enable-eplb")
    for i, count in enumerate((1, 2, 3, 4, 8)):
        for j, dispatch in enumerate(dispatches if count > 1 else dispatches[:1]):
            force = ("--eplb-force", "--num-redundant-experts", (0, 5, 16, 24)[(i + j) % 4], "--eplb-dispatch", dispatch)
            expect_equal(f"forced, {dispatch}, {count} ranks", program.answers(count, *on, *force, stdin=text), wanted)
    live = ("--num-redundant-experts", 16, "--eplb-step-interval", 4, "--eplb-window-size", 8)
    expect_equal("live, 2 ranks", program.answers(2, *on, *live, stdin=text), wanted)
    for count, layout in ((4, ("-tp", 2, "--num-redundant-experts", 7)), (4, ("--expert-parallel-size", 2)),
                          (3, ("--eplb-staging", 1, "--num-redundant-experts", 1)), (3, ("--comm", "mpi"))):
        expect_equal(f"forced, {count} ranks {layout}", program.answers(count, *on, "--eplb-force", *layout, stdin=text), wanted)
    changing(program, live)


def changing(program, live):
    """Plans from every kind of load, on a stream that is long and uneven enough for the gate to let some of them pass."""
    stream = subprocess.run([ROOT / "scripts" / "domain_stream", "40"], stdout=subprocess.PIPE, check=True).stdout
    options = generate("--temperature", 0.7, "--seed", 3, "--ignore-eos", "--max-num-seqs", 64, tokens=24)
    wanted = program.answers(1, *options, stdin=stream)
    for load in ("last", "window", "ewma"):
        found, stats = stats_of(program, 8, *options, "--enable-eplb", *live, "--eplb-load", load, stdin=stream)
        expect_equal(f"live, {load}, {stats['balancer']['moves']} moves", found, wanted)


def shared_experts(program):
    """Ranks of a node that share one copy of each expert: the same bytes, and moves carry some between nodes only."""
    options, text = requested(tokens=16), ways(lines(5))
    wanted = program.answers(1, *options, stdin=text)
    live = ("--enable-eplb", "--num-redundant-experts", 16, "--eplb-step-interval", 4, "--eplb-window-size", 8)
    with tempfile.TemporaryDirectory() as folder:
        placed = ("--enable-eplb", "--num-redundant-experts", 6, "--expert-placement", pathlib.Path(folder) / "placement.json")
        for count, *layout in ((1, *FORCED), (2, *FORCED, "--eplb-dispatch", "fewest"), (3,), (3, *placed, "--eplb-force"),
                               (3, *placed, "--eplb-step-interval", 0), (4, "-tp", 2, *FORCED),
                               (4, "--expert-parallel-size", 2, "--backend", "cpu"), (4, *NODES, 2, *live),
                               (4, *NODES, 2, *FORCED), (5, *NODES, 2, *FORCED, "--eplb-staging", 1), (8, *FORCED)):
            found, stats = stats_of(program, count, *options, "--share-experts", *layout, stdin=text)
            expect_equal(f"{count} ranks {layout}", found, wanted)
            figures = stats.get("balancer", {"moves": 0, "remapped": 0, "bytes": 0, "shared": count > 1})
            if figures["shared"] != (count > 1):
                fail(f"shared: {figures['shared']} on {count} ranks")
            if "--eplb-force" not in layout or count == 1:
                continue
            sent = figures["moves"] - figures["remapped"]
            print(f"    {figures['remapped']} re-mapped, {sent} moved in {figures['bytes']} bytes")
            between = "--node-size" in layout
            if figures["remapped"] == 0 or (sent > 0) != between or (figures["bytes"] > 0) != between:
                fail(f"{figures}")


def node_once(program):
    """Rows go once to each node, or straight, with experts moving or not: the same bytes, and fewer rows between nodes.

    llama4_b scales rows before the experts, by choice; glm4moe and qwen3moe_a ask 4 and 8 experts for a row."""
    for name, layouts in (("qwen3moe_a", ((5, (*NODES, 3)), (8, (*NODES, 4, *FORCED, "--eplb-dispatch", "flow")))),
                          ("glm4moe", ((4, (*NODES, 2, "-tp", 2)), (6, (*NODES, 2, "--comm", "mpi")))),
                          ("llama4_b", ((4, (*NODES, 2)), (4, (*NODES, 1, *FORCED))))):
        gold = json.loads((GOLDEN / name / "gold.json").read_text())
        text = "".join(json.dumps({"id": first, "prompt_token_ids": gold["prompt"][first:], "max_tokens": 9, "ignore_eos": True,
                                   "temperature": first % 2, "seed": 3, "logprobs": 2}) + "\n" for first in range(5)).encode()
        options = ("generate", "--model", GOLDEN / name, "--input", "jsonl", "--no-stream", "--ordered")
        wanted = program.answers(1, *options, stdin=text)
        for number, (count, layout) in enumerate(layouts):
            found, stats = stats_of(program, count, *options, *layout, stdin=text)
            expect_equal(f"{name}, once to each node, {count} ranks {layout}", found, wanted)
            if not 0 < stats["node_rows"] < stats["node_rows_direct"] or stats["dispatch"] != "node-once":
                fail(f"rows between nodes: {stats['node_rows']}, straight {stats['node_rows_direct']}, {stats['dispatch']}")
            print(f"  rows between nodes: {stats['node_rows']}, straight {stats['node_rows_direct']}")
            if number > 0:
                continue
            found, stats = stats_of(program, count, *options, *layout, "--dispatch", "direct", stdin=text)
            expect_equal(f"{name}, straight, {count} ranks {layout}", found, wanted)
            if not 0 < stats["node_rows"] == stats["node_rows_direct"] or stats["dispatch"] != "direct":
                fail(f"rows between nodes: {stats['node_rows']}, straight {stats['node_rows_direct']}, {stats['dispatch']}")


def lowering(program):
    """--precision-balance lowers rows of prompts and none of decoding, twice alike, says so, and is refused where it cannot be."""
    prompt = " ".join(" ".join(PROMPTS).split())[:400].encode() + b"\n"
    on = ("--precision-balance", "--precision-min-rows", 20)
    plain = generate(*GREEDY, "--backend", "reference", tokens=8)
    wanted, stats = stats_of(program, 2, *plain, stdin=prompt)
    if not stats["exact"] or "precision_balance" in stats:
        fail(f"off, the figures say {stats}")
    expect_equal("on, with too few rows", program.answers(2, *plain, "--precision-balance", stdin=prompt), wanted)
    # With all of the budget one row of a step that decodes would be lowered as well.
    for count, more in ((2, ()), (4, ()), (2, ("--precision-budget", 1, "--precision-min-rows", 0))):
        found, stats = stats_of(program, count, *plain, *on, *more, stdin=prompt)
        again, same = stats_of(program, count, *plain, *on, *more, stdin=prompt)
        figures = stats["precision_balance"]
        expect_equal(f"{count} ranks {more}, again", again, found)
        prompts = stats["prompt_tokens"] * len(stats["experts"]["layers"])
        if (figures != same["precision_balance"] or stats["exact"] or figures["batches"] != 1 or stats["steps"] < 8
                or not 0 < figures["lowered_rows"] <= figures["budget"] * prompts or figures["predicted_speedup"] <= 1):
            fail(f"{count} ranks {more}: {figures}, and again {same['precision_balance']}; {prompts} rows of prompts")
        print(f"    {figures}", flush=True)
    for backend in ("reference", "cpu"):
        scores = [program.run(2, "perplexity", "--model", DEMO, "--backend", backend, "--json", *more, JAPANESE)
                  for more in ((), on, on)]
        if backend == "cpu" and scores[1].returncode == 69 and b"lower precision" in scores[1].stderr:
            print("  skipped: lower precision of the cpu backend (no AVX512_BF16 on this machine)")
            continue
        if [b"lossy and outside the law" in done.stderr for done in scores] != [False, True, True]:
            fail(f"{backend}: what was said: {[done.stderr.decode() for done in scores]}")
        if [json.loads(done.stdout)["exact"] for done in scores] != [True, False, False]:
            fail(f"{backend}: the reports say of the law: {[done.stdout.decode() for done in scores]}")
        off, *twice = (json.loads(done.stdout)["total"]["nats_per_token"] for done in scores)
        if twice[0] != twice[1] or not 0 < abs(off - twice[0]) < 0.05:
            fail(f"{backend}: {off} nats a token, {twice} at lower precision")
        print(f"  {backend}: {off} nats a token, {twice[0]} at lower precision", flush=True)
    for model, options, code, words in ((DEMO, ("--cpu-path", "portable"), 69, b"has no lower precision"),
                                        (GOLDEN / "olmoe_f32", ("--backend", "reference"), 64, b"weights of F32")):
        done = program.run(2, "perplexity", "--model", model, *on, *options, JAPANESE)
        if done.returncode != code or words not in done.stderr:
            fail(f"{model.name} {options}: exit {done.returncode}, {done.stderr.decode()}")


def balancer_figures(program):
    """--stats tells the work of each rank over time, and counts every row once, with experts moving and without."""
    rows = set()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "stats.json"
        for options in ((), ("--enable-eplb", "--eplb-force", "--num-redundant-experts", 9)):
            program.answers(3, *generate(*GREEDY), *options, "--stats", path, stdin=lines(9))
            found = json.loads(path.read_text())
            rows.add(sum(sum(sample["rank_rows"]) for sample in found["experts"]["samples"]))
            if len(found["experts"]["layers"]) != 3 or not all(1 <= l["imbalance"] <= 3 for l in found["experts"]["layers"]):
                fail(f"figures of layers: {found['experts']['layers']}")
            if options and (found["balancer"]["moves"] == 0 or
                            sum(sample["moves"] for sample in found["experts"]["samples"]) != found["balancer"]["moves"]):
                fail(f"figures of moves: {found['balancer']}")
    if len(rows) != 1 or 0 in rows:
        fail(f"rows were counted {rows}")
    print(f"  {rows.pop()} rows either way")


def placements(program):
    """A placement saved at the end of a run is where the next one starts, and maps of SGLang and vLLM are read."""
    options = generate(*GREEDY, "--enable-eplb", "--num-redundant-experts", 16, tokens=16)
    wanted = program.answers(1, *generate(*GREEDY, tokens=16), stdin=THREE)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "placement.json"
        expect_equal("saved", program.answers(4, *options, "--eplb-force", "--expert-placement", path, stdin=THREE), wanted)
        saved = json.loads(path.read_text())
        again = program.run(4, *options, "--eplb-step-interval", 0, "--expert-placement", path, stdin=THREE)
        expect_equal("loaded", again.stdout, wanted)
        kept = json.loads(path.read_text())
        if b"experts start where" not in again.stderr or kept != saved:
            fail(f"the placement was not kept:\n{again.stderr.decode()}")
        rows = saved["physical_to_logical_map"]
        path.write_text(json.dumps({"physical_to_logical_map": [rows[0], rows[0], rows[1], rows[1], rows[2], rows[2]]}))
        program.answers(4, *options, "--eplb-step-interval", 0, "--expert-placement", path, stdin=THREE)
        if json.loads(path.read_text())["physical_to_logical_map"] != rows:
            fail("SGLang's map with a row for every layer was not taken")
        print("  taken: a row for every layer")
        path.with_suffix(".json.new").write_text("of somebody else")
        for ids in ((0, 1, 2), (1, 3, 5)):
            path.write_text(json.dumps({"moe_layer_count": 3, "layer_list": [
                {"layer_id": i, "device_count": 4, "device_list": [
                    {"device_id": d, "device_expert": row[20 * d:20 * d + 20]} for d in (3, 2, 1, 0)]}
                for i, row in zip(ids, rows)]}))
            program.answers(4, *options, "--eplb-step-interval", 0, "--expert-placement", path, stdin=THREE)
            if json.loads(path.read_text())["physical_to_logical_map"] != rows:
                fail(f"vLLM's list of devices was not taken, layers {ids}")
            print(f"  taken: a list of devices, layers {ids}")
        doubles = [[e % 64 for e in range(79)] + [14]] * 3  # rank 3 has expert 14 in the slot before, too
        path.write_text(json.dumps({"physical_to_logical_map": doubles}))
        found = program.run(4, *options, "--eplb-step-interval", 0, "--expert-placement", path, stdin=THREE)
        expect_equal("two copies on a rank", found.stdout, wanted)
        if (b"3 slots with an expert that another slot of their rank has stay empty" not in found.stderr or
                json.loads(path.read_text())["physical_to_logical_map"] != [row[:79] + [-1] for row in doubles]):
            fail(f"two copies on a rank:\n{found.stderr.decode()}")
        if sorted(p.name for p in pathlib.Path(folder).iterdir()) != ["placement.json", "placement.json.new"]:
            fail(f"files are left, or lost: {list(pathlib.Path(folder).iterdir())}")
        other = program.run(3, *options, "--num-redundant-experts", 4, "--expert-placement", path, stdin=THREE)
        expect_equal("another shape", other.stdout, wanted)
        if b"does not fit" not in other.stderr:
            fail(f"another shape: nothing was said:\n{other.stderr.decode()}")


def gold(program):
    """Greedy texts and chats of the demo model are those of Hugging Face transformers."""
    wanted = json.loads((DEMO / "gold.json").read_text())
    options = generate(*GREEDY, "--backend", "reference", "--ignore-eos", tokens=64)
    for entry in wanted["greedy"]:
        found = program.answers(2, *options, "--input", "text", stdin=entry["prompt"].encode())
        expect_equal(entry["prompt"], found, (entry["text"] + "\n").encode())
    options = generate(*GREEDY, "--backend", "reference", "--chat", tokens=64)
    for entry in wanted["chat"]:
        found = program.answers(2, *options, "--input", "text", stdin=entry["messages"][0]["content"].encode())
        expect_equal(entry["messages"][0]["content"], found, (entry["text"] + "\n").encode())


REQUESTS = [
    {"id": "greedy", "prompt": "In the beginning", "max_tokens": 24, "temperature": 0},
    {"id": 2, "prompt": "static int", "max_tokens": 24, "temperature": 0.8, "top_p": 0.9, "seed": 5},
    {"id": "unseeded", "prompt": "static int", "max_tokens": 24, "temperature": 1.0, "min_p": 0.02},
    {"id": "top", "prompt": "Die Datei", "max_tokens": 24, "temperature": 1.2, "top_k": 5, "stop": ["e ", "."]},
    {"id": "many", "prompt": "Once", "max_tokens": 12, "temperature": 1.0, "top_k": 20, "n": 3},
    {"id": "seen", "prompt": PROMPTS[0], "max_tokens": 20, "temperature": 0, "logprobs": 3, "prompt_logprobs": 2},
    {"id": "long", "prompt": "and so on " * 60, "max_tokens": 8, "temperature": 0, "prompt_logprobs": 0, "priority": -1},
    {"id": "fresh", "prompt": "the the the", "max_tokens": 24, "temperature": 0, "repetition_penalty": 1.3,
     "presence_penalty": 0.5, "frequency_penalty": 0.25, "min_tokens": 4},
    {"id": "drawn", "prompt_token_ids": [17, 300, 41, 41], "max_tokens": 24, "seed": -9, "temperature": 0.7,
     "frequency_penalty": 1.0, "logit_bias": {"5": 2.5, "11": -100}, "logprobs": 0, "priority": 3},
    {"id": "chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16, "temperature": 0},
    {"id": "ends", "prompt": "In the beginning", "max_tokens": 24, "temperature": 0, "stop_token_ids": [11, 13]},
    {"id": "wrong", "prompt": "x", "best_of": 2},
    {"id": "wronger", "prompt": 5},
]


def last_lines(program, count, *options, requests, stream=False):
    """The last line of each answer, sorted; they must all be JSON, and what was streamed must add up to the whole."""
    text = "".join(json.dumps(request) + "\n" for request in requests).encode()
    done = program.run(count, "generate", "--model", DEMO, "--input", "jsonl", *options, stdin=text)
    wrong = sum(request["id"] in ("wrong", "wronger") for request in requests)
    if done.returncode != (65 if wrong else 0):
        fail(f"{count} ranks {options}: exit {done.returncode}\n{done.stderr.decode(errors='replace')}")
    parts, last = {}, []
    for line in done.stdout.splitlines():
        answer = json.loads(line)
        name = (answer["id"], answer.get("index"))
        if "finish_reason" not in answer:
            text, ids = parts.get(name, ("", []))
            parts[name] = (text + answer["text"], ids + answer["token_ids"])
            continue
        last.append(line)
        if stream and "error" not in answer and parts.get(name, ("", [])) != (answer["text"], answer["token_ids"]):
            fail(f"what was streamed of {name} is not the whole: {parts.get(name)} and {answer}")
    return b"\n".join(sorted(last) if "--ordered" not in options else last)


def requests(program):
    """Lines of JSON with fields of all kinds: the same answers on any ranks, in any company, and each alone."""
    wanted = last_lines(program, 1, requests=REQUESTS, stream=True)
    if len(wanted.splitlines()) != len(REQUESTS) + 2:
        fail(f"{len(wanted.splitlines())} answers:\n{wanted.decode()}")
    for count, layout in ((2, ()), (2, ("-tp", 2)), (3, ()), (5, ())):
        expect_equal(f"{count} ranks {layout}", last_lines(program, count, *layout, requests=REQUESTS, stream=True), wanted)
    for options in (("--max-num-seqs", 2), ("--max-num-batched-tokens", 16, "--no-stream"),
                    ("--kv-cache-memory", "1M", "--no-stream")):
        expect_equal(f"{options}", last_lines(program, 2, *options, requests=REQUESTS), wanted)
    turned = [dict(request, priority=place % 3) for place, request in enumerate(REQUESTS[::-1])]
    strip = lambda lines: b"\n".join(sorted(line.replace(b"line 12:", b"").replace(b"line 13:", b"").replace(b"line 2:", b"")
                                            .replace(b"line 1:", b"") for line in lines.splitlines()))
    expect_equal("turned round, other priorities", strip(last_lines(program, 2, requests=turned)), strip(wanted))
    ordered = last_lines(program, 3, "--ordered", requests=REQUESTS, stream=True)
    order = list(dict.fromkeys(json.loads(line)["id"] for line in ordered.splitlines()))
    if order != [request["id"] for request in REQUESTS]:
        fail(f"--ordered gave {order}")
    expect_equal("ordered", b"\n".join(sorted(ordered.splitlines())), wanted)
    alone = b"\n".join(last_lines(program, 1, requests=[request]) for request in REQUESTS)
    expect_equal("each alone", strip(alone), strip(wanted))


def families(program):
    """Every golden checkpoint, FP8 ones too: token ids in, the same lines out on any ranks; greedy ones are the gold's.

    The first checkpoint of each architecture is cut in all ways, each of its other shapes and formats in one of them; their
    logits are compared on all rank counts by ranks_gold.c."""
    known = set()
    cuts = ((2, ("-tp", 2)), (3, ()), (5, ()))
    for number, model in enumerate(sorted(path.parent for path in GOLDEN.glob("*/gold.safetensors"))):
        architecture = json.loads((model / "config.json").read_text())["architectures"][0]
        first_of_kind = architecture not in known
        known.add(architecture)
        wanted = json.loads((model / "gold.json").read_text())
        lines_in = [{"id": "gold", "prompt_token_ids": wanted["prompt"], "max_tokens": len(wanted["greedy"]), "temperature": 0},
                    {"id": "short", "prompt_token_ids": wanted["prompt"][:3], "max_tokens": 9, "temperature": 0, "logprobs": 2},
                    {"id": "drawn", "prompt_token_ids": wanted["prompt"][5:25], "max_tokens": 16, "seed": 7, "temperature": 0.8,
                     "top_p": 0.95, "logprobs": 1},
                    {"id": "free", "prompt_token_ids": wanted["prompt"][20:27], "max_tokens": 12, "seed": 3, "temperature": 1.1}]
        text = "".join(json.dumps({**line, "ignore_eos": True}) + "\n" for line in lines_in).encode()
        for backend in ("reference", "cpu"):
            options = ("generate", "--model", model, "--backend", backend, "--input", "jsonl", "--no-stream", "--ordered")
            alone = program.answers(1, *options, stdin=text)
            first = json.loads(alone.splitlines()[0])["token_ids"]
            if backend == "reference" and first != wanted["greedy"]:
                fail(f"{model.name}: greedy tokens {first}, transformers has {wanted['greedy']}")
            few = cuts[number % 3:][:1] if backend == "cpu" else ()
            for count, layout in (cuts if backend == "cpu" else ((2, ()), (4, ("-tp", 2)))) if first_of_kind else few:
                found = program.answers(count, *options, *layout, stdin=text)
                expect_equal(f"{model.name} {backend} on {count} ranks {layout}", found, alone)


def repetitive():
    """Requests that go on as they began, in all ways that a token can be chosen and an answer can end."""
    ways_of = ({"temperature": 0, "ignore_eos": True}, {"temperature": 0.3, "seed": 5, "ignore_eos": True},
               {"temperature": 0.7, "top_k": 5, "seed": 6, "logprobs": 2}, {"temperature": 0, "stop": ["sat on", "const char *strt", "five t"]},
               {"temperature": 0, "repetition_penalty": 1.05, "min_tokens": 20, "logprobs": 1, "logit_bias": {"5": -1}},
               {"temperature": 0, "stop_token_ids": [13, 25], "min_tokens": 9})
    prompts = ("The cat sat on the mat. The dog sat on the log. " * 3, "one two three four five " * 6, "int main(void) { return 0; }\n" * 4)
    return "".join(json.dumps({"id": f"{number} {way}", "prompt": prompt, "max_tokens": 48, **how}) + "\n"
                   for number, prompt in enumerate(prompts) for way, how in enumerate(ways_of)).encode()


def speculation(program):
    """Drafts, accepted and refused, change no byte: greedy and drawn, whatever ends an answer, on any ranks, with experts
    moving, in steps with few rows, from a pool that is too small, in chunks of positions and with several drafts or one."""
    config = lambda drafts, least, most: ("--speculative-config", json.dumps(
        {"method": "ngram", "num_speculative_tokens": drafts, "prompt_lookup_min": least, "prompt_lookup_max": most}))
    plain = ("--input", "jsonl", "--no-stream", "--ordered", "--no-enable-prefix-caching")
    runs = [(1, (), (3, 2, 5)), (2, ("--max-num-batched-tokens", 20), (1, 1, 1)), (3, FORCED, (5, 2, 3)),
            (4, ("-tp", 2, "--kv-cache-memory", "384K"), (16, 2, 5)), (8, (), (3, 2, 5))]
    wanted = program.answers(1, "generate", "--model", DEMO, *plain, stdin=repetitive())
    ends = [json.loads(line)["finish_reason"] for line in wanted.splitlines()]
    if ends.count("stop") < 3 or ends.count("length") < 9:
        fail(f"answers were to end in different ways: {ends}")
    for count, layout, numbers in runs:
        found, stats = stats_of(program, count, "generate", "--model", DEMO, *plain, *layout, *config(*numbers), stdin=repetitive())
        expect_equal(f"{numbers} on {count} ranks {layout}", found, wanted)
        told = stats["speculation"]
        print(f"    {told}, {stats['steps']} steps, {stats['preemptions']} preemptions", flush=True)
        if not 0 < told["spec_decode_num_accepted_tokens"] < told["spec_decode_num_draft_tokens"]:
            fail(f"drafts were to be accepted and refused: {told}")
        if ("--kv-cache-memory" in layout) != (stats["preemptions"] > 0):
            fail(f"{layout}: {stats['preemptions']} preemptions")
    with tempfile.TemporaryDirectory() as folder:  # attention in chunks of half a page, and in whole
        text = b"".join(json.dumps({"id": i, "prompt": "ab" * 9 + "c" * i, "max_tokens": 40, "temperature": i % 2 / 5, "seed": i,
                                    "ignore_eos": True}).encode() + b"\n" for i in range(6))
        for model in tiny_models(folder):
            wanted = program.answers(1, "generate", "--model", model, *plain, stdin=text)
            found, stats = stats_of(program, 2, "generate", "--model", model, *plain, *config(4, 1, 3), stdin=text)
            expect_equal(f"{model.name}, {stats['speculation']}", found, wanted)


CASES = {case.__name__: case for case in (ranks, grids, company, pages, threads, comms, tiny, padded, paths, gold,
                                                    requests, families)}
CASES.update({case.__name__: case for case in (balancer, balancer_figures, lowering, placements, node_once, shared_experts, speculation)})


def main():
    if len(sys.argv) != 4 or sys.argv[3] not in CASES:
        fail(f"usage: laws.py BINARY MPIEXEC {'|'.join(CASES)}")
    CASES[sys.argv[3]](Program(sys.argv[1], sys.argv[2]))


if __name__ == "__main__":
    main()
