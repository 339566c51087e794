//! The memory pools of devices that have one.

use burn::DispatchDevice;
use cubecl::Runtime;
use cubecl::prelude::ComputeClient;

/// Bytes that the device's memory pool holds, where the backend tells.
pub fn reserved_bytes(device: &DispatchDevice) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        DispatchDevice::Cuda(device) => {
            cubecl::cuda::CudaRuntime::client(device).memory_usage().ok().map(|usage| usage.bytes_reserved)
        }
        #[cfg(feature = "wgpu")]
        DispatchDevice::Wgpu(device) => {
            cubecl::wgpu::WgpuRuntime::client(device).memory_usage().ok().map(|usage| usage.bytes_reserved)
        }
        _ => None,
    }
}

/// Bytes of the largest tensor that the device holds, where the backend tells.
pub fn largest_bytes(device: &DispatchDevice) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        DispatchDevice::Cuda(device) => {
            Some(cubecl::cuda::CudaRuntime::client(device).properties().memory.max_page_size)
        }
        #[cfg(feature = "wgpu")]
        DispatchDevice::Wgpu(device) => {
            Some(cubecl::wgpu::WgpuRuntime::client(device).properties().memory.max_page_size)
        }
        _ => None,
    }
}

/// Gives memory that the device's pool holds and nobody uses back to the device.
pub fn release_unused(device: &DispatchDevice) {
    match device {
        #[cfg(feature = "cuda")]
        DispatchDevice::Cuda(device) => cubecl::cuda::CudaRuntime::client(device).memory_cleanup(),
        #[cfg(feature = "wgpu")]
        DispatchDevice::Wgpu(device) => cubecl::wgpu::WgpuRuntime::client(device).memory_cleanup(),
        _ => {}
    }
}

/// Makes tensors that will be kept for long, as a model's weights are, apart from the pool's other memory, where they exist.
///
/// The pool looks through all that lies in it, one after the other, for each tensor that a pass makes.
pub fn long_lived<T: Send>(device: &DispatchDevice, make: impl FnOnce() -> T + Send) -> T {
    fn run<R: Runtime, T: Send>(client: &ComputeClient<R>, make: impl FnOnce() -> T + Send) -> T {
        let made = client.memory_persistent_allocation((), |()| make());
        // What was needed on the way only.
        client.memory_cleanup();
        match made {
            Ok(made) => made,
            Err(error) => panic!("the device's thread has ended: {error:?}"),
        }
    }
    match device {
        #[cfg(feature = "cuda")]
        DispatchDevice::Cuda(device) => run(&cubecl::cuda::CudaRuntime::client(device), make),
        #[cfg(feature = "wgpu")]
        DispatchDevice::Wgpu(device) => run(&cubecl::wgpu::WgpuRuntime::client(device), make),
        DispatchDevice::Autodiff(inner) => long_lived(inner, make),
        _ => make(),
    }
}
