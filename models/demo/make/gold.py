#!/usr/bin/env python3
# gold.py - what Hugging Face transformers computes for the demo model
#
# SPDX-License-Identifier: Apache-2.0
"""Gold values of the demo model, by Hugging Face transformers in float32 with eager attention: perplexities, greedy
texts and chats, logits, tokenizer ids.

    gold.py MODEL_DIR EVAL_DIR PROMPTS_JSON OUT_JSON
"""
import argparse
import json
import os

import tokenizers
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

NEW_TOKENS = 64
STOPS = (6129, 6133)
MADE_BY = (f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}, torch {torch.__version__}: "
           "eager attention, float32, weights as stored (bfloat16 widened)")
DEFINITION = ("each file is one sequence: begin-of-text, then its tokens; every token but the first is predicted from all "
              "before it; natural logarithms; per_byte = sum / bytes of the file")


def load(directory, dtype):
    """The model with its weights in `dtype`."""
    return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="eager").eval()


def logits(model, ids):
    """[tokens, vocabulary] for one sequence."""
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0].float()


def nats(rows, ids):
    """Sum over all tokens but the first of minus the logarithm of their probability."""
    return torch.nn.functional.cross_entropy(rows[:-1].double(), torch.tensor(ids[1:]), reduction="sum").item()


def greedy(model, ids):
    """NEW_TOKENS tokens, and the smallest distance between the two best logits on the way."""
    ids = list(ids)
    new = []
    gap = float("inf")
    for _ in range(NEW_TOKENS):
        best = torch.topk(logits(model, ids)[-1], 2)
        gap = min(gap, (best.values[0] - best.values[1]).item())
        new.append(best.indices[0].item())
        ids.append(new[-1])
    return new, gap


def decode(tokenizer, ids):
    """Text without special tokens."""
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def perplexity(model, narrow, tokenizer, directory):
    """Per evaluation text: size, nats a token and a byte, and how far the bfloat16 run is from that."""
    files = {}
    for name in sorted(os.listdir(directory)):
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            text = file.read()
        ids = tokenizer(text).input_ids
        rows, low = logits(model, ids), logits(narrow, ids)
        total = nats(rows, ids)
        files[name.rsplit(".", 1)[0]] = {
            "tokens": len(ids) - 1,
            "bytes": len(text.encode()),
            "nats_per_token": total / (len(ids) - 1),
            "nats_per_byte": total / len(text.encode()),
            "bfloat16_nats_per_token": nats(low, ids) / (len(ids) - 1),
            "bfloat16_mean_abs_logit_difference": (low - rows).abs().mean().item(),
        }
    return {"definition": DEFINITION, "files": files}


def continuation(model, tokenizer, prompt):
    """The greedy text after a prompt."""
    ids = tokenizer(prompt).input_ids
    new, gap = greedy(model, ids)
    return {"prompt": prompt, "ids": ids, "tokens": new, "text": decode(tokenizer, new), "smallest_gap": gap}


def chat(model, tokenizer, content):
    """The greedy answer to one user message."""
    messages = [{"role": "user", "content": content}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    new, gap = greedy(model, ids)
    stop = next((i for i, token in enumerate(new) if token in STOPS), len(new))
    return {"messages": messages, "prompt": prompt, "ids": ids, "tokens": new, "tokens_to_stop": stop,
            "text": decode(tokenizer, new[:stop]), "smallest_gap": gap}


def last_logits(model, tokenizer, prompt):
    """The eight largest logits after a prompt, and the logarithm of the sum of all exponentials."""
    row = logits(model, tokenizer(prompt).input_ids)[-1]
    top = torch.topk(row, 8)
    return {"prompt": prompt,
            "top8": [[i, round(v, 6)] for v, i in zip(top.values.tolist(), top.indices.tolist())],
            "logsumexp": torch.logsumexp(row.double(), -1).item()}


def report(gold):
    """A line for each text, for the person who runs this."""
    for name, file in gold["perplexity"]["files"].items():
        print(name, file["tokens"], "tokens", round(file["nats_per_token"], 4), "nats/token",
              round(file["nats_per_byte"], 4), "nats/byte; bfloat16", round(file["bfloat16_nats_per_token"], 4),
              round(file["bfloat16_mean_abs_logit_difference"], 4))
    for entry in gold["greedy"] + gold["chat"]:
        print(round(entry["smallest_gap"], 5), repr(entry["prompt"])[-60:], "->", repr(entry["text"])[:150])


def main():
    """Read the command line, compute, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL_DIR")
    parser.add_argument("eval", metavar="EVAL_DIR")
    parser.add_argument("prompts", metavar="PROMPTS_JSON")
    parser.add_argument("out", metavar="OUT_JSON")
    options = parser.parse_args()

    torch.set_num_threads(2)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model, narrow = load(options.model, torch.float32), load(options.model, torch.bfloat16)
    with open(options.prompts, encoding="utf-8") as file:
        wanted = json.load(file)
    gold = {
        "made_by": MADE_BY,
        "perplexity": perplexity(model, narrow, tokenizer, options.eval),
        "greedy": [continuation(model, tokenizer, prompt) for prompt in wanted["prompts"]],
        "chat": [chat(model, tokenizer, content) for content in wanted["chats"]],
        "last_logits": [last_logits(model, tokenizer, prompt) for prompt in wanted["prompts"]],
        "tokenizer": [{"text": text, "ids": tokenizer(text, add_special_tokens=False).input_ids}
                      for text in wanted["strings"]],
    }
    with open(options.out, "w", encoding="utf-8") as file:
        json.dump(gold, file, indent=1, ensure_ascii=False)
        file.write("\n")
    report(gold)


if __name__ == "__main__":
    main()
