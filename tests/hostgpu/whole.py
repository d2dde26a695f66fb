#!/usr/bin/env python3
# whole.py - the whole program on emulated devices: the same tokens on any ranks, and those of other backends
#
# SPDX-License-Identifier: Apache-2.0
"""Usage: whole.py PROGRAM MPIEXEC MODULE CASE

Every rank has an emulated device of its own. Tokens must be equal at 1, 2 and 4 ranks, whatever the order in which the
emulated streams run, and be those of the reference backend, which has the gold values, or, where keys and values of 16 bits
decide otherwise, those of the cpu backend, which keeps them so too.
"""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

GOLDEN = pathlib.Path("tests/golden")
PIECES = "--separate-allocations"
ROUNDED = ("--kv-cache-dtype", "bfloat16") # of the reference: keys and values of 16 bits, as a device keeps them
MOVING = ("--enable-eplb", "--num-redundant-experts", "2", "--eplb-step-interval", "2", "--eplb-window-size", "4", "--eplb-force")
SPECULATING = ("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_min": 1, "prompt_lookup_max": 3}')
LAYOUTS = ((1, ()), (2, ()), (4, ("-tp", "2")))
PATIENCE = 500 # seconds for one run of the program: only one that hangs needs so many, on however slow a machine


def fail(words):
    """The end of the test."""
    sys.exit(f"whole.py: {words}")


class Program:
    """The program on the emulated devices of some ranks."""

    def __init__(self, program, mpiexec, module):
        self.program, self.mpiexec, self.module = program, mpiexec, module
        told = subprocess.run([program, "--version"], capture_output=True, timeout=PATIENCE, check=True).stdout.decode()
        self.exchange = "host" if "nccl       no" in told else "nccl"
        version = re.search(r"nccl +(\d+)\.(\d+)", told)
        self.windows = version is not None and (int(version[1]), int(version[2])) >= (2, 28)

    def run(self, ranks, *options, order="random", seed=1, **environment):
        """What it wrote to stdout; the test ends if it failed."""
        command = [self.mpiexec, "-n", str(ranks), self.program, *map(str, options)]
        environment = {**os.environ, "HOSTGPU_ORDER": order, "HOSTGPU_SEED": str(seed), **environment}
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=PATIENCE, check=False)
        if done.returncode != 0:
            fail(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr.decode()[-2000:]}")
        return done.stdout

    def answers(self, ranks, model, lines, *options, backend="cuda", **how):
        """What is written for all lines, which are there when the first step begins: so the steps are the same each time."""
        module = ("--cuda-module", self.module) if backend == "cuda" else ()
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as asked:
            asked.writelines(json.dumps(line) + "\n" for line in lines)
            asked.flush()
            return self.run(ranks, "generate", "--model", model, "--backend", backend, *module, "--input", "jsonl", "--input-file", asked.name,
                            "--no-stream", "--ordered", "--kv-cache-memory", "4M", *options, **how)

    def operations(self, ranks, model, lines, *options, **how):
        """What the streams of each rank did, as (stream, operation)."""
        with tempfile.TemporaryDirectory() as folder:
            self.answers(ranks, model, lines, *options, HOSTGPU_TRACE=folder, **how)
            return traces(folder)

    def tokens(self, ranks, model, lines, *options, **how):
        """The token ids of each line."""
        return [json.loads(line)["token_ids"] for line in self.answers(ranks, model, lines, *options, **how).splitlines()]

    def reference(self, model, lines, *options):
        """Those that the reference backend has on one rank."""
        return self.tokens(1, model, lines, *options, backend="reference")


def traces(folder):
    """What HOSTGPU_TRACE has left there: (stream, operation) of each process."""
    return [re.findall(r"stream (\d+) operation \d+: (.+)", file.read_text()) for file in pathlib.Path(folder).iterdir()]


def lines_of(gold):
    """A greedy request whose answer is known, and two that are drawn."""
    prompt = gold["prompt"]
    return [{"id": 0, "prompt_token_ids": prompt, "max_tokens": len(gold["greedy"]), "temperature": 0, "ignore_eos": True},
            {"id": 1, "prompt_token_ids": prompt[:3], "max_tokens": 7, "seed": 5, "temperature": 1, "ignore_eos": True},
            {"id": 2, "prompt_token_ids": prompt[4:20], "max_tokens": 5, "seed": 6, "top_k": 8, "ignore_eos": True}]


def check_model(program, name, *more, layouts=LAYOUTS, exchange=None):
    """One golden checkpoint over some layouts."""
    more = ("--device-exchange", exchange or program.exchange, *more)
    model = GOLDEN / name
    gold = json.loads((model / "gold.json").read_text())
    lines = lines_of(gold)
    first = None
    for seed, (ranks, layout) in enumerate(layouts):
        order = ("eager", "lazy", "random")[seed]
        found = program.tokens(ranks, model, lines, "--max-num-seqs", 4, *layout, *more, order=order, seed=seed + 1)
        first = first or found
        if found != first:
            fail(f"{name} on {ranks} ranks {layout}, order {order}: {found}, on one rank {first}")
        print(f"  equal: {name} on {ranks} devices {layout}, streams {order}, rows by {more[1]}", flush=True)
    wanted = program.reference(model, lines[:1])
    if wanted != [gold["greedy"]]:
        fail(f"{name}: greedy tokens of the reference backend {wanted}, transformers has {gold['greedy']}")
    kept = first[:1] != wanted # a choice of two that are so near each other that 16 bits of a key decide it
    if kept and first[:1] != program.reference(model, lines[:1], *ROUNDED):
        fail(f"{name}: greedy tokens {first[0]}, not those of the backend reference; transformers has {gold['greedy']}")
    print(f"  equal: greedy tokens of {name} and of the backend reference{', its keys and values of 16 bits' if kept else ''}", flush=True)


