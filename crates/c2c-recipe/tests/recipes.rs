//! The shipped recipes, what loading makes of them, and their reference.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use c2c_recipe::schema::{self, Kind};
use c2c_recipe::*;

fn root() -> PathBuf {
    // At run time, so that a target folder shared by two checkouts can't mix them up.
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..").canonicalize().unwrap()
}

fn shipped() -> Vec<PathBuf> {
    list(&root().join("recipes")).into_iter().map(|listed| listed.path).collect()
}

fn train(text: &str) -> TrainRecipe {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recipe.toml");
    std::fs::write(&path, text).unwrap();
    match load(&path, &[]).unwrap().recipe {
        Recipe::Train(recipe) => recipe,
        other => panic!("{other:?}"),
    }
}

const SHORT: &str = "kind = 'train'\nname = 'x'\nreceiver.model = 'a/b'\nsharer.model = 'c/d'\n\
                     data.sources = [ { kind = 'pocket' } ]\n";

#[test]
fn every_shipped_recipe_loads_and_lies_in_the_folder_of_its_kind() {
    let listed = list(&root().join("recipes"));
    let names: Vec<String> = listed
        .iter()
        .map(|one| {
            let summary = one.outcome.as_ref().unwrap_or_else(|errors| panic!("{errors}"));
            assert!(!summary.description.is_empty());
            let folder = one.path.parent().unwrap().file_name().unwrap();
            assert_eq!(folder.to_str(), Some(summary.kind.as_str()));
            assert_eq!(one.path.file_stem().unwrap().to_str(), Some(summary.name.as_str()));
            format!("{}/{}", summary.kind, summary.name)
        })
        .collect();
    for name in [
        "eval/pocket",
        "eval/pocket-receiver",
        "pretrain/pocket-receiver",
        "pretrain/pocket-sharer",
        "train/longbench-qwen3-0.6b+qwen2.5-0.5b",
        "train/mmlu-qwen3-14b+qwen2.5-14b",
        "train/pocket",
        "train/pocket-all-in-one",
        "train/pocket-fuse",
        "train/pocket-project",
        "train/pocket-single",
        "train/qwen3-0.6b+llama3.2-1b",
        "train/qwen3-0.6b+qwen2.5-0.5b",
        "train/qwen3-0.6b+qwen2.5-0.5b-fuse",
        "train/qwen3-0.6b+qwen2.5-0.5b-project",
        "train/qwen3-0.6b+qwen2.5-math-1.5b",
        "train/qwen3-0.6b+qwen3-4b",
        "train/qwen3-0.6b+qwen3-4b-base",
        "train/qwen3-0.6b-identical",
        "train/qwen3-0.6b-single",
        "train/qwen3-0.6b-single-lora",
        "train/qwen3-0.6b-single-partial",
        "train/qwen3-1.7b+qwen2.5-1.5b",
        "train/qwen3-1.7b+qwen2.5-1.5b-all-in-one",
        "train/qwen3-8b+qwen2.5-7b",
        "train/smollm2-135m+qwen2.5-coder-0.5b",
        "train/smollm2-135m-single",
        "train/smollm2-135m-single-lora",
        "train/smollm2-135m-single-partial",
    ] {
        assert!(names.iter().any(|other| other == name), "{name} is not in {names:?}");
    }
}

#[test]
fn every_shipped_recipe_begins_with_purpose_hardware_time_and_command() {
    for path in shipped() {
        let text = std::fs::read_to_string(&path).unwrap();
        let comment: String = text.lines().take_while(|line| line.starts_with('#')).collect();
        for word in ["Purpose:", "Hardware:", "Time:", "Command:"] {
            assert!(comment.contains(word), "{} lacks {word}", path.display());
        }
        let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        assert!(comment.contains(&relative), "the command of {relative} names another file");
    }
}

#[test]
fn every_shipped_recipe_resolved_is_the_same_recipe_from_any_folder() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = dir.path().join("deep/down");
    std::fs::create_dir_all(&elsewhere).unwrap();
    for path in shipped() {
        let loaded = load(&path, &[]).unwrap();
        let copy = elsewhere.join("recipe.toml");
        std::fs::write(&copy, loaded.resolved_toml()).unwrap();
        let again = load(&copy, &[]).unwrap();
        assert_eq!(again.recipe, loaded.recipe, "{}", path.display());
        assert_eq!(again.resolved_toml(), loaded.resolved_toml());
        assert_eq!(again.hash(), loaded.hash());
    }
}

