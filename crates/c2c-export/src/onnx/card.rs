//! The card's section on how to use a graph.
//!
//! Names and axes are those that the graph is written with.

use std::fmt::{Result, Write};

use super::{Cache, ONNX_DATA_FILE, ONNX_FILE, OPSET, inputs, outputs};
use crate::artefact::ArtefactConfig;

/// Tokens of the caches in the example.
const TOKENS: usize = 16;

/// Writes the section. `external` says whether the weights lie in a file of their own.
pub(crate) fn usage(out: &mut String, config: &ArtefactConfig, external: bool) -> Result {
    let fuser = &config.fuser;
    writeln!(
        out,
        "## Use\n\n`{ONNX_FILE}` is the whole Fuser at inference as one ONNX graph of opset {OPSET}. The two models' caches go in, and the \
         Receiver's comes out fused; gates are decided, open or shut. All arrays are f32:\n\n| | name | shape |\n|---|---|---|"
    )?;
    rows(out, "input", &inputs(fuser))?;
    rows(out, "output", &outputs(fuser))?;
    let (read, layers) = (fuser.sharer_depth(), config.sharer.layers);
    let read = if read < layers {
        format!("the first {read} of {layers}; more may be given")
    } else {
        format!("all {layers}")
    };
    writeln!(
        out,
        "\n`batch` and `tokens` are free, the same in all inputs. Layers of the Sharer that are read: {read}."
    )?;
    if external {
        writeln!(out, "The weights lie in `{ONNX_DATA_FILE}`, which has to stay beside the graph.")?;
    }
    let whose = match config.alignment.mode.as_str() {
        "shared" => "of a prompt",
        _ => "of a message",
    };
    writeln!(
        out,
        "\nGive it the slots {whose}, with keys as they lie in a cache, rotated: at place `t` of the Sharer what it has read where the \
         Receiver reads its token `t` (token alignment, above). Put the result in the place of the Receiver's slots, and let the Receiver go on \
         from there. The prompt's last token, from which the reply starts, isn't fused.\n\n\
         With ONNX Runtime in Python, on random caches of {TOKENS} tokens:\n\n```python\n\
         import numpy as np\nimport onnxruntime\n\n\
         session = onnxruntime.InferenceSession(\"path/to/this/folder/{ONNX_FILE}\")\n\
         rng = np.random.default_rng(0)\n\
         sharer = [{}, 1, {}, {TOKENS}, {}]  # layers, batch, heads, tokens, head_dim\n\
         receiver = [{}, 1, {}, {TOKENS}, {}]",
        fuser.sharer_depth(),
        fuser.sharer_heads,
        fuser.sharer_head_dim,
        fuser.layers(),
        fuser.receiver_heads,
        fuser.receiver_head_dim,
    )?;
    writeln!(out, "inputs = {{")?;
    for (name, _) in inputs(fuser) {
        let side = name.split('_').next().unwrap_or(name);
        writeln!(out, "    \"{name}\": rng.standard_normal({side}, dtype=np.float32),")?;
    }
    let fused = outputs(fuser).map(|(name, _)| name);
    writeln!(
        out,
        "}}\n{} = session.run([\"{}\"], inputs)\nprint({}.shape, {}.dtype)\n```\n",
        fused.join(", "),
        fused.join("\", \""),
        fused[0],
        fused[0]
    )?;
    writeln!(
        out,
        "The keys of a `past_key_values` of Transformers are such an array as `np.stack([layer.keys.float().numpy() for layer in \
         past_key_values.layers])`, and `layer.values` its values. The graph's metadata has the whole config (`c2c.fuser_config`). \
         `c2c eval` reads the artefact that this was exported from, not this file."
    )
}

fn rows(out: &mut String, what: &str, caches: &[Cache]) -> Result {
    for (name, axes) in caches {
        writeln!(out, "| {what} | `{name}` | `[{}]` |", axes.map(|axis| axis.to_string()).join(", "))?;
    }
    Ok(())
}
