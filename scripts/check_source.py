#!/usr/bin/env python3
# check_source.py - hold the tree to STYLE.md: places, names, sizes, confined calls
#
# SPDX-License-Identifier: Apache-2.0
"""Hold the source tree to STYLE.md. Only #include lines, names and sizes are read; nothing is compiled.

    check_source.py              the self-test, then the tree this script lies in; exit 1 on any finding
    check_source.py --self-test  breaks each rule once in a scratch tree and sees it reported
    check_source.py --root DIR   another tree

Modules. scripts/modules.txt lists every module once, bottom first: a path without its ending, so "comm/grid" is
comm/grid.c and comm/grid.h. Every source file in engine, comm, kernels, eplb and launch belongs to a module, every
module has a file. A file that is not listed itself is a *part*: it belongs to the module of its folder with the longest
name N such that its own name starts with N_ (kernels/cpu/cpu_rows.c is a part of kernels/cpu/cpu when only that is
listed).

Includes. A file's own header comes first, then ours by full path, then the system's. A file includes headers of its own
module (parts too) and of modules above it in the list, that is, of lower floors. Test programs include what they like.

Names. A function that is not static starts with its file's name and "_", or is named like the file. A part may use its
module's name instead: what the parts of one module tell each other is that module's business. main is called main.

Confined calls stand in the table CONFINED below: MPI, NCCL and CUDA names, getenv, exit and the heap.

Environment. What is read from it belongs to others: launchers, Hugging Face, the system. Each variable that a file with
getenv names in a string must stand in VARIABLES below; there is no switch of our own.

Sizes. A file has at most 600 lines, a function 80 and 8 parameters; C, CUDA, Python alike, shell its 600 lines. The
first line (after a #! line) is "name - purpose" in a comment, and an SPDX line follows. No typedef and no struct, union
or enum whose name ends in _t; no notes to be done later.

Pages. A link of a .md file that is not to the web leads to a file or folder of the tree, and to a heading that is there.
"""
import argparse
import ast
import fnmatch
import os
import re
import sys
import tempfile

FILE_LINES = 600
FUNCTION_LINES = 80
PARAMETERS = 8
HEAD_LINES = 6  # the SPDX line is among these

FLOORS = ("engine", "comm", "kernels", "eplb", "launch")
C_ENDINGS = (".c", ".h", ".cu", ".cuh", ".cpp")
SKIPPED_FOLDERS = {".git", "__pycache__", "golden", "subprojects", "corpus"}

MPI_FILES = ("comm/comm_mpi*", "comm/comm_shared*", "comm/comm_nccl*", "comm/mpi_border*", "comm/shared_window*",
             "comm/watch*", "launch/process*")

# Names that only some files of the floors may say: (pattern in code without comments and strings, what it is, files).
CONFINED = (
    (r"\bP?MPI_\w+", "MPI", MPI_FILES),
    (r"\bnccl[A-Z]\w*", "NCCL", ("comm/comm_nccl*", "kernels/cuda/cuda_lsa_domain*", "kernels/cuda/gpu.cuh")),
    (r"\b(?:cuda|cublas)[A-Z]\w*", "CUDA", ("kernels/cuda/*", "comm/comm_nccl*")),
    (r"(?<![.>\w])(?:secure_)?getenv(?=\s*\()", "reading the environment", ("launch/options*",)),
    (r"(?<![.>\w])(?:exit|quick_exit)(?=\s*\()", "ending the process", ("launch/main.c",)),
    # The watchdog ends a process whose main hangs inside a library; process_fail one whose MPI_Abort came back.
    (r"(?<![.>\w])(?:_exit|_Exit)(?=\s*\()", "ending the process at once",
     ("launch/main.c", "launch/process.c", "comm/watch_guard.c")),
    (r"(?<![.>\w])(?:malloc|calloc|realloc|reallocarray|aligned_alloc|posix_memalign|free|strdup|strndup|v?asprintf"
     r"|getline)(?=\s*\()", "the heap",
     # arena and log, then the files in which a library hands out objects of its own: jansson, PCRE2.
     ("engine/base/arena*", "engine/base/log*", "engine/json*", "engine/tokenizer_split*")),
)

