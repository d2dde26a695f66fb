#!/usr/bin/env python3
# faults.py - what goes wrong is said in one clear sentence and ends with a code, never with a hang
#
# SPDX-License-Identifier: Apache-2.0
"""Whole-program tests of failures: faults.py BINARY MPIEXEC CASE."""

import json
import os
import pathlib
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "laws"))

from run import ENVIRONMENT, Program, expect_equal, fail  # noqa: E402  (the path above leads there)

DEMO = ROOT / "models" / "demo"
GOLDEN = ROOT / "tests" / "golden"
GREEDY = ("--temperature", 0, "--max-tokens", 8)


def expect_failure(done, codes, *words):
    """The run ended with one of `codes`, wrote nothing to stdout, and said all `words` on stderr."""
    said = done.stderr.decode(errors="replace")
    if done.returncode not in codes:
        fail(f"exit {done.returncode}, wanted {codes}:\n{said}")
    if done.stdout:
        fail(f"stdout has {done.stdout!r}")
    for word in words:
        if word not in said:
            fail(f"stderr does not say {word!r}:\n{said}")
    line = next((line for line in said.splitlines() if words and words[0] in line), "")
    print(f"  exit {done.returncode}: {line}", flush=True)


def copy_model(source, folder):
    """A copy of a model directory whose files may be spoilt."""
    where = pathlib.Path(folder) / "model"
    shutil.copytree(source, where, ignore=shutil.ignore_patterns("make", "eval", "gold*"))
    return where


def generate(program, model, *options, ranks=2, stdin=b"In the beginning\n", **more):
    return program.run(ranks, "generate", "--model", model, *GREEDY, *options, stdin=stdin, **more)