def families(program):
    """A checkpoint of each family and format."""
    for name in ("llama4_b", "qwen3moe_b", "mixtral_f16", "olmoe", "glm4moe", "qwen3moe_fp8block"):
        check_model(program, name, PIECES) # whose ends the emulated device watches
    check_model(program, "llama4_b", exchange="host")


def balancer(program):
    """Experts move at every step from device to device, and nothing changes."""
    check_model(program, "llama4_b", *MOVING)
    # By name, a policy that needs all counts: rows travel in the other way, which large batches take too.
    check_model(program, "llama4_b", *MOVING, "--eplb-dispatch", "flow", layouts=LAYOUTS[1:2])


def waits(program):
    """In steps that only decode the host waits in no layer and sends nothing, but for what travels through its memory; where it
    plans, as for large batches, it waits once in a layer with experts, in halves too. Every second layer has experts. For the
    results of all sequences together it waits once."""
    lines = [{"id": i, "prompt_token_ids": [1, 2, 3 + i], "max_tokens": 9, "temperature": 0, "ignore_eos": True} for i in range(3)]
    with tempfile.TemporaryDirectory() as folder:
        stats = pathlib.Path(folder) / "stats.json"
        several = [(2, "random", ("--device-exchange", "host"), 0, 1)]
        if program.exchange == "nccl":
            several += [(2, "random", (), 0, 0), (4, "lazy", ("-tp", "2"), 0, 0),
                        (2, "random", (*MOVING, "--eplb-dispatch", "flow", "--enable-dbo", "--enforce-eager"), 0.5, 0.5)]
            moves_beside(program, stats, lines)
        for ranks, order, options, least, most in ((1, "random", (), 0, 0), (1, "eager", MOVING, 0, 0), *several,
                                                   (1, "lazy", (*MOVING, "--eplb-dispatch", "flow"), 0.5, 0.5)):
            program.tokens(ranks, GOLDEN / "llama4_b", lines, "--stats", stats, *options, order=order)
            told = json.loads(stats.read_text())
            found, results = told["waits_per_layer"], told["waits_per_result"]
            if not least <= found <= most:
                fail(f"{ranks} ranks, {options}: the host waited {found} times in a layer, not {least} to {most} times")
            if results != (2 if "host" in options else 1): # where hosts carry rows, once for those that want logits too
                fail(f"{ranks} ranks, {options}: the host waited {results} times for what three sequences get in a step")
            print(f"  the host waits {found:.2f} times in a layer, {results:.0f} for results: {ranks} ranks {options}")
    sends_in_layers(program, lines)


def moves_beside(program, stats, lines):
    """Experts move on a stream of their own, where the host waits for none of them; through its memory it does."""
    for options, order in (((), "random"), (("--enable-dbo",), "lazy"), (("--device-exchange", "host"), "random")):
        ranks = program.operations(2, GOLDEN / "llama4_b", [{**line, "max_tokens": 20} for line in lines], "--stats", stats, *MOVING, *options,
                                   order=order)
        found = json.loads(stats.read_text())
        streams = {}
        for stream, name in sum(ranks, []):
            streams.setdefault(name, set()).add(stream)
        beside = "host" not in options
        moved = found["balancer"]["placement_version"] > 1 and found["balancer"]["moves"] > 1
        expect(f"{options}: experts move, and the host waits for {'none' if beside else 'them'}", moved and
               (found["balancer"]["move_waits"] == 0) == beside, found["balancer"])
        sums, computed = streams.get("sum_words", set()), streams["combine"]
        expect(f"{options}: {'on a stream of their own' if beside else 'on no stream of their own'}", not beside and not sums or
               len(sums) == 1 and not sums & computed and sums < streams["nccl"], streams)


def sends_in_layers(program, lines):
    """Once the device has been told where experts lie, nothing is sent between a layer's route and its combine."""
    only = program.operations(1, GOLDEN / "llama4_b", lines)[0]
    steps = " ".join(name for _, name in only).split("embed")[1:]
    layers = [[layer.split("combine")[0] for layer in step.split("route")[1:]] for step in steps]
    if len(steps) < 8 or not layers[0] or "memcpy" not in layers[0][0]:
        fail(f"the first of {len(steps)} steps was to send tables of experts: {steps[:1]}")
    if any("memcpy" in layer for step in layers[1:] for layer in step):
        fail(f"something is sent to the device in the layers of a step that only decodes: {steps[-1]}")
    print(f"  nothing is sent to the device in the expert layers of {len(steps) - 1} steps")


