//! What a plan says is what the run does.

use serde_json::Value;

use crate::kit::stdout;
use crate::lab::Lab;

#[test]
fn a_plan_says_what_the_run_then_does() {
    let lab = Lab::new();
    // An epoch of 27 examples: 7 batches, 4 steps.
    let epoch = ["-o", "training.max_steps=4"];
    let plan: Value =
        serde_json::from_str(&lab.succeeds(&[&["plan", "RECIPE", "--json"], &epoch[..]].concat())).unwrap();
    let run = lab.train("runs", &[&epoch[..], &["-o", "checkpoint.every=1"]].concat());
    let read = |name: &str| std::fs::read_to_string(run.join(name)).unwrap();
    let summary: Value = serde_json::from_str(&read("summary.json")).unwrap();
    assert_eq!(plan["steps"], summary["planned_steps"]);
    assert_eq!(plan["steps_per_epoch"], 4);
    assert_eq!(plan["recipe_sha256"], summary["recipe_sha256"]);
    for key in ["train", "validation", "too_long", "refused"] {
        assert_eq!(plan[key], summary["examples"][key], "{key}");
    }
    // The metrics of the epoch's steps, added up.
    let steps: Vec<Value> = read("metrics.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let tokens: u64 = steps.iter().map(|step| step["tokens"].as_u64().unwrap()).sum();
    let slots: f64 = steps.iter().map(|s| s["tokens"].as_f64().unwrap() / (1.0 - s["padding"].as_f64().unwrap())).sum();
    let epoch = &plan["epoch"];
    let count = |key: &str| epoch[key].as_u64().unwrap();
    assert_eq!(count("prompt") + count("reply"), tokens);
    assert_eq!(count("prompt") + count("reply") + count("padding"), slots.round() as u64);
    // Sizes: the headers of the files come on top.
    let size = |name: &str| std::fs::metadata(run.join(name)).unwrap().len();
    let over = |bytes: u64, planned: &Value| bytes.checked_sub(planned.as_u64().unwrap()).unwrap();
    assert!(over(size("fuser/fuser.safetensors"), &plan["files"]["export"]) < 8192);
    let last = "checkpoints/step-000004";
    let checkpoint = size(&format!("{last}/fuser.safetensors")) + size(&format!("{last}/optimizer.safetensors"));
    assert!(over(checkpoint, &plan["files"]["checkpoint"]) < 16384);
}

#[test]
fn the_table_has_a_unit_behind_every_figure() {
    let lab = Lab::new();
    let table = lab.succeeds(&["plan", "RECIPE"]);
    let units = ["parameters", "examples", "slots", "tokens", "steps", "B", "FLOP", "GB/s"];
    for line in table.lines().filter(|line| line.starts_with("  ")) {
        assert!(line.split_whitespace().any(|word| units.iter().any(|unit| word.ends_with(unit))), "{line}");
    }
}

#[test]
fn everything_that_is_missing_is_told_at_once() {
    let lab = Lab::new();
    let sharer = ["-o", "sharer.model=none/such"];
    let words = ["the run can't begin", "receiver: ", "config.json", "sharer: ", "none/such"];
    std::fs::create_dir(lab.path("broken")).unwrap();
    std::fs::write(lab.path("broken/config.json"), "{").unwrap();
    let receiver = format!("receiver.model={}", lab.path("broken").display());
    lab.fails(&[&["plan", "RECIPE", "-o", &receiver], &sharer[..]].concat(), 3, &words);
    let text = std::fs::read_to_string(lab.recipe()).unwrap();
    let more = "sources = [{ kind = 'chat', path = 'a.jsonl' }, { kind = 'chat', path = 'b.jsonl' }, ";
    std::fs::write(lab.recipe(), text.replace("sources = [", more)).unwrap();
    lab.fails(&["plan", "RECIPE"], 3, &["data.sources[0]: ", "a.jsonl", "data.sources[1]: ", "b.jsonl"]);
    assert_eq!(stdout(&lab.c2c(&["plan", "RECIPE"])), "", "talk is on stderr");
}
