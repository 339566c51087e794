//! End to end: training data of every origin through the real binary.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod kit;

use std::path::Path;
use std::process::Output;

use c2c_recipe::{DataKind, Recipe};
use kit::{command, failed, root, stdout, succeeded};
use serde_json::Value;

/// A scratch folder with a recipe of the embedded pair and these sources, and a hub cache of its own.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new(sources: &str) -> Self {
        let scratch = Self(tempfile::tempdir().unwrap());
        let pocket = root().join("datasets/pocket");
        let text = format!(
            "kind = 'train'\nname = 'x'\nreceiver.model = '{0}/receiver'\nsharer.model = '{0}/sharer'\n\
             alignment.strategy = 'spans'\nfuser.hidden_dim = 16\nfuser.intermediate_dim = 16\n\
             training = {{ batch_size = 2, gradient_accumulation = 1, max_steps = 2, validation_fraction = 0, max_length = 200 }}\n\
             data.sources = [{sources}]\noutput.dir = '{1}'\n",
            pocket.display(),
            scratch.path().join("runs").display()
        );
        scratch.write("recipe.toml", &text);
        scratch
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn c2c(&self, args: &[&str]) -> Output {
        let recipe = self.path().join("recipe.toml");
        let args: Vec<&str> =
            args.iter().map(|arg| if *arg == "RECIPE" { recipe.to_str().unwrap() } else { *arg }).collect();
        command(&args).env("HF_HUB_CACHE", self.path().join("hub")).output().unwrap()
    }

    fn succeeds(&self, args: &[&str]) -> String {
        stdout(&succeeded(args, self.c2c(args)))
    }

    fn show(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.succeeds(&[&["data", "show", "RECIPE", "--json"], args].concat())).unwrap()
    }

    fn fails(&self, args: &[&str], code: i32, words: &[&str]) {
        failed(args, &self.c2c(args), code, words);
    }
}

const CHATS: &str = "{\"messages\":[{\"role\":\"user\",\"content\":\"What is it?\"},{\"role\":\"assistant\",\"content\":\"A plum.\"}]}\n\
     {\"id\":\"two\",\"prompt\":\"And this?\",\"response\":\"A pear.\"}\n\
     {\"prompt\":\"no reply\"}\n";

#[test]
fn every_slot_of_an_example_is_shown_with_its_mark() {
    let scratch = Scratch::new("{ kind = 'chat', path = 'chats.jsonl' }");
    scratch.write("chats.jsonl", CHATS);
    let report = scratch.show(&["--example", "two"]);
    let example = &report["examples"][0];
    assert_eq!((&example["id"], &example["place"]), (&Value::from("two"), &Value::from("chats.jsonl:2")));
    let slots = |of: &dyn Fn(&Value) -> bool, side: &str| -> String {
        let sections = example["sections"].as_array().unwrap().iter();
        let slots = sections.flat_map(|section| {
            let slots = section["slots"].as_array().unwrap().iter();
            slots.filter(|slot| of(section) || of(slot)).collect::<Vec<_>>()
        });
        slots.filter_map(|slot| slot[side]["text"].as_str()).collect()
    };
    // Both models read the whole question in the fused slots, and the loss is on the reply and what closes it.
    let fused = |value: &Value| value["fused"] == true;
    let supervised = |value: &Value| value["supervised"] == true;
    assert_eq!(slots(&fused, "receiver"), "And this?");
    assert_eq!(slots(&fused, "sharer"), "And this?");
    assert_eq!(slots(&supervised, "receiver"), "A pear.<|im_end|>⏎");
    let figures = &report["figures"];
    let number = |key: &str| figures[key].as_u64().unwrap();
    assert!(number("fused") > 0 && number("supervised") > 0 && number("sharer_padding") > 0, "{figures}");
    assert_eq!(report["sources"][0]["bad"]["count"], 1);
    assert!(report["sources"][0]["bad"]["listed"][0].as_str().unwrap().contains("chats.jsonl:3: field `response`"));
    assert_eq!((&report["examples_used"], &report["epoch"]["batches"]), (&Value::from(2), &Value::from(1)));
}

#[test]
fn text_says_the_same_with_and_without_colour() {
    let scratch = Scratch::new("{ kind = 'chat', path = 'chats.jsonl' }");
    scratch.write("chats.jsonl", CHATS);
    let plain = scratch.succeeds(&["data", "show", "RECIPE"]);
    assert!(!plain.contains('\x1b'), "colours without a terminal:\n{plain}");
    for word in ["fused R │", "loss  R │A│", "padding", "1 bad row\n", "chats.jsonl:3: field `response`"] {
        assert!(plain.contains(word), "no `{word}` in\n{plain}");
    }
    let coloured = scratch.succeeds(&["data", "show", "RECIPE", "--color", "always"]);
    let mut stripped = String::new();
    let mut parts = coloured.split('\x1b');
    stripped.push_str(parts.next().unwrap());
    parts.for_each(|part| stripped.push_str(part.split_once('m').unwrap().1));
    assert_eq!(stripped, plain);
    scratch.fails(&["data", "show", "RECIPE", "--example", "three"], 2, &["three", "0 to 1", "file:line"]);
}

