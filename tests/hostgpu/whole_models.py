#!/usr/bin/env python3
# whole_models.py - the whole program on emulated devices with models that other cases leave out, experts moving
#
# SPDX-License-Identifier: Apache-2.0
"""Usage: whole_models.py PROGRAM MPIEXEC MODULE CASE, as whole.py"""
import json
import pathlib
import shutil
import struct
import sys
import tempfile

from whole import GOLDEN, LAYOUTS, MOVING, PIECES, Program, check_model, expect, fail

DEMO = pathlib.Path("models/demo")
DEMO_TOKENS = 3 # an emulated device takes its second for the logits of one
DEMO_KNOWN = 36 # of the answer, in the prompt
DEMO_PIECE = 5  # rows of the prompt in a step


def tensors_of(folder):
    """{name: (type, shape, bytes)} of a checkpoint."""
    found = {}
    for file in sorted(folder.glob("model*.safetensors")):
        content = file.read_bytes()
        start = 8 + struct.unpack("<Q", content[:8])[0]
        for name, tensor in json.loads(content[8:start]).items():
            if name != "__metadata__":
                begin, end = tensor["data_offsets"]
                found[name] = tensor["dtype"], tensor["shape"], content[start + begin:start + end]
    return found


def write_tensors(file, tensors):
    """All of them in one file."""
    header, at = {}, 0
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at := at + len(content)]}
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(content for *_, content in tensors.values()))


def e4m3(code):
    """What a code stands for: a sign, four bits of exponent, three of the fraction."""
    exponent, fraction = code >> 3 & 15, code & 7
    size = (8 + fraction) * 2.0 ** (exponent - 10) if exponent else fraction * 2.0 ** -9
    return -size if code & 128 else size


def widened(tensors, layer):
    """The same numbers, but those of the experts of a layer as F32: a code times its scale has twelve bits."""
    names = [name for name in tensors if f".layers.{layer}." in name and ".experts." in name and name.endswith("_proj.weight")]
    for name in names:
        _, (rows, columns), codes = tensors[name]
        scales = [struct.unpack("<f", b"\0\0" + two)[0] for two, in struct.iter_unpack("2s", tensors.pop(name + "_scale")[2])]
        numbers = [e4m3(code) * scales[i // columns] for i, code in enumerate(codes)]
        tensors[name] = "F32", [rows, columns], struct.pack(f"<{rows * columns}f", *numbers)
    return tensors


def unequal(program):
    """Experts of layers in FP8, a scale for each output, beside those of a layer that take four times the bytes: they move, and
    the answer stays that of transformers."""
    with tempfile.TemporaryDirectory() as name:
        folder, golden = pathlib.Path(name), GOLDEN / "llama4_fp8_experts"
        for file in ("config.json", "gold.json"):
            shutil.copy(golden / file, folder)
        write_tensors(folder / "model.safetensors", widened(tensors_of(golden), 3))
        for layouts, more in ((LAYOUTS[::2], (PIECES,)), (LAYOUTS[1:2], ("--enable-dbo",) if program.exchange == "nccl" else ())):
            check_model(program, folder, *MOVING, *more, "--stats", folder / "stats", layouts=layouts)
            told = json.loads((folder / "stats").read_text())["balancer"]
            expect(f"{told['moves']} experts of layers that differ in their size have moved, {told['bytes']} bytes", told["moves"] > 0 and
                   told["dropped"] == 0, told)


def demo(program):
    """The demo model answers as the reference backend and transformers do, and with the same bytes on one device and on several, where
    experts move. Of its gold answers the one whose tokens are furthest from a tie, which keys and values of 16 bits could decide otherwise; the
    first of them stand in the prompt, which comes in pieces, so that there are steps enough for moves, whose rows cost little."""
    gold = max(json.loads((DEMO / "gold.json").read_text())["greedy"], key=lambda answer: answer["smallest_gap"])
    prompt, wanted = gold["ids"] + gold["tokens"][:DEMO_KNOWN], gold["tokens"][DEMO_KNOWN:DEMO_KNOWN + DEMO_TOKENS]
    lines = [{"id": 0, "prompt_token_ids": prompt, "max_tokens": DEMO_TOKENS, "temperature": 0, "logprobs": 2}]
    if program.reference(DEMO, lines) != [wanted]:
        fail(f"the demo model by the reference backend: {program.reference(DEMO, lines)}, transformers has {wanted}")
    pieces = ("--max-num-batched-tokens", DEMO_PIECE, *MOVING)
    with tempfile.TemporaryDirectory() as folder:
        stats, first = pathlib.Path(folder) / "stats", None
        for (ranks, layout), order in zip(LAYOUTS, ("random", "lazy", "eager")):
            out = program.answers(ranks, DEMO, lines, "--exact", "--stats", stats, *layout, *(pieces if first else ()), order=order, seed=ranks)
            told, first = json.loads(stats.read_text()).get("balancer"), first or out
            if out != first or json.loads(out)["token_ids"] != wanted:
                fail(f"the demo model on {ranks} devices {layout}: {out}, on one {first}, transformers has {wanted}")
            if told and (told["moves"] == 0 or told["dropped"] > 0):
                fail(f"the demo model on {ranks} devices {layout}: experts were to move, {told}")
            print(f"  equal: the demo model on {ranks} devices {layout}, streams {order}, {told['moves'] if told else 'no'} experts moved", flush=True)


CASES = {case.__name__: case for case in (demo, unequal)}

if __name__ == "__main__":
    if len(sys.argv) != 5 or sys.argv[4] not in CASES:
        fail(f"usage: whole_models.py PROGRAM MPIEXEC MODULE {'|'.join(CASES)}")
    CASES[sys.argv[4]](Program(*sys.argv[1:4]))
