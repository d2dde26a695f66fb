#!/usr/bin/env python3
# tools.py - what inspect and --dry-run say, as users and programs see it
#
# SPDX-License-Identifier: Apache-2.0
"""Whole-program tests of the tools beside a run: tools.py BINARY MPIEXEC CASE."""

import json
import os
import pathlib
import random
import re
import resource
import shlex
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "laws"))
from run import Program, fail, skip  # noqa: E402  pylint: disable=wrong-import-position
import checkpoints  # noqa: E402  pylint: disable=wrong-import-position

ROOT = HERE.parents[1]
DEMO = ROOT / "models" / "demo"
TINY = ROOT / "tests" / "golden" / "llama4_a"
PATIENCE = 10  # seconds of a processor, whoever else wants it; an inspection takes a fraction of one


def call(program, *arguments, code=0):
    """Runs the program without a launcher; (stdout, stderr) as text."""
    done = subprocess.run([program.binary, *map(str, arguments)], capture_output=True, stdin=subprocess.DEVNULL,
                          timeout=120, check=False)
    if done.returncode != code:
        fail(f"{' '.join(map(str, arguments))}: exit {done.returncode}, wanted {code}\n{done.stderr.decode()}")
    return done.stdout.decode(), done.stderr.decode()


def inspect(program, model, *arguments):
    """The answer of inspect --json."""
    return json.loads(call(program, "inspect", "--model", model, "--json", *arguments)[0])


