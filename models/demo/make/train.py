#!/usr/bin/env python3
# train.py - train the demo model on six kinds of text
#
# SPDX-License-Identifier: Apache-2.0
"""Train the demo model on six kinds of text, in plain PyTorch on a CPU: first AdamW, from nothing, then Muon, falling to
zero.

    train.py CORPUS_DIR TOKENIZER_JSON OUT_DIR --minutes 68 --batch 8 --lr 2.5e-3
    train.py CORPUS_DIR TOKENIZER_JSON OUT_DIR --minutes 48 --batch 10 --resume TRAIN_PT --muon 0.004 --lr 1.2e-3

CORPUS_DIR holds KIND.train.txt and KIND.held.txt, documents separated by NUL; OUT_DIR receives train.pt.
"""
import argparse
import math
import os
import random
import time

import torch
from torch import nn
from tokenizers import Tokenizer

from network import SEQUENCE, Model

KINDS = ("english", "scripture", "german", "japanese", "python", "c")
CHAT_SHARE = 0.15  # of the sequences
ENDS = ("\n\n", ". ", "。", ";\n", "}\n")  # where an answer may stop


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by Newton-Schulz steps (Jordan et al., 2024), for matrices and stacks of
    matrices."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.01, steps=4):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "steps": steps})

    @staticmethod
    def orthogonal(update, steps):
        """The update with all its singular values near one."""
        x = update.to(torch.bfloat16)
        flip = x.shape[-2] > x.shape[-1]
        x = x.mT if flip else x
        x = (x / (x.float().norm(dim=(-2, -1), keepdim=True).to(x.dtype) + 1e-7)).contiguous()
        for _ in range(steps):
            a = x @ x.mT
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
        return x.mT if flip else x

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                momentum = self.state[parameter].setdefault("m", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(momentum, group["momentum"])
                x = self.orthogonal(update, group["steps"]).to(parameter.dtype)
                rate = group["lr"] * 0.2 * max(parameter.shape[-2:]) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(x, alpha=-rate)


def chats(documents, tokenizer, rng):
    """Token ids of short exchanges: the user gives how a text begins, the assistant goes on and ends."""
    def encode(text):
        return tokenizer.encode(text, add_special_tokens=False).ids

    def header(role):
        return ([tokenizer.token_to_id("<|header_start|>")] + encode(role) + [tokenizer.token_to_id("<|header_end|>")]
                + encode("\n\n"))

    begin, end_of_turn = tokenizer.token_to_id("<|begin_of_text|>"), tokenizer.token_to_id("<|eot|>")
    user, assistant = header("user"), header("assistant")
    out = []
    for text in documents:
        ids = [begin]
        at = 0
        while at < len(text) - 80:
            if rng.random() < 0.4:
                out += ids if len(ids) > 1 else []
                ids = [begin]
            line = text.find("\n", at + 12)
            cut = line if 0 < line - at < 90 else text.find(" ", at + rng.randrange(14, 60))
            if cut < 0 or cut - at > 120:
                cut = at + 24
            end = at + rng.randrange(120, 500)
            stop = max(text.rfind(mark, cut + 20, end) for mark in ENDS)
            end = stop + 1 if stop > cut + 20 else end
            question, answer = text[at:cut].strip(), text[cut:end].strip()
            at = end
            if len(question) >= 4 and len(answer) >= 20:
                ids += user + encode(question) + [end_of_turn] + assistant + encode(answer) + [end_of_turn]
        if len(ids) > 1:
            out += ids
    return torch.tensor(out)


def load(corpus, tokenizer, part):
    """Kind -> token ids; the part "train" has "chat-KIND" as well."""
    begin, end_of_turn = tokenizer.token_to_id("<|begin_of_text|>"), tokenizer.token_to_id("<|eot|>")
    data = {}
    rng = random.Random(5)
    for name in sorted(os.listdir(corpus)):
        kind = name.split(".")[0]
        if not name.endswith(f".{part}.txt") or kind not in KINDS:
            continue
        with open(os.path.join(corpus, name), encoding="utf-8") as file:
            documents = file.read().split("\x00")
        ids = []
        for encoded in tokenizer.encode_batch(documents, add_special_tokens=False):
            ids += [begin] + encoded.ids + [end_of_turn]
        data[kind] = torch.tensor(ids)
        if part == "train":
            data["chat-" + kind] = chats(documents, tokenizer, rng)
    return data


def batch(data, count, rng):
    """[count, SEQUENCE + 1] token ids from random places of random kinds."""
    out = []
    for _ in range(count):
        kind = rng.choice(KINDS)
        chat = rng.random() < CHAT_SHARE and "chat-" + kind in data
        ids = data["chat-" + kind if chat else kind]
        at = rng.randrange(len(ids) - SEQUENCE - 1)
        out.append(ids[at:at + SEQUENCE + 1])
    return torch.stack(out)


def optimizers(model, options):
    """Muon for the matrices when asked for, AdamW for the rest, or AdamW for all."""
    wide, rest = [], []
    for name, parameter in model.named_parameters():
        inner = parameter.dim() >= 2 and "embed" not in name and "router" not in name
        (wide if inner else rest).append(parameter)
    if options.muon:
        return [Muon(wide, options.muon),
                torch.optim.AdamW(rest, lr=options.lr, betas=(0.9, 0.97), weight_decay=0.0, fused=True)]
    groups = [{"params": wide, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    return [torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.97), fused=True)]


def set_rates(optimizer_list, base, scale):
    """Every learning rate is its base times `scale`."""
    for optimizer, rates in zip(optimizer_list, base):
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate * scale


def report(model, options, loss, aux, step, elapsed):
    """One line: loss, speed, and how evenly the experts are used."""
    counts = [block.count for block in model.mixtures()]
    uneven = [round((count.max() / count.float().mean()).item(), 2) for count in counts]
    unused = [int((count == 0).sum()) for count in counts]
    print(f"{elapsed:7.0f}s step {step} loss {loss.item():.3f} aux {aux.item():.2f} "
          f"tok/s {step * options.batch * SEQUENCE / elapsed:.0f} max/mean {uneven} dead {unused}", flush=True)


def train(model, data, options, checkpoint):
    """Train for so many minutes; the checkpoint is written every 500 steps and at the end. Returns the steps."""
    rng = random.Random(1)
    optimizer_list = optimizers(model, options)
    base = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizer_list]
    start = time.time()
    step = 0
    while (elapsed := time.time() - start) < options.minutes * 60:
        part = elapsed / (options.minutes * 60)
        falling = 1 - part if options.resume else 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * part))
        set_rates(optimizer_list, base, min(1, (step + 1) / 100) * falling)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model.loss(batch(data, options.batch, rng))
        aux = sum(block.aux for block in model.mixtures())
        model.zero_grad(set_to_none=True)
        (loss + options.aux * aux).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizer_list:
            optimizer.step()
        step += 1
        if step % 50 == 0:
            report(model, options, loss, aux, step, time.time() - start)
        if step % 500 == 0:
            torch.save({"m": model.state_dict(), "step": step}, checkpoint)
    torch.save({"m": model.state_dict(), "step": step}, checkpoint)
    return step


