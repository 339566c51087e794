//! The fuser of all layers.

use std::sync::MutexGuard;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor, TensorData};
use c2c_kernels::KernelBackend;
use c2c_lm::{LayerKv, Lm, to_dtype};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::all_in_one::AllInOne;
use crate::paper::PaperNetwork;
use crate::{FuserConfig, FuserError, GateDraw};

/// How the gates and dropout behave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FuserMode {
    /// Soft, noisy gates at this temperature; dropout on.
    Train {
        /// The temperature, from [`crate::anneal`].
        temperature: f64,
        /// Where the noise comes from.
        draw: GateDraw,
    },
    /// Hard gates, no dropout.
    Infer,
}

impl FuserMode {
    /// Seeds the device's generator if draws are to be made; they are this thread's until the guard is dropped.
    pub(crate) fn drawing<B: Backend>(self, device: &B::Device) -> Option<MutexGuard<'static, ()>> {
        match self {
            Self::Train { draw, .. } => draw.begin::<B>(device),
            Self::Infer => None,
        }
    }

    /// The mode of a fused section of a batch, counted from 0.
    pub(crate) fn of_section(self, section: usize) -> Self {
        match self {
            Self::Train { temperature, draw } => Self::Train { temperature, draw: draw.of_section(section) },
            Self::Infer => Self::Infer,
        }
    }
}

/// The fusers of all receiver layers, stacked (paper section 3.3, figure 5).
///
/// For every layer, once for keys and once for values, with `s` the sharer's and `t` the receiver's heads joined:
/// `u = trunk(input([s, t]))`, `p = output(projection(u))`, `w = sigmoid(weight_head(weight_mlp(u)))` per head, and
/// the result is `t + gate * w * p`. With [`FuserConfig::all_in_one`] it is that network instead.
#[derive(Module, Debug)]
pub struct Fuser<B: Backend> {
    #[module(skip)]
    config: FuserConfig,
    /// The branches that the parameters hold, if not all of them: [`Fuser::for_inference`], [`Fuser::load_open`].
    #[module(skip)]
    open: Option<Vec<usize>>,
    /// The gate logits of all branches, if the parameters don't hold them.
    #[module(skip)]
    logits: Option<Vec<f32>>,
    network: Network<B>,
}

/// What is between the two caches. A program holds one fuser or a few, so their size is no matter.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
enum Network<B: Backend> {
    Paper(PaperNetwork<B>),
    AllInOne(AllInOne<B>),
}

