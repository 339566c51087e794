//! `c2c data show`: the training data of a recipe as the models read it, before anything is trained.
//!
//! Needs the two tokenizers and the data; no weights are read.

use std::io::IsTerminal;
use std::path::PathBuf;

use c2c_data::Fingerprint;
use c2c_recipe::{Recipe, RecipeKind, TrainRecipe};
use c2c_text::PairText;
use c2c_train::{EpochSlots, Examples, Order, TrainExample, epoch_slots, load_examples, split};
use serde_json::{Value, json};

use crate::examples::{Slots, Style, to_json};
use crate::exit::{Failure, Outcome, environment, usage};
use crate::models;

/// Arguments of `c2c data`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Print examples with their fused, supervised and padded tokens marked, and what the whole data comes to
    Show(Show),
    /// Compute the caches of both frozen models once, for many runs to read
    Prepare(super::data_prepare::Args),
}

#[derive(clap::Args, Debug)]
struct Show {
    /// The recipe (kind = "train")
    recipe: PathBuf,
    // Not a doc comment: rustdoc would read the brackets as links.
    #[arg(
        short = 'o',
        long = "override",
        value_name = "KEY=VALUE",
        help = "Change a value of the recipe first, e.g. -o data.sources[0].limit=100 for a quick look"
    )]
    overrides: Vec<String>,
    /// Examples to print, from the first on
    #[arg(long, value_name = "N", default_value_t = 3)]
    limit: usize,
    /// Print this example instead: its index from 0, its id, or its file and line as in rows.jsonl:12
    #[arg(long, value_name = "ID|INDEX")]
    example: Vec<String>,
    /// Print every slot of long sections
    #[arg(long)]
    full: bool,
    /// Columns of a line
    #[arg(long, value_name = "COLUMNS", default_value_t = 110)]
    width: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// When to colour
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: When,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum When {
    /// On a terminal, if NO_COLOR isn't set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Slots of a section that are shown without `--full`.
const SHOWN_SLOTS: usize = 120;

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let args = match &args.command {
        Command::Show(args) => args,
        Command::Prepare(args) => return super::data_prepare::run(args),
    };
    let loaded = super::load_recipe(&args.recipe, &args.overrides)?;
    let Recipe::Train(recipe) = &loaded.recipe else {
        return Err(super::wrong_kind(&args.recipe, &loaded, RecipeKind::Train));
    };
    crate::hub::data(&recipe.data.sources)?;
    let text = models::text_of(recipe)?;
    eprintln!("reading all rows of the data (-o data.sources[0].limit=1000 for a quick look)");
    let examples = load_examples(recipe, &text).map_err(environment)?;
    let chosen = choose(args, &examples.examples)?;
    let totals = Totals::of(recipe, &examples, &text)?;
    if args.json {
        let shown: Vec<Value> = chosen.iter().map(|index| to_json(*index, &examples.examples[*index], &text)).collect();
        let mut report = totals.to_json(&examples);
        report["examples"] = Value::Array(shown);
        crate::print(&format!("{report:#}\n"));
        return Ok(());
    }
    let colour = match args.color {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    };
    let style = Style { colour, width: args.width.max(40), most: (!args.full).then_some(SHOWN_SLOTS) };
    let mut out = String::new();
    if !chosen.is_empty() {
        out.push_str(&style.legend());
    }
    for index in chosen {
        out.push_str(&style.example(index, &examples.examples[index], &text));
    }
    out.push_str(&totals.to_text(&examples));
    crate::print(&out);
    Ok(())
}

/// The indexes of the examples to print.
fn choose(args: &Show, examples: &[TrainExample]) -> Result<Vec<usize>, Failure> {
    if args.example.is_empty() {
        return Ok((0..args.limit.min(examples.len())).collect());
    }
    let find = |wanted: &String| {
        let named = examples.iter().position(|example| example.id == *wanted || example.place == *wanted);
        named.or_else(|| wanted.parse().ok().filter(|index| *index < examples.len())).ok_or_else(|| {
            let last = examples.len() - 1;
            let kind = "give an index from 0, a row's id, or file:line";
            usage(anyhow::anyhow!("--example {wanted}: no such example among 0 to {last}; {kind} (rows that were left out are listed without --example)"))
        })
    };
    args.example.iter().map(find).collect()
}

/// What the whole data comes to.
struct Totals {
    slots: Slots,
    train: usize,
    validation: usize,
    epoch: EpochSlots,
    batch_size: usize,
    length_bucket: Option<usize>,
}