def edit_header(path, change):
    """Rewrites the JSON header of a safetensors file; the data stays."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size:])


def model_files(program):
    """Truncated, missing, misshapen and corrupt weights; a vocabulary that does not fit; no such model."""
    with tempfile.TemporaryDirectory() as folder:
        model = copy_model(DEMO, folder)
        weights = model / "model.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(whole[:-1000])
        expect_failure(generate(program, model), (65,), "model.safetensors")
        weights.write_bytes(b"\xff" * 8 + whole[8:])
        expect_failure(generate(program, model), (65,), "model.safetensors")
        weights.write_bytes(whole[:8] + b"{" * 100 + whole[108:])
        expect_failure(generate(program, model), (65,), "model.safetensors")
        weights.unlink()
        expect_failure(generate(program, model), (66,), "model.safetensors")

        weights.write_bytes(whole)
        config = json.loads((model / "config.json").read_text())
        for key, value, word in (("vocab_size", 6000, "embed_tokens"), ("hidden_size", 128, "shape"),
                                 ("num_local_experts", 32, "router.weight"), ("architectures", ["MambaForCausalLM"], "Mamba"),
                                 ("surprise", 1, "surprise"), ("hidden_act", "gelu", "hidden_act")):
            (model / "config.json").write_text(json.dumps({**config, key: value}))
            expect_failure(generate(program, model), (65,), word)
        (model / "config.json").write_text(json.dumps(config))
        tokenizer = json.loads((model / "tokenizer.json").read_text())
        tokenizer["added_tokens"].append({"id": 7000, "content": "<|more|>", "single_word": False, "lstrip": False,
                                          "rstrip": False, "normalized": False, "special": True})
        (model / "tokenizer.json").write_text(json.dumps(tokenizer))
        expect_failure(generate(program, model), (65,), "vocabulary")
    expect_failure(generate(program, "/no/such/model"), (66,), "/no/such/model")
    expect_failure(generate(program, "meta-llama/Nowhere"), (66,), "hf download meta-llama/Nowhere")
    with tempfile.TemporaryDirectory() as folder:
        gguf = pathlib.Path(folder) / "model.gguf"
        gguf.write_bytes(b"GGUF" + bytes(100))
        expect_failure(generate(program, gguf), (65,), "GGUF")


def shards(program):
    """A shard that is missing or cut short is named."""
    with tempfile.TemporaryDirectory() as folder:
        model = copy_model(GOLDEN / "llama4_a_sharded", folder)
        shutil.copy(GOLDEN / "byte_tokenizer" / "tokenizer.json", model)
        victim = model / "model-00002-of-00003.safetensors"
        whole = victim.read_bytes()
        victim.write_bytes(whole[:len(whole) // 2])
        expect_failure(generate(program, model), (65,), victim.name)
        victim.unlink()
        expect_failure(generate(program, model), (65, 66), victim.name)
        victim.write_bytes(whole)

        def rename(header):
            name = next(name for name in header if name != "__metadata__")
            header[name + "x"] = header.pop(name)

        edit_header(victim, rename)
        expect_failure(generate(program, model), (65,), victim.name)


def memory(program):
    """Not enough address space: said in words, code 75; the same for a cache that cannot hold a page."""
    limit = 700 << 20

    def limited(command):
        return ["sh", "-c", f"ulimit -v {limit >> 10}; exec \"$@\"", "sh", *command]

    done = subprocess.run(limited([program.binary, "generate", "--model", str(DEMO), *map(str, GREEDY)]),
                          input=b"x\n", capture_output=True, check=False, timeout=120)
    expect_failure(done, (75,), "memory")
    expect_failure(generate(program, DEMO, "--kv-cache-memory", "1K"), (75,), "--kv-cache-memory")


def output(program):
    """A full disk or a closed reader behind stdout ends the run with code 74."""
    for ranks in (1,):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([program.binary, "generate", "--model", str(DEMO), *map(str, GREEDY)], input=b"a\nb\n",
                                  stdout=full, stderr=subprocess.PIPE, check=False, timeout=120)
        said = done.stderr.decode()
        if done.returncode != 74 or "No space left" not in said:
            fail(f"{ranks} ranks into a full disk: exit {done.returncode}\n{said}")
        print(f"  exit 74: {said.strip().splitlines()[-1]}")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([program.binary, "generate", "--model", str(DEMO), *map(str, GREEDY)], input=b"a\n",
                          stdout=writer, stderr=subprocess.PIPE, check=False, timeout=120)
    os.close(writer)
    if done.returncode != 74 or b"Broken pipe" not in done.stderr:
        fail(f"a closed reader: exit {done.returncode}\n{done.stderr.decode()}")
    print("  exit 74: Broken pipe")
    expect_failure(generate(program, DEMO, "--stats", "/no/such/folder/stats.json", stdin=b""), (74,), "--stats")


def prompts(program):
    """Empty lines, CRLF, bytes that are not UTF-8, a line of a megabyte, no input at all."""
    def answers(stdin, *options):
        return program.answers(2, "generate", "--model", DEMO, *GREEDY, *options, stdin=stdin)

    plain = answers(b"Die Datei\n")
    expect_equal("CRLF", answers(b"Die Datei\r\n"), plain)
    expect_equal("no newline at the end", answers(b"Die Datei"), plain)
    expect_equal("empty lines", answers(b"\nDie Datei\n\n"), b"\n" + plain + b"\n")
    expect_equal("no input", answers(b""), b"")
    expect_equal("invalid UTF-8", answers(b"Die \xff\xc3 Datei\n"), answers("Die \ufffd\ufffd Datei\n".encode()))
    done = generate(program, DEMO, stdin=b"x " * 600000 + b"\nDie Datei\n")
    if done.returncode != 65 or done.stdout != b"\n" + plain or b"prompt 1" not in done.stderr:
        fail(f"a line of a megabyte: exit {done.returncode}, {done.stdout!r}\n{done.stderr.decode()}")
    print("  a line of a megabyte is refused by name, the next is answered; exit 65")


def json_lines(program, stdin, *options, model=DEMO, ranks=2, code=65):
    """What a run over lines of JSON answered, line by line."""
    done = program.run(ranks, "generate", "--model", model, "--input", "jsonl", *GREEDY, *options, stdin=stdin)
    if done.returncode != code:
        fail(f"exit {done.returncode}, wanted {code}:\n{done.stderr.decode(errors='replace')}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def request_lines(program):
    """Lines of JSON that are broken in any way are answered by an error each; the others go on."""
    good = b'{"id": "good", "prompt": "Die Datei"}\n'
    wanted = json_lines(program, good, "--no-stream", code=0)[0]
    wrong = (
        ("not JSON", b"Die Datei", None, "not JSON"),
        ("NUL bytes", b'{"id": 1, "prompt": "a\0b"}', None, "not JSON"),
        ("invalid UTF-8", b'{"id": 1, "prompt": "\xff\xc3"}', None, "unable to decode"),
        ("invalid UTF-8 in a name", b'{"id": 1, "\xff": 1}', None, "unable to decode"),
        ("half a surrogate", b'{"id": 1, "prompt": "\\ud800"}', None, "not JSON"),
        ("deep nesting", b'{"id": 1, "prompt": ' + b"[" * 100000 + b"]" * 100000 + b"}", None, "depth"),
        ("a huge whole number", b'{"id": 1, "prompt": "x", "seed": ' + b"9" * 200 + b"}", 1, "too big"),
        ("a huge number", b'{"id": 1, "prompt": "x", "top_p": 1e400}', None, "overflow"),
        ("a key twice", b'{"id": 1, "id": 2, "prompt": "x"}', None, "duplicate"),
        ("an unknown field", b'{"id": {}, "prompt": "x"}', None, '"id" must be'),
        ("a field of another kind", '{"id": "é\\u0000", "prompt": ["x"]}'.encode(), "é\0", '"prompt" must be text'),
        ("an id that came", good[:-1], "good", "came before"),
        ("too long for the model", b'{"id": 3, "prompt": "' + b"x " * 600000 + b'"}', 3, "tokens"),
        ("an empty list", b'{"id": 4, "prompt_token_ids": []}', 4, "no tokens"),
        ("a message without a role", b'{"id": 5, "messages": [{"content": "x"}]}', 5, "role"),
        ("a token beyond the vocabulary", b'{"id": 6, "prompt_token_ids": [1000000]}', 6, "1000000"),
        ("a line that stops halfway", b'{"id": 7, "prompt": "x', None, "not JSON"))
    text = good
    for number, (name, line, found, words) in enumerate(wrong):
        text += line + b'\n{"id": "next %d", "prompt": "Die Datei"}\n' % number
    text = text[:text.rindex(b'\n{"id": "next')]
    answers = json_lines(program, text, "--ordered", "--no-stream")
    if answers[0] != wanted or len(answers) != 2 * len(wrong):
        fail(f"{len(answers)} answers: {answers}")
    for number, (name, line, found, words) in enumerate(wrong):
        error = answers[1 + 2 * number]
        if error["id"] != found or error["finish_reason"] != "error" or words not in error["error"] \
                or f"line {2 + 2 * number}:" not in error["error"]:
            fail(f"{name}: {error}")
        if number < len(wrong) - 1 and answers[2 + 2 * number] != {**wanted, "id": f"next {number}"}:
            fail(f"{name}: the next was not served: {answers[2 + 2 * number]}")
        print(f"  {name}: {error['error'][:100]}", flush=True)
    answers = json_lines(program, b" " * (65 << 20) + b"\n" + good, "--no-stream", ranks=1)
    if "longer than 64 MiB" not in answers[0]["error"] or answers[1] != wanted:
        fail(f"a line of 65 MiB: {answers}")
    many = json_lines(program, good + b'{"id": "bad"}\n' * 600 + b'{"id": "last", "prompt": "Die Datei"}\n', "--ordered", "--no-stream")
    if [answer["id"] for answer in many] != ["good"] + ["bad"] * 600 + ["last"]:
        fail(f"600 wrong lines in order: {[answer['id'] for answer in many]}")
    print("  600 wrong lines wait for their turn")
    blank = json_lines(program, b"\n\r\n  \n" + good + b"\n", "--no-stream", code=0)
    if blank != [wanted]:
        fail(f"blank lines: {blank}")


def request_ends(program):
    """Cancels before, while and after a request runs; a directory without a tokenizer; a reader that has gone."""
    lines = b'{"id": 1, "prompt": "Die Datei", "max_tokens": 8}\n{"id": 2, "prompt": "Once", "n": 2, "temperature": 1}\n'
    answers = json_lines(program, lines + b'{"cancel": 2}\n{"cancel": 2}\n{"cancel": "nobody"}\n', code=0)
    last = sorted((answer["id"], answer.get("index"), answer["finish_reason"]) for answer in answers if "finish_reason" in answer)
    if last != [(1, None, "length"), (2, 0, "cancelled"), (2, 1, "cancelled")]:
        fail(f"cancelled at once: {last}")
    with subprocess.Popen(program.command(2, "generate", "--model", DEMO, "--input", "jsonl", *GREEDY), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **ENVIRONMENT}) as run:
        run.stdin.write(b'{"id": "on", "prompt": "Once", "max_tokens": 4000, "ignore_eos": true}\n')
        run.stdin.flush()
        seen = [json.loads(run.stdout.readline()) for _ in range(5)]
        run.stdin.write(b'{"cancel": "on"}\n{"id": "then", "prompt": "Die Datei"}\n')
        run.stdin.close()
        seen += [json.loads(line) for line in run.stdout]
        ends = {answer["id"]: answer for answer in seen if "finish_reason" in answer}
        streamed = [token for answer in seen if answer["id"] == "on" and "finish_reason" not in answer for token in answer["token_ids"]]
        if run.wait(60) != 0 or ends["on"]["finish_reason"] != "cancelled" or ends["on"]["token_ids"] != streamed \
                or not 5 <= len(streamed) < 4000 or ends["then"]["finish_reason"] not in ("length", "stop"):
            fail(f"cancelled in mid-flight: {ends}")
        print(f"  cancelled after {len(streamed)} tokens; the next is answered")
    with tempfile.TemporaryDirectory() as folder:
        model = copy_model(DEMO, folder)
        ids = b'{"id": 1, "prompt_token_ids": [17, 300, 41], "logprobs": 1}\n'
        wanted = json_lines(program, ids, "--no-stream", code=0)[0]
        (model / "tokenizer.json").unlink()
        answers = json_lines(program, ids + b'{"id": 2, "prompt": "x"}\n{"id": 3, "messages": [{"role": "user", "content": "x"}]}\n'
                             b'{"id": 4, "prompt_token_ids": [5], "stop": "x"}\n', "--no-stream", "--ordered", model=model)
        if answers[0] != {**wanted, "text": None} or any("tokenizer" not in answer["error"] for answer in answers[1:]):
            fail(f"without a tokenizer: {answers}, wanted {wanted}")
        print(f"  without a tokenizer: {answers[1]['error']}")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([program.binary, "generate", "--model", str(DEMO), "--input", "jsonl"], stdout=full, check=False,
                              input=b'{"id": 1, "prompt": "x"}\n', stderr=subprocess.PIPE, timeout=120)
    if done.returncode != 74 or b"No space left" not in done.stderr:
        fail(f"into a full disk: exit {done.returncode}\n{done.stderr.decode()}")


def usage(program):
    """A wrong command line: code 64 and the option's name."""
    for options, word in ((("--temperature", "hot"), "--temperature"), (("--no-such-option",), "no-such-option"),
                          (("--tensor-parallel-size", 3), "--tensor-parallel-size"),
                          (("--expert-parallel-size", 3), "--expert-parallel-size"),
                          (("--top-p", 0), "--top-p"), (("--max-model-len", 1000000), "--max-model-len"),
                          (("--input-file", "/no/such/file"), "/no/such/file"), (("--input-file", GOLDEN), "a folder")):
        codes = (66,) if "--input-file" in options else (64,)
        expect_failure(generate(program, DEMO, *options), codes, word)


