//! `c2c parity`: the same fuser and prompts on several devices, against the CPU in f32.

use c2c_eval::parity::{self, Parity, Trace};
use c2c_eval::{load_questions, prompt_format, select_questions};
use c2c_export::artefact;
use c2c_fuser::{C2c, PairModels};
use c2c_recipe::{Artefact, Dtype, EvalRecipe, Recipe};
use c2c_text::Prompt;
use serde_json::{Value, json};

use super::eval_recipe::{EvalRecipeArgs, open};
use crate::device::DeviceArg;
use crate::exit::{Failure, Outcome, environment, usage};
use crate::hub;
use crate::run_dir::RunDir;

/// How far f32 results of two devices may be apart, relative to the largest magnitude.
const F32_RELATIVE: f64 = 1e-4;
/// At how many positions bf16 must choose what f32 chooses.
const BF16_ARGMAX: f64 = 0.99;

/// Arguments of `c2c parity`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    recipe: EvalRecipeArgs,
    // Not a doc comment: rustdoc would read the brackets as links.
    #[arg(
        long,
        value_name = "DEVICES",
        value_delimiter = ',',
        help = "Devices to compare, separated by commas: cpu, cuda[:n], wgpu[:n] [default: all of this build]"
    )]
    on: Vec<DeviceArg>,
    /// Number formats of the models, separated by commas
    #[arg(long, value_name = "DTYPES", value_delimiter = ',', default_values_t = [Format::F32, Format::Bf16])]
    dtype: Vec<Format>,
    /// Prompts
    #[arg(long, default_value_t = 16)]
    limit: usize,
    /// Tokens of a reply
    #[arg(long, default_value_t = 16)]
    new_tokens: usize,
    /// Write the result into the fuser's card, too
    #[arg(long)]
    card: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    F32,
    Bf16,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl From<Format> for Dtype {
    fn from(format: Format) -> Self {
        match format {
            Format::F32 => Self::F32,
            Format::Bf16 => Self::Bf16,
        }
    }
}

/// One device and number format, compared.
struct Compared {
    device: DeviceArg,
    format: Format,
    parity: Parity,
}

impl Compared {
    /// Nothing that is no finite number; f32: every fused layer and the logits within [`F32_RELATIVE`]; bf16: [`BF16_ARGMAX`]
    /// of the likeliest tokens.
    fn passes(&self) -> bool {
        self.parity.not_finite == 0
            && match self.format {
                Format::F32 => self.parity.worst_layer().1.max(self.parity.logits.relative) <= F32_RELATIVE,
                Format::Bf16 => self.parity.argmax_agreement >= BF16_ARGMAX,
            }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    if args.limit == 0 || args.new_tokens == 0 {
        return Err(usage(anyhow::anyhow!("--limit and --new-tokens: expected 1 or more")));
    }
    let loaded = args.recipe.load(None)?;
    let Recipe::Eval(recipe) = &loaded.recipe else {
        return Err(args.recipe.wrong_kind(&loaded));
    };
    let Some(named) = &recipe.artefact else {
        let path = loaded.path.display();
        return Err(usage(anyhow::anyhow!(
            "{path}: no [artefact]: parity compares a fuser; name one with --fuser DIR"
        )));
    };
    // A hub id is a folder of the cache, and all that follows reads that one.
    let path = hub::fuser(&named.path_as_written, &named.path)?;
    if args.card && path != named.path {
        return Err(usage(anyhow::anyhow!(
            "--card: {} is the hub's own copy of {}, which stays as it was published; make yours with `c2c export {} --out DIR`",
            path.display(),
            named.path_as_written,
            path.display()
        )));
    }
    let fuser = &Artefact { path, ..named.clone() };
    let pairs = pairs(args);
    if pairs.is_empty() {
        return Err(usage(anyhow::anyhow!("nothing to compare: the CPU in f32 is what the others are compared with")));
    }
    // A device that isn't there is told before the first minute of work.
    for (device, _) in &pairs {
        device.open().map_err(|e| environment(anyhow::anyhow!(e)))?;
    }
    eprintln!("tracing {} prompts on the CPU in f32", args.limit);
    let oracle = traces(args, recipe, fuser, DeviceArg::Cpu, Format::F32, None)?;
    let mut compared = Vec::new();
    for (device, format) in pairs {
        eprintln!("tracing on {device} in {format}");
        let traces = traces(args, recipe, fuser, device, format, Some(&oracle))?;
        compared.push(Compared { device, format, parity: Parity::of(&oracle, &traces) });
    }
    let report = report(args, fuser, &compared)?;
    let run = RunDir::create(&loaded, DeviceArg::Cpu, "")?;
    run.write_json("parity.json", &report)?;
    crate::print(&table(&compared));
    eprintln!("figures of every layer in {}", run.path().join("parity.json").display());
    if args.card {
        artefact::put_section(&fuser.path, artefact::DEVICES_HEADING, &card(&compared)).map_err(environment)?;
        eprintln!("written into {}", fuser.path.join(artefact::CARD_FILE).display());
    }
    let failed: Vec<String> =
        compared.iter().filter(|c| !c.passes()).map(|c| format!("{} in {}", c.device, c.format)).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::Check(anyhow::anyhow!("too far from the CPU in f32: {}", failed.join(", "))))
}

