# network.py - the demo model in PyTorch, as train.py trains it
#
# SPDX-License-Identifier: Apache-2.0
"""A small Llama 4 text model: dense and MoE layers in turn, the best one of 64 experts beside a shared expert, a layer
without rotary embedding but with temperature tuning, chunked attention, weightless norm of queries and keys. Parameters
have the names of the Hugging Face layout without "model.". Shapes: B sequences, T tokens, D model width, H heads,
K key-value heads, W head width, E experts, F expert width.
"""
import torch
import torch.nn.functional as F
from torch import nn

CONFIG = {
    "vocab_size": 6144, "hidden_size": 256, "intermediate_size": 96, "intermediate_size_mlp": 768,
    "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 32,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "num_local_experts": 64, "num_experts_per_tok": 1,
    "interleave_moe_layer_step": 2, "no_rope_layer_interval": 4, "attention_chunk_size": 256,
    "floor_scale": 256, "attn_scale": 0.1,
}
SEQUENCE = 512  # tokens of a training sequence
HEAD_ROWS = 256  # rows of logits at a time: few enough to stay in cache


def rms_norm(x):
    """x / sqrt(mean(x^2) + epsilon), the mean in float32."""
    return x * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + CONFIG["rms_norm_eps"]).to(x.dtype)


def linear(inputs, outputs):
    """A matrix without bias."""
    return nn.Linear(inputs, outputs, bias=False)


def turn(x, cosine, sine):
    """Rotary embedding of interleaved pairs."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), -1).flatten(-2)


class Norm(nn.Module):
    """RMS norm with a learned gain."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return rms_norm(x) * self.weight


