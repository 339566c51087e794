//! What the kernel's source is compiled with.

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
        let (a, b) = (u8::from(self.a_along_m), u8::from(self.b_along_n));
        let sums = columns / 2;
        let list = |item: &dyn Fn(usize) -> String| (0..sums).map(item).collect::<Vec<_>>().join(", ");
        let registers = list(&|i| format!("%{i}"));
        let operands = list(&|i| format!("\"+f\"((d)[{i}])"));
        // Added to the sums (1), neither factor negated (1, 1), each as it lies.
        let instruction = format!(
            "asm volatile(\"wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.bf16.bf16 {{{registers}}}, %{sums}, %{next}, \
             1, 1, 1, {a}, {b};\" : {operands} : \"l\"(x), \"l\"(y))",
            next = sums + 1,
        );
        let defines = [
            ("WARPGROUPS", warpgroups.to_string()),
            ("BN", columns.to_string()),
            ("STAGES", stages.to_string()),
            ("A_ALONG_M", a.to_string()),
            ("B_ALONG_N", b.to_string()),
            ("WGMMA(d, x, y)", instruction),
        ];
        let defines: String = defines.iter().map(|(name, value)| format!("#define {name} {value}\n")).collect();
        defines + include_str!("product.cu")
    }

    /// What the runtime wants to know of a kernel that it didn't compile: its shared memory.
    fn representation(&self) -> CudaComputeKernel {
        let item = Item::scalar(Elem::U8, true);
        let shared = SharedMemory::Array { index: 0, item, length: self.tile.shared(), align: 1024, offset: 0 };
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
            cube_dim: self.dim(),
            cluster_dim: None,
            extensions: Vec::new(),
            flags: Flags::default(),
            items: Default::default(),
            kernel_name: "product".into(),
        }
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
        Ok(CompiledKernel {
            entrypoint_name: "product".into(),
            debug_name: Some("c2c_kernels::hopper::Product"),
            source: self.source(),
            repr: Some(self.representation()),
            cube_dim: self.dim(),
            debug_info: None,
        })
    }
}