def statistics(program, folder, *arguments, **how):
    """The tokens of each line, and the figures of the closing line."""
    file = pathlib.Path(folder) / "stats.json"
    return program.tokens(*arguments, "--stats", file, **how), json.loads(file.read_text())


def changing_company():
    """Answers of many lengths beside each other, one of which goes on from one chunk of positions to the next."""
    lines = [{"id": i, "prompt_token_ids": [1, 2, 3 + i], "max_tokens": 3 + 4 * i, "logprobs": 2, "ignore_eos": True} for i in range(4)]
    return lines + [{"id": 4, "prompt_token_ids": [5 + i % 200 for i in range(247)], "max_tokens": 16, "logprobs": 2, "ignore_eos": True}]


def graphs(program):
    """Steps that are replayed give the bytes of those that are not, whoever is in the batch and wherever experts lie."""
    lines, answers = changing_company(), {}
    layouts = [(1, ())] + ([(2, MOVING), (4, ("-tp", "2"))] if program.exchange == "nccl" else [])
    layouts += [(2, ("--dispatch", "lsa"))] if program.windows else []
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "stats.json"
        for name, several in (("llama4_b", layouts), ("mixtral_window", layouts[:1])):
            for seed, (ranks, layout) in enumerate([(1, ("--enforce-eager",)), *several]):
                out = program.answers(ranks, GOLDEN / name, lines, "--exact", "--max-num-seqs", 5, "--stats", file, *layout, seed=seed,
                                      order=("eager", "lazy", "random")[seed % 3])
                steps = (stats := json.loads(file.read_text()))["decode_steps"]
                if out != answers.setdefault(name, out):
                    fail(f"{name} on {ranks} ranks {layout}: other bytes than with --enforce-eager on one rank; {steps}")
                if (steps["recorded"] + steps["replayed"] > 0) != (seed > 0) or seed and steps["replayed"] < 4:
                    fail(f"{name} on {ranks} ranks {layout}: decode steps {steps}")
                if layout == MOVING and stats["balancer"]["placement_version"] < 3:
                    fail(f"{name} on {ranks} ranks {layout}: the balancer was to move experts, {stats['balancer']}")
                print(f"  equal: {name} on {ranks} ranks {layout}, {steps}", flush=True)
        for options in ((("--device-exchange", "host"), MOVING + ("--eplb-dispatch", "flow"))):
            _, stats = statistics(program, folder, 2, GOLDEN / "llama4_b", lines[:1], *options)
            expect(f"nothing is recorded where the host must wait: {options}", stats["decode_steps"]["recorded"] == 0, stats)


def halves(program):
    """With --enable-dbo steps go to experts in halves whose rows travel on a second stream, and the bytes stay the same."""
    if program.exchange != "nccl":
        print("skipped: halves (this build has no NCCL)")
        sys.exit(77)
    beside, eager = ("--enable-dbo",), ("--enable-dbo", "--enforce-eager")
    lines = changing_company()
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "stats.json"
        routes = ("--trace", str(pathlib.Path(folder) / "trace"), "--trace-routes")
        once = ("--dispatch", "node-once", "--node-size", "1")
        planned = (*beside, *MOVING, "--eplb-dispatch") # all counts in every step, as large batches need them
        stored = ("--dispatch", "lsa") if program.windows else ()
        for name, layouts in (("llama4_b", ((1, ()), (2, eager), (2, (*beside, *MOVING)), (4, (*beside, "-tp", "2")),
                                            (4, (*planned, "fewest", "-tp", "2")), (2, (*beside, *stored, *MOVING)))),
                              ("qwen3moe_b", ((1, ()), (4, (*beside, *MOVING)), (2, (*beside, *routes, *once)), (4, (*planned, "flow")),
                                              (4, (*beside, *stored))))):
            for seed, (ranks, layout) in enumerate(layouts):
                out = program.answers(ranks, GOLDEN / name, lines, "--exact", "--max-num-seqs", 5, "--stats", file, *layout, seed=seed,
                                      order=("eager", "lazy", "random")[min(seed, 2)])
                steps = (stats := json.loads(file.read_text()))["decode_steps"]
                first = out if seed == 0 else first
                if out != first:
                    fail(f"{name} on {ranks} ranks {layout}: other bytes than on one rank")
                if (stats["halved_steps"] > 2) != (seed > 0) or stats["halved_steps"] > stats["steps"]:
                    fail(f"{name} on {ranks} ranks {layout}: {stats['halved_steps']} of {stats['steps']} steps in halves")
                counting = {"--eplb-dispatch", "--trace-routes"} & set(layout)
                if stats["halved_planned"] != (stats["halved_steps"] if counting else 0):
                    fail(f"{name} on {ranks} ranks {layout}: of {stats['halved_steps']} halved steps {stats['halved_planned']} were planned")
                if (steps["replayed"] < 4) != bool("--enforce-eager" in layout or counting):
                    fail(f"{name} on {ranks} ranks {layout}: decode steps {steps}")
                if "--eplb-force" in layout and stats["balancer"]["placement_version"] < 3:
                    fail(f"{name} on {ranks} ranks {layout}: the balancer was to move experts, {stats['balancer']}")
                print(f"  equal: {name} on {ranks} ranks {layout}, {stats['halved_steps']} of {stats['steps']} steps in halves, {steps}", flush=True)
    streams_of_exchanges(program)
    shared_beside(program)
    for backend, options, words in (("cpu", (), "but --backend is cpu"),
                                    ("cuda", ("--device-exchange", "host"), "but --device-exchange is host")):
        command = [program.program, "generate", "--model", str(GOLDEN / "llama4_b"), "--backend", backend, "--enable-dbo", *options]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)
        expect(f"refused: {words}", done.returncode == 64 and words in done.stderr.decode(), done.stderr.decode())


