//! `c2c bench`: how fast this machine does the work, and how far that is from what it could do.

use std::path::{Path, PathBuf};

use burn::DispatchDevice;
use c2c_lm::{LmConfig, ModelDtype};
use serde_json::{Value, json};

use crate::DeviceOption;
use crate::bench::{Bench, Failed, Floor, Limits, Measured, RECEIVER, Row, SHARER, Work, measure, time, wait};
use crate::exit::{Failure, Outcome, environment, usage};
use crate::models::computable;

/// Arguments of `c2c bench`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    device: DeviceOption,
    /// dtype of the models: bf16 or f32
    #[arg(long, value_name = "DTYPE", value_parser = dtype, default_value = "f32")]
    dtype: ModelDtype,
    /// config.json of the receiver, or a model folder (default: the shape of Qwen3-0.6B)
    #[arg(long, value_name = "FILE")]
    receiver: Option<PathBuf>,
    /// config.json of the sharer, or a model folder (default: the shape of Qwen2.5-0.5B)
    #[arg(long, value_name = "FILE")]
    sharer: Option<PathBuf>,
    /// Prompt lengths
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', default_value = "128,512,2048")]
    context: Vec<usize>,
    /// Prompts answered at once, in rows of their own for C2C prefill and decoding; their times are of all prompts together
    #[arg(long, value_name = "PROMPTS", value_delimiter = ',')]
    batch: Vec<usize>,
    /// Prompt length of the decoding rows
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    decode_context: usize,
    /// Training step: rows, context tokens and response tokens
    #[arg(long, value_name = "ROWS,CONTEXT,RESPONSE", value_delimiter = ',', default_value = "4,512,128")]
    train: Vec<usize>,
    /// Hidden width of the fuser
    #[arg(long, value_name = "WIDTH", default_value_t = 1024)]
    fuser_width: usize,
    /// Measured repeats of each row
    #[arg(long, value_name = "N", default_value_t = 10)]
    repeats: usize,
    /// Only rows whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
}

fn dtype(text: &str) -> Result<ModelDtype, String> {
    match text {
        "f32" => Ok(ModelDtype::F32),
        "bf16" => Ok(ModelDtype::Bf16),
        _ => Err("expected bf16 or f32".into()),
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let [rows, context, response] = args.train[..] else {
        return Err(usage(anyhow::anyhow!(
            "--train: found {} numbers, expected ROWS,CONTEXT,RESPONSE",
            args.train.len()
        )));
    };
    if let Some(short) = args.context.iter().chain([&args.decode_context]).find(|tokens| **tokens < 2) {
        return Err(usage(anyhow::anyhow!("a context of {short} tokens: at least 2 are needed, one of them unfused")));
    }
    if args.batch.contains(&0) {
        return Err(usage(anyhow::anyhow!("--batch: found 0 prompts, expected 1 or more")));
    }
    let device = args.device.device.open().map_err(|e| environment(anyhow::anyhow!(e)))?;
    let dtype = computable(args.dtype, &device);
    let receiver = config(args.receiver.as_deref(), RECEIVER)?;
    let sharer = config(args.sharer.as_deref(), SHARER)?;
    let fuser = Bench::fuser_config(&receiver, &sharer, args.fuser_width);
    fuser.validate().map_err(usage)?;
    let start = std::time::Instant::now();
    wait(&device).map_err(environment)?;
    let limits = measure(&device, dtype.dtype()).map_err(environment)?;
    let bench = Bench::new(receiver, sharer, fuser, dtype, &device).map_err(environment)?;
    let setup = start.elapsed().as_secs_f64();
    eprintln!("limits and weights ready after {setup:.1} s");

    let mut runner = Runner { args, device: &device, limits: &limits, rows: Vec::new() };
    runner.all(&bench, [rows, context, response]);
    let out = runner.rows;
    if out.is_empty() {
        return Err(usage(anyhow::anyhow!("no row's name contains the text given with --only")));
    }
    if args.json {
        crate::print(&format!("{:#}\n", report(args, &bench, &limits, setup, &out)));
    } else {
        crate::print(&table(args, &limits, &out));
    }
    let failed: Vec<&str> = out.iter().filter_map(|row| row.as_ref().err()).map(|row| row.work.as_str()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let (count, all) = (failed.len(), out.len());
    Err(Failure::Check(anyhow::anyhow!("{count} of {all} rows failed: {}", failed.join(", "))))
}

/// Tokens of a decoding run.
const DECODED: usize = 16;

struct Runner<'a> {
    args: &'a Args,
    device: &'a DispatchDevice,
    limits: &'a Limits,
    rows: Vec<Measured>,
}

impl Runner<'_> {
    fn all(&mut self, b: &Bench, [rows, context, response]: [usize; 3]) {
        let s = &b.shapes;
        for &n in &self.args.context {
            let floor = s.receiver_prefill(1, n);
            self.row(format!("receiver prefill {n}"), 1, floor, || Ok(Box::new(b.receiver_prefill(n)?)));
            self.row(format!("sharer prefill {n}"), 1, s.sharer_prefill(1, n), || Ok(Box::new(b.sharer_prefill(n)?)));
            self.row(format!("fusers on {n} tokens"), 1, s.fusers(n), || Ok(Box::new(b.fusers(n)?)));
            self.row(format!("C2C prefill {n}"), 1, s.c2c_prefill(1, n), || Ok(Box::new(b.c2c_prefill(1, n)?)));
            for &rows in &self.args.batch {
                let name = format!("C2C prefill {rows} x {n}");
                self.row(name, 1, s.c2c_prefill(rows, n), || Ok(Box::new(b.c2c_prefill(rows, n)?)));
            }
        }
        let n = self.args.decode_context;
        let name = format!("decode a token after {n} fused");
        self.row(name, DECODED, s.decode(1, n), || Ok(Box::new(b.decode(1, n, DECODED)?)));
        for &rows in &self.args.batch {
            let name = format!("decode {rows} tokens after {rows} x {n} fused");
            self.row(name, DECODED, s.decode(rows, n), || Ok(Box::new(b.decode(rows, n, DECODED)?)));
        }
        let name = format!("training step {rows} x ({context} + {response})");
        let floor = s.train_step(rows, context, response);
        self.row(name, 1, floor, || Ok(Box::new(b.train_step(rows, context, response)?)));
    }

    /// A row that fails leaves the others.
    fn row<'w>(
        &mut self,
        name: String,
        scale: usize,
        floor: Floor,
        make: impl FnOnce() -> anyhow::Result<Box<dyn Work + 'w>>,
    ) {
        if self.args.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            return;
        }
        let (device, repeats, limits) = (self.device, self.args.repeats, self.limits);
        let timed =
            make().and_then(|mut work| time(device, name.clone(), repeats, scale as f64, floor, limits, work.as_mut()));
        // Told at once: a device that fails ends the program, and then this is all that is left.
        match &timed {
            Ok(row) => eprintln!("{}", progress(row)),
            Err(error) => eprintln!("{name}: failed: {error:#}"),
        }
        self.rows.push(timed.map_err(|error| Failed { work: name, error: format!("{error:#}") }));
    }
}

