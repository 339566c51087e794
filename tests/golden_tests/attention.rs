//! Attention of a prefill against sums made on the host in f64, on devices with kernels.

use burn::Dispatch;
use burn::tensor::{DType, Int, Tensor, TensorData};
use c2c_kernels::{KernelBackend, SoftmaxMask};
use c2c_tests::{computes_bf16, device};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    past: usize,
    tokens: usize,
    /// Slots of the cache behind those in use; a view leaves the last of them out.
    spare: usize,
    window: Option<usize>,
    /// True if every row has slots that nobody may attend to; in the first one these are the first `past + 1`.
    padded: bool,
}

impl Case {
    fn slots(&self) -> usize {
        self.past + self.tokens
    }

    fn real(&self, row: usize, slot: usize) -> bool {
        !self.padded || if row == 0 { slot > self.past } else { !(slot + row).is_multiple_of(3) }
    }

    fn sees(&self, row: usize, query: usize, slot: usize) -> bool {
        slot <= query && self.window.is_none_or(|window| query - slot < window) && self.real(row, slot)
    }

    /// `[batch * tokens, heads * head_dim]`; a query that sees nothing makes zeros.
    fn expected(&self, [query, key, value]: [&[f32]; 3], capacity: usize) -> Vec<f64> {
        let Self { batch, heads, kv_heads, head_dim: width, tokens, .. } = *self;
        let mut out = vec![0.0; batch * tokens * heads * width];
        for (row, head, token) in
            (0..batch).flat_map(|b| (0..heads).flat_map(move |h| (0..tokens).map(move |t| (b, h, t))))
        {
            let query = &query[((row * heads + head) * tokens + token) * width..][..width];
            let cache = (row * kv_heads + head / (heads / kv_heads)) * capacity;
            let seen: Vec<usize> = (0..self.slots()).filter(|s| self.sees(row, self.past + token, *s)).collect();
            let score = |slot: &usize| -> f64 {
                let key = &key[(cache + slot) * width..][..width];
                query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum()
            };
            let scores: Vec<f64> = seen.iter().map(score).collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
            let out = &mut out[((row * tokens + token) * heads + head) * width..][..width];
            for (slot, score) in seen.iter().zip(&scores) {
                let value = &value[(cache + slot) * width..][..width];
                out.iter_mut().zip(value).for_each(|(o, v)| *o += (score - top).exp() / sum * f64::from(*v));
            }
        }
        out
    }

    fn check(&self, dtype: DType, allowed: f64) {
        let Self { batch, heads, kv_heads, head_dim, tokens, spare, .. } = *self;
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let capacity = self.slots() + spare;
        // Eighths: exact in bf16. No score is large, as products round scores to bf16, too.
        let mut values = |count: usize, most: i32| -> Vec<f32> {
            (0..count).map(|_| rng.random_range(-most..=most) as f32 / 8.0).collect()
        };
        let query = values(batch * heads * tokens * head_dim, 1);
        let cache = [(); 2].map(|()| values(batch * kv_heads * capacity * head_dim, 8));
        let tensor = |values: &[f32], shape: [usize; 4]| {
            Tensor::<Dispatch, 4>::from_data(TensorData::new(values.to_vec(), shape), &device()).cast(dtype)
        };
        let real: Vec<i32> =
            (0..batch).flat_map(|row| (0..self.slots()).map(move |s| i32::from(self.real(row, s)))).collect();
        let real = Tensor::<Dispatch, 2, Int>::from_data(TensorData::new(real, [batch, self.slots()]), &device());
        let mask = SoftmaxMask { real: self.padded.then_some(&real), tokens, slots: self.slots(), window: self.window };
        let [key, value] = [&cache[0], &cache[1]].map(|values| {
            let whole = tensor(values, [batch, kv_heads, capacity, head_dim]);
            Dispatch::first_slots(&whole, capacity - spare / 2)
        });
        let query_tensor = tensor(&query, [batch, heads, tokens, head_dim]);
        let found = Dispatch::prefill_attention(query_tensor, key, value, mask);
        assert_eq!(found.dims(), [batch * tokens, heads * head_dim], "{self:?}");
        let found = found.cast(DType::F32).into_data().to_vec::<f32>().unwrap();
        let expected = self.expected([&query, &cache[0], &cache[1]], capacity);
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let off = (f64::from(*found) - expected).abs();
            assert!(off <= allowed, "{self:?}, {dtype:?}, at {at}: {found}, not {expected}");
        }
    }
}

#[test]
fn a_prefill_attends_as_on_the_host() {
    if !Dispatch::has_kernels(&device()) {
        // The CPU composes it otherwise, which the models' fixtures check.
        return;
    }
    let plain = Case {
        batch: 1,
        heads: 2,
        kv_heads: 1,
        head_dim: 64,
        past: 0,
        tokens: 2,
        spare: 0,
        window: None,
        padded: false,
    };
    let mut cases = vec![Case { head_dim: 16, tokens: 9, spare: 7, ..plain }];
    for head_dim in [64, 128, 256] {
        let sized = Case { head_dim, ..plain };
        cases.extend([
            sized,
            Case { tokens: 64, ..sized },
            Case { tokens: 65, past: 1, batch: 2, ..sized },
            Case { tokens: 130, past: 63, spare: 20, heads: 3, ..sized },
            Case { tokens: 70, past: 130, padded: true, batch: 3, heads: 4, kv_heads: 2, spare: 2, ..sized },
            Case { tokens: 200, window: Some(33), batch: 2, ..sized },
            Case { tokens: 100, past: 100, window: Some(64), padded: true, batch: 2, ..sized },
            Case { tokens: 1, past: 70, spare: 9, ..sized },
        ]);
    }
    // Blocks enough for two warpgroups each.
    cases.extend([64, 128].map(|head_dim| Case { head_dim, tokens: 300, heads: 14, kv_heads: 2, batch: 4, ..plain }));
    // Windows that no prompt fills; with a slot added some leave 32 bits, signed or not.
    for window in [110, (1 << 31) - 1, 1 << 31, u32::MAX as usize, 1 << 32, usize::MAX] {
        let window = Some(window);
        cases.extend([16, 64].map(|head_dim| Case {
            head_dim,
            tokens: 70,
            past: 40,
            padded: true,
            batch: 2,
            window,
            ..plain
        }));
    }
    cases.push(Case { head_dim: 128, tokens: 150, past: 40, heads: 16, kv_heads: 8, batch: 5, padded: true, ..plain });
    for case in cases {
        case.check(DType::F32, 2e-5);
        if computes_bf16() {
            // Weights and results are rounded to bf16; values are at most 1.
            case.check(DType::BF16, 1.0 / 128.0);
        }
    }
}
