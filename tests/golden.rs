//! Golden tests: this project against the numbers of the reference implementation (thu-nics/C2C), and against itself.
//!
//! Cases are found by listing the fixture folders, so that another set of the same layout, with other seeds and shapes,
//! runs unchanged: `C2C_GOLDEN=/path/to/set cargo test --release -p c2c-tests --test golden`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "golden_tests/all_in_one.rs"]
mod all_in_one;
#[path = "golden_tests/attention.rs"]
mod attention;
#[path = "golden_tests/bad_config.rs"]
mod bad_config;
#[path = "golden_tests/bad_input.rs"]
mod bad_input;
#[path = "golden_tests/bad_weights.rs"]
mod bad_weights;
#[path = "golden_tests/c2c.rs"]
mod c2c;
#[path = "golden_tests/c2c_case.rs"]
mod c2c_case;
#[path = "golden_tests/cache_parts.rs"]
mod cache_parts;
#[path = "golden_tests/composed.rs"]
mod composed;
#[path = "golden_tests/cross_entropy.rs"]
mod cross_entropy;
#[path = "golden_tests/device_sampling.rs"]
mod device_sampling;
#[path = "golden_tests/dropout.rs"]
mod dropout;
#[path = "golden_tests/gates.rs"]
mod gates;
#[path = "golden_tests/gradients.rs"]
mod gradients;
#[path = "golden_tests/head_weights.rs"]
mod head_weights;
#[path = "golden_tests/heads.rs"]
mod heads;
#[path = "golden_tests/layer_map.rs"]
mod layer_map;
#[path = "golden_tests/lm.rs"]
mod lm;
#[path = "golden_tests/lm_batching.rs"]
mod lm_batching;
#[path = "golden_tests/optimizer.rs"]
mod optimizer;
#[path = "golden_tests/parameters.rs"]
mod parameters;
#[path = "golden_tests/pocket_batches.rs"]
mod pocket_batches;
#[path = "golden_tests/products.rs"]
mod products;
#[path = "golden_tests/sampling.rs"]
mod sampling;
#[path = "golden_tests/sampling_replies.rs"]
mod sampling_replies;
#[path = "golden_tests/save.rs"]
mod save;
#[path = "golden_tests/several.rs"]
mod several;
#[path = "golden_tests/traced.rs"]
mod traced;
#[path = "golden_tests/train.rs"]
mod train;
