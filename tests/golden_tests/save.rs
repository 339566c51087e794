//! A model that is written and read again is the same model.

use c2c_lm::{Lm, LmConfig, ModelDtype};
use c2c_tests::{B, device, folders, for_each_case};

use crate::lm::load;

#[test]
fn save_and_load_keep_weights_and_config() {
    for_each_case("lm", |dir| {
        let (model, _) = load(dir);
        let out = tempfile::tempdir().unwrap();
        model.save(out.path()).unwrap();
        let again: Lm<B> = Lm::from_dir(out.path(), ModelDtype::F32, &device()).unwrap();
        assert_eq!(again.fingerprint().unwrap(), model.fingerprint().unwrap());
        assert_eq!(again.config(), model.config());
        let left: Vec<_> = std::fs::read_dir(out.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "only config.json, generation_config.json and model.safetensors: {left:?}");
    });
}

#[test]
fn shards_load_as_one_file_does() {
    let all = folders("lm");
    let mut compared = 0;
    for dir in all.iter().filter(|d| d.join("model.safetensors.index.json").is_file()) {
        let sharded = load(dir).0.fingerprint().unwrap();
        let config = LmConfig::from_dir(dir).unwrap();
        let same = |d: &&std::path::PathBuf| {
            d.join("model.safetensors").is_file() && LmConfig::from_dir(d).is_ok_and(|c| c == config)
        };
        for whole in all.iter().filter(same) {
            assert_eq!(load(whole).0.fingerprint().unwrap(), sharded, "{} and {}", whole.display(), dir.display());
            compared += 1;
        }
    }
    assert!(compared > 0, "no sharded model has a twin in one file");
}

#[test]
fn fingerprints_tell_models_and_dtypes_apart() {
    let dir = &folders("lm")[0];
    let other = folders("lm").into_iter().find(|d| LmConfig::from_dir(d).unwrap() != LmConfig::from_dir(dir).unwrap());
    let print = |dir, dtype| Lm::<B>::from_dir(dir, dtype, &device()).unwrap().fingerprint().unwrap();
    let own = print(dir, ModelDtype::F32);
    assert_eq!(own, print(dir, ModelDtype::F32));
    assert_ne!(own, print(dir, ModelDtype::Bf16));
    assert_ne!(own, print(&other.unwrap(), ModelDtype::F32));
}
