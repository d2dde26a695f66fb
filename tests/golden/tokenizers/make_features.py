#!/usr/bin/env python3
# make_features.py - one small tokenizer in many shapes, and the ids that Hugging Face tokenizers gives
#
# SPDX-License-Identifier: Apache-2.0
#
#     pip install tokenizers==0.23.3
#     make_features.py > features.json
import json
import sys

import tokenizers
from tokenizers import Tokenizer

TEXTS = [
    "", " ", "  ", "\n", "the thing", " the thing in the inn", "thing  in\n\n the\tinn ", "I'll don't we've",
    "a1b22c333 4444", "x<A>y", "x <A> y", "x  <B>\n y", "<A><B><A>", "<AA><AAA>", "in<W>inn", "in <W> inn",
    "<W>", "_<W>", "\u00e9<W>", "\u3042<W>\u3042", "-<W>-", "1<W>", "\u0301<W>", "<N>the<N> the", "<A", "<<A>>",
    "na\u00efve \u00c0\u00c9 \u4e2d\u6587\u5b57", "\U0001F600\u200d\U0001F680", "\u3000<B>\u3000x\u00a0<B>\u00a0",
    "\u180ethe\u180e", "e\u0301 the\u0301", "in.in.in", "..in..", "THE THING", "\u0000the\u0000", "thethethethe",
    "x<B><B>  <B> y", "<A> <B>", "<B> <A>", "<R>  <R>in", " <L> <L>", "ininininginginginn",
    "<W>inn", "in <W>inn", "in <W>1", "<A>the<A>th<A>t", "<A><A>the",
]

MERGES = ["Ġ t", "h e", "i n", "Ġt he", "in g", "t h", "th ing", "Ġt h", "Ġth ing", "in n", "Ġ in", "Ġ Ġ", "n n", "T H",
          "th e", "e r", "ĠĠ ĠĠ", "Ġth e", "Ċ Ċ"]
GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BYTES = {**GPT2, "use_regex": False}


def alphabet():
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in keep]
    return [chr(b) for b in keep] + [chr(256 + i) for i in range(len(rest))]


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def added(content, **flags):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": True, **flags}


ADDED = [added("<A>"), added("<AA>"), added("<AAA>"), added("<B>", lstrip=True, rstrip=True), added("<R>", rstrip=True),
         added("<L>", lstrip=True), added("<W>", single_word=True), added("<N>", normalized=True, special=False),
         added("<A>the")]


def template(*items):
    piece = {"A": {"Sequence": {"id": "A", "type_id": 0}}}
    ids = {"<A>": 0, "<AA>": 1}
    return {"type": "TemplateProcessing",
            "single": [piece.get(i, {"SpecialToken": {"id": i, "type_id": 0}}) for i in items], "pair": [
                piece["A"], {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {i: {"id": i, "ids": [ids[i]], "tokens": [i]} for i in ids}}


O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
VARIANTS = {
    "byte level with its own expression": {"pre_tokenizer": GPT2},
    "byte level alone, the text is one piece": {"pre_tokenizer": BYTES},
    "prefix space": {"pre_tokenizer": {**GPT2, "add_prefix_space": True}},
    "prefix space without expression": {"pre_tokenizer": {**BYTES, "add_prefix_space": True}},
    "one isolated split": {"pre_tokenizer": sequence(split(O200K), BYTES)},
    "matches kept, gaps removed": {"pre_tokenizer": sequence(split(O200K, "Removed", True), BYTES)},
    "gaps kept, matches removed": {"pre_tokenizer": sequence(split("in", "Removed"), BYTES)},
    "literal split": {"pre_tokenizer": sequence(split(".", kind="String"), BYTES)},
    "literal split removed": {"pre_tokenizer": sequence(split("in", "Removed", kind="String"), BYTES)},
    "three splits": {"pre_tokenizer": sequence(split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"),
                                               split(r"\s+|[^\s]+"), BYTES)},
    "nested sequences": {"pre_tokenizer": sequence(sequence(split(r"\s"), sequence(split("h"))), GPT2)},
    "a pattern that matches nothing": {"pre_tokenizer": sequence(split("n*"), BYTES)},
    "line anchors": {"pre_tokenizer": sequence(split("^ ?t|n$"), BYTES)},
    "white space classes": {"pre_tokenizer": sequence(split(r"[\s]|[^\S]x|\S\s"), BYTES)},
    "merges as text": {"pre_tokenizer": GPT2, "text_merges": True},
    "ignore merges": {"pre_tokenizer": GPT2, "ignore_merges": True, "extra": ["Ġthinging", "inin", "ĠTHE"]},
    "words nobody merges": {"pre_tokenizer": GPT2, "extra": ["Ġthinging", "inin", "ĠTHE"]},
    "begin of text": {"pre_tokenizer": GPT2, "post_processor": template("<A>", "A")},
    "begin and end, in a sequence": {"pre_tokenizer": GPT2, "post_processor": {
        "type": "Sequence", "processors": [GPT2, template("<AA>", "<A>", "A", "<AA>")]}},
}


def build(variant):
    names = [t["content"] for t in ADDED]
    words = alphabet() + [m.replace(" ", "") for m in MERGES] + variant.get("extra", [])
    vocab = {w: i + len(names) for i, w in enumerate(dict.fromkeys(words))}
    merges = MERGES if variant.get("text_merges") else [m.split(" ") for m in MERGES]
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": i, **t} for i, t in enumerate(ADDED)], "normalizer": None,
            "pre_tokenizer": variant["pre_tokenizer"], "post_processor": variant.get("post_processor"), "decoder": GPT2,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "ignore_merges": variant.get("ignore_merges", False),
                      "vocab": {**{n: i for i, n in enumerate(names)}, **vocab}, "merges": merges}}


def main():
    out = {"made_by": f"tokenizers {tokenizers.__version__}", "variants": []}
    for name, variant in VARIANTS.items():
        shape = build(variant)
        t = Tokenizer.from_str(json.dumps(shape))
        cases = [{"text": x, "ids": t.encode(x, add_special_tokens=False).ids, "with_special": t.encode(x).ids}
                 for x in TEXTS]
        t.encode_special_tokens = True
        for case in cases:
            case["literal"] = t.encode(case["text"], add_special_tokens=False).ids
        out["variants"].append({"name": name, "tokenizer": shape, "cases": cases})
    json.dump(out, sys.stdout, ensure_ascii=True, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