/// What is compared: every device in every format it can compute in, but for the oracle itself.
fn pairs(args: &Args) -> Vec<(DeviceArg, Format)> {
    let built_in = || DeviceArg::built_in().into_iter().filter_map(|name| name.parse().ok()).collect();
    let devices: Vec<DeviceArg> = if args.on.is_empty() { built_in() } else { args.on.clone() };
    let all = devices.iter().flat_map(|device| args.dtype.iter().map(move |format| (*device, *format)));
    let (kept, left): (Vec<_>, Vec<_>) =
        all.partition(|pair| !matches!(pair, (DeviceArg::Cpu, Format::F32) | (DeviceArg::Wgpu(_), Format::Bf16)));
    if left.iter().any(|(device, _)| matches!(device, DeviceArg::Wgpu(_))) {
        eprintln!("note: WGPU computes no bf16; it is compared in f32 alone");
    }
    kept
}

/// The prompts' traces on one device. Models are loaded for this and dropped after it.
fn traces(
    args: &Args,
    recipe: &EvalRecipe,
    fuser: &Artefact,
    device: DeviceArg,
    format: Format,
    oracle: Option<&[Trace]>,
) -> Result<Vec<Trace>, Failure> {
    let device = device.open().map_err(|e| environment(anyhow::anyhow!(e)))?;
    let (artefact, pair) = open(recipe, fuser, Some(format.into()), &device)?;
    let prompts = prompts(args, recipe, &pair)?;
    let fuser = artefact.fuser.for_inference(pair.receiver.dtype()).map_err(environment)?;
    let c2c = C2c::new(pair.receiver, pair.sharer, fuser).map_err(environment)?;
    let forced = |index: usize| oracle.and_then(|oracle| oracle.get(index)).map(|trace| trace.reply.as_slice());
    let trace = |(index, prompt): (usize, &Prompt)| parity::trace(&c2c, prompt, forced(index), args.new_tokens);
    prompts.iter().enumerate().map(trace).collect::<Result<_, _>>().map_err(environment)
}

fn prompts(args: &Args, recipe: &EvalRecipe, pair: &PairModels<burn::Dispatch>) -> Result<Vec<Prompt>, Failure> {
    let settings = &recipe.evaluation;
    hub::questions(settings)?;
    let mut questions = Vec::new();
    for source in &settings.sources {
        questions.append(&mut load_questions(source, recipe.seed, settings.compat.into()).map_err(environment)?.0);
    }
    let questions = select_questions(questions, Some(args.limit), settings.seed);
    parity::prompts(&pair.text, &questions, prompt_format(settings.prompt, settings.compat.into())).map_err(environment)
}

