//! Attention of a prefill in one launch: scores never lie in memory.

use burn::tensor::DType;
use cubecl::cuda::CudaRuntime;
use cubecl::ir::StorageType;
use cubecl::prelude::*;
use cubecl::server::{KernelArguments, MetadataBindingInfo};
use cubecl::{CompilationError, CubeTask, Runtime};

use super::launch::{PIECE, Values, aligned, is_hopper, processors};
use super::source::{Left, compiled, instruction, source};
use super::tile::THREADS;
use crate::cube::{Mask, dense, empty, real_or_dummy, window_of};

type Compiler = <CudaRuntime as Runtime>::Compiler;

/// Queries of a warpgroup, and slots that are read at once.
const STEP: usize = 64;

/// Widths of heads that the kernel is written for.
const HEAD_DIMS: [usize; 3] = [64, 128, 256];

/// One compiled form of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Attention {
    warpgroups: usize,
    head_dim: usize,
    has_real: bool,
}

impl Attention {
    fn dim(&self) -> CubeDim {
        CubeDim::new_1d((self.warpgroups * THREADS) as u32)
    }

    /// Shared memory in bytes: the queries, two buffers each of keys and values, and room to begin at a multiple of 1,024.
    fn shared(&self) -> usize {
        2 * self.head_dim * STEP * (self.warpgroups + 4) + 1024
    }

    fn source(&self) -> String {
        let scores = instruction(STEP, Left::Shared { along_rows: false }, false);
        let defines = [
            ("WARPGROUPS", self.warpgroups.to_string()),
            ("D", self.head_dim.to_string()),
            ("HAS_REAL", u8::from(self.has_real).to_string()),
            ("SCORES(d, x, y)", scores),
            ("VALUES(d, x, y)", instruction(self.head_dim, Left::Registers, true)),
        ];
        source(&defines, include_str!("attention.cu"))
    }
}

impl KernelMetadata for Attention {
    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(*self).cube_dim(self.dim())
    }

    fn address_type(&self) -> StorageType {
        u32::as_type_native_unchecked().storage_type()
    }
}

impl CubeTask<Compiler> for Attention {
    fn compile(
        &self,
        _compiler: &mut Compiler,
        _options: &<Compiler as cubecl::Compiler>::CompilationOptions,
        _mode: ExecutionMode,
        _address_type: StorageType,
    ) -> Result<CompiledKernel<Compiler>, CompilationError> {
        Ok(compiled("attention", "c2c_kernels::hopper::Attention", self.source(), self.shared(), self.dim()))
    }
}

/// Attention of the last slots' queries over a cache, or `None` where this isn't a Hopper GPU or the tensors lie in memory as the
/// kernel doesn't read them.
///
/// # Shapes
/// `query`: `[batch, heads, tokens, head_dim]`, scaled; `key`, `value`: `[batch, kv_heads, slots or more, head_dim]`, views of a
/// cache; returns `[batch * tokens, heads * head_dim]`.
pub(crate) fn attention(query: Values, key: &Values, value: &Values, mask: &Mask<CudaRuntime>) -> Option<Values> {
    let ([batch, heads, tokens, head_dim], [rows, kv_heads, slots, width]) =
        (query.meta.shape().dims::<4>(), key.meta.shape().dims::<4>());
    let bf16 = [&query, key, value].into_iter().all(|x| x.dtype == DType::BF16);
    if !bf16 || !is_hopper(&query) || !HEAD_DIMS.contains(&head_dim) {
        return None;
    }
    let fits = rows == batch && width == head_dim && slots >= mask.slots && key.meta.shape() == value.meta.shape();
    let counted = tokens == mask.tokens && tokens <= mask.slots && kv_heads > 0 && heads.is_multiple_of(kv_heads);
    let steps = key.meta.strides();
    let laid = steps == value.meta.strides() && steps[3] == 1 && steps[2] == head_dim;
    let pieces = steps[0].is_multiple_of(PIECE) && steps[1].is_multiple_of(PIECE) && aligned(key) && aligned(value);
    let largest = i32::MAX as usize / 2;
    let small = mask.slots <= largest && heads <= 65_535 && batch <= 65_535;
    if !(fits && counted && laid && pieces && small && tokens > 0 && batch > 0) {
        return None;
    }
    let query = dense(query);
    if !aligned(&query) {
        return None;
    }
    let tiles = |warpgroups: usize| tokens.div_ceil(warpgroups * STEP);
    // Two warpgroups read keys and values half as often; one fills the device sooner. Its registers suffice for one of 256.
    let wide = head_dim < 256 && tiles(2) * heads * batch >= processors(&query);
    let kernel = Attention { warpgroups: if wide { 2 } else { 1 }, head_dim, has_real: mask.real.is_some() };
    let out = empty(&query, [batch * tokens, heads * head_dim], DType::BF16);
    let real = real_or_dummy(mask, &query);
    let sizes = [tokens, mask.slots, heads, heads / kv_heads, window_of(mask) as usize, steps[0], steps[1]];
    let data: Vec<u64> = sizes.iter().map(|&size| size as u64).collect();
    // All of it is handed over with the launch; what lies behind this offset would be copied to the device.
    let constants = data.len();
    let arguments = KernelArguments::new()
        .with_buffers([&query, key, value, &real, &out].map(|x| x.handle.clone().binding()).to_vec())
        .with_info(MetadataBindingInfo::new(data, constants));
    let count = CubeCount::Static(tiles(kernel.warpgroups) as u32, heads as u32, batch as u32);
    query.client.launch(Box::new(kernel), count, arguments);
    Some(out)
}