# Names of environment variables that may be read: all of them others' own.
VARIABLES = {"HF_HUB_CACHE", "HF_HOME", "HOME", "NO_COLOR", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_SIZE",
             "PMI_RANK", "PMIX_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_CPUS_PER_TASK", "NCCL_COMM_BLOCKING",
             "NCCL_COMM_SPLIT_SHARE_RESOURCES", "NCCL_GRAPH_MIXING_SUPPORT"}
VARIABLE = re.compile(r'"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)"')
READS_VARIABLES = re.compile(r"(?<![.>\w])(?:secure_)?getenv\s*\(")

# What answers for a foreign library has that library's parameters.
STAND_IN = re.compile(r"(?:cuda|cublas|nccl)[A-Z]")
NOTES = re.compile(r"\b(?:TO" r"DO|FIX" r"ME)\b")
COMMENT_OR_STRING = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.M)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
STATIC_MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t][^\n]*\bstatic\b", re.M)
ATTRIBUTE = re.compile(r"\b(?:__attribute__|__launch_bounds__|_Alignas|alignas)\s*\(")


def blank(match):
    """As many newlines as the text had, so that line numbers stay."""
    return re.sub(r"[^\n]", " ", match.group())


def line_of(text, at):
    """The number of the line that holds character `at`."""
    return text.count("\n", 0, at) + 1


def closing(text, at):
    """The place behind the bracket that closes the one at `at`; the end if none does."""
    depth = 0
    for i in range(at, len(text)):
        depth += (text[i] in "([{") - (text[i] in ")]}")
        if depth == 0:
            return i + 1
    return len(text)


def without_attributes(text):
    """The text with attributes blanked."""
    while match := ATTRIBUTE.search(text):
        end = closing(text, match.end() - 1)
        text = text[:match.start()] + re.sub(r"[^\n]", " ", text[match.start():end]) + text[end:]
    return text


def parameter_count(text):
    """The parameters in "(...)"."""
    inner = text[1:-1].strip()
    if inner in ("", "void"):
        return 0
    commas = depth = 0
    for c in inner:
        depth += (c in "([{") - (c in ")]}")
        commas += c == "," and depth == 0
    return commas + 1


class Function:
    """A function with a body: name, whether only its file sees it, lines, parameters."""

    def __init__(self, code, head_start, body, end, hides):
        head = without_attributes(code[head_start:body])
        open_at = head.index("(")
        last = open_at
        while open_at >= 0:  # the last group of brackets holds the parameters
            last, open_at = open_at, head.find("(", closing(head, open_at))
        before = head[:last].rstrip()
        word = re.search(r"\w+$", before)
        self.name = word.group() if word else "?"
        self.static = any(word in hides for word in re.findall(r"\w+", before))
        self.parameters = parameter_count(head[last:closing(head, last)])
        self.line = line_of(code, head_start + len(head) - len(head.lstrip()))
        self.lines = line_of(code, end - 1) - self.line + 1


def functions(code, hides):
    """All functions of C or CUDA code that has lost its comments, strings and directives; `hides` are the words that
    make a function static."""
    start = at = 0
    while at < len(code):
        c = code[at]
        if c in ";}":
            start = at + 1
        elif c == "(":
            at = closing(code, at) - 1
        elif c == "{":
            head = without_attributes(code[start:at])
            if re.fullmatch(r"\s*(?:extern\s*|namespace\s*\w*\s*)", head):
                start = at + 1  # what stands inside is at the top as well
                at += 1
                continue
            end = closing(code, at)
            if "(" in head and "=" not in re.sub(r"\([^)]*\)", "", head):
                yield Function(code, start, at, end, hides)
                start = end
            at = end - 1
        at += 1


