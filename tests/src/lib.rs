//! Support of the golden tests: finding cases, reading fixtures, comparing numbers.
//!
//! A failure is a panic that names the case, the tensor and the place of the largest difference.

// What this crate is for is to fail loudly.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod array;
mod batch;
mod cases;
mod compare;
mod files;

pub use array::{Array, Fixture};
pub use batch::{pair_batch, token_batch};
pub use cases::{folders, for_each_case, golden_dir};
pub use compare::{assert_close, assert_close_at, assert_equal, assert_loose, bound};
pub use files::{Tensors, copy_folder};

use burn::{Dispatch, DispatchDevice};

/// The backend that all tests run on.
pub type B = Dispatch;

/// The device that `C2C_TEST_DEVICE` names: `cpu` (the default), `cuda` or `wgpu`, the latter two in builds with the
/// feature of that name.
pub fn device() -> DispatchDevice {
    match std::env::var("C2C_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => DispatchDevice::Flex(burn_flex::FlexDevice),
        #[cfg(feature = "cuda")]
        Ok("cuda") => DispatchDevice::Cuda(burn::backend::cuda::CudaDevice::new(0)),
        #[cfg(feature = "wgpu")]
        Ok("wgpu") => DispatchDevice::Wgpu(burn::backend::wgpu::WgpuDevice::DefaultDevice),
        Ok(other) => {
            panic!("C2C_TEST_DEVICE={other}: expected cpu, cuda or wgpu, the latter two in builds with that feature")
        }
    }
}

/// True if the device under test computes in bf16; WGPU doesn't.
pub fn computes_bf16() -> bool {
    #[cfg(feature = "wgpu")]
    if let DispatchDevice::Wgpu(_) = device() {
        eprintln!("WGPU computes no bf16");
        return false;
    }
    true
}

/// The same device, recording for gradients.
pub fn autodiff_device() -> DispatchDevice {
    DispatchDevice::autodiff(device())
}
