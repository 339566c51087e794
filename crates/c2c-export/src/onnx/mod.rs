//! The whole fuser as one ONNX graph.
//!
//! Inputs are the two caches, `sharer_key` and `sharer_value` `[sharer_layers, batch, heads, tokens, head_dim]` and
//! `receiver_key` and `receiver_value` of the receiver's layers and sizes; outputs are `fused_key` and `fused_value`, of the
//! receiver's shape. Batch and tokens are dynamic, and so is the number of the sharer's layers: as many as the layer map
//! reads are enough. The arithmetic is that of inference in f32, with the gates already decided.
//!
//! Weights keep their names and shapes of the artefact. Where the file would come near protobuf's limit of 2 GiB they lie
//! in a second file. A card lies beside them.

mod card;
mod nodes;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use burn::tensor::backend::Backend;
use c2c_fuser::{Fuser, FuserConfig};
use onnx_protobuf::{Message, ModelProto, OperatorSetIdProto};

use crate::ExportError;
use crate::artefact::staging::{Known, Staging};
use crate::artefact::{self, ArtefactConfig, CARD_FILE, CardOf, CardSections};
use crate::files::{write_error, write_new};
use nodes::{Axis, Graph, entry, int, ints, value};

pub(crate) use card::usage;

/// The graph.
pub const ONNX_FILE: &str = "fuser.onnx";
/// Its weights, if they don't lie in it.
pub const ONNX_DATA_FILE: &str = "fuser.onnx.data";
/// From so many bytes of weights on they get a file of their own.
pub const EXTERNAL_FROM: u64 = 1 << 30;

/// The first version of the operators that has Split with a number of outputs and ReduceMean with axes as an input.
const OPSET: i64 = 18;
/// The version of the file format that goes with it.
const IR_VERSION: i64 = 8;
/// Weights outside the file start at multiples of this, so that they can be memory-mapped.
const ALIGNMENT: u64 = 4096;
const NORM_EPS: f32 = 1e-6;

/// Writes `fuser.onnx`, `fuser.onnx.data` if the weights have `external_from` bytes or more, and a card that keeps
/// `sections`.
///
/// # Errors
/// An all-in-one network, a fuser that holds only some of its branches, a tensor that can't be read back, an existing target, a file that can't
/// be written.
pub fn write_onnx<B: Backend>(
    fuser: &Fuser<B>,
    config: &ArtefactConfig,
    sections: &CardSections,
    to: &Path,
    external_from: u64,
    overwrite: bool,
) -> Result<(), ExportError> {
    if fuser.config().all_in_one.is_some() {
        return Err(ExportError::Option {
            path: to.to_owned(),
            what: "--format onnx".to_owned(),
            why: "graphs are written of the paper's network; this is an all-in-one network".to_owned(),
            fix: "choose safetensors, burnpack or pytorch".to_owned(),
        });
    }
    let file = |path: &Path| [ONNX_FILE, ONNX_DATA_FILE, CARD_FILE].iter().any(|file| path == Path::new(file));
    let known = Known { marker: ONNX_FILE, file };
    let folder = Staging::new(to, overwrite, known)?;
    let mut graph = Graph::default();
    let external = 4 * fuser.config().num_params() as u64 >= external_from;
    weights(&mut graph, fuser, folder.path(), external)?;
    let model = model(graph, config);
    let path = folder.path().join(ONNX_FILE);
    let bytes = model.write_to_bytes().map_err(|e| write_error(&path)(std::io::Error::other(e)))?;
    write_new(&path, &bytes)?;
    artefact::write_card(CardOf::Onnx { external }, fuser, config, folder.path(), (&[], sections))?;
    folder.publish()
}

/// Every parameter but the gates' logits, which are decided: 1 where the logit is above 0, else 0.
fn weights<B: Backend>(graph: &mut Graph, fuser: &Fuser<B>, folder: &Path, external: bool) -> Result<(), ExportError> {
    let config = fuser.config();
    let path = folder.join(ONNX_DATA_FILE);
    let failed = write_error(&path);
    let mut file = if external { Some(BufWriter::new(File::create_new(&path).map_err(&failed)?)) } else { None };
    let mut at = 0u64;
    for (name, param) in fuser.named_params() {
        let shape = param.val().dims();
        if shape[0] != config.branches() {
            return Err(ExportError::Parameter {
                name,
                found: format!("{} branches", shape[0]),
                expected: format!("all {}; export from the whole fuser", config.branches()),
            });
        }
        let values = artefact::values(&name, param)?;
        match &mut file {
            _ if name == "gate_logit" => {
                let gates: Vec<f32> = values.iter().map(|logit| f32::from(*logit > 0.0)).collect();
                graph.inside("gate", &[shape[0], 1, 1, 1], &gates);
            }
            None => {
                graph.inside(&name, &shape, &values);
            }
            Some(file) => {
                let padding = at.next_multiple_of(ALIGNMENT) - at;
                let length = 4 * values.len() as u64;
                graph.outside(&name, &shape, ONNX_DATA_FILE, at + padding, length);
                file.write_all(&vec![0; padding as usize]).map_err(&failed)?;
                for value in &values {
                    file.write_all(&value.to_le_bytes()).map_err(&failed)?;
                }
                at += padding + length;
            }
        }
    }
    if let Some(file) = file {
        file.into_inner().map_err(|e| failed(e.into_error()))?.sync_all().map_err(&failed)?;
    }
    Ok(())
}

