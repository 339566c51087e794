//! The pieces of work that are timed.

use std::sync::{Arc, OnceLock};

use burn::optim::Optimizer;
use burn::train::TrainStep;
use burn::{Dispatch, DispatchDevice};
use c2c_fuser::{BatchSection, C2c, Fuser, FuserConfig, FuserMode, Fusion, GateDraw, LayerMapping, PairBatch};
use c2c_kernels::{KernelBackend, long_lived};
use c2c_lm::{KvCache, Lm, LmConfig, LogitsWanted, ModelDtype, TokenBatch, synthetic};
use c2c_train::grads::{clip_factor, global_norm};
use c2c_train::{ErrorSlot, FrozenPair, FuserModule, FuserOptimizer, TrainItem};

use super::{Shapes, wait};

/// The seed of the fuser. Ids are counted up, so that no two tokens are alike.
const SEED: u64 = 42;
/// Where training steps clip: the recipes' default.
const MAX_GRAD_NORM: f64 = 1.0;

/// A piece of work that is timed again and again.
pub trait Work {
    /// Brings back what a run starts from; not timed.
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// What is timed.
    fn run(&mut self) -> anyhow::Result<()>;
}

/// Work that changes nothing which its next run meets.
impl<F: FnMut() -> anyhow::Result<()>> Work for F {
    fn run(&mut self) -> anyhow::Result<()> {
        self()
    }
}

/// A pair with random weights on a device.
pub struct Bench {
    device: DispatchDevice,
    dtype: ModelDtype,
    receiver: Lm<Dispatch>,
    sharer: Lm<Dispatch>,
    /// Made when a row needs it: training holds another one, whose memory is measured.
    c2c: OnceLock<C2c<Dispatch>>,
    /// What the pair looks like.
    pub shapes: Shapes,
}

impl Bench {
    /// Makes the pair.
    pub fn new(
        receiver: LmConfig,
        sharer: LmConfig,
        fuser: FuserConfig,
        dtype: ModelDtype,
        device: &DispatchDevice,
    ) -> anyhow::Result<Self> {
        let element = match dtype {
            ModelDtype::F32 => 4.0,
            ModelDtype::Bf16 => 2.0,
        };
        let make = || (synthetic(&receiver, dtype, device), synthetic(&sharer, dtype, device));
        let (of_receiver, of_sharer) = long_lived(device, make);
        wait(device)?;
        let shapes = Shapes { receiver, sharer, fuser, element };
        let c2c = OnceLock::new();
        Ok(Self { device: device.clone(), dtype, receiver: of_receiver, sharer: of_sharer, c2c, shapes })
    }

    /// The pair with a fuser as inference holds it.
    fn c2c(&self) -> anyhow::Result<&C2c<Dispatch>> {
        if let Some(c2c) = self.c2c.get() {
            return Ok(c2c);
        }
        let make = || Fuser::init(&self.shapes.fuser, SEED, &self.device)?.for_inference(self.dtype.dtype());
        let fuser = long_lived(&self.device, make)?;
        let (receiver, sharer) = (self.receiver.clone(), self.sharer.clone());
        Ok(self.c2c.get_or_init(|| C2c { receiver, sharer, fuser }))
    }

    /// The paper's fuser between two models, of this hidden width and with every gate open.
    pub fn fuser_config(receiver: &LmConfig, sharer: &LmConfig, hidden: usize) -> FuserConfig {
        FuserConfig {
            hidden_dim: hidden,
            intermediate_dim: hidden,
            initial_gate_logit: 1.0,
            ..FuserConfig::between(receiver, sharer, LayerMapping::LastAligned)
        }
    }

    fn tokens(&self, rows: usize, start: usize, tokens: usize) -> anyhow::Result<TokenBatch> {
        let vocab = self.shapes.receiver.vocab_size.min(self.shapes.sharer.vocab_size);
        let ids = |row: usize| (0..tokens).map(|t| ((row * 977 + (start + t) * 31 + 5) % vocab) as u32).collect();
        Ok(TokenBatch::new((0..rows).map(ids).collect(), start)?)
    }