def processor_seconds():
    """Of all programs that have ended so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def expect(what, holds):
    """One promise."""
    if not holds:
        fail(what)
    print(f"  holds: {what}", flush=True)


def refuses(program, words, *arguments, code=64):
    """A command line that ends with `code` and these words."""
    out, err = call(program, *arguments, code=code)
    expect(f"{' '.join(map(str, arguments[2:]))}: {words}", words in err and out == "")


# -- inspect -----------------------------------------------------------------------------------------------------------

def large(program):
    """A model of 746 GiB is inspected from its headers; the files are holes."""
    with tempfile.TemporaryDirectory() as folder:
        total = checkpoints.write_model(folder, checkpoints.MAVERICK, shards=55)
        used = sum(os.stat(os.path.join(folder, name)).st_blocks * 512 for name in os.listdir(folder))
        expect(f"{total} bytes of tensors take {used} on the disk", used < total // 10000)
        begin = processor_seconds()
        told = inspect(program, folder, "--ranks", "1", "8", "128", "--memory", "80GiB")
        seconds = processor_seconds() - begin
        print(f"  inspected {total / 2**30:.1f} GiB at three numbers of ranks in {seconds:.2f} s", flush=True)
        expect(f"the inspection takes less than {PATIENCE} s of a processor", seconds < PATIENCE)
        model = told["model"]
        expect("all parameters are counted", 2 * model["parameters"] == total == model["file_bytes"]["BF16"])
        expect("17 billion of them are active", 17.0e9 < model["active_parameters"] < 17.5e9)
        one, eight, many = told["plans"]
        weights = one["bytes"][0]["weights"]
        expect("one rank holds every weight once, widened norms and padding apart", 1 <= weights / total < 1.001)
        expect("eight ranks do not hold it in 80 GiB, 128 do", not eight["fits"] and many["fits"])
        expect("the experts lie on 16 slots of 8 ranks", all(r["slots"] == 16 for r in eight["bytes"]))
        expect("more ranks are named", 8 < eight["nearest"]["ranks"] <= 16)
        expect("so many fit", inspect(program, folder, "--ranks", eight["nearest"]["ranks"], "--memory", "80GiB",
                                      "--nodes", eight["nearest"]["nodes"])["plans"][0]["fits"])


def large_fp8(program):
    """The same model with FP8 experts in 18,000 tensors: its weights stay as small as they are stored."""
    with tempfile.TemporaryDirectory() as folder:
        total = checkpoints.write_model(folder, checkpoints.MAVERICK, shards=84, fp8=True)
        begin = processor_seconds()
        told = inspect(program, folder, "--ranks", "8", "--memory", "80GiB")
        seconds = processor_seconds() - begin
        print(f"  inspected {total / 2**30:.1f} GiB of FP8 on 8 ranks in {seconds:.2f} s", flush=True)
        expect(f"the inspection takes less than {PATIENCE} s of a processor", seconds < PATIENCE)
        expect("400.7 billion parameters, scales not among them", 400.6e9 < told["model"]["parameters"] < 400.8e9)
        expect("most bytes are FP8", told["model"]["file_bytes"]["F8_E4M3"] > 0.9 * total)
        weights = told["plans"][0]["bytes"][0]["weights"]
        copies = 7 * 2 * (told["model"]["active_parameters"] - 24 * 3 * 5120 * 8192 - 2 * 202048 * 5120) / 8
        ratio = weights / (total / 8 + copies)
        expect(f"eight ranks hold the experts as they are stored and a copy of the rest: {ratio:.4f}; the backend keeps "
               "four bytes of scale for 128 codes", 1 <= ratio < 1 + 4 / 128)
        expect("it fits where bfloat16 does not", told["plans"][0]["fits"])


def numbers(program):
    """What is told of a small model, in both forms, and which command lines are refused."""
    told = inspect(program, DEMO, "-r", "5", "--kv-cache-memory", "3M", "--max-model-len", "512")
    plan = told["plans"][0]
    expect("the model is the demo's", told["model"]["experts"] == 64 and told["model"]["expert_layers"] == 3)
    expect("5 ranks share 64 experts", [r["slots"] for r in plan["bytes"]] == [13, 13, 13, 13, 12])
    expect("64 pages of 48 KiB", plan["pages"] == 64 and plan["page_bytes"] == 49152)
    expect("each rank's parts make its sum", all(
        r["together"] == sum(r[part] for part in ("weights", "cache", "buffers", "exchanges", "tables"))
        for r in plan["bytes"]))
    text = call(program, "inspect", "-m", DEMO, "-r", "5", "--kv-cache-memory", "3M")[0]
    for line in (r"Llama4ForCausalLM in .*demo", r"layers +6: 3 dense, 3 with 64 experts, top 1, and a shared expert",
                 r"vocabulary +6144; made for 4096 positions", r"parameters +18.95 million",
                 r"36\.1 MiB in 1 file: BF16 100\.0 %", r"5 ranks on 1 node, backend cpu",
                 r"5 data groups of 1 rank, 1 copy of the experts", r"64 pages of 16 positions",
                 r"\n  0 +13 ", r"\n  1(-\d)? +13 ", r"\n  4 +12 ", r"  fits: rank 0 takes .* of ", r"planned in \d"):
        expect(f"text has {line}", re.search(line, text) is not None)
    expect("a cache that is too small for a sequence is told with the length that fits", re.search(
        r"does not fit: the cache holds 1024 positions, --max-model-len asks for 2048\n.*\n    --max-model-len 1024\n",
        call(program, "inspect", "-m", DEMO, "--kv-cache-memory", "3M", "--max-model-len", "2048")[0]) is not None)
    counts = [[p["ranks"] for p in inspect(program, DEMO, *form)["plans"]]
              for form in (("-r", "1", "2", "3"), ("--ranks", "1,2,3"), ("-r1", "-r", "2", "--ranks=3"))]
    expect("ranks may be listed in every way", counts == [[1, 2, 3]] * 3)
    expect("both backends differ as their formats do", 1.9 < inspect(program, DEMO, "--backend", "reference")["plans"][0][
        "page_bytes"] / plan["page_bytes"] < 2.1)
    shared = inspect(program, DEMO, "-r", 4, "--nodes", 2, "--share-experts")["plans"][0]["bytes"]
    expect("the experts of a node lie in its shared memory, a half on each of two ranks, and the text says how much",
           all(r["shared"] == shared[0]["shared"] for r in shared) and 0 < shared[0]["shared"] < shared[0]["weights"]
           and f"  shared      {2 * shared[0]['shared'] / 2**20:.1f} MiB of the weights are experts in /dev/shm" in call(
               program, "inspect", "-m", DEMO, "-r", 4, "--nodes", 2, "--share-experts")[0])
    weights = [sum(r["weights"] for r in inspect(program, DEMO, "-r", 4, "--enable-eplb", *more)["plans"][0]["bytes"])
               for more in ((), ("--num-redundant-experts", 16), ("--share-experts",),
                            ("--share-experts", "--num-redundant-experts", 16),
                            ("--share-experts", "--num-redundant-experts", 16, "--node-size", 2))]
    expect(f"where ranks share experts, copies of them cost nothing: {weights}",
           weights[0] == weights[2] == weights[3] < weights[4] and weights[0] < weights[1])
    refuses(program, "--tensor-parallel-size 2 does not divide 3 ranks", "inspect", "-m", DEMO, "-r", "3", "-tp", "2")
    refuses(program, "--nodes 3: 2 ranks cannot lie on so many", "inspect", "-m", DEMO, "-r", "2", "--nodes", "3")
    refuses(program, "--ranks: '0' is not a list of at most 32 whole", "inspect", "-m", DEMO, "--ranks", "0")
    refuses(program, "'x' belongs to no option", "inspect", "-m", DEMO, "--ranks", "1", "x")
    refuses(program, "--stats is no option of the command 'inspect'", "inspect", "-m", DEMO, "--stats", "f")
    refuses(program, "was made for 4096 positions", "inspect", "-m", DEMO, "--max-model-len", "5000")
    refuses(program, "/no/such/model: ", "inspect", "-m", "/no/such/model", code=66)


# -- a dry run ---------------------------------------------------------------------------------------------------------

def rank_lines(text):
    """The lines of the plan from the layout on, without what the machine's free memory decides."""
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("  layout")), len(lines))
    return [line for line in lines[first:] if line and not line.startswith(("  fits", "planned"))]


