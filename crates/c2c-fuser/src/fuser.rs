//! The fuser of all layers.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::activation;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor, TensorData};
use c2c_kernels::KernelBackend;
use c2c_lm::{LayerKv, Lm, to_dtype, to_f32};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::gate::{hard_gate, soft_gate};
use crate::stacked::{StackedFfn, StackedLinear, param};
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

/// The fusers of all receiver layers, stacked (paper section 3.3, figure 5).
///
/// For every layer, once for keys and once for values, with `s` the sharer's and `t` the receiver's heads joined:
/// `u = trunk(input([s, t]))`, `p = output(projection(u))`, `w = sigmoid(weight_head(weight_mlp(u)))` per head, and
/// the result is `t + gate * w * p`.
#[derive(Module, Debug)]
pub struct Fuser<B: Backend> {
    #[module(skip)]
    config: FuserConfig,
    /// The branches that the parameters hold, if not all of them: [`Fuser::for_inference`].
    #[module(skip)]
    open: Option<Vec<usize>>,
    /// `[branches, 1, 1]`.
    gate_logit: Param<Tensor<B, 3>>,
    input: StackedLinear<B>,
    trunk: StackedFfn<B>,
    weight_mlp: StackedFfn<B>,
    weight_head: StackedLinear<B>,
    projection: Vec<StackedFfn<B>>,
    output: StackedLinear<B>,
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
        let fan_in = [
            ("input.bias", config.sharer_width() + config.receiver_width()),
            ("weight_head.bias", config.hidden_dim),
            ("output.bias", config.hidden_dim),
        ];
        Self::build(config, device, &mut |name, shape| {
            let count = shape.iter().product();
            if name == "gate_logit" {
                return vec![gate; count];
            }
            if name.ends_with(".norm") {
                return vec![1.0; count];
            }
            let fan_in = fan_in.iter().find(|f| f.0 == name).map_or(shape[1], |f| f.1);
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
        mut read: impl FnMut(&str, [usize; 3]) -> Result<Vec<f32>, String>,
    ) -> Result<Self, FuserError> {
        let mut problems = Vec::new();
        let fuser = Self::build(config, device, &mut |name, shape| {
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
        device: &B::Device,
        values: &mut crate::stacked::Values<'_>,
    ) -> Result<Self, FuserError> {
        config.validate()?;
        let (m, h, i) = (config.branches(), config.hidden_dim, config.intermediate_dim);
        let (s, t) = (config.sharer_width(), config.receiver_width());
        Ok(Self {
            gate_logit: param(values, "gate_logit", [m, 1, 1], device),
            input: StackedLinear::new(values, "input", [m, s + t, h], device),
            trunk: StackedFfn::new(values, "trunk", [m, h, i], device),
            weight_mlp: StackedFfn::new(values, "weight_mlp", [m, h, h], device),
            weight_head: StackedLinear::new(values, "weight_head", [m, h, config.receiver_heads], device),
            projection: (0..config.num_layers - 2)
                .map(|b| StackedFfn::new(values, &format!("projection.{b}"), [m, h, i], device))
                .collect(),
            output: StackedLinear::new(values, "output", [m, h, t], device),
            config: config.clone(),
            open: None,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &FuserConfig {
        &self.config
    }

    /// Every parameter with its name in the artefact, in a fixed order. All have rank 3: `[branches, .., ..]`.
    pub fn named_params(&self) -> Vec<(String, &Param<Tensor<B, 3>>)> {
        let mut out = vec![("gate_logit".to_owned(), &self.gate_logit)];
        self.input.named("input", &mut out);
        self.trunk.named("trunk", &mut out);
        self.weight_mlp.named("weight_mlp", &mut out);
        self.weight_head.named("weight_head", &mut out);
        for (b, block) in self.projection.iter().enumerate() {
            block.named(&format!("projection.{b}"), &mut out);
        }
        self.output.named("output", &mut out);
        out
    }

    /// The gate logits of keys and of values, by layer.
    ///
    /// # Errors
    /// A tensor that can't be read back from the device.
    pub fn gate_logits(&self) -> Result<(Vec<f32>, Vec<f32>), FuserError> {
        let data = self.gate_logit.val().try_into_data();
        let data = data.map_err(|e| c2c_lm::LmError::Readback(format!("{e:?}")))?;
        let mut keys: Vec<f32> = data.iter::<f32>().collect();
        let values = keys.split_off(self.config.layers());
        Ok((keys, values))
    }

    /// The same fuser with every gate shut: fusion then returns the receiver's cache unchanged.
    pub fn with_gates_shut(mut self) -> Self {
        self.gate_logit = self.gate_logit.map(|g| g.zeros_like());
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
        let (keys, values) = self.gate_logits()?;
        let logits = keys.iter().chain(&values).enumerate();
        let open: Vec<usize> = logits.filter(|(_, logit)| **logit > 0.0).map(|(branch, _)| branch).collect();
        if open.is_empty() {
            self.open = Some(open);
            return Ok(self);
        }
        self.trunk = self.trunk.folded();
        self.weight_mlp = self.weight_mlp.folded();
        self.projection = self.projection.into_iter().map(StackedFfn::folded).collect();
        let device = self.gate_logit.val().device();
        let keep = (open.len() < self.config.branches()).then(|| {
            let indexes = open.iter().map(|branch| *branch as i32).collect();
            Tensor::from_data(TensorData::new(indexes, [open.len()]), &device)
        });
        let mut fuser = self.map(&mut Ready { keep, dtype: work_dtype::<B>(caches, &device) });
        // Open gates are 1; a small logit must not become 0 by rounding.
        fuser.gate_logit = fuser.gate_logit.map(|g| g.ones_like());
        fuser.open = Some(open);
        Ok(fuser)
    }

    /// Fuses caches of the same tokens.
    ///
    /// # Shapes
    /// `sharer`: one `[batch, sharer_heads, tokens, sharer_head_dim]` pair for each *sharer* layer up to the highest one
    /// that is read; `receiver` and the result: one `[batch, receiver_heads, tokens, receiver_head_dim]` pair a receiver
    /// layer. Results are f32 if the receiver's cache is, else in its dtype.
    ///
    /// # Errors
    /// Another number of layers, heads, rows or tokens than the fuser was made for.
    pub fn fuse(
        &self,
        sharer: &[LayerKv<B>],
        receiver: &[LayerKv<B>],
        mode: FuserMode,
    ) -> Result<Vec<LayerKv<B>>, FuserError> {
        let tokens = receiver.first().map_or(0, |kv| kv.key.dims()[2]);
        self.check_caches(sharer, receiver, [tokens; 2])?;
        let c = &self.config;
        let layers = c.layers();
        let open = &self.open_branches();
        let branches = open.len();
        if branches == 0 {
            return Ok(receiver.to_vec());
        }
        let [batch, heads, tokens, head_dim] = receiver[0].key.dims();
        let rows = batch * tokens;

        let mapped: Vec<&LayerKv<B>> = c.layer_map.iter().map(|s| &sharer[*s]).collect();
        let receivers: Vec<&LayerKv<B>> = receiver.iter().collect();
        let dtype = receiver[0].key.dtype();
        let work = work_dtype::<B>(dtype, &receiver[0].key.device());
        let own = stack(&receivers, open, work);
        let x = Tensor::cat(vec![stack(&mapped, open, work), own.clone()], 2);
        let dropout = if let FuserMode::Train { .. } = mode { c.dropout } else { 0.0 };
        let (p, w) = self.project(x, dropout);
        let p = p.reshape([branches, rows, heads, head_dim]);
        let w = activation::sigmoid(to_f32(w));
        let w = w.reshape([branches, rows, heads, 1]);
        let logit = to_f32(self.gate_logit.val()).reshape([branches, 1, 1, 1]);
        let gate = match mode {
            FuserMode::Infer => hard_gate(logit),
            FuserMode::Train { temperature, draw } => {
                soft_gate(logit, c.gate_noise, draw, temperature, [branches, rows, heads, 1])
            }
        };
        let scaled = p * to_dtype(w * gate, work);
        let fused = own + scaled.reshape([branches, rows, heads * head_dim]);
        let fused = to_dtype(fused, dtype);
        let branch = |m: usize| fused.clone().narrow(0, m, 1).reshape([batch, tokens, heads, head_dim]).swap_dims(1, 2);
        let pick = |m: usize, own: &Tensor<B, 4>| open.binary_search(&m).map_or_else(|_| own.clone(), &branch);
        let fused_layer =
            |(l, own): (usize, &LayerKv<B>)| LayerKv { key: pick(l, &own.key), value: pick(layers + l, &own.value) };
        Ok(receiver.iter().enumerate().map(fused_layer).collect())
    }

    /// From the joined caches `[branches, rows, sharer width + receiver width]` to the projection `[branches, rows,
    /// receiver width]` and the logits of the heads' weights `[branches, rows, heads]`.
    pub(crate) fn project(&self, x: Tensor<B, 3>, dropout: f64) -> (Tensor<B, 3>, Tensor<B, 3>) {
        let u = self.trunk.forward(self.input.forward(x), dropout);
        let mut p = u.clone();
        for block in &self.projection {
            p = block.forward(p, dropout);
        }
        (self.output.forward(p), self.weight_head.forward(self.weight_mlp.forward(u, dropout)))
    }

    /// The gates' logits on the device, `[branches]` of those that the parameters hold, f32.
    pub(crate) fn gates(&self) -> Tensor<B, 1> {
        to_f32(self.gate_logit.val().flatten(0, 2))
    }

    /// The branches that the parameters hold: keys of all layers, then values.
    pub(crate) fn open_branches(&self) -> Vec<usize> {
        self.open.clone().unwrap_or_else(|| (0..self.config.branches()).collect())
    }

    /// Checks layers, heads and rows of both caches; `slots` are those that the sharer's and the receiver's tensors should
    /// have.
    pub(crate) fn check_caches(
        &self,
        sharer: &[LayerKv<B>],
        receiver: &[LayerKv<B>],
        slots: [usize; 2],
    ) -> Result<(), FuserError> {
        let c = &self.config;
        let bad = |what, expected: String, found: String| Err(FuserError::Shape { what, expected, found });
        if receiver.len() != c.layers() {
            return bad("receiver layers", c.layers().to_string(), receiver.len().to_string());
        }
        if sharer.len() < c.sharer_depth() {
            return bad("sharer layers of at least", c.sharer_depth().to_string(), sharer.len().to_string());
        }
        let batch = receiver[0].key.dims()[0];
        let own = [batch, c.receiver_heads, slots[1], c.receiver_head_dim];
        let other = [batch, c.sharer_heads, slots[0], c.sharer_head_dim];
        let receiver = receiver.iter().map(|kv| ("a receiver cache of shape", own, kv));
        let sharer = sharer.iter().take(c.sharer_depth()).map(|kv| ("a sharer cache of shape", other, kv));
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
fn stack<B: Backend>(layers: &[&LayerKv<B>], branches: &[usize], dtype: DType) -> Tensor<B, 3> {
    let flat = |x: &Tensor<B, 4>| {
        let [batch, heads, tokens, head_dim] = x.dims();
        to_dtype(x.clone(), dtype).swap_dims(1, 2).reshape([1, batch * tokens, heads * head_dim])
    };
    let pick =
        |m: &usize| if *m < layers.len() { flat(&layers[*m].key) } else { flat(&layers[*m - layers.len()].value) };
    Tensor::cat(branches.iter().map(pick).collect(), 0)
}
