//! Which sharer layer each receiver layer reads (paper section 3.3.2).

use serde::{Deserialize, Serialize};

/// How layers of two models of different depth are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerMapping {
    /// Last layers together, then downwards; what is left over reads the sharer's first layer.
    #[default]
    LastAligned,
    /// Each layer reads those at the nearest relative depth.
    KNearest,
}

impl LayerMapping {
    /// For each receiver layer, its `k` sharer layers, best first (fewer if the sharer has fewer).
    pub fn sources(self, receiver_layers: usize, sharer_layers: usize, k: usize) -> Vec<Vec<usize>> {
        (0..receiver_layers)
            .map(|t| {
                let mut order = match self {
                    Self::LastAligned => {
                        let anchor =
                            (sharer_layers + t).saturating_sub(receiver_layers).min(sharer_layers.saturating_sub(1));
                        (0..=anchor).rev().chain(anchor + 1..sharer_layers).collect::<Vec<_>>()
                    }
                    Self::KNearest => {
                        let place = |i: usize, n: usize| if n > 1 { i as f64 / (n - 1) as f64 } else { 0.0 };
                        let target = place(t, receiver_layers);
                        let distance = |s: &usize| (place(*s, sharer_layers) - target).abs();
                        let mut order: Vec<usize> = (0..sharer_layers).collect();
                        order.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
                        order
                    }
                };
                order.truncate(k);
                order
            })
            .collect()
    }

    /// The one sharer layer of each receiver layer.
    pub fn map(self, receiver_layers: usize, sharer_layers: usize) -> Vec<usize> {
        self.sources(receiver_layers, sharer_layers, 1).into_iter().flatten().collect()
    }
}
