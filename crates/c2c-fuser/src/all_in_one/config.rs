//! What an all-in-one network is made of.

use serde::{Deserialize, Serialize};

use crate::{FuserConfig, FuserError};

/// The function between the linear maps of a projection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// The exact GELU.
    #[default]
    Gelu,
    /// max(x, 0).
    Relu,
    /// x sigmoid(x).
    Silu,
}

/// For what there is one value of a gate or weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    /// A layer; where it depends on the input, a row of the batch, from the mean over heads and tokens.
    #[default]
    Scalar,
    /// A token.
    Token,
    /// A token and head, each made from that head alone.
    Head,
    /// A token and head, made from all heads of the token.
    HeadMerged,
    /// A token, head and channel, each made from that head alone.
    Value,
}

/// What a gate or weight is made from, channels of a head side by side in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Features {
    /// The receiver's key.
    ReceiverKey,
    /// The receiver's value.
    ReceiverValue,
    /// The receiver's key and value.
    ReceiverBoth,
    /// The receiver's key and the projected key.
    ProjectedKey,
    /// The receiver's value and the projected value.
    ProjectedValue,
    /// The receiver's key and value, the projected key and value.
    ProjectedBoth,
}

impl Features {
    /// Vectors of a head's width that are put side by side.
    pub(crate) fn count(self) -> usize {
        match self {
            Self::ReceiverKey | Self::ReceiverValue => 1,
            Self::ReceiverBoth | Self::ProjectedKey | Self::ProjectedValue => 2,
            Self::ProjectedBoth => 4,
        }
    }
}

/// A gate or a weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// How many values there are.
    pub granularity: Granularity,
    /// What they are made from by a small network; absent if they are parameters. Those of a token are the parameters of its
    /// place in the fused section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
}

impl Scaling {
    /// Width of the input of the small network; `None` if there is none, or if it overflows.
    pub fn input_width(self, heads: usize, head_dim: usize) -> Option<usize> {
        let merged = matches!(self.granularity, Granularity::Token | Granularity::HeadMerged);
        let width = self.features?.count().checked_mul(head_dim)?;
        width.checked_mul(if merged { heads } else { 1 })
    }

    /// Width of what the small network puts out.
    pub fn output_width(self, heads: usize, head_dim: usize) -> usize {
        match self.granularity {
            Granularity::Scalar | Granularity::Token | Granularity::Head => 1,
            Granularity::HeadMerged => heads,
            Granularity::Value => head_dim,
        }
    }

    /// Rows and columns of a layer's parameters, if they are parameters; `None` if that overflows.
    pub fn table(self, max_tokens: usize, heads: usize, head_dim: usize) -> Option<[usize; 2]> {
        Some(match self.granularity {
            Granularity::Scalar => [1, 1],
            Granularity::Token => [max_tokens, 1],
            Granularity::Head | Granularity::HeadMerged => [max_tokens, heads],
            Granularity::Value => [max_tokens, heads.checked_mul(head_dim)?],
        })
    }
}

/// What becomes of the receiver's own cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiverTerm {
    /// It stays, and the projection is added.
    Added,
    /// It is scaled by 1 minus the weight, and the projection is added.
    #[default]
    Blended,
    /// The projection takes its place.
    Replaced,
}

/// The choices of an all-in-one network. Widths, layers, dropout and temperatures are those of [`FuserConfig`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllInOneConfig {
    /// Of the projections.
    pub activation: Activation,
    /// A LayerNorm behind every linear map of a projection but the last.
    pub layer_norm: bool,
    /// The projection's input is added to its output if they have one width.
    pub residual: bool,
    /// Every linear map of a projection but the last is `silu(a x) * (b x)`, without another activation.
    pub swiglu: bool,
    /// A linear map of projection and receiver's cache makes the projection that is used.
    pub combine: bool,
    /// What becomes of the receiver's own cache.
    pub receiver: ReceiverTerm,
    /// The gate, one for keys and values.
    pub gate: Scaling,
    /// The weights, one for keys and one for values.
    pub weight: Scaling,
    /// Divides the weights before their sigmoid.
    pub weight_temperature: f64,
    /// Where weights start that are parameters.
    pub initial_weight: f64,
    /// Rows of parameters that tokens have: the longest section that can be fused with those.
    pub max_tokens: usize,
}

impl AllInOneConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// The first value out of its range.
    pub(crate) fn validate(&self) -> Result<(), FuserError> {
        let bad =
            |key, found: String, expected: &str| Err(FuserError::Config { key, found, expected: expected.to_owned() });
        let t = self.weight_temperature;
        if !(t.is_finite() && t > 0.0) {
            return bad("all_in_one.weight_temperature", t.to_string(), "above 0");
        }
        if !self.initial_weight.is_finite() {
            return bad("all_in_one.initial_weight", self.initial_weight.to_string(), "a number");
        }
        if self.max_tokens == 0 {
            return bad("all_in_one.max_tokens", "0".into(), "1 or more");
        }
        for (key, scaling) in [("all_in_one.gate", self.gate), ("all_in_one.weight", self.weight)] {
            if scaling.features.is_none() && scaling.granularity == Granularity::HeadMerged {
                return bad(key, "head_merged without features".into(), "features, or another granularity");
            }
        }
        Ok(())
    }

    /// Parameters of the whole fuser.
    pub(crate) fn num_params(&self, c: &FuserConfig) -> usize {
        let (heads, width, t) = (c.receiver_heads, c.receiver_head_dim, c.receiver_width());
        let linear = |input: usize, output: usize| input * output + output;
        let mlp = |maps: usize, input: usize, hidden: usize, output: usize, swiglu: bool, norm: bool| {
            let between = |n: usize| linear(n, hidden) * (1 + usize::from(swiglu)) + if norm { 2 * hidden } else { 0 };
            match maps {
                1 => linear(input, output),
                _ => between(input) + (maps - 2) * between(hidden) + linear(hidden, output),
            }
        };
        let table = |scaling: Scaling| {
            let table = scaling.features.is_none().then(|| scaling.table(self.max_tokens, heads, width)).flatten();
            table.map_or(0, |[rows, columns]| rows * columns)
        };
        let small = |scaling: Scaling, hidden: usize, output: usize| {
            scaling.input_width(heads, width).map_or(0, |input| mlp(2, input, hidden, output, false, true))
        };
        let hidden = c.intermediate_dim;
        let head = self.weight.features.map_or(0, |_| linear(hidden, self.weight.output_width(heads, width)));
        let branch = mlp(c.num_layers, c.sharer_width(), c.hidden_dim, t, self.swiglu, self.layer_norm)
            + if self.combine { linear(2 * t, t) } else { 0 }
            + table(self.weight)
            + head;
        let shared = table(self.gate)
            + small(self.gate, c.hidden_dim, self.gate.output_width(heads, width))
            + small(self.weight, hidden, hidden);
        c.branches() * branch + c.layers() * shared
    }

    /// Whether a layer has one gate.
    pub(crate) fn has_layer_gates(&self) -> bool {
        self.gate.features.is_none() && self.gate.granularity == Granularity::Scalar
    }

    /// Whether anything is a parameter of a token's place.
    pub(crate) fn has_places(&self) -> bool {
        [self.gate, self.weight].iter().any(|s| s.features.is_none() && s.granularity != Granularity::Scalar)
    }
}
