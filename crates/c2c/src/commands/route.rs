//! `c2c route`: a router between two methods, fitted on one run and judged on another.

use std::path::{Path, PathBuf};

use c2c_recipe::Method;
use c2c_report::{Form, ReportError, Routing, RunFiles, find_runs};

use crate::exit::{Failure, Outcome, environment, usage};

/// Arguments of `c2c route`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The run whose records the router is fitted on
    #[arg(value_name = "TRAIN_RUN")]
    train: PathBuf,
    /// The run whose records it is judged on; no question may be in both
    #[arg(value_name = "TEST_RUN")]
    test: PathBuf,
    /// The method that answers unless the router asks for the other
    #[arg(long, value_name = "METHOD", default_value = "receiver", value_parser = method)]
    weak: Method,
    /// The method that the router may ask for
    #[arg(long, value_name = "METHOD", default_value = "sharer", value_parser = method)]
    strong: Method,
    /// What the router is; several, as in `logistic,mf`, are compared
    #[arg(long, value_enum, value_delimiter = ',', default_value = "logistic")]
    form: Vec<FormArg>,
    /// Draws where the fitting of `mf` begins
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Print JSON instead of tables, every question included
    #[arg(long)]
    json: bool,
    /// Also write the tables as CSV and Parquet, the cost-quality curve as SVG, and routing.json, into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum FormArg {
    /// Logistic regression on hashed words
    Logistic,
    /// Matrix factorisation in the form of RouteLLM, fitted on all methods of TRAIN_RUN
    Mf,
}

impl From<FormArg> for Form {
    fn from(form: FormArg) -> Self {
        match form {
            FormArg::Logistic => Self::Logistic,
            FormArg::Mf => Self::Factors,
        }
    }
}

fn method(word: &str) -> Result<Method, String> {
    let value = serde_json::Value::from(word);
    serde_json::from_value(value).map_err(|_| format!("expected one of {}", Method::WORDS.join(", ")))
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    if args.weak == args.strong {
        return Err(usage(anyhow::anyhow!("--weak and --strong are both `{}`; name two methods", args.weak)));
    }
    let mut forms: Vec<Form> = Vec::new();
    for form in args.form.iter().map(|form| Form::from(*form)) {
        if !forms.contains(&form) {
            forms.push(form);
        }
    }
    let (train, test) = (one_run(&args.train)?, one_run(&args.test)?);
    let routing =
        Routing::new(&train, &test, [args.weak, args.strong], &forms, args.seed).map_err(|error| match error {
            error @ (ReportError::NoMethod { .. } | ReportError::Leak { .. } | ReportError::Graded { .. }) => {
                usage(error)
            }
            error => environment(error),
        })?;
    if args.json {
        // What isn't in the text itself must still be said where it is seen.
        routing.notes().iter().for_each(|note| eprintln!("{note}"));
        crate::print(&format!("{:#}\n", routing.json()));
    } else {
        crate::print(&routing.text());
    }
    match &args.out {
        Some(dir) => write(&routing, dir),
        None => Ok(()),
    }
}

fn one_run(path: &Path) -> Result<RunFiles, Failure> {
    let runs = find_runs(&[path.to_owned()]).map_err(|errors| usage(anyhow::anyhow!(super::lines(&errors))))?;
    match <[RunFiles; 1]>::try_from(runs) {
        Ok([run]) => Ok(run),
        Err(runs) => Err(usage(anyhow::anyhow!("{} holds {} runs; name one", path.display(), runs.len()))),
    }
}

fn write(routing: &Routing, dir: &Path) -> Outcome {
    std::fs::create_dir_all(dir).map_err(environment)?;
    let put = |name: String, bytes: &[u8]| c2c_lm::write_beside(&dir.join(name), bytes).map_err(environment);
    for table in routing.tables() {
        let (mut csv, mut parquet) = (Vec::new(), Vec::new());
        table.write_csv(&mut csv).map_err(environment)?;
        table.write_parquet(&mut parquet).map_err(environment)?;
        put(format!("{}.csv", table.name), &csv)?;
        put(format!("{}.parquet", table.name), &parquet)?;
    }
    put("curve.svg".to_owned(), routing.svg().as_bytes())?;
    put("routing.json".to_owned(), format!("{:#}\n", routing.json()).as_bytes())?;
    eprintln!("tables, curve.svg and routing.json in {}", dir.display());
    Ok(())
}
