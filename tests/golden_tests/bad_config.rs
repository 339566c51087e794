//! Configs that are refused: by the key, its value and what is expected or supported.

use std::path::Path;

use c2c_fuser::{C2c, Fuser, FuserConfig, FuserError, GateNoise};
use c2c_lm::{LmConfig, LmError, init_random};
use c2c_tests::{B, device};
use serde_json::{Value, json};

/// A small valid config of a family.
fn config(model_type: &str) -> Value {
    json!({
        "model_type": model_type, "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
        "tie_word_embeddings": true, "max_position_embeddings": 16,
    })
}

fn parse(json: &Value) -> Result<LmConfig, LmError> {
    LmConfig::from_json(json, Path::new("some/folder/config.json"))
}

fn refused(model_type: &str, key: &str, value: Value) -> LmError {
    let mut json = config(model_type);
    json[key] = value.clone();
    match parse(&json) {
        Ok(_) => panic!("{model_type}: `{key}` = {value} was accepted"),
        Err(error) => error,
    }
}

#[test]
fn every_family_accepts_its_plain_config() {
    for family in ["llama", "qwen2", "qwen3", "gemma3_text"] {
        parse(&config(family)).unwrap();
    }
}

#[test]
fn unsupported_options_are_refused_by_name() {
    for (family, key, value, hint) in [
        ("gemma3_text", "attn_logit_softcapping", json!(50.0), "soft-capped"),
        ("gemma3_text", "final_logit_softcapping", json!(30.0), "soft-capped"),
        ("qwen2", "use_sliding_window", json!(true), "Gemma 3"),
        ("qwen3", "use_sliding_window", json!(true), "Gemma 3"),
        ("llama", "mlp_bias", json!(true), "not implemented"),
        ("llama", "quantization_config", json!({"quant_method": "gptq"}), "dequantise"),
        ("llama", "hidden_act", json!("relu"), "silu"),
        ("qwen3", "hidden_act", json!("gelu"), "gelu_pytorch_tanh"),
        ("gemma3_text", "hidden_activation", json!("gelu"), "gelu_pytorch_tanh"),
        ("qwen2", "rope_scaling", json!({"type": "yarn", "factor": 4.0}), "llama3"),
        ("llama", "rope_scaling", json!({"rope_type": "dynamic", "factor": 2.0}), "linear"),
        ("llama", "rope_scaling", json!({"factor": 2.0}), "linear"),
        ("gemma3_text", "layer_types", json!(["full_attention", "chunked_attention", "full_attention"]), "sliding"),
        ("llama", "model_type", json!("mistral"), "llama, qwen2, qwen3 and gemma3_text"),
    ] {
        let error = refused(family, key, value.clone());
        assert!(matches!(error, LmError::Unsupported { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("some/folder/config.json"), "{text}");
        assert!(text.contains(&format!("`{key}`")) && text.contains(hint), "{text}");
        let shown = match &value {
            Value::Array(types) => types[1].to_string(),
            other => other.to_string(),
        };
        assert!(text.contains(&shown), "{text} doesn't show {shown}");
    }
}

#[test]
fn wrong_values_name_key_found_and_expected() {
    for (key, value, expected) in [
        ("num_key_value_heads", json!(3), "divisor of num_attention_heads = 4"),
        ("head_dim", json!(5), "even number"),
        ("head_dim", json!(0), "whole number above 0"),
        ("num_attention_heads", json!(0), "whole number above 0"),
        ("num_key_value_heads", json!(0), "whole number above 0"),
        ("vocab_size", json!(0), "whole number above 0"),
        ("vocab_size", json!(-4), "whole number above 0"),
        ("hidden_size", json!("16"), "whole number above 0"),
        ("num_hidden_layers", json!(1.5), "whole number above 0"),
        ("rms_norm_eps", json!(0), "number above 0"),
        ("rope_theta", json!("large"), "number above 0"),
        ("tie_word_embeddings", json!(1), "true or false"),
        ("vocab_size", Value::Null, "missing"),
        ("hidden_size", Value::Null, "missing"),
        ("intermediate_size", Value::Null, "missing"),
        ("num_hidden_layers", Value::Null, "missing"),
        ("num_attention_heads", Value::Null, "missing"),
        ("model_type", Value::Null, "missing"),
    ] {
        let text = refused("llama", key, value.clone()).to_string();
        assert!(text.contains("some/folder/config.json"), "{text}");
        assert!(text.contains(&format!("`{key}`")) && text.contains(expected), "{text}");
        assert!(value.is_null() || text.contains(&value.to_string()), "{text} doesn't show {value}");
    }
    // Without the key it is what is left of the width, here nothing and an odd number.
    for (hidden, found) in [(3, "3 / 4 is 0"), (20, "20 / 4 is 5")] {
        let mut json = config("llama");
        json["hidden_size"] = json!(hidden);
        json["head_dim"] = Value::Null;
        let text = parse(&json).unwrap_err().to_string();
        assert!(text.contains("`head_dim`") && text.contains(found) && text.contains("even number above 0"), "{text}");
    }
    let text = refused("gemma3_text", "layer_types", json!(["full_attention"])).to_string();
    assert!(text.contains("`layer_types`: found 1 entries, expected 3"), "{text}");
}

#[test]
fn a_null_option_counts_as_absent() {
    let mut json = config("gemma3_text");
    for key in
        ["attn_logit_softcapping", "final_logit_softcapping", "rope_scaling", "quantization_config", "layer_types"]
    {
        json[key] = Value::Null;
    }
    assert_eq!(parse(&json).unwrap(), parse(&config("gemma3_text")).unwrap());
}

fn fuser_config() -> FuserConfig {
    FuserConfig {
        sharer_heads: 2,
        sharer_head_dim: 4,
        sharer_layers: 3,
        receiver_heads: 2,
        receiver_head_dim: 4,
        layer_map: vec![0, 1, 2],
        hidden_dim: 8,
        intermediate_dim: 8,
        num_layers: 3,
        dropout: 0.0,
        initial_temperature: 1.0,
        final_temperature: 0.1,
        anneal_steps: 10,
        gate_noise: GateNoise::Gumbel,
        initial_gate_logit: 0.0,
        zero_init: false,
        parts: Default::default(),
        all_in_one: None,
    }
}

#[test]
fn fuser_configs_out_of_range_are_refused_by_key() {
    let plain = fuser_config();
    plain.validate().unwrap();
    for (key, config) in [
        ("num_layers", FuserConfig { num_layers: 2, ..plain.clone() }),
        ("hidden_dim", FuserConfig { hidden_dim: 0, ..plain.clone() }),
        ("dropout", FuserConfig { dropout: 1.0, ..plain.clone() }),
        ("initial_temperature", FuserConfig { initial_temperature: 0.0, ..plain.clone() }),
        ("final_temperature", FuserConfig { final_temperature: 2.0, ..plain.clone() }),
        ("layer_map", FuserConfig { layer_map: vec![0, 1, 3], ..plain.clone() }),
        ("layer_map", FuserConfig { layer_map: Vec::new(), ..plain.clone() }),
    ] {
        let text = Fuser::<B>::init(&config, 0, &device()).unwrap_err().to_string();
        assert!(text.starts_with(&format!("fuser config: {key} = ")) && text.contains("expected"), "{text}");
    }
}

#[test]
fn a_fuser_of_other_models_names_the_difference() {
    let fuser = Fuser::<B>::init(&fuser_config(), 0, &device()).unwrap();
    let plain = parse(&config("llama")).unwrap();
    let model = |config: &LmConfig| init_random::<B>(config, 0, &device());
    let deeper = LmConfig { num_layers: 4, sliding_windows: vec![None; 4], ..plain.clone() };
    let wider = LmConfig { head_dim: 8, ..plain.clone() };
    let more_heads = LmConfig { num_kv_heads: 4, ..plain.clone() };
    C2c::new(model(&plain), model(&plain), fuser.clone()).unwrap();
    for (receiver, sharer, expected) in [
        (&deeper, &plain, "a receiver with layers 3, this one has 4"),
        (&wider, &plain, "a receiver with head width 4, this one has 8"),
        (&more_heads, &plain, "a receiver with key and value heads 2, this one has 4"),
        (&plain, &deeper, "a sharer with layers 3, this one has 4"),
        (&plain, &wider, "a sharer with head width 4, this one has 8"),
        (&plain, &more_heads, "a sharer with key and value heads 2, this one has 4"),
    ] {
        let error = C2c::new(model(receiver), model(sharer), fuser.clone()).unwrap_err();
        assert!(matches!(error, FuserError::ModelMismatch { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn missing_and_misshapen_fuser_parameters_are_all_listed() {
    let error = Fuser::<B>::load(&fuser_config(), &device(), |name, shape| match name {
        "trunk.w1" => Err(format!("  {name}: missing")),
        "gate_logit" => Ok(vec![0.0; 5]),
        "output.bias" => Ok(Vec::new()),
        _ => Ok(vec![0.0; shape.iter().product()]),
    })
    .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, FuserError::Weights(problems) if problems.len() == 3), "{text}");
    for line in [
        "trunk.w1: missing",
        "gate_logit: found 5 values, expected [6, 1, 1]",
        "output.bias: found 0 values, expected [6, 1, 8]",
    ] {
        assert!(text.contains(line), "{text}\nlacks {line}");
    }
}

#[test]
fn rope_parameters_of_newer_configs_are_read() {
    let mut json = config("qwen3");
    json["rope_parameters"] = json!({ "rope_type": "default", "rope_theta": 5e5 });
    assert_eq!(parse(&json).unwrap().rope_theta, 5e5);
    let mut json = config("gemma3_text");
    json["rope_parameters"] = json!({
        "full_attention": { "rope_type": "linear", "factor": 8.0, "rope_theta": 2e6 },
        "sliding_attention": { "rope_type": "default", "rope_theta": 3e4 },
    });
    let read = parse(&json).unwrap();
    assert_eq!((read.rope_theta, read.rope_local_theta), (2e6, 3e4));
    assert!(read.rope_scaling.is_some());
}

#[test]
fn options_that_would_change_the_numbers_are_refused() {
    for (key, value) in [
        ("partial_rotary_factor", json!(0.5)),
        ("use_bidirectional_attention", json!(true)),
        ("layer_types", json!(["full_attention", "sliding_attention", "full_attention"])),
    ] {
        assert!(refused("qwen3", key, value).to_string().contains(key));
    }
    assert!(refused("gemma3_text", "layer_types", json!("all")).to_string().contains("layer_types"));
}
