# checkpoints.py - model directories for tests: the headers of a large model over files with holes, or random weights
#
# SPDX-License-Identifier: Apache-2.0
"""Llama 4 directories of any size, in bfloat16 or with FP8 experts as Maverick-FP8 has them. Files of weights are as long as their headers say; without a source of bytes they are
holes, which take no room on the disk."""

import json
import os
import struct

# The sizes of Llama 4 Maverick: 128 experts in every other layer.
MAVERICK = {"vocab_size": 202048, "hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
            "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
            "num_local_experts": 128, "num_experts_per_tok": 1, "interleave_moe_layer_step": 2,
            "max_position_embeddings": 1048576}

# 338 MiB in bfloat16, two rows of it for each token of one byte.
MIDDLE = {**MAVERICK, "vocab_size": 256, "hidden_size": 768, "intermediate_size": 1536, "intermediate_size_mlp": 3072,
          "num_hidden_layers": 4, "num_attention_heads": 12, "num_key_value_heads": 4, "head_dim": 64,
          "num_local_experts": 16, "max_position_embeddings": 4096}


QUANTIZED = {"quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed",
             "kv_cache_scheme": None,
             "ignore": ["lm_head", "re:.*router", "re:.*self_attn", "re:.*shared_expert",
                        "re:.*feed_forward.(gate|up|down)_proj"],
             "config_groups": {"group_0": {
                 "targets": ["Linear"],
                 "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False},
                 "input_activations": {"num_bits": 8, "type": "float", "strategy": "token", "symmetric": True,
                                       "dynamic": True}}}}


def config_of(sizes, fp8):
    """config.json of a Llama 4 of these sizes."""
    text = {"model_type": "llama4_text", "hidden_act": "silu", "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
            "no_rope_layers": [], "attention_chunk_size": 8192, "use_qk_norm": False, "attn_temperature_tuning": True,
            "floor_scale": 8192, "attn_scale": 0.1, "attention_bias": False, "tie_word_embeddings": False,
            "bos_token_id": 1, "eos_token_id": 2, **sizes}
    config = {"architectures": ["Llama4ForConditionalGeneration"], "model_type": "llama4", "tie_word_embeddings": False,
              "text_config": text}
    if fp8:
        config["quantization_config"] = QUANTIZED
    return config


def tensors_of(sizes, fp8):
    """(name, shape, format) of every tensor, in the order of the layers."""
    for name, shape in names_of(sizes, fp8):
        routed = fp8 and ".experts." in name and name.endswith(".weight")
        yield name, shape, "F8_E4M3" if routed else "BF16"


def names_of(sizes, fp8):
    """(name, shape)"""
    wide, head = sizes["hidden_size"], sizes["head_dim"]
    queries, keys = sizes["num_attention_heads"] * head, sizes["num_key_value_heads"] * head
    dense, routed, experts = sizes["intermediate_size_mlp"], sizes["intermediate_size"], sizes["num_local_experts"]
    root = "language_model."
    yield root + "model.embed_tokens.weight", (sizes["vocab_size"], wide)
    for layer in range(sizes["num_hidden_layers"]):
        name = f"{root}model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{name}{norm}.weight", (wide,)
        for part, rows, columns in (("q", queries, wide), ("k", keys, wide), ("v", keys, wide), ("o", wide, queries)):
            yield f"{name}self_attn.{part}_proj.weight", (rows, columns)
        feed = name + "feed_forward."
        if layer % sizes["interleave_moe_layer_step"] == 0:
            yield from block(feed, dense, wide)
            continue
        yield feed + "router.weight", (experts, wide)
        if fp8:
            for expert in range(experts):
                for name_, shape in block(f"{feed}experts.{expert}.", routed, wide):
                    yield name_, shape
                    yield name_ + "_scale", (shape[0], 1)
        else:
            yield feed + "experts.gate_up_proj", (experts, wide, 2 * routed)
            yield feed + "experts.down_proj", (experts, routed, wide)
        yield from block(feed + "shared_expert.", routed, wide)
    yield root + "model.norm.weight", (wide,)
    yield root + "lm_head.weight", (sizes["vocab_size"], wide)


def block(name, inner, wide):
    """Gate, up and down."""
    for part, shape in (("gate", (inner, wide)), ("up", (inner, wide)), ("down", (wide, inner))):
        yield f"{name}{part}_proj.weight", shape


def size_of(shape, dtype):
    """Bytes of a tensor."""
    bytes_ = 1 if dtype == "F8_E4M3" else 2
    for n in shape:
        bytes_ *= n
    return bytes_


def write_shard(path, tensors, noise):
    """One file; `noise` are bytes that are repeated over its data, None leaves a hole."""
    header, at = {}, 0
    for name, shape, dtype in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size_of(shape, dtype)]}
        at += size_of(shape, dtype)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        left = at if noise else 0
        while left > 0:
            left -= file.write(noise[:left])
        file.truncate(8 + len(text) + at)
    return at


def write_model(folder, sizes, shards=1, noise=None, fp8=False):
    """A directory of `shards` files; returns the bytes of all tensors."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config_of(sizes, fp8), file)
    tensors = list(tensors_of(sizes, fp8))
    places, total = {}, 0
    for shard in range(shards):
        name = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors" if shards > 1 else "model.safetensors"
        mine = tensors[shard * len(tensors) // shards:(shard + 1) * len(tensors) // shards]
        total += write_shard(os.path.join(folder, name), mine, noise)
        places.update({tensor[0]: name for tensor in mine})
    if shards > 1:
        with open(os.path.join(folder, "model.safetensors.index.json"), "w", encoding="utf-8") as file:
            json.dump({"metadata": {"total_size": total}, "weight_map": places}, file)
    return total
