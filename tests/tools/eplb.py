#!/usr/bin/env python3
# eplb.py - plans without a model: what eplb plan, eval, bound, diff and poc say
#
# SPDX-License-Identifier: Apache-2.0
"""Whole-program tests of the eplb tools: eplb.py BINARY MPIEXEC CASE."""

import json
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
import zlib

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "laws"))
from run import Program, fail  # noqa: E402  pylint: disable=wrong-import-position

ROOT = HERE.parents[1]
GOLD = ROOT / "tests" / "golden" / "eplb"
REAL = ROOT.parent / "shared" / "eplb"
EQUAL = ("id", "phy2log", "log2phy", "logcnt")
HALF = 0.51e-6  # of the last printed figure


def call(program, *arguments, stdin="", code=0):
    """(stdout, stderr) of `switchyard eplb ARGUMENTS`."""
    done = subprocess.run([program.binary, "eplb", *map(str, arguments)], input=stdin, capture_output=True,
                          text=True, timeout=120, check=False)
    if done.returncode != code:
        fail(f"eplb {' '.join(map(str, arguments))}: exit {done.returncode}, wanted {code}\n{done.stderr}")
    return done.stdout, done.stderr


def expect(what, holds):
    """One promise."""
    if not holds:
        fail(what)
    print(f"  holds: {what}", flush=True)


def lines(text):
    """Objects, one a line."""
    return [json.loads(line) for line in text.splitlines()]


def gold(name):
    """Pairs of files that are there: gold cases and their bounds."""
    for folder, suffix in ((GOLD, ""), (REAL, "_real")):
        path = folder / f"{name}{suffix}.jsonl"
        if path.exists():
            yield path
        else:
            print(f"skipped: {path.relative_to(ROOT.parent)} (not there)", flush=True)


