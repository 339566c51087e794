//! The line of `[all_in_one]` in the key table. Its defaults are those of the reference implementation's class.

use super::DefaultValue::{Bool, Integer, Number, Text, Unset};
use super::sections::{ANY, COUNT, POSITIVE, key};
use super::{Kind, Section};
use crate::sections::{Activation, Features, Granularity, ReceiverTerm};

pub(super) static ALL_IN_ONE: Section = Section {
    name: "all_in_one",
    optional: true,
    doc: "What a Fuser with `fuser.network = \"all_in_one\"` is made of. For every layer, once for keys and once for values, with `s` the Sharer's and `t` the Receiver's: a projection `p` of `s`, a weight `w` between 0 and 1, and a Gate that keys and values share.",
    keys: &[
        key(
            "all_in_one.activation",
            Kind::Word(Activation::WORDS),
            Text("gelu"),
            "Between the linear maps of a projection. Stays `gelu` with `swiglu`, which takes its place.",
        ),
        key(
            "all_in_one.layer_norm",
            Kind::Bool,
            Bool(true),
            "A LayerNorm behind every linear map of a projection but the last.",
        ),
        key(
            "all_in_one.residual",
            Kind::Bool,
            Bool(true),
            "Add a projection's input to its output, if both models' tokens have one width.",
        ),
        key(
            "all_in_one.swiglu",
            Kind::Bool,
            Bool(false),
            "`silu(a x) * (b x)` in place of every linear map of a projection but the last, and of the activation.",
        ),
        key(
            "all_in_one.combine",
            Kind::Bool,
            Bool(false),
            "Make the projection that is used by a linear map of the projection and the Receiver's own cache.",
        ),
        key(
            "all_in_one.receiver",
            Kind::Word(ReceiverTerm::WORDS),
            Text("blended"),
            "What becomes of the Receiver's own cache. `added`: `t + gate w p`. `blended`: `(1 - w) t + gate w p`. `replaced`: `gate w p`.",
        ),
        key(
            "all_in_one.gate_granularity",
            Kind::Word(Granularity::WORDS),
            Text("scalar"),
            "For what there is one gate: a layer, a token, a token and head (`head`, `head_merged`), or a channel of those (`value`). `head_merged` is made from all heads of a token and needs `gate_features`; `token` can't have any.",
        ),
        key(
            "all_in_one.gate_features",
            Kind::Word(Features::WORDS),
            Unset,
            "What a small network makes the gates from: the Receiver's key, value or both, alone (`receiver_`) or beside what is projected for them (`projected_`). Unset: gates are parameters, those of a token belonging to its place in the fused section, and start at `fuser.initial_gate_logit`.",
        ),
        key(
            "all_in_one.weight_granularity",
            Kind::Word(Granularity::WORDS),
            Text("scalar"),
            "For what there is one weight, as `gate_granularity`. `head_merged` needs `weight_features`.",
        ),
        key(
            "all_in_one.weight_features",
            Kind::Word(Features::WORDS),
            Unset,
            "What a small network makes the weights from, as `gate_features`. Unset: weights are parameters.",
        ),
        key(
            "all_in_one.weight_temperature",
            POSITIVE,
            Number(0.005),
            "Divides the weights before their sigmoid. It stays as it is, unlike the Gate's.",
        ),
        key("all_in_one.initial_weight", ANY, Number(0.0), "Where weights start that are parameters."),
        key(
            "all_in_one.max_tokens",
            COUNT,
            Integer(8192),
            "Places that have parameters, where gates or weights are parameters finer than `scalar`: the longest section that can be fused. At least `training.max_length` then.",
        ),
    ],
};
