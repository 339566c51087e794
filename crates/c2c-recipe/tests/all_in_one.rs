//! Recipes of a Fuser that is an all-in-one network: what is read, what is refused, and those of the reference.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use c2c_recipe::{
    Activation, AllInOneSettings, Converted, FateOutcome, Features, FuserNetwork, Granularity, Loaded, ReceiverTerm,
    Recipe, RecipeErrors, TrainRecipe, convert, load,
};

const START: &str = "kind = 'train'\nname = 'x'\nreceiver.model = 'r'\nsharer.model = 's'\n\
                     data.sources = [{ kind = 'pocket', split = 'train' }]\n";
const NETWORK: &str = "[fuser]\nnetwork = 'all_in_one'\n";

fn read(text: &str) -> Result<Loaded, RecipeErrors> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.toml");
    std::fs::write(&path, text).unwrap();
    load(&path, &[])
}

fn recipe(loaded: &Loaded) -> &TrainRecipe {
    match &loaded.recipe {
        Recipe::Train(recipe) => recipe,
        other => panic!("{other:?}"),
    }
}

/// Keys and messages of a recipe that has these lines.
fn problems(lines: &str) -> Vec<(String, String)> {
    let errors = read(&format!("{START}{lines}")).expect_err(lines);
    errors.problems.into_iter().map(|problem| (problem.key, problem.message)).collect()
}

#[test]
fn left_out_choices_are_those_of_the_class() {
    let bare = read(&format!("{START}{NETWORK}")).unwrap();
    let with_section = read(&format!("{START}{NETWORK}[all_in_one]\n")).unwrap();
    for loaded in [&bare, &with_section] {
        assert_eq!(recipe(loaded).network(), FuserNetwork::AllInOne);
        assert_eq!(recipe(loaded).all_in_one_settings(), Some(AllInOneSettings::default()));
    }
    // The paper's Fuser stays what it was, its text and hash too.
    let paper = read(START).unwrap();
    assert_eq!((recipe(&paper).network(), recipe(&paper).all_in_one_settings()), (FuserNetwork::Paper, None));
    for key in ["network", "all_in_one"] {
        assert!(!paper.resolved_toml().contains(key), "{}", paper.resolved_toml());
    }
    let named = read(&format!("{START}[fuser]\nnetwork = 'paper'\n")).unwrap();
    assert_eq!(recipe(&named).network(), FuserNetwork::Paper);
}

#[test]
fn every_choice_arrives_and_is_written_out_again() {
    let text = format!(
        "{START}[fuser]\nnetwork = 'all_in_one'\nnum_layers = 1\ninitial_gate_logit = 0.5\n[all_in_one]\n\
         activation = 'relu'\nlayer_norm = false\nresidual = false\ncombine = true\nreceiver = 'replaced'\n\
         gate_granularity = 'value'\nweight_granularity = 'head_merged'\nweight_features = 'projected_both'\n\
         weight_temperature = 0.5\nmax_tokens = 2048\n"
    );
    let loaded = read(&text).unwrap();
    let expected = AllInOneSettings {
        activation: Activation::Relu,
        layer_norm: false,
        residual: false,
        swiglu: false,
        combine: true,
        receiver: ReceiverTerm::Replaced,
        gate_granularity: Granularity::Value,
        gate_features: None,
        weight_granularity: Granularity::HeadMerged,
        weight_features: Some(Features::ProjectedBoth),
        weight_temperature: 0.5,
        initial_weight: 0.0,
        max_tokens: 2048,
    };
    assert_eq!(recipe(&loaded).all_in_one_settings(), Some(expected));
    assert_eq!(recipe(&loaded).fuser.num_layers, 1);
    let again = read(&loaded.resolved_toml()).unwrap();
    assert_eq!((recipe(&again), again.hash()), (recipe(&loaded), loaded.hash()));
    for (key, words) in [
        ("activation", Activation::WORDS),
        ("receiver", ReceiverTerm::WORDS),
        ("gate_features", Features::WORDS),
        ("weight_features", Features::WORDS),
    ] {
        for word in words {
            let found = read(&format!("{START}{NETWORK}[all_in_one]\n{key} = '{word}'\n")).unwrap();
            assert!(found.resolved_toml().contains(&format!("{key} = \"{word}\"")), "{key} {word}");
        }
    }
}

