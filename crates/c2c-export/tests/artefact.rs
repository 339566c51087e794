//! Saving, loading, copying: bit for bit, whole or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use c2c_export::ExportError;
use c2c_export::artefact::{
    self, Asked, CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, copy, load, read_config, save, save_as, update_card,
};
use common::*;

#[test]
fn loads_back_bit_equal() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("runs/a/fuser");
    let fuser = fuser(1);
    save(&fuser, &info(), &results(), &dir, false).unwrap();
    assert_eq!(names(&dir), [CARD_FILE, WEIGHTS_FILE, CONFIG_FILE]);
    assert_eq!(names(dir.parent().unwrap()), ["fuser"], "nothing else stays");

    let loaded = load::<B>(&dir, &device()).unwrap();
    assert_eq!(bits(&loaded.fuser), bits(&fuser));
    assert_eq!(loaded.config.fuser, config());
    assert_eq!(loaded.config, read_config(&dir).unwrap());

    let again = tmp.path().join("again");
    save_as(&loaded.fuser, loaded.config, &results(), &again, false).unwrap();
    assert_eq!(files(&again), files(&dir));
}

#[test]
fn a_fuser_in_training_gives_the_same_bytes() {
    let tmp = tempfile::tempdir().unwrap();
    let (plain, trained) = (tmp.path().join("plain"), tmp.path().join("trained"));
    let device = burn::DispatchDevice::autodiff(device());
    save(&fuser(1), &info(), &[], &plain, false).unwrap();
    save(&c2c_fuser::Fuser::<B>::init(&config(), 1, &device).unwrap(), &info(), &[], &trained, false).unwrap();
    assert_eq!(files(&trained), files(&plain));
    assert_eq!(bits(&load::<B>(&trained, &device).unwrap().fuser), bits(&fuser(1)));
}

#[test]
fn odd_floats_survive() {
    let odd = [f32::NAN, -f32::NAN, f32::INFINITY, -0.0, f32::MIN_POSITIVE / 2.0, f32::from_bits(0x7fa0_0001)];
    let mut c = config();
    c.layer_map = vec![0, 1, 1];
    let read =
        |_: &str, shape: [usize; 3]| Ok((0..shape.iter().product::<usize>()).map(|i| odd[i % odd.len()]).collect());
    let fuser = c2c_fuser::Fuser::<B>::load(&c, &device(), read).unwrap();
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("fuser");
    save(&fuser, &info(), &[], &dir, false).unwrap();
    assert_eq!(bits(&load::<B>(&dir, &device()).unwrap().fuser), bits(&fuser));
}

#[test]
fn another_reader_of_safetensors_finds_every_parameter() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("fuser");
    let fuser = fuser(2);
    save(&fuser, &info(), &[], &dir, false).unwrap();
    let bytes = fs::read(dir.join(WEIGHTS_FILE)).unwrap();
    let (n, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!((n + 8) % 8, 0, "tensors start aligned");
    let entries = metadata.metadata().clone().unwrap();
    assert_eq!((entries["format"].as_str(), entries["schema_version"].as_str()), ("c2c-fuser", "1"));
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let expected = bits(&fuser);
    assert_eq!(tensors.len(), expected.len());
    for (name, shape, bits) in expected {
        let tensor = tensors.tensor(&name).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (safetensors::Dtype::F32, shape.as_slice()), "{name}");
        let values: Vec<u32> = tensor.data().as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        assert_eq!(values, bits, "{name}");
    }
}

#[test]
fn an_existing_fuser_is_replaced_only_on_request() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("fuser");
    fs::create_dir(&dir).unwrap();
    save(&fuser(1), &info(), &[], &dir, false).expect("an empty folder may be written");
    let before = files(&dir);
    let error = save(&fuser(2), &info(), &[], &dir, false).unwrap_err();
    assert!(matches!(error, ExportError::Exists { .. }), "{error}");
    assert!(error.to_string().contains("overwrite"), "{error}");
    assert_eq!(files(&dir), before);

    save(&fuser(2), &info(), &[], &dir, true).unwrap();
    assert_eq!(bits(&load::<B>(&dir, &device()).unwrap().fuser), bits(&fuser(2)));
    assert_eq!(names(tmp.path()), ["fuser"], "nothing else stays");

    fs::write(dir.join("notes.txt"), "mine").unwrap();
    let before = files(&dir);
    let error = save(&fuser(1), &info(), &[], &dir, true).unwrap_err();
    assert!(error.to_string().contains("notes.txt"), "{error}");
    assert_eq!(files(&dir), before, "a folder with other files is never deleted");

    let file = tmp.path().join("file");
    fs::write(&file, "mine").unwrap();
    let error = save(&fuser(1), &info(), &[], &file, true).unwrap_err();
    assert!(matches!(error, ExportError::NotAnArtefact { .. }), "{error}");
    assert_eq!(names(tmp.path()), ["file", "fuser"]);
}