@torch.no_grad()
def evaluate(model, data):
    """Kind -> nats a token of up to 16 held-out sequences."""
    model.eval()
    found = {}
    for kind, ids in data.items():
        count = min(16, (len(ids) - 1) // SEQUENCE)
        parts = (ids[i * SEQUENCE:i * SEQUENCE + SEQUENCE + 1][None] for i in range(count))
        found[kind] = sum(model.loss(part).item() for part in parts) / count
    return found


def main():
    """Read the command line, train, evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", metavar="CORPUS_DIR")
    parser.add_argument("tokenizer", metavar="TOKENIZER_JSON")
    parser.add_argument("out", metavar="OUT_DIR")
    parser.add_argument("--minutes", type=float, default=110)
    parser.add_argument("--batch", type=int, default=8, help="sequences a step")
    parser.add_argument("--lr", type=float, default=2.5e-3, help="AdamW's learning rate")
    parser.add_argument("--aux", type=float, default=0.003, help="weight of the balance loss")
    parser.add_argument("--resume", metavar="TRAIN_PT", help="start from these parameters, fall straight to zero")
    parser.add_argument("--muon", type=float, default=0, help="Muon's learning rate for the matrices; 0: AdamW for all")
    options = parser.parse_args()

    torch.manual_seed(1)
    torch.set_num_threads(2)
    tokenizer = Tokenizer.from_file(options.tokenizer)
    data, held = load(options.corpus, tokenizer, "train"), load(options.corpus, tokenizer, "held")
    print({kind: len(ids) for kind, ids in data.items()}, flush=True)
    model = Model()
    print(sum(parameter.numel() for parameter in model.parameters()) / 1e6, "M parameters", flush=True)
    if options.resume:
        model.load_state_dict(torch.load(options.resume)["m"])
    os.makedirs(options.out, exist_ok=True)
    steps = train(model, data, options, os.path.join(options.out, "train.pt"))
    print("held-out nats/token", {kind: round(value, 3) for kind, value in evaluate(model, held).items()},
          "steps", steps)


if __name__ == "__main__":
    main()