def dry_run(program):
    """Under the launcher the plan is printed once, nothing is loaded, and it is the plan of inspect."""
    for count, layout in ((1, ()), (2, ("-tp", 2)), (3, ("--share-experts", "--enable-eplb", "--node-size", 2)),
                          (5, ("--backend", "reference"))):
        options = (*layout, "--kv-cache-memory", "2M", "--max-num-batched-tokens", 128)
        done = program.run(count, "generate", "--model", DEMO, "--dry-run", *options)
        text = done.stdout.decode()
        if done.returncode != 0:
            fail(f"a dry run on {count} ranks: exit {done.returncode}\n{done.stderr.decode()}")
        wanted = call(program, "inspect", "--model", DEMO, "--ranks", count, *options)[0]
        expect(f"{count} ranks {layout}: the plan of inspect", rank_lines(text) == rank_lines(wanted) != [])
        expect(f"{count} ranks {layout}: printed once, nothing loaded",
               text.count("  layout ") == 1 and b"a rank holds" not in done.stderr)
    done = program.run(2, "perplexity", "--model", DEMO, "--dry-run", "--json", DEMO / "eval" / "c.txt")
    expect("a dry run of another command, as JSON",
           done.returncode == 0 and json.loads(done.stdout)["plans"][0]["ranks"] == 2 and b"a rank holds" not in done.stderr)


# -- what a run takes from the system ----------------------------------------------------------------------------------

def noise():
    """Small numbers in bfloat16."""
    source = random.Random(4)
    return b"".join(bytes((source.getrandbits(8), source.choice((0x3B, 0xBB)))) for _ in range(1 << 18))


def peaks(program, count, model, *options):
    """Most memory of each rank of a run that fills its cache and batches, sorted."""
    prompts = b"".join(b"%d " % i + b"all the words of this prompt are here to fill a page, " * 2 + b"\n"
                       for i in range(16))
    done = program.run(count, "generate", "--model", model, "--max-tokens", 4, "--temperature", 0, "--threads", 1,
                       *options, stdin=prompts,
                       wrap=lambda c: [*c[:3], sys.executable, "-B", str(HERE / "peak.py"), *c[3:]])
    if done.returncode != 0:
        fail(f"exit {done.returncode}\n{done.stderr.decode()}")
    return sorted((int(n) for n in re.findall(rb"^peak (\d+)$", done.stderr, re.M)), reverse=True)


def with_tokenizer(folder):
    """The folder with a tokenizer of one token a byte."""
    os.symlink(ROOT / "tests" / "golden" / "byte_tokenizer" / "tokenizer.json", os.path.join(folder, "tokenizer.json"))
    return folder