class Source:
    """A C or CUDA file taken apart."""

    def __init__(self, root, path):
        self.path = path
        self.module = None
        self.stem, self.ending = os.path.splitext(os.path.basename(path))
        self.place = os.path.splitext(path)[0]
        self.text = read(root, path)
        self.includes = [(line_of(self.text, m.start()), m.group(1) == '"', m.group(2))
                         for m in INCLUDE.finditer(self.text)]
        self.code = DIRECTIVE.sub(blank, COMMENT_OR_STRING.sub(blank, self.text))
        self.names = COMMENT_OR_STRING.sub(blank, INCLUDE.sub(blank, self.text))  # macros say names as well


def read(root, path):
    """The text of a file; bytes that are no UTF-8 become marks."""
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def headings(text):
    """The names under which the headings of a page can be linked to."""
    return [re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in re.findall(r"^#+ (.*)$", text, re.M)]


class Check:
    """One tree; `found` collects (path, line, message)."""

    def __init__(self, root):
        self.root = root
        self.found = []
        self.files = sorted(self.walk())
        self.modules = self.read_modules()
        self.sources = {path: Source(root, path) for path in self.files if path.endswith(C_ENDINGS)}
        self.hides = {"static"}.union(*(STATIC_MACRO.findall(source.text) for source in self.sources.values()))

    def report(self, path, line, message):
        """Remember a finding."""
        self.found.append((path, line, message))

    def walk(self):
        """All files of the tree, build folders and the like left out."""
        for folder, folders, names in os.walk(self.root):
            folders[:] = [f for f in folders if f not in SKIPPED_FOLDERS and not f.startswith("build")]
            for name in names:
                yield os.path.relpath(os.path.join(folder, name), self.root)

    def read_modules(self):
        """Module -> (its place in the list, line in the file)."""
        modules = {}
        path = "scripts/modules.txt"
        for number, text in enumerate(read(self.root, path).splitlines(), 1):
            name = text.split("#")[0].strip()
            if name in modules:
                self.report(path, number, f"module {name} is listed twice (first in line {modules[name][1]})")
            elif name:
                modules[name] = (len(modules), number)
        return modules

    def find_module(self, place):
        """The module a file belongs to, or None: itself when listed, else the longest fitting name of its folder."""
        while place not in self.modules:
            folder, name = os.path.split(place)
            if "_" not in name:
                return None
            place = os.path.join(folder, name.rpartition("_")[0])
        return place

    def run(self):
        """Apply every rule; returns the findings in order."""
        used = set()
        for path, source in self.sources.items():
            self.check_head(path, source.text, r"/\* (\S+) - \S")
            self.check_functions(source)
            self.check_names(source)
            if path.split("/")[0] in FLOORS:
                source.module = self.find_module(source.place)
                used.add(source.module)
                self.check_floor_file(source)
            else:
                self.check_targets(source)
        for name, (_, line) in self.modules.items():
            if name not in used:
                self.report("scripts/modules.txt", line, f"module {name} has no file")
        for path in self.files:
            self.check_script(path)
            if path.endswith(".md"):
                self.check_links(path)
        return sorted(set(self.found))

    def check_head(self, path, text, pattern):
        """First line, SPDX line, length, notes."""
        lines = text.splitlines()
        first = 1 if lines and lines[0].startswith("#!") else 0
        head = re.match(pattern, lines[first]) if len(lines) > first else None
        name = os.path.basename(path)
        if not head or head.group(1) != name:
            self.report(path, first + 1,
                        f"the first line must say what the file is for: \"{name} - purpose\" in a comment")
        if not any("SPDX-License-Identifier: Apache-2.0" in line for line in lines[:HEAD_LINES]):
            self.report(path, 1, "no line \"SPDX-License-Identifier: Apache-2.0\" at the top")
        if len(lines) > FILE_LINES:
            self.report(path, len(lines),
                        f"{len(lines)} lines; a file has at most {FILE_LINES}: a second idea wants its own file")
        for number, line in enumerate(lines, 1):
            if NOTES.search(line):
                self.report(path, number, "a note to be done later; do it, or file it where work is planned")

    def check_size(self, path, function):
        """Length and parameters of a function."""
        if function.lines > FUNCTION_LINES:
            self.report(path, function.line,
                        f"{function.name} has {function.lines} lines; a function has at most {FUNCTION_LINES}")
        if function.parameters > PARAMETERS and not (path.startswith("tests/hostgpu/") and STAND_IN.match(function.name)):
            self.report(path, function.line,
                        f"{function.name} has {function.parameters} parameters; more than {PARAMETERS} are a struct "
                        "without a name yet")

    def check_functions(self, source):
        """Sizes everywhere; names in the floors."""
        module = self.find_module(source.place)
        stems = {source.stem, os.path.basename(module)} if module else {source.stem}
        for function in functions(source.code, self.hides):
            self.check_size(source.path, function)
            exported = not function.static and source.path.split("/")[0] in FLOORS and function.name != "main"
            if exported and not any(function.name == s or function.name.startswith(s + "_") for s in stems):
                wanted = " or ".join(s + "_" for s in sorted(stems))
                self.report(source.path, function.line,
                            f"{function.name} is not static and does not start with {wanted}")

    def check_names(self, source):
        """No typedef, no _t of ours."""
        for match in re.finditer(r"\btypedef\b|\b(?:struct|union|enum)\s+\w+_t\b", source.names):
            self.report(source.path, line_of(source.names, match.start()),
                        f"\"{match.group()}\": types are struct x or enum x, without typedef and without _t")

    def check_floor_file(self, source):
        """Module, includes and confined calls of a file of the floors."""
        if source.module is None:
            self.report(source.path, 1, f"belongs to no module: list {source.place} in scripts/modules.txt")
            return
        self.check_includes(source)
        self.check_variables(source)
        for pattern, what, allowed in CONFINED:
            if any(fnmatch.fnmatch(source.path, glob) for glob in allowed):
                continue
            for match in re.finditer(pattern, source.names):
                self.report(source.path, line_of(source.names, match.start()),
                            f"{match.group()}: {what} is confined to {', '.join(allowed)}")

    def check_variables(self, source):
        """Files that may and do read the environment name known variables alone."""
        if not fnmatch.fnmatch(source.path, "launch/options*") or not READS_VARIABLES.search(source.names):
            return
        for match in VARIABLE.finditer(source.text):
            if match.group(1) not in VARIABLES:
                self.report(source.path, line_of(source.text, match.start()),
                            f"{match.group(1)}: an environment variable that is not known; there are none of our own")

    def check_includes(self, source):
        """Own header first, then ours downward, then the system's."""
        own = source.place + ".h"
        ours = [(line, target) for line, quoted, target in source.includes if quoted]
        system_seen = False
        for line, quoted, target in source.includes:
            if quoted and system_seen:
                self.report(source.path, line, f"\"{target}\" comes after a header of the system; ours come first")
            system_seen = system_seen or not quoted
        if source.ending in (".c", ".cu") and own in self.sources and (not ours or source.includes[0][2] != own):
            self.report(source.path, source.includes[0][0] if source.includes else 1,
                        f"the first include must be its own header, \"{own}\"")
        for line, target in ours:
            self.check_direction(source, line, target)

    def check_direction(self, source, line, target):
        """An include of ours leads to a file of the same module or of a module above in the list."""
        if target not in self.sources:
            self.report(source.path, line, f"\"{target}\" is no file of this tree; ours are included by full path")
            return
        to = self.find_module(os.path.splitext(target)[0])
        if to is None:
            self.report(source.path, line, f"\"{target}\" belongs to no module")
        elif self.modules[to][0] > self.modules[source.module][0]:
            self.report(source.path, line,
                        f"{source.module} includes \"{target}\" of {to}, which scripts/modules.txt lists below it: "
                        "only downward")

    def check_targets(self, source):
        """What a test program includes with quotes is there."""
        for line, quoted, target in source.includes:
            beside = os.path.join(os.path.dirname(source.path), target)
            if quoted and target not in self.sources and beside not in self.sources:
                self.report(source.path, line, f"\"{target}\" is no file of this tree")

    def check_links(self, path):
        """A link of a page leads to a file or folder of this tree, and to a heading that is there."""
        for number, line in enumerate(read(self.root, path).splitlines(), 1):
            for target in re.findall(r"\]\(([^)\s]+)\)", line):
                file, _, heading = target.partition("#")
                place = os.path.normpath(os.path.join(os.path.dirname(path), file)) if file else path
                if ":" in file:
                    continue
                if not os.path.exists(os.path.join(self.root, place)):
                    self.report(path, number, f"({target}) leads nowhere")
                elif heading and heading not in headings(read(self.root, place)):
                    self.report(path, number, f"({target}): {place} has no such heading")

    def check_script(self, path):
        """Python, shell and meson files."""
        if path.endswith(C_ENDINGS):
            return
        name = os.path.basename(path)
        if name in ("meson.build", "meson_options.txt"):
            if name == "meson.build" and "SPDX-License-Identifier: Apache-2.0" not in read(self.root, path)[:400]:
                self.report(path, 1, "no line \"SPDX-License-Identifier: Apache-2.0\" at the top")
        elif path.endswith((".py", ".sh", ".sbatch")) or self.is_script(path):
            text = read(self.root, path)
            self.check_head(path, text, r"# (\S+) - \S")
            if path.endswith(".py") or "python" in text.partition("\n")[0]:
                self.check_python(path, text)

    def is_script(self, path):
        """A file without an ending that starts with "#!"."""
        if "." in os.path.basename(path):
            return False
        with open(os.path.join(self.root, path), "rb") as file:
            return file.read(2) == b"#!"

    def check_python(self, path, text):
        """Sizes of Python functions."""
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            self.report(path, error.lineno or 1, f"no valid Python: {error.msg}")
            return
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                size = argparse.Namespace(name=node.name, line=node.lineno, lines=node.end_lineno - node.lineno + 1,
                                          parameters=len(node.args.args + node.args.kwonlyargs + node.args.posonlyargs))
                self.check_size(path, size)


