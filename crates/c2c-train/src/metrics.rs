//! The figures of a step, and how Burn's metric system sees them.

use std::marker::PhantomData;
use std::sync::Arc;

use burn::train::metric::state::{FormatOptions, NumericMetricState};
use burn::train::metric::{
    Adaptor, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry,
};
use serde::Serialize;

/// The figures of one optimiser step; a line of `metrics.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StepFacts {
    /// Optimiser steps so far, from 1.
    pub step: usize,
    /// Epoch, from 1.
    pub epoch: usize,
    /// Mean loss of the step's micro-batches.
    pub loss: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Gate temperature that the step was trained at.
    pub temperature: f64,
    /// Share of gates with a logit above 0, after the step.
    pub gates_open: f64,
    /// Receiver tokens of the step, padding not counted.
    pub tokens: usize,
    /// Share of padding among the receiver's slots.
    pub padding: f64,
    /// Validation loss with hard gates, after steps at which it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// Seconds since training began. Not among the metrics, which must not depend on the clock.
    #[serde(skip)]
    pub seconds: f64,
}

/// One figure as a Burn metric.
pub trait Figure: Send + Sync + Clone + 'static {
    /// Its name in the renderer and the logs.
    const NAME: &'static str;
    /// Digits after the point.
    const PRECISION: usize;
    /// Picks it.
    fn of(facts: &StepFacts) -> f64;
}

macro_rules! figures {
    ($($(#[$doc:meta])* $type:ident = $name:literal, $precision:literal, $field:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $type;
        impl Figure for $type {
            const NAME: &'static str = $name;
            const PRECISION: usize = $precision;
            fn of(facts: &StepFacts) -> f64 {
                facts.$field
            }
        }
    )*};
}

figures! {
    /// Mean loss.
    Loss = "Loss", 4, loss;
    /// Global gradient norm.
    GradNorm = "Gradient norm", 3, grad_norm;
    /// Gate temperature.
    Temperature = "Temperature", 4, temperature;
    /// Share of open gates.
    GatesOpen = "Gates open", 3, gates_open;
    /// Share of padding.
    Padding = "Padding", 3, padding;
}

/// A [`Figure`] on its way into a [`FigureMetric`].
pub struct FigureInput<F>(f64, PhantomData<F>);

impl<F: Figure> Adaptor<FigureInput<F>> for StepFacts {
    fn adapt(&self) -> FigureInput<F> {
        FigureInput(F::of(self), PhantomData)
    }
}

/// Burn's view of a [`Figure`].
#[derive(Clone)]
pub struct FigureMetric<F> {
    name: MetricName,
    state: NumericMetricState,
    figure: PhantomData<F>,
}

impl<F: Figure> Default for FigureMetric<F> {
    fn default() -> Self {
        Self { name: Arc::new(F::NAME.to_owned()), state: NumericMetricState::default(), figure: PhantomData }
    }
}

impl<F: Figure> Metric for FigureMetric<F> {
    type Input = FigureInput<F>;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: None, higher_is_better: false }.into()
    }

    fn update(&mut self, item: &FigureInput<F>, _metadata: &MetricMetadata) -> SerializedEntry {
        self.state.update(item.0, 1, FormatOptions::new(self.name()).precision(F::PRECISION))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl<F: Figure> Numeric for FigureMetric<F> {
    fn value(&self) -> NumericEntry {
        self.state.current_value()
    }

    fn running_value(&self) -> NumericEntry {
        self.state.running_value()
    }
}
