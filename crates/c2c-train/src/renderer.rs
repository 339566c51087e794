//! Burn takes renderers by value; this hands a boxed one on.

use burn::train::LearnerSummary;
use burn::train::metric::MetricDefinition;
use burn::train::renderer::{
    EvaluationName, EvaluationProgress, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining, ProgressType, TrainingProgress,
};

/// A boxed renderer.
pub(crate) struct Boxed(pub Box<dyn MetricsRenderer>);

impl MetricsRendererTraining for Boxed {
    fn update_train(&mut self, state: MetricState) {
        self.0.update_train(state);
    }
    fn update_valid(&mut self, state: MetricState) {
        self.0.update_valid(state);
    }
    fn render_train(&mut self, item: TrainingProgress, indicators: Vec<ProgressType>) {
        self.0.render_train(item, indicators);
    }
    fn render_valid(&mut self, item: TrainingProgress, indicators: Vec<ProgressType>) {
        self.0.render_valid(item, indicators);
    }
    fn on_train_end(&mut self, summary: Option<LearnerSummary>) -> Result<(), Box<dyn std::error::Error>> {
        self.0.on_train_end(summary)
    }
}

impl MetricsRendererEvaluation for Boxed {
    fn update_test(&mut self, name: EvaluationName, state: MetricState) {
        self.0.update_test(name, state);
    }
    fn render_test(&mut self, item: EvaluationProgress, indicators: Vec<ProgressType>) {
        self.0.render_test(item, indicators);
    }
}

impl MetricsRenderer for Boxed {
    fn manual_close(&mut self) {
        self.0.manual_close();
    }
    fn register_metric(&mut self, definition: MetricDefinition) {
        self.0.register_metric(definition);
    }
}