# -- the self-test: a tree that obeys, then one break at a time --------------------------------------------------------

HEAD = "/* {} - for the self-test\n *\n * SPDX-License-Identifier: Apache-2.0 */\n"

GOOD = {
    "scripts/modules.txt": "# bottom first\nengine/base/status\nkernels/cpu/cpu\ncomm/grid\nengine/model\n"
                           "launch/options\nlaunch/main\n",
    "docs/page.md": "# A page\n\n## Two words, and more\n\n[a](../scripts/run) [b](#two-words-and-more) [c](https://x.org)\n",
    "scripts/tool.py": "#!/usr/bin/env python3\n# tool.py - x\n# SPDX-License-Identifier: Apache-2.0\n",
    "scripts/run": "#!/bin/bash\n# run - x\n# SPDX-License-Identifier: Apache-2.0\n",
    "engine/meson.build": "# SPDX-License-Identifier: Apache-2.0\n",
    "engine/base/status.h": "enum status status_make(void);\n",
    "engine/base/status.c": "#include \"engine/base/status.h\"\n\n#include <stdio.h>\n\n"
                            "enum status status_make(void)\n{\n}\n",
    "kernels/cpu/cpu.h": "#include \"engine/base/status.h\"\n#include <stdint.h>\n",
    "kernels/cpu/cpu_rows.h": "void cpu_rows_add(float *x);\n",
    "kernels/cpu/cpu_rows.c": "#include \"kernels/cpu/cpu_rows.h\"\n#include \"kernels/cpu/cpu.h\"\n\n"
                              "__attribute__((target(\"avx2\"))) void cpu_rows_add(float *x)\n{\n}\n"
                              "void cpu_helper(void)\n{\n}\n",
    "comm/grid.h": "#include \"kernels/cpu/cpu.h\"\n",
    "comm/grid.c": "#include \"comm/grid.h\"\n\nstatic int any(void)\n{\n"
                   "    return table->free(\"malloc(\"); /* getenv() */\n}\n",
    "engine/model.h": "#include \"comm/grid.h\"\n",
    "engine/model.c": "#include \"engine/model.h\"\n#define SMALL static inline\n\nstatic const int few[] = {1, 2};\n"
                      "SMALL int two(void)\n{\n}\n",
    "launch/main.c": "#include \"engine/model.h\"\n\n#include <stdlib.h>\n\n"
                     "int main(int argc, char **argv)\n{\n    exit(0);\n}\n",
    "launch/options.h": "#include \"engine/model.h\"\n",
    "launch/options.c": "#include \"launch/options.h\"\n\n#include <stdlib.h>\n\n"
                        "static const char *home(void)\n{\n    return getenv(\"HOME\");\n}\n",
    "tests/test_model.c": "#include \"engine/model.h\"\n\n#include <stdlib.h>\n\n"
                          "void anything(void)\n{\n    free(malloc(1));\n}\n",
}

