//! Layers whose weights are stacked over the fuser's branches.

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Tensor, TensorData};
use c2c_kernels::KernelBackend;
use c2c_lm::to_dtype;

/// Epsilon of the fuser's RMSNorm.
const NORM_EPS: f64 = 1e-6;

/// Parameters by their name in the artefact.
pub(crate) type Params<'a, B> = Vec<(String, &'a Param<Tensor<B, 3>>)>;

/// How the values of a parameter are found, by name and shape.
pub(crate) type Values<'a> = dyn FnMut(&str, [usize; 3]) -> Vec<f32> + 'a;

pub(crate) fn param<B: Backend>(
    values: &mut Values<'_>,
    name: &str,
    shape: [usize; 3],
    device: &B::Device,
) -> Param<Tensor<B, 3>> {
    Param::from_tensor(Tensor::from_data(TensorData::new(values(name, shape), shape), device))
}

/// How much is dropped, and from which seed where the mask can follow from one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropout {
    /// 0 outside training.
    pub(crate) share: f64,
    /// `None`: the device's generator draws.
    pub(crate) seed: Option<u64>,
}

impl Dropout {
    /// None.
    pub(crate) const NONE: Self = Self { share: 0.0, seed: None };

    /// That of one of several blocks, whose masks differ.
    pub(crate) fn of_block(self, block: u64) -> Self {
        Self { seed: self.seed.map(|seed| seed.wrapping_add((block + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))), ..self }
    }

    /// `x + dropout(y)`.
    fn added<B: KernelBackend>(self, x: Tensor<B, 3>, y: Tensor<B, 3>) -> Tensor<B, 3> {
        let seeded = self.seed.filter(|_| self.share > 0.0).and_then(|seed| B::add_dropped(&x, &y, self.share, seed));
        seeded.unwrap_or_else(|| x + dropped(y, self.share))
    }
}

/// Dropout: a share of the values becomes 0, the others grow by as much; nothing happens if the share is 0.
pub(crate) fn dropped<B: Backend>(x: Tensor<B, 3>, dropout: f64) -> Tensor<B, 3> {
    if dropout <= 0.0 {
        return x;
    }
    let keep = 1.0 - dropout;
    let mask = Tensor::random(x.shape(), Distribution::Bernoulli(keep), &x.device());
    let dtype = x.dtype();
    x * to_dtype(mask.div_scalar(keep), dtype)
}

/// One linear map a branch.
///
/// # Shapes
/// weight `[branches, in, out]`, bias `[branches, 1, out]`.
#[derive(Module, Debug)]
pub(crate) struct StackedLinear<B: Backend> {
    pub(crate) weight: Param<Tensor<B, 3>>,
    pub(crate) bias: Param<Tensor<B, 3>>,
}

impl<B: Backend> StackedLinear<B> {
    pub(crate) fn new(
        values: &mut Values<'_>,
        name: &str,
        [branches, input, output]: [usize; 3],
        device: &B::Device,
    ) -> Self {
        Self {
            weight: param(values, &format!("{name}.weight"), [branches, input, output], device),
            bias: param(values, &format!("{name}.bias"), [branches, 1, output], device),
        }
    }
}

impl<B: KernelBackend> StackedLinear<B> {
    /// `[branches, tokens, in]` to `[branches, tokens, out]`.
    pub(crate) fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [branches, tokens, _] = x.dims();
        let dtype = x.dtype();
        let (weight, bias) = (B::parameter_as(self.weight.val(), dtype), B::parameter_as(self.bias.val(), dtype));
        if B::cpu_takes(&x) {
            return B::cpu_branch_linear(&x, &weight, &bias);
        }
        let device = x.device();
        if B::has_kernels(&device) || B::has_fast_bf16(&device) {
            return B::product(x, weight) + bias;
        }
        // The bias as a product with ones: adding a row that differs by branch is slow on the CPU backend, a product
        // isn't, and its gradient is a product too.
        let ones = to_dtype(Tensor::ones([branches, tokens, 1], &device), dtype);
        B::product(x, weight) + B::product(ones, bias)
    }
}

impl<B: Backend> StackedLinear<B> {
    pub(crate) fn named<'a>(&'a self, name: &str, out: &mut Params<'a, B>) {
        out.push((format!("{name}.weight"), &self.weight));
        out.push((format!("{name}.bias"), &self.bias));
    }
}

/// `x + dropout(W2 gelu(W1 norm(x)))`, one a branch, without biases.
///
/// # Shapes
/// norm `[branches, 1, width]`, w1 `[branches, width, inner]`, w2 `[branches, inner, width]`.
#[derive(Module, Debug)]
pub(crate) struct StackedFfn<B: Backend> {
    pub(crate) norm: Param<Tensor<B, 3>>,
    pub(crate) w1: Param<Tensor<B, 3>>,
    pub(crate) w2: Param<Tensor<B, 3>>,
    /// True once `w1` holds the norm's weight, too: [`StackedFfn::folded`].
    #[module(skip)]
    folded: bool,
}

impl<B: Backend> StackedFfn<B> {
    pub(crate) fn new(
        values: &mut Values<'_>,
        name: &str,
        [branches, width, inner]: [usize; 3],
        device: &B::Device,
    ) -> Self {
        Self {
            norm: param(values, &format!("{name}.norm"), [branches, 1, width], device),
            w1: param(values, &format!("{name}.w1"), [branches, width, inner], device),
            w2: param(values, &format!("{name}.w2"), [branches, inner, width], device),
            folded: false,
        }
    }

    /// The same map with the norm's weight inside `w1` for good.
    pub(crate) fn folded(mut self) -> Self {
        if !self.folded {
            let [branches, _, width] = self.norm.val().dims();
            let norm = self.norm.val().reshape([branches, width, 1]);
            self.w1 = self.w1.map(|w1| w1 * norm);
            self.folded = true;
        }
        self
    }
}

impl<B: KernelBackend> StackedFfn<B> {
    /// `[branches, tokens, width]` to the same.
    pub(crate) fn forward(&self, x: Tensor<B, 3>, dropout: Dropout) -> Tensor<B, 3> {
        let (w1, w2, dtype) = (self.w1.val(), self.w2.val(), x.dtype());
        if dropout.share <= 0.0 && B::cpu_takes(&x) && w1.dtype() == dtype && w2.dtype() == dtype {
            let norm = (!self.folded).then(|| self.norm.val());
            return B::cpu_branch_ffn(x, norm.as_ref(), &w1, &w2, NORM_EPS);
        }
        // The norm's weight applied to the rows of `w1` instead of the activations: the same product, fewer elements.
        let w1 = if self.folded { B::parameter_as(w1, dtype) } else { B::scaled_weight(w1, self.norm.val(), dtype) };
        let inner = B::ffn(x.clone(), w1, B::parameter_as(w2, dtype), NORM_EPS);
        dropout.added(x, inner)
    }
}

impl<B: Backend> StackedFfn<B> {
    pub(crate) fn named<'a>(&'a self, name: &str, out: &mut Params<'a, B>) {
        out.push((format!("{name}.norm"), &self.norm));
        out.push((format!("{name}.w1"), &self.w1));
        out.push((format!("{name}.w2"), &self.w2));
    }
}
