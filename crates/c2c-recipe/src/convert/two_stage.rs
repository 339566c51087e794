//! Text between two models, the reference's baseline: one writes what it knows, the other one answers behind it, alone or by
//! a Fuser. The methods `t2t` and `t2t_c2c` here.

use toml::Value;

use super::keys::Keys;
use crate::baselines::T2T_PROMPTS;

/// The reference's longest text and longest answer where a recipe doesn't say.
const MOST_TOKENS: i64 = 1024;
/// The folder of a checkpoint where a recipe doesn't say.
const SUBFOLDER: &str = "final";
const WRITER: &str = "model.context_model_path";
const ANSWERER: &str = "model.answer_model_path";
const CHECKPOINT: &str = "model.rosetta_checkpoint_dir";
const FOLDER: &str = "model.rosetta_subfolder";
const PROMPT: &str = "model.background_prompt";

/// Converts the models and the lengths. `fused`: the one that answers has a Fuser.
pub(super) fn convert(keys: &mut Keys, fused: bool) {
    keys.done("model.model_name", "evaluation.methods", "");
    let methods: &[&str] = match fused {
        true => &["receiver", "sharer", "c2c", "t2t_c2c"],
        false => &["receiver", "sharer", "t2t"],
    };
    keys.set("evaluation.methods", Value::Array(methods.iter().map(|method| Value::from(*method)).collect()));
    model(keys, WRITER, "sharer", "the one that writes");
    if fused {
        keys.done(
            WRITER,
            "sharer.model",
            "it writes and is fused; the reference may ask one model for the text and fuse another",
        );
        fuser(keys);
        keys.implied(ANSWERER, "the artefact names the one that answers");
    } else {
        model(keys, ANSWERER, "receiver", "the one that answers");
        for key in [CHECKPOINT, FOLDER] {
            keys.implied(key, "of a Fuser, which `two_stage` has none of");
        }
    }
    keys.implied_below("model.rosetta_config", "of `Rosetta` only");
    for key in ["eval.checkpoints_dir", "model.is_do_alignment", "model.alignment_strategy"] {
        keys.implied(key, "of `Rosetta` only");
    }
    for key in ["eval.kv_cache_proportion", "eval.kv_cache_order_mode"] {
        keys.implied(key, "the reference reads it for `Rosetta` only");
    }
    prompt(keys);
    lengths(keys);
}

fn model(keys: &mut Keys, key: &str, to: &str, what: &str) {
    match keys.text(key) {
        Some(name) => {
            keys.carry(key, &format!("{to}.model"), name);
            keys.set(&format!("{to}.dtype"), "bf16");
        }
        None => keys.refuse(key, format!("missing; expected {what} of the two models, by its name")),
    }
}

fn fuser(keys: &mut Keys) {
    let Some(checkpoint) = keys.text(CHECKPOINT) else {
        return keys.refuse(CHECKPOINT, "missing; expected the folder of a checkpoint");
    };
    let folder = keys.text(FOLDER).unwrap_or_else(|| SUBFOLDER.to_owned());
    keys.set("artefact.path", format!("{}/{folder}", checkpoint.trim_end_matches('/')));
    let note = "must name an artefact of this program; the reference's checkpoint has to be imported first";
    keys.done(CHECKPOINT, "artefact.path", note);
    keys.done(FOLDER, "artefact.path", "");
}

/// By its name, if it is one of those that have one.
fn prompt(keys: &mut Keys) {
    if let Some(text) = keys.text(PROMPT) {
        let named = T2T_PROMPTS.iter().find(|(_, known)| *known == text);
        keys.carry(PROMPT, "evaluation.t2t_prompt", named.map_or(text, |(name, _)| (*name).to_owned()));
    }
}

fn lengths(keys: &mut Keys) {
    let (text, answer, any) =
        ("eval.communication_max_new_tokens", "eval.response_max_new_tokens", "eval.max_new_tokens");
    if !keys.same(text, "evaluation.t2t_max_new_tokens") {
        keys.set("evaluation.t2t_max_new_tokens", MOST_TOKENS);
    }
    let generation = "model.generation_config.max_new_tokens";
    let carried = [answer, any, generation].into_iter().find(|key| keys.same(key, "evaluation.max_new_tokens"));
    if carried.is_none() {
        keys.set("evaluation.max_new_tokens", MOST_TOKENS);
    }
    for key in [answer, any, generation].into_iter().filter(|key| Some(*key) != carried) {
        keys.implied(key, "another key says how long an answer may be");
    }
}

/// Answers for the keys that only text between two models has, in a recipe of another kind.
pub(super) fn implied(keys: &mut Keys) {
    const WHY: &str = "for text between two models only";
    for key in [WRITER, ANSWERER, CHECKPOINT, FOLDER, PROMPT] {
        keys.implied(key, WHY);
    }
    for key in ["communication_max_new_tokens", "response_max_new_tokens", "max_new_tokens"] {
        keys.implied(&format!("eval.{key}"), WHY);
    }
}
