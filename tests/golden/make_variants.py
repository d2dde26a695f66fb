#!/usr/bin/env python3
# make_variants.py - gold values of Hugging Face transformers for settings that the other directories lack
#
# SPDX-License-Identifier: Apache-2.0
"""make_variants.py: writes olmoe_clip, mixtral_window, glm4moe_groups and qwen3vl_moe beside itself. Needs torch and transformers.

The first three are olmoe, mixtral and glm4moe with other keys in config.json; their weights are links to the others'. The
last is a text model inside a vision model, with random weights in the layout and under the names of released files."""

import json
import os
import pathlib
import shutil

import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent
PROMPT, GREEDY, VOCABULARY = 45, 24, 256


def logits_of(model, ids):
    """All logits of one sequence, without a cache."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def gold(model, where, seed):
    """gold.safetensors and gold.json: every logit of a random prompt in single precision, and what follows greedily."""
    model = model.eval().float()
    prompt = torch.randint(5, VOCABULARY, (PROMPT,), generator=torch.Generator().manual_seed(seed)).tolist()
    logits = logits_of(model, prompt)
    ids, gap = list(prompt), 1e9
    for _ in range(GREEDY):
        last = logits_of(model, ids)[-1]
        two = torch.topk(last, 2).values
        gap = min(gap, (two[0] - two[1]).item())
        ids.append(int(last.argmax()))
    rough = logits_of(model.bfloat16(), prompt)
    off = (rough - logits).abs()
    save_file({"prompt": torch.tensor(prompt), "greedy": torch.tensor(ids[PROMPT:]), "logits": logits.contiguous()},
              where / "gold.safetensors")
    (where / "gold.json").write_text(json.dumps({
        "made_by": f"transformers {transformers.__version__}, torch {torch.__version__}, eager attention, float32",
        "class": type(model).__name__, "prompt": prompt, "greedy": ids[PROMPT:], "argmax": logits.argmax(-1).tolist(),
        "smallest_gap_greedy": gap,
        "bfloat16_run": {"mean_abs_diff": off.mean().item(), "max_abs_diff": off.max().item(),
                         "argmax_equal": int((rough.argmax(-1) == logits.argmax(-1)).sum()), "of": PROMPT}}, indent=1))
    print(where.name, "gap", gap, "bfloat16", off.mean().item())


def fresh(name):
    """An empty directory."""
    where = HERE / name
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir()
    return where


def variant(name, base, changes, seed):
    """The weights of `base` under another configuration."""
    where = fresh(name)
    config = {**json.loads((HERE / base / "config.json").read_text()), **changes}
    (where / "config.json").write_text(json.dumps(config, indent=1))
    os.symlink(f"../{base}/model.safetensors", where / "model.safetensors")
    model = transformers.AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, attn_implementation="eager")
    plain = transformers.AutoModelForCausalLM.from_pretrained(HERE / base, dtype=torch.float32, attn_implementation="eager")
    gold(model, where, seed)
    found = load_file(where / "gold.safetensors")
    moved = (logits_of(plain.eval(), found["prompt"].tolist()) - found["logits"]).abs().amax(-1)
    print("  moves logits by up to", moved.max().item(), "from position", int((moved > 1e-3).nonzero()[0]))


def vision():
    """Qwen3-VL-MoE: names, fused experts and the rotation of released files; the vision part is there to be passed over."""
    where = fresh("qwen3vl_moe")
    text = {"model_type": "qwen3_vl_moe_text", "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96,
            "moe_intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 32, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "num_experts": 8, "num_experts_per_tok": 3,
            "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [1], "attention_bias": False,
            "max_position_embeddings": 4096, "hidden_act": "silu", "tie_word_embeddings": False,
            "rope_scaling": {"mrope_interleaved": True, "mrope_section": [8, 4, 4], "rope_type": "default"}}
    seen = {"model_type": "qwen3_vl_moe", "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2,
            "patch_size": 2, "temporal_patch_size": 1, "spatial_merge_size": 1, "out_hidden_size": 64,
            "num_position_embeddings": 4, "deepstack_visual_indexes": [0]}
    config = {"architectures": ["Qwen3VLMoeForConditionalGeneration"], "model_type": "qwen3_vl_moe", "text_config": text,
              "vision_config": seen, "image_token_id": 0, "video_token_id": 1, "vision_start_token_id": 2,
              "vision_end_token_id": 3, "tie_word_embeddings": False}
    (where / "config.json").write_text(json.dumps(config, indent=1))
    made = transformers.Qwen3VLMoeForConditionalGeneration(transformers.AutoConfig.from_pretrained(where))
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, value in made.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            one = name.endswith("norm.weight") or "layernorm" in name
            value.copy_((1 + 0.1 * noise if one else noise * (1 if "embed_tokens" in name else 0.15)).bfloat16().float())
    made.bfloat16().save_pretrained(where / "saved")
    tensors = load_file(where / "saved" / "model.safetensors")
    shutil.rmtree(where / "saved")
    # Released files hold experts as [E, inputs, outputs]; transformers turns them when it reads.
    turned = {name: value.transpose(1, 2) if ".mlp.experts." in name else value for name, value in tensors.items()}
    save_file({name: value.contiguous() for name, value in turned.items()}, where / "model.safetensors",
              metadata={"format": "pt"})
    model = transformers.Qwen3VLMoeForConditionalGeneration.from_pretrained(where, dtype=torch.float32,
                                                                             attn_implementation="eager")
    gold(model, where, 12)


variant("olmoe_clip", "olmoe", {"clip_qkv": 0.5}, 21)
variant("mixtral_window", "mixtral", {"sliding_window": 8}, 22)
variant("glm4moe_groups", "glm4moe", {"n_group": 4, "topk_group": 3}, 23)
vision()
