//! Fuses seeded random caches and writes inputs and results: what another program compares itself with.
//!
//! ```sh
//! cargo run --release -p c2c-export --example fused_cases -- ARTEFACT OUT.safetensors [BATCHxTOKENS..]
//! ```
//!
//! Without shapes there are 20: lengths from 1 to 2,048 on both sides of powers of two, batches from 1 to 8.
//!
//! For the n-th shape the file holds `n.sharer_key`, `n.sharer_value` (of the sharer layers that are read),
//! `n.receiver_key`, `n.receiver_value`, `n.fused_key` and `n.fused_value`, f32 `[layers, batch, heads, tokens, head_dim]`.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use burn::tensor::Tensor;
use burn::{Dispatch, DispatchDevice};
use c2c_export::{artefact, random_caches};
use c2c_fuser::FuserMode;
use c2c_lm::LayerKv;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// What another program is compared on.
const SHAPES: [&str; 20] = [
    "1x1", "1x2", "1x3", "2x1", "8x1", "1x16", "1x17", "4x31", "2x32", "1x33", "1x127", "3x127", "1x128", "2x128",
    "1x255", "1x256", "1x511", "1x1024", "1x2047", "1x2048",
];

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, out, shapes @ ..] = args.as_slice() else {
        return Err("usage: fused_cases ARTEFACT OUT.safetensors [BATCHxTOKENS..]".into());
    };
    let shapes = if shapes.is_empty() { SHAPES.map(str::to_owned).to_vec() } else { shapes.to_vec() };
    let device = DispatchDevice::Flex(burn_flex::FlexDevice);
    let fuser = artefact::load::<Dispatch>(Path::new(dir), &device)?.fuser;
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (n, shape) in shapes.iter().enumerate() {
        let (batch, tokens) = shape.split_once('x').ok_or("a shape is BATCHxTOKENS")?;
        let [sharer, receiver] =
            random_caches::<Dispatch>(fuser.config(), batch.parse()?, tokens.parse()?, n as u64, &device);
        let fused = fuser.fuse(&sharer, &receiver, FuserMode::Infer)?;
        for (who, cache) in [("sharer", &sharer), ("receiver", &receiver), ("fused", &fused)] {
            for (side, part) in [("key", 0), ("value", 1)] {
                let layer = |kv: &LayerKv<Dispatch>| if part == 0 { kv.key.clone() } else { kv.value.clone() };
                let stacked: Tensor<Dispatch, 5> = Tensor::stack(cache.iter().map(layer).collect(), 0);
                let data = stacked.into_data().convert::<f32>();
                let bytes = data.iter::<f32>().flat_map(f32::to_le_bytes).collect();
                tensors.insert(format!("{n}.{who}_{side}"), (data.shape.iter().copied().collect(), bytes));
            }
        }
    }
    let views = tensors.iter().map(|(name, (shape, bytes))| {
        TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name.clone(), view))
    });
    let views = views.collect::<Result<Vec<_>, _>>()?;
    safetensors::serialize_to_file(views, None, Path::new(out))?;
    Ok(())
}