def shared_beside(program):
    """Without any option the shared expert, up to its first exchange, is queued before its stream waits for rows, in both ways."""
    planned = ("--enable-eplb", "--eplb-dispatch", "flow") # whose probe keeps to the rows of so small a batch
    for more, products in (((), "multiply activate multiply"), (planned, "multiply activate multiply"), (("-tp", "2"), "multiply activate")):
        with tempfile.TemporaryDirectory() as folder:
            code, told = start(program, 2, "cuda", [f"HOSTGPU_TRACE={folder}"], [], more=more)
            did = sum(traces(folder), [])
        queued = [" ".join(re.match("[a-z ]*", name)[0] for of, name in did if of == stream) for stream in "01"]
        expect(f"rows travel beside the shared expert {more[-1:]}", code == 0 and
               f" event record {products} event wait " in queued[0].split(" route ", 1)[-1], told)
        expect("the host plans meanwhile", not more or more[-1] != "flow" or
               "event wait memcpy event record memcpy memcpy gather" in queued[1], told)


def streams_of_exchanges(program):
    """Rows travel on another stream than products with the option, and on the same one without it and a shared expert; so they do in a graph, of
    which the emulated device queues what was captured of a second stream on one of its own."""
    stored = ("--enable-dbo", "--dispatch", "lsa", "--enforce-eager")
    for options, wanted in ((("--enable-dbo", "--enforce-eager"), 2), (("--enable-dbo",), 3), ((), 1)):
        ranks = program.operations(2, GOLDEN / "qwen3moe_b", [{"id": 0, "prompt_token_ids": [1, 2, 3, 4], "max_tokens": 5}], *options)
        found = {stream for stream, name in sum(ranks, []) if name == "nccl"}
        expect(f"{options}: exchanges are queued on {wanted} streams", len(found) == wanted, found)
    if program.windows: # the first step is in halves, the others have a row on each rank
        ranks = program.operations(2, GOLDEN / "qwen3moe_b", [{"id": 0, "prompt_token_ids": [1, 2, 3, 4], "max_tokens": 3}], *stored)
        found = {stream for stream, name in sum(ranks, []) if name.startswith("lsa_push")}
        expect(f"{stored}: rows are stored beside in halves, and at once where there are none: {found}", found == {"0", "1"}, found)


def many_rows(name):
    """More rows in a step, on every data group, than our own kernels are asked to multiply by default; and the gold answer."""
    gold = json.loads((GOLDEN / name / "gold.json").read_text())
    more = [{"prompt_token_ids": gold["prompt"][first:], "max_tokens": 6, "temperature": 0} for first in range(1, 6)]
    more += [{"prompt_token_ids": gold["prompt"][first:], "max_tokens": 6, "seed": first, "temperature": 1} for first in (6, 7)]
    lines = [{"prompt_token_ids": gold["prompt"], "max_tokens": len(gold["greedy"]), "temperature": 0}] + more
    return [{**line, "id": i, "ignore_eos": True} for i, line in enumerate(lines)], gold["greedy"]


def need_cublas(program):
    """The end of the test where the module was built without it."""
    with tempfile.TemporaryDirectory() as folder:
        lines, _ = many_rows("llama4_b")
        _, stats = statistics(program, folder, 1, GOLDEN / "llama4_b", lines[1:2], "--max-num-seqs", 1)
    if "no cuBLAS" in stats["backend"]:
        print(f"skipped: {stats['backend']}")
        sys.exit(77)


def greedy_of(answers, lines):
    """The answers that are not drawn: a draw may fall between two tokens whose bounds moved by the last bit."""
    return [tokens for tokens, line in zip(answers, lines) if line["temperature"] == 0]


def nodes(program):
    """Rows go once to each of two nodes, from device to device: by NCCL, in halves too, through the hosts, where experts move."""
    two, halved = ("--node-size", "2"), ("--enable-dbo",) if program.exchange == "nccl" else ()
    for name, exchange, layouts in (("qwen3moe_a", None, ((4, two), (4, (*two, *halved)))),
                                    ("llama4_b", None, ((1, ()), (3, (*two, *MOVING)), (3, (*two, *MOVING, *halved)))),
                                    ("llama4_b", "host", ((2, ("--node-size", "1")),))):
        with tempfile.TemporaryDirectory() as folder:
            stats = pathlib.Path(folder) / "stats.json"
            check_model(program, name, "--dispatch", "node-once", "--stats", stats, layouts=layouts, exchange=exchange)
            found = json.loads(stats.read_text())
        if found["dispatch"] != "node-once" or not 0 < found["node_rows"] < found["node_rows_direct"]:
            fail(f"{name}: {found['node_rows']} rows between nodes, {found['node_rows_direct']} straight, {found['dispatch']}")
        if (found["halved_planned"] > 0) != (program.exchange == "nccl" and exchange is None):
            fail(f"{name}: {found['halved_planned']} of {found['steps']} steps in halves")
        print(f"  rows between nodes: {found['node_rows']}, straight {found['node_rows_direct']}; {found['halved_planned']} steps in halves")


