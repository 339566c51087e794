//! Products on the device under test against sums made on the host, over the shapes that decide between strategies.

use burn::Dispatch;
use burn::tensor::{DType, Tensor, TensorData};
use c2c_kernels::KernelBackend;
use c2c_tests::{computes_bf16, device};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

const ROWS: &[usize] = &[1, 63, 64, 65, 200];
/// Rows of 512 bf16 values are the ones that CUDA stores without padding, which decides on the tensor memory engine.
const INNER: &[usize] = &[8, 32, 48, 64, 96, 128, 160, 264, 288, 448, 512];
const COLUMNS: &[usize] = &[8, 48, 128, 520, 2056];
const BATCHES: &[usize] = &[1, 3];

/// `[batch, m, k] @ [batch, k, n]`, stored as `[batch, k, m]` and `[batch, n, k]` where transposed.
#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    m: usize,
    k: usize,
    n: usize,
    transposed: [bool; 2],
}

/// Values that the dtype holds exactly, so that only sums are rounded: of 6 bits for bf16, of 13 for f32, which are more than
/// tf32 would keep.
fn values(rng: &mut ChaCha8Rng, dtype: DType, count: usize) -> Vec<f32> {
    let largest = if dtype == DType::BF16 { 1 << 5 } else { 1 << 12 };
    (0..count).map(|_| rng.random_range(-largest..=largest) as f32 / largest as f32).collect()
}

/// The largest distance from the host's sums, relative to the largest sum.
fn distance(case: Case, dtype: DType, rng: &mut ChaCha8Rng) -> f32 {
    let Case { batch, m, k, n, transposed } = case;
    let (a, b) = (values(rng, dtype, batch * m * k), values(rng, dtype, batch * k * n));
    let tensor = |values: &[f32], shape: [usize; 3]| {
        Tensor::<Dispatch, 3>::from_data(TensorData::new(values.to_vec(), shape), &device()).cast(dtype)
    };
    let stored = |values: &[f32], rows: usize, columns: usize, transposed: bool| {
        if transposed {
            tensor(values, [batch, columns, rows]).swap_dims(1, 2)
        } else {
            tensor(values, [batch, rows, columns])
        }
    };
    let (left, right) = (stored(&a, m, k, transposed[0]), stored(&b, k, n, transposed[1]));
    let found = Dispatch::product(left, right).cast(DType::F32).into_data().to_vec::<f32>().unwrap();
    let (mut off, mut largest) = (0.0_f32, 0.0_f32);
    // Every row and column is met; a stride that shares no factor with them leaves few out.
    for at in (0..batch * m * n).step_by(if batch * m * n > 20_000 { 37 } else { 1 }) {
        let (of, row, column) = (at / (m * n), at / n % m, at % n);
        let term = |i: usize| {
            let left = if transposed[0] { a[(of * k + i) * m + row] } else { a[(of * m + row) * k + i] };
            let right = if transposed[1] { b[(of * n + column) * k + i] } else { b[(of * k + i) * n + column] };
            f64::from(left) * f64::from(right)
        };
        let expected = (0..k).map(term).sum::<f64>() as f32;
        let difference = (found[at] - expected).abs();
        off = off.max(if difference.is_nan() { f32::INFINITY } else { difference });
        largest = largest.max(expected.abs());
    }
    off / largest.max(1.0)
}

fn check(dtype: DType, allowed: f32) {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut wrong = Vec::new();
    let mut cases = 0;
    for (&m, &k) in ROWS.iter().flat_map(|m| INNER.iter().map(move |k| (m, k))) {
        for (&n, &batch) in COLUMNS.iter().flat_map(|n| BATCHES.iter().map(move |b| (n, b))) {
            for transposed in [[false, false], [false, true], [true, false], [true, true]] {
                let case = Case { batch, m, k, n, transposed };
                let distance = distance(case, dtype, &mut rng);
                cases += 1;
                if distance > allowed {
                    wrong.push(format!("{case:?}: {distance:.1e}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {cases} products are off:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn f32_products_are_those_of_the_host() {
    check(DType::F32, 1e-5);
}

#[test]
fn bf16_products_are_those_of_the_host() {
    if !computes_bf16() {
        return;
    }
    // Half a unit in the last place of the result.
    check(DType::BF16, 1.0 / 256.0);
}

/// One factor for several batches, and axes that don't follow each other in memory: heads between tokens.
#[test]
fn products_are_broadcast_and_strided_as_burn_does_it() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let dtype = if computes_bf16() { DType::BF16 } else { DType::F32 };
    let mut of = |shape: [usize; 4]| {
        let data = TensorData::new(values(&mut rng, dtype, shape.iter().product()), shape);
        Tensor::<Dispatch, 4>::from_data(data, &device()).cast(dtype)
    };
    let cases = [
        ("one right factor", of([2, 3, 65, 64]), of([1, 1, 64, 136])),
        ("one right factor a row", of([2, 3, 65, 64]), of([2, 1, 64, 136])),
        ("one left factor", of([1, 3, 130, 72]), of([2, 3, 72, 64])),
        (
            "heads between tokens",
            of([2, 70, 3, 64]).swap_dims(1, 2),
            of([2, 80, 3, 64]).swap_dims(1, 2).swap_dims(2, 3),
        ),
        ("values of heads", of([2, 3, 70, 80]), of([2, 80, 3, 64]).swap_dims(1, 2)),
    ];
    for (name, left, right) in cases {
        let exact = |x: &Tensor<Dispatch, 4>| x.clone().cast(DType::F32).into_data().to_vec::<f32>().unwrap();
        let (l, r) = (left.dims(), right.dims());
        let (a, b) = (exact(&left), exact(&right));
        let found = Dispatch::product(left, right);
        let [_, heads, m, n] = found.dims();
        let found = exact(&found);
        for (at, found) in found.iter().enumerate() {
            let (row, head, x, y) = (at / (heads * m * n), at / (m * n) % heads, at / n % m, at % n);
            let of = |shape: [usize; 4]| (row % shape[0]) * shape[1] + head % shape[1];
            let term = |i: usize| f64::from(a[(of(l) * m + x) * l[3] + i]) * f64::from(b[(of(r) * r[2] + i) * n + y]);
            let expected = (0..l[3]).map(term).sum::<f64>() as f32;
            // Half a unit in the last place of bf16.
            assert!((found - expected).abs() <= expected.abs() / 256.0 + 1e-5, "{name}, {at}: {found} {expected}");
        }
    }
}