#[test]
fn what_does_not_go_together_is_told_with_key_found_expected_and_fix() {
    for (lines, key, words) in [
        ("[all_in_one]\nswiglu = true\n", "all_in_one", &["network = \"all_in_one\"", "take this section out"][..]),
        ("[fuser]\nnum_layers = 2\n", "fuser.num_layers", &["3 or more", "found the integer 2"]),
        ("fuser.network = 'all_in_one'\nfuser.level = 'fuse'\n", "fuser.level", &["\"fuse\"", "leave this out"]),
        (
            "fuser.network = 'all_in_one'\nfuser.zero_init = true\n",
            "fuser.zero_init",
            &["start at zero", "leave this out"],
        ),
        ("fuser.network = 'all_in_none'\n", "fuser.network", &["did you mean \"all_in_one\"?"]),
        (
            "method = 'transformation'\nfuser.network = 'all_in_one'\n",
            "fuser.network",
            &["transformation", "leave this out"],
        ),
    ] {
        let found = problems(lines);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].0 == key && words.iter().all(|word| found[0].1.contains(word)), "{found:?}");
    }
    for (lines, key, words) in [
        ("activation = 'silu'\nswiglu = true", "activation", &["\"silu\"", "swiglu", "leave one"][..]),
        ("activation = 'tanh'", "activation", &["\"gelu\", \"relu\", \"silu\"", "found the string \"tanh\""]),
        ("gate_granularity = 'head_merged'", "gate_granularity", &["head_merged", "gate_features", "\"head\""]),
        ("weight_granularity = 'head_merged'", "weight_granularity", &["weight_features"]),
        (
            "gate_granularity = 'token'\ngate_features = 'receiver_key'",
            "gate_granularity",
            &["\"receiver_key\"", "fails"],
        ),
        ("weight_features = 'receiver_key'\ninitial_weight = 1", "initial_weight", &["weight_features", "leave one"]),
        (
            "weight_granularity = 'head'\nmax_tokens = 100",
            "max_tokens",
            &["100", "training.max_length, 2048", "weight"],
        ),
        ("weight_temperature = 0", "weight_temperature", &["above 0"]),
        ("max_tokens = 0", "max_tokens", &["1 or more"]),
        ("swigl = true", "swigl", &["did you mean `all_in_one.swiglu`?"]),
    ] {
        let found = problems(&format!("{NETWORK}[all_in_one]\n{lines}\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        let key = format!("all_in_one.{key}");
        assert!(found[0].0 == key && words.iter().all(|word| found[0].1.contains(word)), "{found:?}");
    }
    let found =
        problems(&format!("{NETWORK}initial_gate_logit = 1.0\n[all_in_one]\ngate_features = 'receiver_both'\n"));
    assert!(found.len() == 1 && found[0].0 == "fuser.initial_gate_logit", "{found:?}");
    // A wrong word is one problem, not also a missing one; and all problems are told at once.
    assert_eq!(
        problems(&format!("{NETWORK}[all_in_one]\ngate_granularity = 'head_merged'\ngate_features = 'x'\n")).len(),
        1
    );
    assert_eq!(
        problems(&format!("{NETWORK}zero_init = true\n[all_in_one]\nweight_granularity = 'head_merged'\n")).len(),
        2
    );
    // Without places there is nothing to be too few of; and words with input need none.
    for good in ["max_tokens = 1", "weight_granularity = 'token'\nweight_features = 'receiver_key'\nmax_tokens = 1"] {
        read(&format!("{START}{NETWORK}[all_in_one]\n{good}\n")).unwrap();
    }
}

/// A recipe of the reference with these parameters of the class.
fn converted(params: &str) -> Result<Converted, RecipeErrors> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("all_in_one.json");
    let text = format!(
        r#"{{"model": {{"base_model": "a/b", "teacher_model": "c/d", "mapping": "last_aligned",
        "projector": {{"type": "AllInOneProjector", "params": {{{params}}}}}}}, "training": {{"max_length": 1024}},
        "data": {{"type": "OpenHermesChatDataset", "kwargs": {{"num_samples": 5}}}}}}"#
    );
    std::fs::write(&path, text).unwrap();
    convert(&path, None)
}

fn arrived(params: &str) -> (TrainRecipe, Converted) {
    let converted = converted(params).unwrap_or_else(|errors| panic!("{errors}"));
    (recipe(&read(&converted.toml).unwrap()).clone(), converted)
}