def products(program):
    """Products of many rows by cuBLAS: the gold tokens and those of the reference backend, and all figures say that the law was given up."""
    need_cublas(program)
    for name, seed in (("llama4_b", 1), ("qwen3moe_b", 2)):
        lines, gold = many_rows(name)
        model = GOLDEN / name
        want = greedy_of(program.reference(model, lines, "--max-num-seqs", 8, *ROUNDED), lines)
        if want[0] != gold:
            fail(f"{name} by the reference: {want[0]}, transformers has {gold}")
        with tempfile.TemporaryDirectory() as folder:
            for (ranks, layout), order in zip(LAYOUTS, ("random", "lazy", "eager")):
                found, stats = statistics(program, folder, ranks, model, lines, "--max-num-seqs", 8, *layout, order=order, seed=seed)
                if greedy_of(found, lines) != want:
                    fail(f"{name} on {ranks} ranks {layout} with cuBLAS: {greedy_of(found, lines)}, wanted {want}")
                if stats["loose_products"] == 0 or stats["exact"]:
                    fail(f"{name} on {ranks} ranks {layout}: cuBLAS was to multiply, the figures say {stats}")
                print(f"  equal: {name} on {ranks} devices {layout}, {stats['loose_products']} products by cuBLAS")
                if name == "llama4_b" and ranks < 4:
                    experts_by_cublas(program, (folder, ranks, model, lines, "--max-num-seqs", 8), want, stats["loose_products"])
    law_of_texts(program)


def lowering(program):
    """--precision-balance, by our kernels and by cuBLAS: rows of prompts are lowered, of small batches too, and twice the same answers come."""
    options = ("--max-num-seqs", 8, "--precision-balance", "--precision-min-rows", 1, "--precision-budget", 0.9)
    small, large = lines_of(json.loads((GOLDEN / "olmoe" / "gold.json").read_text())), many_rows("llama4_b")[0]
    with tempfile.TemporaryDirectory() as folder:
        for name, lines, more in (("olmoe", small, ("--exact",)), ("llama4_b", large, ())):
            found = [statistics(program, folder, 2, GOLDEN / name, lines, *options, *more, order=order, seed=seed)
                     for seed, order in enumerate(("lazy", "random"))]
            figures = [stats["precision_balance"] for _, stats in found]
            if found[0][0] != found[1][0] or figures[0] != figures[1] or not 0 < figures[0]["lowered_rows"] < figures[0]["rows"]:
                fail(f"{name} {more}: {found}")
            if found[0][1]["exact"] or not 0 < figures[0]["batches"] < found[0][1]["steps"]:
                fail(f"{name} {more}: {found[0][1]}")
            print(f"  twice alike: {name} {more}, {figures[0]}")


def experts_by_cublas(program, arguments, want, others):
    """The host knows each expert's rows where a policy needs all counts: those of many rows are left to cuBLAS too, wherever they lie."""
    found, stats = statistics(program, *arguments, *MOVING, "--eplb-dispatch", "flow", order="lazy", seed=3)
    if greedy_of(found, arguments[3]) != want:
        fail(f"{arguments[2]} on {arguments[1]} ranks, experts by cuBLAS: {greedy_of(found, arguments[3])}, wanted {want}")
    if stats["loose_products"] < others + 10:
        fail(f"{arguments[2]} on {arguments[1]} ranks: {stats['loose_products']} products by cuBLAS, {others} without the experts'")
    print(f"  equal: with {stats['loose_products'] - others} more products of experts, which moved")


def law_of_texts(program):
    """perplexity says that the law was given up, in its report and in its closing line, and with --exact it was not."""
    words = "rule 2 of the law was given up"
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for file in ("config.json", "model.safetensors"):
            (folder / file).symlink_to((GOLDEN / "llama4_b" / file).resolve())
        (folder / "tokenizer.json").symlink_to((GOLDEN / "byte_tokenizer" / "tokenizer.json").resolve())
        (folder / "text").write_text("Many words stand in this text. " * 5, encoding="ascii")
        for more, exact in (((), False), (("--exact",), True)):
            command = [program.mpiexec, "-n", "2", program.program, "perplexity", "--model", name, "--json", "--kv-cache-memory", "4M",
                       "--backend", "cuda", "--cuda-module", program.module, *more, str(folder / "text")]
            done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True, stdin=subprocess.DEVNULL)
            told = json.loads(done.stdout)
            if (words in done.stderr.decode()) == exact or told["exact"] != exact or (told["loose_products"] == 0) != exact:
                fail(f"perplexity {more}: {told}\n{done.stderr.decode()}")
            print(f"  perplexity {more}: {told['loose_products']} products by cuBLAS, and it says so")


