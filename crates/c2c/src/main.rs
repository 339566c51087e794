//! Train, export and evaluate Cache-to-Cache fusers.
//!
//! The binary is thin: it parses, chooses the device, calls the libraries and prints. Data goes to stdout, talk to stderr.

mod commands;
mod device;
mod exit;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use device::DeviceArg;

/// Cache-to-Cache: one language model hands another what it understood through its KV cache.
#[derive(Parser, Debug)]
#[command(name = "c2c", version, about, propagate_version = true, after_help = commands::ENVIRONMENT_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Pretrain one of the small models of the embedded pair from nothing
    Pretrain(commands::pretrain::Args),
}

/// The device option that most commands share.
#[derive(clap::Args, Debug, Clone)]
struct DeviceOption {
    /// Where to compute: cpu, cuda[:n] or wgpu[:n]
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceArg,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Pretrain(args) => commands::pretrain::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
