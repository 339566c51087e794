//! The hand-written way back through a frozen model against autodiff's, on devices that have it.

use burn::module::Module;
use burn::tensor::{Distribution, Tensor};
use c2c_kernels::KernelBackend;
use c2c_lm::{KvCache, LayerKv, Lm, TokenBatch};
use c2c_tests::{Array, B, assert_close, autodiff_device, bound, device, for_each_case};

use crate::lm::load;

/// Rows of different lengths, so that some slots of the context and of the answer are padding.
fn tokens(rows: usize, from: usize, count: usize, padding: &[usize], vocab: usize) -> TokenBatch {
    let ids = |row: usize| (0..count).map(|i| ((7 * row + 13 * (from + i) + 5) % vocab) as u32).collect();
    let mask = |row: usize| (0..count).map(|i| i >= padding[row % padding.len()]).collect();
    let positions = |row: usize| {
        let pad = padding[row % padding.len()];
        (0..count).map(|i| from + i.saturating_sub(pad)).collect()
    };
    TokenBatch::with_mask(
        (0..rows).map(ids).collect(),
        (0..rows).map(mask).collect(),
        (0..rows).map(positions).collect(),
    )
    .unwrap()
}

fn context(model: &Lm<B>, rows: usize, count: usize) -> KvCache<B> {
    let mut cache = model.new_cache(rows);
    let batch = tokens(rows, 0, count, &[0, 2], model.config().vocab_size);
    model.fill_cache(&batch, &mut cache, model.config().num_layers).unwrap();
    cache
}

#[test]
fn the_way_back_to_the_cache_is_that_of_autodiff() {
    for_each_case("lm", |dir| {
        let (model, _) = load(dir);
        let kernels = B::has_kernels(&device()) && model.config().head_dim.is_power_of_two();
        assert_eq!(model.traces(), kernels, "the kernels hold heads that are a power of two wide");
        if !model.traces() {
            return;
        }
        let tracked = Lm::<B>::from_dir(dir, c2c_lm::ModelDtype::F32, &autodiff_device()).unwrap().no_grad();
        for (rows, count, answer) in [(1, 5, 1), (2, 9, 4), (3, 70, 17)] {
            let slots = 1..count - 1;
            let answer = tokens(rows, count, answer, &[0, 0, 1], model.config().vocab_size);
            let pull = Tensor::<B, 3>::random(
                [rows, answer.tokens(), model.config().hidden_size],
                Distribution::Normal(0.0, 1.0),
                &device(),
            );

            let mut cache = context(&model, rows, count);
            let (hidden, trace) = model.hidden_traced(&answer, &mut cache).unwrap();
            let plain = model.hidden(&answer, &mut context(&model, rows, count)).unwrap();
            let plain = Array::of(&plain);
            assert_close("hidden states", &Array::of(&hidden), &plain, bound(&plain));
            let found = model.cache_gradient(trace, &cache, pull.clone(), slots.clone());

            let start: Vec<LayerKv<B>> = (0..model.config().num_layers)
                .map(|layer| {
                    let LayerKv { key, value } = context(&model, rows, count).layer(layer).unwrap();
                    let leaf = |x| Tensor::from_inner(x).require_grad();
                    LayerKv { key: leaf(key), value: leaf(value) }
                })
                .collect();
            let mask = context(&model, rows, count).mask().to_vec();
            let mut leaves = KvCache::from_layers(start.clone(), mask).unwrap();
            let hidden = tracked.hidden(&answer, &mut leaves).unwrap();
            let grads = (hidden * Tensor::from_inner(pull)).sum().backward();
            for (layer, (found, leaf)) in found.iter().zip(&start).enumerate() {
                for (kind, found, leaf) in [("k", &found.key, &leaf.key), ("v", &found.value, &leaf.value)] {
                    let whole = leaf.grad(&grads).unwrap();
                    let expected = Array::of(&whole.narrow(2, slots.start, slots.len()));
                    assert!(expected.values.iter().any(|v| *v != 0.0), "{kind}.{layer}: a gradient of zeros");
                    let name = format!("{}: {kind}.{layer}, {rows} rows", dir.display());
                    assert_close(&name, &Array::of(found), &expected, bound(&expected));
                }
            }
        }
    });
}
