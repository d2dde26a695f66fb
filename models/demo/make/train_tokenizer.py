#!/usr/bin/env python3
# train_tokenizer.py - train the demo model's tokenizer
#
# SPDX-License-Identifier: Apache-2.0
"""Train the demo model's tokenizer: byte-level BPE of 6,144 ids in the layout of Llama 4's tokenizer.json.

    train_tokenizer.py CORPUS_DIR OUT_DIR --kinds english,scripture,german,japanese,python,c

CORPUS_DIR holds KIND.train.txt and KIND.held.txt from corpus.py; OUT_DIR receives tokenizer.json.
"""
import argparse
import os

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCABULARY = 6144
KINDS = "english,scripture,german,japanese,python,c"

# Llama 4's splitting expression, alternative by alternative.
SPLIT = "|".join((
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    r"\s+",
))

BEGIN = "<|begin_of_text|>"
SPECIAL = [BEGIN, "<|end_of_text|>", "<|header_start|>", "<|header_end|>", "<|eom|>", "<|eot|>", "<|step|>",
           "<|finetune_right_pad|>"] + [f"<|reserved_{i}|>" for i in range(8)]


def documents(corpus, kind, part):
    """The documents of one kind; part is "train" or "held"."""
    with open(os.path.join(corpus, f"{kind}.{part}.txt"), encoding="utf-8") as file:
        return file.read().split("\x00")


def train(corpus, kinds):
    """A tokenizer trained on all kinds, special tokens last."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - len(SPECIAL), special_tokens=[], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator((d for kind in kinds for d in documents(corpus, kind, "train")), trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN}:1 $B:1",
                                      special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))])])
    return tokenizer


def main():
    """Read the command line, train, save, and print how many bytes a token holds in each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", metavar="CORPUS_DIR")
    parser.add_argument("out", metavar="OUT_DIR")
    parser.add_argument("--kinds", default=KINDS, metavar="NAME,...")
    options = parser.parse_args()
    kinds = options.kinds.split(",")

    tokenizer = train(options.corpus, kinds)
    os.makedirs(options.out, exist_ok=True)
    tokenizer.save(os.path.join(options.out, "tokenizer.json"))
    print(tokenizer.get_vocab_size(), "ids,", {name: tokenizer.token_to_id(name) for name in SPECIAL[:8]})
    for kind in kinds:
        document = documents(options.corpus, kind, "held")[0]
        ids = tokenizer.encode(document, add_special_tokens=False).ids
        print(kind, round(len(document.encode()) / len(ids), 3), "bytes a token")


if __name__ == "__main__":
    main()