def different_models(program):
    """Two ranks with two models find out before they exchange a row."""
    command = [program.mpiexec, "-n", "1", program.binary, "generate", "--model", str(DEMO), ":",
               "-n", "1", program.binary, "generate", "--model", str(GOLDEN / "llama4_b")]
    done = subprocess.run(command, input=b"x\n", capture_output=True, check=False, timeout=120,
                          env={**os.environ, **ENVIRONMENT})
    expect_failure(done, (65,), "model")


def start_busy(program, ranks, *options):
    """A run that is generating and would go on for long; returns it once text has come."""
    command = program.command(ranks, "generate", "--model", DEMO, "--temperature", 0, "--ignore-eos", "--max-tokens",
                              3500, "--backend", "reference", *options)
    run = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env={**os.environ, **ENVIRONMENT})
    run.stdin.write("".join(f"In the beginning {i}\n" for i in range(8)).encode())
    run.stdin.flush()
    if not run.stdout.read(1):
        fail(f"the run ended early:\n{run.stderr.read().decode()}")
    return run


def rank_process(run, rank):
    """The process of a rank of this run."""
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = dict(item.split(b"=", 1) for item in (entry / "environ").read_bytes().split(b"\0") if b"=" in item)
            name = (entry / "comm").read_text().strip()
        except OSError:
            continue
        number = words.get(b"OMPI_COMM_WORLD_RANK", words.get(b"PMI_RANK"))
        if name == "switchyard" and number == str(rank).encode() and descends(int(entry.name), run.pid):
            return int(entry.name)
    fail(f"no process of rank {rank}")
    return 0


