#!/usr/bin/env python3
# soak.py - many random requests at once get what each gets alone, and memory does not grow
#
# SPDX-License-Identifier: Apache-2.0
"""soak.py BINARY MPIEXEC [--requests N] [--ranks P] [--seed S] [--alone BINARY]

Random requests with fields of all kinds, shared beginnings, wrong lines and cancels go through a pool that holds few of
them, so that pages are shared, found again and taken away. The same requests then run one at a time, without a prefix
cache: every answer must be equal, and of a cancelled one what it had. Resident memory of the ranks is read at a quarter
of the answers and at the end. --alone names another build of the program for the requests one at a time: under a
sanitizer they would take hours.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading

from run import ENVIRONMENT, Program, fail

DEMO = pathlib.Path(__file__).resolve().parents[2] / "models" / "demo"
WORDS = "in the beginning static int main return die Datei Haus und the old line of river light x = 1; été 東京 🙂 a".split(" ")
POSITIONS = 256
MANY = 1000  # requests, from which on half a run has touched all that it ever will
LIMITS = ("--max-model-len", POSITIONS)
PRESSED = ("--max-num-seqs", 16, "--max-num-batched-tokens", 96, "--kv-cache-memory", "1M")
ALONE = ("--max-num-seqs", 1, "--no-enable-prefix-caching")


def sampling(r):
    """Random options."""
    options = {"max_tokens": r.choice((1, 2, 5, 12, 24, 40)), "temperature": r.choice((0, 0, 0.7, 1.0, 1.5))}
    for name, values, share in (
            ("top_k", (1, 5, 40, 200), .3), ("top_p", (0.1, 0.8, 0.95), .3), ("min_p", (0.05, 0.3), .2),
            ("repetition_penalty", (0.8, 1.2), .15), ("presence_penalty", (-1, 0.5), .1),
            ("frequency_penalty", (-0.2, 0.7), .1), ("seed", (1, 2, -3), .3), ("stop", ("e", ["the", " o"], "東"), .2),
            ("stop_token_ids", ([11, 13], [270]), .1), ("ignore_eos", (True, False), .2), ("logprobs", (0, 3, 20), .1),
            ("prompt_logprobs", (0, 2), .05), ("logit_bias", ({"270": -100}, {"302": 3, "11": 1.5}), .1),
            ("priority", (-1, 2), .2)):
        if r.random() < share:
            options[name] = r.choice(values)
    if r.random() < .1:
        options["min_tokens"] = r.randint(0, options["max_tokens"])
    if options["temperature"] > 0 and r.random() < .08:
        options["n"] = r.choice((2, 3))
    return options


def make(r, number):
    """One line: a request, or one that is wrong."""
    request = {"id": r.choice((number, f"r{number}", f"é\"{number}")), **sampling(r)}
    kind = r.random()
    if kind < .03:
        return {**request, **r.choice(({"prompt": 5}, {"prompt": "x", "foo": 1}, {}, {"prompt": "x", "top_p": 2},
                                       {"prompt_token_ids": [1 << 20]}, {"prompt": "and so on " * POSITIONS}))}
    begin = " ".join(random.Random(r.randrange(12)).choices(WORDS, k=30)) if r.random() < .6 else ""
    words = " ".join(r.choices(WORDS, k=r.choice((1, 3, 10, 30))))
    if kind < .15:
        return {**request, "prompt_token_ids": [r.randrange(2000) for _ in range(r.choice((1, 7, 16, 33, 90)))]}
    if kind < .25:
        return {**request, "messages": [{"role": "system", "content": begin}, {"role": "user", "content": words}]}
    return {**request, "prompt": f"{begin} {words}"}


def descendants(root):
    """Process numbers below `root`."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = pathlib.Path("/proc", entry, "stat").read_text(encoding="ascii", errors="replace")
            except OSError:
                continue
            parents.setdefault(int(stat[stat.rindex(")") + 2:].split()[1]), []).append(int(entry))
    found, todo = [], [root]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def resident(root):
    """Kilobytes of each rank, in order of process numbers."""
    sizes = []
    for number in sorted(descendants(root)):
        try:
            if os.path.basename(os.readlink(f"/proc/{number}/exe")) == "switchyard":
                status = pathlib.Path(f"/proc/{number}/status").read_text(encoding="ascii", errors="replace")
                sizes.append(int(status[status.index("VmRSS:"):].split()[1]))
        except (OSError, ValueError):
            continue
    return sizes