#[test]
fn defaults_are_the_papers() {
    let recipe = train(SHORT);
    assert_eq!((recipe.seed, recipe.receiver.dtype), (42, Dtype::F32));
    assert_eq!(recipe.alignment.mode, AlignmentMode::Aligned);
    assert_eq!(recipe.alignment.strategy, AlignmentStrategy::Longest);
    let fuser = &recipe.fuser;
    assert_eq!((fuser.hidden_dim, fuser.intermediate_dim, fuser.num_layers), (1024, 1024, 3));
    assert_eq!((fuser.initial_temperature, fuser.final_temperature, fuser.anneal_steps), (1.0, 0.001, None));
    assert_eq!((fuser.dropout, fuser.gate_noise, fuser.zero_init), (0.1, GateNoise::Gumbel, false));
    assert_eq!((recipe.optimizer.learning_rate, recipe.optimizer.weight_decay), (1e-4, 0.01));
    assert_eq!((recipe.optimizer.beta1, recipe.optimizer.beta2, recipe.optimizer.epsilon), (0.9, 0.999, 1e-8));
    assert_eq!((recipe.schedule.kind, recipe.schedule.warmup_ratio), (ScheduleKind::Linear, 0.1));
    let training = &recipe.training;
    assert_eq!((training.batch_size, training.gradient_accumulation, training.max_length), (4, 8, 2048));
    assert_eq!((training.epochs, training.max_steps), (1, None));
    assert_eq!(recipe.evaluation, None);
    assert_eq!(recipe.output.dir, Path::new("runs"));
    let source = &recipe.data.sources[0];
    assert_eq!((source.kind, source.split.as_deref(), source.repeats), (DataKind::Pocket, Some("train"), Some(1)));
}

#[test]
fn an_optional_section_gets_its_defaults_once_it_is_there() {
    let recipe = train(&format!("seed = 7\n{SHORT}evaluation.sources = [ {{ kind = 'pocket' }} ]\n"));
    let evaluation = recipe.evaluation.unwrap();
    assert_eq!(evaluation.methods, [Method::Receiver, Method::Sharer, Method::C2c, Method::Mismatched]);
    assert_eq!((evaluation.prompt, evaluation.max_new_tokens, evaluation.batch_size), (PromptFormat::C2c, 64, 1));
    assert_eq!(evaluation.seed, 7, "the recipe's seed");
    assert_eq!(evaluation.sources[0].split.as_deref(), Some("test"));
    assert_eq!(evaluation.sources[0].format, PromptFormat::C2c, "the evaluation's prompt");
}

#[test]
fn paths_start_from_the_recipe_and_hub_ids_stay() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    std::fs::create_dir_all(dir.join("models/one")).unwrap();
    std::fs::create_dir_all(dir.join("recipes")).unwrap();
    let path = dir.join("recipes/x.toml");
    let text = "kind = 'train'\nname = 'x'\n[receiver]\nmodel = '../models/one'\n[sharer]\nmodel = 'Owner/Name'\n\
                [data]\nsources = [ { kind = 'chat', path = '../chats.jsonl' } ]\n";
    std::fs::write(&path, text).unwrap();
    let Recipe::Train(recipe) = load(&path, &[]).unwrap().recipe else { panic!("not a train recipe") };
    assert_eq!(recipe.base_dir, dir.join("recipes"));
    assert_eq!(recipe.receiver.path_hint, dir.join("models/one"));
    assert_eq!(recipe.receiver.model, "../models/one");
    assert_eq!(recipe.sharer.unwrap().path_hint, Path::new("Owner/Name"));
    assert_eq!(recipe.data.sources[0].path, Some(dir.join("chats.jsonl")));
}

#[test]
fn hash_is_stable_and_follows_what_decides_the_result() {
    let path = root().join("recipes/train/pocket.toml");
    let hash = |overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|one| (*one).to_owned()).collect();
        load(&path, &overrides).unwrap().hash()
    };
    let plain = hash(&[]);
    assert!(plain.len() == 64 && plain.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(plain, hash(&[]));
    assert_eq!(plain, hash(&["output.dir=/elsewhere"]), "where results go decides nothing");
    assert_eq!(plain, hash(&["optimizer.learning_rate=0.002"]), "the same number, written otherwise");
    assert_eq!(plain, hash(&["fuser.initial_temperature=1"]), "a default, written out, as an integer");
    assert_eq!(plain, hash(&["checkpoint.every=7", "checkpoint.keep_best=false"]), "what is saved on the way, neither");
    assert_ne!(plain, hash(&["optimizer.learning_rate=3e-3"]));
    assert_ne!(plain, hash(&["seed=43"]));
    assert_ne!(plain, hash(&["data.sources[0].repeats=2"]));
    assert_ne!(plain, hash(&["evaluation.methods=['c2c', 'receiver']"]));
}