def exact(program):
    """The law in full: with --exact the bytes of an answer, probabilities and all, are equal in any company on any ranks."""
    name = "llama4_b"
    lines, gold = many_rows(name)
    lines = [{**line, "logprobs": 3} for line in lines]
    answers = {}
    for ranks, more in ((1, ("--max-num-seqs", 1)), (1, ("--max-num-seqs", 8)), (2, ("--max-num-seqs", 3)),
                        (4, ("--max-num-seqs", 8, "-tp", 2, "--enable-eplb", "--num-redundant-experts", 2, "--eplb-force"))):
        answers[(ranks, more)] = out = program.answers(ranks, GOLDEN / name, lines, "--exact", *more, seed=ranks)
    with tempfile.TemporaryDirectory() as folder:
        tokens, stats = statistics(program, folder, 1, GOLDEN / name, lines, "--exact", "--max-num-seqs", 8)
    if tokens[0] != gold or stats["loose_products"] != 0 or not stats["exact"]:
        fail(f"{name} with --exact: {tokens[0]}, transformers has {gold}; the figures are {stats}")
    if len(set(answers.values())) != 1:
        fail(f"{name} with --exact: answers differ in some byte between {list(answers)}")
    print(f"  equal to the byte: {name} on {list(answers)}")
    need_cublas(program)
    if program.answers(1, GOLDEN / name, lines, "--max-num-seqs", 8) == out:
        fail(f"{name}: nothing is seen of cuBLAS in the probabilities, so this test shows nothing")


def fallback(program):
    """Without a driver auto says why and uses the processor; asked for by name it is an error. Skipped where there is one."""
    if pathlib.Path("/dev/nvidiactl").exists():
        print("skipped: fallback (there is a device)")
        sys.exit(77)
    options = ("generate", "--model", "models/demo", "--max-tokens", "3")
    auto = subprocess.run([program.program, *options], input=b"In\n", capture_output=True, timeout=PATIENCE, check=False)
    if auto.returncode != 0 or b"no GPU is used: no NVIDIA driver is loaded" not in auto.stderr:
        fail(f"--backend auto: exit code {auto.returncode}\n{auto.stderr.decode()}")
    asked = subprocess.run([program.program, *options, "--backend", "cuda"], input=b"In\n", capture_output=True, timeout=PATIENCE,
                           check=False)
    if asked.returncode != 69 or b"--backend cuda: no NVIDIA driver is loaded" not in asked.stderr or asked.stdout:
        fail(f"--backend cuda: exit code {asked.returncode}\n{asked.stderr.decode()}")


def selftest(program):
    """What a person with a device runs first."""
    told = json.loads(program.run(2, "bench", "selftest", "--backend", "cuda", "--cuda-module", program.module, "--rounds", 1,
                                  "--size", "4KiB", "--json"))
    apart = ["all to all apart", "to the next rank"] if program.exchange == "nccl" else []
    ways = ["broadcast", "all gather", "all to all", *apart, *["by stores"] * program.windows]
    expect(f"{len(told['checks'])} checks on {told['backend']}", told["right"] and told["backend"].startswith("cuda") and
           len(told["checks"]) >= 24 and len(told["memory"]) == 4 and [e["what"] for e in told["exchanges"]] == ways, told)


