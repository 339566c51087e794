//! What the machine can do: how fast it copies and multiplies.

use std::time::Instant;

use burn::tensor::{DType, Distribution, Tensor};
use burn::{Dispatch, DispatchDevice};
use c2c_kernels::KernelBackend;

use super::wait;

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
    let (elements, side) = if cpu { (1 << 24, 1024) } else { (1 << 28, 8192) };
    let large = Tensor::<Dispatch, 1>::random([elements], Distribution::Default, device);
    let copy = best(device, || large.clone().add_scalar(1.0))?;
    const ROW: usize = 4096;
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

/// Memory that the backend's pool holds, in GiB; `None` where it can't tell.
pub fn memory_gib(device: &DispatchDevice) -> Option<f64> {
    c2c_kernels::reserved_bytes(device).map(|bytes| bytes as f64 / f64::from(1 << 30))
}
