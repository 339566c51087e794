//! Training progress on the terminal: one line that is rewritten, or plain lines when stderr is no terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use burn::train::LearnerSummary;
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};
use burn::train::renderer::{
    EvaluationName, EvaluationProgress, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining, ProgressType, TrainingProgress,
};
use c2c_train::StepFacts;

/// Time between two rewritings of the line.
const REDRAW: Duration = Duration::from_millis(200);
/// Plain lines printed over a whole run, about.
const PLAIN_LINES: usize = 20;

/// The renderer that Burn's learner reports to.
pub struct LineRenderer {
    terminal: bool,
    start: Instant,
    /// Steps that an earlier session took.
    earlier: Option<usize>,
    drawn: Option<Instant>,
    names: Vec<(MetricId, String)>,
    values: Vec<(String, f64)>,
    validation: Option<(f64, usize)>,
}

impl LineRenderer {
    /// A renderer on stderr.
    pub fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            start: Instant::now(),
            earlier: None,
            drawn: None,
            names: Vec::new(),
            values: Vec::new(),
            validation: None,
        }
    }

    fn value(&self, name: &str) -> f64 {
        self.values.iter().find(|(n, _)| n == name).map_or(f64::NAN, |(_, v)| *v)
    }

    fn line(&self, step: usize, total: usize) -> String {
        let elapsed = self.start.elapsed().as_secs_f64();
        let taken = step - self.earlier.unwrap_or(0);
        let left = elapsed / taken.max(1) as f64 * total.saturating_sub(step) as f64;
        let mut line = format!(
            "step {step:>5}/{total}  loss {:.4}  lr {:.1e}  grad {:.3}  temp {:.3}  gates open {:>3.0} %  {elapsed:>5.0} s, {left:.0} s left",
            self.value("Loss"),
            self.value("Learning Rate"),
            self.value("Gradient norm"),
            self.value("Temperature"),
            100.0 * self.value("Gates open"),
        );
        if let Some((loss, _)) = self.validation {
            line.push_str(&format!("  (validation {loss:.4})"));
        }
        line
    }
}

/// Progress of a run without Burn's learner: as [`LineRenderer`], from the figures of each step.
pub struct PlainProgress {
    terminal: bool,
    start: Instant,
    total: Option<usize>,
    earlier: Option<usize>,
    drawn: Option<Instant>,
    validation: Option<f64>,
}

impl PlainProgress {
    /// Progress on stderr towards so many steps, if that is known.
    pub fn new(total: Option<usize>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { terminal, start: Instant::now(), total, earlier: None, drawn: None, validation: None }
    }

    /// Shows a step, not every one.
    pub fn show(&mut self, facts: &StepFacts) {
        self.validation = facts.validation_loss.or(self.validation);
        let earlier = *self.earlier.get_or_insert(facts.step.saturating_sub(1));
        let every = self.total.map_or(PLAIN_LINES, |total| total.div_ceil(PLAIN_LINES).max(1));
        let last = self.total == Some(facts.step);
        let due = match self.terminal {
            true => last || self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW),
            false => facts.step == 1 || last || facts.step.is_multiple_of(every),
        };
        if !due {
            return;
        }
        self.drawn = Some(Instant::now());
        let elapsed = self.start.elapsed().as_secs_f64();
        let mut line = format!("step {:>5}", facts.step);
        if let Some(total) = self.total {
            line.push_str(&format!("/{total}"));
        }
        let StepFacts { loss, learning_rate, grad_norm, .. } = facts;
        line.push_str(&format!("  loss {loss:.4}  lr {learning_rate:.1e}  grad {grad_norm:.3}  {elapsed:>5.0} s"));
        if let Some(total) = self.total {
            let taken = (facts.step - earlier).max(1);
            line.push_str(&format!(", {:.0} s left", elapsed / taken as f64 * (total - facts.step) as f64));
        }
        if let Some(validation) = self.validation {
            line.push_str(&format!("  (validation {validation:.4})"));
        }
        if self.terminal {
            eprint!("\r\x1b[2K{line}");
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }
}

impl Drop for PlainProgress {
    fn drop(&mut self) {
        if self.terminal && self.drawn.is_some() {
            eprintln!();
        }
    }
}

/// The number in a metric's latest entry.
fn number(entry: &NumericEntry) -> f64 {
    match entry {
        NumericEntry::Value(value) => *value,
        NumericEntry::Aggregated { aggregated_value, .. } => *aggregated_value,
    }
}

impl MetricsRendererTraining for LineRenderer {
    fn update_train(&mut self, state: MetricState) {
        if let MetricState::Numeric(entry, value) = state {
            let Some((_, name)) = self.names.iter().find(|(id, _)| *id == entry.metric_id) else { return };
            match self.values.iter_mut().find(|(n, _)| n == name) {
                Some((_, old)) => *old = number(&value),
                None => self.values.push((name.clone(), number(&value))),
            }
        }
    }

    fn update_valid(&mut self, state: MetricState) {
        if let MetricState::Numeric(_, value) = state {
            let (sum, count) = self.validation.map_or((0.0, 0), |(mean, count)| (mean * count as f64, count));
            self.validation = Some(((sum + number(&value)) / (count + 1) as f64, count + 1));
        }
    }

    fn render_train(&mut self, item: TrainingProgress, _indicators: Vec<ProgressType>) {
        let Some(progress) = item.progress else { return };
        let (step, total) = (progress.items_processed, progress.items_total);
        self.earlier.get_or_insert(step.saturating_sub(1));
        if self.terminal {
            let due = step == total || self.drawn.is_none_or(|d| d.elapsed() >= REDRAW);
            if due {
                eprint!("\r\x1b[2K{}", self.line(step, total));
                let _ = std::io::stderr().flush();
                self.drawn = Some(Instant::now());
            }
        } else if step == 1 || step == total || step.is_multiple_of(total.div_ceil(PLAIN_LINES).max(1)) {
            eprintln!("{}", self.line(step, total));
        }
    }

    fn render_valid(&mut self, item: TrainingProgress, _indicators: Vec<ProgressType>) {
        // A new pass over the validation examples starts a new mean.
        if item.progress.is_some_and(|p| p.items_processed >= p.items_total)
            && let Some((mean, _)) = self.validation
        {
            self.validation = Some((mean, 0));
        }
    }

    fn on_train_end(&mut self, _summary: Option<LearnerSummary>) -> Result<(), Box<dyn std::error::Error>> {
        if self.terminal {
            eprintln!();
        }
        Ok(())
    }
}

impl MetricsRendererEvaluation for LineRenderer {
    fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}

    fn render_test(&mut self, _item: EvaluationProgress, _indicators: Vec<ProgressType>) {}
}

impl MetricsRenderer for LineRenderer {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names.push((definition.metric_id, definition.name));
    }
}