impl<B: Backend> Fuser<B> {
    /// A new fuser: linear weights and biases uniform within `1 / sqrt(fan_in)`, norms 1, gates at their start.
    ///
    /// The same seed gives the same fuser on every backend.
    ///
    /// # Errors
    /// A config out of range.
    pub fn init(config: &FuserConfig, seed: u64, device: &B::Device) -> Result<Self, FuserError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let gate = config.initial_gate_logit as f32;
        let zero_output = config.zero_init;
        let initial_weight = config.all_in_one.as_ref().map_or(0.0, |choices| choices.initial_weight) as f32;
        // Of the last weight: a bias follows its own.
        let mut fan_in = 1;
        Self::build(config, config.branches(), device, &mut |name, shape| {
            let count = shape.iter().product();
            match name {
                "gate_logit" => return vec![gate; count],
                "weight" => return vec![initial_weight; count],
                name if name.ends_with(".norm") || name.ends_with(".norm.weight") => return vec![1.0; count],
                name if name.ends_with(".norm.bias") => return vec![0.0; count],
                name if name.ends_with(".bias") => {}
                _ => fan_in = shape[1],
            }
            let bound = 1.0 / (fan_in as f64).sqrt();
            let drawn = (0..count).map(|_| ((rng.random::<f64>() * 2.0 - 1.0) * bound) as f32).collect();
            if zero_output && name.starts_with("output.") { vec![0.0; count] } else { drawn }
        })
    }

    /// A fuser whose parameters are read by name; `read` returns row-major values or a line saying why not.
    ///
    /// # Errors
    /// A config out of range; all missing and misshapen parameters at once.
    pub fn load(
        config: &FuserConfig,
        device: &B::Device,
        read: impl FnMut(&str, [usize; 3]) -> Result<Vec<f32>, String>,
    ) -> Result<Self, FuserError> {
        Self::load_branches(config, config.branches(), device, read)
    }

    /// A fuser for inference that holds only the branches `open`, ascending; `logits` are the gate logits of all of
    /// them. `read` is asked for every parameter but these, with one row a branch that is held.
    ///
    /// # Errors
    /// A config out of range, a branch that doesn't exist or whose gate is shut, none at all; all missing and misshapen
    /// parameters at once.
    pub fn load_open(
        config: &FuserConfig,
        open: Vec<usize>,
        logits: Vec<f32>,
        device: &B::Device,
        mut read: impl FnMut(&str, [usize; 3]) -> Result<Vec<f32>, String>,
    ) -> Result<Self, FuserError> {
        let bad = |found: String, expected: &str| FuserError::Config { key: "open", found, expected: expected.into() };
        if config.all_in_one.is_some() {
            return Err(bad(format!("{open:?}"), "all branches of an all-in-one network"));
        }
        if logits.len() != config.branches() {
            return Err(bad(format!("{} gate logits", logits.len()), "one a branch"));
        }
        if open.is_empty() || !open.is_sorted_by(|a, b| a < b) {
            return Err(bad(format!("{open:?}"), "one branch or more, ascending"));
        }
        if let Some(branch) = open.iter().find(|b| logits.get(**b).is_none_or(|logit| *logit <= 0.0)) {
            return Err(bad(format!("branch {branch}"), "branches whose gate is open"));
        }
        let mut fuser = Self::load_branches(config, open.len(), device, |name, shape| {
            if name == "gate_logit" { Ok(vec![1.0; shape[0]]) } else { read(name, shape) }
        })?;
        (fuser.open, fuser.logits) = (Some(open), Some(logits));
        Ok(fuser)
    }

    fn load_branches(
        config: &FuserConfig,
        branches: usize,
        device: &B::Device,
        mut read: impl FnMut(&str, [usize; 3]) -> Result<Vec<f32>, String>,
    ) -> Result<Self, FuserError> {
        let mut problems = Vec::new();
        let fuser = Self::build(config, branches, device, &mut |name, shape| {
            let count: usize = shape.iter().product();
            match read(name, shape) {
                Ok(values) if values.len() == count => return values,
                Ok(values) => problems.push(format!("  {name}: found {} values, expected {shape:?}", values.len())),
                Err(problem) => problems.push(problem),
            }
            vec![0.0; count]
        })?;
        if problems.is_empty() { Ok(fuser) } else { Err(FuserError::Weights(problems)) }
    }

    fn build(
        config: &FuserConfig,
        m: usize,
        device: &B::Device,
        values: &mut crate::stacked::Values<'_>,
    ) -> Result<Self, FuserError> {
        config.validate()?;
        let network = match &config.all_in_one {
            Some(choices) => Network::AllInOne(AllInOne::new(config, choices, device, values)),
            None => Network::Paper(PaperNetwork::new(config, m, device, values)),
        };
        Ok(Self { config: config.clone(), open: None, logits: None, network })
    }

    /// The configuration.
    pub fn config(&self) -> &FuserConfig {
        &self.config
    }

    /// The branches that the fuser holds, if not all: [`Fuser::load_open`], [`Fuser::for_inference`].
    pub fn open_branches(&self) -> Option<&[usize]> {
        self.open.as_deref()
    }

    /// How much of the Sharer has to run: the highest of its layers that a branch held here reads, plus one; 0 if none is held.
    ///
    /// At most [`FuserConfig::sharer_depth`], which is that of all branches. An all-in-one network holds all of them.
    pub fn sharer_depth(&self) -> usize {
        let map = &self.config.layer_map;
        match (&self.open, &self.network) {
            (Some(open), Network::Paper(_)) => open.iter().map(|branch| map[branch % map.len()] + 1).max().unwrap_or(0),
            _ => self.config.sharer_depth(),
        }
    }

    /// The same fuser with parameters in another number format.
    pub fn cast(self, dtype: DType) -> Self {
        self.map(&mut Ready { keep: None, dtype })
    }

    /// Every parameter with its name in the artefact, in a fixed order. All have rank 3: `[branches, .., ..]`.
    pub fn named_params(&self) -> Vec<(String, &Param<Tensor<B, 3>>)> {
        let mut out = Vec::new();
        match &self.network {
            Network::Paper(network) => network.named(&mut out),
            Network::AllInOne(network) => network.named(&mut out),
        }
        out
    }

    fn gate_logit(&self) -> Option<&Param<Tensor<B, 3>>> {
        match &self.network {
            Network::Paper(network) => network.gate_logit.as_ref(),
            Network::AllInOne(network) => network.gate_logit.as_ref(),
        }
    }

    /// The network of the paper, if it is that.
    pub(crate) fn paper(&self) -> Option<&PaperNetwork<B>> {
        match &self.network {
            Network::Paper(network) => Some(network),
            Network::AllInOne(_) => None,
        }
    }

    /// The gate logits of keys and of values, by layer; infinite in a fuser without gates, which is always open.
    ///
    /// Of an all-in-one network, where keys and values share their gates: the highest of the layer; infinite if the gates
    /// depend on the input.
    ///
    /// # Errors
    /// A tensor that can't be read back from the device.
    pub fn gate_logits(&self) -> Result<(Vec<f32>, Vec<f32>), FuserError> {
        if let Some(logits) = &self.logits {
            let (keys, values) = logits.split_at(self.config.layers());
            return Ok((keys.to_vec(), values.to_vec()));
        }
        let Some(logit) = self.gate_logit() else {
            let open = vec![f32::INFINITY; self.config.layers()];
            return Ok((open.clone(), open));
        };
        let data = logit.val().try_into_data();
        let data = data.map_err(|e| c2c_lm::LmError::Readback(format!("{e:?}")))?;
        let mut keys: Vec<f32> = data.iter::<f32>().collect();
        if self.config.all_in_one.is_some() {
            let rows = keys.chunks((keys.len() / self.config.layers()).max(1));
            let highest: Vec<f32> = rows.map(|row| row.iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect();
            return Ok((highest.clone(), highest));
        }
        let values = keys.split_off(self.config.layers());
        Ok((keys, values))
    }

    /// The same fuser with every gate shut: fusion then returns the receiver's cache unchanged.
    pub fn with_gates_shut(mut self) -> Self {
        match (&mut self.network, &self.open) {
            (Network::Paper(PaperNetwork { gate_logit: Some(logit), .. }), None) => {
                *logit = logit.clone().map(|g| g.zeros_like());
            }
            // No gates, or only open branches, or gates that leave the receiver's cache changed: then no branch is left to work.
            _ => {
                self.logits = Some(vec![0.0; self.config.branches()]);
                self.open = Some(Vec::new());
            }
        }
        self
    }

    /// Checks that the two models are of the shape this fuser was made for.
    ///
    /// # Errors
    /// The first difference.
    pub fn check_models<B1: Backend, B2: Backend>(&self, receiver: &Lm<B1>, sharer: &Lm<B2>) -> Result<(), FuserError> {
        let (c, r, s) = (&self.config, receiver.config(), sharer.config());
        for (model, what, expected, found) in [
            ("receiver", "layers", c.layers(), r.num_layers),
            ("receiver", "key and value heads", c.receiver_heads, r.num_kv_heads),
            ("receiver", "head width", c.receiver_head_dim, r.head_dim),
            ("sharer", "layers", c.sharer_layers, s.num_layers),
            ("sharer", "key and value heads", c.sharer_heads, s.num_kv_heads),
            ("sharer", "head width", c.sharer_head_dim, s.head_dim),
        ] {
            if expected != found {
                return Err(FuserError::ModelMismatch { model, what, expected, found });
            }
        }
        Ok(())
    }
}

