#!/usr/bin/env python3
# export.py - write the trained demo model as a Hugging Face directory
#
# SPDX-License-Identifier: Apache-2.0
"""Write the trained demo model as a Hugging Face directory: bfloat16 safetensors, configuration, tokenizer.

    export.py TRAIN_PT TOKENIZER_JSON OUT_DIR
"""
import argparse
import json
import os
import shutil

import torch
from safetensors.torch import save_file

BEGIN, END_OF_TEXT, END_OF_TURN, PAD = 6128, 6129, 6133, 6135

CONFIG = {
    "architectures": ["Llama4ForCausalLM"],
    "model_type": "llama4_text",
    "dtype": "bfloat16",
    "vocab_size": 6144,
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "intermediate_size": 96,
    "intermediate_size_mlp": 768,
    "num_local_experts": 64,
    "num_experts_per_tok": 1,
    "interleave_moe_layer_step": 2,
    "no_rope_layers": [1, 1, 1, 0, 1, 1],
    "attention_chunk_size": 256,
    "attn_temperature_tuning": True,
    "floor_scale": 256,
    "attn_scale": 0.1,
    "use_qk_norm": True,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "rms_norm_eps": 1e-05,
    "hidden_act": "silu",
    "attention_bias": False,
    "tie_word_embeddings": True,
    "max_position_embeddings": 4096,
    "bos_token_id": BEGIN,
    "eos_token_id": [END_OF_TEXT, END_OF_TURN],
    "pad_token_id": PAD,
}

GENERATION = {
    "bos_token_id": BEGIN,
    "eos_token_id": [END_OF_TEXT, END_OF_TURN],
    "pad_token_id": PAD,
    "do_sample": True,
    "temperature": 0.6,
    "top_p": 0.9,
}

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|header_start|>{{ message['role'] }}<|header_end|>\n\n"
    "{{ message['content'] | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|header_start|>assistant<|header_end|>\n\n{% endif %}")

TOKENIZER = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<|begin_of_text|>",
    "eos_token": "<|eot|>",
    "pad_token": "<|finetune_right_pad|>",
    "clean_up_tokenization_spaces": False,
    "model_max_length": 4096,
    "chat_template": CHAT_TEMPLATE,
}


def main():
    """Read the command line, write the directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", metavar="TRAIN_PT")
    parser.add_argument("tokenizer", metavar="TOKENIZER_JSON")
    parser.add_argument("out", metavar="OUT_DIR")
    options = parser.parse_args()

    os.makedirs(options.out, exist_ok=True)
    state = torch.load(options.trained, map_location="cpu")["m"]
    tensors = {"model." + name: value.to(torch.bfloat16).contiguous() for name, value in state.items()}
    save_file(tensors, os.path.join(options.out, "model.safetensors"), metadata={"format": "pt"})
    for name, value in (("config.json", CONFIG), ("generation_config.json", GENERATION),
                        ("tokenizer_config.json", TOKENIZER)):
        with open(os.path.join(options.out, name), "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, ensure_ascii=False)
            file.write("\n")
    shutil.copyfile(options.tokenizer, os.path.join(options.out, "tokenizer.json"))
    print(sum(tensor.numel() for tensor in tensors.values()), "parameters,", len(tensors), "tensors")


if __name__ == "__main__":
    main()
