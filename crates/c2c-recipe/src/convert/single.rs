//! Fine-tunes of one model, the reference's baselines: the method `single` here.

use toml::Value;

use super::keys::Keys;
use super::train::{BF16, output, training};
use crate::sections::LoraTarget;

/// The share of the layers that the reference trains where a recipe doesn't say.
const SHARE: f64 = 0.6;
const LORA: &str = "training.lora";
const PARTIAL: &str = "training.partial_training";

/// Whether a recipe is one of these.
pub(super) fn is_one(keys: &Keys) -> bool {
    keys.get("model.baseline_model").is_some() && keys.get("model.base_model").is_none()
}

pub(super) fn convert(keys: &mut Keys) {
    keys.set("method", "single");
    match keys.text("model.baseline_model") {
        Some(model) => {
            keys.set("receiver.model", model);
            keys.set("receiver.dtype", BF16);
            let note = "what is trained is held in f32 and computed in bf16; the reference holds it in bf16";
            keys.done("model.baseline_model", "receiver.model", note);
        }
        None => keys.refuse("model.baseline_model", "expected one model, by its name"),
    }
    keys.drop("model.attn_implementation", "there is one implementation of attention for each device");
    keys.implied_below("model", "of two models only; not read for one");
    match (keys.below(LORA).is_empty(), keys.below(PARTIAL).is_empty()) {
        (true, true) => keys.set("single.trainable", "full"),
        (false, true) => lora(keys),
        (true, false) => partial(keys),
        (false, false) => {
            keys.refuse(PARTIAL, "beside `lora` it is not known which of the two the reference trains; take one out");
        }
    }
    training(keys);
    keys.implied("training.pad_to_multiple_of", "rows are padded to the longest of a batch, which changes no result");
    keys.implied("training.freeze", "of two models only; here `single.trainable` says what is trained");
    output(keys);
    super::data::convert(keys);
    several_turns(keys);
}

fn lora(keys: &mut Keys) {
    keys.set("single.trainable", "lora");
    let key = |name: &str| format!("{LORA}.{name}");
    keys.same(&key("r"), "single.lora_rank");
    for name in ["lora_alpha", "lora_dropout"] {
        keys.same_number(&key(name), &format!("single.{name}"));
    }
    if let Some(targets) = keys.texts(&key("target_modules")) {
        let known = |target: &&String| LoraTarget::WORDS.contains(&target.as_str());
        if let Some(other) = targets.iter().find(|target| !known(target)) {
            let text = format!("{other:?} can't have an adapter; expected some of {}", LoraTarget::WORDS.join(", "));
            keys.refuse(&key("target_modules"), text);
        }
        let targets = targets.into_iter().map(Value::String).collect();
        keys.carry(&key("target_modules"), "single.lora_targets", Value::Array(targets));
    }
    match keys.text(&key("bias")).as_deref() {
        None | Some("none") => keys.implied(&key("bias"), "biases are never trained beside adapters"),
        Some(_) => keys.refuse(&key("bias"), "biases are never trained beside adapters; expected \"none\""),
    }
    keys.implied(&key("task_type"), "the only way here");
    keys.drop_below(LORA, "not a setting of adapters here");
}

fn partial(keys: &mut Keys) {
    let key = |name: &str| format!("{PARTIAL}.{name}");
    keys.set("single.trainable", "partial");
    match keys.text(&key("method")).as_deref() {
        Some("layer_wise") => {
            let note = "the last layers, with the final norm and the head, which are default parts";
            keys.done(&key("method"), "single.trainable", note);
        }
        Some("parameter_wise") => {
            let text = "trains the last of all tensors in the order of its program, which means nothing here; \
                        choose layers and parts instead: single.first_layer, single.parts";
            keys.refuse(&key("method"), text);
        }
        other => {
            let found = other.map_or_else(|| "missing".to_owned(), |other| format!("{other:?} is unknown"));
            keys.refuse(&key("method"), format!("{found}; expected layer_wise"));
        }
    }
    if !keys.same_number(&key("ratio"), "single.last_share") {
        keys.set("single.last_share", SHARE);
    }
    keys.drop_below(PARTIAL, "not a setting of partial training in the reference");
}

/// The reference's baselines learn everything behind a chat's first message.
fn several_turns(keys: &mut Keys) {
    let one_turn = ["MMLU", "OpenBook", "LLMGenerated", "LongBench"];
    let class = keys.text("data.type").unwrap_or_default().to_lowercase();
    if one_turn.iter().all(|name| !class.starts_with(&name.to_lowercase())) {
        let note =
            "of a chat of several turns the last reply is learnt; by the reference all that follows its first message";
        keys.done("data.type", "data.sources[0].kind", note);
    }
}