REFUSALS = (
    (1, {"HOSTGPU_DRIVER": "0"}, "no NVIDIA driver is loaded"),
    (1, {"HOSTGPU_DRIVER": "12040"}, "the NVIDIA driver is for CUDA 12.4, this program needs 13."),
    (1, {"HOSTGPU_READY": "0"}, "the GPUs are not ready (system not yet initialized); where they are joined by NVSwitch, nvidia-fabric"),
    (1, {"HOSTGPU_DEVICES": "0"}, "no GPU is visible (no CUDA-capable device is detected); CUDA_VISIBLE_DEVICES may hide some"),
    (1, {"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, "no GPU is visible"), # older versions of Slurm say so that a job has none
    (3, {"HOSTGPU_DEVICES": "2"}, "this machine shows 2 GPUs to its 3 ranks and each needs one of its own; start fewer ranks"),
    (2, {"HOSTGPU_DEVICES": "2", "HOSTGPU_CAPABILITY": "75,90"}, "(1 more is too old: compute capability 7.5, at least 8.0"),
    (1, {"HOSTGPU_NO_CODE": "1"}, "the kernels' code for GPU 0: no kernel image is available for execution on the device; build"),
    (1, {"HOSTGPU_CAPABILITY": "70"}, "GPU 0 (emulated device 0) has compute capability 7.0, at least 8.0 is needed"),
)


def start(program, ranks, backend, *each, cache="--kv-cache-memory=1M", more=(), prompt=(1, 2), **environment):
    """One token on ranks that are each put behind its own words of `each`; (exit code, stderr)."""
    options = [program.program, "generate", "--model", str(GOLDEN / "llama4_b"), "--input", "jsonl", "--backend", backend,
               "--cuda-module", program.module, "--max-num-batched-tokens", "16", *([cache] if cache else []), *more]
    command = [program.mpiexec, "-n", str(ranks), *options]
    if each:
        command = [program.mpiexec]
        for words in each:
            command += [*([":"] if len(command) > 1 else []), "-n", "1", "env", *words, *options]
    line = json.dumps({"id": 0, "prompt_token_ids": prompt, "max_tokens": 1}) + "\n"
    done = subprocess.run(command, input=line.encode(), capture_output=True, env={**os.environ, **environment}, timeout=PATIENCE, check=False)
    return done.returncode, done.stderr.decode()


def expect(what, holds, told):
    """One promise."""
    if not holds:
        fail(f"{what}\n{told}")
    print(f"  holds: {what}", flush=True)


def devices(program):
    """Why there is no device is said in one line; ranks take those next to them, and no two the same."""
    for ranks, environment, words in REFUSALS:
        code, told = start(program, ranks, "cuda", **environment)
        expect(f"refused: {words}", code == 69 and "--backend cuda: " in told and words in told, told)
        if ranks == 1:
            code, told = start(program, ranks, "auto", **environment)
            expect("auto says why and goes on", code == 0 and told.count("no GPU is used: " + words) == 1, told)
    code, told = start(program, 2, "auto", HOSTGPU_PEERS="0")
    expect("devices that do not reach each other are told of", code == 0 and
           "local ranks 0 and 1 do not reach each other's memory: rows between them go through the host's" in told, told)
    code, told = start(program, 2, "auto", HWLOC_XMLFILE="tests/golden/topology/dgx.xml",
                       HOSTGPU_BUS="0000:9b:00.0,0000:ab:00.0,0000:2b:00.0,0000:1b:00.0")
    expect("ranks take the devices of their package", code == 0 and "local rank 0 takes GPU 2 at 0000:2b:00.0 beside mlx5_0, "
           "1 takes GPU 0 at 0000:9b:00.0 beside mlx5_1" in told, told)
    code, told = start(program, 2, "cuda", ["CUDA_VISIBLE_DEVICES=3"], ["CUDA_VISIBLE_DEVICES=1"])
    expect("a launcher's binding is kept", code == 0 and
           "local rank 0 takes GPU 0 at 0000:04:00.0, 1 takes GPU 0 at 0000:02:00.0" in told, told)
    code, told = start(program, 3, "cuda", ["CUDA_VISIBLE_DEVICES=3"], ["CUDA_VISIBLE_DEVICES=1"], ["CUDA_VISIBLE_DEVICES=3"])
    expect("one device given to two ranks is refused", code == 69 and
           "ranks 0 and 2 of this machine were both given GPU 0000:04:00.0 and no other" in told, told)


def strike(program, signal_sent, *options, step):
    """Three ranks at work, of which the last gets a signal in a layer of that step, between rows that come and rows that go; (exit
    code, stderr). By itself, at a call of the emulated device: whatever the machine is busy with, all others then wait for its rows."""
    command = [program.program, "generate", "--model", GOLDEN / "llama4_b", "--backend", "cuda", "--cuda-module", program.module, "--input",
               "jsonl", "--device-exchange", "nccl", "--kv-cache-memory", "4M", "--watchdog-timeout", "4", *options]
    blow = f"HOSTGPU_STRIKE={int(signal_sent)}:{2 * step}:activate" # in each of two layers, for the experts of a rank without rows of its own
    run = subprocess.Popen([program.mpiexec, "-n", "2", *command, ":", "-n", "1", "env", blow, *command], stdin=subprocess.PIPE,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    prompt = json.loads((GOLDEN / "llama4_b" / "gold.json").read_text())["prompt"]
    line = json.dumps({"id": 0, "prompt_token_ids": prompt, "max_tokens": 40, "ignore_eos": True})
    try:
        told = run.communicate(line.encode(), timeout=PATIENCE)[1].decode(errors="replace")
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        fail(f"still running {PATIENCE} s after signal {signal_sent}")
    return run.returncode, told


def faults(program):
    """A rank dies or stands still while others wait for its rows: all end, and rank and call are named."""
    if program.exchange != "nccl":
        print("skipped: faults (this build has no NCCL)")
        sys.exit(77)
    for struck in (signal.SIGSTOP, signal.SIGKILL):
        code, told = strike(program, struck, "--enforce-eager", step=4)
        expect(f"{struck.name}: the run ends and names the rank", code != 0 and "rank 2" in told, told)
        if struck == signal.SIGSTOP:
            expect("the call is named", "NCCL is aborted; under way: " in told and " of layer " in told, told)
    code, told = start(program, 3, "cuda", HOSTGPU_FAULT="1:6", more=("--enforce-eager", "--watchdog-timeout", "60"))
    heard = r"while the device was waited for, communicator of all ranks: NCCL says ([^;]*); under way: exchange, the \d\w\w of the \w+ of layer \d, with 2 ranks from"
    found = re.findall(rf"rank (\d): comm_nccl_team.c:\d+: {heard}", told) # a rank that is killed meanwhile says nothing more
    first = ("1", "unhandled system error: a link of the emulated network is down")
    expect(f"an error that NCCL finds by itself ends the run at once, and rank, peers and call are named: {found}", code != 0 and
           found and all(words == first or "remote rank 1 has left" in words[1] for words in found) and "watchdog" not in told, told)
    code, told = strike(program, signal.SIGSTOP, "--enforce-eager", "--enable-dbo", step=4)
    expect("so does one whose exchanges go beside", code != 0 and "rank 2" in told and "NCCL is aborted; under way: exchange" in told, told)
    code, told = strike(program, signal.SIGSTOP, "--enable-dbo", step=12)
    expect("so does one of steps that are replayed, and the step is named", code != 0 and "rank 2" in told and
           "NCCL is aborted; under way: a recorded step, 4 exchanges of all layers, with 2 ranks from " in told, told)

def lsa(program):
    """Rows stored from device to device: the same tokens; a rank that stands still is named; refused where it cannot work."""
    options = ("--dispatch", "lsa")
    if not program.windows:
        print("skipped: lsa (this build has no NCCL, or one without windows)")
        sys.exit(77)
    code, told = start(program, 2, "cuda", HOSTGPU_NCCL="22903", more=options)
    expect("another NCCL than that of the build is refused", code == 69 and "--dispatch lsa needs the NCCL that" in told, told)
    code, told = start(program, 4, "cuda", HOSTGPU_LSA="2", more=options)
    expect("a domain of some ranks is refused", code == 69 and "the GPUs of 2 of the 4 ranks reach" in told, told)
    code, told = start(program, 2, "cuda", HOSTGPU_LSA="0", more=options)
    expect("GPUs that reach no other's memory are refused", code == 69 and "NCCL gives this GPU no memory that others" in told, told)
    for more in (("--backend", "cpu"), ("--device-exchange", "host"), ("--eplb-dispatch", "flow")):
        code, told = start(program, 2, "cuda", more=(*options, *more))
        expect(f"{more} with it is refused", code == 64 and "--dispatch lsa" in told, told)
    check_model(program, "llama4_b", *options, *MOVING)
    check_model(program, "qwen3moe_a", *options, layouts=LAYOUTS[::2])
    code, told = strike(program, signal.SIGSTOP, *options, step=12)
    expect("a rank that stands still is named in a replayed step", code != 0 and "rank 2" in told and
           "under way: a recorded step, 4 exchanges of all layers, with 2 ranks from " in told, told)
    code, told = strike(program, signal.SIGSTOP, *options, "--enforce-eager", step=4)
    expect("a rank that stands still is named, and the call", code != 0 and "rank 2" in told and
           "under way: exchange by stores, the " in told, told)


def speculation(program):
    """Drafts that the device looks up, in steps that are recorded and replayed and in steps that are not: the bytes of none."""
    lines = [{"id": i, "prompt_token_ids": [97, 98] * 8 + [99] * i, "max_tokens": 28, "temperature": i / 9, "seed": i, "logprobs": 1 + i % 2,
              "ignore_eos": True} for i in range(3)]
    model, options = GOLDEN / "llama4_b", ("--exact", "--max-num-seqs", 4, "--no-enable-prefix-caching")
    wanted = program.answers(1, model, lines, *options)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "stats.json"
        for ranks, order, more in ((1, "lazy", ()), (1, "eager", ("--enforce-eager",)), (2, "random", MOVING)):
            found = program.answers(ranks, model, lines, *options, *SPECULATING, "--stats", file, *more, order=order, seed=ranks)
            told, steps = (stats := json.loads(file.read_text()))["speculation"], stats["decode_steps"]
            if found != wanted:
                fail(f"{ranks} ranks {more}: other bytes with drafts than without, {told}")
            if not 0 < told["spec_decode_num_accepted_tokens"] < told["spec_decode_num_draft_tokens"]:
                fail(f"{ranks} ranks {more}: drafts were to be accepted and refused, {told}")
            if (steps["replayed"] > 0) != ("--enforce-eager" not in more and (ranks == 1 or program.exchange == "nccl")):
                fail(f"{ranks} ranks {more}: decode steps {steps}")
            print(f"  equal: {ranks} ranks {more[:1]}, {told}, {steps}", flush=True)


def races(program):
    """With a module that has the race detector: what works beside rows that travel neither reads them too early nor writes over them."""
    stored = (("random", ("--dispatch", "lsa")),) if program.windows else ()
    for order, more in (("lazy", ("--enforce-eager",)), ("random", MOVING), *stored):
        program.answers(2, GOLDEN / "llama4_b", changing_company()[:3], PIECES, "--enable-dbo", *more, order=order)
        print(f"  no race: halves of steps on two streams, {order}, {more[0]}", flush=True)


CASES = {case.__name__: case for case in (faults, graphs, halves, races, families, balancer, nodes, waits, products, lowering, exact, fallback, selftest, devices, lsa, speculation)}

if __name__ == "__main__":
    if len(sys.argv) != 5 or sys.argv[4] not in CASES:
        fail(f"usage: whole.py PROGRAM MPIEXEC MODULE {'|'.join(CASES)}")
    CASES[sys.argv[4]](Program(*sys.argv[1:4]))
