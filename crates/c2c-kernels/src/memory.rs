//! The memory pools of devices that have one.

use burn::DispatchDevice;
use cubecl::Runtime;

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
