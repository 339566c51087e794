//! What the kernels' sources are compiled with.

use cubecl::cuda::{CudaComputeKernel, CudaRuntime};
use cubecl::ir::StorageType;
use cubecl::prelude::*;
use cubecl::{CompilationError, CubeTask, Runtime};
use cubecl_cpp::shared::{Body, Elem, Flags, Item, SharedMemory};

use super::tile::{THREADS, Tile};

type Compiler = <CudaRuntime as Runtime>::Compiler;

/// One compiled form of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Product {
    pub(super) tile: Tile,
    pub(super) a_along_m: bool,
    pub(super) b_along_n: bool,
}

impl Product {
    fn dim(&self) -> CubeDim {
        CubeDim::new_1d((self.tile.warpgroups * THREADS) as u32)
    }

    fn source(&self) -> String {
        let Tile { warpgroups, columns, stages } = self.tile;
        let left = Left::Shared { along_rows: self.a_along_m };
        let defines = [
            ("WARPGROUPS", warpgroups.to_string()),
            ("BN", columns.to_string()),
            ("STAGES", stages.to_string()),
            ("A_ALONG_M", u8::from(self.a_along_m).to_string()),
            ("B_ALONG_N", u8::from(self.b_along_n).to_string()),
            ("WGMMA(d, x, y)", instruction(columns, left, self.b_along_n)),
        ];
        source(&defines, include_str!("product.cu"))
    }
}

impl KernelMetadata for Product {
    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(*self).cube_dim(self.dim())
    }

    fn address_type(&self) -> StorageType {
        u32::as_type_native_unchecked().storage_type()
    }
}

impl CubeTask<Compiler> for Product {
    fn compile(
        &self,
        _compiler: &mut Compiler,
        _options: &<Compiler as cubecl::Compiler>::CompilationOptions,
        _mode: ExecutionMode,
        _address_type: StorageType,
    ) -> Result<CompiledKernel<Compiler>, CompilationError> {
        Ok(compiled("product", "c2c_kernels::hopper::Product", self.source(), self.tile.shared(), self.dim()))
    }
}

/// A kernel as the runtime takes it: its name in the source, the name to profile it under, its source, and how much shared memory
/// its blocks have.
pub(super) fn compiled(
    name: &str,
    debug_name: &'static str,
    source: String,
    shared: usize,
    cube_dim: CubeDim,
) -> CompiledKernel<Compiler> {
    CompiledKernel {
        entrypoint_name: name.to_owned(),
        debug_name: Some(debug_name),
        source,
        repr: Some(representation(name, shared, cube_dim)),
        cube_dim,
        debug_info: None,
    }
}

/// What the runtime wants to know of a kernel that it didn't compile: its shared memory, in bytes.
fn representation(name: &str, shared: usize, cube_dim: CubeDim) -> CudaComputeKernel {
    let item = Item::scalar(Elem::U8, true);
    let shared = SharedMemory::Array { index: 0, item, length: shared, align: 1024, offset: 0 };
    CudaComputeKernel {
        tensor_maps: Vec::new(),
        buffers: Vec::new(),
        scalars: Vec::new(),
        info: Default::default(),
        meta_static_len: 0,
        body: Body {
            instructions: Vec::new(),
            shared_memories: vec![shared],
            pipelines: Vec::new(),
            barriers: Vec::new(),
            const_arrays: Vec::new(),
            local_arrays: Vec::new(),
            info_by_ptr: false,
            has_dynamic_meta: false,
            address_type: Item::scalar(Elem::U32, true),
        },
        cube_dim,
        cluster_dim: None,
        extensions: Vec::new(),
        flags: Flags::default(),
        items: Default::default(),
        kernel_name: name.to_owned(),
    }
}

/// A kernel's source behind its definitions and what all of them share.
pub(super) fn source(defines: &[(&str, String)], kernel: &str) -> String {
    let defines: String = defines.iter().map(|(name, value)| format!("#define {name} {value}\n")).collect();
    defines + include_str!("common.cu") + kernel
}

/// Where the left factor of an instruction is.
#[derive(Clone, Copy)]
pub(super) enum Left {
    /// In shared memory, along its rows or along the inner axis.
    Shared {
        /// True for rows.
        along_rows: bool,
    },
    /// In four registers a thread.
    Registers,
}

/// `d += x @ y` as the body of a macro: 64 rows, so many columns, 16 steps of the inner axis.
pub(super) fn instruction(columns: usize, left: Left, right_along_columns: bool) -> String {
    let sums = columns / 2;
    let list = |item: &dyn Fn(usize) -> String, count: usize| (0..count).map(item).collect::<Vec<_>>().join(", ");
    let registers = list(&|i| format!("%{i}"), sums);
    let operands = list(&|i| format!("\"+f\"((d)[{i}])"), sums);
    let (x, inputs, right, along_rows) = match left {
        Left::Shared { along_rows } => {
            (format!("%{sums}"), "\"l\"(x)".to_owned(), sums + 1, format!(" {},", u8::from(along_rows)))
        }
        Left::Registers => {
            let names = list(&|i| format!("%{}", sums + i), 4);
            (format!("{{{names}}}"), list(&|i| format!("\"r\"((x)[{i}])"), 4), sums + 4, String::new())
        }
    };
    // Added to the sums (1), neither factor negated (1, 1), each as it lies.
    format!(
        "asm volatile(\"wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.bf16.bf16 {{{registers}}}, {x}, %{right}, 1, 1, 1,\
         {along_rows} {};\" : {operands} : {inputs}, \"l\"(y))",
        u8::from(right_along_columns)
    )
}
