//! What rounding the weights costs: the fused cache against that of the unrounded fuser, on seeded random caches.

use burn::tensor::{Tensor, TensorData};
use c2c_fuser::{Fuser, FuserConfig, FuserMode};
use c2c_kernels::KernelBackend;
use c2c_lm::LayerKv;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::ExportError;
use crate::artefact::FusedLoss;

/// Tokens of the random caches; fewer for a fuser that has parameters for fewer.
const TOKENS: usize = 64;
/// Seed of the random caches.
const SEED: u64 = 0;

/// Normal variates, by the polar form's older sibling (Box and Muller).
fn normal(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    let mut draw = || {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()) as f32
    };
    (0..count).map(|_| draw()).collect()
}

/// Standard normal caches of a sharer (as deep as the fuser reads) and a receiver, the same on every backend.
pub fn random_caches<B: KernelBackend>(
    config: &FuserConfig,
    batch: usize,
    tokens: usize,
    seed: u64,
    device: &B::Device,
) -> [Vec<LayerKv<B>>; 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut caches = |layers: usize, heads: usize, width: usize| {
        let shape = [batch, heads, tokens, width];
        let mut tensor = || Tensor::from_data(TensorData::new(normal(&mut rng, shape.iter().product()), shape), device);
        (0..layers).map(|_| LayerKv { key: tensor(), value: tensor() }).collect()
    };
    let sharer = caches(config.sharer_depth(), config.sharer_heads, config.sharer_head_dim);
    [sharer, caches(config.layers(), config.receiver_heads, config.receiver_head_dim)]
}

/// Compares what two fusers of one shape make of the same random caches.
///
/// # Errors
/// Fusers of other shapes, a tensor that can't be read back from the device.
pub fn fused_loss<B: KernelBackend>(
    exact: &Fuser<B>,
    rounded: &Fuser<B>,
    device: &B::Device,
) -> Result<FusedLoss, ExportError> {
    let most = exact.config().all_in_one.as_ref().map_or(TOKENS, |choices| choices.max_tokens.max(1));
    let tokens = TOKENS.min(most);
    let [sharer, receiver] = random_caches::<B>(exact.config(), 1, tokens, SEED, device);
    let expected = exact.fuse(&sharer, &receiver, FuserMode::Infer)?;
    let found = rounded.fuse(&sharer, &receiver, FuserMode::Infer)?;
    let (mut keys, mut values) = (Difference::default(), Difference::default());
    for (expected, found) in expected.iter().zip(&found) {
        keys.add(&expected.key, &found.key)?;
        values.add(&expected.value, &found.value)?;
    }
    Ok(FusedLoss {
        key_max: keys.max(),
        key_mean: keys.mean(),
        value_max: values.max(),
        value_mean: values.mean(),
        tokens,
        seed: SEED,
    })
}

#[derive(Default)]
struct Difference {
    count: usize,
    squares: f64,
    sum: f64,
    max: f64,
}

impl Difference {
    fn add<B: KernelBackend>(&mut self, expected: &Tensor<B, 4>, found: &Tensor<B, 4>) -> Result<(), ExportError> {
        let read = |x: &Tensor<B, 4>| {
            let failed = |reason: String| ExportError::Readback { name: "fused cache".to_owned(), reason };
            let data = x.clone().try_into_data().map_err(|e| failed(format!("{e:?}")))?;
            data.convert::<f32>().into_vec::<f32>().map_err(|e| failed(format!("{e:?}")))
        };
        for (expected, found) in read(expected)?.into_iter().zip(read(found)?) {
            let difference = (f64::from(expected) - f64::from(found)).abs();
            self.count += 1;
            self.squares += f64::from(expected).powi(2);
            self.sum += difference;
            // A difference that is no number stays the largest.
            if difference > self.max || difference.is_nan() {
                self.max = difference;
            }
        }
        Ok(())
    }

    fn scale(&self) -> f64 {
        (self.squares / self.count.max(1) as f64).sqrt().max(f64::MIN_POSITIVE)
    }

    fn max(&self) -> f32 {
        (self.max / self.scale()) as f32
    }

    fn mean(&self) -> f32 {
        (self.sum / self.count.max(1) as f64 / self.scale()) as f32
    }
}