def memory(program):
    """A run of some hundred MiB grows by what was planned: its peak, less that of a tiny model's run and plus that
    one's plan, is the plan of the large one."""
    if b"libasan" in subprocess.run(["ldd", program.binary], capture_output=True, check=False).stdout:
        skip("memory (a sanitizer's own memory is in the way)")
    options = ("--max-model-len", 256, "--max-num-seqs", 8, "--max-num-batched-tokens", 256)
    with tempfile.TemporaryDirectory() as folder:
        tiny, middle = os.path.join(folder, "tiny"), os.path.join(folder, "middle")
        os.mkdir(tiny)
        for file in TINY.iterdir():
            os.symlink(file, os.path.join(tiny, file.name))
        checkpoints.write_model(middle, checkpoints.MIDDLE, noise=noise())
        for count in (1, 2):
            plans, found = {}, {}
            for model in (with_tokenizer(tiny) if count == 1 else tiny, with_tokenizer(middle) if count == 1 else middle):
                plan = inspect(program, model, "-r", count, *options)["plans"][0]
                plans[model] = sorted((r["together"] for r in plan["bytes"]), reverse=True)
                found[model] = peaks(program, count, model, *options)
            for rank in range(count):
                base = found[tiny][rank] - plans[tiny][rank]
                grown = found[middle][rank] - base
                print(f"  {count} ranks: planned {plans[middle][rank] / 2**20:.1f} MiB, taken {grown / 2**20:.1f} MiB "
                      f"beside the {base / 2**20:.1f} MiB of the program: ratio {grown / plans[middle][rank]:.3f}",
                      flush=True)
                near = 0.02 if count == 1 else 0.05  # of two ranks not each fills its buffers
                expect("what is taken is what was planned", abs(grown / plans[middle][rank] - 1) < near)


# -- help, version, manual, completion -----------------------------------------------------------------------------------

def commands_of(program):
    """The names of all commands."""
    text = call(program, "--help")[0]
    return re.findall(r"^  (\w+(?: \w+)?) {2,}\S", text[text.index("Commands\n"):], re.M)


def options_of(program, command):
    """name -> (other spellings, value or "", help with default) as --help of a command shows them."""
    text = call(program, *command.split(), "--help")[0]
    found = {}
    for head, body in re.findall(r"^  (-\S.*)\n((?: {8}.*\n)+)", text, re.M):
        names = [word for word in re.split(r",? ", head) if word.startswith("-")]
        value = head[head.index(names[-1]) + len(names[-1]):].strip()
        found[names[-1]] = (names[:-1], value, " ".join(body.split()))
    return found


def version(program):
    """--version names everything that was compiled in, once."""
    text = call(program, "--version")[0]
    for line in (r"switchyard \d+\.\d+\.\d+", r"compiler +(gcc|.*[Cc]lang) ?\d+.*", r"mpi +(Open MPI|MPICH) \d+\.\d+.*",
                 r"libraries +hwloc \d\S*, jansson \d\S*, PCRE2 \d\S*, utf8proc \d\S*",
                 r"backends +reference, cpu \(portable.*; this machine: \w+\)", r"exchanges +alone, mpi, shared",
                 r"cuda +(yes, with|no: ).*", r"nccl +(no|\d+\.\d+\.\d+)"):
        expect(f"--version has {line}", re.search(f"^{line}$", text, re.M) is not None)
    done = program.run(3, "--version")
    expect("three ranks say it once", done.returncode == 0 and done.stdout.decode() == text)


def built(program, name):
    """A file that the build made beside the program."""
    return pathlib.Path(program.binary).parent / "docs" / name


def manual(program):
    """The manual page has every command and option with the very words of --help."""
    page = built(program, "switchyard.1")
    if not page.exists():
        skip("manual (built without scdoc)")
    text = re.sub(r"\\f.", "", page.read_text()).replace("\\-", "-").replace("\\&", "").replace("\\", "")
    words = " ".join(text.split())
    names = commands_of(program)
    expect(f"{len(names)} commands", len(names) >= 5)
    for command in names:
        start = words.index(f".SS switchyard {command} ")
        end = words.find(".SS ", start + 4)
        chapter = words[start:end if end > 0 else words.index(".SH OPTIONS OF ALL")]
        rest = words[words.index(".SH OPTIONS OF ALL"):]
        for name, (others, value, body) in options_of(program, command).items():
            head = ", ".join((*others, name)) + (f" {value}" if value else "")
            where = rest if name in ("--help", "--version", "--verbose") else chapter
            if f"{head} .RS 4 {body}" not in where:
                fail(f"manual: {command}: no \"{head}\" with \"{body}\"")
        print(f"  manual has all of {command}", flush=True)
    for code in (0, 64, 65, 66, 69, 70, 74, 75):
        expect(f"exit code {code} is told", f" {code} .RS" in words)