LONG_BODY = "static void f(void)\n{\n" + "    g();\n" * FUNCTION_LINES + "}\n"
NINE = "static void f(int a, int b, int c, int d, int e, int (*f)(int, int), int g, int h, int i)\n{\n}\n"

# (words of the finding, file, what is added to its end; or None: the file goes; or a function of its text)
BREAKS = (
    ("lists below it: only downward", "engine/base/status.h", "#include \"comm/grid.h\"\n"),
    ("lists below it: only downward", "comm/grid.h", "#include \"engine/model.h\"\n"),
    ("first include must be its own header", "comm/grid.c",
     lambda t: t.replace("#include", "#include \"engine/base/status.h\"\n#include", 1)),
    ("comes after a header of the system", "comm/grid.h", "#include <a.h>\n#include \"engine/base/status.h\"\n"),
    ("is no file of this tree", "engine/model.h", "#include \"grid.h\"\n"),
    ("is no file of this tree", "tests/test_model.c", "#include \"nowhere.h\"\n"),
    ("belongs to no module", "engine/stray.c", ""),
    ("has no file", "launch/main.c", None),
    ("is listed twice", "scripts/modules.txt", "comm/grid\n"),
    ("does not start with model_", "engine/model.c", "int build(int a)\n{\n    return a;\n}\n"),
    ("does not start with cpu_ or cpu_rows_", "kernels/cpu/cpu_rows.c", "float *rows_add(void)\n{\n}\n"),
    ("a file has at most", "engine/model.h", "\n" * FILE_LINES),
    ("a file has at most", "scripts/tool.py", "\n" * FILE_LINES),
    ("a file has at most", "scripts/run", "\n" * FILE_LINES),
    ("a function has at most", "comm/grid.c", LONG_BODY),
    ("a function has at most", "tests/test_model.c", LONG_BODY),
    ("a function has at most", "scripts/tool.py", "def f():\n" + "    g()\n" * FUNCTION_LINES),
    ("a function has at most", "kernels/cpu/cpu.cu",
     "#include \"kernels/cpu/cpu.h\"\nextern \"C\" {\n__global__ " + LONG_BODY + "}\n"),
    ("9 parameters", "comm/grid.c", NINE),
    ("9 parameters", "scripts/tool.py", "def f(a, b, c, d, e, f, g, h, i):\n    pass\n"),
    ("must say what the file is for", "comm/grid.c", lambda t: t.replace("grid.c - ", "gird.c - ")),
    ("must say what the file is for", "scripts/run", lambda t: t.replace("# run - x\n", "")),
    ("SPDX-License-Identifier", "comm/grid.h", lambda t: t.replace("SPDX", "SDPX")),
    ("SPDX-License-Identifier", "engine/meson.build", lambda t: ""),
    ("MPI is confined", "comm/grid.c", "static MPI_Comm c;\n"),
    ("NCCL is confined", "engine/model.c", "static int n = ncclSend(1);\n"),
    ("CUDA is confined", "engine/model.c", "static int n = cudaMalloc(1);\n"),
    ("CUDA is confined", "comm/grid.c", "#define HANDLE cublasCreate\n"),
    ("reading the environment is confined", "engine/model.c", "static char *p = getenv (\"A\");\n"),
    ("there are none of our own", "launch/options.c",
     "static const char *one(void)\n{\n    return getenv(\"SWITCHYARD_FAST\");\n}\n"),
    ("ending the process is confined", "comm/grid.c", "static void f(void)\n{\n    exit(1);\n}\n"),
    ("the heap is confined", "engine/model.c", "static char *p = malloc(1);\n"),
    ("the heap is confined", "kernels/cpu/cpu_rows.c", "static void f(void)\n{\n    free(p);\n}\n"),
    ("without typedef", "comm/grid.h", "typedef int number;\n"),
    ("without _t", "comm/grid.h", "struct grid_t;\n"),
    ("ending the process at once", "comm/grid.c", "static void f(void)\n{\n    _exit(1);\n}\n"),
    ("a note to be done later", "comm/grid.c", "/* TO" "DO: more */\n"),
    ("no valid Python", "scripts/tool.py", "def f(:\n"),
    ("leads nowhere", "docs/page.md", "[x](scripts/run)\n"),
    ("has no such heading", "docs/page.md", "[x](page.md#three)\n"),
)


