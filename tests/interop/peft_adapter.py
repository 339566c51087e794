"""Loads an adapter of `c2c train` (method single, LoRA) with the PEFT library and compares its logits with those of c2c.

    pip install torch transformers peft safetensors
    c2c train recipes/train/pocket-single.toml -o single.trainable=lora -o output.dir=OUT
    cargo run --release -p c2c-lm --example logits -- RUN/model LOGITS.safetensors
    python tests/interop/peft_adapter.py BASE RUN/adapter LOGITS.safetensors

BASE is the folder of the Receiver as it was before. RUN/model holds the adapter merged into the weights; here it stays beside
them, and is merged by PEFT in a second pass. f32 on the CPU.
"""

import sys

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

# Of the largest logit.
TOLERANCE = 1e-4


def main(base, adapter, logits):
    expected = load_file(logits)
    ids = expected["input_ids"]
    scale = expected["logits"].abs().max()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    with torch.no_grad():
        alone = model(ids).logits
    change = (alone - expected["logits"]).abs().max() / scale
    assert change > 100 * TOLERANCE, f"the adapter changes the logits by {change:.1e} alone: train it for longer"
    print(f"without the adapter the logits differ by up to {change:.1e} of the largest")
    tuned = PeftModel.from_pretrained(model, adapter).eval()
    held = load_file(f"{adapter}/adapter_model.safetensors")
    used = {name for name, _ in tuned.named_parameters() if "lora_" in name}
    assert len(held) == len(used), f"{len(held)} tensors in the file, {len(used)} in the model"
    print(f"{len(held)} tensors, rank {tuned.peft_config['default'].r}, alpha {tuned.peft_config['default'].lora_alpha}")
    for what, run in [("beside the weights", tuned), ("merged by PEFT", tuned.merge_and_unload())]:
        with torch.no_grad():
            found = run(ids).logits
        worst = (found - expected["logits"]).abs().max() / scale
        same = (found.argmax(-1) == expected["logits"].argmax(-1)).float().mean()
        print(f"{what}: largest difference {worst:.1e} of the largest logit, same likeliest token at {100 * same:.1f} %")
        assert worst <= TOLERANCE, what


if len(sys.argv) != 4:
    sys.exit(__doc__)
main(*sys.argv[1:])
