//! `c2c export`: the fuser of a run as a folder of its own, as it is or in another form.

use std::path::PathBuf;

use burn::Dispatch;
use c2c_export::artefact::{self, WeightsDtype};
use c2c_export::{ExportError, ExportFormat, ExportOptions};

use crate::DeviceOption;
use crate::exit::{Outcome, environment, usage};

/// Arguments of `c2c export`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A run directory, or the folder of a fuser
    run: PathBuf,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What to write: `c2c eval` reads safetensors, programs with Burn burnpack, the reference implementation pytorch,
    /// ONNX Runtime onnx
    #[arg(long, value_enum, default_value_t = Format::Safetensors)]
    format: Format,
    /// Number format of the weights [default: as they are]
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
    /// Leave out the layers' key and value branches whose gate is shut: they do nothing at inference
    #[arg(long)]
    prune_closed_gates: bool,
    /// Round the matrices to 8-bit integers, one scale an output
    #[arg(long, conflicts_with = "dtype")]
    int8: bool,
    /// Replace a fuser that is already there
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    device: DeviceOption,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq)]
enum Format {
    Safetensors,
    Burnpack,
    Pytorch,
    Onnx,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Dtype {
    F32,
    Bf16,
    F16,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let inside = args.run.join("fuser");
    let from = [&inside, &args.run].into_iter().find(|d| d.join(artefact::CONFIG_FILE).is_file());
    let Some(from) = from else {
        return Err(usage(anyhow::anyhow!(
            "{} holds no fuser: expected {} in it, or in its folder `fuser`",
            args.run.display(),
            artefact::CONFIG_FILE
        )));
    };
    let device = args.device.device.open().map_err(|e| environment(anyhow::anyhow!(e)))?;
    let dtype = args.dtype.map(|dtype| match dtype {
        Dtype::F32 => WeightsDtype::F32,
        Dtype::Bf16 => WeightsDtype::Bf16,
        Dtype::F16 => WeightsDtype::F16,
    });
    let options = ExportOptions {
        format: match args.format {
            Format::Safetensors => ExportFormat::Safetensors,
            Format::Burnpack => ExportFormat::Burnpack,
            Format::Pytorch => ExportFormat::Pytorch,
            Format::Onnx => ExportFormat::Onnx,
        },
        dtype: if args.int8 { Some(WeightsDtype::Int8) } else { dtype },
        prune: args.prune_closed_gates,
    };
    let config =
        c2c_export::convert::<Dispatch>(from, &args.out, options, args.overwrite, &device).map_err(|e| match e {
            e @ ExportError::Option { .. } => usage(e),
            e => environment(e),
        })?;
    let branches = config.fuser.branches();
    eprintln!(
        "{} <- {}: {} layers, {} parameters in {}",
        config.receiver.name,
        config.sharer.name,
        config.fuser.layers(),
        config.fuser.num_params(),
        config.weights.dtype.as_str(),
    );
    if args.prune_closed_gates && !config.fuser.parts.gates {
        eprintln!("left out nothing: this fuser is an ablation without gates, so that every branch takes part");
    } else if args.prune_closed_gates {
        eprintln!("left out {} of {branches} branches, whose gate is shut", config.weights.shut.len());
    }
    if let Some(loss) = &config.weights.loss {
        eprintln!(
            "against the f32 fuser, on {} tokens of random caches, as shares of the root mean square:\n\
             \x20 fused keys    mean {:.1e}, largest {:.1e}\n\
             \x20 fused values  mean {:.1e}, largest {:.1e}",
            loss.tokens, loss.key_mean, loss.key_max, loss.value_mean, loss.value_max,
        );
    }
    if args.format == Format::Pytorch && config.alignment.strategy == "spans" && config.alignment.mode != "shared" {
        eprintln!(
            "note: the reference implementation has no token alignment `spans`; it computes the same fusion of other tokens"
        );
    }
    crate::print(&format!("{}\n", args.out.display()));
    Ok(())
}
