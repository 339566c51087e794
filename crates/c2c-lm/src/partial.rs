//! Which parameters of a model are trained.

use std::ops::Range;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use crate::Lm;

/// A group of a model's parameters. Those of a layer are counted layer by layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LmPart {
    /// The embedding, and with it a tied head.
    Embedding,
    /// Query, key and value of a layer, with their biases.
    Qkv,
    /// The output projection of a layer's attention, with its bias.
    OProj,
    /// Gate and up projection of a layer's MLP.
    GateUp,
    /// Down projection of a layer's MLP.
    DownProj,
    /// All norms of a layer.
    Norms,
    /// The norm behind the last layer.
    FinalNorm,
    /// The head, and with it a tied embedding.
    Head,
}

struct Grad(bool);

impl<B: Backend> ModuleMapper<B> for Grad {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.set_require_grad(self.0)
    }
}

/// The parameter, trained or frozen.
fn set<B: Backend, M: Module<B>>(param: M, trained: bool) -> M {
    param.map(&mut Grad(trained))
}

impl<B: Backend> Lm<B> {
    /// The model with these parts trained, those of layers in `layers` only, and everything else frozen.
    pub fn trained_in(mut self, parts: &[LmPart], layers: Range<usize>) -> Self {
        let has = |part| parts.contains(&part);
        let head = has(LmPart::Head);
        self.embedding = set(self.embedding, has(LmPart::Embedding) || head && self.head.is_none());
        self.final_norm = set(self.final_norm, has(LmPart::FinalNorm));
        self.head = self.head.map(|param| set(param, head));
        let each = self.layers.into_iter().enumerate().map(|(index, mut layer)| {
            let trained = |part| layers.contains(&index) && has(part);
            let (qkv, o_proj, norms) = (trained(LmPart::Qkv), trained(LmPart::OProj), trained(LmPart::Norms));
            layer.qkv = set(layer.qkv, qkv);
            layer.qkv_bias = layer.qkv_bias.map(|param| set(param, qkv));
            layer.o = set(layer.o, o_proj);
            layer.o_bias = layer.o_bias.map(|param| set(param, o_proj));
            layer.gate_up = set(layer.gate_up, trained(LmPart::GateUp));
            layer.down = set(layer.down, trained(LmPart::DownProj));
            layer.input_norm = set(layer.input_norm, norms);
            layer.mlp_norm = set(layer.mlp_norm, norms);
            layer.q_norm = layer.q_norm.map(|param| set(param, norms));
            layer.k_norm = layer.k_norm.map(|param| set(param, norms));
            layer.post_attention_norm = layer.post_attention_norm.map(|param| set(param, norms));
            layer.post_mlp_norm = layer.post_mlp_norm.map(|param| set(param, norms));
            layer
        });
        self.layers = each.collect();
        self
    }
}
