//! `c2c bench`: how fast this machine does the work, and how far that is from what it could do.

use std::path::{Path, PathBuf};

use burn::DispatchDevice;
use c2c_lm::{LmConfig, ModelDtype};
use serde_json::{Value, json};

use crate::DeviceOption;
use crate::bench::{Bench, Floor, Limits, RECEIVER, Row, SHARER, measure, time, wait};
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
    let start = std::time::Instant::now();
    wait(&device).map_err(environment)?;
    let limits = measure(&device, dtype.dtype()).map_err(environment)?;
    let bench = Bench::new(receiver, sharer, fuser, dtype, &device).map_err(environment)?;
    let setup = start.elapsed().as_secs_f64();
    eprintln!("limits and weights ready after {setup:.1} s");

    let mut runner = Runner { args, device: &device, limits: &limits, rows: Vec::new() };
    runner.all(&bench, [rows, context, response]).map_err(environment)?;
    let out = runner.rows;
    if out.is_empty() {
        return Err(usage(anyhow::anyhow!("no row's name contains the text given with --only")));
    }
    if args.json {
        crate::print(&format!("{:#}\n", report(args, &bench, &limits, setup, &out)));
    } else {
        crate::print(&table(args, &limits, &out));
    }
    Ok(())
}

type Work<'a> = Box<dyn FnMut() -> anyhow::Result<()> + 'a>;

/// Tokens of a decoding run.
const DECODED: usize = 16;

struct Runner<'a> {
    args: &'a Args,
    device: &'a DispatchDevice,
    limits: &'a Limits,
    rows: Vec<Row>,
}

impl Runner<'_> {
    fn all(&mut self, b: &Bench, [rows, context, response]: [usize; 3]) -> anyhow::Result<()> {
        let s = &b.shapes;
        for &n in &self.args.context {
            let floor = s.receiver_prefill(1, n);
            self.row(format!("receiver prefill {n}"), 1, floor, || Ok(Box::new(b.receiver_prefill(n)?)))?;
            self.row(format!("sharer prefill {n}"), 1, s.sharer_prefill(1, n), || Ok(Box::new(b.sharer_prefill(n)?)))?;
            self.row(format!("fusers on {n} tokens"), 1, s.fusers(n), || Ok(Box::new(b.fusers(n)?)))?;
            self.row(format!("C2C prefill {n}"), 1, s.c2c_prefill(1, n), || Ok(Box::new(b.c2c_prefill(1, n)?)))?;
            for &rows in &self.args.batch {
                let name = format!("C2C prefill {rows} x {n}");
                self.row(name, 1, s.c2c_prefill(rows, n), || Ok(Box::new(b.c2c_prefill(rows, n)?)))?;
            }
        }
        let n = self.args.decode_context;
        let name = format!("decode a token after {n} fused");
        self.row(name, DECODED, s.decode(1, n), || Ok(Box::new(b.decode(1, n, DECODED)?)))?;
        for &rows in &self.args.batch {
            let name = format!("decode {rows} tokens after {rows} x {n} fused");
            self.row(name, DECODED, s.decode(rows, n), || Ok(Box::new(b.decode(rows, n, DECODED)?)))?;
        }
        let name = format!("training step {rows} x ({context} + {response})");
        let floor = s.train_step(rows, context, response);
        self.row(name, 1, floor, || Ok(Box::new(b.train_step(rows, context, response)?)))
    }

    fn row<'w>(
        &mut self,
        name: String,
        scale: usize,
        floor: Floor,
        make: impl FnOnce() -> anyhow::Result<Work<'w>>,
    ) -> anyhow::Result<()> {
        if self.args.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            return Ok(());
        }
        let done = time(self.device, name, self.args.repeats, scale as f64, floor, self.limits, &mut make()?)?;
        eprintln!("{}: first {:.1} ms, then {:.2} ms", done.work, done.first_ms, done.median_ms);
        self.rows.push(done);
        Ok(())
    }
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

fn report(args: &Args, bench: &Bench, limits: &Limits, setup: f64, rows: &[Row]) -> Value {
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

fn table(args: &Args, limits: &Limits, rows: &[Row]) -> String {
    let wide = rows.iter().map(|r| r.work.len()).max().unwrap_or(0).max(4);
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
    for r in rows {
        let memory = r.memory_gib.map_or_else(|| "-".into(), |gib| format!("{gib:.1}"));
        text.push_str(&format!(
            "{:<wide$}  {:>10.2} {:>10.2} {:>10.2} {:>10.1} {:>10.3} {:>8.1} {memory:>8}\n",
            r.work, r.median_ms, r.best_ms, r.host_ms, r.first_ms, r.floor_ms, r.times_floor,
        ));
    }
    text
}
