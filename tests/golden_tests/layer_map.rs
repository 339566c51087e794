//! Which sharer layer each receiver layer reads.

use c2c_fuser::LayerMapping;
use c2c_tests::golden_dir;
use serde_json::Value;

fn numbers(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
}

fn cases() -> Vec<Value> {
    let path = golden_dir().join("reference/layer_mapping.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(!cases.is_empty(), "no case in {}", path.display());
    cases
}

#[test]
fn maps_are_those_of_the_reference() {
    for case in cases() {
        let size = |key: &str| case[key].as_u64().unwrap() as usize;
        let (target, source) = (size("target"), size("source"));
        for (mapping, key) in [(LayerMapping::LastAligned, "last_aligned"), (LayerMapping::KNearest, "k_nearest")] {
            assert_eq!(mapping.map(target, source), numbers(&case[key]), "{key}, {target} layers read {source}");
        }
    }
}

#[test]
fn more_sources_begin_with_the_fewer() {
    for case in cases() {
        let size = |key: &str| case[key].as_u64().unwrap() as usize;
        let (target, source) = (size("target"), size("source"));
        for mapping in [LayerMapping::LastAligned, LayerMapping::KNearest] {
            let all = mapping.sources(target, source, source + 3);
            for k in 1..=source {
                let fewer = mapping.sources(target, source, k);
                for (few, all) in fewer.iter().zip(&all) {
                    assert_eq!(few[..], all[..k], "{mapping:?} {target} {source}");
                }
            }
            for mut layers in all {
                layers.sort_unstable();
                assert_eq!(layers, (0..source).collect::<Vec<_>>(), "every sharer layer once");
            }
        }
    }
}