impl<B: KernelBackend> Fuser<B> {
    /// The same fuser ready to work: branches whose gate is shut are left out, and the rest is cast to what
    /// [`Fuser::fuse`] computes in for caches of this dtype. The results are those of the whole fuser.
    ///
    /// Only for inference: the parameters are no longer those of the artefact.
    ///
    /// # Errors
    /// Gates that can't be read back from the device.
    pub fn for_inference(mut self, caches: DType) -> Result<Self, FuserError> {
        let Some(device) = self.named_params().first().map(|(_, param)| param.val().device()) else { return Ok(self) };
        let dtype = work_dtype::<B>(caches, &device);
        self.network = match self.network {
            Network::Paper(network) => Network::Paper(network.folded()),
            // Nothing of it can be left out: a shut gate may leave the receiver's cache changed.
            Network::AllInOne(_) => return Ok(self.map(&mut Ready { keep: None, dtype })),
        };
        let open = match self.open.take() {
            // Only open branches are held already.
            Some(open) => {
                let mut fuser = self.map(&mut Ready { keep: None, dtype });
                fuser.open = Some(open);
                return Ok(fuser);
            }
            None => {
                let (keys, values) = self.gate_logits()?;
                let logits = [keys, values].concat();
                let open: Vec<usize> = (0..logits.len()).filter(|branch| logits[*branch] > 0.0).collect();
                self.logits = Some(logits);
                open
            }
        };
        if open.is_empty() {
            self.open = Some(open);
            return Ok(self);
        }
        let keep = (open.len() < self.config.branches()).then(|| {
            let indexes = open.iter().map(|branch| *branch as i32).collect();
            Tensor::from_data(TensorData::new(indexes, [open.len()]), &device)
        });
        let mut fuser = self.map(&mut Ready { keep, dtype });
        // Open gates are 1; a small logit must not become 0 by rounding.
        if let Network::Paper(PaperNetwork { gate_logit: Some(logit), .. }) = &mut fuser.network {
            *logit = logit.clone().map(|g| g.ones_like());
        }
        fuser.open = Some(open);
        Ok(fuser)
    }

