"""Writes the fixtures of `crates/c2c-export/tests/all_in_one`: small random fusers of the class AllInOneProjector in the
published layout, and what PyTorch computes with them.

    pip install torch safetensors numpy
    python tests/interop/all_in_one.py write crates/c2c-export/tests/all_in_one
    python tests/interop/all_in_one.py gradients crates/c2c-export/tests/all_in_one
    python tests/interop/all_in_one.py fuse DIR [DIR2]   # DIR's numbers again, with the fuser in DIR2 if one is given

`gradients` adds those of a training step to each case, laid out as if they were a fuser.

The network is written out below from the formulas: projections of the sharer's cache, a gate, weights. f32 on the CPU, values
rounded to bf16 first where a case says so. DIR2 may be what `c2c export --format pytorch` wrote of the imported DIR.
"""

import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

LAYERS, SHARER_LAYERS, MAP = 3, 2, [0, 0, 1]
DEFAULTS = dict(
    source_num_heads=1, target_num_heads=1, hidden_dim=512, num_layers=2, dropout=0.1, activation="gelu",
    use_layer_norm=True, use_residual=True, use_swiglu=False, gate_granularity="scalar", gate_depends_on_input=False,
    gate_input_features="target_key", weight_granularity="scalar", weight_depends_on_input=False,
    weight_input_features="target_key", preserve_target_weight=True, add_self=True, use_concat=False,
    weight_hidden_dim=1024, scalar_temperature=0.005, max_sequence_length=8192,
)  # fmt: skip
SMALL = dict(source_num_heads=2, source_dim=3, target_num_heads=2, target_dim=4, hidden_dim=10, weight_hidden_dim=6)
CASES = {
    # The recipe of the reference implementation that has this class.
    "recipe": dict(SMALL, num_layers=3, use_swiglu=True, use_concat=True, weight_granularity="head_merged",
                   weight_depends_on_input=True, weight_input_features="target_projected_key",
                   scalar_temperature=1.0, preserve_target_weight=False),
    # All choices are those of the class.
    "defaults": dict(SMALL),
    "residual_tokens": dict(SMALL, source_dim=4, activation="relu", use_layer_norm=False, dropout=0.0, add_self=False,
                            gate_granularity="token", weight_granularity="token", max_sequence_length=9,
                            scalar_temperature=0.7),
    "heads": dict(SMALL, num_layers=4, activation="silu", gate_granularity="head", max_sequence_length=7,
                  weight_granularity="head", weight_depends_on_input=True, weight_input_features="target_value",
                  scalar_temperature=1.0),
    "values": dict(SMALL, gate_granularity="value", max_sequence_length=6, use_concat=True, weight_granularity="value",
                   weight_depends_on_input=True, weight_input_features="target_projected_both", scalar_temperature=0.5),
    "made_scalars": dict(SMALL, gate_depends_on_input=True, gate_input_features="both", weight_depends_on_input=True,
                         weight_input_features="target_projected_value", scalar_temperature=0.3, use_residual=False),
    "made_merged": dict(SMALL, gate_granularity="head_merged", gate_depends_on_input=True,
                        gate_input_features="target_projected_both", weight_granularity="token",
                        weight_depends_on_input=True, weight_input_features="both", scalar_temperature=1.0,
                        preserve_target_weight=False),
    "made_heads": dict(SMALL, num_layers=1, gate_granularity="head", gate_depends_on_input=True,
                       weight_granularity="value", max_sequence_length=5, scalar_temperature=0.5),
    "bf16": dict(SMALL, gate_granularity="value", gate_depends_on_input=True, use_swiglu=True,
                 gate_input_features="target_projected_key", weight_granularity="head", max_sequence_length=5,
                 scalar_temperature=0.5, dtype={"__type__": "torch.dtype", "value": "bfloat16"}),
}  # fmt: skip
TOKENS = {"defaults": 7}
# Of the training step whose gradients are written.
TEMPERATURE, DRAW = 0.7, 0.3


