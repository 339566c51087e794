//! The parameters of an all-in-one network, in the order of its `named_params`.

use c2c_fuser::{AllInOneConfig, FuserConfig, Granularity, Scaling};

use super::{Form, Slot};

/// Modules of the small networks in their list there: a linear map, its norm, an activation, dropout, a linear map.
const SMALL: [usize; 2] = [0, 4];

struct Table {
    slots: Vec<Slot>,
    layers: usize,
    branches: usize,
}

impl Table {
    /// Of keys and of values, or of both in one.
    fn add(&mut self, name: &str, published: &str, form: Form, [rows, columns]: [usize; 2], sides: bool) {
        let shape = [if sides { self.branches } else { self.layers }, rows, columns];
        self.slots.push(Slot { name: name.to_owned(), shape, published: published.to_owned(), form, sides });
    }

    fn linear(&mut self, name: &str, published: &str, sizes: [usize; 2], sides: bool) {
        self.add(&format!("{name}.weight"), &format!("{published}.weight"), Form::Matrix, sizes, sides);
        self.add(&format!("{name}.bias"), &format!("{published}.bias"), Form::Vector, [1, sizes[1]], sides);
    }

    fn norm(&mut self, name: &str, published: &str, width: usize, sides: bool) {
        for part in ["weight", "bias"] {
            let name = format!("{name}.norm.{part}");
            self.add(&name, &format!("{published}.{part}"), Form::Vector, [1, width], sides);
        }
    }

    fn small(&mut self, name: &str, published: &str, [input, hidden, output]: [usize; 3]) {
        let at = |place: usize| format!("{published}.layers.{place}");
        self.linear(&format!("{name}.0"), &at(SMALL[0]), [input, hidden], false);
        self.norm(&format!("{name}.0"), &at(SMALL[0] + 1), hidden, false);
        self.linear(&format!("{name}.1"), &at(SMALL[1]), [hidden, output], false);
    }
}

/// `None` if a size overflows.
pub(super) fn table(c: &FuserConfig, choices: &AllInOneConfig) -> Option<Vec<Slot>> {
    let (heads, width) = (c.receiver_heads, c.receiver_head_dim);
    let s = c.sharer_heads.checked_mul(c.sharer_head_dim)?;
    let t = heads.checked_mul(width)?;
    let mut out = Table { slots: Vec::new(), layers: c.layers(), branches: c.layers().checked_mul(2)? };
    for (name, scaling, sides) in [("gate_logit", choices.gate, false), ("weight", choices.weight, true)] {
        if scaling.features.is_none() {
            let sizes = scaling.table(choices.max_tokens, heads, width)?;
            out.add(name, name, form(scaling, choices.max_tokens, c), sizes, sides);
        }
    }

    let step = 1 + usize::from(choices.layer_norm) + usize::from(!choices.swiglu) + usize::from(c.dropout > 0.0);
    for index in 0..c.num_layers {
        let last = index + 1 == c.num_layers;
        let sizes = [if index == 0 { s } else { c.hidden_dim }, if last { t } else { c.hidden_dim }];
        let (name, at) = (format!("projection.{index}"), index * step);
        let published = format!("projection.layers.{at}");
        if choices.swiglu && !last {
            out.linear(&format!("{name}.gate"), &format!("{published}.gate_proj"), sizes, true);
            out.linear(&format!("{name}.up"), &format!("{published}.up_proj"), sizes, true);
        } else {
            out.linear(&name, &published, sizes, true);
        }
        if choices.layer_norm && !last {
            out.norm(&name, &format!("projection.layers.{}", at + 1), c.hidden_dim, true);
        }
    }
    let input = |scaling: Scaling| match scaling.features {
        Some(_) => scaling.input_width(heads, width).map(Some),
        None => Some(None),
    };
    if let Some(input) = input(choices.gate)? {
        out.small("gate_mlp", "gate_generator", [input, c.hidden_dim, choices.gate.output_width(heads, width)]);
    }
    if let Some(input) = input(choices.weight)? {
        let hidden = c.intermediate_dim;
        out.small("weight_mlp", "weight_hidden", [input, hidden, hidden]);
        out.linear("weight_head", "weight_head", [hidden, choices.weight.output_width(heads, width)], true);
    }
    if choices.combine {
        out.linear("combiner", "combiner", [t.checked_mul(2)?, t], true);
    }
    Some(out.slots)
}

fn form(scaling: Scaling, max_tokens: usize, c: &FuserConfig) -> Form {
    let (heads, width) = (c.receiver_heads, c.receiver_head_dim);
    match scaling.granularity {
        Granularity::Scalar => Form::Scalar,
        Granularity::Token => Form::Table { sizes: [max_tokens, 1, 1], rank: 1 },
        Granularity::Head | Granularity::HeadMerged => Form::Table { sizes: [max_tokens, heads, 1], rank: 2 },
        Granularity::Value => Form::Table { sizes: [max_tokens, heads, width], rank: 3 },
    }
}
