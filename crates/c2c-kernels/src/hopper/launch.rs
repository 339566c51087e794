//! What the product can be given, and its launch.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cuda::CudaRuntime;
use cubecl::features::Tma;
use cubecl::prelude::*;
use cubecl::server::{KernelArguments, MetadataBindingInfo};

use super::batches::Batches;
use super::source::Product;
use super::tile::{THREADS, Tile};
use crate::cube::empty;

pub(super) type Values = CubeTensor<CudaRuntime>;

/// Elements in 16 bytes: what is copied at once.
pub(super) const PIECE: usize = 8;

/// `lhs @ rhs`, or `None` where this isn't a Hopper GPU or the factors lie in memory as the kernel doesn't read them.
///
/// # Shapes
/// `[.., m, k]` and `[.., k, n]`; leading axes equal or 1.
pub(crate) fn product(lhs: &Values, rhs: &Values) -> Option<Values> {
    let plan = Plan::new(lhs, rhs)?;
    let tile = Tile::for_product(plan.m, plan.n, plan.k, plan.batches.count(), processors(lhs));
    Some(plan.launch(tile, lhs, rhs))
}

/// As [`product`], by a given tile.
pub(crate) fn product_by(tile: Tile, lhs: &Values, rhs: &Values) -> Option<Values> {
    Some(Plan::new(lhs, rhs)?.launch(tile, lhs, rhs))
}

/// A factor's rows are read by lines of the axis along which it lies.
#[derive(Clone, Copy)]
struct Lines {
    /// True if the lines go along the rows (left factor) or columns (right factor), false if along the inner axis.
    along_rows: bool,
    /// Elements from one line to the next.
    step: usize,
}

struct Plan {
    m: usize,
    n: usize,
    k: usize,
    left: Lines,
    right: Lines,
    batches: Batches,
    shape: Vec<usize>,
}

impl Plan {
    fn new(lhs: &Values, rhs: &Values) -> Option<Self> {
        if lhs.dtype != DType::BF16 || rhs.dtype != DType::BF16 || !is_hopper(lhs) {
            return None;
        }
        let (left, right) = (lhs.meta.shape(), rhs.meta.shape());
        let rank = left.num_dims();
        // Factors that don't fit each other are left to Burn, which says so.
        if rank < 2 || right.num_dims() != rank || right[rank - 2] != left[rank - 1] {
            return None;
        }
        let (m, k, n) = (left[rank - 2], left[rank - 1], right[rank - 1]);
        let largest = i32::MAX as usize;
        if m == 0 || n == 0 || k == 0 || m > largest || k > largest || n > largest || !n.is_multiple_of(PIECE) {
            return None;
        }
        let (over, under) = (lhs.meta.strides(), rhs.meta.strides());
        let batches = Batches::new(&left[..rank - 2], &over[..rank - 2], &right[..rank - 2], &under[..rank - 2])?;
        let mut shape: Vec<usize> = (0..rank - 2).map(|axis| left[axis].max(right[axis])).collect();
        shape.extend([m, n]);
        let plan = Self {
            m,
            n,
            k,
            left: lines(over[rank - 1], over[rank - 2], k, m)?,
            right: lines(under[rank - 2], under[rank - 1], k, n)?,
            batches,
            shape,
        };
        let steps = plan.batches.steps().into_iter().chain([plan.left.step, plan.right.step]);
        (steps.into_iter().all(|step| step.is_multiple_of(PIECE)) && aligned(lhs) && aligned(rhs)).then_some(plan)
    }

    fn launch(&self, tile: Tile, lhs: &Values, rhs: &Values) -> Values {
        let out = empty(lhs, self.shape.clone(), DType::BF16);
        let kernel = Product { tile, a_along_m: self.left.along_rows, b_along_n: self.right.along_rows };
        let [outer, inner] = self.batches.left;
        let [right_outer, right_inner] = self.batches.right;
        let sizes = [
            [self.m, self.n, self.k, self.batches.inner],
            [self.left.step, outer, inner, self.right.step],
            [right_outer, right_inner, 0, 0],
        ];
        let data: Vec<u64> = sizes.as_flattened()[..10].iter().map(|&size| size as u64).collect();
        // All of it is handed over with the launch; what lies behind this offset would be copied to the device.
        let constants = data.len();
        let arguments = KernelArguments::new()
            .with_buffers([lhs, rhs, &out].map(|tensor| tensor.handle.clone().binding()).to_vec())
            .with_info(MetadataBindingInfo::new(data, constants));
        let (rows, columns) = (self.m.div_ceil(tile.rows()), self.n.div_ceil(tile.columns));
        let count = CubeCount::Static((rows * columns) as u32, self.batches.count() as u32, 1);
        lhs.client.launch(Box::new(kernel), count, arguments);
        out
    }
}

/// Lines of a factor from its steps along the inner axis and along its rows; `None` if neither is 1.
fn lines(inner: usize, rows: usize, inner_length: usize, length: usize) -> Option<Lines> {
    match (inner == 1 || inner_length == 1, rows == 1 || length == 1) {
        // A single line has no step to the next.
        (true, _) => Some(Lines { along_rows: false, step: if length == 1 { PIECE } else { rows } }),
        (false, true) => Some(Lines { along_rows: true, step: inner }),
        (false, false) => None,
    }
}

pub(super) fn aligned(tensor: &Values) -> bool {
    tensor.handle.offset_start.unwrap_or(0).is_multiple_of((PIECE * 2) as u64)
}

/// Compute capability 9.0: the tensor memory engine came with it, and the one after it brought wider reads.
pub(super) fn is_hopper(tensor: &Values) -> bool {
    let properties = tensor.client.properties();
    let tma = properties.features.tma;
    tma.contains(Tma::Base)
        && !tma.contains(Tma::Im2colWide)
        && properties.hardware.max_shared_memory_size >= Tile::most_shared()
        && properties.hardware.max_units_per_cube >= THREADS as u32 * 2
}

pub(super) fn processors(tensor: &Values) -> usize {
    // An H100's, where the driver doesn't say.
    tensor.client.properties().hardware.num_streaming_multiprocessors.unwrap_or(132) as usize
}
