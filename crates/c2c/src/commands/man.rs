//! `c2c man`: manual pages, made from the parser, so that they say what `--help` says.

use std::path::PathBuf;

use clap_mangen::Man;

use crate::exit::{Outcome, environment, usage};

/// Arguments of `c2c man`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The page of this command, such as `chat` or `recipe ls`; without one, of the program
    command: Vec<String>,
    /// Write the pages of the program and of all commands to this folder, as c2c.1, c2c-chat.1, ..
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    out: Option<PathBuf>,
}

/// Runs the command, for the parser of the whole program.
pub fn run(args: &Args, program: clap::Command) -> Outcome {
    if let Some(out) = &args.out {
        let written = std::fs::create_dir_all(out).and_then(|()| clap_mangen::generate_to(program, out));
        return written.map_err(|e| environment(anyhow::anyhow!("cannot write to {}: {e}", out.display())));
    }
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let source = format!("{} {}", program.get_name(), program.get_version().unwrap_or_default());
    let mut found = &program;
    for word in &args.command {
        found = found.find_subcommand(word).ok_or_else(|| {
            let names: Vec<&str> = found.get_subcommands().map(clap::Command::get_name).collect();
            let there_are = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            usage(anyhow::anyhow!("`{}` has no command `{word}`; there are: {there_are}", found.get_name()))
        })?;
    }
    let mut page = Vec::new();
    Man::new(found.clone()).source(source).render(&mut page).map_err(environment)?;
    crate::print_bytes(&page);
    Ok(())
}
