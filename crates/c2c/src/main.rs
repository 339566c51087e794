//! Train, export and evaluate Cache-to-Cache fusers.
//!
//! The binary is thin: it parses, chooses the device, calls the libraries and prints. Data goes to stdout, talk to stderr.

mod bench;
mod commands;
mod device;
mod device_failure;
#[cfg(test)]
mod documented;
mod evaluation;
mod examples;
mod exit;
mod geometry;
mod hub;
mod kernel_cache;
mod machine;
mod measured;
mod models;
mod progress;
mod render;
mod run_dir;
mod signals;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

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
    /// Train a fuser between two frozen models, evaluate it and write the artefact
    Train(commands::train::Args),
    /// Evaluate a trained fuser
    Eval(commands::eval::Args),
    /// Talk to a fused pair, or ask it once
    Chat(commands::chat::Args),
    /// Put the shards of an evaluation together
    Merge(commands::merge::Args),
    /// Write the fuser of a run to a folder of its own: checked, in this or another format, rounded or pruned
    Export(commands::export::Args),
    /// Read a fuser in the published PyTorch layout and write it as an artefact of this program
    Import(commands::import::Args),
    /// Say what a training run is and costs, before it: data, steps, memory, disk
    Plan(commands::plan::Args),
    /// Fetch a model, data set or fuser from the hub into the local cache, verified, and print its folder
    Download(commands::download::Args),
    /// Check a fuser and upload it to the hub as one commit
    Push(commands::push::Args),
    /// Look at training data as the models read it, and prepare it
    Data(commands::data::Args),
    /// Make the figures of runs again from their records, and fail on any difference
    Verify(commands::verify::Args),
    /// Compare runs: accuracy, intervals, differences, answers, time; as tables and plots
    Report(commands::report::Args),
    /// Say where the caches of a run's fuser lie in the receiver's space, and their effective ranks: tables, CSV and a map
    Geometry(commands::geometry::Args),
    /// Say what weights a run's fuser gives the heads of each layer, token by token: table, CSV and a plot
    Weights(commands::weights::Args),
    /// Fit a router between two methods on one run and judge it on another: accuracy against time by the share of strong calls
    Route(commands::route::Args),
    /// List, check, show, copy and convert recipes
    Recipe(commands::recipe::Args),
    /// Compare what a fused pair computes on several devices with the CPU in f32
    Parity(commands::parity::Args),
    /// Time the work of a pair on this machine, and say how far it is from the machine's limit
    Bench(commands::bench::Args),
    /// Say what this build and this machine can do
    Doctor(commands::doctor::Args),
    /// Pretrain one of the small models of the embedded pair from nothing
    Pretrain(commands::pretrain::Args),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page of the program or of a command
    Man(commands::man::Args),
}

/// The device option that most commands share.
#[derive(clap::Args, Debug, Clone)]
struct DeviceOption {
    // Not a doc comment: rustdoc would read the brackets as links.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help = "Where to compute: cpu, cuda[:n] or wgpu[:n]")]
    device: DeviceArg,
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    device_failure::watch();
    let result = match command {
        Command::Train(args) => commands::train::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Chat(args) => commands::chat::run(&args),
        Command::Merge(args) => commands::merge::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Import(args) => commands::import::run(&args),
        Command::Plan(args) => commands::plan::run(&args),
        Command::Download(args) => commands::download::run(&args),
        Command::Push(args) => commands::push::run(&args),
        Command::Data(args) => commands::data::run(&args),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Geometry(args) => commands::geometry::run(&args),
        Command::Weights(args) => commands::weights::run(&args),
        Command::Route(args) => commands::route::run(&args),
        Command::Recipe(args) => commands::recipe::run(&args),
        Command::Parity(args) => commands::parity::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Pretrain(args) => commands::pretrain::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "c2c", &mut script);
            print(&String::from_utf8_lossy(&script));
            Ok(())
        }
        Command::Man(args) => commands::man::run(&args, Cli::command()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            match &failure {
                // What was asked for is no error.
                exit::Failure::Interrupted(text) => eprintln!("{text}"),
                failure => eprintln!("error: {failure}"),
            }
            ExitCode::from(failure.code())
        }
    }
}

/// Writes data to stdout. A reader that has gone is no error.
fn print(text: &str) {
    print_bytes(text.as_bytes());
}

/// As [`print()`], for what is no text.
fn print_bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}
