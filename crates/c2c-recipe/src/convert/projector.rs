//! The projector of a training recipe: the Fuser here.

use super::keys::Keys;
use crate::sections::{Features, FuserLevel, FuserNetwork, ReceiverTerm};

/// The reference's defaults where a recipe doesn't say.
const ANNEAL_STEPS: i64 = 1929;
const ALL_IN_ONE_ANNEAL_STEPS: i64 = 1360;
const ALL_IN_ONE_LAYERS: i64 = 2;
const ALL_IN_ONE_WIDTH: i64 = 512;
const ALL_IN_ONE_WEIGHT_WIDTH: i64 = 1024;
const ALL_IN_ONE_TEMPERATURE: f64 = 0.01;

/// The reference's words for what gates and weights are made from.
const FEATURES: [(&str, Features); 6] = [
    ("target_key", Features::ReceiverKey),
    ("target_value", Features::ReceiverValue),
    ("both", Features::ReceiverBoth),
    ("target_projected_key", Features::ProjectedKey),
    ("target_projected_value", Features::ProjectedValue),
    ("target_projected_both", Features::ProjectedBoth),
];

fn param(name: &str) -> String {
    format!("model.projector.params.{name}")
}

pub(super) fn convert(keys: &mut Keys) {
    let kind = keys.text("model.projector.type").unwrap_or_default();
    if kind.eq_ignore_ascii_case("AllInOneProjector") {
        let word = FuserNetwork::AllInOne.as_str();
        keys.carry("model.projector.type", "fuser.network", word);
        all_in_one(keys);
    } else if kind.eq_ignore_ascii_case("AblationProjector") {
        ablation(keys);
        paper(keys);
    } else {
        if !kind.eq_ignore_ascii_case("C2CProjector") {
            let text = format!(
                "{kind:?} is none of C2CProjector (the paper's Fuser), AblationProjector and AllInOneProjector, and no other is trained here"
            );
            keys.refuse("model.projector.type", text);
        }
        keys.done("model.projector.type", "[fuser]", "");
        paper(keys);
    }
    for name in ["dropout", "initial_temperature"] {
        keys.same_number(&param(name), &format!("fuser.{name}"));
    }
    keys.drop(&param("dtype"), "the Fuser is kept and trained in f32 whatever the models' dtype");
    for name in ["source_dim", "target_dim", "source_num_heads", "target_num_heads"] {
        keys.implied(&param(name), "read from the two models");
    }
}

fn paper(keys: &mut Keys) {
    for name in ["hidden_dim", "intermediate_dim", "num_layers", "zero_init"] {
        keys.same(&param(name), &format!("fuser.{name}"));
    }
    keys.same_number(&param("final_temperature"), "fuser.final_temperature");
    if !keys.same(&param("anneal_steps"), "fuser.anneal_steps") {
        keys.set("fuser.anneal_steps", ANNEAL_STEPS);
    }
}

/// The parts that an ablation keeps, told by a number and three truth values, of which the number may take more away.
fn ablation(keys: &mut Keys) {
    let level = param("ablation_level");
    let number = keys.integer(&level).unwrap_or_default();
    if keys.get(&level).is_some() && !(0..=4).contains(&number) {
        keys.refuse(&level, "expected 0 to 4");
    }
    let parts = ["use_scalar_weights", "use_gates", "use_target"]
        .map(|name| (param(name), keys.flag(&param(name)) != Some(false)));
    let [weights, gates, target] = match (number, parts.each_ref().map(|(_, kept)| *kept)) {
        (4, [weights, _, target]) => [weights, false, target],
        (number, [weights, gates, target]) => [weights && number < 1, gates && number < 2, target && number < 3],
    };
    let kept = match (weights, gates, target) {
        (true, true, true) => Some(FuserLevel::Gate),
        (true, false, true) => Some(FuserLevel::Fuse),
        (false, false, false) => Some(FuserLevel::Project),
        _ => None,
    };
    let Some(kept) = kept else {
        let has = |part: bool| if part { "with" } else { "without" };
        let text = format!(
            "keeps a Fuser {} head weights, {} Gates and {} the Receiver's cache, which is no level of the paper's ablation; \
             `fuser.level` has those of 0 (gate), 3 (project) and 4 (fuse)",
            has(weights),
            has(gates),
            has(target)
        );
        return keys.refuse(&level, text);
    };
    keys.set("fuser.level", kept.as_str());
    for key in [&level, "model.projector.type"] {
        keys.done(key, "fuser.level", "");
    }
    for (key, _) in &parts {
        keys.done(key, "fuser.level", "");
    }
}