fn report(args: &Args, fuser: &Artefact, compared: &[Compared]) -> Result<Value, Failure> {
    let config = artefact::read_config(&fuser.path).map_err(environment)?;
    let devices: Vec<Value> = compared
        .iter()
        .map(|c| {
            json!({
                "device": c.device.to_string(),
                "dtype": c.format.to_string(),
                "passes": c.passes(),
                "parity": c.parity,
            })
        })
        .collect();
    Ok(json!({
        "c2c": env!("CARGO_PKG_VERSION"),
        "oracle": { "device": "cpu", "dtype": "f32" },
        "fuser_sha256": config.weights_sha256,
        "new_tokens": args.new_tokens,
        "limits": { "f32_relative": F32_RELATIVE, "bf16_argmax": BF16_ARGMAX },
        "compared": devices,
    }))
}

const COLUMNS: [&str; 8] =
    ["device", "dtype", "cache, relative", "logits, relative", "KL, nats", "argmax", "replies", ""];

fn cells(c: &Compared) -> [String; 8] {
    let p = &c.parity;
    let (layer, distance) = p.worst_layer();
    let verdict = match p.not_finite {
        0 if c.passes() => "agrees".to_owned(),
        0 => "TOO FAR".to_owned(),
        values => format!("TOO FAR, {values} values not finite"),
    };
    [
        c.device.to_string(),
        c.format.to_string(),
        format!("{distance:.1e} (layer {layer})"),
        format!("{:.1e}", p.logits.relative),
        format!("{:.1e}", p.kl_max),
        format!("{:.2} %", 100.0 * p.argmax_agreement),
        format!("{:.0} of {}", p.greedy_agreement * p.prompts as f64, p.prompts),
        verdict,
    ]
}

fn table(compared: &[Compared]) -> String {
    let rows: Vec<[String; 8]> =
        std::iter::once(COLUMNS.map(str::to_owned)).chain(compared.iter().map(cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let line = |row: &[String; 8]| {
        let cells = row.iter().enumerate().map(|(column, cell)| format!("{cell:<width$}", width = width(column)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let first = compared.first().map_or((0, 0), |c| (c.parity.prompts, c.parity.positions));
    let head = format!("against the CPU in f32, {} prompts, {} positions\n", first.0, first.1);
    head + &rows.iter().map(line).collect::<String>()
}

fn card(compared: &[Compared]) -> String {
    let row = |cells: &[String; 8]| format!("| {} |\n", cells.join(" | "));
    let head = row(&COLUMNS.map(str::to_owned)) + &format!("|{}\n", "---|".repeat(COLUMNS.len()));
    let first = compared.first().map_or((0, 0), |c| (c.parity.prompts, c.parity.positions));
    format!(
        "Against the CPU in f32, over {} prompts and {} positions: the largest difference of fused keys and values and of logits, \
         relative to the largest magnitude; the largest Kullback-Leibler divergence of the next token; the share of positions with the \
         same likeliest token; equal greedy replies. Made by `c2c parity`.\n\n{head}{}",
        first.0,
        first.1,
        compared.iter().map(|c| row(&cells(c))).collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_never_agrees() {
        let trace =
            |logit: f32| Trace { cache: vec![[vec![1.0], vec![2.0]]], logits: vec![vec![3.0, logit]], reply: vec![0] };
        for format in [Format::F32, Format::Bf16] {
            let verdict = |own: f32, other: f32| {
                let compared =
                    Compared { device: DeviceArg::Cpu, format, parity: Parity::of(&[trace(own)], &[trace(other)]) };
                let [.., last] = cells(&compared);
                (compared.passes(), last, table(&[compared]))
            };
            assert_eq!(verdict(1.0, 1.0).1, "agrees");
            for (own, other) in [(1.0, f32::NAN), (f32::NAN, f32::NAN), (f32::NEG_INFINITY, 1.0)] {
                let (passes, last, table) = verdict(own, other);
                assert!(!passes, "{format}: {own} {other}");
                assert_eq!(last, "TOO FAR, 1 values not finite");
                assert!(table.contains("inf"), "{table}");
            }
        }
    }
}