def imbalance(case, placement):
    """Max over mean of the ranks, replicas sharing alike, of each layer."""
    ranks = case["gpus"]
    for load, slots in zip(case["weight"], placement):
        count = [slots.count(e) for e in range(case["experts"])]
        bounds = [case["replicas"] * r // ranks for r in range(ranks + 1)]
        work = [sum(load[e] / count[e] for e in slots[a:b] if e >= 0) for a, b in zip(bounds, bounds[1:])]
        yield max(work) * ranks / sum(work) if sum(work) else 1.0


def moved(case, before, after):
    """Experts that ranks get which they have not had."""
    bounds = [case["replicas"] * r // case["gpus"] for r in range(case["gpus"] + 1)]
    return sum(len(set(new[a:b]) - set(old[a:b]) - {-1}) for old, new in zip(before["phy2log"], after["phy2log"])
               for a, b in zip(bounds, bounds[1:]))


def reference(program):
    """eplb plan --policy reference is DeepSeek's plan in every case, by file and by standard input."""
    for path in gold("gold"):
        told = lines(call(program, "plan", "--policy", "reference", "--input", "jsonl", path)[0])
        known = lines(path.read_text())
        expect(f"{len(known)} cases are answered", len(told) == len(known) > 0)
        for a, b in zip(told, known):
            if any(a[key] != b[key] for key in EQUAL):
                fail(f"case {b['id']} differs from the gold file")
            if any(abs(x - y) > HALF for x, y in zip(a["imbalance"], b["imbalance"])):
                fail(f"case {b['id']}: another imbalance than the gold file")
        expect(f"{path.name}: phy2log, log2phy, logcnt and imbalance are equal in all cases", True)
    head = path.read_text().splitlines()[0]
    expect("standard input is read like a file",
           lines(call(program, "plan", "--policy", "reference", stdin=head)[0]) == told[:1])


def policies(program):
    """Every policy gives a legal plan and says how good it is, in every form."""
    known = lines((GOLD / "gold.jsonl").read_text())
    first = call(program, "plan", "--policy", "reference", GOLD / "gold.jsonl")[0]
    with tempfile.TemporaryDirectory() as folder:
        previous = pathlib.Path(folder, "previous.jsonl")
        previous.write_text(first)
        for policy in ("balanced", "spill", "incremental"):
            more = ["--previous", previous] if policy == "incremental" else []
            told = lines(call(program, "plan", "--policy", policy, "--tol", "0.01", *more, GOLD / "gold.jsonl")[0])
            for case, plan in zip(known, told):
                for slots, lists, counts in zip(plan["phy2log"], plan["log2phy"], plan["logcnt"]):
                    if any(sorted(s for s, e in enumerate(slots) if e == expert) != listed or len(listed) != n or n < 1
                           for expert, (listed, n) in enumerate(zip(lists, counts))):
                        fail(f"{policy}: case {case['id']}: lists that are not the inverse of the slots")
                if any(abs(a - b) > HALF for a, b in zip(imbalance(case, plan["phy2log"]), plan["imbalance"])):
                    fail(f"{policy}: case {case['id']}: not the imbalance of the plan")
            expect(f"{policy}: {len(told)} plans are whole, and as balanced as they say", len(told) == len(known))
            if policy == "balanced":
                kept = lines(call(program, "plan", "--tol", "0.01", "--previous", previous, GOLD / "gold.jsonl")[0])
                sums = [sum(moved(case, before, plan) for case, before, plan in zip(known, lines(first), plans)) for plans in (told, kept)]
                expect(f"ranks take the parts that they have most of: {sums[1]} moves, not {sums[0]}", sums[1] < 0.95 * sums[0])
                if any(plan["imbalance"] != other["imbalance"] for plan, other in zip(told, kept)):
                    fail("and the plan is another one")
        balanced = pathlib.Path(folder, "balanced.jsonl")
        balanced.write_text(call(program, "plan", GOLD / "gold.jsonl")[0])
        two = [sum(sum(plan["imbalance"]) for plan in lines(p.read_text())) for p in (previous, balanced)]
        expect(f"balanced ({two[1]:.1f} over all layers) is below reference ({two[0]:.1f})", two[1] < 0.98 * two[0])
        other_forms(program, folder, known[0], balanced)


def other_forms(program, folder, case, balanced):
    """JSON, CSV and text."""
    sizes = ["--ranks", case["gpus"], "--slots", case["replicas"], "--nodes", case["nodes"], "--groups", case["groups"]]
    plan = lines(balanced.read_text())[0]["phy2log"]
    table = pathlib.Path(folder, "loads.csv")
    table.write_text("# made up\n" + "".join(",".join(map(str, row)) + "\n" for row in case["weight"]))
    out = call(program, "plan", "--input", "csv", "--format", "csv", *sizes, table)[0]
    expect("CSV in and out", [[int(x) for x in row.split(",")] for row in out.splitlines()] == plan)
    steps = json.dumps({"logical_count": [case["weight"], case["weight"]]})
    told = json.loads(call(program, "plan", "--input", "json", *sizes, stdin=steps)[0])
    expect("SGLang's counts of two steps give the plan of one", told["phy2log"] == plan)
    expect("and a map that SGLang reads", told["physical_to_logical_map"] == plan and told["shape"]["gpus"] == 8)
    text = call(program, "plan", "--input", "csv", *sizes, table)[0]
    expect("text shows layers and their mean", re.search(r"^layer +before +even", text, re.M) and " mean" in text)


def bounds(program):
    """eplb bound and the flow column of eplb eval are the known ones."""
    for path, known in zip(gold("gold"), gold("bounds")):
        told = call(program, "bound", path)[0]
        found = [float(x) for x in re.findall(r"^ +\d+ ([\d.]+)$", told, re.M)]
        wanted = [x for case in lines(known.read_text()) for x in case["lb"]]
        expect(f"{path.name}: {len(found)} bounds are the known ones",
               len(found) == len(wanted) and all(abs(a - b) < 2e-6 for a, b in zip(found, wanted)))
    with tempfile.TemporaryDirectory() as folder:
        plans = pathlib.Path(folder, "plans.jsonl")
        plans.write_text(call(program, "plan", "--policy", "reference", GOLD / "gold.jsonl")[0])
        rows = re.findall(r"^ +\d+ +([\d.]+) +([\d.]+) ", call(program, "eval", "--placement", plans,
                                                                GOLD / "gold.jsonl")[0], re.M)
        cases = lines((GOLD / "bounds.jsonl").read_text())
        wanted = [x for case in cases for x in case["deepseek"]]
        expect("eval finds the even imbalance of every layer",
               len(rows) == len(wanted) and all(abs(float(r[0]) - x) < 6e-4 for r, x in zip(rows, wanted)))
        expect("and what the best split would give is no worse", all(float(r[1]) <= 1.1 * float(r[0]) for r in rows))


def diff(program):
    """What moves is counted by rank, not by slot."""
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(folder, name) for name in ("a.json", "b.json")]
        files[0].write_text('{"phy2log": [[0, 1, 2, 3], [0, 1, 2, 3]]}')
        files[1].write_text('{"physical_to_logical_map":\n [[1, 0, 2, 3],\n [0, 2, 1, 3]]}\n')
        out = call(program, "diff", "--ranks", 2, "--expert-bytes", "1KiB", *files)[0]
        expect("experts that change the slot on their rank do not move", "layer 0: 0 of 4 slots" in out)
        files[0].write_text('{"phy2log": [[0, 1]]}\n' * 2)
        files[1].write_text('{"phy2log": [[0, 1]]}\n' * 3)
        expect("more placements on the other side are refused", "b.json has more placements than" in
               call(program, "diff", "--ranks", 2, *files, code=65)[1])
        files[0].write_text('{"gpus": 2, "weight": [[3, 1]]}\n' * 2)
        for command in (("eval", "--placement"), ("plan", "--previous")):
            expect(f"and for {command[0]}", "b.json has more placements than" in
                   call(program, *command, files[1], files[0], code=65)[1])
        expect("two that change places are two moves", "layer 1: 2 of 4 slots" in out and "2048 bytes" in out)


def poc(program):
    """The published experiment, with the figures that were published and those of more slots."""
    out = call(program, "poc")[0]
    expect("the busiest of 128 experts has 341 of 10,000 tokens, 4.36 times the mean",
           "128 experts, 10000 tokens" in out and "has 341 tokens, 4.36x the mean of 78.125" in out)
    rows = {int(row.split()[0]): row.split() for row in out.splitlines() if re.match(r" +\d+ +\d+ ", row)}
    for slots, tokens, times in ((29, 93.36, 1.195), (32, 89.21, 1.142), (47, 78.07, 0.999)):
        row = rows[slots]
        expect(f"{slots} more slots: {tokens} tokens, {times}x the mean",
               abs(float(row[2]) - tokens) < 0.011 and float(row[3].rstrip("x")) == times)
    ranks = [[float(x.rstrip("x")) for x in row[-3:]] for row in rows.values()]
    expect("the rank view is beside it: 1.09 to 1.48 before", 1.09 <= ranks[0][0] <= 1.48)
    expect("at most 1.01 planned and 1.001 by flow after", all(r[0] < 1.01 and r[2] <= 1.001 for r in ranks[1:]))
    out = call(program, "poc", "--ranks", 16, "--num-redundant-experts", 64)[0]
    expect("any number of slots and ranks", "69.53  0.890x" in out and "the busiest of 16 ranks" in out)


def refused(program):
    """Wrong input is refused with file, line and field."""
    good = '{"experts":2,"replicas":4,"groups":1,"nodes":1,"gpus":2,"weight":[[1,2]]}'
    for text, words in (
            ("{", "standard input, line 1: the text"),
            (good + "\n" + good.replace("[1,2]", "[1,-2]"), "line 2: weight[0][1] must be a whole number from 0"),
            (good.replace("[1,2]", "[1,2.5]"), "weight[0][1] must be"),
            (good.replace("[[1,2]]", "[[1,2],[3]]"), "weight[1] has 1 numbers, weight[0] has 2"),
            (good.replace('"experts":2', '"experts":3'), '"experts" is 3, but the loads are of 2'),
            (good.replace('"replicas":4', '"replicas":1'), "1 slots cannot hold 2 experts: use 2 at least"),
            (good.replace('"gpus":2', '"gpus":0'), "gpus"),
            (good.replace('"gpus":2,', ""), 'give "gpus" or --ranks'),
            (good.replace("weight", "wait"), 'there is no "weight"'),
            (good.replace("}", ',"previous":[[0,0,0,0]]}'), '"previous": expert 1 of layer 0 has no slot'),
            (good.replace("}", ',"id":"x"}'), '"id" must be a whole number'),
            ("", "holds no problem")):
        expect(f"{words}", words in call(program, "plan", stdin=text, code=65)[1])
    shape = good.replace('"replicas":4', '"replicas":5')
    expect("a shape the reference cannot plan names the nearest that works",
           "5 slots are not shared evenly by 2 ranks: use 4 or 6" in
           call(program, "plan", "--policy", "reference", stdin=shape, code=65)[1])
    expect("incremental needs a placement", '"previous"' in
           call(program, "plan", "--policy", "incremental", stdin=good, code=65)[1])
    for text, words in (("1,2\n1,x\n", "line 2, number 2: 'x' is not a whole number"),
                        ("1,2\n1\n", "line 2 has 1 numbers, the first layer has 2"), ("#\n", "no line with loads")):
        expect(words, words in call(program, "plan", "--input", "csv", "--ranks", 2, stdin=text, code=65)[1])
    call(program, "plan", "/nowhere/loads", code=66)
    expect("a recorded run that is not there is named once", call(program, "simulate", "/nowhere/run", code=66)[1].count("/nowhere/run") == 1)
    expect("a plan that may move nothing is no plan", "--max-moves" in
           call(program, "plan", "--policy", "incremental", "--max-moves", 0, stdin=good, code=64)[1])
    call(program, "diff", "a", "b", code=64)


def varints(data):
    """The whole numbers of a trace."""
    value = shift = 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            yield value
            value = shift = 0


def recorded(data):
    """Shape and tables [layers][ranks * experts] of a trace's steps, read by what eplb/trace_read.h says."""
    if data[:8] != b"SWYTRACE":
        fail("the trace has another beginning")
    version, layers, ranks, experts = struct.unpack_from("<4I", data, 8)
    at, cells, steps = 24, ranks * experts, []
    last = [[0] * cells for _ in range(layers)]
    while at < len(data):
        head = varints(data[at + 1:at + 11])
        count = next(head)
        begin = at + 1 + max(1, (count.bit_length() + 6) // 7)
        numbers = varints(data[begin:begin + count])
        for table in last:
            cell = 0
            while cell < cells:
                cell += next(numbers)
                if cell < cells:
                    bits = next(numbers)
                    table[cell] += bits >> 1 if bits % 2 == 0 else -(bits >> 1) - 1
                    cell += 1
        steps.append([list(table) for table in last])
        at = begin + count
    return (version, layers, ranks, experts), steps


def routes(program, path, prompts, plain):
    """--trace-routes: the experts of every row; counted, they are the trace."""
    out = program.answers(3, "generate", "-m", ROOT / "models" / "demo", "--temp", 0, "--max-tokens", 12,
                          "--trace", path, "--trace-routes", stdin=prompts)
    (_, layers, ranks, experts), steps = recorded(path.read_bytes())
    expect("the answers are those of a run without routes", out == plain)
    for rank in range(ranks):
        data = pathlib.Path(f"{path}.routes.{rank}").read_bytes()
        if data[:8] != b"SWYROUTE" or struct.unpack_from("<5I", data, 8) != (1, layers, rank, experts, 1):
            fail(f"rank {rank}: another head of routes")
        at = 28
        for number, step in enumerate(steps):
            for table in step:
                rows = struct.unpack_from("<I", data, at)[0]
                chosen = struct.unpack_from(f"<{rows}H", data, at + 4)
                at += 4 + 2 * rows
                if [chosen.count(e) for e in range(experts)] != table[rank * experts:(rank + 1) * experts]:
                    fail(f"rank {rank}, step {number}: routes and counts differ")
        expect(f"rank {rank}: the routes are those that were counted", at == len(data))


def trace(program):
    """--trace records what ran: rows and imbalance are those that the run itself reports, at any number of ranks."""
    prompts = b"In the beginning God created\nint main(void) {\nThe Lord is my\n"
    totals = []
    with tempfile.TemporaryDirectory() as folder:
        path, stats = pathlib.Path(folder, "trace"), pathlib.Path(folder, "stats")
        plain = program.answers(1, "generate", "-m", ROOT / "models" / "demo", "--temp", 0, "--max-tokens", 12,
                                stdin=prompts)
        for count in (1, 2, 3):
            out = program.answers(count, "generate", "-m", ROOT / "models" / "demo", "--temp", 0, "--max-tokens", 12,
                                  "--trace", path, "--stats", stats, stdin=prompts)
            expect(f"{count} ranks: the answers are those of a run without a trace", out == plain)
            (version, layers, ranks, experts), steps = recorded(path.read_bytes())
            expect(f"{count} ranks, 3 layers of 64 experts", (version, layers, ranks, experts) == (1, 3, count, 64))
            told = json.loads(stats.read_text())["experts"]
            rows = [[sum(t[i][r * experts + e] for t in steps for r in range(ranks)) for e in range(experts)]
                    for i in range(layers)]
            totals.append(rows)
            expect("all rows of the run are in the trace", sum(map(sum, rows)) ==
                   sum(sum(s["rank_rows"]) for s in told["samples"]))
            for i, layer in enumerate(told["layers"]):
                border = [experts // ranks * r + min(r, experts % ranks) for r in range(ranks + 1)]
                work = [[sum(t[i][r * experts + e] for r in range(ranks) for e in range(a, b))
                         for a, b in zip(border, border[1:])] for t in steps]
                busiest = sum(map(max, work)) * ranks / sum(map(sum, work))
                if abs(busiest - layer["imbalance"]) > 1e-6:
                    fail(f"layer {i}: the trace has an imbalance of {busiest}, the run {layer['imbalance']}")
            print(f"  {path.stat().st_size / len(steps):.0f} bytes a step", flush=True)
        expect("every expert has the same rows at any number of ranks", totals[0] == totals[1] == totals[2])
        out = call(program, "simulate", "--ranks", 4, "--interval", "2,4", "--num-redundant-experts", "0,8", path)[0]
        expect("the trace is replayed", f"{len(steps)} batches, 3 layers, 64 experts; 4 ranks" in out and
               len(re.findall("^incremental ", out, re.M)) == 12)
        routes(program, path, prompts, plain)
        data = path.read_bytes()
        for broken, words in ((data[:-1], "ends in the middle of step"), (data[:20], "ends in its head"),
                              (data[:8] + b"\2" + data[9:], "of version 2"), (data + b"X", "does not begin as a step")):
            path.write_bytes(broken)
            expect(words, words in call(program, "simulate", path, code=65)[1])
        done = program.run(1, "generate", "-m", ROOT / "models" / "demo", "--trace", folder + "/no/where", stdin=prompts)
        expect("a trace that cannot be written ends the run before it starts",
               done.returncode == 74 and b"--trace" in done.stderr and not done.stdout)


def other_traces(program):
    """Whatever loads a model can be traced; rows of warming up are not in it."""
    model = ("-m", ROOT / "models" / "demo")
    with tempfile.TemporaryDirectory() as folder:
        path, text = pathlib.Path(folder, "trace"), pathlib.Path(folder, "text")
        text.write_text("In the beginning God created the heaven and the earth.\n")
        for command, rows in ((("bench", "throughput", *model, "--num-prompts", 4, "--input-len", 16, "--output-len", 8), 4 * 23),
                              (("bench", "latency", *model, "--batch-size", 2, "--num-iters", 2, "--num-iters-warmup", 1,
                                "--input-len", 5, "--output-len", 3), 2 * 2 * 7),
                              (("perplexity", *model, text), None)):
            out = program.answers(2, *command, "--json", "--trace", path)
            rows = rows or json.loads(out)["total"]["tokens"] + 1  # the first token is read, not guessed
            steps = recorded(path.read_bytes())[1]
            seen = [sum(sum(step[layer]) for step in steps) for layer in range(3)]
            expect(f"{' '.join(map(str, command[:2]))}: {rows} rows in each layer", seen == [rows] * 3)


def simulated(out):
    """The table of eplb simulate by policy and load."""
    rows = {}
    for line in out.splitlines():
        found = re.match(r"(\w+) +\d+ +\d+ +(\S.*?) \| (.*) \|(.*)\|(.*)$", line)
        if found:
            rows[found[1], found[2]] = {name: [float(x.rstrip("x")) for x in part.split()]
                                        for name, part in zip(("imbalance", "moved", "time"), found.groups()[2:])}
    return rows


def clusters(program):
    """A cluster is described by hwloc's words too; experts to read decide when rows are few."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "stream.csv")
        path.write_text("".join(f"{b},0," + ",".join(str(int((e * 7 + b) % 5 == 0)) for e in range(32)) + "\n"
                                for b in range(12)))
        more = ("--interval", 4, "--num-redundant-experts", 16, path)
        plain = call(program, "simulate", "--ranks", 16, "--nodes", 2, *more)[0]
        for text in ("node:2 package:1 pu:8", "group:2 package:2 core:4 pu:1", "2 8"):
            expect(f"'{text}' is 16 ranks on 2 nodes", plain == call(program, "simulate", "--topology", text, *more)[0])
        expect("fewer ranks than processors", plain ==
               call(program, "simulate", "--topology", "group:2 package:8 pu:4", "--ranks", 16, *more)[0])
        expect("one machine of two packages", "8 ranks on 1 nodes" in
               call(program, "simulate", "--topology", "package:2 pu:4", *more)[0])
        for row in simulated(plain).values():
            expect("a row an expert: time goes by the experts to read, and `fewest` has the fewest",
                   row["time"][2] <= min(row["time"][:2]) and row["time"][3] == row["time"][2])
        one = simulated(call(program, "simulate", "--load", "ewma", "--ewma", "0.1", *more)[0])
        expect("one load alone", {load for _, load in one} == {"-", "ewma 0.1"})
        for arguments, words in ((("--topology", "nonsense:2"), "does not understand 'nonsense:2'"),
                                 (("--topology", "pu:100000"), "more than 4096 processors"),
                                 (("--topology", "group:2 pu:4000"), "more than 4096 processors"),
                                 (("--topology", "2 8", "--nodes", 2), "leave --nodes out"),
                                 (("--topology", "2 8", "--ranks", 9), "--ranks 9 do not stand on 2 nodes alike")):
            expect(words, words in call(program, "simulate", *arguments, *more, code=64)[1])


def simulate(program):
    """Figures that others have found for recorded streams are found again; a large cluster is no trouble."""
    for name, none, even, flow in (("mixed", "1.344", 1.147, 1.014), ("phased", "1.449", 1.258, 1.075)):
        path = REAL / "traces" / f"esft_stream_{name}_B256.csv"
        if not path.exists():
            print(f"skipped: {path.relative_to(ROOT.parent)} (not there)", flush=True)
            continue
        out = call(program, "simulate", path, "--num-redundant-experts", 16, "--interval", 8)[0]
        rows = simulated(out)
        base, few = rows["reference", "window 50"], rows["incremental", "last 8"]
        expect(f"{name}: nothing balanced, {none}", rows["none", "-"]["imbalance"][0] == float(none))
        expect(f"{name}: DeepSeek's plans, {even} even, {flow} by flow",
               all(abs(a - b) < 0.0011 for a, b in zip(base["imbalance"], (even, flow))))
        known = {"mixed": (1.144, 1.012), "phased": (1.159, 1.020)}[name]
        expect(f"{name}: and for the moving average {known[0]}, {known[1]}",
               all(abs(a - b) < 0.0021 for a, b in zip(rows["reference", "ewma 0.3"]["imbalance"], known)))
        expect(f"{name}: few moves are better, with a twentieth of the bytes",
               few["imbalance"][1] < base["imbalance"][1] and few["moved"][1] < 0.05 * base["moved"][1])
        expect(f"{name}: and predicted to be faster", few["time"][1] < base["time"][1])
        expect(f"{name}: no way to share rows beats auto",
               all(row["time"][3] <= min(row["time"][1:3]) + 1e-3 for row in rows.values()))
    clusters(program)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "stream.csv")
        path.write_text("".join(f"{b},{i}," + ",".join(str((e * 37 + b * 11 + i) % 101 * 20) for e in range(256)) + "\n"
                                for b in range(24) for i in range(4)))
        out = call(program, "simulate", "--ranks", 1024, "--nodes", 128, "--num-redundant-experts", 768, "--interval", 8,
                   path)[0]
        expect("1,024 ranks on 128 nodes", "1024 ranks on 128 nodes" in out and
               len(re.findall(r"^(?:reference|balanced|incremental) .* \d", out, re.M)) == 7)
        for text, words in (("0,0,1,2\n0,1,3\n", "line 2: 1 counts"), ("0,0,1,x\n", "line 1: whole numbers"),
                            ("0,0,1,2\n1,1,1,2\n", "batch 1, layer 1 stands where layer 0"), ("", "no batch")):
            path.write_text(text)
            expect(words, words in call(program, "simulate", path, code=65)[1])


def blocks(text):
    """The blocks of data in what gnuplot is told: {name: [[numbers]]}."""
    return {found[1]: [[float(x) for x in line.split()] for line in found[2].splitlines()]
            for found in re.finditer(r"^\$(\w+) << EOD\n(.*?)^EOD$", text, re.M | re.S)}


def drawing(folder, plot, files):
    """gnuplot makes whole pictures of them."""
    if not shutil.which("gnuplot"):
        print("skipped: gnuplot (not there)", flush=True)
        return
    for name in ("load.svg", "load.png"):
        out = pathlib.Path(folder, name)
        plot(out, *files)
        data = out.read_bytes()
        if name.endswith(".svg"):
            root = xml.etree.ElementTree.fromstring(data)
            expect("the SVG is well-formed and names the files", root.tag.endswith("}svg") and b">stats<" in data)
        else:
            at, kinds = 8, []
            while at < len(data):
                size, kind = struct.unpack_from(">I4s", data, at)
                if struct.unpack_from(">I", data, at + 8 + size)[0] != zlib.crc32(data[at + 4:at + 8 + size]):
                    fail(f"the PNG has a damaged part {kind}")
                kinds.append(kind)
                at += 12 + size
            expect("the PNG is whole", data[:8] == b"\x89PNG\r\n\x1a\n" and kinds[0] == b"IHDR" and kinds[-1] == b"IEND")


def picture(program):
    """The heat map of scripts/plot_load has the numbers of --stats, and of a trace of the same run."""
    def plot(*arguments, code=0):
        done = subprocess.run([ROOT / "scripts" / "plot_load", *map(str, arguments)], capture_output=True, text=True,
                              timeout=60, check=False)
        if done.returncode != code:
            fail(f"plot_load {arguments}: exit {done.returncode}, wanted {code}\n{done.stderr}")
        return done.stdout + done.stderr

    with tempfile.TemporaryDirectory() as folder:
        stats, path, out = (pathlib.Path(folder, name) for name in ("stats", "trace", "load.svg"))
        program.answers(2, "generate", "-m", ROOT / "models" / "demo", "--temp", 0, "--max-tokens", 12, "--trace", path,
                        "--stats", stats, stdin=b"In the beginning God created\nint main(void) {\n")
        samples = json.loads(stats.read_text())["experts"]["samples"]
        told = blocks(plot(out, stats, path, "--script"))
        wanted, first = [], 0
        for sample in samples:
            mean = sum(sample["rank_rows"]) / len(sample["rank_rows"])
            for rank, rows in enumerate(sample["rank_rows"]):
                wanted.append([first + sample["steps"] / 2, rank, first, first + sample["steps"], rank - 0.5, rank + 0.5,
                               rows / mean if mean else 1])
            first += sample["steps"]
        for name, what in (("heat0", "--stats"), ("heat1", "the trace")):
            expect(f"{len(wanted)} cells of the heat map are those of {what}", len(told[name]) == len(wanted) > 8 and
                   all(abs(x - y) < 1e-4 for a, b in zip(told[name], wanted) for x, y in zip(a, b)))
        for name in ("line0", "line1"):
            expect("and so is the curve", all(abs(point[1] - sample["imbalance"]) < 1e-4
                                              for point, sample in zip(told[name], samples, strict=True)))
        drawing(folder, plot, (stats, path))
        path.write_bytes(path.read_bytes()[:-1])
        huge, odd = pathlib.Path(folder, "huge"), pathlib.Path(folder, "odd")
        huge.write_bytes(path.read_bytes()[:12] + b"\xff" * 12)
        odd.write_text('{"experts": {"samples": [{"steps": 1, "rank_rows": [], "imbalance": 1, "moves": 0}]}}')
        for arguments, words, code in (((out, huge), "cannot be read", 65), ((out, odd), "sample 0 has 1 steps and 0 ranks", 65),
                                       ((out, path), "ends in the middle of a step", 65), ((out, folder + "/no"), "/no: ", 66),
                                       ((folder + "/a.gif", stats), "ends in .svg or .png", 64)):
            expect(words, words in plot(*arguments, code=code))


CASES = {case.__name__: case for case in (reference, policies, bounds, diff, poc, refused, trace, other_traces, simulate,
                                         picture)}

if __name__ == "__main__":
    CASES[sys.argv[3]](Program(sys.argv[1], sys.argv[2]))