fn progress(r: &Row) -> String {
    let memory = r.memory_gib.map_or_else(String::new, |held| format!(", {} GiB", gib(held)));
    format!(
        "{}: first {:.1} ms, then median {:.2}, best {:.2}, worst {:.2}, host {:.2} ms of {} runs, {:.1} times the floor{memory}",
        r.work, r.first_ms, r.median_ms, r.best_ms, r.worst_ms, r.host_ms, r.repeats, r.times_floor
    )
}

/// Small figures with the places that tell them apart.
fn gib(held: f64) -> String {
    if held < 10.0 { format!("{held:.2}") } else { format!("{held:.1}") }
}

fn config(path: Option<&Path>, default: &str) -> Result<LmConfig, Failure> {
    let (text, path) = match path {
        None => (default.to_owned(), PathBuf::from("built-in config.json")),
        Some(path) => {
            let file = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
            let read = std::fs::read_to_string(&file);
            (read.map_err(|e| usage(anyhow::anyhow!("{}: {e}", file.display())))?, file)
        }
    };
    let json: Value = serde_json::from_str(&text).map_err(|e| usage(anyhow::anyhow!("{}: {e}", path.display())))?;
    LmConfig::from_json(&json, &path).map_err(usage)
}

fn report(args: &Args, bench: &Bench, limits: &Limits, setup: f64, rows: &[Measured]) -> Value {
    let rows: Vec<Value> =
        rows.iter().map(|row| row.as_ref().map_or_else(|failed| json!(failed), |row| json!(row))).collect();
    json!({
        "c2c": env!("CARGO_PKG_VERSION"),
        "device": args.device.device.to_string(),
        "dtype": format!("{:?}", bench.dtype()).to_lowercase(),
        "cores": std::thread::available_parallelism().map(usize::from).unwrap_or(1),
        "receiver": args.receiver.as_ref().map_or("Qwen3-0.6B's shape".into(), |p| p.display().to_string()),
        "sharer": args.sharer.as_ref().map_or("Qwen2.5-0.5B's shape".into(), |p| p.display().to_string()),
        "fuser_params": bench.shapes.fuser.num_params(),
        "limits": limits,
        "setup_seconds": setup,
        "rows": rows,
    })
}

fn table(args: &Args, limits: &Limits, rows: &[Measured]) -> String {
    let name = |row: &Measured| row.as_ref().map_or_else(|failed| failed.work.len(), |row| row.work.len());
    let wide = rows.iter().map(name).max().unwrap_or(0).max(4);
    let mut text = format!(
        "{}: moves {:.1} GB/s, multiplies {:.2} TFLOP/s\n{:<wide$}  {:>10} {:>10} {:>10} {:>10} {:>10} {:>8} {:>8}\n",
        args.device.device,
        limits.bytes_per_second / 1e9,
        limits.flops_per_second / 1e12,
        "work",
        "median ms",
        "best ms",
        "host ms",
        "first ms",
        "floor ms",
        "x floor",
        "GiB",
    );
    for row in rows {
        let r = match row {
            Ok(row) => row,
            Err(Failed { work, error }) => {
                text.push_str(&format!("{work:<wide$}  failed: {}\n", error.replace('\n', " ")));
                continue;
            }
        };
        let memory = r.memory_gib.map_or_else(|| "-".into(), gib);
        text.push_str(&format!(
            "{:<wide$}  {:>10.2} {:>10.2} {:>10.2} {:>10.1} {:>10.3} {:>8.1} {memory:>8}\n",
            r.work, r.median_ms, r.best_ms, r.host_ms, r.first_ms, r.floor_ms, r.times_floor,
        ));
    }
    text
}
