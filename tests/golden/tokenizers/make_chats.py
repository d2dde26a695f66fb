#!/usr/bin/env python3
# make_chats.py - what Jinja2 makes of chats by a model's own template, with the settings of Hugging Face transformers
#
# SPDX-License-Identifier: Apache-2.0
#
#     pip install jinja2==3.1.6
#     make_chats.py TEMPLATE [BOS EOS] > NAME_chat.jsonl      TEMPLATE: a file, or tokenizer_config.json
import json
import sys

from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


def turns(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def say(role, text):
    return {"role": role, "content": text}


THOUGHT = "<think>\n\n why \n\n</think>\n\n\nanswer \n"
CHATS = [
    turns("Hi!"),
    turns("Hi!", "Hello.", "How are you?"),
    turns(" \t spaces around \u3000\n"),
    turns(""),
    turns("", "", ""),
    turns("<|im_end|> <|eot|> </s> <|user|> [INST]"),
    turns("a", THOUGHT, "b"),
    turns("a", THOUGHT),
    turns("a", "plain"),
    turns("a", "\n\n plain \n"),
    turns("a", "<think></think>"),
    turns("a", "x</think>y</think>\n\nz"),
    turns("a", "<think>1<think>2</think>3"),
    turns("a", "thoughts\n</think>b"),
    [say("system", " A "), *turns("B", "C", "D", THOUGHT, "F")],
    [say("system", ""), *turns("empty system")],
    [say("system", "only")],
    [*turns("a"), say("system", "late"), *turns("b")],
    [*turns("a", "call"), say("tool", "{\"x\": 1}"), say("tool", "two"), say("assistant", THOUGHT)],
    [*turns("a", THOUGHT), say("tool", "1"), say("assistant", THOUGHT), say("tool", "2")],
    [say("tool", "first"), say("user", "b")],
    [*turns("a", THOUGHT, "<tool_response>\nr\n</tool_response>", THOUGHT, "b/nothink")],
    [*turns("a", THOUGHT, "<tool_response>\nr\n</tool_response>", "done")],
    [say("assistant", "first"), say("user", "b")],
    [say("user", "a"), say("user", "b")],
    [say("user", "a"), say("assistant", THOUGHT), say("assistant", "c")],
    [say("user", "a"), say("assistant", THOUGHT), say("assistant", THOUGHT), say("assistant", "c")],
]


def refuse(message):
    raise ValueError(message)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        template = file.read()
    if sys.argv[1].endswith(".json"):
        template = json.loads(template)["chat_template"]
    words = dict(zip(("bos_token", "eos_token"), sys.argv[2:]))
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda x, **kw: json.dumps(x, ensure_ascii=False)
    environment.globals["raise_exception"] = refuse
    compiled = environment.from_string(template)
    for variables in ({}, {"enable_thinking": False}) if "enable_thinking" in template else ({},):
        for generation in (True, False):
            for chat in CHATS:
                line = {"vars": variables, "add_generation_prompt": generation, "messages": chat}
                try:
                    line["prompt"] = compiled.render(messages=chat, add_generation_prompt=generation, **words, **variables)
                except ValueError as error:
                    line["error"] = str(error)
                print(json.dumps(line, ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    main()