def parameters(a):
    """Names and shapes of a layer's parameters, in the order of the class."""
    heads, width, rows = a["target_num_heads"], a["target_dim"], a["max_sequence_length"]
    tables = {"scalar": [], "token": [rows], "head": [rows, heads], "value": [rows, heads, width]}
    s, t, hidden, small = a["source_num_heads"] * a["source_dim"], heads * width, a["hidden_dim"], a["weight_hidden_dim"]
    out = {}
    if not a["gate_depends_on_input"]:
        out["gate_logit"] = tables[a["gate_granularity"]]
    if not a["weight_depends_on_input"]:
        for side in ["key", "value"]:
            out[f"{side}_weight"] = tables[a["weight_granularity"]]
    out["gate_temperature"] = []

    def linear(name, n_in, n_out):
        out[f"{name}.weight"], out[f"{name}.bias"] = [n_out, n_in], [n_out]

    def generator(name, kind, middle, n_out):
        parts = {"target_key": 1, "target_value": 1, "target_projected_both": 4}.get(a[f"{kind}_input_features"], 2)
        merged = a[f"{kind}_granularity"] in ["token", "head_merged"]
        linear(f"{name}.layers.0", parts * width * (heads if merged else 1), middle)
        out[f"{name}.layers.1.weight"] = out[f"{name}.layers.1.bias"] = [middle]
        linear(f"{name}.layers.4", middle, n_out)

    made = {"scalar": 1, "token": 1, "head": 1, "head_merged": heads, "value": width}
    for side in ["key", "value"]:
        at = 0
        for i in range(a["num_layers"]):
            last = i + 1 == a["num_layers"]
            sizes = (s if i == 0 else hidden, t if last else hidden)
            name = f"{side}_projection.layers"
            for part in [".gate_proj", ".up_proj"] if a["use_swiglu"] and not last else [""]:
                linear(f"{name}.{at}{part}", *sizes)
            if a["use_layer_norm"] and not last:
                out[f"{name}.{at + 1}.weight"] = out[f"{name}.{at + 1}.bias"] = [hidden]
            at += 1 + a["use_layer_norm"] + (not a["use_swiglu"]) + (a["dropout"] > 0)
    if a["gate_depends_on_input"]:
        generator("gate_generator", "gate", hidden, made[a["gate_granularity"]])
    if a["weight_depends_on_input"]:
        generator("weight_hidden", "weight", small, small)
        for side in ["key", "value"]:
            linear(f"{side}_weight_head", small, made[a["weight_granularity"]])
    if a["use_concat"]:
        for side in ["key", "value"]:
            linear(f"{side}_combiner", 2 * t, t)
    return out


def draw(a, rng):
    state = {}
    for name, shape in parameters(a).items():
        x = torch.randn(shape, generator=rng)
        if name == "gate_temperature":
            x = torch.tensor(0.25)
        elif name.endswith("_weight"):
            x = x * a["scalar_temperature"]
        elif name.endswith(".weight") and len(shape) == 2:
            x = x / math.sqrt(shape[1]) * 1.5
        elif name.endswith(".weight"):
            x = 1 + 0.3 * x
        state[name] = x
    return state


def linear(p, name, x):
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def norm(p, name, x):
    x = x - x.mean(-1, keepdim=True)
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * p[f"{name}.weight"] + p[f"{name}.bias"]


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def project(p, a, side, x):
    start, at = x, 0
    act = {"gelu": gelu, "relu": F.relu, "silu": lambda x: x * torch.sigmoid(x)}[a["activation"]]
    for i in range(a["num_layers"]):
        name = f"{side}_projection.layers.{at}"
        if i + 1 == a["num_layers"]:
            x = linear(p, name, x)
        elif a["use_swiglu"]:
            gate = linear(p, f"{name}.gate_proj", x)
            x = gate * torch.sigmoid(gate) * linear(p, f"{name}.up_proj", x)
        else:
            x = linear(p, name, x)
        if i + 1 < a["num_layers"]:
            if a["use_layer_norm"]:
                x = norm(p, f"{side}_projection.layers.{at + 1}", x)
            x = x if a["use_swiglu"] else act(x)
        at += 1 + a["use_layer_norm"] + (not a["use_swiglu"]) + (a["dropout"] > 0)
    return x + start if a["use_residual"] and x.shape == start.shape else x