def descends(process, ancestor):
    """Is `ancestor` a parent, grandparent ... of `process`?"""
    while process > 1:
        if process == ancestor:
            return True
        try:
            process = int(pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            return False
    return False


def finish(run, seconds):
    """Waits for the end; too late is a failure."""
    start = time.monotonic()
    try:
        _, said = run.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        run.kill()
        fail(f"still running after {seconds} s")
    return said.decode(errors="replace"), time.monotonic() - start


def windows_of(process):
    """Files of memory that a process shares with the other ranks."""
    lines = [line.split(None, 5) for line in pathlib.Path(f"/proc/{process}/maps").read_text().splitlines()]
    return [pathlib.Path(words[5]) for words in lines if len(words) == 6 and words[1] == "rw-s" and words[5][0] == "/"]


def killed(program):
    """A rank killed by SIGKILL: the job ends long before the watchdog's patience, names it, fails, and leaves no shared memory
    behind.

    MPICH's launcher kills the survivors within 0.1 ms of the death, sometimes before one of them can speak; so there the
    name must come in one of three jobs, and the end in time and the code in each."""
    tries = 1 if program.is_open_mpi() else 3
    for comm, *more in (("shared",), ("mpi",), ("shared", "--share-experts", "--enable-eplb", "--eplb-force", "--node-size", 2)):
        for left in reversed(range(tries)):
            run = start_busy(program, 4, "--comm", comm, *more)
            windows = windows_of(rank_process(run, 0))
            os.kill(rank_process(run, 2), signal.SIGKILL)
            said, seconds = finish(run, 40)
            kept = [str(path) for path in windows if path.exists()]
            if not windows or kept:
                fail(f"{comm} {more}: of {len(windows)} windows {kept} are left")
            named = [line for line in said.splitlines() if "rank 2" in line]
            if run.returncode == 0 or not (named or left):
                fail(f"{comm}: exit {run.returncode} after {seconds:.1f} s:\n{said}")
            print(f"  {comm} {more}: exit {run.returncode} after {seconds:.1f} s: {named[0] if named else 'not named'}", flush=True)
            if named:
                break


def stopped(program):
    """A rank that stands still is named with its phase when the watchdog's patience ends."""
    runs = {comm: start_busy(program, 4, "--comm", comm, "--watchdog-timeout", 4) for comm in ("shared", "mpi")}
    victims = {comm: rank_process(run, 2) for comm, run in runs.items()}
    for victim in victims.values():
        os.kill(victim, signal.SIGSTOP)
    for comm, run in runs.items():
        said, seconds = finish(run, 40)
        if run.returncode == 0 or "rank 2" not in said:
            fail(f"{comm}: exit {run.returncode} after {seconds:.1f} s:\n{said}")
        line = next(line for line in said.splitlines() if "rank 2" in line)
        print(f"  {comm}: exit {run.returncode} after {seconds:.1f} s: {line}", flush=True)
        try:
            os.kill(victims[comm], signal.SIGKILL)
        except ProcessLookupError:
            pass


def asked(program):
    """A run that is asked to stop ends in an orderly way, and keeps where experts lie by then."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "placement.json"
        run = start_busy(program, 2, "--enable-eplb", "--eplb-force", "--expert-placement", path)
        run.stdout.read(40)  # so many steps have moved something
        os.kill(rank_process(run, 0), signal.SIGTERM)
        said, seconds = finish(run, 60)
        if run.returncode == 0 or "asked to stop by a signal; 8 requests were not finished" not in said:
            fail(f"exit {run.returncode} after {seconds:.1f} s:\n{said}")
        rows = json.loads(path.read_text())["physical_to_logical_map"]
        if len(rows) != 3 or any(sorted(row) != list(range(64)) for row in rows) or rows == [list(range(64))] * 3:
            fail(f"not where experts lay: {rows}")
        print(f"  exit {run.returncode} after {seconds:.1f} s, the placement is kept", flush=True)


def moving(program):
    """A rank that dies or stands still while an expert arrives there: the job ends in time and names rank, layer, phase."""
    strike(program, "ranks_balance", 3, (("kill", ("rank 2",)), ("stop", ("rank 2", "phase balance of layer"))))


def nodes(program):
    """A rank that stands still between nodes, or inside its node, while a row goes once to each: it and the phase are named."""
    strike(program, "ranks_dispatch", 4, (("rails", ("rank 3", "phase dispatch of layer 3")), ("spread", ("rank 3", "phase spread of layer 3"))))


def strike(program, test, ranks, ways):
    """Runs a test program in which something happens to a rank: it must end in time, in these words."""
    struck = Program(pathlib.Path(program.binary).parent / "tests" / test, program.mpiexec)
    for how, wanted in ways:
        start = time.monotonic()
        done = struck.run(ranks, str(ranks), how, timeout=60)
        seconds = time.monotonic() - start
        said = done.stderr.decode(errors="replace")
        named = [line for line in said.splitlines() if all(word in line for word in wanted)]
        if done.returncode == 0 or not (named or (how == "kill" and not program.is_open_mpi())):
            fail(f"{how}: exit {done.returncode} after {seconds:.1f} s:\n{said}")
        print(f"  {how}: exit {done.returncode} after {seconds:.1f} s: {named[0] if named else 'not named'}", flush=True)


def balancer(program):
    """Options and files of the balancer that cannot work are explained."""
    def refused(codes, *options, words):
        expect_failure(generate(program, DEMO, *options, ranks=2), codes, *words)

    refused((64,), "--num-redundant-experts", 4, words=("add --enable-eplb",))
    refused((64,), "--enable-eplb", "--eplb-window-size", 2, words=("eplb-window-size",))
    refused((64,), "--enable-eplb", "--eplb-config", '{"windows": 3}', words=("'windows' is not known",))
    refused((64,), "--enable-eplb", "--eplb-config", '{"window_size": 1}', words=("window_size",))
    refused((64,), "--enable-eplb", "--expert-parallel-size", 1, "--num-redundant-experts", 4,
            words=("2 copies of every expert already",))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "placement.json"
        for text, word in (("[1]", "placement.json"), ("{}", "physical_to_logical_map"),
                           (json.dumps({"physical_to_logical_map": [[0] * 64] * 3}), "expert 1 of layer 0 has no slot"),
                           (json.dumps({"physical_to_logical_map": [[-7] * 64] * 3}), "no expert")):
            path.write_text(text)
            refused((65,), "--enable-eplb", "--expert-placement", path, words=(word,))
        refused((74,), "--enable-eplb", "--expert-placement", "/nowhere/placement.json", words=("/nowhere/placement.json",))
    refused((64,), "--share-experts", "--backend", "cuda", words=("--backend is cuda",))
    two_sizes(program)


def widen_layer(path, part):
    """Rewrites a safetensors file so that tensors with `part` in their name are F32 instead of BF16; the numbers stay."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header, body, out = json.loads(data[8:8 + size]), data[8 + size:], b""
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, end = entry["data_offsets"]
        numbers = body[first:end]
        if part in name and entry["dtype"] == "BF16":
            numbers = b"".join(b"\0\0" + numbers[i:i + 2] for i in range(0, len(numbers), 2))
            entry["dtype"] = "F32"
        entry["data_offsets"] = [len(out), len(out) + len(numbers)]
        out += numbers
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + out)


