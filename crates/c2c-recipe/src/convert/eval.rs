//! Evaluation recipes of the reference.

use toml::{Table, Value};

use super::keys::Keys;

/// Benchmarks of multiple-choice questions, which an evaluation here can ask.
const MULTIPLE_CHOICE: &[&str] = &["mmlu-redux", "mmmlu", "gpqa", "openbookqa", "ai2-arc", "mmlu-pro", "ceval"];
/// Those with free answers.
const OTHERS: &[&str] = &["math-500", "gsm8k", "longbench"];
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
    if name.to_lowercase().contains("rosetta") {
        keys.done("model.model_name", "kind", "");
    } else if name.to_lowercase().starts_with("two_stage") {
        keys.refuse(
            "model.model_name",
            "text between two models (two_stage) is `t2t` or `t2t_c2c` in `evaluation.methods` here; an eval recipe starts from a Fuser",
        );
    } else {
        let text = format!(
            "{name:?} is one model alone; an eval recipe here starts from a Fuser, and `evaluation.methods` asks its Receiver and Sharer alone too"
        );
        keys.refuse("model.model_name", text);
    }
    let rosetta = |key: &str| format!("model.rosetta_config.{key}");
    for (key, to) in [("base_model", "receiver"), ("teacher_model", "sharer")] {
        match keys.text(&rosetta(key)) {
            Some(model) => {
                keys.carry(&rosetta(key), &format!("{to}.model"), model);
                keys.set(&format!("{to}.dtype"), "bf16");
            }
            None if keys.below(&rosetta(key)).is_empty() => {}
            None => keys.refuse(&rosetta(key), "names several Sharers; an evaluation here has one"),
        }
    }
    let places = [rosetta("checkpoints_dir"), "eval.checkpoints_dir".to_owned()];
    match places.iter().find(|key| keys.text(key).is_some()) {
        Some(key) => {
            let path = keys.text(key).unwrap_or_default();
            keys.carry(key, "artefact.path", path);
            keys.done(
                key,
                "artefact.path",
                "must name an artefact of this program; the reference's checkpoint has to be imported first",
            );
        }
        None => keys.refuse(&rosetta("checkpoints_dir"), "missing or several; an evaluation needs one Fuser"),
    }
    let fixed = "the artefact says it";
    for key in ["is_do_alignment", "alignment_strategy"] {
        keys.implied(&rosetta(key), fixed);
        keys.implied(&format!("model.{key}"), fixed);
    }
    keys.implied(&rosetta("multi_source_fusion_mode"), "there is one Sharer, for which the modes are one");
    keys.drop(&rosetta("include_response"), "the reply is never fused here");
    keys.drop("model.max_length", "prompts are not cut; the reference reads it for LongBench only");
}

fn questions(keys: &mut Keys) {
    let dataset = keys.text("eval.dataset").unwrap_or_else(|| USUAL.to_owned());
    if !MULTIPLE_CHOICE.contains(&dataset.as_str()) {
        let known = MULTIPLE_CHOICE.join(", ");
        let what = if OTHERS.contains(&dataset.as_str()) { "has no multiple-choice questions" } else { "is unknown" };
        return keys.refuse("eval.dataset", format!("{dataset:?} {what}; an evaluation here asks {known}"));
    }
    let path = format!("{dataset}.jsonl");
    let mut source = Table::new();
    source.insert("kind".into(), "multiple_choice".into());
    source.insert("path".into(), path.clone().into());
    keys.set("evaluation.sources", Value::Array(vec![Value::Table(source)]));
    let note = format!("nothing is downloaded: put the questions into {path}, or write the path of their file");
    keys.done("eval.dataset", "evaluation.sources[0].path", &note);
    match keys.integer("eval.limit") {
        Some(limit) => {
            keys.carry("eval.limit", "evaluation.limit", limit);
            keys.done(
                "eval.limit",
                "evaluation.limit",
                "questions in all, drawn by the seed; the reference's is for each subject",
            );
        }
        None => keys.drop("eval.limit", "a range of rows can't be asked"),
    }
    match keys.integer("eval.sample_interval") {
        Some(1) => keys.implied("eval.sample_interval", "every row is asked"),
        _ => keys.drop("eval.sample_interval", "every row is asked; `evaluation.limit` draws some"),
    }
    keys.drop_below("eval.subjects", "all subjects of the file are asked");
    keys.drop("eval.subjects", "all subjects of the file are asked");
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
        Some("generate") | None => keys.implied("eval.answer_method", "generation is the only way here"),
        Some(_) => {
            keys.refuse("eval.answer_method", "answers are generated here; the logits of the letters are not compared")
        }
    }
    keys.implied("eval.response_text", "for the logits of the letters only");
    let generation = |key: &str| format!("model.generation_config.{key}");
    keys.same(&generation("max_new_tokens"), "evaluation.max_new_tokens");
    if keys.flag(&generation("do_sample")) == Some(true) {
        keys.refuse(&generation("do_sample"), "answers are greedy here");
    }
    keys.implied(&generation("do_sample"), "answers are greedy, the only way here");
    keys.implied_below("model.generation_config", "of no effect on greedy answers");
    if keys.number("eval.kv_cache_proportion").is_some_and(|part| part != 1.0) {
        keys.refuse("eval.kv_cache_proportion", "the whole prompt is fused here");
    }
    keys.implied("eval.kv_cache_proportion", "1.0 is the only way here");
    keys.implied("eval.kv_cache_order_mode", "of no effect where the whole prompt is fused");
    for key in ["communication_max_new_tokens", "response_max_new_tokens", "max_new_tokens"] {
        keys.implied(&format!("eval.{key}"), "for text between two models only");
    }
    for key in ["longbench_e", "longbench_prompt_format_path", "longbench_maxlen_format_path"] {
        keys.implied(&format!("eval.{key}"), "for LongBench only");
    }
    keys.implied("eval.math_grading_method", "the reference doesn't read it");
}

fn machine(keys: &mut Keys) {
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
