//! What the machine can do: how fast it copies and multiplies.

use std::time::Instant;

use burn::tensor::{DType, Distribution, Tensor};
use burn::{Dispatch, DispatchDevice};
use c2c_kernels::KernelBackend;

use super::wait;
use crate::machine;

/// Measured rates of one device.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Limits {
    /// Bytes moved a second: those read and written by a large copy, or read by a product of one row with a large matrix,
    /// whichever is faster.
    pub bytes_per_second: f64,
    /// Floating-point operations a second, of a large square product in the models' dtype.
    pub flops_per_second: f64,
}

/// Measures a large copy, a product of one row with a large matrix, and a large square product.
pub fn measure(device: &DispatchDevice, dtype: DType) -> anyhow::Result<Limits> {
    let cpu = matches!(device, DispatchDevice::Flex(_));
    let Sizes { elements, side } = if cpu { CPU } else { Sizes::within(c2c_kernels::largest_bytes(device)) };
    let large = Tensor::<Dispatch, 1>::random([elements], Distribution::Default, device);
    let copy = best(device, || large.clone().add_scalar(1.0))?;
    let row = Tensor::<Dispatch, 2>::ones([1, ROW], device);
    let wide = large.reshape([elements / ROW, ROW]);
    let read = best(device, || Dispatch::product(row.clone(), wide.clone().transpose()))?;
    drop(wide);
    let matrix = || Tensor::<Dispatch, 2>::random([side, side], Distribution::Normal(0.0, 1.0), device).cast(dtype);
    let (a, b) = (matrix(), matrix());
    let product = best(device, || Dispatch::product(a.clone(), b.clone()))?;
    Ok(Limits {
        bytes_per_second: 4.0 * elements as f64 * (2.0 / copy).max(1.0 / read),
        flops_per_second: 2.0 * (side as f64).powi(3) / product,
    })
}

/// What is copied and multiplied, in elements of f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    /// Of the copied tensor; a multiple of [`ROW`].
    elements: usize,
    /// Of the square matrices.
    side: usize,
}

/// Columns of the matrix that one row is multiplied with.
const ROW: usize = 4096;
/// Enough to leave the processor's caches.
const CPU: Sizes = Sizes { elements: 1 << 24, side: 1024 };
/// On a GPU: a copy of 1 GiB, matrices of 256 MiB.
const GPU: Sizes = Sizes { elements: 1 << 28, side: 8192 };
/// The least that says anything.
const LEAST: Sizes = Sizes { elements: 1 << 20, side: 512 };

impl Sizes {
    /// Those of a GPU, halved until a tensor is half of the largest that the device holds: many adapters of WGPU bind less
    /// than a GiB at once.
    fn within(largest: Option<u64>) -> Self {
        let Some(largest) = largest else { return GPU };
        let mut sizes = GPU;
        while sizes.elements > LEAST.elements && 4 * sizes.elements as u64 > largest / 2 {
            sizes.elements /= 2;
        }
        while sizes.side > LEAST.side && 4 * sizes.side * sizes.side > sizes.elements {
            sizes.side /= 2;
        }
        sizes
    }
}

/// The fastest of a few runs, in seconds.
fn best<T>(device: &DispatchDevice, work: impl Fn() -> T) -> anyhow::Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        wait(device)?;
        let start = Instant::now();
        let result = work();
        wait(device)?;
        best = best.min(start.elapsed().as_secs_f64());
        drop(result);
    }
    Ok(best)
}

/// Memory that the backend's pool holds, on the CPU the most that the process has held so far, in GiB; `None` where nobody
/// tells.
pub fn memory_gib(device: &DispatchDevice) -> Option<f64> {
    let bytes = match device {
        DispatchDevice::Flex(_) => machine::most_memory(),
        _ => c2c_kernels::reserved_bytes(device),
    };
    bytes.map(|bytes| bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_as_large_as_the_device_holds_them() {
        const MIB: u64 = 1 << 20;
        for (largest, elements, side) in [
            (None, 1 << 28, 8192),
            (Some(20 << 30), 1 << 28, 8192),
            (Some(2 << 30), 1 << 28, 8192),
            // What WGPU promises as the least, less four bytes as some drivers have it, and next to nothing.
            (Some((2 << 30) - 4), 1 << 27, 4096),
            (Some(128 * MIB), 1 << 24, 2048),
            (Some(MIB), 1 << 20, 512),
        ] {
            let sizes = Sizes::within(largest);
            assert_eq!(sizes, Sizes { elements, side }, "{largest:?}");
            assert_eq!(sizes.elements % ROW, 0);
        }
    }
}