    /// Fuses caches of the same tokens.
    ///
    /// # Shapes
    /// `sharer`: one `[batch, sharer_heads, tokens, sharer_head_dim]` pair for each *sharer* layer up to the highest one
    /// that is read ([`Fuser::sharer_depth`]); `receiver` and the result: one `[batch, receiver_heads, tokens,
    /// receiver_head_dim]` pair a receiver layer. Results are f32 if the receiver's cache is, else in its dtype.
    ///
    /// # Errors
    /// Another number of layers, heads, rows or tokens than the fuser was made for.
    pub fn fuse(
        &self,
        sharer: &[LayerKv<B>],
        receiver: &[LayerKv<B>],
        mode: FuserMode,
    ) -> Result<Vec<LayerKv<B>>, FuserError> {
        self.check_alike(sharer, receiver)?;
        let c = &self.config;
        let layers = c.layers();
        let open = &self.held_branches();
        if open.is_empty() {
            return Ok(receiver.to_vec());
        }
        let [batch, heads, tokens, head_dim] = receiver[0].key.dims();
        c.check_tokens(tokens)?;

        let dtype = receiver[0].key.dtype();
        let [x, own] = self.stacked(sharer, receiver, open);
        let _drawing = mode.drawing::<B>(&receiver[0].key.device());
        let fused = match &self.network {
            Network::AllInOne(network) => network.fuse(c, x, own, batch, mode),
            Network::Paper(network) => self.fuse_rows(network, x, own, mode),
        };
        let fused = to_dtype(fused, dtype);
        let branch = |m: usize| fused.clone().narrow(0, m, 1).reshape([batch, tokens, heads, head_dim]).swap_dims(1, 2);
        let pick = |m: usize, own: &Tensor<B, 4>| open.binary_search(&m).map_or_else(|_| own.clone(), &branch);
        let fused_layer =
            |(l, own): (usize, &LayerKv<B>)| LayerKv { key: pick(l, &own.key), value: pick(layers + l, &own.value) };
        Ok(receiver.iter().enumerate().map(fused_layer).collect())
    }

    /// The paper's arithmetic on the branches that the parameters hold, `[branches, rows, width]` each.
    fn fuse_rows(
        &self,
        network: &PaperNetwork<B>,
        x: Tensor<B, 3>,
        own: Tensor<B, 3>,
        mode: FuserMode,
    ) -> Tensor<B, 3> {
        let scaled = network.scaled(&self.config, self.joined(x, &own), mode);
        if self.config.parts.receiver { own + scaled } else { scaled }
    }

    /// What the network of the paper reads: the sharer's rows, and behind them the receiver's unless an ablation leaves them out.
    pub(crate) fn joined(&self, x: Tensor<B, 3>, own: &Tensor<B, 3>) -> Tensor<B, 3> {
        if self.config.parts.receiver { Tensor::cat(vec![x, own.clone()], 2) } else { x }
    }