#[test]
fn what_is_too_long_is_listed() {
    let scratch = Scratch::new("{ kind = 'chat', path = 'chats.jsonl' }");
    let long = format!("{CHATS}{{\"prompt\":\"{}\",\"response\":\"x\"}}\n", "word ".repeat(300));
    scratch.write("chats.jsonl", &long);
    let report = scratch.show(&[]);
    assert_eq!(report["too_long"]["count"], 1);
    let listed = report["too_long"]["listed"][0].as_str().unwrap();
    assert!(listed.starts_with("chats.jsonl:4: ") && listed.ends_with("at most 200"), "{listed}");
    let filtered = scratch.show(&["-o", "data.sources[0].max_tokens=100"]);
    assert_eq!(
        (&filtered["too_long"]["count"], &filtered["sources"][0]["left_out"]["max_tokens"]),
        (&Value::from(0), &Value::from(1))
    );
    assert_eq!(filtered["sources"][0]["filter"], "max_tokens = 100");
}

/// What was left out is on disk before the first step: a run that ends badly has it too.
#[test]
fn a_run_that_dies_has_told_what_it_left_out() {
    let scratch = Scratch::new("{ kind = 'chat', path = 'chats.jsonl' }");
    scratch.write("chats.jsonl", &format!("{CHATS}{{\"prompt\":\"{}\",\"response\":\"x\"}}\n", "word ".repeat(300)));
    // Every weight is huge behind the first step, and the loss no number at the second.
    let dies = ["-o", "optimizer.learning_rate=1e37", "-o", "schedule.kind=constant", "-o", "schedule.warmup_ratio=0"];
    let args = [&["train", "RECIPE", "-o", "training.max_steps=20"], &dies[..]].concat();
    let output = scratch.c2c(&args);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("the loss became"), "{told}");
    let (long, bad) = ("longer than training.max_length and left out: 1, listed in data.json", "bad rows left out: 1");
    assert!(told.contains(long) && told.contains(bad), "{told}");
    assert!(told.find(long) < told.find("the loss became"), "{told}");
    let run = std::fs::read_dir(scratch.path().join("runs")).unwrap().next().unwrap().unwrap().path();
    let data: Value = serde_json::from_str(&std::fs::read_to_string(run.join("data.json")).unwrap()).unwrap();
    assert_eq!(
        (&data["examples"]["too_long"], &data["sources"][0]["bad"]["count"]),
        (&Value::from(1), &Value::from(1))
    );
    let listed = data["examples"]["too_long_listed"][0].as_str().unwrap();
    assert!(listed.starts_with("chats.jsonl:4: ") && listed.ends_with("at most 200"), "{listed}");
}

#[test]
fn published_data_sets_are_read_from_the_hub_cache_at_a_revision() {
    let scratch = Scratch::new("{ kind = 'mmlu', limit = 2 }, { kind = 'openhermes', revision = 'old' }");
    let missing = ["data", "show", "RECIPE"];
    scratch.fails(&missing, 3, &["c2c download datasets/cais/mmlu"]);
    let mmlu = "hub/datasets--cais--mmlu";
    scratch.write(&format!("{mmlu}/refs/main"), "1234");
    let question = "{\"question\":\"Which?\",\"subject\":\"\",\"choices\":[\"x\",\"y\"],\"answer\":1}\n".repeat(3);
    scratch.write(&format!("{mmlu}/snapshots/1234/all/auxiliary_train-00000-of-00001.jsonl"), &question);
    scratch.write(&format!("{mmlu}/snapshots/1234/all/test-00000-of-00001.jsonl"), "not to be read");
    scratch.fails(&missing, 3, &["c2c download datasets/teknium/OpenHermes-2.5@old"]);
    let hermes = r#"[{"conversations":[{"from":"human","value":"Hi"},{"from":"gpt","value":"Ho"}],"id":null}]"#;
    scratch.write("hub/datasets--teknium--OpenHermes-2.5/snapshots/old/openhermes2_5.json", hermes);
    let report = scratch.show(&[]);
    let sources = report["sources"].as_array().unwrap();
    assert_eq!((&sources[0]["source"], &sources[0]["revision"]), (&Value::from("hub:cais/mmlu"), &Value::from("1234")));
    assert_eq!((&sources[0]["rows"], &sources[0]["limit"]), (&Value::from(2), &Value::from(2)));
    assert_eq!((&sources[1]["revision"], &sources[1]["rows"]), (&Value::from("old"), &Value::from(1)));
}

