//! Evaluation recipes of the reference.

use toml::{Table, Value};

use super::keys::Keys;
use super::two_stage;

/// The reference's benchmarks, each with the kind of source that asks it.
const BENCHMARKS: &[(&str, &str)] = &[
    ("mmlu-redux", "mmlu_redux"),
    ("mmmlu", "mmmlu"),
    ("gpqa", "gpqa"),
    ("openbookqa", "openbookqa"),
    ("ai2-arc", "arc"),
    ("mmlu-pro", "mmlu_pro"),
    ("ceval", "ceval"),
    ("math-500", "math500"),
    ("gsm8k", "gsm8k"),
    ("longbench", "longbench"),
];
/// Those whose subjects the reference limits one by one; the others are cut into parts, one a GPU.
const BY_SUBJECT: &[&str] = &["mmlu_redux", "mmmlu", "ceval", "longbench"];
/// Those with subjects to choose among here.
const WITH_SUBJECTS: &[&str] = &["mmlu_redux", "mmmlu", "ceval", "mmlu_pro", "gpqa", "math500", "longbench"];
/// How much of a prompt the reference fuses, and from which end.
const SHARE: &str = "eval.kv_cache_proportion";
const END: &str = "eval.kv_cache_order_mode";
/// The reference's default benchmark.
const USUAL: &str = "mmlu-redux";

pub(super) fn convert(keys: &mut Keys) -> Table {
    model(keys);
    questions(keys);
    answers(keys);
    machine(keys);
    std::mem::take(&mut keys.table)
}

fn model(keys: &mut Keys) {
    let name = keys.text("model.model_name").unwrap_or_default();
    match name.to_lowercase().as_str() {
        "" => return keys.refuse("model.model_name", "missing; expected Rosetta, two_stage or one model, by its name"),
        // Before any other name with `rosetta` in it, as there.
        "two_stage" => return two_stage::convert(keys, false),
        "two_stage_rosetta" => return two_stage::convert(keys, true),
        rosetta if rosetta.contains("rosetta") => keys.done("model.model_name", "kind", ""),
        _ => return alone(keys, name),
    }
    two_stage::implied(keys);
    let rosetta = |key: &str| format!("model.rosetta_config.{key}");
    if let Some(model) = keys.text(&rosetta("base_model")) {
        keys.carry(&rosetta("base_model"), "receiver.model", model);
        keys.set("receiver.dtype", "bf16");
    }
    links(keys);
    let aligned = alignment(keys);
    fused_share(keys, aligned);
    keys.drop(&rosetta("include_response"), "the reply is never fused here");
}

/// How tokens are aligned is asked as it was trained. The reference may ask otherwise, and its recipes do: `first` in those for
/// training, `longest` in those for evaluation. Gives whether they are.
fn alignment(keys: &mut Keys) -> bool {
    let at = |key: &str| [format!("model.rosetta_config.{key}"), format!("model.{key}")];
    let aligned = at("is_do_alignment").iter().any(|key| keys.flag(key) == Some(true));
    for key in at("is_do_alignment") {
        keys.implied(&key, "the artefact says how its Fuser was trained, and so it is asked");
    }
    for key in at("alignment_strategy") {
        if aligned {
            keys.drop(
                &key,
                "the artefact's own strategy is used, that of its training; the reference aligns by this one here",
            );
        } else {
            keys.implied(&key, "not read where no tokens are aligned");
        }
    }
    aligned
}

/// The share of a prompt that is fused, which the reference reads where no tokens are aligned.
fn fused_share(keys: &mut Keys, aligned: bool) {
    if keys.get(SHARE).is_none() || keys.number(SHARE) == Some(1.0) {
        keys.implied(SHARE, "the whole prompt, as here");
        return keys.implied(END, "of no effect where the whole prompt is fused");
    }
    keys.same_number(SHARE, "evaluation.fused_share");
    if aligned {
        let note = "the reference doesn't read it where tokens are aligned, and fuses all of them; here it holds";
        keys.done(SHARE, "evaluation.fused_share", note);
    }
    keys.same(END, "evaluation.fused_from");
}