def two_sizes(program):
    """Experts of two sizes are shared inside a node, also on the move; between nodes they stay where they are or are refused."""
    with tempfile.TemporaryDirectory() as folder:
        model = copy_model(GOLDEN / "olmoe", folder)
        wide = next(model.glob("*.safetensors"))
        widen_layer(wide, "layers.1.mlp.experts")
        prompt = json.dumps({"id": 0, "prompt_token_ids": [3, 1, 4, 1, 5], "logprobs": 2, "max_tokens": 9, "ignore_eos": True}).encode()
        options = ("generate", "--model", model, "--input", "jsonl", "--no-stream", "--temperature", 0)
        forced = ("--share-experts", "--enable-eplb", "--eplb-force")
        wanted = program.answers(1, *options, stdin=prompt)
        for layout in (forced, (*forced[:2], "--node-size", 2, "--eplb-step-interval", 0)):
            expect_equal(f"two sizes, {layout}", program.answers(4, *options, *layout, stdin=prompt), wanted)
        expect_failure(program.run(4, *options, *forced, "--node-size", 2, stdin=prompt), (64,), "differ in the size")


def spent(process):
    """(processor seconds, times that it went to sleep) of a process so far, over all its threads."""
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    sleeps = sum(int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)$", status.read_text(), re.M)[1])
                 for status in pathlib.Path(f"/proc/{process}/task").glob("*/status"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), sleeps


