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

# For what rewrites text: forms of one letter, marks out of order, Korean in parts, ligatures, and the blank's stand-in.
FORMS = ["\u00e9 e\u0301 e\u0323\u0307 e\u0307\u0323", "\u1100\u1161\u11a8 \uac01 \uac00\u11a8", "\ufb01 \u212b \u2126 \u00bd",
         "\u0958 \u0915\u093c", "\u0f73\u0f71", "\u0b47\u0b56x\u09c7\u09be", "\u0301\u0301", "\u1e9b\u0323", "\ufdfa",
         "\u2581", "\u2581the \u2581 the", " \u2581", "a\u2581\u2581b  c", "<0x41>", "caf\u00e9\u2603\U0001F600",
         "zzz\u2603\u2603z\u2603", "<A> the<N> the<A>the", "<N>the", "the<N>", "\u2603\u3042\u2603"]

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
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")
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


# Tokens spelled in characters, as SentencePiece does: a blank is U+2581, unknown characters are bytes.
LETTERS = ["\u2581", *"abcdefghijklmnopqrstuvwx.,!<>/\n", "\u00e9", "e\u0301"[1], "\u4e2d", "\u3042"]
LETTER_MERGES = ["\u2581 t", "h e", "i n", "\u2581t he", "in g", "t h", "th ing", "\u2581 \u2581", "in n", "\u2581 in", "t he",
                 "\u2581 a", "\u2581\u2581 \u2581\u2581", "\u2581t h", "< unk", "u n", "un k"]
BAR = "\u2581"
LEGACY = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": BAR},
                                              {"type": "Replace", "pattern": {"String": " "}, "content": BAR}]}
SPELLED = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": BAR}, "content": " "},
                                            {"type": "ByteFallback"}, {"type": "Fuse"},
                                            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
UNSTRIPPED = {"type": "Sequence", "decoders": SPELLED["decoders"][:3]}


def metaspace(scheme, cut):
    return {"type": "Metaspace", "replacement": BAR, "prepend_scheme": scheme, "split": cut}


def form(*types):
    return {"type": "Sequence", "normalizers": [{"type": t} for t in types]}


REWRITTEN = {
    "composed": {"normalizer": {"type": "NFC"}, "pre_tokenizer": sequence(split(O200K), BYTES)},
    "decomposed": {"normalizer": {"type": "NFD"}, "pre_tokenizer": BYTES},
    "compatible composed": {"normalizer": {"type": "NFKC"}, "pre_tokenizer": BYTES},
    "compatible decomposed": {"normalizer": {"type": "NFKD"}, "pre_tokenizer": BYTES},
    "forms in a sequence": {"normalizer": form("NFD", "NFC"), "pre_tokenizer": {**GPT2, "add_prefix_space": True}},
    "characters behind Prepend and Replace": {"letters": True, "normalizer": LEGACY, "decoder": SPELLED},
    "characters with ids of the ends": {"letters": True, "normalizer": LEGACY, "decoder": SPELLED,
                                        "post_processor": template("<A>", "A", "<AA>")},
    "characters behind Metaspace, first": {"letters": True, "pre_tokenizer": metaspace("first", False), "decoder": SPELLED},
    "characters behind Metaspace, always": {"letters": True, "pre_tokenizer": metaspace("always", False),
                                            "decoder": SPELLED},
    "characters behind Metaspace, never": {"letters": True, "pre_tokenizer": metaspace("never", False),
                                           "decoder": UNSTRIPPED},
    "Metaspace that splits": {"letters": True, "pre_tokenizer": metaspace("always", True), "decoder": SPELLED},
    "Metaspace of older files": {"letters": True, "decoder": SPELLED, "pre_tokenizer": {
        "type": "Metaspace", "replacement": BAR, "add_prefix_space": True}},
    "Metaspace behind NFKC": {"letters": True, "normalizer": {"type": "NFKC"}, "decoder": SPELLED,
                              "pre_tokenizer": metaspace("first", True)},
    "unknown characters are one token": {"letters": True, "normalizer": LEGACY, "decoder": SPELLED, "bytes": 0},
    "each unknown character is a token": {"letters": True, "normalizer": LEGACY, "decoder": SPELLED, "bytes": 0,
                                          "fuse_unk": False},
    "tokens of bytes that nobody asks for": {"letters": True, "normalizer": LEGACY, "decoder": SPELLED,
                                             "byte_fallback": False},
    "some bytes have no token": {"letters": True, "normalizer": LEGACY, "decoder": SPELLED, "bytes": 0xE4},
    "characters, whole words first": {"letters": True, "normalizer": LEGACY, "decoder": SPELLED, "ignore_merges": True,
                                      "pre_tokenizer": split("[^\u2581]+"), "extra": ["inin", "hello", "thethethethe"]},
    "one isolated split, as Qwen3": {"pre_tokenizer": sequence(split(QWEN2), BYTES), "normalizer": {"type": "NFC"}},
    "one isolated split, as Llama 3 and GLM": {"pre_tokenizer": sequence(split(QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")),
                                                                        BYTES), "ignore_merges": True},
    "matches joined with the next": {"pre_tokenizer": sequence(split("in", "MergedWithNext"), BYTES)},
}


def build(variant):
    names = [t["content"] for t in ADDED]
    letters = variant.get("letters", False)
    pairs = LETTER_MERGES if letters else MERGES
    first = ["<unk>", *[f"<0x{b:02X}>" for b in range(variant.get("bytes", 256))], *LETTERS] if letters else alphabet()
    pairs = [m for m in pairs if m.split(" ")[0] in first or not m.startswith("<0x")]
    words = first + [m.replace(" ", "") for m in pairs] + variant.get("extra", [])
    vocab = {w: i + len(names) for i, w in enumerate(dict.fromkeys(words))}
    merges = pairs if variant.get("text_merges") else [m.split(" ") for m in pairs]
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": i, **t} for i, t in enumerate(ADDED)], "normalizer": variant.get("normalizer"),
            "pre_tokenizer": variant.get("pre_tokenizer"), "post_processor": variant.get("post_processor"),
            "decoder": variant.get("decoder", GPT2),
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>" if letters else None,
                      "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": letters and variant.get("fuse_unk", True), "byte_fallback": letters and variant.get("byte_fallback", True),
                      "ignore_merges": variant.get("ignore_merges", False),
                      "vocab": {**{n: i for i, n in enumerate(names)}, **vocab}, "merges": merges}}


def main():
    out = {"made_by": f"tokenizers {tokenizers.__version__}", "variants": []}
    for name, variant in {**VARIANTS, **REWRITTEN}.items():
        shape = build(variant)
        t = Tokenizer.from_str(json.dumps(shape))
        plain = Tokenizer.from_str(json.dumps({**shape, "added_tokens": []}))
        cases = []
        for x in TEXTS + (FORMS if name in REWRITTEN else []):
            ids = t.encode(x, add_special_tokens=False).ids
            cases.append({"text": x, "ids": ids, "with_special": t.encode(x).ids,
                          "literal": plain.encode(x, add_special_tokens=False).ids,
                          "decoded": t.decode(ids, skip_special_tokens=False), "shown": t.decode(ids)})
        out["variants"].append({"name": name, "tokenizer": shape, "cases": cases})
    json.dump(out, sys.stdout, ensure_ascii=True, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