    /// The sharer's and the receiver's caches for these branches, heads joined, in what fusion computes in:
    /// `[branches, batch * tokens, width]` each. The caches have been checked.
    pub(crate) fn stacked(
        &self,
        sharer: &[LayerKv<B>],
        receiver: &[LayerKv<B>],
        branches: &[usize],
    ) -> [Tensor<B, 3>; 2] {
        let (map, layers) = (&self.config.layer_map, self.config.layers());
        let work = work_dtype::<B>(receiver[0].key.dtype(), &receiver[0].key.device());
        // Of the sharer what no branch reads may not be there.
        [
            stack(|layer| &sharer[map[layer]], layers, branches, work),
            stack(|layer| &receiver[layer], layers, branches, work),
        ]
    }

    /// The branches that the parameters hold: keys of all layers, then values.
    pub(crate) fn held_branches(&self) -> Vec<usize> {
        self.open.clone().unwrap_or_else(|| (0..self.config.branches()).collect())
    }

    /// Checks layers, heads, rows and tokens of caches of the same tokens.
    pub(crate) fn check_alike(&self, sharer: &[LayerKv<B>], receiver: &[LayerKv<B>]) -> Result<(), FuserError> {
        let tokens = receiver.first().map_or(0, |kv| kv.key.dims()[2]);
        self.check_caches(sharer, receiver, [tokens; 2])
    }

    /// Checks layers, heads and rows of both caches, of the sharer's as far as they are read; `slots` are those that the
    /// sharer's and the receiver's tensors should have.
    pub(crate) fn check_caches<C: Backend>(
        &self,
        sharer: &[LayerKv<C>],
        receiver: &[LayerKv<C>],
        slots: [usize; 2],
    ) -> Result<(), FuserError> {
        let c = &self.config;
        let bad = |what, expected: String, found: String| Err(FuserError::Shape { what, expected, found });
        if receiver.len() != c.layers() {
            return bad("receiver layers", c.layers().to_string(), receiver.len().to_string());
        }
        let depth = self.sharer_depth();
        if sharer.len() < depth {
            return bad("sharer layers of at least", depth.to_string(), sharer.len().to_string());
        }
        let batch = receiver[0].key.dims()[0];
        let own = [batch, c.receiver_heads, slots[1], c.receiver_head_dim];
        let other = [batch, c.sharer_heads, slots[0], c.sharer_head_dim];
        let receiver = receiver.iter().map(|kv| ("a receiver cache of shape", own, kv));
        let sharer = sharer.iter().take(depth).map(|kv| ("a sharer cache of shape", other, kv));
        for (what, expected, kv) in receiver.chain(sharer) {
            for found in [kv.key.dims(), kv.value.dims()] {
                if found != expected {
                    return bad(what, format!("{expected:?}"), format!("{found:?}"));
                }
            }
        }
        Ok(())
    }
}

/// What fusion computes in: bf16 caches are fused in bf16 where its products are fast (f32 parameters are cast, once a
/// call), else everything in f32.
pub(crate) fn work_dtype<B: KernelBackend>(caches: DType, device: &B::Device) -> DType {
    if B::has_fast_bf16(device) { caches } else { DType::F32 }
}

/// Selects the open branches of every parameter and casts it.
struct Ready<B: Backend> {
    keep: Option<Tensor<B, 1, Int>>,
    dtype: DType,
}

impl<B: Backend> ModuleMapper<B> for Ready<B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.map(|value| {
            let value = match &self.keep {
                Some(keep) => value.select(0, keep.clone()),
                None => value,
            };
            to_dtype(value, self.dtype)
        })
    }
}

/// The given branches (keys of all layers, then values), heads joined: `[branches, batch * tokens, heads * head_dim]`.
/// `of` is only asked for their layers.
fn stack<'a, B: Backend>(
    of: impl Fn(usize) -> &'a LayerKv<B>,
    layers: usize,
    branches: &[usize],
    dtype: DType,
) -> Tensor<B, 3> {
    let flat = |x: &Tensor<B, 4>| {
        let [batch, heads, tokens, head_dim] = x.dims();
        to_dtype(x.clone(), dtype).swap_dims(1, 2).reshape([1, batch * tokens, heads * head_dim])
    };
    let pick = |m: &usize| if *m < layers { flat(&of(*m).key) } else { flat(&of(*m - layers).value) };
    Tensor::cat(branches.iter().map(pick).collect(), 0)
}
