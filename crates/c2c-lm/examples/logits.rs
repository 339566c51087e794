//! Logits of a model folder for seeded random prompts: what another program compares itself with.
//!
//! ```sh
//! cargo run --release -p c2c-lm --example logits -- MODEL OUT.safetensors
//! ```
//!
//! The file holds `input_ids` `[2, 24]` (int64) and `logits` `[2, 24, vocabulary]` (f32, computed on the CPU).

use std::error::Error;
use std::path::Path;

use burn::{Dispatch, DispatchDevice};
use c2c_lm::{Lm, LogitsWanted, ModelDtype, TokenBatch};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

const ROWS: usize = 2;
const TOKENS: usize = 24;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, out] = args.as_slice() else { return Err("usage: logits MODEL OUT.safetensors".into()) };
    let device = DispatchDevice::Flex(burn_flex::FlexDevice);
    let model = Lm::<Dispatch>::from_dir(Path::new(dir), ModelDtype::F32, &device)?;
    let vocabulary = model.config().vocab_size;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let row = |_| (0..TOKENS).map(|_| rng.random_range(0..vocabulary as u32)).collect();
    let ids: Vec<Vec<u32>> = (0..ROWS).map(row).collect();
    let tokens = TokenBatch::new(ids.clone(), 0)?;
    let logits = model.forward(&tokens, &mut model.new_cache(ROWS), LogitsWanted::All)?;
    let logits = logits.into_data().convert::<f32>();
    let ids: Vec<u8> = ids.iter().flatten().flat_map(|id| i64::from(*id).to_le_bytes()).collect();
    let views = [
        ("input_ids", TensorView::new(Dtype::I64, vec![ROWS, TOKENS], &ids)?),
        ("logits", TensorView::new(Dtype::F32, vec![ROWS, TOKENS, vocabulary], logits.as_bytes())?),
    ];
    safetensors::serialize_to_file(views, None, Path::new(out))?;
    Ok(())
}