    /// One fused section of `context` tokens and a last one of `last`, all of it labelled.
    fn batch(&self, rows: usize, context: usize, last: usize) -> anyhow::Result<PairBatch> {
        let section = |start: usize, tokens: usize, fuse: bool| -> anyhow::Result<BatchSection> {
            let both = self.tokens(rows, start, tokens)?;
            let label = |id: &u32| (!fuse).then_some(*id);
            let labels = both.ids().iter().map(|row| row.iter().map(label).collect::<Vec<_>>()).collect();
            Ok(BatchSection { receiver: both.clone(), sharer: both, fuse, labels })
        };
        Ok(PairBatch::new(vec![section(0, context, true)?, section(context, last, false)?])?)
    }

    /// The receiver alone over `tokens` tokens.
    pub fn receiver_prefill(&self, tokens: usize) -> anyhow::Result<impl FnMut() -> anyhow::Result<()> + '_> {
        let batch = self.tokens(1, 0, tokens)?;
        Ok(move || {
            let mut cache = self.receiver.new_cache(1);
            self.receiver.forward(&batch, &mut cache, LogitsWanted::Last)?;
            Ok(())
        })
    }

    /// The sharer's layers that the fuser reads.
    pub fn sharer_prefill(&self, tokens: usize) -> anyhow::Result<impl FnMut() -> anyhow::Result<()> + '_> {
        let batch = self.tokens(1, 0, tokens)?;
        Ok(move || {
            let mut cache = self.sharer.new_cache(1);
            self.sharer.fill_cache(&batch, &mut cache, self.shapes.fuser.sharer_depth())?;
            Ok(())
        })
    }

    /// All fusers over `tokens` tokens of ready caches.
    pub fn fusers(&self, tokens: usize) -> anyhow::Result<impl FnMut() -> anyhow::Result<()> + '_> {
        let batch = self.tokens(1, 0, tokens)?;
        let C2c { receiver, sharer, fuser } = self.c2c()?;
        let (mut own, mut other) = (receiver.new_cache(1), sharer.new_cache(1));
        receiver.fill_cache(&batch, &mut own, self.shapes.receiver.num_layers)?;
        sharer.fill_cache(&batch, &mut other, self.shapes.fuser.sharer_depth())?;
        Ok(move || {
            fuser.fuse_cache(&other, &mut own, 0..tokens, FuserMode::Infer)?;
            Ok(())
        })
    }

    /// The whole prompt: `tokens` fused tokens, less one that is read on the fused cache.
    pub fn c2c_prefill(&self, rows: usize, tokens: usize) -> anyhow::Result<impl FnMut() -> anyhow::Result<()> + '_> {
        let batch = self.batch(rows, tokens - 1, 1)?;
        // The fuser is drawn before the clock starts.
        let c2c = self.c2c()?;
        Ok(move || {
            c2c.prefill(&batch, Fusion::On, LogitsWanted::Last)?;
            Ok(())
        })
    }

    /// `steps` tokens after each of `rows` fused prompts, chosen on the device and read back before the next.
    pub fn decode(&self, rows: usize, context: usize, steps: usize) -> anyhow::Result<Decode<'_>> {
        let prompts = self.batch(rows, context - 1, 1)?;
        let mut decode = Decode {
            bench: self,
            c2c: self.c2c()?,
            prompts,
            context,
            steps,
            read: None,
            cache: self.receiver.new_cache(rows),
        };
        // Where kernels write into the room behind a cache, a copy of it, which has no room, would be moved first.
        if !Dispatch::has_kernels(&self.device) {
            decode.read = Some(decode.prefilled()?);
        }
        Ok(decode)
    }

    /// A whole training step: contexts, fusers, response, loss, backward, gradient norm, clipping, optimiser. Loss and norm are read
    /// back before the optimiser moves, as training does to stop where they aren't finite.
    pub fn train_step(
        &self,
        rows: usize,
        context: usize,
        response: usize,
    ) -> anyhow::Result<impl FnMut() -> anyhow::Result<()> + '_> {
        // What measuring the limits left in the pool isn't the training's.
        wait(&self.device)?;
        c2c_kernels::release_unused(&self.device);
        let autodiff = DispatchDevice::autodiff(self.device.clone());
        let pair = Arc::new(FrozenPair::<Dispatch>::new(self.receiver.clone(), self.sharer.clone()));
        let make = || Fuser::<Dispatch>::init(&self.shapes.fuser, SEED, &autodiff);
        let fuser = long_lived(&autodiff, make)?;
        let mut module = Some(FuserModule { fuser });
        let mut optimizer = FuserOptimizer::<Dispatch>::new(0.9, 0.999, 1e-8, 0.01);
        let batch = Arc::new(self.batch(rows, context, response)?);
        Ok(move || {
            let Some(model) = module.take() else { anyhow::bail!("the step before this one failed") };
            let mode = FuserMode::Train { temperature: 1.0, draw: GateDraw::Seeded(SEED) };
            let errors = ErrorSlot::default();
            let item =
                TrainItem { batch: batch.clone(), contexts: None, pair: pair.clone(), mode, errors: errors.clone() };
            let output = TrainStep::step(&model, item);
            if let Some(error) = errors.take() {
                return Err(error.into());
            }
            let norm = global_norm::<Dispatch, _>(&model, &output.grads)?;
            let loss = output.item.loss_value();
            anyhow::ensure!(norm.is_finite() && loss.is_finite(), "a step of loss {loss} and gradient norm {norm}");
            optimizer.scale_gradients(clip_factor(norm, MAX_GRAD_NORM));
            module = Some(optimizer.step(1e-4, model, output.grads));
            Ok(())
        })
    }

    /// The dtype of the models.
    pub fn dtype(&self) -> ModelDtype {
        self.dtype
    }
}