#[test]
fn a_recipe_of_the_reference_arrives_with_the_defaults_of_its_class() {
    let (short, _) = arrived("");
    let fuser = &short.fuser;
    assert_eq!((fuser.hidden_dim, fuser.intermediate_dim, fuser.num_layers), (512, 1024, 2));
    assert_eq!((fuser.dropout, fuser.final_temperature, fuser.anneal_steps), (0.1, 0.01, Some(1360)));
    assert_eq!(short.all_in_one_settings(), Some(AllInOneSettings::default()));

    // Every argument of the class: those of the recipe that the reference has for it, and the others.
    let (whole, converted) = arrived(
        r#""hidden_dim": 1024, "weight_hidden_dim": 768, "num_layers": 3, "dropout": 0.2, "activation": "GELU",
        "use_layer_norm": true, "use_residual": false, "use_swiglu": true, "use_concat": true,
        "gate_granularity": "scalar", "gate_depends_on_input": false, "gate_input_features": "target_key",
        "gate_init_value": 0.0, "weight_granularity": "head_merged", "weight_depends_on_input": true,
        "weight_input_features": "target_projected_key", "weight_init_value": 0.0, "use_gumbel": true,
        "initial_temperature": 0.9, "final_temperature": 0.001, "preserve_target_weight": false, "add_self": true,
        "anneal_steps": 112, "scalar_temperature": 1.0, "max_sequence_length": 4096, "pos_emb": false,
        "dtype": "bfloat16", "source_dim": 128"#,
    );
    let fuser = &whole.fuser;
    assert_eq!((fuser.hidden_dim, fuser.intermediate_dim, fuser.num_layers), (1024, 768, 3));
    assert_eq!((fuser.dropout, fuser.initial_temperature, fuser.final_temperature), (0.2, 0.9, 0.001));
    let expected = AllInOneSettings {
        residual: false,
        swiglu: true,
        combine: true,
        receiver: ReceiverTerm::Added,
        weight_granularity: Granularity::HeadMerged,
        weight_features: Some(Features::ProjectedKey),
        weight_temperature: 1.0,
        max_tokens: 4096,
        ..AllInOneSettings::default()
    };
    assert_eq!((whole.all_in_one_settings(), fuser.anneal_steps), (Some(expected), Some(112)));
    let params: Vec<_> = converted.fates.iter().filter(|fate| fate.key.starts_with("model.projector")).collect();
    assert_eq!(params.len(), 29);
    let lost: Vec<&str> =
        params.iter().filter(|fate| fate.outcome == FateOutcome::Lost).map(|fate| fate.key.as_str()).collect();
    assert_eq!(lost, ["model.projector.params.dtype"]);
}

#[test]
fn every_word_of_the_reference_for_inputs_and_for_the_own_cache_arrives() {
    let words = [
        "target_key",
        "target_value",
        "both",
        "target_projected_key",
        "target_projected_value",
        "target_projected_both",
    ];
    for (word, ours) in words.iter().zip(Features::WORDS) {
        let params = format!(r#""gate_depends_on_input": true, "gate_input_features": "{word}""#);
        let settings = arrived(&params).0.all_in_one_settings().unwrap();
        assert_eq!(settings.gate_features.map(Features::as_str), Some(*ours));
    }
    // The class's own default.
    let settings = arrived(r#""weight_depends_on_input": true"#).0.all_in_one_settings().unwrap();
    assert_eq!(settings.weight_features, Some(Features::ReceiverKey));
    for (params, term) in [
        (r#""add_self": false"#, ReceiverTerm::Replaced),
        (r#""add_self": false, "preserve_target_weight": true"#, ReceiverTerm::Replaced),
        (r#""preserve_target_weight": false"#, ReceiverTerm::Added),
        (r#""preserve_target_weight": true"#, ReceiverTerm::Blended),
    ] {
        assert_eq!(arrived(params).0.all_in_one_settings().unwrap().receiver, term, "{params}");
    }
    let settings = arrived(r#""weight_init_value": 2"#).0.all_in_one_settings().unwrap();
    assert_eq!(settings.initial_weight, 2.0);
}

#[test]
fn what_the_class_cannot_train_is_refused() {
    for (params, words) in [
        (r#""use_gumbel": false"#, "model.projector.params.use_gumbel: trains with hard gates"),
        (
            r#""gate_depends_on_input": true, "gate_input_features": "all""#,
            "\"all\" is unknown; expected one of target_key",
        ),
        (r#""weight_granularity": "half""#, "all_in_one.weight_granularity: expected one of"),
        (r#""weight_granularity": "head_merged""#, "weight_features"),
        (r#""add_self": "yes""#, "model.projector.params.add_self: expected true or false"),
        (r#""activation": "tanh""#, "all_in_one.activation: expected one of"),
        (r#""max_sequence_length": 512, "gate_granularity": "token""#, "512 is below training.max_length, 1024"),
    ] {
        let message = converted(params).expect_err(params).to_string();
        assert!(message.contains(words), "{params}: {message}");
    }
    // What nothing reads is said so.
    let (_, converted) = arrived(r#""colour": 1"#);
    assert!(converted.toml.contains("params.colour"), "{}", converted.toml);
}
