//! The ways into and out of a fuser: from the caches of a layer to its rows of the fuser's input, and from the fuser's
//! output into the receiver's cache.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{array, dense, owned};

/// Units of a cube.
const UNITS: u32 = 256;

/// Heads and their width, of a sharer (where there is one) and a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    sharer_heads: usize,
    sharer_dim: usize,
    heads: usize,
    dim: usize,
}

impl Shape {
    fn sharer_width(self) -> usize {
        self.sharer_heads * self.sharer_dim
    }

    fn width(self) -> usize {
        self.heads * self.dim
    }
}

/// The tensors of [`crate::FusedLayer`] on one runtime; keys, then values.
pub(crate) struct GatherArgs<R: CubeRuntime> {
    pub(crate) input: CubeTensor<R>,
    pub(crate) sharer: [CubeTensor<R>; 2],
    pub(crate) own: [CubeTensor<R>; 2],
    pub(crate) begin: usize,
    pub(crate) tokens: usize,
    pub(crate) branches: [Option<usize>; 2],
}

/// The tensors of [`crate::FusedResult`] and the caches, on one runtime; keys, then values.
pub(crate) struct ScatterArgs<R: CubeRuntime> {
    pub(crate) own: [CubeTensor<R>; 2],
    pub(crate) projected: CubeTensor<R>,
    pub(crate) weight: CubeTensor<R>,
    pub(crate) gate: CubeTensor<R>,
    pub(crate) begin: usize,
    pub(crate) tokens: usize,
    pub(crate) branches: [Option<usize>; 2],
}

/// Which branches a launch is about: the layer's keys first, then its values.
fn open_branches(branches: [Option<usize>; 2]) -> Vec<(usize, usize)> {
    branches.into_iter().enumerate().filter_map(|(kind, branch)| branch.map(|branch| (kind, branch))).collect()
}

/// One unit an element of a branch, keys before values. Which of the sharer's and receiver's elements it is follows from its
/// column.
#[cube(launch)]
fn gather_kernel<S: Float, F: Float, G: Float>(
    sharer_first: &Array<S>,
    sharer_second: &Array<S>,
    own_first: &Array<F>,
    own_second: &Array<F>,
    input: &mut Array<G>,
    tokens: u32,
    sharer_capacity: u32,
    capacity: u32,
    begin: u32,
    first: u32,
    second: u32,
    rows: u32,
    #[comptime] both: bool,
    #[comptime] shape: Shape,
    #[define(S)] _sharer_dtype: StorageType,
    #[define(F)] _own_dtype: StorageType,
    #[define(G)] _work_dtype: StorageType,
) {
    let (sharer_width, width) = (comptime!(shape.sharer_width()), comptime!(shape.width()));
    let joined = sharer_width + width;
    let elements = rows as usize * joined;
    let (which, place) = (ABSOLUTE_POS / elements, ABSOLUTE_POS % elements);
    if which >= comptime!(if both { 2 } else { 1 }) {
        terminate!();
    }
    let (row, column) = (place / joined, place % joined);
    let (batch, token) = (row / tokens as usize, row % tokens as usize);
    let slot = begin as usize + token;
    let branch = if which == 0 { first } else { second };
    let at = branch as usize * elements + place;
    if column < sharer_width {
        let (head, element) = (column / comptime!(shape.sharer_dim), column % comptime!(shape.sharer_dim));
        let line = (batch * comptime!(shape.sharer_heads) + head) * sharer_capacity as usize + slot;
        let from = line * comptime!(shape.sharer_dim) + element;
        input[at] = G::cast_from(if which == 0 { sharer_first[from] } else { sharer_second[from] });
    } else {
        let column = column - sharer_width;
        let (head, element) = (column / comptime!(shape.dim), column % comptime!(shape.dim));
        let line = (batch * comptime!(shape.heads) + head) * capacity as usize + slot;
        let from = line * comptime!(shape.dim) + element;
        input[at] = G::cast_from(if which == 0 { own_first[from] } else { own_second[from] });
    }
}