/// Sharers and Fusers: one of each, or a table of Sharers by name and a list of as many Fusers.
fn links(keys: &mut Keys) {
    const IMPORT: &str = "must name an artefact of this program; the reference's checkpoint has to be imported first";
    let (teacher, mode) = ("model.rosetta_config.teacher_model", "model.rosetta_config.multi_source_fusion_mode");
    let named = match keys.text(teacher) {
        Some(_) => vec![teacher.to_owned()],
        None => keys.below(teacher),
    };
    if named.is_empty() && keys.get(teacher).is_some() {
        return keys.refuse(teacher, "expected one model, or several by names of their own");
    }
    let sharers: Vec<String> = named.iter().filter_map(|key| keys.text(key)).collect();
    let places = ["model.rosetta_config.checkpoints_dir", "eval.checkpoints_dir"];
    let found = places.into_iter().find_map(|key| Some((key, keys.texts(key)?)));
    let Some((key, fusers)) = found.filter(|(_, fusers)| !fusers.is_empty()) else {
        return keys.refuse(places[0], "missing; expected a Fuser's folder, or a list of one for each Sharer");
    };
    if sharers.len() != named.len() || fusers.len() != named.len().max(1) {
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let (found, expected) = (count(fusers.len(), "Fuser"), count(named.len().max(1), "Sharer"));
        return keys.refuse(key, format!("{found} for {expected}; expected one for each, in their order"));
    }
    if let (Some(key), Some(sharer)) = (named.first(), sharers.first()) {
        keys.carry(key, "sharer.model", sharer.clone());
        keys.set("sharer.dtype", "bf16");
    }
    keys.carry(key, "artefact.path", fusers[0].clone());
    if fusers.len() == 1 {
        keys.done(key, "artefact.path", IMPORT);
        return keys.implied(mode, "there is one Sharer, for which the modes are one");
    }
    keys.done(key, "artefact.path, several.links", IMPORT);
    let link = |(sharer, fuser): (&String, &String)| {
        let pairs = [("fuser", fuser.as_str()), ("sharer", sharer), ("dtype", "bf16")];
        Value::Table(pairs.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect())
    };
    keys.set("several.links", Value::Array(sharers.iter().zip(&fusers).skip(1).map(link).collect()));
    for (place, key) in named.iter().enumerate().skip(1) {
        keys.done(key, &format!("several.links[{}].sharer", place - 1), "");
    }
    keys.same(mode, "several.order");
    // What the reference asks is `several`; the others are what it is compared with.
    let methods = ["receiver", "sharer", "c2c", "several", "mismatched", "several_mismatched"];
    keys.set("evaluation.methods", Value::Array(methods.into_iter().map(Value::from).collect()));
}

/// One model, which is asked as a Receiver without a Fuser.
fn alone(keys: &mut Keys, name: String) {
    keys.carry("model.model_name", "receiver.model", name);
    keys.set("receiver.dtype", "bf16");
    keys.set("evaluation.methods", Value::Array(vec!["receiver".into()]));
    let why = "of two models only; not read for one";
    keys.implied_below("model.rosetta_config", why);
    for key in ["eval.checkpoints_dir", "model.is_do_alignment", "model.alignment_strategy", SHARE, END] {
        keys.implied(key, why);
    }
    two_stage::implied(keys);
}

