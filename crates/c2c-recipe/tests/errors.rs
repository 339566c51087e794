//! What is said of a recipe that is wrong: everything, at once, each with its line.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use c2c_recipe::{Override, Problem, RecipeErrors, load};

/// Loads a text with overrides; must fail.
fn errors(text: &[u8], overrides: &[&str]) -> RecipeErrors {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    std::fs::write(&path, text).unwrap();
    let overrides: Vec<String> = overrides.iter().map(|one| (*one).to_owned()).collect();
    match load(&path, &overrides) {
        Err(errors) => errors,
        Ok(loaded) => panic!("loaded: {:?}", loaded.recipe),
    }
}

/// Line, key and message of each problem.
fn told(text: &str, overrides: &[&str]) -> Vec<(Option<usize>, String, String)> {
    let problems = errors(text.as_bytes(), overrides).problems;
    problems.into_iter().map(|Problem { line, key, message }| (line, key, message)).collect()
}

/// The only problem.
fn one(text: &str, overrides: &[&str]) -> (Option<usize>, String, String) {
    let mut all = told(text, overrides);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

const GOOD: &str = "kind = 'train'\nname = 'x'\n[receiver]\nmodel = 'a/b'\n[sharer]\nmodel = 'c/d'\n\
                    [data]\nsources = [ { kind = 'pocket' } ]\n";

/// `GOOD` with more after it; the first added line is line 9.
fn with(more: &str) -> String {
    format!("{GOOD}{more}")
}

#[test]
fn many_errors_at_once() {
    let text = "\
kind = \"train\"
name = \"two words\"
sed = 1

[receiver]
model = 3
dtype = \"f16\"

[optimizer]
lerning_rate = 1e-3
weight_decay = \"0.01\"
beta1 = 1.0

[optimiser]
epsilon = 1

[fuser]
num_layers = 2
initial_temperature = 0.1
final_temperature = 0.5

[data]
sources = [
  { kind = \"pocket\", path = \"x\" },
  { kind = \"multiple_choice\", limt = 3 },
  { kind = \"poket\" },
]
";
    let found = errors(text.as_bytes(), &["training.batch_size=0"]);
    let lines: Vec<(Option<usize>, &str)> =
        found.problems.iter().map(|problem| (problem.line, problem.key.as_str())).collect();
    assert_eq!(
        lines,
        [
            (Some(2), "name"),
            (Some(3), "sed"),
            (Some(6), "receiver.model"),
            (Some(7), "receiver.dtype"),
            (Some(10), "optimizer.lerning_rate"),
            (Some(11), "optimizer.weight_decay"),
            (Some(12), "optimizer.beta1"),
            (Some(14), "optimiser"),
            (Some(18), "fuser.num_layers"),
            (Some(20), "fuser.final_temperature"),
            (Some(24), "data.sources[0].path"),
            (Some(25), "data.sources[1].limt"),
            (Some(25), "data.sources[1].path"),
            (Some(26), "data.sources[2].kind"),
            (None, "training.batch_size"),
            (None, "sharer.model"),
        ]
    );
    let shown = found.to_string();
    assert_eq!(shown.lines().count(), found.problems.len(), "one a line:\n{shown}");
    let start = format!("{}:10: optimizer.lerning_rate: unknown key", found.file.display());
    assert!(shown.lines().any(|line| line.starts_with(&start)), "{shown}");
}

#[test]
fn unknown_key_names_the_nearest() {
    let (line, key, message) = one(&with("[training]\nbatchsize = 4\n"), &[]);
    assert_eq!((line, key.as_str()), (Some(10), "training.batchsize"));
    assert_eq!(message, "unknown key (did you mean `training.batch_size`?)");
    // The right name in the wrong section, a section's name, a top key, and another tool's name.
    let hint = |more: &str| one(&with(more), &[]).2;
    assert!(hint("[training]\nlearning_rate = 1\n").contains("`optimizer.learning_rate`"));
    assert!(hint("[trainig]\nbatch_size = 4\n").contains("`training`"));
    assert!(hint("[training]\nper_device_train_batch_size = 4\n").contains("`training.batch_size`"));
    assert!(one(&format!("nam = 1\n{GOOD}"), &[]).2.contains("`name`"));
    assert!(hint("[training]\nzebra = 4\n").contains("expected one of batch_size, gradient_accumulation"));
}

#[test]
fn key_of_another_kind_of_recipe_is_told_so() {
    assert_eq!(
        one(&with("[corpus]\nrole = 'sharer'\n"), &[]).2,
        "a section of pretrain recipes; this is a train recipe"
    );
    assert_eq!(one(&with("[training]\nsteps = 4\n"), &[]).2, "a key of pretrain recipes; this is a train recipe");
}

#[test]
fn wrong_type_says_what_was_found_and_expected() {
    let (line, key, message) = one(&with("\n\n[training]\nbatch_size = 'four'\n"), &[]);
    assert_eq!((line, key.as_str()), (Some(12), "training.batch_size"));
    assert_eq!(message, "expected an integer from 1 to 1000000; found the string \"four\"");
    let (_, _, message) = one(&with("[training]\nbatch_size = '4'\n"), &[]);
    assert!(message.ends_with("(take the quotes away)"), "{message}");
    let (_, _, message) = one(&with("[fuser]\nzero_init = 1\n"), &[]);
    assert_eq!(message, "expected true or false; found the integer 1");
    let (line, key, message) = one(&GOOD.replace("[receiver]\nmodel = 'a/b'", "receiver = 'a/b'"), &[]);
    assert_eq!((line, key.as_str()), (Some(3), "receiver"));
    assert!(message.contains("expected a section"), "{message}");
}

#[test]
fn range_carries_the_line_of_the_key() {
    for (section, key, value, expected) in [
        ("fuser", "dropout", "1.0", "from 0 to below 1"),
        ("fuser", "num_layers", "2", "3 or more"),
        ("fuser", "final_temperature", "0", "above 0"),
        ("schedule", "warmup_ratio", "1.5", "from 0 to below 1"),
        ("training", "validation_fraction", "0.6", "from 0 to 0.5"),
        ("training", "max_length", "7", "8 or more"),
        ("training", "epochs", "0", "from 1 to 1000000"),
        ("training", "max_steps", "0", "1 or more"),
        ("optimizer", "learning_rate", "nan", "above 0"),
        ("optimizer", "learning_rate", "inf", "above 0"),
        ("optimizer", "learning_rate", "-1e-4", "above 0"),
        ("output", "dir", "''", "a path"),
    ] {
        let (line, path, message) = one(&with(&format!("[{section}]\n# why\n{key} = {value}\n")), &[]);
        assert_eq!((line, path), (Some(11), format!("{section}.{key}")));
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn lists_are_checked_element_by_element() {
    let evaluation = "[evaluation]\nsources = [ { kind = 'pocket' } ]\n";
    let methods = |list: &str| one(&with(&format!("{evaluation}methods = {list}\n")), &[]);
    assert!(methods("[]").2.contains("the list is empty"));
    let (line, key, message) = methods("['c2c', 'receiver',\n 'c2c']");
    assert_eq!((line, key.as_str()), (Some(12), "evaluation.methods[2]"));
    assert!(message.contains("twice"), "{message}");
    assert!(methods("['sharr']").2.contains("did you mean \"sharer\"?"));
    assert!(methods("'c2c'").2.contains("expected a list"));
    let (line, key, message) = one(&GOOD.replace("[ { kind = 'pocket' } ]", "[]"), &[]);
    assert_eq!((line, key.as_str()), (Some(8), "data.sources"));
    assert!(message.contains("the list is empty"), "{message}");
    let (_, key, message) = one(&with("[evaluation]\nsources = [ { kind = 'chat' } ]\n"), &[]);
    assert_eq!(key, "evaluation.sources[0].kind");
    assert!(message.contains("\"pocket\", \"multiple_choice\""), "{message}");
}

#[test]
fn arrays_of_tables_have_lines_too() {
    let text = GOOD.replace(
        "[data]\nsources = [ { kind = 'pocket' } ]\n",
        "[[data.sources]]\nkind = 'pocket'\n\n[[data.sources]]\nkind = 'chat'\nlimit = 0\n",
    );
    let all = told(&text, &[]);
    assert_eq!(all.len(), 2, "{all:#?}");
    assert_eq!((all[0].0, all[0].1.as_str()), (Some(10), "data.sources[1].path"));
    assert_eq!((all[1].0, all[1].1.as_str()), (Some(12), "data.sources[1].limit"));
}

#[test]
fn columns_of_a_filter_are_checked_one_by_one() {
    let source = |more: &str| GOOD.replace("{ kind = 'pocket' }", &format!("{{ kind = 'chat', path = 'x', {more} }}"));
    let (line, key, message) = one(&source("equal = { level = 1.5 }"), &[]);
    assert_eq!((line, key.as_str()), (Some(8), "data.sources[0].equal.level"));
    assert!(message.contains("found the number 1.5"), "{message}");
    assert!(one(&source("contain = { level = [] }"), &[]).2.contains("found a list"));
    assert!(one(&source("equal = 'x'"), &[]).2.contains("a table of columns"));
    assert!(one(&source("ratio = 1.5"), &[]).2.contains("above 0, up to 1"));
    // A name that stands in the table for two kinds is checked as the kind's own.
    assert!(one(&GOOD.replace("'pocket' }", "'pocket', split = 'dev' }"), &[]).2.contains("\"train\", \"test\""));
    let longbench = GOOD.replace("'pocket' }", "'longbench', split = 'dev' }");
    assert!(one(&longbench, &[]).2.contains("\"train\", \"test\", \"all\""));
    assert!(one(&GOOD.replace("'pocket'", "'openhermes', format = 'c2c'"), &[]).2.contains("`openhermes` source"));
}

#[test]
fn keys_that_do_not_go_together() {
    let (line, key, message) = one(&with("[training]\nvalidation_fraction = 0\nevaluate_every = 5\n"), &[]);
    assert_eq!((line, key.as_str()), (Some(11), "training.evaluate_every"));
    assert!(message.contains("nothing to evaluate on"), "{message}");
    let (_, key, _) = one(&with("[evaluation]\nsources = [ { kind = 'pocket' } ]\nlimit = 1\n"), &[]);
    assert_eq!(key, "evaluation.limit");
    // A default that a written key contradicts is told at the section.
    let (line, key, _) = one(&with("[fuser]\ninitial_temperature = 1e-4\n"), &[]);
    assert_eq!((line, key.as_str()), (Some(9), "fuser.final_temperature"));
    let model = "kind = 'pretrain'\nname = 'x'\n[model]\nfamily = 'qwen3'\nvocab_size = 8\nhidden_size = 8\n\
                 intermediate_size = 8\nnum_layers = 1\nnum_heads = 4\nnum_kv_heads = 3\nhead_dim = 5\n\
                 [corpus]\nrole = 'sharer'\nsequence_length = 513\n";
    let all = told(model, &[]);
    let keys: Vec<_> = all.iter().map(|(line, key, _)| (line.unwrap(), key.as_str())).collect();
    assert_eq!(keys, [(10, "model.num_kv_heads"), (11, "model.head_dim"), (14, "corpus.sequence_length")]);
}

#[test]
fn baselines_need_what_they_read() {
    let asks = |more: &str| with(&format!("[evaluation]\nsources = [{{ kind = 'pocket' }}]\n{more}\n"));
    let examples = "few_shot_sources = [{ kind = 'pocket', split = 'train' }]";
    for method in ["few_shot", "oracle"] {
        let (_, key, message) = one(&asks(&format!("methods = ['{method}']")), &[]);
        assert_eq!(key, "evaluation.methods");
        assert!(message.contains(&format!("`{method}` needs examples")), "{message}");
    }
    let (_, key, message) = one(&asks("methods = ['t2t']\nt2t_prompt = 'essentials'"), &[]);
    assert_eq!(key, "evaluation.t2t_prompt");
    assert!(message.contains("\"background\", \"essential\"") && message.contains("{question}"), "{message}");
    let (_, key, _) = one(&asks(&format!("methods = ['oracle']\n{examples}\noracle_layers = '3-1'")), &[]);
    assert_eq!(key, "evaluation.oracle_layers");
}

#[test]
fn a_share_needs_someone_who_fuses_and_an_end_needs_a_share() {
    let asks = |more: &str| with(&format!("[evaluation]\nsources = [{{ kind = 'pocket' }}]\n{more}\n"));
    let (line, key, message) = one(&asks("fused_share = 1.5"), &[]);
    assert_eq!((line, key.as_str()), (Some(11), "evaluation.fused_share"));
    assert!(message.contains("a number from 0 to 1") && message.contains("1.5"), "{message}");
    let (_, key, message) = one(&asks("fused_share = 0.5\nfused_from = 'middle'"), &[]);
    assert!(key == "evaluation.fused_from" && message.contains("\"front\", \"back\""), "{key}: {message}");
    let (line, key, message) = one(&asks("fused_from = 'back'"), &[]);
    assert_eq!((line, key.as_str()), (Some(11), "evaluation.fused_from"));
    assert!(message.contains("write evaluation.fused_share"), "{message}");
    let (_, key, message) = one(&asks("methods = ['receiver', 'sharer', 't2t']\nfused_share = 0.5"), &[]);
    assert!(key == "evaluation.fused_share" && message.contains("c2c"), "{key}: {message}");
    // A share that is wrong by itself is told once, and one of all from the back is fine.
    assert_eq!(one(&asks("fused_share = -1\nfused_from = 'back'"), &[]).1, "evaluation.fused_share");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("good.toml");
    std::fs::write(&path, asks("methods = ['gates_shut']\nfused_share = 1\nfused_from = 'back'")).unwrap();
    let good = load(&path, &[]).unwrap();
    assert!(good.resolved_toml().contains("fused_share = 1.0\nfused_from = \"back\"\n"), "{}", good.resolved_toml());
    // What isn't written stands in no resolved recipe, so that recipes of before there were shares keep their hash.
    std::fs::write(&path, asks("methods = ['gates_shut']")).unwrap();
    let plain = load(&path, &[]).unwrap();
    assert!(!plain.resolved_toml().contains("fused_"), "{}", plain.resolved_toml());
    assert_ne!(plain.hash(), load(&path, &["evaluation.fused_share=0.5".to_owned()]).unwrap().hash());
}

#[test]
fn keys_of_baselines_count_only_where_a_method_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("good.toml");
    let examples = "few_shot_sources = [{ kind = 'pocket', split = 'train' }]\nfew_shot_examples = 3";
    std::fs::write(&path, with(&format!("[evaluation]\nsources = [{{ kind = 'pocket' }}]\n{examples}\n"))).unwrap();
    let load =
        |overrides: &[&str]| load(&path, &overrides.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>()).unwrap();
    let (plain, other) = (load(&[]), load(&["evaluation.few_shot_examples=9", "evaluation.t2t_prompt=essential"]));
    assert_eq!(plain.hash(), other.hash());
    assert!(!plain.resolved_toml().contains("few_shot") && !plain.resolved_toml().contains("t2t_"));
    let asked = |more: &str| load(&["evaluation.methods=['receiver', 'few_shot', 't2t']", more]);
    let three = asked("evaluation.t2t_prompt=essential");
    let changed = three.differences(&asked("evaluation.t2t_prompt=background"));
    assert_eq!(changed, ["evaluation.t2t_prompt = \"essential\", not \"background\""]);
    // As resolved it reads back to the same.
    let again = dir.path().join("again.toml");
    std::fs::write(&again, three.resolved_toml()).unwrap();
    let again = c2c_recipe::load(&again, &[]).unwrap();
    assert_eq!((again.hash(), again.resolved_toml()), (three.hash(), three.resolved_toml()));
}

#[test]
fn missing_or_wrong_kind_is_told_with_the_rest() {
    let all = told("name = 'x'\n[artefact]\npth = 'y'\n", &[]);
    let keys: Vec<&str> = all.iter().map(|(_, key, _)| key.as_str()).collect();
    assert_eq!(keys, ["artefact.path", "artefact.pth", "kind", "evaluation.sources"].into_iter().collect::<Vec<_>>());
    let (line, _, message) = one(&GOOD.replace("'train'", "'trian'"), &[]);
    assert_eq!(line, Some(1));
    assert!(message.contains("did you mean \"train\"?"), "{message}");
}

/// Which models an evaluation without a Fuser needs follows from who is asked.
#[test]
fn what_nobody_names_is_told() {
    let recipe = |models: &str, methods: &str| {
        format!(
            "kind = 'eval'\nname = 'x'\n{models}[evaluation]\nsources = [{{ kind = 'pocket' }}]\nmethods = {methods}\n"
        )
    };
    let keys = |models: &str, methods: &str| -> Vec<String> {
        told(&recipe(models, methods), &[]).into_iter().map(|(_, key, _)| key).collect()
    };
    let receiver = "receiver.model = 'a'\n";
    let both = "receiver.model = 'a'\nsharer.model = 'b'\n";
    assert_eq!(keys("", "['receiver', 'c2c']"), ["artefact.path"]);
    assert_eq!(keys(both, "['receiver', 't2t_c2c']"), ["artefact.path"]);
    assert_eq!(keys("", "['receiver', 't2t']"), ["receiver.model", "sharer.model"]);
    assert_eq!(keys(receiver, "['sharer']"), ["sharer.model"]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("good.toml");
    for (models, methods) in [(receiver, "['receiver']"), (both, "['receiver', 'sharer', 't2t']")] {
        std::fs::write(&path, recipe(models, methods)).unwrap();
        assert!(load(&path, &[]).is_ok());
    }
}

#[test]
fn overrides_are_checked_like_the_file() {
    let (line, key, message) = one(GOOD, &["optimizer.lerning_rate=3e-4"]);
    assert_eq!((line, key.as_str()), (None, "optimizer.lerning_rate"));
    assert_eq!(
        message,
        "unknown key (did you mean `optimizer.learning_rate`?) (from the override `optimizer.lerning_rate=3e-4`)"
    );
    let (_, _, message) = one(GOOD, &["training.batch_size=many"]);
    assert!(message.starts_with("expected an integer from 1 to 1000000; found the string \"many\""), "{message}");
    assert!(one(GOOD, &["training.batch_sise="]).2.contains("`training.batch_size`"));
    assert!(one(GOOD, &["trainig.batch_size="]).2.contains("`training`"));
    assert!(one(GOOD, &["data.sources[1].limit=3"]).2.contains("1 element (counted from 0)"));
    assert!(one(GOOD, &["name.x=3"]).2.contains("expected a table"));
    assert!(one(GOOD, &["name[0]=3"]).2.contains("not a list"));
    assert!(one(GOOD, &["data.sources[0].limit=3"]).2.contains("not a key of a `pocket` source"));
    assert_eq!(told(GOOD, &["a b=1", "seed", "seed=[1", "=1"]).len(), 4);
    assert!(Override::parse("seed=1").is_ok() && Override::parse("seed").is_err());
}

#[test]
fn overrides_are_typed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("good.toml");
    std::fs::write(&path, with("[training]\nmax_steps = 5\n")).unwrap();
    let with = |overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|one| (*one).to_owned()).collect();
        match load(&path, &overrides).unwrap_or_else(|errors| panic!("{errors}")).recipe {
            c2c_recipe::Recipe::Train(recipe) => recipe,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(with(&["optimizer.learning_rate=3e-4"]).optimizer.learning_rate, 3e-4);
    assert_eq!(with(&["optimizer.learning_rate=1"]).optimizer.learning_rate, 1.0);
    assert_eq!(with(&["receiver.dtype=bf16"]).receiver.dtype, c2c_recipe::Dtype::Bf16);
    assert_eq!(with(&["receiver.model = /models/a=b"]).receiver.model, "/models/a=b");
    assert_eq!(with(&["name=2024"]).name, "2024");
    assert!(!with(&["data.shuffle=false"]).data.shuffle);
    assert_eq!(with(&["training.max_steps="]).training.max_steps, None);
    assert_eq!(with(&["evaluation.limit="]).evaluation, None, "taking out what isn't there makes no section");
    assert_eq!(with(&["seed=1", "seed=2"]).seed, 2, "the last counts");
    assert_eq!(with(&["data.sources[0].places=9"]).data.sources[0].places, Some(9));
    let evaluation = with(&["evaluation.sources=[{ kind = 'pocket' }]", "evaluation.methods=['c2c']"]).evaluation;
    assert_eq!(evaluation.unwrap().methods, [c2c_recipe::Method::C2c]);
}

#[test]
fn files_that_are_no_recipes() {
    let missing = load(std::path::Path::new("/no/such/recipe.toml"), &[]).unwrap_err();
    assert_eq!(missing.to_string(), "/no/such/recipe.toml: no such file; give the path of a recipe");
    let folder = load(std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()), &[]).unwrap_err();
    assert!(folder.to_string().contains("can't be read"), "{folder}");

    let (line, key, message) = one("kind = 'train'\nname = 'x'\n\n[receiver\nmodel = 1\n", &[]);
    assert_eq!((line, key.as_str()), (Some(4), ""));
    assert!(message.starts_with("not TOML: "), "{message}");
    assert_eq!(one("kind = 'train'\nkind = 'eval'\n", &[]).0, Some(2), "a key twice");

    let not_text = errors(b"kind = 'train'\nname = '\xff'\n", &[]);
    assert_eq!(not_text.problems[0].line, Some(2));
    let large = errors(&vec![b'#'; 1 << 21], &[]);
    assert!(large.to_string().contains("larger than"), "{large}");
    let deep = errors(format!("x = {}", "[".repeat(100_000)).as_bytes(), &[]);
    assert!(deep.problems[0].message.starts_with("not TOML"), "{deep}");
}

#[test]
fn deep_nesting_is_an_error_not_a_crash() {
    for text in [
        format!("{}x = 1", "a.".repeat(100_000)),
        format!("[{}x]\n", "a.".repeat(100_000)),
        format!("x = {}", "{ a = ".repeat(100_000)),
        format!("x = {}1{}", "[".repeat(70), "]".repeat(70)),
    ] {
        assert!(!errors(text.as_bytes(), &[]).problems.is_empty());
    }
}

/// Numbers that would be multiplied, or held in memory, are bounded where they are written.
#[test]
fn counts_that_no_machine_has_room_for_are_refused_by_name() {
    for (key, value, words) in [
        ("data.length_bucket", "4611686018427387904", "an integer from 1 to 1000000"),
        ("data.prefetch", "1000000000", "an integer from 0 to 1024"),
        ("data.sources[0].weight", "1e15", "up to 1000"),
        ("data.sources[0].repeats", "9223372036854775807", "an integer from 1 to 10000"),
        ("training.batch_size", "4611686018427387904", "an integer from 1 to 1000000"),
        ("training.gradient_accumulation", "1000001", "an integer from 1 to 1000000"),
        ("training.epochs", "9223372036854775807", "an integer from 1 to 1000000"),
    ] {
        let (_, told, message) = one(GOOD, &[&format!("{key}={value}")]);
        assert!(told == key && message.contains(words) && message.contains("found"), "{told}: {message}");
    }
}

#[test]
fn packing_is_told_what_takes_its_place() {
    let (_, key, message) = one(&with("packing = true\n"), &[]);
    assert!(
        key == "data.packing" && message.contains("unknown key") && message.contains("data.length_bucket"),
        "{message}"
    );
}
