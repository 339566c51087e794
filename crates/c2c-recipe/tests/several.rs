//! Recipes with several Sharers: what they resolve to, and what is said of those that are wrong.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use c2c_recipe::{Dtype, EvalRecipe, FusionOrder, Loaded, Recipe, RecipeErrors, load};

const GOOD: &str = "kind = 'eval'\nname = 'x'\n[artefact]\npath = 'first'\n\
                    [several]\nlinks = [ { fuser = 'second' }, { fuser = 'org/third', sharer = 'c/d', dtype = 'bf16' } ]\n\
                    [evaluation]\nmethods = ['c2c', 'several']\nsources = [ { kind = 'pocket' } ]\n";

fn loaded(dir: &Path, text: &str, overrides: &[&str]) -> Result<Loaded, RecipeErrors> {
    let path = dir.join("x.toml");
    std::fs::write(&path, text).unwrap();
    load(&path, &overrides.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>())
}

fn recipe(dir: &Path, text: &str, overrides: &[&str]) -> EvalRecipe {
    match loaded(dir, text, overrides).unwrap_or_else(|errors| panic!("{errors}")).recipe {
        Recipe::Eval(recipe) => recipe,
        other => panic!("{other:?}"),
    }
}

/// Line, key and message of the only problem.
fn told(text: &str, overrides: &[&str]) -> (Option<usize>, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let mut problems = loaded(dir.path(), text, overrides).unwrap_err().problems;
    assert_eq!(problems.len(), 1, "{problems:#?}");
    let problem = problems.remove(0);
    (problem.line, problem.key, problem.message)
}

#[test]
fn links_resolve_as_artefact_and_models_do() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("c/d")).unwrap();
    let several = recipe(dir.path(), GOOD, &[]).several.unwrap();
    assert_eq!((several.order, several.used()), (FusionOrder::Sequential, vec![true; 3]));
    let [second, third] = several.links.as_slice() else { panic!("{several:?}") };
    assert_eq!(
        (second.path.as_path(), second.path_as_written.as_str()),
        (dir.path().join("second").as_path(), "second")
    );
    assert_eq!((&second.sharer, &second.sharer_hint, second.dtype), (&None, &None, None));
    assert_eq!((third.path_as_written.as_str(), third.dtype), ("org/third", Some(Dtype::Bf16)));
    assert_eq!((third.sharer.as_deref(), &third.sharer_hint), (Some("c/d"), &Some(dir.path().join("c/d"))));
}

#[test]
fn tables_of_an_array_mean_the_same_as_a_list() {
    let dir = tempfile::tempdir().unwrap();
    let list = "[several]\nlinks = [ { fuser = 'second' }, { fuser = 'org/third', sharer = 'c/d', dtype = 'bf16' } ]\n";
    let array =
        "[[several.links]]\nfuser = 'second'\n[[several.links]]\nfuser = 'org/third'\nsharer = 'c/d'\ndtype = 'bf16'\n";
    assert_eq!(recipe(dir.path(), &GOOD.replace(list, array), &[]), recipe(dir.path(), GOOD, &[]));
}

#[test]
fn what_is_fused_and_how_is_part_of_the_hash() {
    let dir = tempfile::tempdir().unwrap();
    let one = loaded(dir.path(), GOOD, &[]).unwrap();
    for (change, said) in [
        ("several.order=parallel", "several.order = \"parallel\", not \"sequential\""),
        ("several.use=1,3", "several.use = \"1,3\", not \"all\""),
        ("several.links[0].fuser=other", "several.links = "),
    ] {
        let other = loaded(dir.path(), GOOD, &[change]).unwrap();
        assert_ne!(one.hash(), other.hash(), "{change}");
        let differences = other.differences(&one);
        assert!(differences.len() == 1 && differences[0].starts_with(said), "{differences:?}");
    }
    assert_eq!(recipe(dir.path(), GOOD, &["several.use=1,3"]).several.unwrap().used(), [true, false, true]);
}

#[test]
fn wrong_links_are_told_of_with_line_and_key() {
    let links = "{ fuser = 'second' }";
    let (line, key, message) = told(&GOOD.replace(links, "{ sharer = 'a/b' }"), &[]);
    assert_eq!((line, key.as_str()), (Some(6), "several.links[0].fuser"));
    assert!(message.contains("missing; expected a path"), "{message}");
    let (line, key, message) = told(&GOOD.replace(links, "{ fuser = 'second', sharar = 'a/b' }"), &[]);
    assert_eq!((line, key.as_str()), (Some(6), "several.links[0].sharar"));
    assert!(message.contains("did you mean `sharer`?"), "{message}");
    let (_, key, message) = told(GOOD, &["several.links[1].dtype=f16"]);
    assert!(key == "several.links[1].dtype" && message.contains("one of \"f32\", \"bf16\""), "{key}: {message}");
    let (_, key, message) = told(GOOD, &["several.order=paralel"]);
    assert!(key == "several.order" && message.contains("did you mean \"parallel\"?"), "{key}: {message}");
    let (_, key, message) = told(GOOD, &["several.links=[]"]);
    assert!(key == "several.links" && message.contains("at least one table"), "{key}: {message}");
    let (_, key, message) = told(GOOD, &["several.use=1,4"]);
    assert!(key == "several.use" && message.contains("1 to 3") && message.contains("4 is none"), "{key}: {message}");
}

#[test]
fn the_method_and_its_sharers_need_each_other() {
    let without = GOOD.replace(
        "[several]\nlinks = [ { fuser = 'second' }, { fuser = 'org/third', sharer = 'c/d', dtype = 'bf16' } ]\n",
        "",
    );
    let (_, key, message) = told(&without, &[]);
    assert!(key == "several.links" && message.contains("with one Sharer ask `c2c`"), "{key}: {message}");
    let control = without.replace("'several'", "'several_mismatched'");
    let (_, key, message) = told(&control, &[]);
    assert!(key == "several.links" && message.contains("with one Sharer ask `mismatched`"), "{key}: {message}");
    let (_, key, message) = told(&GOOD.replace("'several'", "'several_mismatched'"), &["evaluation.limit=1"]);
    assert!(key == "evaluation.limit" && message.contains("`several_mismatched` pairs"), "{key}: {message}");
    let (_, key, message) = told(&GOOD.replace("[artefact]\npath = 'first'\n", ""), &[]);
    assert!(key == "artefact.path" && message.contains("needs a Fuser"), "{key}: {message}");
    let train = "kind = 'train'\nname = 'x'\nreceiver.model = 'a/b'\nsharer.model = 'c/d'\n\
                 data.sources = [ { kind = 'pocket' } ]\n[evaluation]\nmethods = ['several']\nsources = [ { kind = 'pocket' } ]\n";
    for train in [train, &train.replace("'several'", "'several_mismatched'")] {
        let (line, key, message) = told(train, &[]);
        assert_eq!((line, key.as_str()), (Some(7), "evaluation.methods"));
        assert!(message.contains("in an eval recipe"), "{message}");
    }
    // Links that nobody asks for are no error: a run may leave the method out.
    let dir = tempfile::tempdir().unwrap();
    assert!(recipe(dir.path(), GOOD, &["evaluation.methods=[\"c2c\"]"]).several.is_some());
}