#[test]
fn nothing_half_written_stays() {
    let tmp = tempfile::tempdir().unwrap();
    let mut wrong = info();
    wrong.receiver.layers = 4;
    let error = save(&fuser(1), &wrong, &[], &tmp.path().join("a"), false).unwrap_err();
    assert!(error.to_string().contains("receiver.layers = 4, expected 3"), "{error}");
    let error = save(&fuser(1), &info(), &[], &tmp.path().join(".."), false).unwrap_err();
    assert!(matches!(error, ExportError::Exists { .. } | ExportError::Target { .. }), "{error}");
    assert!(names(tmp.path()).is_empty());

    // A copy that fails half way: the source's card is a folder.
    let from = tmp.path().join("from");
    save(&fuser(1), &info(), &[], &from, false).unwrap();
    fs::remove_file(from.join(CARD_FILE)).unwrap();
    fs::create_dir(from.join(CARD_FILE)).unwrap();
    copy(&from, &tmp.path().join("to"), false).unwrap_err();
    assert_eq!(names(tmp.path()), ["from"]);
}

#[test]
fn copies_are_verified() {
    let tmp = tempfile::tempdir().unwrap();
    let (from, to) = (tmp.path().join("from"), tmp.path().join("deep/to"));
    save(&fuser(3), &info(), &results(), &from, false).unwrap();
    let whole = files(&from);
    fs::write(from.join("metrics.jsonl"), "{}").unwrap();
    copy(&from, &to, false).unwrap();
    assert_eq!(files(&to), whole, "the same bytes, and no other file");
    assert!(matches!(copy(&from, &to, false).unwrap_err(), ExportError::Exists { .. }));
    copy(&from, &to, true).unwrap();
    assert_eq!(files(&to), whole);

    fs::remove_file(from.join(CARD_FILE)).unwrap();
    copy(&from, &to, true).unwrap();
    let card = String::from_utf8(fs::read(to.join(CARD_FILE)).unwrap()).unwrap();
    assert!(card.contains("## Gates") && !card.contains("## Results"), "a missing card is written\n{card}");

    let mut bytes = fs::read(from.join(WEIGHTS_FILE)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(from.join(WEIGHTS_FILE), bytes).unwrap();
    let error = copy(&from, &tmp.path().join("bad"), false).unwrap_err();
    assert!(matches!(error, ExportError::Hash { .. }), "{error}");
    assert_eq!(names(tmp.path()), ["deep", "from"]);
}

#[test]
fn the_card_tells_what_it_is() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("fuser");
    let gates = [0.25f32, -1.0, 0.0, 2.0, 2.0, -3.0];
    let source = fuser(1);
    let read = |name: &str, _: [usize; 3]| {
        let params = source.named_params();
        let (_, param): &(String, &Param<Tensor<B, 3>>) = params.iter().find(|p| p.0 == name).unwrap();
        let data: TensorData = param.val().into_data();
        Ok(if name == "gate_logit" { gates.to_vec() } else { data.iter::<f32>().collect() })
    };
    let fuser = c2c_fuser::Fuser::<B>::load(&config(), &device(), read).unwrap();
    save(&fuser, &info(), &[], &dir, false).unwrap();
    let card = || String::from_utf8(fs::read(dir.join(CARD_FILE)).unwrap()).unwrap();
    let first = card();
    // A name that can be no hub id isn't among the base models.
    let front: Vec<&str> = first.split("---\n").nth(1).unwrap().lines().collect();
    assert_eq!(
        front,
        ["library_name: c2c", "base_model:", "- \"lab/sharer\"", "tags:", "- c2c", "- cache-to-cache", "- kv-cache"]
    );
    for line in [
        "| model | lab/receiver\\|1 | lab/sharer |",
        "| layers | 3 | 2 |",
        "1 of 3 for keys, 2 of 3 for values",
        "| 0 | 0 | open (0.2500) | open (2.0000) |",
        "| 1 | 0 | shut (-1.0000) | open (2.0000) |",
        "| 2 | 1 | shut (0.0000) | shut (-3.0000) |",
        "    1  #####............... 0.27  ##################.. 0.88",
        "| pocket | unknown | all | ef |",
        "c2c eval",
        "let fuser = c2c_export::artefact::load::<B>",
        "of the Sharer [batch, 1, tokens, 4] for its first 2 layers or more",
    ] {
        assert!(first.contains(line), "{line}\n{first}");
    }
    assert!(!first.contains("## Results"));

    let before = files(&dir);
    update_card(&dir, &results(), &Asked::default()).unwrap();
    let second = card();
    assert!(!second.contains("trained on") && !second.contains("PARTIAL"), "nothing is claimed: {second}");
    assert!(second.contains("| c2c | 87.5 % | 82.5 to 92.5 % | 70 of 80 | 12.3 |"), "{second}");
    let asked = Asked {
        sources: vec!["a|b, 80 rows".into()],
        partial: vec!["evaluation.limit = 80".into()],
        ..Asked::default()
    };
    update_card(&dir, &results(), &asked).unwrap();
    assert!(
        card().contains("\n\nQuestions: a\\|b, 80 rows. Whether any of them were trained on isn't checked here.\n\n")
    );
    assert!(
        card().contains("\n**PARTIAL**: evaluation.limit = 80; these are no figures of the whole set.\n\n| method |")
    );
    assert_eq!(files(&dir)[1..], before[1..], "only the card changes");
    assert_eq!(files(&dir).len(), 3);
    update_card(&dir, &[], &Asked::default()).unwrap();
    assert_eq!(card(), first);
}

#[test]
fn a_missing_folder_is_named() {
    let error = artefact::load::<B>(std::path::Path::new("/nowhere/fuser"), &device()).unwrap_err();
    assert!(error.to_string().contains("/nowhere/fuser/fuser_config.json"), "{error}");
}