#[test]
fn differences_name_the_keys_that_the_hash_follows() {
    let path = root().join("recipes/train/pocket.toml");
    let of = |overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|one| (*one).to_owned()).collect();
        load(&path, &overrides).unwrap()
    };
    let plain = of(&[]);
    let same =
        of(&["output.dir=/elsewhere", "base_dir=/elsewhere", "checkpoint.every=7", "optimizer.learning_rate=0.002"]);
    assert_eq!(plain.differences(&same), Vec::<String>::new());
    let other = of(&["optimizer.learning_rate=3e-3", "training.max_steps=", "data.sources[0].repeats=2"]);
    let differences = other.differences(&plain);
    assert_eq!(differences.len(), 3, "{differences:?}");
    assert!(differences[0].starts_with("data.sources = ") && differences[0].contains("repeats = 2"), "{differences:?}");
    assert_eq!(differences[1..], ["optimizer.learning_rate = 0.003, not 0.002", "training.max_steps = unset, not 300"]);
}

#[test]
fn hash_is_the_same_wherever_the_recipe_lies() {
    let hashes: BTreeSet<String> = (0..2)
        .map(|_| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("recipe.toml");
            std::fs::write(&path, SHORT).unwrap();
            load(&path, &[]).unwrap().hash()
        })
        .collect();
    assert_eq!(hashes.len(), 1);
}

/// Writes a recipe with every key of the table, loads it, and looks whether every key comes out again: a key that the
/// table has and the types lack, or the other way round, fails here.
#[test]
fn the_key_table_and_the_types_hold_the_same_keys() {
    // The method `single` reads keys of its own, and leaves nobody whom most keys of baselines could concern.
    let single = ["method=single", "evaluation.methods=['receiver']"];
    // Gates that are made from something start nowhere.
    let all_in_one = ["fuser.initial_gate_logit=0"];
    for (kind, path, only, chosen) in [
        (RecipeKind::Train, "train/pocket.toml", None, &[][..]),
        (RecipeKind::Train, "train/pocket.toml", Some("single"), &single[..]),
        (RecipeKind::Train, "train/pocket-all-in-one.toml", Some("all_in_one"), &all_in_one[..]),
        (RecipeKind::Eval, "eval/pocket.toml", None, &[]),
        (RecipeKind::Pretrain, "pretrain/pocket-sharer.toml", None, &[]),
    ] {
        let mut overrides = vec!["base_dir=.".to_owned()];
        overrides.extend(chosen.iter().map(|text| (*text).to_owned()));
        let mut keys = Vec::new();
        let sections = schema::sections(kind).iter().filter(|section| {
            only.map_or(!["single", "all_in_one"].contains(&section.name), |only| section.name == only)
        });
        for key in sections.flat_map(|section| section.keys) {
            match key.kind {
                Kind::Tables(inner) => {
                    let mut tables = Vec::new();
                    // A list whose tables are all of one kind.
                    let kinds: &[&str] = if inner[0].name() == "kind" { DataKind::WORDS } else { &[""] };
                    for source in kinds {
                        let of_kind = inner.iter().filter(|key| key.only.is_empty() || key.only.contains(source));
                        let pairs: Vec<String> = of_kind
                            .map(|key| match key.kind {
                                Kind::Word(_) if key.name() == "kind" => format!("kind = '{source}'"),
                                Kind::Word(words) => format!("{} = '{}'", key.name(), words[0]),
                                Kind::Path | Kind::Text => format!("{} = 'x'", key.name()),
                                Kind::Texts => format!("{} = ['x']", key.name()),
                                Kind::Columns => format!("{} = {{ a = ['x', 'y'] }}", key.name()),
                                Kind::Number { .. } => format!("{} = 0.5", key.name()),
                                _ => format!("{} = 3", key.name()),
                            })
                            .collect();
                        // Examples have letters.
                        let free = ["gsm8k", "math500", "longbench"].contains(source);
                        let refused = free && key.path == "evaluation.few_shot_sources";
                        let known = match inner[0].kind {
                            Kind::Word(kinds) if inner[0].name() == "kind" => !refused && kinds.contains(source),
                            _ => true,
                        };
                        if known {
                            keys.extend(pairs.iter().map(|pair| format!("  {pair}")));
                            tables.push(format!("{{ {} }}", pairs.join(", ")));
                        }
                    }
                    overrides.push(format!("{}=[{}]", key.path, tables.join(", ")));
                }
                Kind::Integer { .. } | Kind::IntegerIn { .. } if matches!(key.default, schema::DefaultValue::Unset) => {
                    overrides.push(format!("{}=64", key.path));
                }
                // All of them, since some keys count only where one of them needs it.
                Kind::Words(words) if key.path == "evaluation.methods" => {
                    // A train recipe has one Sharer.
                    let mut words = words.to_vec();
                    words.retain(|word| kind == RecipeKind::Eval || !word.starts_with("several"));
                    overrides.push(format!("{}={words:?}", key.path))
                }
                Kind::Path if matches!(key.default, schema::DefaultValue::Unset) && key.path != "base_dir" => {
                    overrides.push(format!("{}='x'", key.path));
                }
                Kind::Word(words) if matches!(key.default, schema::DefaultValue::Unset) => {
                    overrides.push(format!("{}={}", key.path, words[0]));
                }
                Kind::Bool if matches!(key.default, schema::DefaultValue::Unset) => {
                    overrides.push(format!("{}=true", key.path));
                }
                Kind::Number { .. } if matches!(key.default, schema::DefaultValue::Unset) => {
                    overrides.push(format!("{}=0.5", key.path));
                }
                Kind::Text if matches!(key.default, schema::DefaultValue::Unset) => {
                    overrides.push(format!("{}=x", key.path));
                }
                _ => {}
            }
            keys.push(format!("{} = ", key.name()));
        }
        let loaded = load(&root().join("recipes").join(path), &overrides).unwrap_or_else(|errors| panic!("{errors}"));
        let text = loaded.resolved_toml();
        for key in keys {
            let key = key.trim().replace('\'', "\"");
            assert!(text.contains(&key), "{key} is lost in the resolved {kind} recipe:\n{text}");
        }
    }
}

