//! Training recipes of the reference.

use crate::schema;
use crate::sections::{LayerMapping, RecipeKind};

use super::keys::Keys;
use super::{data, projector, single};

pub(super) const BF16: &str = "bf16";

pub(super) fn convert(keys: &mut Keys) -> toml::Table {
    if single::is_one(keys) {
        single::convert(keys);
    } else {
        model(keys);
        projector::convert(keys);
        training(keys);
        frozen(keys);
        output(keys);
        data::convert(keys);
    }
    std::mem::take(&mut keys.table)
}

fn model(keys: &mut Keys) {
    for (key, to) in [("model.base_model", "receiver"), ("model.teacher_model", "sharer")] {
        match keys.text(key) {
            Some(model) => {
                keys.carry(key, &format!("{to}.model"), model);
                keys.set(&format!("{to}.dtype"), BF16);
            }
            None => several(keys, key, to),
        }
    }
    keys.implied("model.baseline_model", "the recipe has a `base_model` too, which counts");
    keys.drop("model.attn_implementation", "there is one implementation of attention for each device");
    let aligned = keys.flag("model.is_do_alignment");
    let mode = if aligned == Some(true) { "aligned" } else { "shared" };
    keys.set("alignment.mode", mode);
    let note = if mode == "shared" {
        "the Sharer reads the Receiver's ids; refused at the start if the vocabularies differ"
    } else {
        ""
    };
    keys.done("model.is_do_alignment", "alignment.mode", note);
    // Its default isn't ours.
    if !keys.same("model.alignment_strategy", "alignment.strategy") {
        keys.set("alignment.strategy", "first");
    }
    match keys.flag("model.include_response") {
        Some(true) => {
            keys.drop("model.include_response", "the reply is not fused here; the Fuser is trained on the prompt alone")
        }
        _ => keys.implied("model.include_response", "false is the only way here"),
    }
    keys.implied("model.multi_source_fusion_mode", "a recipe has one Sharer, for which the modes are one");
    match keys.text("model.mapping") {
        Some(word) if LayerMapping::WORDS.contains(&word.as_str()) => {
            keys.carry("model.mapping", "fuser.layer_mapping", word)
        }
        Some(word) => {
            let words = LayerMapping::WORDS.join(", ");
            keys.refuse("model.mapping", format!("the layer alignment {word:?} is unknown; known are {words}"));
        }
        None => keys.refuse("model.mapping", "missing; the reference requires it"),
    }
}

/// A model that isn't one text: a map or a list of several Sharers.
fn several(keys: &mut Keys, key: &str, to: &str) {
    let below = keys.below(key);
    match below.as_slice() {
        [] if keys.get(key).is_none() => keys.refuse(key, "missing; a Fuser needs a Receiver and a Sharer"),
        [only] if keys.text(only).is_some() => {
            let model = keys.text(only).unwrap_or_default();
            keys.carry(only, &format!("{to}.model"), model);
            keys.set(&format!("{to}.dtype"), BF16);
        }
        _ => keys.refuse(
            key,
            "names several models; a Fuser is trained between one Receiver and one Sharer: write a recipe for each",
        ),
    }
}

pub(super) fn training(keys: &mut Keys) {
    for (key, to) in [
        ("learning_rate", "optimizer.learning_rate"),
        ("weight_decay", "optimizer.weight_decay"),
        ("max_grad_norm", "optimizer.max_grad_norm"),
        ("warmup_ratio", "schedule.warmup_ratio"),
    ] {
        keys.same_number(&format!("training.{key}"), to);
    }
    for (key, to) in
        [("num_epochs", "training.epochs"), ("per_device_train_batch_size", "training.batch_size"), ("seed", "seed")]
    {
        keys.same(&format!("training.{key}"), to);
    }
    // Its default is 1, ours isn't.
    if keys.same("training.gradient_accumulation_steps", "training.gradient_accumulation") {
        let note = "on N GPUs the reference's batch is N times this; multiply to get the same";
        keys.done("training.gradient_accumulation_steps", "training.gradient_accumulation", note);
    } else {
        keys.set("training.gradient_accumulation", 1);
    }
    if keys.same("training.max_length", "training.max_length") {
        keys.done("training.max_length", "training.max_length", "longer examples are left out and counted, not cut");
    }
    match keys.text("training.scheduler_type").as_deref() {
        Some(kind @ ("linear" | "cosine")) => keys.carry("training.scheduler_type", "schedule.kind", kind),
        Some("constant_with_warmup") => keys.carry("training.scheduler_type", "schedule.kind", "constant"),
        Some("constant") => {
            keys.carry("training.scheduler_type", "schedule.kind", "constant");
            keys.carry("training.warmup_ratio", "schedule.warmup_ratio", 0.0);
            keys.done("training.warmup_ratio", "schedule.warmup_ratio", "0: a constant schedule has no warm-up");
        }
        Some(other) => keys.refuse("training.scheduler_type", format!("the schedule {other:?} doesn't exist here")),
        None => {}
    }
    keys.implied("training.device", "chosen on the command line: --device");
    keys.implied(
        "training.num_processes",
        "devices are chosen on the command line; the reference doesn't read this key either",
    );
}

/// What is said of two models only.
fn frozen(keys: &mut Keys) {
    keys.drop("training.pad_to_multiple_of", "sections are padded to the longest of a batch");
    let frozen = keys.get("training.freeze").cloned();
    let names: Vec<&str> =
        frozen.iter().filter_map(|list| list.as_array()).flatten().filter_map(|name| name.as_str()).collect();
    if names.contains(&"projector") {
        keys.refuse("training.freeze", "freezes the projector, so that nothing would be trained");
    } else if frozen.is_some() && !(names.contains(&"teacher") && names.contains(&"base")) {
        keys.refuse("training.freeze", "leaves a model unfrozen; both models stay frozen here");
    }
    keys.implied("training.freeze", "both models are always frozen");
    keys.implied_below("training.lora", "of fine-tunes without a Sharer only; not read with one");
    keys.implied_below("training.partial_training", "of fine-tunes without a Sharer only; not read with one");
}

pub(super) fn output(keys: &mut Keys) {
    if keys.same("output.output_dir", "output.dir") {
        keys.done("output.output_dir", "output.dir", "each run makes a folder of its own in it");
    }
    keys.same("output.eval_steps", "training.evaluate_every");
    let checkpoints = "checkpoint.every";
    if schema::keys(RecipeKind::Train).contains(&checkpoints) {
        keys.same("output.save_steps", checkpoints);
    } else {
        keys.drop("output.save_steps", "what is trained is saved at the end and on an interrupt");
    }
    keys.drop_below(
        "output.wandb_config",
        "nothing is sent to a service; metrics.jsonl in the run directory has the figures",
    );
    keys.drop(
        "output.wandb_config",
        "nothing is sent to a service; metrics.jsonl in the run directory has the figures",
    );
}
