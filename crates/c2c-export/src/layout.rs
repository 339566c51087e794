//! The parameters of a fuser: stacked name and shape, and the published per-layer name and shape.
//!
//! One table serves the artefact, the reader of the published layout and the mapping between the two. Sizes are
//! computed with overflow checks, because configs come from files.

mod all_in_one;

use c2c_fuser::FuserConfig;

/// More blocks than any fuser has; bounds the work that a damaged config can ask for.
pub(crate) const MAX_NUM_LAYERS: usize = 256;

/// How one branch of a stacked parameter is stored in the published layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Without axes.
    Scalar,
    /// `[width]`.
    Vector,
    /// `[out, in]`, the transpose of a branch.
    Matrix,
    /// A branch, of which `rank` axes have these sizes.
    Table { sizes: [usize; 3], rank: usize },
}

/// One parameter of a fuser.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// The stacked name.
    pub name: String,
    /// The stacked shape: `[branches, 1, 1]`, `[branches, 1, width]`, `[branches, in, out]` or `[branches, tokens, width]`;
    /// layers in place of branches where keys and values share it.
    pub shape: [usize; 3],
    /// The published name, without `key_` or `value_` if it has sides.
    pub published: String,
    /// The published form.
    pub form: Form,
    /// Keys and values have one each, the first half of the branches and the second; else both share one a layer.
    pub sides: bool,
}

impl Slot {
    /// Values of one branch.
    pub fn branch_len(&self) -> usize {
        self.shape[1] * self.shape[2]
    }

    /// The published shape of one branch.
    pub fn published_shape(&self) -> Vec<usize> {
        match self.form {
            Form::Scalar => Vec::new(),
            Form::Vector => vec![self.shape[2]],
            Form::Matrix => vec![self.shape[2], self.shape[1]],
            Form::Table { sizes, rank } => sizes[..rank].to_vec(),
        }
    }

    /// The published name of a branch: keys of all layers come first, then values.
    pub fn published_name(&self, branch: usize) -> String {
        if !self.sides {
            return self.published.clone();
        }
        let side = if branch < self.shape[0] / 2 { "key" } else { "value" };
        format!("{side}_{}", self.published)
    }

    /// A branch of each published name.
    pub fn sides(&self) -> Vec<usize> {
        if self.sides { vec![0, self.shape[0] / 2] } else { vec![0] }
    }

    /// Gates and tables of parameters stay in f32 in narrower formats: rounding them saves nothing, or shuts a gate.
    pub fn stays_wide(&self) -> bool {
        matches!(self.form, Form::Scalar | Form::Table { .. })
    }

    /// One branch, from stacked to published order.
    pub fn publish_branch(&self, branch: &[f32]) -> Vec<f32> {
        if self.form == Form::Matrix { transpose(branch, self.shape[1], self.shape[2]) } else { branch.to_vec() }
    }

    /// One branch, from published to stacked order.
    pub fn stack_branch(&self, values: Vec<f32>) -> Vec<f32> {
        if self.form == Form::Matrix { transpose(&values, self.shape[2], self.shape[1]) } else { values }
    }
}

/// `[rows, columns]` to `[columns, rows]`.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

/// A value of a config that no fuser can have.
#[derive(Debug)]
pub(crate) struct OutOfRange {
    pub key: &'static str,
    pub found: String,
    pub expected: String,
}

/// All parameters, in the order of `Fuser::named_params`.
pub(crate) fn slots(config: &FuserConfig) -> Result<Vec<Slot>, OutOfRange> {
    let refuse = |key, found: String, expected: String| Err(OutOfRange { key, found, expected });
    let n = config.num_layers;
    let least = if config.all_in_one.is_some() { 1 } else { 3 };
    if !(least..=MAX_NUM_LAYERS).contains(&n) {
        return refuse("num_layers", n.to_string(), format!("{least} to {MAX_NUM_LAYERS}"));
    }
    // Before FuserConfig::validate, which adds 1 to the highest entry.
    if let Some(layer) = config.layer_map.iter().find(|l| **l >= config.sharer_layers) {
        return refuse(
            "layer_map",
            layer.to_string(),
            format!("layers below sharer_layers = {}", config.sharer_layers),
        );
    }
    let slots = match &config.all_in_one {
        Some(choices) => all_in_one::table(config, choices),
        None => table(config),
    };
    let Some(slots) = slots.filter(|slots| fits(slots)) else {
        let found = format!("{} and {}", config.hidden_dim, config.intermediate_dim);
        return refuse("hidden_dim and intermediate_dim", found, "sizes whose product fits in memory".into());
    };
    Ok(slots)
}

/// `None` if a size overflows.
fn table(config: &FuserConfig) -> Option<Vec<Slot>> {
    let m = config.layers().checked_mul(2)?;
    let (h, i) = (config.hidden_dim, config.intermediate_dim);
    let s = config.sharer_heads.checked_mul(config.sharer_head_dim)?;
    let parts = config.parts;
    let t = config.receiver_heads.checked_mul(config.receiver_head_dim)?;
    let mut slots = Vec::new();
    let mut add = |name: String, published: String, form, [input, output]: [usize; 2]| {
        slots.push(Slot { name, shape: [m, input, output], published, form, sides: true });
    };
    let ffn = |name: &str, published: &str, inner: usize, add: &mut dyn FnMut(String, String, Form, [usize; 2])| {
        for (part, form, sizes) in
            [("norm", Form::Vector, [1, h]), ("w1", Form::Matrix, [h, inner]), ("w2", Form::Matrix, [inner, h])]
        {
            add(format!("{name}.{part}"), format!("{published}.{part}.weight"), form, sizes);
        }
    };
    let linear =
        |name: &str, published: &str, sizes: [usize; 2], add: &mut dyn FnMut(String, String, Form, [usize; 2])| {
            add(format!("{name}.weight"), format!("{published}.weight"), Form::Matrix, sizes);
            add(format!("{name}.bias"), format!("{published}.bias"), Form::Vector, [1, sizes[1]]);
        };
    if parts.gates {
        add("gate_logit".into(), "gate_logit".into(), Form::Scalar, [1, 1]);
    }
    let input = if parts.receiver { s.checked_add(t)? } else { s };
    linear("input", "in", [input, h], &mut add);
    ffn("trunk", "mlp1.blocks.0", i, &mut add);
    if parts.weights {
        ffn("weight_mlp", "scalar_mlp2.blocks.0", h, &mut add);
        linear("weight_head", "scalar_head", [h, config.receiver_heads], &mut add);
    }
    for b in 0..config.num_layers - 2 {
        ffn(&format!("projection.{b}"), &format!("proj_mlp2.blocks.{b}"), i, &mut add);
    }
    linear("output", "proj_out", [h, t], &mut add);
    Some(slots)
}

/// Whether the bytes of all can be counted, so that everything later is free of overflow.
fn fits(slots: &[Slot]) -> bool {
    let bytes = |slot: &Slot| slot.shape.iter().try_fold(4usize, |n, size| n.checked_mul(*size));
    slots.iter().try_fold(0usize, |sum, slot| sum.checked_add(bytes(slot)?)).is_some()
}

/// The slot of a stacked name.
pub(crate) fn find<'a>(slots: &'a [Slot], name: &str) -> Option<&'a Slot> {
    slots.iter().find(|slot| slot.name == name)
}
