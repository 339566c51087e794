//! The fusion of one token, written out in f64 from published names: independent of how the fuser is stacked.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use c2c_fuser::FuserConfig;

/// The parameters of one layer by published name, row-major.
pub type Layer = BTreeMap<String, Vec<f64>>;

fn linear(x: &[f64], weight: &[f64], bias: Option<&[f64]>) -> Vec<f64> {
    let rows = weight.chunks_exact(x.len()).enumerate();
    rows.map(|(o, row)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + bias.map_or(0.0, |b| b[o])).collect()
}

/// By its power series; arguments stay below 4 here.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn block(x: &[f64], layer: &Layer, name: &str) -> Vec<f64> {
    let part = |part: &str| layer[&format!("{name}.{part}.weight")].as_slice();
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    let normed: Vec<f64> = x.iter().zip(part("norm")).map(|(v, w)| v / (mean + 1e-6).sqrt() * w).collect();
    let inner: Vec<f64> = linear(&normed, part("w1"), None)
        .into_iter()
        .map(|v| 0.5 * v * (1.0 + erf(v / std::f64::consts::SQRT_2)))
        .collect();
    linear(&inner, part("w2"), None).into_iter().zip(x).map(|(y, x)| x + y).collect()
}

/// `side` is `key` or `value`; the sharer's and the receiver's token have their heads joined.
pub fn fuse(config: &FuserConfig, layer: &Layer, side: &str, sharer: &[f64], receiver: &[f64]) -> Vec<f64> {
    let p = |name: &str| layer.get(&format!("{side}_{name}")).map(Vec::as_slice);
    let affine = |x: &[f64], name: &str| linear(x, p(&format!("{name}.weight")).unwrap(), p(&format!("{name}.bias")));
    let parts = config.parts;
    let x = if parts.receiver { [sharer, receiver].concat() } else { sharer.to_vec() };
    let u = block(&affine(&x, "in"), layer, &format!("{side}_mlp1.blocks.0"));
    let mut projected = u.clone();
    for b in 0..config.num_layers - 2 {
        projected = block(&projected, layer, &format!("{side}_proj_mlp2.blocks.{b}"));
    }
    let projected = affine(&projected, "proj_out");
    let weights: Vec<f64> = if parts.weights {
        let heads = affine(&block(&u, layer, &format!("{side}_scalar_mlp2.blocks.0")), "scalar_head");
        heads.into_iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect()
    } else {
        vec![1.0; config.receiver_heads]
    };
    let gate = if parts.gates { f64::from(p("gate_logit").unwrap()[0] > 0.0) } else { 1.0 };
    let own = |i: usize| if parts.receiver { receiver[i] } else { 0.0 };
    let head = |i: usize| i / config.receiver_head_dim;
    projected.iter().enumerate().map(|(i, p)| own(i) + gate * weights[head(i)] * p).collect()
}