/// A side of a cache that goes in or comes out: its name, and `[layers, batch, heads, tokens, head_dim]`.
type Cache = (&'static str, [Axis; 5]);

fn cache(name: &'static str, layers: Axis, heads: usize, width: usize) -> Cache {
    (name, [layers, Axis::Dynamic("batch"), Axis::Fixed(heads), Axis::Dynamic("tokens"), Axis::Fixed(width)])
}

fn receiver(name: &'static str, c: &FuserConfig) -> Cache {
    cache(name, Axis::Fixed(c.layers()), c.receiver_heads, c.receiver_head_dim)
}

fn inputs(c: &FuserConfig) -> [Cache; 4] {
    let sharer = |name| cache(name, Axis::Dynamic("sharer_layers"), c.sharer_heads, c.sharer_head_dim);
    [sharer("sharer_key"), sharer("sharer_value"), receiver("receiver_key", c), receiver("receiver_value", c)]
}

fn outputs(c: &FuserConfig) -> [Cache; 2] {
    [receiver("fused_key", c), receiver("fused_value", c)]
}

fn model(mut graph: Graph, config: &ArtefactConfig) -> ModelProto {
    let fuser = &config.fuser;
    compute(&mut graph, fuser);
    let caches = |caches: &[Cache]| caches.iter().map(|(name, axes)| value(name, axes)).collect();
    let (inputs, outputs) = (caches(&inputs(fuser)), caches(&outputs(fuser)));
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let json = |value: &dyn Fn() -> serde_json::Result<String>| value().unwrap_or_default();
    let metadata = [
        ("c2c.receiver", config.receiver.name.clone()),
        ("c2c.receiver_weights_sha256", known(&config.receiver.weights_sha256)),
        ("c2c.sharer", config.sharer.name.clone()),
        ("c2c.sharer_weights_sha256", known(&config.sharer.weights_sha256)),
        ("c2c.layer_map", json(&|| serde_json::to_string(&fuser.layer_map))),
        ("c2c.fuser_weights_sha256", config.weights_sha256.clone()),
        ("c2c.fuser_config", json(&|| serde_json::to_string(config))),
    ];
    ModelProto {
        ir_version: IR_VERSION,
        opset_import: vec![OperatorSetIdProto { version: OPSET, ..OperatorSetIdProto::default() }],
        producer_name: "c2c".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        doc_string: "Cache-to-Cache fuser: the sharer's KV cache projected into the receiver's".to_owned(),
        graph: Some(graph.finish("c2c_fuser", inputs, outputs)).into(),
        metadata_props: metadata.iter().map(|(key, value)| entry(key, value)).collect(),
        ..ModelProto::default()
    }
}

/// The nodes from the inputs to the outputs. `m` branches: keys of all layers, then values.
fn compute(g: &mut Graph, c: &FuserConfig) {
    let m = c.branches() as i64;
    let (heads, width) = (c.receiver_heads as i64, c.receiver_head_dim as i64);
    g.integers("layer_map", &c.layer_map.iter().map(|l| *l as i64).collect::<Vec<_>>());
    g.integers("last_axis", &[-1]);
    for (name, value) in
        [("eps", NORM_EPS), ("half", 0.5), ("one", 1.0), ("root_half", std::f32::consts::FRAC_1_SQRT_2)]
    {
        g.scalar(name, value);
    }
    for side in ["key", "value"] {
        let inputs = [format!("sharer_{side}"), "layer_map".to_owned()];
        let inputs = [inputs[0].as_str(), inputs[1].as_str()];
        g.node_with("Gather", &inputs, &format!("mapped_{side}"), vec![int("axis", 0)]);
    }
    rows(g, ["mapped_key", "mapped_value"], "sharer_rows", &[m, -1, c.sharer_width() as i64]);
    rows(g, ["receiver_key", "receiver_value"], "receiver_rows", &[m, -1, c.receiver_width() as i64]);
    let x = if c.parts.receiver {
        g.node_with("Concat", &["sharer_rows", "receiver_rows"], "x", vec![int("axis", 2)])
    } else {
        "sharer_rows".to_owned()
    };
    let u = linear(g, &x, "input");
    let u = block(g, &u, "trunk");
    let mut p = u.clone();
    for b in 0..c.num_layers - 2 {
        p = block(g, &p, &format!("projection.{b}"));
    }
    let p = linear(g, &p, "output");
    g.integers("by_head", &[m, -1, heads, width]);
    let mut p = g.node("Reshape", &[&p, "by_head"], "projected");
    if c.parts.weights {
        let w = block(g, &u, "weight_mlp");
        let w = linear(g, &w, "weight_head");
        let w = g.node("Sigmoid", &[&w], "weights");
        g.integers("one_a_head", &[m, -1, heads, 1]);
        let w = g.node("Reshape", &[&w, "one_a_head"], "weights_by_head");
        p = g.node("Mul", &[&p, &w], "weighted");
    }
    if c.parts.gates {
        p = g.node("Mul", &[&p, "gate"], "gated");
    }
    if c.parts.receiver {
        let own = g.node("Reshape", &["receiver_rows", "by_head"], "receiver_by_head");
        p = g.node("Add", &[&own, &p], "fused_by_head");
    }
    g.node("Shape", &["receiver_rows.tokens"], "token_shape");
    let fused = g.node("Reshape", &[&p, "token_shape"], "fused_tokens");
    let fused = g.node_with("Transpose", &[&fused], "fused", vec![ints("perm", &[0, 1, 3, 2, 4])]);
    let layers = c.layers() as i64;
    for (side, first) in [("key", 0), ("value", layers)] {
        let (start, end) = (format!("{side}_start"), format!("{side}_end"));
        g.integers(&start, &[first]);
        g.integers(&end, &[first + layers]);
        g.integers(&format!("{side}_axis"), &[0]);
        g.node("Slice", &[&fused, &start, &end, &format!("{side}_axis")], &format!("fused_{side}"));
    }
}

/// Keys and values, `[layers, batch, heads, tokens, width]` each, as `[branches, batch * tokens, heads * width]`.
fn rows(g: &mut Graph, [key, value]: [&str; 2], name: &str, shape: &[i64]) {
    let both = g.node_with("Concat", &[key, value], &format!("{name}.both"), vec![int("axis", 0)]);
    let perm = vec![ints("perm", &[0, 1, 3, 2, 4])];
    let tokens = g.node_with("Transpose", &[&both], &format!("{name}.tokens"), perm);
    let shape = g.integers(&format!("{name}.shape"), shape);
    g.node("Reshape", &[&tokens, &shape], name);
}

fn linear(g: &mut Graph, x: &str, name: &str) -> String {
    let product = g.node("MatMul", &[x, &format!("{name}.weight")], &format!("{name}.product"));
    g.node("Add", &[&product, &format!("{name}.bias")], &format!("{name}.out"))
}

/// `x + W2 gelu(W1 norm(x))`; the GELU is the exact one.
fn block(g: &mut Graph, x: &str, name: &str) -> String {
    let part = |part: &str| format!("{name}.{part}");
    let squares = g.node("Mul", &[x, x], &part("squares"));
    let mean = g.node_with("ReduceMean", &[&squares, "last_axis"], &part("mean"), vec![int("keepdims", 1)]);
    let mean = g.node("Add", &[&mean, "eps"], &part("mean_eps"));
    let root = g.node("Sqrt", &[&mean], &part("root"));
    let normed = g.node("Div", &[x, &root], &part("normed"));
    let normed = g.node("Mul", &[&normed, &part("norm")], &part("scaled"));
    let inner = g.node("MatMul", &[&normed, &part("w1")], &part("inner"));
    let scaled = g.node("Mul", &[&inner, "root_half"], &part("erf_in"));
    let erf = g.node("Erf", &[&scaled], &part("erf"));
    let erf = g.node("Add", &[&erf, "one"], &part("erf_one"));
    let half = g.node("Mul", &[&inner, "half"], &part("half"));
    let gelu = g.node("Mul", &[&half, &erf], &part("gelu"));
    let out = g.node("MatMul", &[&gelu, &part("w2")], &part("branch"));
    g.node("Add", &[x, &out], &part("out"))
}
