"""Times in PyTorch what `c2c bench --device cpu --dtype f32` times, on the same machine, for ratios.

    pip install torch transformers
    python tests/interop/bench_torch.py CONTEXT [REPEATS]

The models are Hugging Face's, with random weights, made from the configs that `c2c bench` has built in. A fuser is written out
from the paper (section 3.3), one a layer as the reference implementation runs them. Medians, in milliseconds.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import gelu
from transformers import AutoConfig, AutoModelForCausalLM

CONFIGS = Path(__file__).resolve().parents[2] / "crates/c2c/src/bench"
WIDTH = 1024  # of the fuser, as `c2c bench --fuser-width` has it by default


def model(name):
    config = json.loads((CONFIGS / name).read_text())
    config = AutoConfig.for_model(config.pop("model_type"), **config)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.RMSNorm(WIDTH)
        self.w1 = nn.Linear(WIDTH, WIDTH, bias=False)
        self.w2 = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x):
        return x + self.w2(gelu(self.w1(self.norm(x))))


class Branch(nn.Module):
    """The fuser of a layer's keys, or of its values."""

    def __init__(self, sharer, own, heads):
        super().__init__()
        self.input = nn.Linear(sharer + own, WIDTH)
        self.trunk, self.projection, self.weight = Block(), Block(), Block()
        self.output, self.head = nn.Linear(WIDTH, own), nn.Linear(WIDTH, heads)

    def forward(self, sharer, own):
        u = self.trunk(self.input(torch.cat([sharer, own], -1)))
        weight = torch.sigmoid(self.head(self.weight(u))).unsqueeze(-1)
        change = self.output(self.projection(u)).unflatten(-1, (weight.shape[-2], -1))
        return own + (change * weight).flatten(-2)


def flat(x):
    return x.transpose(1, 2).flatten(2)


def timed(name, repeats, work, scale=1):
    for _ in range(2):
        work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1000 / scale)
    print(f"{name:<32} {statistics.median(times):>10.1f} ms", flush=True)


@torch.inference_mode()
def main():
    tokens = int(sys.argv[1])
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    torch.manual_seed(0)
    receiver, sharer = model("qwen3-0.6b.json"), model("qwen2.5-0.5b.json")
    ids = torch.arange(tokens).unsqueeze(0) * 31 + 5
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, f32, batch 1")

    def prefill(of):
        return of(ids, use_cache=True, logits_to_keep=1)

    timed(f"receiver prefill {tokens}", repeats, lambda: prefill(receiver))
    timed(f"sharer prefill {tokens}", repeats, lambda: prefill(sharer))
    own, other = prefill(receiver).past_key_values, prefill(sharer).past_key_values
    r, s = receiver.config, sharer.config
    layers = r.num_hidden_layers
    sharer_width = s.num_key_value_heads * (s.hidden_size // s.num_attention_heads)
    fusers = [Branch(sharer_width, r.num_key_value_heads * r.head_dim, r.num_key_value_heads) for _ in range(2 * layers)]

    def caches(cache, layer):
        return flat(cache.layers[layer].keys), flat(cache.layers[layer].values)

    def fused(other, own):
        # The last layers are put side by side; the receiver's first ones read the sharer's first.
        for layer in range(layers):
            reads = max(0, layer - (layers - s.num_hidden_layers))
            pairs = enumerate(zip(caches(other, reads), caches(own, layer)))
            yield layer, [fusers[2 * layer + which](a, b) for which, (a, b) in pairs]

    def fuse():
        for _ in fused(other, own):
            pass

    timed(f"fusers on {tokens} tokens", repeats, fuse)

    def c2c_prefill():
        # All tokens but the last are fused; the receiver reads that one on the fused cache. Nobody wants logits of the others.
        context = ids[:, :-1]
        theirs = sharer.model(context, use_cache=True).past_key_values
        cache = receiver.model(context, use_cache=True).past_key_values
        for layer, (keys, values) in fused(theirs, cache):
            heads = [x.unflatten(-1, (r.num_key_value_heads, -1)).transpose(1, 2) for x in (keys, values)]
            cache.layers[layer].keys, cache.layers[layer].values = heads
        return receiver(ids[:, -1:], past_key_values=cache).logits

    timed(f"C2C prefill {tokens}", repeats, c2c_prefill)

    def decode():
        cache = prefill(receiver).past_key_values
        start = time.perf_counter()
        next_id = ids[:, -1:]
        for _ in range(8):
            next_id = receiver(next_id, past_key_values=cache).logits[:, -1:].argmax(-1)
        return (time.perf_counter() - start) * 1000 / 8

    times = [decode() for _ in range(repeats)]
    print(f"{f'decode a token after {tokens}':<32} {statistics.median(times):>10.1f} ms")


if __name__ == "__main__":
    main()