def generate(p, name, x):
    return linear(p, f"{name}.layers.4", gelu(norm(p, f"{name}.layers.1", linear(p, f"{name}.layers.0", x))))


def spread(kind, a, x, shape):
    """What a generator gave, or a parameter, as [batch, heads, tokens, channels]."""
    batch, heads, tokens, _ = shape
    granularity, made = a[f"{kind}_granularity"], a[f"{kind}_depends_on_input"]
    if not made:
        if granularity == "scalar":
            return x.expand(shape)
        x = x[:tokens].reshape(tokens, -1, 1 if granularity != "value" else shape[3])
        return x.permute(1, 0, 2)[None].expand(shape)
    if granularity == "scalar":
        return x[:, :, None, None].expand(shape)
    if granularity == "token":
        return x[:, None].expand(shape)
    if granularity == "head_merged":
        return x.permute(0, 2, 1)[..., None].expand(shape)
    return x.expand(shape)


def features(kind, a, own, projected):
    parts = {
        "target_key": own[:1], "target_value": own[1:], "both": own, "target_projected_key": [own[0], projected[0]],
        "target_projected_value": [own[1], projected[1]], "target_projected_both": [*own, *projected],
    }[a[f"{kind}_input_features"]]  # fmt: skip
    x = torch.cat(list(parts), -1)
    if a[f"{kind}_granularity"] == "scalar":
        return x.mean((1, 2))
    if a[f"{kind}_granularity"] in ["token", "head_merged"]:
        return x.permute(0, 2, 1, 3).flatten(2)
    return x


def hard(logit):
    return (logit > 0).float()


def soft(logit):
    """The gate of training, where every draw of the noise is DRAW."""
    return torch.sigmoid((logit - math.log(-math.log(DRAW))) / TEMPERATURE)


def fuse(p, a, sharer, own, opened=hard):
    shape = own[0].shape
    rows = lambda x: x.permute(0, 2, 1, 3).flatten(2)
    projected = []
    for side, other, mine in zip(["key", "value"], sharer, own):
        x = project(p, a, side, rows(other))
        if a["use_concat"]:
            x = linear(p, f"{side}_combiner", torch.cat([x, rows(mine)], -1))
        projected.append(x.unflatten(2, (shape[1], shape[3])).permute(0, 2, 1, 3))
    if a["gate_depends_on_input"]:
        logit = generate(p, "gate_generator", features("gate", a, own, projected))
    else:
        logit = p["gate_logit"]
    gate = opened(spread("gate", a, logit, shape))
    out = []
    if a["weight_depends_on_input"]:
        hidden = generate(p, "weight_hidden", features("weight", a, own, projected))
    for side, mine, p_side in zip(["key", "value"], own, projected):
        weight = linear(p, f"{side}_weight_head", hidden) if a["weight_depends_on_input"] else p[f"{side}_weight"]
        w = torch.sigmoid(spread("weight", a, weight, shape) / a["scalar_temperature"])
        kept = 0 if not a["add_self"] else (1 - w) * mine if a["preserve_target_weight"] else mine
        out.append(kept + gate * w * p_side)
    return out, gate


def run(folder, cases):
    """Fuses the caches of a file with the fuser in a folder, layer by layer."""
    final = folder / "final"
    fused = {"key": [], "value": []}
    shares = []
    for layer, source in enumerate(MAP):
        a = DEFAULTS | json.loads((final / f"projector_{layer}.json").read_text())["init_args"]
        state = torch.load(final / f"projector_{layer}.pt", weights_only=True)
        expected = {name: torch.Size(shape) for name, shape in parameters(a).items()}
        assert {name: x.shape for name, x in state.items()} == expected, f"{final}: layer {layer}: other parameters"
        if a.get("dtype", {}).get("value") == "bfloat16":
            state = {name: x.bfloat16() for name, x in state.items()}
        p = {name: x.float() for name, x in state.items()}
        pair = lambda who, at: [cases[f"{who}_key"][at], cases[f"{who}_value"][at]]
        (key, value), gate = fuse(p, a, pair("sharer", source), pair("receiver", layer))
        shares.append(gate.mean().item())
        fused["key"].append(key)
        fused["value"].append(value)
    return {f"fused_{side}": torch.stack(x).contiguous() for side, x in fused.items()}, shares