impl Totals {
    fn of(recipe: &TrainRecipe, examples: &Examples, text: &PairText) -> Result<Self, Failure> {
        let mut slots = Slots::default();
        examples.examples.iter().for_each(|example| slots.add(Slots::of(example)));
        let fraction = recipe.training.validation_fraction;
        let (train, validation) = split(examples.examples.clone(), fraction, recipe.seed);
        let order = Order::of(recipe, &train);
        let pads = (text.receiver().pad_id(), text.sharer().pad_id());
        let batch_size = recipe.training.batch_size;
        let epoch = epoch_slots(&train, &order, batch_size, pads).map_err(environment)?;
        let (train, validation) = (train.len(), validation.len());
        Ok(Self { slots, train, validation, epoch, batch_size, length_bucket: recipe.data.length_bucket })
    }

    fn to_json(&self, examples: &Examples) -> Value {
        json!({
            "sources": examples.fingerprints,
            "examples_read": examples.read,
            "examples_used": examples.examples.len(),
            "too_long": { "count": examples.too_long, "listed": examples.too_long_listed },
            "refused": { "count": examples.refused_count, "listed": examples.refused },
            "train": self.train,
            "validation": self.validation,
            "figures": self.slots,
            "epoch": {
                "batch_size": self.batch_size,
                "length_bucket": self.length_bucket,
                "batches": self.epoch.batches,
                "tokens": self.epoch.tokens,
                "slots": self.epoch.slots,
                "padding": self.epoch.padding(),
            },
        })
    }

    fn to_text(&self, examples: &Examples) -> String {
        let mut out = String::from("\nsources\n");
        for (index, source) in examples.fingerprints.iter().enumerate() {
            out.push_str(&source_lines(index, source));
        }
        let s = &self.slots;
        let share = |part: usize| format!("{part} ({:.1} %)", 100.0 * part as f64 / s.positions.max(1) as f64);
        out.push_str(&format!(
            "\nexamples    {} used: {} to train on, {} for the validation loss\n",
            examples.examples.len(),
            self.train,
            self.validation
        ));
        out.push_str(&format!("slots       {}\n", s.positions));
        out.push_str(&format!("  fused       {}\n  supervised  {}\n", share(s.fused), share(s.supervised)));
        out.push_str(&format!(
            "  padding     {} for the receiver, {} for the sharer, from alignment alone\n",
            share(s.receiver_padding),
            share(s.sharer_padding)
        ));
        let bucket = match self.length_bucket {
            Some(batches) => format!("{batches} batches sorted together"),
            None => "no length buckets".to_owned(),
        };
        out.push_str(&format!(
            "an epoch    {} batches of {}: {} slots, {:.1} % padding ({bucket})\n",
            self.epoch.batches,
            self.batch_size,
            self.epoch.slots,
            100.0 * self.epoch.padding()
        ));
        listed(&mut out, "", "too long, left out", examples.too_long, &examples.too_long_listed);
        let refused = "refused by a template or the alignment, left out";
        listed(&mut out, "", refused, examples.refused_count, &examples.refused);
        out
    }
}

fn source_lines(index: usize, source: &Fingerprint) -> String {
    let revision = source.revision.as_ref().map(|commit| format!(" @ {commit}")).unwrap_or_default();
    let files = if source.files.is_empty() { String::new() } else { format!(", {} files", source.files.len()) };
    let mut out = format!(
        "  {index}  {}{revision}\n     {} rows used{files}, sha256 {}\n",
        source.source, source.rows, source.sha256
    );
    match (&source.filter, source.limit) {
        // The limit is the first of the filters, where there are others.
        (Some(filter), _) => out.push_str(&format!("     filter    {filter}\n")),
        (None, Some(limit)) => out.push_str(&format!("     limit     {limit}\n")),
        (None, None) => {}
    }
    for (by, count) in &source.left_out {
        out.push_str(&format!("     left out  {count} by {by}\n"));
    }
    let what = if source.bad.count == 1 { "bad row" } else { "bad rows" };
    listed(&mut out, "     ", what, source.bad.count, &source.bad.listed);
    out
}

/// A count and the reasons below it; nothing for none.
fn listed(out: &mut String, indent: &str, what: &str, count: usize, reasons: &[String]) {
    if count == 0 {
        return;
    }
    out.push_str(&format!("{indent}{count} {what}\n"));
    for reason in reasons {
        out.push_str(&format!("{indent}  {reason}\n"));
    }
    if count > reasons.len() {
        out.push_str(&format!("{indent}  and {} more\n", count - reasons.len()));
    }
}