def plant(root, broken=None):
    """Write the good tree, with one file broken."""
    _, bad_path, change = broken or (None, None, None)
    paths = list(GOOD) + ([bad_path] if bad_path and bad_path not in GOOD else [])
    for path in paths:
        head = HEAD.format(os.path.basename(path)) if path.endswith(C_ENDINGS) else ""
        text = head + GOOD.get(path, "")
        if path == bad_path:
            if change is None:
                continue
            text = change(text) if callable(change) else text + change
        os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
        with open(os.path.join(root, path), "w", encoding="utf-8") as file:
            file.write(text)


def self_test():
    """Every rule is broken once and must be the only thing reported. Returns what went wrong, as lines."""
    wrong = []
    for broken in (None,) + BREAKS:
        with tempfile.TemporaryDirectory() as root:
            plant(root, broken)
            found = [f"{path}:{line}: {message}" for path, line, message in Check(root).run()]
        if broken is None:
            wrong += [f"self-test: in a good tree: {line}" for line in found]
        elif len(found) != 1 or broken[0] not in found[0] or (broken[2] is not None and broken[1] not in found[0]):
            wrong.append(f"self-test: {broken[1]} broken, \"{broken[0]}\" expected once, found: {found or 'nothing'}")
    return wrong


def main():
    """Self-test, then the tree."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--self-test", action="store_true", help="only break each rule once and see it reported")
    parser.add_argument("--root", default=here, metavar="DIR", help="the tree to check (default: that of this script)")
    options = parser.parse_args()

    wrong = self_test()
    for line in wrong:
        print(line)
    if options.self_test or wrong:
        print(f"self-test: {len(BREAKS)} breaks, {len(wrong)} wrong")
        return 1 if wrong else 0
    check = Check(options.root)
    found = check.run()
    for path, line, message in found:
        print(f"{path}:{line}: {message}")
    print(f"check_source: {len(check.files)} files, {len(check.modules)} modules, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