/// Decoding behind fused prompts; every run starts at their end.
pub struct Decode<'a> {
    bench: &'a Bench,
    c2c: &'a C2c<Dispatch>,
    prompts: PairBatch,
    context: usize,
    steps: usize,
    /// What the prompts leave behind, where a copy of it is as good.
    read: Option<KvCache<Dispatch>>,
    cache: KvCache<Dispatch>,
}

impl Decode<'_> {
    fn prefilled(&self) -> anyhow::Result<KvCache<Dispatch>> {
        Ok(self.c2c.prefill(&self.prompts, Fusion::On, LogitsWanted::Last)?.cache)
    }
}

impl Work for Decode<'_> {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.cache = match &self.read {
            Some(read) => read.clone(),
            None => self.prefilled()?,
        };
        Ok(())
    }

    fn run(&mut self) -> anyhow::Result<()> {
        for step in 0..self.steps {
            let tokens = self.bench.tokens(self.prompts.rows(), self.context + step, 1)?;
            let logits = self.c2c.receiver.forward(&tokens, &mut self.cache, LogitsWanted::Last)?;
            c2c_lm::greedy(logits)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_repeat_of_decoding_starts_at_the_prompts_end() {
        let device = crate::device::DeviceArg::Cpu.open().unwrap();
        let json = serde_json::json!({
            "model_type": "qwen3", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64,
        });
        let model = LmConfig::from_json(&json, "config.json".as_ref()).unwrap();
        let fuser = Bench::fuser_config(&model, &model, 8);
        let bench = Bench::new(model.clone(), model, fuser, ModelDtype::F32, &device).unwrap();
        let mut work = bench.decode(2, 9, 3).unwrap();
        for _ in 0..4 {
            work.prepare().unwrap();
            assert_eq!(work.cache.len(), 9);
            work.run().unwrap();
            assert_eq!(work.cache.len(), 12);
        }
    }
}