#[test]
fn filters_take_one_value_or_a_list_and_are_part_of_the_hash() {
    let source = |more: &str| SHORT.replace("{ kind = 'pocket' }", &format!("{{ kind = 'chat', path = 'x'{more} }}"));
    let recipe = train(&source(", equal = { source = 'code', level = [1, 2] }, contain = { text = 'x' }, weight = 2"));
    let options = &recipe.data.sources[0].options;
    let equal = options.equal.as_ref().unwrap();
    assert_eq!((equal["source"].as_str(), equal["level"].as_array().unwrap().len()), (Some("code"), 2));
    assert_eq!((options.weight, options.ratio), (Some(2.0), None));
    let hash = |text: &str| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.toml"), text).unwrap();
        load(&dir.path().join("x.toml"), &[]).unwrap().hash()
    };
    assert_ne!(hash(&source(", equal = { source = 'code' }")), hash(&source(", equal = { source = 'poems' }")));
    assert_ne!(hash(&source("")), hash(&source(", take = 5")));
}

#[test]
fn a_key_that_is_not_used_leaves_hash_and_text_as_they_were() {
    // What the committed fuser's card says of its recipe.
    let loaded = load(&root().join("recipes/train/pocket.toml"), &[]).unwrap();
    assert_eq!(loaded.hash(), "9a00d93fe10934c34c62589e7c8d8b80a14ee470005409ed99cb210ddb75c329");
}

#[test]
fn list_tells_of_good_and_bad_files_and_of_a_missing_folder() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("inner")).unwrap();
    std::fs::write(dir.path().join("inner/good.toml"), SHORT).unwrap();
    std::fs::write(dir.path().join("bad.toml"), "kind = ").unwrap();
    std::fs::write(dir.path().join("notes.txt"), "no recipe").unwrap();
    let listed = list(dir.path());
    assert_eq!(listed.len(), 2);
    assert!(listed[0].path.ends_with("bad.toml") && listed[0].outcome.is_err());
    assert_eq!(listed[1].outcome.as_ref().unwrap().kind, RecipeKind::Train);
    assert!(list(&dir.path().join("none"))[0].outcome.is_err());
}

#[test]
fn the_reference_is_in_step_with_the_key_table() {
    let document = std::fs::read_to_string(root().join("docs/recipes.md")).unwrap();
    let fresh = reference::refresh(&document).expect("docs/recipes.md lacks the two marker lines");
    assert!(
        document == fresh,
        "docs/recipes.md is behind the key table; run: cargo run -p c2c-recipe --example recipe_reference"
    );
}

#[test]
fn the_example_of_the_reference_loads() {
    let document = std::fs::read_to_string(root().join("docs/recipes.md")).unwrap();
    let example = document.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(train(example).name, "mine");
}