pub(crate) fn gather_layer<R: CubeRuntime>(args: GatherArgs<R>) {
    let input = args.input;
    assert!(input.is_contiguous(), "a fuser's input has strides {:?}", input.meta.strides());
    let rows = input.meta.shape()[1];
    let branches = open_branches(args.branches);
    let (Some(&(one, first)), Some(&(other, second))) = (branches.first(), branches.last()) else { return };
    let (sharer, own) = (args.sharer.map(dense), args.own.map(dense));
    let (s, o) = (sharer[0].meta.shape().clone(), own[0].meta.shape().clone());
    let shape = Shape { sharer_heads: s[1], sharer_dim: s[3], heads: o[1], dim: o[3] };
    let dim = CubeDim::new_1d(UNITS);
    let count = branches.len() * rows * (shape.sharer_width() + shape.width());
    gather_kernel::launch::<R>(
        &input.client,
        cubecl::calculate_cube_count_elemwise(&input.client, count, dim),
        dim,
        array(&sharer[one]),
        array(&sharer[other]),
        array(&own[one]),
        array(&own[other]),
        array(&input),
        args.tokens as u32,
        s[2] as u32,
        o[2] as u32,
        args.begin as u32,
        first as u32,
        second as u32,
        rows as u32,
        branches.len() == 2,
        shape,
        sharer[0].dtype.into(),
        own[0].dtype.into(),
        input.dtype.into(),
    );
}

/// One unit an element of a branch, keys before values.
#[cube(launch)]
fn scatter_kernel<F: Float, G: Float>(
    projected: &Array<G>,
    weight: &Array<G>,
    gate: &Array<f32>,
    own_first: &mut Array<F>,
    own_second: &mut Array<F>,
    tokens: u32,
    capacity: u32,
    begin: u32,
    first: u32,
    second: u32,
    rows: u32,
    #[comptime] both: bool,
    #[comptime] shape: Shape,
    #[define(F)] _own_dtype: StorageType,
    #[define(G)] _work_dtype: StorageType,
) {
    let width = comptime!(shape.width());
    let rows = rows as usize;
    let (which, place) = (ABSOLUTE_POS / (rows * width), ABSOLUTE_POS % (rows * width));
    if which >= comptime!(if both { 2 } else { 1 }) {
        terminate!();
    }
    let branch = if which == 0 { first as usize } else { second as usize };
    if gate[branch] <= 0.0_f32 {
        terminate!();
    }
    let (row, column) = (place / width, place % width);
    let (head, element) = (column / comptime!(shape.dim), column % comptime!(shape.dim));
    let (batch, token) = (row / tokens as usize, row % tokens as usize);
    let line = (batch * comptime!(shape.heads) + head) * capacity as usize + begin as usize + token;
    let at = line * comptime!(shape.dim) + element;
    let logit = f32::cast_from(weight[(branch * rows + row) * comptime!(shape.heads) + head]);
    let scaled = f32::cast_from(projected[branch * rows * width + place]) / (1.0_f32 + f32::exp(-logit));
    if which == 0 {
        own_first[at] = F::cast_from(f32::cast_from(own_first[at]) + scaled);
    } else {
        own_second[at] = F::cast_from(f32::cast_from(own_second[at]) + scaled);
    }
}

pub(crate) fn scatter_layer<R: CubeRuntime>(args: ScatterArgs<R>) -> [CubeTensor<R>; 2] {
    let branches = open_branches(args.branches);
    let (Some(&(one, first)), Some(&(other, second))) = (branches.first(), branches.last()) else { return args.own };
    let (projected, weight, gate) = (dense(args.projected), dense(args.weight), dense(args.gate));
    let rows = projected.meta.shape()[1];
    // What others hold too must stay as it is.
    let own = args.own.map(owned);
    let o = own[0].meta.shape().clone();
    let shape = Shape { sharer_heads: 0, sharer_dim: 0, heads: o[1], dim: o[3] };
    let dim = CubeDim::new_1d(UNITS);
    let count = branches.len() * rows * shape.width();
    scatter_kernel::launch::<R>(
        &projected.client,
        cubecl::calculate_cube_count_elemwise(&projected.client, count, dim),
        dim,
        array(&projected),
        array(&weight),
        array(&gate),
        array(&own[one]),
        array(&own[other]),
        args.tokens as u32,
        o[2] as u32,
        args.begin as u32,
        first as u32,
        second as u32,
        rows as u32,
        branches.len() == 2,
        shape,
        own[0].dtype.into(),
        projected.dtype.into(),
    );
    own
}