class Run:
    """One run of the program, fed line by line; its answers by (id, index)."""

    def __init__(self, program, ranks, *options):
        command = program.command(ranks, "generate", "--model", DEMO, "--input", "jsonl", "--no-stream", *LIMITS, *options)
        # what was given back is to be given out again, or memory would seem to grow
        sanitizer = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env={**os.environ, **ENVIRONMENT, "ASAN_OPTIONS": sanitizer}, start_new_session=True)
        self.sizes, self.answers, self.errors = [], {}, []
        self.words = threading.Thread(target=lambda: self.errors.append(self.process.stderr.read()), daemon=True)
        self.words.start()

    def write(self, lines):
        try:
            for line in lines:
                self.process.stdin.write(line)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass # the answers say why

    def finish(self, lines, count):
        """Feeds all lines, waits for `count` answers, then ends the input."""
        feeder = threading.Thread(target=self.write, args=(lines,), daemon=True)
        late = threading.Timer(60 + 2 * count, os.killpg, (self.process.pid, signal.SIGTERM))
        feeder.start()
        late.start()
        for line in self.process.stdout:
            answer = json.loads(line)
            name = (answer["id"], answer.get("index"))
            if name in self.answers:
                fail(f"two last lines for {name}")
            self.answers[name] = answer
            if len(self.answers) in (count // 4, count // 2, count):
                self.sizes.append(resident(self.process.pid))
            if len(self.answers) == count:
                break
        feeder.join(60)
        self.process.stdin.close()
        rest = self.process.stdout.read()
        code = self.process.wait(120)
        self.words.join(60)
        late.cancel()
        text = b"".join(self.errors).decode(errors="replace")
        if rest or len(self.answers) != count or code not in (0, 65) or "ERROR: " in text:
            fail(f"{len(self.answers)} of {count} answers, {len(rest)} bytes more, exit {code}\n{text[-4000:]}")
        return text


def compare(request, pressed, alone):
    """What a request got among others is what it gets alone."""
    name = f"{request}\n  found  {pressed}\n  wanted {alone}"
    for answer in (pressed, alone):
        answer.get("usage", {}).pop("cached_tokens", None)
        answer.pop("error", None)
    if pressed["finish_reason"] != "cancelled":
        if pressed != alone:
            fail(f"not what it gets alone: {name}")
        return
    count = len(pressed["token_ids"])
    if pressed["token_ids"] != alone["token_ids"][:count] or not alone["text"].startswith(pressed["text"].rstrip("\ufffd")):
        fail(f"cancelled, and not the beginning of what it gets alone: {name}")
    if pressed["logprobs"] is not None and pressed["logprobs"] != alone["logprobs"][:count]:
        fail(f"cancelled, and other logprobs: {name}")


def names(request):
    """(id, index) of each of its last lines; a wrong one has a single one, whatever n it asks for."""
    copies = 1 if is_wrong(request) else request.get("n", 1)
    return [(request["id"], index if copies > 1 else None) for index in range(copies)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("mpiexec")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--alone")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    r = random.Random(arguments.seed)
    program = Program(arguments.binary, arguments.mpiexec)

    requests = [make(r, number) for number in range(arguments.requests)]
    lines, once = [], []
    for request in requests:
        once.append((json.dumps(request) + "\n").encode())
        lines.append(once[-1])
        if r.random() < .05:
            lines.append((json.dumps({"cancel": r.choice(requests[max(0, len(once) - 20):len(once)])["id"]}) + "\n").encode())

    alone = Run(Program(arguments.alone or arguments.binary, arguments.mpiexec), 1, *ALONE)
    count = sum(len(names(request)) for request in requests)
    alone.finish(once, count)
    pressed = Run(program, arguments.ranks, *PRESSED)
    words = pressed.finish(lines, count)
    cancelled = cached = 0
    for request in requests:
        for name in names(request):
            answer = pressed.answers.get(name)
            if not answer or name not in alone.answers:
                fail(f"no answer for {name}")
            cancelled += answer["finish_reason"] == "cancelled"
            cached += answer.get("usage", {}).get("cached_tokens", 0) > 0
            if is_wrong(request) and answer["finish_reason"] != "error":
                fail(f"{request} was served: {answer}")
            compare(request, answer, alone.answers[name])
    print(f"  equal: {count} answers of {len(requests)} requests on {arguments.ranks} ranks and alone; {cancelled} cancelled, "
          f"{cached} with cached tokens", flush=True)
    print(*(line for line in words.splitlines() if " generated tokens in " in line), sep="\n", flush=True)
    check_memory(pressed.sizes, 0 if len(requests) >= MANY else 2048)


def is_wrong(request):
    """Was the line made to be refused?"""
    return not (isinstance(request.get("prompt"), str) or "prompt_token_ids" in request or "messages" in request) \
        or "foo" in request or request.get("top_p") == 2 or request.get("prompt_token_ids") == [1 << 20] \
        or request.get("prompt") == "and so on " * POSITIONS


def check_memory(sizes, first_touched):
    """At the end each rank holds at most a hundredth more than when half was answered, and in a short run what it touched
    for the first time since."""
    quarter, half, end = sizes
    print(f"  resident KiB of the ranks: {quarter} at a quarter, {half} at the half, {end} at the end", flush=True)
    if len(half) != len(end) or not end:
        fail("the ranks could not be found")
    for before, after in zip(half, end):
        if after > before * 1.01 + first_touched:
            fail(f"memory grew from {before} to {after} KiB")


if __name__ == "__main__":
    main()