def complete(script, line, folder):
    """What bash offers for the last word of a line."""
    words = re.findall(r"=|[^= ]+", line) + ([""] if line.endswith(" ") else [])
    driver = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _switchyard; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "-c", driver, "bash", str(script), *words], capture_output=True, cwd=folder,
                          check=False, timeout=20)
    if done.returncode != 0 or done.stderr:
        fail(f"completing '{line}': {done.stderr.decode()}")
    return sorted(done.stdout.decode().split())


def completion(program):
    """bash completes commands, options, their words, directories and files."""
    script = built(program, "switchyard")
    names = commands_of(program)
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(os.path.join(folder, "model"))
        pathlib.Path(folder, "mode.txt").touch()
        cases = [("switchyard ge", ["generate"]), ("switchyard det", ["detokenize"]), ("switchyard insp", ["inspect"]),
                 ("switchyard --v", ["--version"]), ("switchyard help tok", ["tokenize"]),
                 ("switchyard generate --comm ", ["auto", "mpi", "shared"]),
                 ("switchyard generate --comm=s", ["shared"]), ("switchyard generate --comm=", ["auto", "mpi", "shared"]),
                 ("switchyard generate --input ", ["jsonl", "lines", "text"][-2:]),
                 ("switchyard tokenize --input ", ["jsonl", "lines"]),
                 ("switchyard generate --model mo", ["model"]), ("switchyard generate -m mo", ["model"]),
                 ("switchyard generate --input-file mo", ["mode.txt", "model"]),
                 ("switchyard perplexity -m x mo", ["mode.txt", "model"]),
                 ("switchyard generate --max-tokens ", []), ("switchyard generate -tp ", []),
                 ("switchyard inspect --mem", ["--memory"]),
                 ("switchyard inspect --temp", [])]
        for line, wanted in cases:
            found = complete(script, line, folder)
            if line.endswith("--input ") and "generate" in line:
                wanted = sorted(options_of(program, "generate")["--input"][1].split("|"))
            if found != wanted:
                fail(f"'{line}' is completed by {found}, wanted {wanted}")
            print(f"  '{line}': {' '.join(found)}", flush=True)
        offered = complete(script, "switchyard ", folder)
        expect("all commands are offered", {name.split()[0] for name in names} <= set(offered))
        for command in names:
            found = complete(script, f"switchyard {command} --", folder)
            expect(f"all options of {command} are offered, and no others", found == sorted(options_of(program, command)))
            first, _, second = command.partition(" ")
            if second:
                expect(f"{first} is followed by {second}", second in complete(script, f"switchyard {first} ", folder))


# -- bench selftest ----------------------------------------------------------------------------------------------------

ENTRIES = {"embed", "gather", "join", "add", "norm", "norm_by", "rotate", "activate", "combine", "route", "candidates",
           "multiply", "experts", "attend"}


def selftest(program):
    """Every entry is checked and every exchange measured; the first that is wrong ends it with its number."""
    told = json.loads(program.answers(2, "bench", "selftest", "--backend", "cpu", "--rounds", 2, "--size", "1MiB", "--json"))
    expect("every entry is checked twice and right", {c["entry"] for c in told["checks"]} >= ENTRIES and told["right"]
           and all(c["right"] and 1 <= c["rounds"] <= 2 for c in told["checks"]))
    expect("memory is measured four ways", [m["what"] for m in told["memory"]] ==
           ["x += y", "rows copied", "to the backend", "from the backend"])
    expect("three exchanges are measured at three sizes", [(e["what"], e["bytes"]) for e in told["exchanges"]] ==
           [(what, 4096 << shift) for what in ("broadcast", "all gather", "all to all") for shift in (0, 4, 8)])
    expect("all have a rate", all(m["gb_per_second"] > 0 for m in told["memory"] + told["exchanges"]))
    text = program.answers(1, "bench", "selftest", "--backend", "reference", "--rounds", 1, "--size", "64KiB").decode()
    expect("a line for each check, and the verdict", text.count("\n") == 2 + len(told["checks"]) + 4
           and text.endswith("every entry is right\n"))
    wrong = pathlib.Path(program.binary).parent / "tests" / "wrong.so"
    out, err = call(program, "bench", "selftest", "--backend", "cuda", "--cuda-module", wrong, "--seed", 5, code=70)
    line = out.splitlines()[-1]
    expect(f"the wrong entry is named: {line}", re.search(
        r"^add +agrees with the reference +WRONG: add: reference .*, seed 5, \[\d+, \d+\]: add of row 0, column \d+ is ", line)
        and "add of row 0" in err)
    out, _ = call(program, "bench", "selftest", "--backend", "cuda", "--cuda-module", wrong, "--json", code=70)
    told = json.loads(out)
    expect("and in the report for programs", not told["right"] and not told["checks"][-1]["right"]
           and told["checks"][-1]["entry"] == "add")