def start_silent(program, comm):
    """A run of 4 ranks that has answered one prompt and waits for the next."""
    run = subprocess.Popen(program.command(4, "generate", "--model", DEMO, *GREEDY, "--comm", comm), stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **ENVIRONMENT})
    run.stdin.write(b"Die Datei\n")
    run.stdin.flush()
    if not run.stdout.readline():
        fail(run.stderr.read().decode())
    return run


def idle(program):
    """With a silent stdin a rank sleeps, wakes a few hundred times a second at most, and for the next prompt.

    What waking takes is up to the machine and to who else runs on it: a hundredth of a core at most where nobody does. A
    rank that did not sleep would take all that it gets."""
    runs = {comm: start_silent(program, comm) for comm in ("shared", "mpi")}
    ranks = {comm: [rank_process(run, rank) for rank in range(4)] for comm, run in runs.items()}
    time.sleep(2)
    before = {comm: (time.monotonic(), [spent(process) for process in ranks[comm]]) for comm in runs}
    time.sleep(10)
    for comm in runs:
        begin, first = before[comm]
        then = [spent(process) for process in ranks[comm]]
        seconds = time.monotonic() - begin
        used, sleeps = (max(late[i] - early[i] for early, late in zip(first, then)) / seconds for i in range(2))
        print(f"  {comm}: a rank uses {100 * used:.2f} % of a core at most while idle, and wakes {sleeps:.0f} times a second", flush=True)
        if used >= 0.04 or sleeps >= 400:
            fail(f"{comm}: an idle rank uses {100 * used:.2f} % of a core and wakes {sleeps:.0f} times a second")
    for comm, run in runs.items():
        run.stdin.write(b"In the beginning\n")
        run.stdin.close()
        run.stdin = None
        out, said = run.communicate(timeout=60)
        if run.returncode != 0 or not out:
            fail(f"{comm}: exit {run.returncode}\n{said.decode()}")


CASES = {case.__name__: case for case in (model_files, shards, memory, output, prompts, request_lines, request_ends, usage, different_models, killed,
                                          stopped, asked, moving, nodes, balancer, idle)}


def main():
    if len(sys.argv) != 4 or sys.argv[3] not in CASES:
        fail(f"usage: faults.py BINARY MPIEXEC {'|'.join(CASES)}")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    CASES[sys.argv[3]](Program(sys.argv[1], sys.argv[2]))


if __name__ == "__main__":
    main()
