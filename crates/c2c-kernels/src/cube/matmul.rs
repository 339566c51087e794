//! Matrix products by the strategies that were the fastest where it was measured (docs/performance.md).

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems, MatmulSetupError};
use cubek::matmul::launch::Strategy;
use cubek::std::InputBinding;

use super::launch::empty;

/// `lhs @ rhs` by one strategy.
///
/// # Shapes
/// `[.., m, k]` and `[.., k, n]`; leading axes equal or 1.
pub(crate) fn matmul_by<R: CubeRuntime>(
    strategy: &Strategy,
    lhs: CubeTensor<R>,
    rhs: CubeTensor<R>,
) -> Result<CubeTensor<R>, MatmulSetupError> {
    let (left, right) = (lhs.meta.shape().clone(), rhs.meta.shape().clone());
    let rank = left.num_dims();
    let mut shape: Vec<usize> = (0..rank - 2).map(|axis| left[axis].max(right[axis])).collect();
    shape.extend([left[rank - 2], right[rank - 1]]);
    let dtype = lhs.dtype;
    let out = empty(&lhs, shape, dtype);
    let global = MatmulGlobalElems { lhs: dtype.into(), rhs: rhs.dtype.into(), out: dtype.into() };
    let mut elements = MatmulElems::from_globals(&global);
    let client = lhs.client.clone();
    let right_dtype = rhs.dtype;
    cubek::matmul::launch::launch_ref(
        strategy,
        &client,
        InputBinding::new(lhs.binding(), dtype.into()),
        InputBinding::new(rhs.binding(), right_dtype.into()),
        out.clone().binding(),
        &mut elements,
    )?;
    Ok(out)
}

/// Rows below which the tensor memory engine has nothing to gain.
const TMA_ROWS: usize = 64;

/// What the inner axis has to divide by for double-buffered strategies. They take two stages of 32 at a time; an odd number
/// of whole stages makes them read past the end, and the sums are wrong (cubek 0.2.0, found by
/// `tests/golden_tests/products.rs`).
const DOUBLE_STAGES: usize = 64;

/// From this ratio of rows to columns on, `SpecializedTmaCmma` takes tiles of 32 rows and cuts stages of 512 of them, which is
/// more than the tensor memory engine moves at once; the launch fails (cubek 0.2.0).
const TALL: usize = 4;

/// The strategies for a product on CUDA, to be tried in this order; after the last comes Burn's own choice. Chosen from
/// `examples/matmul_strategies.rs` on an H100; docs/performance.md has the table.
pub(crate) fn strategies_for<R: CubeRuntime>(lhs: &CubeTensor<R>, rhs: &CubeTensor<R>) -> Vec<Strategy> {
    if lhs.dtype == DType::F32 {
        // Burn's choice would round the factors to tf32. The naive kernel does any shape.
        return vec![Strategy::SimpleUnit(Default::default()), Strategy::Naive];
    }
    bf16(lhs, rhs).into_iter().collect()
}

fn bf16<R: CubeRuntime>(lhs: &CubeTensor<R>, rhs: &CubeTensor<R>) -> Option<Strategy> {
    let (left, right) = (lhs.meta.shape(), rhs.meta.shape());
    let rank = left.num_dims();
    let (m, k, n) = (left[rank - 2], left[rank - 1], right[rank - 1]);
    // Sixteen bytes: what the tensor memory engine moves at least.
    if m < TMA_ROWS || k % 8 != 0 || n % 8 != 0 || lhs.dtype != rhs.dtype {
        return None;
    }
    let batches: usize = (0..rank - 2).map(|axis| left[axis].max(right[axis])).product();
    let transposed = rhs.meta.strides()[rank - 2] == 1;
    let dense = lhs.is_contiguous();
    let double = k.is_multiple_of(DOUBLE_STAGES);
    Some(match (transposed, dense) {
        (true, _) if k <= 256 && double => Strategy::DoubleCyclicCmma(Default::default()),
        (true, _) if k <= 256 => return None,
        (true, true) if batches > 1 || n >= 2048 || m >= TALL * n => Strategy::SpecializedTmaMma(Default::default()),
        (true, true) => Strategy::SpecializedTmaCmma(Default::default()),
        (false, true) if n >= 512 => Strategy::SpecializedTmaMma(Default::default()),
        (false, _) if double => Strategy::DoubleCyclicMma(Default::default()),
        (_, _) => return None,
    })
}
