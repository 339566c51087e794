"""Checks fusers exported with `--format pytorch` against PyTorch itself.

    pip install torch safetensors numpy
    python tests/interop/pytorch.py same A B          # two published folders hold the same bits
    python tests/interop/pytorch.py fuse DIR CASES    # PyTorch computes from DIR what c2c computed

CASES is written by `cargo run --release -p c2c-export --example fused_cases -- ARTEFACT CASES 1x1 2x7 ..`.
Everything is loaded with weights_only=True and with strict keys. The fuser is written out below from the paper
(section 3.3) and the names of its parameters; f32 on the CPU.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

# Differences are shares of the largest change that fusing makes.
TOLERANCE = 1e-5


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Block(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.norm = Norm(width)
        self.w1 = nn.Linear(width, inner, bias=False)
        self.w2 = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return x + self.w2(nn.functional.gelu(self.w1(self.norm(x))))


class Blocks(nn.Module):
    def __init__(self, widths, width):
        super().__init__()
        self.blocks = nn.ModuleList([Block(width, inner) for inner in widths])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Layer(nn.Module):
    """The fuser of one layer; `parts` are head weights, gates and the receiver's own cache."""

    def __init__(self, args, parts):
        super().__init__()
        self.parts = parts
        weights, gates, receiver = parts
        self.heads, self.dim = args["target_num_heads"], args["target_dim"]
        target = self.heads * self.dim
        source = args["source_num_heads"] * args["source_dim"]
        h, i, n = args["hidden_dim"], args["intermediate_dim"], args["num_layers"]
        parts = {"in": lambda: nn.Linear(source + (target if receiver else 0), h), "mlp1": lambda: Blocks([i], h)}
        if weights:
            parts |= {"scalar_mlp2": lambda: Blocks([h], h), "scalar_head": lambda: nn.Linear(h, self.heads)}
        parts |= {"proj_mlp2": lambda: Blocks([i] * (n - 2), h), "proj_out": lambda: nn.Linear(h, target)}
        for side in ("key", "value"):
            if gates:
                self.register_parameter(f"{side}_gate_logit", nn.Parameter(torch.zeros(())))
        if gates:
            self.register_buffer("gate_temperature", torch.tensor(1.0))
        for name, make in parts.items():
            for side in ("key", "value"):
                self.add_module(f"{side}_{name}", make())

    def forward(self, side, sharer, receiver):
        """[batch, heads, tokens, dim] of both to that of the receiver."""
        part = lambda name: getattr(self, f"{side}_{name}")
        weights, gates, own = self.parts
        flat = lambda x: x.transpose(1, 2).flatten(2)
        split = lambda x: x.unflatten(2, (self.heads, self.dim)).transpose(1, 2)
        x = torch.cat([flat(sharer), flat(receiver)], -1) if own else flat(sharer)
        u = part("mlp1")(part("in")(x))
        out = split(part("proj_out")(part("proj_mlp2")(u)))
        if weights:
            w = torch.sigmoid(part("scalar_head")(part("scalar_mlp2")(u)))
            out = out * w.transpose(1, 2).unsqueeze(-1)
        if gates:
            out = out * (part("gate_logit") > 0).float()
        return receiver + out if own else out


LEVELS = {0: (1, 1, 1), 1: (0, 1, 1), 2: (0, 0, 1), 3: (0, 0, 0), 4: (1, 0, 1)}


def folder(path):
    path = Path(path)
    return path / "final" if (path / "final").is_dir() else path


def read(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def bits(x):
    return x.contiguous().reshape(-1).view(torch.uint8)


def same(a, b):
    a, b = folder(a), folder(b)
    files = sorted(p.name for p in a.glob("projector_*.pt"))
    assert files and files == sorted(p.name for p in b.glob("projector_*.pt")), "other files"
    count = 0
    for name in files:
        x, y = read(a / name), read(b / name)
        assert list(x) == list(y), f"{name}: other keys, or in another order"
        for key in x:
            assert (x[key].dtype, x[key].shape) == (y[key].dtype, y[key].shape), f"{name}: {key}"
            assert torch.equal(bits(x[key]), bits(y[key])), f"{name}: {key}: other bits"
            count += 1
        y = torch.load(b / name, mmap=True, weights_only=True)
        assert all(torch.equal(bits(x[key]), bits(y[key])) for key in x), f"{name}: memory-mapped"
        json_name = name.replace(".pt", ".json")
        assert json.loads((a / json_name).read_text()) == json.loads((b / json_name).read_text()), json_name
    print(f"{len(files)} files, {count} tensors: the same keys, order, dtypes, shapes and bits")


def layers(path):
    path = folder(path)
    table = json.loads((path / "projector_config.json").read_text())["0"]["1"]
    for target in range(len(table)):
        source, index = table[str(target)][0]
        file = json.loads((path / f"projector_{index}.json").read_text())
        parts = LEVELS[file["init_args"].get("ablation_level", 0)]
        layer = Layer(file["init_args"], parts).float().eval()
        layer.load_state_dict(read(path / f"projector_{index}.pt"), strict=True)
        yield target, source, layer


def fuse(path, cases):
    cases = load_file(cases)
    names = sorted({name.split(".")[0] for name in cases}, key=int)
    worst = 0.0
    with torch.no_grad():
        for target, source, layer in layers(path):
            for n in names:
                for side in ("key", "value"):
                    own = cases[f"{n}.receiver_{side}"][target]
                    expected = layer(side, cases[f"{n}.sharer_{side}"][source], own)
                    found = cases[f"{n}.fused_{side}"][target]
                    change = (expected - own).abs().max().clamp_min(1e-3)
                    worst = max(worst, ((found - expected).abs().max() / change).item())
    print(f"{len(names)} shapes: largest difference {worst:.1e} of the largest change, at most {TOLERANCE:.0e}")
    assert worst <= TOLERANCE


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("same", "fuse"):
        sys.exit(__doc__)
    {"same": same, "fuse": fuse}[sys.argv[1]](*sys.argv[2:])