# -- documents --------------------------------------------------------------------------------------------------------

def documents(program):
    """What documents show of inspect is what it prints: every line of an example, in that order."""
    count = 0
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for line, shown in re.findall(r"^    \$ switchyard (inspect .*)\n((?:    .*\n|\n(?=    ))*)", path.read_text(), re.M):
            found = iter(call(program, *shlex.split(line))[0].splitlines())
            for wanted in shown.splitlines():
                if wanted.strip() not in ("", "...") and "planned in" not in wanted and wanted[4:] not in found:
                    fail(f"{path.name}: 'switchyard {line}' does not print, or not there:\n{wanted}")
            count += 1
    expect(f"{count} examples", count >= 3)


# -- scripts/test_report -----------------------------------------------------------------------------------------------

def report(_program):
    """The end of scripts/test names each test that failed and how, and what was left out, in so many lines."""
    def one(name, result, stdout, code=1):
        return json.dumps({"name": f"switchyard:unit / {name}", "result": result, "returncode": code, "duration": 2.0,
                           "stdout": stdout}) + "\n"

    def reported(*logs):
        done = subprocess.run([ROOT / "scripts" / "test_report", *logs], capture_output=True, check=False, timeout=60)
        if done.returncode != 0 or done.stderr:
            fail(f"test_report: exit {done.returncode}\n{done.stderr.decode()}")
        return done.stdout.decode().splitlines()

    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder, "log.json")
        text = pathlib.Path(folder, "text")
        text.write_text("skipped: layout (no formatter)\n")
        log.write_text(one("good", "OK", "  skipped: gold (not there)\nfine\n", 0) + one("left", "SKIP", "skipped: nodes (no)", 77)
                       + one("bad", "FAIL", "one\nFAILED: two\n" + "noise\n" * 50 + "last\n") + one("slow", "TIMEOUT", None, -15)
                       + '{"name": "cut o')
        lines = reported(f"unit={log}", f"layout:77={text}", f"source:1={text}")
        expect("what is skipped is named with its reason", lines[:3] == [
            "skipped: gold (not there), in unit / good", "skipped: nodes (no), in unit / left",
            "skipped: layout (no formatter), in layout"])
        expect("a failure is shown where it says what is wrong, and at its end", lines[3:5] == [
            "FAILED: unit / bad (FAIL, exit code 1 after 2 s)", "    FAILED: two"] and len(lines[3:18]) == 15
            and lines[17] == "    last")
        expect("and so are one without output, and a stage", lines[18:] == [
            "FAILED: unit / slow (TIMEOUT, signal 15 after 2 s)", "FAILED: source (FAIL, exit code 1)",
            "    skipped: layout (no formatter)"])
        for count in (9, 70, 500):
            log.write_text("".join(one(f"bad{i}", "ERROR", "word\n" * 30) for i in range(count)))
            lines = reported(f"unit={log}")
            named = sum(line.startswith("FAILED: unit / bad") for line in lines)
            expect(f"{count} failures: {len(lines)} lines", len(lines) <= 120 and named == min(count, 119))
        expect("how many are not named is told", lines[-1] == "FAILED: 381 more")


CASES = {case.__name__: case
         for case in (large, large_fp8, numbers, dry_run, memory, version, manual, completion, documents, selftest, report)}

if __name__ == "__main__":
    CASES[sys.argv[3]](Program(sys.argv[1], sys.argv[2]))