def write(root):
    for number, (name, args) in enumerate(CASES.items()):
        rng = torch.Generator().manual_seed(number)
        a = DEFAULTS | args
        folder = root / name
        (folder / "final").mkdir(parents=True, exist_ok=True)
        for layer in range(LAYERS):
            state = draw(a, rng)
            if a["gate_granularity"] == "scalar" and not a["gate_depends_on_input"]:
                state["gate_logit"] = torch.tensor([0.5, 0.0, 0.1][layer])
            if "dtype" in a:
                state = {key: x.bfloat16() for key, x in state.items()}
            torch.save(state, folder / "final" / f"projector_{layer}.pt")
            text = json.dumps({"class": "AllInOneProjector", "init_args": args}, indent=1)
            (folder / "final" / f"projector_{layer}.json").write_text(text + "\n")
        table = {"0": {"1": {str(layer): [[source, layer]] for layer, source in enumerate(MAP)}}}
        (folder / "final" / "projector_config.json").write_text(json.dumps(table) + "\n")
        shape = lambda layers, who: (layers, 2, a[f"{who}_num_heads"], TOKENS.get(name, 5), a[f"{who}_dim"])
        cases = {}
        for who, layers, kind in [("sharer", SHARER_LAYERS, "source"), ("receiver", LAYERS, "target")]:
            for side in ["key", "value"]:
                cases[f"{who}_{side}"] = torch.randn(shape(layers, kind), generator=rng)
        fused, shares = run(folder, cases)
        save_file(cases | fused, folder / "expected.safetensors")
        print(f"{name}: open gates a layer {[f'{share:.2f}' for share in shares]}")


def gradients(root):
    """Of the sum of all fused values, each times what is fused at inference, without dropout."""
    for case in sorted(path for path in root.iterdir() if path.is_dir()):
        cases = load_file(case / "expected.safetensors")
        folder = case / "gradients" / "final"
        folder.mkdir(parents=True, exist_ok=True)
        for layer, source in enumerate(MAP):
            text = json.loads((case / "final" / f"projector_{layer}.json").read_text())
            a = DEFAULTS | text["init_args"]
            state = torch.load(case / "final" / f"projector_{layer}.pt", weights_only=True)
            p = {name: x.float().requires_grad_(name != "gate_temperature") for name, x in state.items()}
            pair = lambda who, at: [cases[f"{who}_key"][at], cases[f"{who}_value"][at]]
            fused, _ = fuse(p, a, pair("sharer", source), pair("receiver", layer), soft)
            sum((x * y).sum() for x, y in zip(fused, pair("fused", layer))).backward()
            grads = {name: x.detach() if x.grad is None else x.grad for name, x in p.items()}
            torch.save(grads, folder / f"projector_{layer}.pt")
            text["init_args"].pop("dtype", None)
            (folder / f"projector_{layer}.json").write_text(json.dumps(text, indent=1) + "\n")
            found = " ".join(f"{x.grad.abs().max():.2g}" for x in p.values() if x.grad is not None)
            print(f"{case.name}: layer {layer}: largest gradient of each parameter {found}")
        table = (case / "final" / "projector_config.json").read_text()
        (folder / "projector_config.json").write_text(table)


def check(case, folder):
    cases = load_file(case / "expected.safetensors")
    fused, _ = run(folder, cases)
    for name, found in fused.items():
        worst = (found - cases[name]).abs().max().item()
        print(f"{case.name}: {name}: largest difference {worst:.1e}")
        assert worst == 0.0, f"{name} of {folder} differs"


match sys.argv[1:]:
    case ["write", root]:
        write(Path(root))
    case ["gradients", root]:
        gradients(Path(root))
    case ["fuse", case]:
        check(Path(case), Path(case))
    case ["fuse", case, folder]:
        check(Path(case), Path(folder))
    case _:
        sys.exit(__doc__)
