//! The `data` section of the reference's training recipes.

use toml::{Table, Value};

use super::keys::Keys;

/// Class of the reference, and kind of source here.
const CLASSES: &[(&str, &str)] = &[
    ("OpenHermesChatDataset", "openhermes"),
    ("MMLUChatDataset", "mmlu"),
    ("OpenBookChatDataset", "openbookqa"),
    ("MMLUCotChatDataset", "mmlu_pro_cot"),
    ("LLMGeneratedChatDataset", "generated"),
    ("LongBenchChatDataset", "longbench"),
];
/// The model in whose tokens the reference counts, whatever is trained.
const COUNTED_BY: &str = "Qwen/Qwen3-0.6B";
/// The reference's longest LongBench prompt, in tokens.
const LONGBENCH_TOKENS: i64 = 14_000;

pub(super) fn convert(keys: &mut Keys) {
    let class = keys.text("data.type").unwrap_or_default();
    let Some((_, kind)) = CLASSES.iter().find(|(name, _)| name.eq_ignore_ascii_case(&class)) else {
        let known: Vec<&str> = CLASSES.iter().map(|(name, _)| *name).collect();
        return keys.refuse("data.type", format!("the data set {class:?} is unknown; known are {}", known.join(", ")));
    };
    let mut source = Table::new();
    source.insert("kind".into(), (*kind).into());
    keys.done("data.type", "data.sources[0].kind", "");
    split(keys, kind, &mut source);
    filters(keys, kind, &mut source);
    match *kind {
        "generated" => {
            carry(keys, "data_path", "path", &mut source);
            if keys.get("data.kwargs.data_path").is_some() {
                let note = "a folder of `save_to_disk` (.arrow) can't be read: write it as Parquet, `load_from_disk(FOLDER).to_parquet(FILE)`";
                keys.done("data.kwargs.data_path", "data.sources[0].path", note);
            } else {
                keys.refuse("data.kwargs.data_path", "missing; the answers have to be somewhere");
            }
        }
        "longbench" => longbench(keys, &mut source),
        _ => {}
    }
    keys.set("data.sources", Value::Array(vec![Value::Table(source)]));
    if let Some(ratio) = keys.number("data.train_ratio") {
        let held_out = ((1.0 - ratio) * 1e9).round() / 1e9;
        keys.carry("data.train_ratio", "training.validation_fraction", held_out);
        let note =
            "1 less it; other rows are drawn than by the reference, whose draw depends on the model's initial weights";
        keys.done("data.train_ratio", "training.validation_fraction", note);
        if held_out == 0.0 {
            keys.unset("training.evaluate_every");
            keys.drop("output.eval_steps", "nothing is held out to evaluate on, since data.train_ratio is 1");
        }
    }
    keys.drop_below("data.kwargs", "not an argument of this data set in the reference");
}

fn carry(keys: &mut Keys, from: &str, to: &str, source: &mut Table) {
    let key = format!("data.kwargs.{from}");
    let value = keys.integer(&key).map(Value::from).or_else(|| keys.text(&key).map(Value::from));
    if let Some(value) = value {
        source.insert(to.into(), value);
        keys.done(&key, &format!("data.sources[0].{to}"), "");
    }
}

fn split(keys: &mut Keys, kind: &str, source: &mut Table) {
    match (kind, keys.text("data.kwargs.split").as_deref()) {
        ("generated", _) => keys.implied("data.kwargs.split", "the reference doesn't read it for this data set"),
        ("longbench", _) => {
            keys.implied("data.kwargs.split", "LongBench has one split; `split` is by a row's hash here")
        }
        ("mmlu", split) => {
            // Written even where it is the default there, since that of `mmlu` is another here.
            source.insert("split".into(), split.unwrap_or("train").into());
            keys.done("data.kwargs.split", "data.sources[0].split", "");
        }
        (_, Some(_)) => carry(keys, "split", "split", source),
        (_, None) => {}
    }
}

fn filters(keys: &mut Keys, kind: &str, source: &mut Table) {
    // The reference takes its rows before it filters, but for generated answers.
    carry(keys, "num_samples", if kind == "generated" { "take" } else { "limit" }, source);
    let (words, turns) = ("data.kwargs.max_word_count", "data.kwargs.min_conversation_turns");
    if kind == "longbench" {
        keys.implied(words, "the reference doesn't read it for this data set");
    } else if let Some(most) = keys.integer(words) {
        carry(keys, "max_word_count", "max_tokens", source);
        let mut note = String::new();
        let receiver = keys.text("model.base_model").or_else(|| keys.text("model.baseline_model"));
        if receiver.is_none_or(|model| model != COUNTED_BY) {
            note = format!("counted in the Receiver's tokens, by the reference in those of {COUNTED_BY}");
        }
        if kind == "generated" {
            source.insert("max_prompt_tokens".into(), (most / 2).into());
            note = "of the prompt half of it, as in the reference; the chat template counts here".to_owned();
        }
        keys.done(words, "data.sources[0].max_tokens", &note);
    }
    match (kind, keys.integer(turns)) {
        ("openhermes", Some(least)) if least > 0 => carry(keys, "min_conversation_turns", "min_turns", source),
        ("openhermes", Some(_)) => keys.implied(turns, "0 leaves nothing out"),
        _ => {}
    }
}

fn longbench(keys: &mut Keys, source: &mut Table) {
    let key = |name: &str| format!("data.kwargs.{name}");
    let extended = keys.flag(&key("use_longbench_e")).unwrap_or(true);
    let set = if extended { "e" } else { "standard" };
    match keys.text(&key("dataset_name")) {
        Some(task) => {
            let task = if extended && !task.ends_with("_e") { format!("{task}_e") } else { task };
            source.insert("config".into(), task.into());
            keys.done(&key("dataset_name"), "data.sources[0].config", "");
        }
        None => drop(source.insert("config".into(), set.into())),
    }
    keys.done(&key("use_longbench_e"), "data.sources[0].config", "");
    let part = if keys.flag(&key("filter_mod4")).unwrap_or(true) { "train" } else { "all" };
    source.insert("split".into(), part.into());
    keys.done(&key("filter_mod4"), "data.sources[0].split", "");
    source.insert("cut_middle".into(), keys.integer(&key("max_length")).unwrap_or(LONGBENCH_TOKENS).into());
    keys.done(&key("max_length"), "data.sources[0].cut_middle", "");
    keys.implied(&key("language"), "the reference doesn't read it");
}
