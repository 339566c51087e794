//! `c2c doctor`: what this build and this machine can do.

use burn::tensor::Tensor;
use burn::{Dispatch, DispatchDevice};
use serde_json::{Value, json};

use crate::device::DeviceArg;
use crate::device_failure;
use crate::exit::{Failure, Outcome};

/// Arguments of `c2c doctor`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command. A built-in backend that fails its check is an error.
pub fn run(args: &Args) -> Outcome {
    let devices: Vec<(DeviceArg, bool)> = vec![
        (DeviceArg::Cpu, true),
        (DeviceArg::Cuda(0), cfg!(feature = "cuda")),
        (DeviceArg::Wgpu(0), cfg!(feature = "wgpu")),
    ];
    let checks: Vec<Value> = devices
        .iter()
        .map(|(device, built_in)| {
            let result = if *built_in { check(*device) } else { Err("not in this build".to_owned()) };
            json!({
                "device": device.to_string(),
                "built_in": built_in,
                "works": result.is_ok(),
                "note": result.map_or_else(|e| e, |_| "product of two matrices is right".to_owned()),
            })
        })
        .collect();
    let report = json!({
        "c2c": env!("CARGO_PKG_VERSION"),
        "burn": "0.21.0",
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "cores": std::thread::available_parallelism().map(usize::from).unwrap_or(1),
        "devices": checks,
        "model_dtypes": ["f32", "bf16"],
        "hub_cache": c2c_hub::cache_dir(),
    });
    if args.json {
        crate::print(&format!("{report:#}\n"));
    } else {
        crate::print(&human(&report));
    }
    let broken = checks.iter().any(|c| c["built_in"] == true && c["works"] == false);
    if broken {
        return Err(Failure::Check(anyhow::anyhow!("a backend of this build doesn't work on this machine")));
    }
    Ok(())
}

fn human(report: &Value) -> String {
    let text = |key: &str| report[key].as_str().unwrap_or_default().to_owned();
    let mut out = format!(
        "c2c {} on Burn {}, {} {}, {} cores\n",
        text("c2c"),
        text("burn"),
        text("os"),
        text("arch"),
        report["cores"]
    );
    for device in report["devices"].as_array().into_iter().flatten() {
        let mark = match (device["built_in"].as_bool(), device["works"].as_bool()) {
            (_, Some(true)) => "ok",
            (Some(true), _) => "FAILS",
            _ => "-",
        };
        let name = device["device"].as_str().unwrap_or_default();
        out.push_str(&format!("  {name:<8} {mark:<6} {}\n", device["note"].as_str().unwrap_or_default()));
    }
    out.push_str(&format!("the hub cache is {}\n", text("hub_cache")));
    out
}

/// A small product on the device, compared with the exact result.
fn check(device: DeviceArg) -> Result<(), String> {
    let device = device.named()?;
    device_failure::trying(|| multiply(&device))
}

fn multiply(device: &DispatchDevice) -> Result<(), String> {
    let a = Tensor::<Dispatch, 2>::from_floats([[1.0, 2.0], [3.0, 4.0]], device);
    let data = a.clone().matmul(a).try_into_data().map_err(|e| format!("{e:?}"))?;
    let found: Vec<f32> = data.iter::<f32>().collect();
    if found == [7.0, 10.0, 15.0, 22.0] { Ok(()) } else { Err(format!("wrong product: {found:?}")) }
}
