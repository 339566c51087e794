"""Checks fusers exported with `--format onnx`: onnx.checker, ONNX Runtime against what c2c computed on the CPU, and the
example of the card beside the graph, which is run as it stands there.

    pip install onnx onnxruntime safetensors numpy
    c2c export ARTEFACT --out DIR --format onnx
    cargo run --release -p c2c-export --example fused_cases -- ARTEFACT CASES
    python tests/interop/onnx_runtime.py DIR/fuser.onnx CASES

CASES has 20 shapes, 1, 2, 127, 128 and 2,048 tokens among them, unless others are named. It fails above 1e-4, and if fewer
than 20 shapes ran or one of these lengths is missing; `--few` lets that pass, say for a fuser of the paper's size.
"""

import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

TOLERANCE = 1e-4

LEAST, LENGTHS = 20, {1, 2, 127, 128, 2048}

few = "--few" in sys.argv
path, cases = (argument for argument in sys.argv[1:] if argument != "--few")
onnx.checker.check_model(path, full_check=True)
model = onnx.load(path, load_external_data=False)
outside = sum(len(t.external_data) > 0 for t in model.graph.initializer)
print(f"opset {model.opset_import[0].version}, {len(model.graph.node)} nodes, {outside} of {len(model.graph.initializer)} weights outside")
for entry in model.metadata_props:
    print(f"  {entry.key}: {entry.value[:100]}")

session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
cases = load_file(cases)
names = sorted({name.split(".")[0] for name in cases}, key=int)
worst, lengths = 0.0, set()
for n in names:
    inputs = {name: cases[f"{n}.{name}"] for name in ("sharer_key", "sharer_value", "receiver_key", "receiver_value")}
    found = dict(zip(("fused_key", "fused_value"), session.run(["fused_key", "fused_value"], inputs)))
    differences = []
    for name, value in found.items():
        expected = cases[f"{n}.{name}"]
        assert value.shape == expected.shape and value.dtype == np.float32
        differences.append(float(np.abs(value - expected).max()))
    # In NumPy a NaN is no maximum.
    assert np.isfinite(differences).all(), f"shape {n}: {differences}"
    worst = max(worst, *differences)
    layers, batch, _, tokens, _ = found["fused_key"].shape
    lengths.add(tokens)
    print(f"  batch {batch}, {tokens:4} tokens: largest difference {max(differences):.1e}")
print(f"{len(names)} shapes: largest difference {worst:.1e}, at most {TOLERANCE:.0e}")
assert worst <= TOLERANCE
assert few or len(names) >= LEAST, f"{len(names)} shapes ran, expected {LEAST} or more"
assert few or LENGTHS <= lengths, f"no shape of {sorted(LENGTHS - lengths)} tokens"

folder = pathlib.Path(path).resolve().parent
example = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
ran = {}
exec(example.replace("path/to/this/folder", str(folder)), ran)
assert ran["fused_key"].shape == ran["fused_value"].shape == ran["inputs"]["receiver_key"].shape
assert np.isfinite(ran["fused_key"]).all() and (ran["fused_key"] != ran["inputs"]["receiver_key"]).any()
print("the card's example runs")
