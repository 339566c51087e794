//! `c2c report`: any number of runs in tables and plots.

use std::io::IsTerminal;
use std::path::PathBuf;

use c2c_report::{By, Filter, Options, Report, Table, find_runs};

use crate::exit::{Outcome, environment, usage};

/// Arguments of `c2c report`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run directories, or folders that hold some
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The one table to print, by the name of its file; csv and parquet print the accuracies if none is named
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// How fine the accuracies are
    #[arg(long, value_enum, default_value_t = Fineness::Benchmark)]
    by: Fineness,
    /// Also write report.md, the tables as CSV and Parquet, and the plots as SVG into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The run that the others are compared with [default: the first]
    #[arg(long, value_name = "RUN")]
    baseline: Option<String>,
    /// Only these methods (may be repeated)
    #[arg(long, value_name = "METHOD")]
    method: Vec<c2c_method::Word>,
    /// Only these benchmarks (may be repeated)
    #[arg(long, value_name = "BENCHMARK")]
    benchmark: Vec<String>,
    /// Only these subjects (may be repeated)
    #[arg(long, value_name = "SUBJECT")]
    subject: Vec<String>,
    /// At most this many rows a table in print; 0 for all
    #[arg(long, value_name = "N", default_value_t = 40)]
    rows: usize,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Aligned text
    Table,
    /// Markdown
    Markdown,
    /// One table as CSV
    Csv,
    /// One table as Parquet
    Parquet,
    /// All tables as JSON
    Json,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Fineness {
    /// A row a run and method
    Method,
    /// A row a run, method and benchmark
    Benchmark,
    /// A row a run, method, benchmark and subject
    Subject,
    /// A row a run, benchmark, bin of lengths (of prompts and of replies, in tokens) and method
    Length,
}

/// The methods as words that clap checks.
mod c2c_method {
    /// One of the words of a recipe.
    #[derive(Clone, Debug)]
    pub struct Word(pub String);

    impl std::str::FromStr for Word {
        type Err = String;

        fn from_str(text: &str) -> Result<Self, String> {
            let words = c2c_recipe::Method::WORDS;
            if words.contains(&text) {
                Ok(Self(text.to_owned()))
            } else {
                Err(format!("expected one of {}", words.join(", ")))
            }
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let runs = find_runs(&args.runs).map_err(|errors| usage(anyhow::anyhow!(super::lines(&errors))))?;
    let by = match args.by {
        Fineness::Method => By::Method,
        Fineness::Benchmark => By::Benchmark,
        Fineness::Subject => By::Subject,
        Fineness::Length => By::Length,
    };
    let filter = Filter {
        methods: args.method.iter().map(|word| word.0.clone()).collect(),
        benchmarks: args.benchmark.clone(),
        subjects: args.subject.clone(),
    };
    let options = Options { by, filter, baseline: args.baseline.clone() };
    let report = Report::new(&runs, &options).map_err(|error| match error {
        error @ c2c_report::ReportError::NoBaseline { .. } => usage(error),
        error => environment(error),
    })?;
    // What isn't in the text itself must still be said where it is seen.
    if !matches!(args.format, Format::Table | Format::Markdown) || args.table.is_some() {
        report.notes().iter().for_each(|note| eprintln!("{note}"));
    }
    show(args, &report)?;
    if let Some(dir) = &args.out {
        let files = report.write(dir).map_err(environment)?;
        eprintln!("{} files in {}, to be read from {}", files.len(), dir.display(), dir.join("report.md").display());
    }
    Ok(())
}

fn show(args: &Args, report: &Report) -> Outcome {
    let rows = (args.rows > 0).then_some(args.rows);
    match (args.format, &args.table) {
        (Format::Table, None) => crate::print(&report.text(rows)),
        (Format::Markdown, None) => crate::print(&report.markdown(rows)),
        (Format::Table, Some(name)) => crate::print(&pick(report.tables(), name)?.text(rows)),
        (Format::Markdown, Some(name)) => crate::print(&pick(report.tables(), name)?.markdown(rows)),
        (Format::Json, None) => crate::print(&format!("{:#}\n", report.json())),
        (Format::Json, Some(name)) => crate::print(&format!("{:#}\n", pick(report.full_tables(), name)?.json())),
        (Format::Csv, name) => {
            let mut bytes = Vec::new();
            pick(report.full_tables(), default_table(name, args.by))?.write_csv(&mut bytes).map_err(environment)?;
            crate::print_bytes(&bytes);
        }
        (Format::Parquet, name) => {
            if std::io::stdout().is_terminal() {
                return Err(usage(anyhow::anyhow!("Parquet is no text: send it to a file with `>`, or use --out DIR")));
            }
            let mut bytes = Vec::new();
            pick(report.full_tables(), default_table(name, args.by))?.write_parquet(&mut bytes).map_err(environment)?;
            crate::print_bytes(&bytes);
        }
    }
    Ok(())
}

fn default_table(name: &Option<String>, by: Fineness) -> &str {
    name.as_deref().unwrap_or(match by {
        Fineness::Method => "accuracy_by_method",
        Fineness::Benchmark => "accuracy_by_benchmark",
        Fineness::Subject => "accuracy_by_subject",
        Fineness::Length => "accuracy_by_length",
    })
}

fn pick(tables: Vec<Table>, name: &str) -> Result<Table, crate::exit::Failure> {
    let known = tables.iter().map(|table| table.name).collect::<Vec<_>>().join(", ");
    let found = tables.into_iter().find(|table| table.name == name);
    found.ok_or_else(|| usage(anyhow::anyhow!("no table `{name}` in this report; there are {known}")))
}