fn all_in_one(keys: &mut Keys) {
    // Defaults of the class that aren't those of [fuser]; those of [all_in_one] are the class's own.
    for (name, to, default) in [
        ("hidden_dim", "fuser.hidden_dim", ALL_IN_ONE_WIDTH),
        ("weight_hidden_dim", "fuser.intermediate_dim", ALL_IN_ONE_WEIGHT_WIDTH),
        ("num_layers", "fuser.num_layers", ALL_IN_ONE_LAYERS),
        ("anneal_steps", "fuser.anneal_steps", ALL_IN_ONE_ANNEAL_STEPS),
    ] {
        if !keys.same(&param(name), to) {
            keys.set(to, default);
        }
    }
    if !keys.same_number(&param("final_temperature"), "fuser.final_temperature") {
        keys.set("fuser.final_temperature", ALL_IN_ONE_TEMPERATURE);
    }
    for (name, to) in [
        ("use_layer_norm", "layer_norm"),
        ("use_residual", "residual"),
        ("use_swiglu", "swiglu"),
        ("use_concat", "combine"),
        ("max_sequence_length", "max_tokens"),
    ] {
        keys.same(&param(name), &format!("all_in_one.{to}"));
    }
    keys.same_number(&param("scalar_temperature"), "all_in_one.weight_temperature");
    if keys.flag(&param("use_swiglu")) == Some(true) {
        keys.implied(&param("activation"), "SwiGLU takes its place");
    } else if let Some(word) = keys.text(&param("activation")) {
        keys.carry(&param("activation"), "all_in_one.activation", word.to_lowercase());
    }
    receiver(keys);
    scaling(keys, "gate");
    keys.implied(&param("gate_init_value"), "not used there: gates start at 0, as they do here");
    if scaling(keys, "weight") {
        keys.implied(&param("weight_init_value"), "where parameters would start; the weights are made from the input");
    } else {
        keys.same_number(&param("weight_init_value"), "all_in_one.initial_weight");
    }
    if keys.flag(&param("use_gumbel")) == Some(false) {
        let text = "trains with hard gates, through which nothing is learnt by the gates: they stay as they start; \
                    take it out to train them with noise";
        keys.refuse(&param("use_gumbel"), text);
    }
    keys.implied(&param("use_gumbel"), "noise on the gates is the only way here");
    keys.implied(&param("pos_emb"), "not used there");
}

/// Two truth values there, one word here.
fn receiver(keys: &mut Keys) {
    let (added, kept) = (param("add_self"), param("preserve_target_weight"));
    let term = match (keys.flag(&added), keys.flag(&kept)) {
        (Some(false), _) => ReceiverTerm::Replaced,
        (_, Some(false)) => ReceiverTerm::Added,
        _ => ReceiverTerm::Blended,
    };
    for key in [&added, &kept] {
        if keys.get(key).is_some_and(|value| !value.is_boolean()) {
            keys.refuse(key, "expected true or false");
        }
    }
    keys.set("all_in_one.receiver", term.as_str());
    keys.done(&added, "all_in_one.receiver", "");
    if term == ReceiverTerm::Replaced {
        keys.implied(&kept, "not read where the Receiver's own cache isn't added");
    } else {
        keys.done(&kept, "all_in_one.receiver", "");
    }
}

/// Granularity and input of gates or weights; gives whether they depend on the input.
fn scaling(keys: &mut Keys, what: &str) -> bool {
    let [granularity, depends, features] =
        ["granularity", "depends_on_input", "input_features"].map(|name| param(&format!("{what}_{name}")));
    keys.same(&granularity, &format!("all_in_one.{what}_granularity"));
    if keys.get(&depends).is_some_and(|value| !value.is_boolean()) {
        keys.refuse(&depends, "expected true or false");
    }
    if keys.flag(&depends) != Some(true) {
        keys.implied(&depends, "parameters, which no features mean");
        keys.implied(&features, "not read for parameters");
        return false;
    }
    let to = format!("all_in_one.{what}_features");
    // The class's own default.
    let word = keys.text(&features).unwrap_or_else(|| FEATURES[0].0.to_owned());
    match FEATURES.iter().find(|(known, _)| *known == word) {
        Some((_, features)) => keys.set(&to, features.as_str()),
        None => {
            let known = FEATURES.map(|(word, _)| word).join(", ");
            keys.refuse(&features, format!("{word:?} is unknown; expected one of {known}"));
        }
    }
    keys.done(&depends, &to, "");
    keys.done(&features, &to, "");
    true
}
