//! The least work that a task needs, from the models' own shapes.

use c2c_fuser::FuserConfig;
use c2c_lm::LmConfig;

use super::Limits;

/// Bytes that must move through memory and operations that must be done. The larger time is the floor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Floor {
    /// Bytes read and written at least once.
    pub bytes: f64,
    /// Multiplications and additions.
    pub flops: f64,
}

impl Floor {
    /// The least time on a machine of these limits.
    pub fn milliseconds(&self, limits: &Limits) -> f64 {
        1000.0 * (self.bytes / limits.bytes_per_second).max(self.flops / limits.flops_per_second)
    }

    fn and(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, flops: self.flops + other.flops }
    }
}

/// The shapes of a pair.
#[derive(Clone, Debug)]
pub struct Shapes {
    /// The receiver.
    pub receiver: LmConfig,
    /// The sharer.
    pub sharer: LmConfig,
    /// The fuser.
    pub fuser: FuserConfig,
    /// Bytes of a model's element.
    pub element: f64,
}

/// Matrix elements of one layer.
fn layer_weights(c: &LmConfig) -> f64 {
    let attended = c.num_heads * c.head_dim;
    (c.hidden_size * (c.qkv_width() + attended + 3 * c.intermediate_size)) as f64
}

impl Shapes {
    /// New tokens through `layers` layers behind `past` slots, each of `rows` rows.
    fn layers(&self, c: &LmConfig, layers: usize, rows: f64, tokens: f64, past: f64) -> Floor {
        let weights = layer_weights(c) * layers as f64;
        let attended = (c.num_heads * c.head_dim * layers) as f64;
        let pairs = tokens * past + tokens * (tokens + 1.0) / 2.0;
        let cache = 2.0 * (c.kv_width() * layers) as f64 * (past + tokens) * rows;
        Floor {
            bytes: (weights + cache) * self.element,
            flops: 2.0 * weights * rows * tokens + 4.0 * attended * pairs * rows,
        }
    }

    fn head(&self, rows: f64) -> Floor {
        let weights = (self.receiver.vocab_size * self.receiver.hidden_size) as f64;
        Floor { bytes: weights * self.element, flops: 2.0 * weights * rows }
    }

    /// The receiver alone over `rows` prompts, logits of the last tokens.
    pub fn receiver_prefill(&self, rows: usize, tokens: usize) -> Floor {
        let (c, rows) = (&self.receiver, rows as f64);
        self.layers(c, c.num_layers, rows, tokens as f64, 0.0).and(self.head(rows))
    }

    /// What the sharer has to do for the fuser.
    pub fn sharer_prefill(&self, rows: usize, tokens: usize) -> Floor {
        self.layers(&self.sharer, self.fuser.sharer_depth().saturating_sub(1), rows as f64, tokens as f64, 0.0)
    }

    /// All fusers.
    pub fn fusers(&self, tokens: usize) -> Floor {
        let c = &self.fuser;
        let weights = c.num_params() as f64;
        let moved = (c.branches() * (c.sharer_width() + 2 * c.receiver_width()) * tokens) as f64;
        Floor { bytes: (weights + moved) * self.element, flops: 2.0 * weights * tokens as f64 }
    }

    /// Both prefills and the fusers.
    pub fn c2c_prefill(&self, rows: usize, tokens: usize) -> Floor {
        self.receiver_prefill(rows, tokens).and(self.sharer_prefill(rows, tokens)).and(self.fusers(rows * tokens))
    }

    /// One token for each of `rows` replies, behind `past` slots.
    pub fn decode(&self, rows: usize, past: usize) -> Floor {
        let (c, rows) = (&self.receiver, rows as f64);
        self.layers(c, c.num_layers, rows, 1.0, past as f64).and(self.head(rows))
    }

    /// A training step: contexts of both models, fusers forward and backward (three times the forward), the response
    /// forward and backward through the frozen receiver (twice the forward).
    pub fn train_step(&self, rows: usize, context: usize, response: usize) -> Floor {
        let (rows_f, context_f, response_f) = (rows as f64, context as f64, response as f64);
        let r = &self.receiver;
        let contexts = self.layers(r, r.num_layers, rows_f, context_f, 0.0).and(self.layers(
            &self.sharer,
            self.fuser.sharer_depth().saturating_sub(1),
            rows_f,
            context_f,
            0.0,
        ));
        let fusers = self.fusers(rows * context);
        let answer = self.layers(r, r.num_layers, rows_f, response_f, context_f).and(self.head(rows_f * response_f));
        let twice = |f: Floor, n: f64| Floor { bytes: f.bytes * n, flops: f.flops * n };
        // AdamW reads and writes the parameters and two moments in f32.
        let optimizer = Floor { bytes: 7.0 * 4.0 * self.fuser.num_params() as f64, flops: 0.0 };
        contexts.and(twice(fusers, 3.0)).and(twice(answer, 2.0)).and(optimizer)
    }
}
