//! `--device`: which backend runs, chosen at run time.

use std::str::FromStr;

use burn::tensor::Tensor;
use burn::{Dispatch, DispatchDevice};

/// A device as typed: `cpu`, `cuda`, `cuda:1`, `wgpu`, `wgpu:0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceArg {
    /// The processor, through Burn's Flex backend.
    Cpu,
    /// An NVIDIA GPU.
    Cuda(usize),
    /// Any GPU that wgpu finds.
    Wgpu(usize),
}

impl FromStr for DeviceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, index) = match text.split_once(':') {
            None => (text, 0),
            Some((name, index)) => {
                let index =
                    index.parse().map_err(|_| format!("device `{text}`: `{index}` is not the number of a device"))?;
                (name, index)
            }
        };
        match name {
            "cpu" if index == 0 => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(index)),
            "wgpu" => Ok(Self::Wgpu(index)),
            _ => Err(format!("unknown device `{text}`: expected cpu, cuda[:n] or wgpu[:n]")),
        }
    }
}

impl std::fmt::Display for DeviceArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
            Self::Wgpu(n) => write!(f, "wgpu:{n}"),
        }
    }
}

/// One or more devices as typed: `cuda:0,cuda:1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceList(Vec<DeviceArg>);

impl FromStr for DeviceList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let devices = text.split(',').map(str::parse).collect::<Result<Vec<DeviceArg>, _>>()?;
        let twice = devices.iter().enumerate().find(|(i, d)| **d != DeviceArg::Cpu && devices[..*i].contains(d));
        match twice {
            Some((_, device)) => Err(format!("device `{device}` is there twice; only cpu may be")),
            None => Ok(Self(devices)),
        }
    }
}

impl std::fmt::Display for DeviceList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
    }
}

impl DeviceList {
    /// Burn's devices, the first one first, or why this build doesn't have them.
    pub fn open(&self) -> Result<(DispatchDevice, Vec<DispatchDevice>), String> {
        let mut devices = self.0.iter().map(|device| device.open()).collect::<Result<Vec<_>, _>>()?.into_iter();
        // A list is never empty: even an empty text has one part, which is no device.
        let first = devices.next().ok_or_else(|| "no device was given".to_owned())?;
        Ok((first, devices.collect()))
    }

    /// The device that takes the steps and holds what comes of them.
    pub fn first(&self) -> DeviceArg {
        // A list is never empty.
        self.0.first().copied().unwrap_or(DeviceArg::Cpu)
    }
}

impl DeviceArg {
    /// Burn's device after a first computation on it, or why this build or this machine doesn't have it.
    ///
    /// Burn's own device is only a number: without that computation a device that isn't there would be found out minutes
    /// later, when the first model is loaded.
    pub fn open(self) -> Result<DispatchDevice, String> {
        let device = self.named()?;
        let tried = crate::device_failure::trying(|| computes(&device));
        tried.map_err(|found| {
            let found = found.trim_end_matches('.');
            format!("{self} can't be used: {found}; `c2c doctor` says what this build and this machine have")
        })?;
        Ok(device)
    }

    /// Burn's device, whether it is there or not; or why this build doesn't have it.
    pub fn named(self) -> Result<DispatchDevice, String> {
        if self != Self::Cpu {
            crate::kernel_cache::prepare();
        }
        match self {
            Self::Cpu => Ok(DispatchDevice::Flex(burn_flex::FlexDevice)),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => Ok(DispatchDevice::Cuda(burn::backend::cuda::CudaDevice::new(index))),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err(missing("cuda")),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(0) => Ok(DispatchDevice::Wgpu(burn::backend::wgpu::WgpuDevice::DefaultDevice)),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(index) => Ok(DispatchDevice::Wgpu(burn::backend::wgpu::WgpuDevice::DiscreteGpu(index - 1))),
            #[cfg(not(feature = "wgpu"))]
            Self::Wgpu(_) => Err(missing("wgpu")),
        }
    }

    /// The backends of this build, by name.
    pub fn built_in() -> Vec<&'static str> {
        let mut names = vec!["cpu"];
        if cfg!(feature = "cuda") {
            names.push("cuda");
        }
        if cfg!(feature = "wgpu") {
            names.push("wgpu");
        }
        names
    }
}

/// A kernel that is compiled in no time, on a few numbers, and their way there and back.
fn computes(device: &DispatchDevice) -> Result<(), String> {
    let x = Tensor::<Dispatch, 1>::from_floats([1.0, 2.0, 3.0], device);
    let data = x.mul_scalar(2.0).try_into_data().map_err(|e| format!("reading back from it failed: {e:?}"))?;
    let found: Vec<f32> = data.iter::<f32>().collect();
    if found == [2.0, 4.0, 6.0] { Ok(()) } else { Err(format!("it doubles 1, 2, 3 to {found:?}")) }
}

#[cfg(not(all(feature = "cuda", feature = "wgpu")))]
fn missing(name: &str) -> String {
    format!(
        "this build has no {name} backend (it has: {}); build it with `cargo build --release --features {name}`",
        DeviceArg::built_in().join(", ")
    )
}