#[test]
fn a_run_keeps_the_fingerprint_the_filters_and_the_bad_rows() {
    let scratch = Scratch::new(
        "{ kind = 'chat', path = 'chats.jsonl', contain = { text = 'plum' }, weight = 3 }, { kind = 'pocket', places = 2, take = 5 }",
    );
    let rows: Vec<String> = ["plum", "a plum", "pear", "plums"]
        .iter()
        .map(|text| format!(r#"{{"text":"{text}","prompt":"What is it?","response":"A {text}."}}"#))
        .collect();
    scratch.write("chats.jsonl", &format!("{}\nbroken\n", rows.join("\n")));
    let weighted = scratch.show(&["-o", "data.length_bucket=2"]);
    // Three chats three times and five questions, two at a time.
    assert_eq!((&weighted["examples_used"], &weighted["epoch"]["batches"]), (&Value::from(8), &Value::from(7)));
    scratch.succeeds(&["train", "RECIPE", "-o", "data.length_bucket=2"]);
    let run = std::fs::read_dir(scratch.path().join("runs")).unwrap().next().unwrap().unwrap().path();
    let data: Value = serde_json::from_str(&std::fs::read_to_string(run.join("data.json")).unwrap()).unwrap();
    let source = &data["sources"][0];
    assert_eq!(
        (&source["rows"], &source["left_out"]["contain"], &source["bad"]["count"]),
        (&Value::from(3), &Value::from(1), &Value::from(1))
    );
    assert_eq!(source["sha256"].as_str().unwrap().len(), 64);
    assert!(source["filter"].as_str().unwrap().contains("plum"), "{source}");
    assert_eq!(
        (&data["sources"][1]["rows"], &data["sources"][1]["filter"]),
        (&Value::from(5), &Value::from("take = 5"))
    );
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert!(last["padding"].as_f64().unwrap() > 0.0, "{last}");
}

/// Every shipped training recipe with the models and the data of the pocket's size: all its other keys run, and `c2c plan` knows
/// it beforehand.
#[test]
fn every_shipped_recipe_is_planned_and_runs_two_steps_at_pocket_size() {
    let scratch = Scratch::new("{ kind = 'pocket' }");
    let lines = |row: &str| (0..6).map(|id| row.replace("ID", &id.to_string())).collect::<Vec<_>>().join("\n");
    let chat = r#"{"id":"ID","conversations":[{"from":"system","value":"S"},{"from":"human","value":"What is ID?"},{"from":"gpt","value":"A number."}]}"#;
    let question = r#"{"question":"What is ID?","subject":"","choices":["a","b"],"answer":1}"#;
    let long = r#"{"_id":"ID","dataset":"qasper_e","context":"A plum is a fruit.","input":"What is a plum?","answers":["a fruit"]}"#;
    let rows = [("openhermes", chat), ("mmlu", question), ("longbench", long), ("openbookqa", question)];
    for (kind, row) in rows.into_iter().chain([("multiple_choice", question)]) {
        scratch.write(&format!("{kind}_e.jsonl"), &lines(row));
    }
    let mut tried = 0;
    for entry in std::fs::read_dir(root().join("recipes/train")).unwrap() {
        let path = entry.unwrap().path();
        let Recipe::Train(recipe) = c2c_recipe::load(&path, &[]).unwrap().recipe else { panic!("{}", path.display()) };
        // One model twice, so that recipes of a shared vocabulary run too.
        let model = root().join("datasets/pocket/receiver");
        let runs = scratch.path().join("runs").join(path.file_stem().unwrap());
        let mut overrides = vec![
            format!("receiver.model={}", model.display()),
            format!("output.dir={}", runs.display()),
            "fuser.hidden_dim=16".into(),
            "fuser.intermediate_dim=16".into(),
            "training.gradient_accumulation=1".into(),
            "training.max_steps=2".into(),
        ];
        if recipe.sharer.is_some() {
            overrides.push(format!("sharer.model={}", model.display()));
        }
        if recipe.evaluation.is_some() {
            overrides.extend(["evaluation.limit=2".into(), "evaluation.max_new_tokens=2".into()]);
        }
        if recipe.single_settings().first_layer > 0 {
            overrides.push("single.first_layer=1".into());
        }
        for (index, source) in recipe.data.sources.iter().enumerate() {
            // A kind without rows above makes its recipe fail, which is better than passing it over.
            let file = scratch.path().join(format!("{}_e.jsonl", source.kind));
            overrides.push(match source.kind {
                DataKind::Pocket => format!("data.sources[{index}].places=2"),
                _ => format!("data.sources[{index}].path={}", file.display()),
            });
        }
        let args = |command: &str| {
            let mut args = vec![command.to_owned(), path.display().to_string()];
            args.extend(overrides.iter().flat_map(|one| ["-o".to_owned(), one.clone()]));
            args
        };
        let run = |args: Vec<String>| scratch.succeeds(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let plan = run([args("plan"), vec!["--json".into()]].concat());
        let plan: Value = serde_json::from_str(&plan).unwrap();
        assert_eq!(plan["steps"], 2, "{}", path.display());
        assert!(plan["memory"]["total"].as_u64().unwrap() > 0 && plan["trained_parameters"].as_u64().unwrap() > 0);
        run(args("plan"));
        run(args("train"));
        let run = std::fs::read_dir(&runs).unwrap().next().unwrap().unwrap().path();
        let summary: Value = serde_json::from_str(&std::fs::read_to_string(run.join("summary.json")).unwrap()).unwrap();
        assert_eq!(summary["steps"], 2, "{}", path.display());
        if let Some(trained) = summary.get("trained_parameters") {
            assert_eq!(*trained, plan["trained_parameters"], "{}", path.display());
        }
        tried += 1;
    }
    let shipped = std::fs::read_dir(root().join("recipes/train")).unwrap().count();
    assert_eq!(tried, shipped, "every recipe is tried");
}

#[test]
fn a_recipe_of_the_reference_converts_and_validates() {
    let scratch = Scratch::new("{ kind = 'pocket' }");
    scratch.write(
        "reference.yaml",
        "model: {base_model: a/b, teacher_model: c/d, mapping: last_aligned, projector: {type: C2CProjector}}\n\
         training: {learning_rate: 1e-4, device: cuda}\ndata: {type: MMLUChatDataset, kwargs: {num_samples: 5}}\n\
         output: {wandb_config: {project: p}}\n",
    );
    let (from, to) = (scratch.path().join("reference.yaml"), scratch.path().join("new.toml"));
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    let output = scratch.c2c(&["recipe", "convert", from, "--out", to]);
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && output.stdout.is_empty(), "{talk}");
    for word in ["1 lost", "output.wandb_config.project", "--device", "new.toml"] {
        assert!(talk.contains(word), "no `{word}` in\n{talk}");
    }
    assert!(scratch.succeeds(&["recipe", "validate", to]).contains("ok, kind train"));
    let printed = scratch.succeeds(&["recipe", "convert", from, "--name", "new"]);
    assert_eq!(printed, std::fs::read_to_string(to).unwrap());
    let report: Value = serde_json::from_str(&scratch.succeeds(&["recipe", "convert", from, "--json"])).unwrap();
    assert_eq!(report["keys"].as_array().unwrap().len(), 9);
    scratch.fails(&["recipe", "convert", from, "--out", to], 2, &["exists already"]);
    let tensors =
        r#"{"model": {"baseline_model": "a/b"}, "training": {"partial_training": {"method": "parameter_wise"}}}"#;
    scratch.write("other.json", tensors);
    let other = scratch.path().join("other.json");
    let words = ["training.partial_training.method", "single.parts", "data.type"];
    scratch.fails(&["recipe", "convert", other.to_str().unwrap()], 2, &words);
}

/// The paper's own recipe names the split `train`, and the data set is one file that names none.
#[test]
fn a_converted_recipe_finds_its_data_in_the_hub_cache() {
    let scratch = Scratch::new("{ kind = 'pocket' }");
    scratch.write(
        "reference.yaml",
        "model: {base_model: a/b, teacher_model: c/d, mapping: last_aligned, projector: {type: C2CProjector}}\n\
         training: {learning_rate: 1e-4}\n\
         data: {type: OpenHermesChatDataset, kwargs: {split: train, num_samples: 5}}\n",
    );
    let (from, to) = (scratch.path().join("reference.yaml"), scratch.path().join("new.toml"));
    let to = to.to_str().unwrap();
    scratch.succeeds(&["recipe", "convert", from.to_str().unwrap(), "--out", to]);
    let hub = "hub/datasets--teknium--OpenHermes-2.5";
    scratch.write(&format!("{hub}/refs/main"), "1234");
    let row = r#"[{"conversations":[{"from":"human","value":"Hi"},{"from":"gpt","value":"Ho"}],"id":null}]"#;
    scratch.write(&format!("{hub}/snapshots/1234/openhermes2_5.json"), row);
    let model = root().join("datasets/pocket/receiver").display().to_string();
    let models = ["receiver", "sharer"].map(|role| format!("{role}.model={model}"));
    let args = ["data", "show", to, "--json", "-o", &models[0], "-o", &models[1]];
    let report: Value = serde_json::from_str(&scratch.succeeds(&args)).unwrap();
    assert_eq!((&report["examples_used"], &report["sources"][0]["revision"]), (&Value::from(1), &Value::from("1234")));
}