fn questions(keys: &mut Keys) {
    let dataset = keys.text("eval.dataset").unwrap_or_else(|| USUAL.to_owned());
    let Some((_, kind)) = BENCHMARKS.iter().find(|(name, _)| *name == dataset) else {
        let known: Vec<&str> = BENCHMARKS.iter().map(|(name, _)| *name).collect();
        return keys
            .refuse("eval.dataset", format!("{dataset:?} is unknown; an evaluation here asks {}", known.join(", ")));
    };
    let mut source = Table::new();
    source.insert("kind".into(), (*kind).into());
    keys.done(
        "eval.dataset",
        "evaluation.sources[0].kind",
        "looked up in the local hub cache; or write the `path` of its files",
    );
    let (limit, by_subject) = (keys.integer("eval.limit"), BY_SUBJECT.contains(kind));
    match limit {
        Some(limit) => {
            let name = if by_subject { "limit_per_subject" } else { "limit" };
            let note = if by_subject { "" } else { "of all questions; the reference's is for each GPU's part" };
            source.insert(name.into(), limit.into());
            keys.done("eval.limit", &format!("evaluation.sources[0].{name}"), note);
        }
        None => keys.drop("eval.limit", "a range of rows can't be asked"),
    }
    match keys.integer("eval.sample_interval") {
        Some(interval) if interval > 1 => {
            source.insert("sample_interval".into(), interval.into());
            keys.done("eval.sample_interval", "evaluation.sources[0].sample_interval", "");
        }
        _ => keys.implied("eval.sample_interval", "every row is asked"),
    }
    match keys.texts("eval.subjects") {
        Some(subjects) if WITH_SUBJECTS.contains(kind) && !subjects.is_empty() => {
            source.insert("subjects".into(), Value::Array(subjects.into_iter().map(Value::String).collect()));
            keys.done("eval.subjects", "evaluation.sources[0].subjects", "");
        }
        _ => keys.drop("eval.subjects", "this benchmark has no subjects to choose among"),
    }
    if *kind == "longbench" {
        if keys.flag("eval.longbench_e") == Some(true) {
            source.insert("config".into(), "e".into());
        }
        keys.done("eval.longbench_e", "evaluation.sources[0].config", "");
        if let Some(most) = keys.integer("model.max_length") {
            source.insert("cut_middle".into(), most.into());
            keys.done("model.max_length", "evaluation.sources[0].cut_middle", "");
        }
    }
    keys.set("evaluation.sources", Value::Array(vec![Value::Table(source)]));
    let (cot, template) = (keys.flag("eval.use_cot") == Some(true), keys.flag("eval.use_template") != Some(false));
    let prompt = match (template, cot) {
        (false, _) => "plain",
        (true, true) => "c2c_cot",
        (true, false) => "c2c",
    };
    keys.set("evaluation.prompt", prompt);
    keys.done("eval.use_cot", "evaluation.prompt", "");
    keys.done("eval.use_template", "evaluation.prompt", "");
}

fn answers(keys: &mut Keys) {
    match keys.text("eval.answer_method").as_deref() {
        Some("logits") => {
            keys.carry("eval.answer_method", "evaluation.mode", "logits");
            match keys.text("eval.response_text") {
                Some(text) => keys.carry("eval.response_text", "evaluation.response_text", text),
                None => keys.implied("eval.response_text", "the usual one"),
            }
        }
        Some("generate") | None => {
            keys.implied("eval.answer_method", "replies are generated unless `evaluation.mode` says otherwise");
            keys.implied("eval.response_text", "for the logits of the letters only");
        }
        Some(other) => keys.refuse("eval.answer_method", format!("{other:?} is unknown; expected generate or logits")),
    }
    let generation = |key: &str| format!("model.generation_config.{key}");
    // Of text between two models it has been answered already.
    if !keys.is_set("evaluation.max_new_tokens") {
        keys.same(&generation("max_new_tokens"), "evaluation.max_new_tokens");
    }
    if keys.flag(&generation("do_sample")) == Some(true) {
        keys.refuse(&generation("do_sample"), "answers are greedy here");
    }
    keys.implied(&generation("do_sample"), "answers are greedy, the only way here");
    keys.implied_below("model.generation_config", "of no effect on greedy answers");
    keys.implied("eval.longbench_e", "for LongBench only");
    for key in ["longbench_prompt_format_path", "longbench_maxlen_format_path"] {
        keys.implied(&format!("eval.{key}"), "LongBench's templates and lengths are built in");
    }
    keys.implied("eval.math_grading_method", "the reference doesn't read it");
}

fn machine(keys: &mut Keys) {
    keys.implied("model.max_length", "the reference reads it for LongBench only");
    keys.implied("eval.gpu_ids", "one device, chosen on the command line: --device");
    keys.implied("eval.cuda_launch_blocking", "a switch for finding faults of CUDA programs");
    keys.drop(
        "eval.debug_dump_bad_samples",
        "eval/records.parquet holds every answer, and the error of one that failed",
    );
    if keys.same("output.output_dir", "output.dir") {
        keys.done("output.output_dir", "output.dir", "each run makes a folder of its own in it");
    }
}