class Attention(nn.Module):
    """Chunked attention with rotary embedding, or full attention with temperature tuning on every fourth layer."""

    def __init__(self, layer):
        super().__init__()
        width, head = CONFIG["hidden_size"], CONFIG["head_dim"]
        heads, kv_heads = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"]
        self.q_proj = linear(width, heads * head)
        self.k_proj = linear(width, kv_heads * head)
        self.v_proj = linear(width, kv_heads * head)
        self.o_proj = linear(heads * head, width)
        self.rope = (layer + 1) % CONFIG["no_rope_layer_interval"] != 0

    def place(self, q, k, angles):
        """Tell queries and keys where they stand."""
        if self.rope:
            return rms_norm(turn(q, *angles)), rms_norm(turn(k, *angles))
        position = torch.arange(q.shape[1], dtype=torch.float32)
        scale = torch.log1p(torch.floor((position + 1) / CONFIG["floor_scale"])) * CONFIG["attn_scale"] + 1
        return q * scale.view(1, -1, 1, 1).to(q.dtype), k

    def attend(self, q, k, v, masks):
        """[B, H, T, W] of each; chunk by chunk where the chunks are whole, else under a mask. Result [B, T, H, W]."""
        B, H, T, W = q.shape
        chunk = CONFIG["attention_chunk_size"] if self.rope else T
        if T % chunk:
            mask = masks[0 if self.rope else 1][:T, :T]
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
        q, k, v = (x.reshape(B, H, T // chunk, chunk, W).transpose(1, 2).reshape(B * T // chunk, H, chunk, W)
                   for x in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return out.view(B, T // chunk, H, chunk, W).transpose(2, 3)

    def forward(self, x, angles, masks):
        B, T, _ = x.shape
        H, K, W = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"], CONFIG["head_dim"]
        q = self.q_proj(x).view(B, T, H, W)
        k = self.k_proj(x).view(B, T, K, W)
        v = self.v_proj(x).view(B, T, K, W)
        q, k = self.place(q, k, angles)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        k, v = (part.repeat_interleave(H // K, 1) for part in (k, v))
        return self.o_proj(self.attend(q, k, v, masks).reshape(B, T, H * W))


class Dense(nn.Module):
    """down(silu(gate x) * up x)"""

    def __init__(self, inner):
        super().__init__()
        width = CONFIG["hidden_size"]
        self.gate_proj, self.up_proj, self.down_proj = linear(width, inner), linear(width, inner), linear(inner, width)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Experts(nn.Module):
    """The matrices of all experts; Mixture multiplies them."""

    def __init__(self):
        super().__init__()
        E, D, inner = CONFIG["num_local_experts"], CONFIG["hidden_size"], CONFIG["intermediate_size"]
        self.gate_up_proj = nn.Parameter(torch.randn(E, D, 2 * inner) * D**-0.5)
        self.down_proj = nn.Parameter(torch.randn(E, inner, D) * inner**-0.5 * 0.5)


class Mixture(nn.Module):
    """The best expert of each token, on an input scaled by the sigmoid of its logit, plus the shared expert.

    After a forward pass `aux` is the balance loss and `count` the tokens of each expert.
    """

    def __init__(self):
        super().__init__()
        self.router = linear(CONFIG["hidden_size"], CONFIG["num_local_experts"])
        self.experts = Experts()
        self.shared_expert = Dense(CONFIG["intermediate_size"])
        self.aux = self.count = None

    def forward(self, x):
        B, T, D = x.shape
        E, inner = CONFIG["num_local_experts"], CONFIG["intermediate_size"]
        rows = x.reshape(-1, D)
        logits = self.router(rows).float()
        best, expert = logits.max(-1)
        scaled = rows * torch.sigmoid(best).to(rows.dtype).unsqueeze(-1)
        order = torch.argsort(expert, stable=True)
        count = torch.bincount(expert, minlength=E)
        gate_up = self.experts.gate_up_proj.to(rows.dtype).unbind(0)
        down = self.experts.down_proj.to(rows.dtype).unbind(0)
        parts = []
        for i, own in enumerate(torch.split(scaled[order], count.tolist())):
            if own.shape[0]:
                gate, up = (own @ gate_up[i]).split(inner, -1)
                parts.append((F.silu(gate) * up) @ down[i])
        out = torch.zeros_like(rows).index_copy(0, order, torch.cat(parts))
        chance = torch.softmax(logits, -1)
        share = count.float() / rows.shape[0]
        self.aux = E * (chance.mean(0) * share).sum() + 0.001 * torch.logsumexp(logits, -1).pow(2).mean()
        self.count = count
        return (out + self.shared_expert(rows)).view(B, T, D)


class Layer(nn.Module):
    """Attention, then a dense block or a mixture of experts, each on a normed copy and added to the stream."""

    def __init__(self, number):
        super().__init__()
        self.input_layernorm = Norm(CONFIG["hidden_size"])
        self.post_attention_layernorm = Norm(CONFIG["hidden_size"])
        self.self_attn = Attention(number)
        self.moe = (number + 1) % CONFIG["interleave_moe_layer_step"] == 0
        self.feed_forward = Mixture() if self.moe else Dense(CONFIG["intermediate_size_mlp"])

    def forward(self, x, angles, masks):
        x = x + self.self_attn(self.input_layernorm(x), angles, masks)
        return x + self.feed_forward(self.post_attention_layernorm(x))


class HeadLoss(torch.autograd.Function):
    """Mean cross-entropy of softmax(x W^T), HEAD_ROWS rows at a time; gradients are made on the way."""

    @staticmethod
    def forward(ctx, x, weight, wanted):
        rows = x.shape[0]
        narrow = weight.to(torch.bfloat16)
        x_gradient = torch.empty_like(x)
        weight_gradient = torch.zeros(weight.shape, dtype=torch.float32)
        loss = 0.0
        for at in range(0, rows, HEAD_ROWS):
            part, label = x[at:at + HEAD_ROWS].to(torch.bfloat16), wanted[at:at + HEAD_ROWS]
            logits = (part @ narrow.t()).float()
            number = torch.arange(len(label))
            total = torch.logsumexp(logits, -1, keepdim=True)
            loss += (total[:, 0] - logits[number, label]).sum().item()
            gradient = logits.sub_(total).exp_()
            gradient[number, label] -= 1
            gradient = (gradient / rows).to(torch.bfloat16)
            x_gradient[at:at + HEAD_ROWS] = (gradient @ narrow).to(x_gradient.dtype)
            weight_gradient += (gradient.t() @ part).float()
        ctx.save_for_backward(x_gradient, weight_gradient)
        return torch.tensor(loss / rows)

    @staticmethod
    def backward(ctx, *grad_outputs):
        x_gradient, weight_gradient = ctx.saved_tensors
        scale = grad_outputs[0]
        return scale.to(x_gradient.dtype) * x_gradient, scale * weight_gradient, None


class Model(nn.Module):
    """Embedding, layers, norm; the head is the embedding."""

    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(CONFIG["vocab_size"], CONFIG["hidden_size"])
        self.layers = nn.ModuleList(Layer(i) for i in range(CONFIG["num_hidden_layers"]))
        self.norm = Norm(CONFIG["hidden_size"])
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                damping = 0.5 if "o_proj" in name or "down_proj" in name else 1
                nn.init.normal_(parameter, std=0.02 if "embed" in name else parameter.shape[1]**-0.5 * damping)
        width = CONFIG["head_dim"]
        frequency = CONFIG["rope_theta"] ** (-torch.arange(0, width, 2).float() / width)
        angle = torch.arange(SEQUENCE).float().view(1, SEQUENCE, 1, 1) * frequency.view(1, 1, 1, -1)
        self.angles = (angle.cos(), angle.sin())
        i = torch.arange(SEQUENCE)
        causal = i[:, None] >= i[None, :]
        chunk = i // CONFIG["attention_chunk_size"]
        self.masks = (causal & (chunk[:, None] == chunk[None, :]), causal)

    def forward(self, ids):
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, self.angles, self.masks)
        return self.norm(x)

    def loss(self, ids):
        """Mean nats of every token but the first of each sequence."""
        x = self.forward(ids[:, :-1])
        with torch.autocast("cpu", enabled=False):
            return HeadLoss.apply(x.reshape(-1, x.shape[-1]), self.embed_tokens.weight, ids[:, 1:].reshape(-1))

    def mixtures(self):
        """The blocks with experts, first layer first."""
        return [layer.feed_forward for layer in self.layers if layer.moe]
