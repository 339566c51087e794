//! What goes together in a Fuser that is an all-in-one network, and what is said of the two networks only.

use crate::check::Checked;
use crate::sections::{Activation, FuserLevel, FuserNetwork, Granularity, TrainMethod};

/// The least depth of the paper's network: a trunk block, a weight block and a projection block.
const PAPER_LAYERS: i64 = 3;
const SECTION: &str = "all_in_one";

pub(super) fn check(checked: &Checked, tell: &mut impl FnMut(&str, String)) {
    if checked.text("fuser.network") != Some(FuserNetwork::AllInOne.as_str()) {
        paper(checked, tell);
        return;
    }
    if checked.text("method") == Some(TrainMethod::Transformation.as_str()) {
        let message = "the method `transformation` trains the projection of the paper's network; leave this out";
        tell("fuser.network", message.to_owned());
    }
    if let Some(level) = checked.text("fuser.level").filter(|level| *level != FuserLevel::Gate.as_str()) {
        let message =
            format!("{level:?} is a level of the paper's network; an all-in-one network has none, leave this out");
        tell("fuser.level", message);
    }
    if checked.flag("fuser.zero_init") == Some(true) {
        let message = "an all-in-one network has no output projection that could start at zero; leave this out";
        tell("fuser.zero_init", message.to_owned());
    }
    activation(checked, tell);
    scalings(checked, tell);
    places(checked, tell);
}

/// The paper's network reads nothing of the section, and is deeper.
fn paper(checked: &Checked, tell: &mut impl FnMut(&str, String)) {
    if checked.origins.contains_key(SECTION) {
        let message = "the paper's network has none of these choices; \
                       write network = \"all_in_one\" in [fuser], or take this section out";
        tell(SECTION, message.to_owned());
    }
    if let Some(layers) = checked.integer("fuser.num_layers").filter(|layers| *layers < PAPER_LAYERS) {
        let message =
            format!("expected an integer, {PAPER_LAYERS} or more, in the paper's network; found the integer {layers}");
        tell("fuser.num_layers", message);
    }
}

fn activation(checked: &Checked, tell: &mut impl FnMut(&str, String)) {
    let other = checked.text("all_in_one.activation").filter(|word| *word != Activation::Gelu.as_str());
    if let Some(word) = other.filter(|_| checked.flag("all_in_one.swiglu") == Some(true)) {
        let message = format!("{word:?} is read by nothing, since swiglu takes its place; leave one of the two out");
        tell("all_in_one.activation", message);
    }
}

/// Gates and weights, each with the key of where its parameters start.
fn scalings(checked: &Checked, tell: &mut impl FnMut(&str, String)) {
    for (what, start) in [("gate", "fuser.initial_gate_logit"), ("weight", "all_in_one.initial_weight")] {
        let key = format!("all_in_one.{what}_granularity");
        let granularity = checked.text(&key).unwrap_or_default();
        let Some(features) = checked.text(&format!("all_in_one.{what}_features")) else {
            // Nothing is said where the features are wrong: they are there.
            let absent = !checked.origins.contains_key(&format!("all_in_one.{what}_features"));
            if absent && granularity == Granularity::HeadMerged.as_str() {
                let message = format!(
                    "\"head_merged\" is made from the heads of a token, and parameters are made from nothing; \
                     write {what}_features, or \"head\""
                );
                tell(&key, message);
            }
            continue;
        };
        if what == "gate" && granularity == Granularity::Token.as_str() {
            let message = format!(
                "the reference implementation's class fails on a \"token\" gate that is made from {features:?}, so that \
                 nothing else could read this Fuser; write \"scalar\" or \"head_merged\", or leave gate_features out"
            );
            tell(&key, message);
        }
        if let Some(value) = checked.number(start).filter(|value| *value != 0.0) {
            let message = format!(
                "{value} is where parameters start, and all_in_one.{what}_features makes the {what}s instead; \
                 leave one of the two out"
            );
            tell(start, message);
        }
    }
}

/// A section may be as long as an example, and needs a parameter for each of its places.
fn places(checked: &Checked, tell: &mut impl FnMut(&str, String)) {
    let of_places = ["gate", "weight"].into_iter().find(|what| {
        let granularity = checked.text(&format!("all_in_one.{what}_granularity"));
        let parameters = checked.text(&format!("all_in_one.{what}_features")).is_none();
        parameters && granularity.is_some_and(|word| word != Granularity::Scalar.as_str())
    });
    let lengths = (checked.integer("all_in_one.max_tokens"), checked.integer("training.max_length"));
    if let (Some(what), (Some(most), Some(length))) = (of_places, lengths)
        && most < length
    {
        let message = format!(
            "{most} is below training.max_length, {length}: a longer section would have no {what} for its last tokens; \
             raise this or lower that"
        );
        tell("all_in_one.max_tokens", message);
    }
}
