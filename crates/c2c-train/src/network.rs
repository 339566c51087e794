//! From a recipe's words to the fuser's choices.

use c2c_fuser::{Activation, AllInOneConfig, Features, FuserParts, GateNoise, Granularity, ReceiverTerm, Scaling};
use c2c_recipe::{FuserLevel, TrainRecipe};

/// The noise of the training gate.
pub(crate) fn gate_noise(recipe: &TrainRecipe) -> GateNoise {
    match recipe.fuser.gate_noise {
        c2c_recipe::GateNoise::Gumbel => GateNoise::Gumbel,
        c2c_recipe::GateNoise::Logistic => GateNoise::Logistic,
    }
}

/// The parts of a fuser of this level: the reference implementation's levels 3, 4 and 0.
pub fn fuser_parts(level: FuserLevel) -> FuserParts {
    match level {
        FuserLevel::Project => FuserParts { weights: false, gates: false, receiver: false },
        FuserLevel::Fuse => FuserParts { gates: false, ..FuserParts::default() },
        FuserLevel::Gate => FuserParts::default(),
    }
}

/// The choices of an all-in-one network; `None` for the paper's.
pub(crate) fn all_in_one(recipe: &TrainRecipe) -> Option<AllInOneConfig> {
    let s = recipe.all_in_one_settings()?;
    Some(AllInOneConfig {
        activation: match s.activation {
            c2c_recipe::Activation::Gelu => Activation::Gelu,
            c2c_recipe::Activation::Relu => Activation::Relu,
            c2c_recipe::Activation::Silu => Activation::Silu,
        },
        layer_norm: s.layer_norm,
        residual: s.residual,
        swiglu: s.swiglu,
        combine: s.combine,
        receiver: match s.receiver {
            c2c_recipe::ReceiverTerm::Added => ReceiverTerm::Added,
            c2c_recipe::ReceiverTerm::Blended => ReceiverTerm::Blended,
            c2c_recipe::ReceiverTerm::Replaced => ReceiverTerm::Replaced,
        },
        gate: scaling(s.gate_granularity, s.gate_features),
        weight: scaling(s.weight_granularity, s.weight_features),
        weight_temperature: s.weight_temperature,
        initial_weight: s.initial_weight,
        max_tokens: s.max_tokens,
    })
}

fn scaling(granularity: c2c_recipe::Granularity, features: Option<c2c_recipe::Features>) -> Scaling {
    let granularity = match granularity {
        c2c_recipe::Granularity::Scalar => Granularity::Scalar,
        c2c_recipe::Granularity::Token => Granularity::Token,
        c2c_recipe::Granularity::Head => Granularity::Head,
        c2c_recipe::Granularity::HeadMerged => Granularity::HeadMerged,
        c2c_recipe::Granularity::Value => Granularity::Value,
    };
    let features = features.map(|features| match features {
        c2c_recipe::Features::ReceiverKey => Features::ReceiverKey,
        c2c_recipe::Features::ReceiverValue => Features::ReceiverValue,
        c2c_recipe::Features::ReceiverBoth => Features::ReceiverBoth,
        c2c_recipe::Features::ProjectedKey => Features::ProjectedKey,
        c2c_recipe::Features::ProjectedValue => Features::ProjectedValue,
        c2c_recipe::Features::ProjectedBoth => Features::ProjectedBoth,
    });
    Scaling { granularity, features }
}
