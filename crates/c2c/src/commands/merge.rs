//! `c2c merge`: the shards of an evaluation become the run that one process would have made.

use std::path::{Path, PathBuf};

use c2c_eval::journal::{Head, Written};
use c2c_eval::{EvalSettings, Evaluation, Shard};
use c2c_recipe::{EvalRecipe, Loaded, Recipe};
use serde_json::{Value, json};

use super::eval::summary;
use crate::evaluation::{self, JOURNAL_FILE, RECORDS_FILE};
use crate::exit::{Failure, Outcome, environment, usage};
use crate::run_dir::{ENVIRONMENT_FILE, RECIPE_FILE, RunDir};

/// Arguments of `c2c merge`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The run directories of all shards, in any order, as `c2c eval --shard I/N` printed them
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The run directory to make; it may not exist yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    if args.out.exists() {
        return Err(usage(anyhow::anyhow!("{} is there already; name a folder that isn't", args.out.display())));
    }
    let (mut parts, mut problems) = (Vec::new(), Vec::new());
    for run in &args.runs {
        match Part::read(run) {
            Ok(part) => parts.push(part),
            Err(problem) => problems.push(problem),
        }
    }
    problems.extend(unfit(&parts));
    if !problems.is_empty() {
        return Err(usage(anyhow::anyhow!("these runs make no evaluation:\n  {}", problems.join("\n  "))));
    }
    // With a problem less there is at least one part, since the parser asks for a run.
    let Some(first) = parts.first() else { return Err(usage(anyhow::anyhow!("no shard to put together"))) };
    let (loaded, head) = (first.loaded.clone(), Head { shard: Shard::WHOLE, ..first.written.head.clone() });
    let Recipe::Eval(recipe) = &loaded.recipe else {
        return Err(usage(anyhow::anyhow!("{} is no evaluation", first.run.display())));
    };
    let sources: Vec<Value> = parts.iter().map(Part::source).collect();
    let units = parts.into_iter().flat_map(|part| part.written.units).collect();
    let result = Evaluation::of_units(units, &EvalSettings::from(&recipe.evaluation), head.questions)
        .map_err(|error| usage(anyhow::anyhow!("these runs make no evaluation: {error}")))?;
    write(&args.out, &loaded, recipe, &head, &result, &sources)?;
    crate::print(&evaluation::table(&recipe.evaluation, &result));
    eprintln!("{} shards put together in {}", sources.len(), args.out.display());
    evaluation::check_gates(&result)
}

/// Writes the run directory beside its place and renames it, so that there is a whole one or none.
fn write(
    out: &Path,
    loaded: &Loaded,
    recipe: &EvalRecipe,
    head: &Head,
    result: &Evaluation,
    sources: &[Value],
) -> Result<(), Failure> {
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(environment)?;
    let beside = tempfile::Builder::new().prefix(".merge-").tempdir_in(parent).map_err(environment)?;
    let run = RunDir::create_at(beside.path().join("run"), loaded, sources_device(head)?)?;
    let environment_path = run.path().join(ENVIRONMENT_FILE);
    let text = std::fs::read_to_string(environment_path).map_err(environment)?;
    let mut facts: Value = serde_json::from_str(&text).map_err(environment)?;
    facts["merged"] = json!(sources);
    run.write_json(ENVIRONMENT_FILE, &facts)?;
    std::fs::create_dir_all(run.path().join("eval")).map_err(environment)?;
    result.write_parquet(run.path().join(RECORDS_FILE)).map_err(environment)?;
    run.write_json("summary.json", &summary(recipe, head, result))?;
    c2c_report::seal(run.path()).map_err(environment)?;
    std::fs::rename(run.path(), out).map_err(|e| environment(anyhow::anyhow!("cannot make {}: {e}", out.display())))
}

/// The device of the first shard; `merged` in the environment has all of them.
fn sources_device(head: &Head) -> Result<crate::device::DeviceArg, Failure> {
    head.device.parse().map_err(|e| environment(anyhow::anyhow!("device `{}`: {e}", head.device)))
}

/// One shard.
struct Part {
    run: PathBuf,
    loaded: Loaded,
    written: Written,
}

impl Part {
    /// A finished shard, or why it is none.
    fn read(run: &Path) -> Result<Self, String> {
        let at = run.display();
        let journal = run.join(JOURNAL_FILE);
        if !journal.is_file() {
            return Err(match run.join("summary.json").is_file() {
                true => format!("{at} is a whole run and no shard"),
                false => format!("{at} is no shard: it has no {JOURNAL_FILE}"),
            });
        }
        let written = Written::read(&journal).map_err(|error| error.to_string())?;
        let unfinished = |shard: &str| format!("{at}{shard} isn't finished: go on with c2c eval --resume {at}");
        let written = written.ok_or_else(|| unfinished(""))?;
        if written.total.is_none() {
            return Err(unfinished(&format!(": shard {}", written.head.shard)));
        }
        let recipe = run.join(RECIPE_FILE);
        let loaded = c2c_recipe::load(&recipe, &[]).map_err(|errors| errors.to_string().trim().to_owned())?;
        if loaded.hash() != written.head.recipe_sha256 {
            return Err(format!(
                "{}: hash {}, but the shard was begun with {}; it was changed since",
                recipe.display(),
                loaded.hash(),
                written.head.recipe_sha256
            ));
        }
        Ok(Self { run: run.to_owned(), loaded, written })
    }

    /// What the merged run says of it.
    fn source(&self) -> Value {
        let head = &self.written.head;
        json!({ "run": self.run, "shard": head.shard, "device": head.device, "program": head.program })
    }
}

/// Why parts that are good by themselves don't make one evaluation.
fn unfit(parts: &[Part]) -> Vec<String> {
    let Some(first) = parts.first() else { return Vec::new() };
    let mut problems = Vec::new();
    let expected = &first.written.head;
    // Which part, and on what device, is what they may differ in.
    let common = |head: &Head| Head { shard: Shard::WHOLE, device: String::new(), ..head.clone() };
    for part in &parts[1..] {
        let head = &part.written.head;
        let (at, other) = (part.run.display(), first.run.display());
        let differing = common(head).differences(&common(expected));
        problems.extend(differing.into_iter().map(|line| format!("{at}: {line} as in {other}")));
        if head.shard.of() != expected.shard.of() {
            problems.push(format!("{at}: shard {}, but {other} is shard {}", head.shard, expected.shard));
        }
    }
    if !problems.is_empty() {
        return problems;
    }
    for index in 1..=expected.shard.of() {
        let runs: Vec<String> = parts
            .iter()
            .filter(|part| part.written.head.shard.index() == index)
            .map(|part| part.run.display().to_string())
            .collect();
        match runs.as_slice() {
            [_] => {}
            [] => problems.push(format!("shard {index}/{} is missing", expected.shard.of())),
            runs => problems.push(format!(
                "shard {index}/{} is there {} times: {}",
                expected.shard.of(),
                runs.len(),
                runs.join(", ")
            )),
        }
    }
    problems
}
