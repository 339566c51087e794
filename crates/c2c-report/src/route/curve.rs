//! Accuracy and time over the share of questions that the strong method answers.

use c2c_eval::stats::Accuracy;

use super::Form;
use super::pairs::{Other, Question};
use crate::{Cell, Kind, Table};

/// Rows of the curve's table, but for the first.
const STEPS: usize = 10;

/// The outcome for every number of calls of the strong method, from none to all.
pub(super) struct Curve {
    /// Scores from the highest on.
    scores: Vec<f64>,
    /// In that order: whether the strong method is needed.
    needs: Vec<bool>,
    /// Right answers with so many calls.
    correct: Vec<usize>,
    /// Milliseconds of all questions with so many calls.
    milliseconds: Vec<f64>,
    /// Right answers with so many calls that go where they help.
    ideal: Vec<usize>,
}

impl Curve {
    pub(super) fn new(questions: &[Question], scores: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..questions.len()).collect();
        // Stable: equal scores keep the order of the questions.
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let sorted: Vec<&Question> = order.iter().map(|place| &questions[*place]).collect();
        let gain = |question: &Question| i64::from(question.correct[1]) - i64::from(question.correct[0]);
        let weak = questions.iter().filter(|question| question.correct[0]).count();
        let mut gains: Vec<i64> = questions.iter().map(gain).collect();
        gains.sort_unstable_by(|a, b| b.cmp(a));
        let sums = |gains: &mut dyn Iterator<Item = i64>| -> Vec<usize> {
            let mut right = weak as i64;
            let later = gains.map(|gain| {
                right += gain;
                // Never below the questions that both have right.
                right.unsigned_abs() as usize
            });
            [weak].into_iter().chain(later).collect()
        };
        let mut spent: f64 = questions.iter().map(|question| question.milliseconds[0]).sum();
        let mut milliseconds = vec![spent];
        milliseconds.extend(sorted.iter().map(|question| {
            spent += question.milliseconds[1] - question.milliseconds[0];
            spent
        }));
        Self {
            scores: order.iter().map(|place| scores[*place]).collect(),
            needs: sorted.iter().map(|question| question.needs_strong()).collect(),
            correct: sums(&mut sorted.iter().map(|question| gain(question))),
            ideal: sums(&mut gains.into_iter()),
            milliseconds,
        }
    }

    fn questions(&self) -> usize {
        self.scores.len()
    }

    /// How much of the gap between the methods so many right answers close.
    fn closed(&self, correct: f64) -> Option<f64> {
        let (weak, strong) = (self.correct[0] as f64, self.correct[self.questions()] as f64);
        (strong > weak).then(|| (correct - weak) / (strong - weak))
    }

    /// The mean over all numbers of calls, by trapezoids.
    pub(super) fn recovered(&self) -> Option<f64> {
        let n = self.questions();
        let ends = (self.correct[0] + self.correct[n]) as f64 / 2.0;
        let inner: usize = self.correct.iter().skip(1).take(n.saturating_sub(1)).sum();
        self.closed((ends + inner as f64) / n.max(1) as f64)
    }

    /// The area under the receiver operating curve; equal scores count half.
    pub(super) fn order(&self) -> Option<f64> {
        let needing = self.needs.iter().filter(|needs| **needs).count();
        let others = self.needs.len() - needing;
        if needing == 0 || others == 0 {
            return None;
        }
        let (mut above, mut area) = (0usize, 0.0);
        for equal in self.scores.iter().zip(&self.needs).collect::<Vec<_>>().chunk_by(|a, b| a.0 == b.0) {
            let (with, without) =
                equal.iter().fold((0, 0), |(a, b), (_, needs)| if **needs { (a + 1, b) } else { (a, b + 1) });
            area += without as f64 * (above as f64 + f64::from(with) / 2.0);
            above += usize::try_from(with).unwrap_or(0);
        }
        Some(area / (needing * others) as f64)
    }

    fn share(&self, calls: usize) -> f64 {
        calls as f64 / self.questions().max(1) as f64
    }

    fn ms(&self, calls: usize, router_ms: f64) -> f64 {
        self.milliseconds[calls] / self.questions().max(1) as f64 + router_ms
    }

    /// Rows of the table of [`curve_table`].
    pub(super) fn rows(&self, form: Form, router_ms: f64) -> Vec<Vec<Cell>> {
        let n = self.questions();
        let row = |step: usize| {
            let calls = (n * step + STEPS / 2) / STEPS;
            let accuracy = Accuracy::new(self.correct[calls], n);
            let (weak, strong) = (self.correct[0] as f64, self.correct[n] as f64);
            let random = (weak + (strong - weak) * self.share(calls)) / n.max(1) as f64;
            vec![
                form.as_str().into(),
                self.share(calls).into(),
                calls.checked_sub(1).map(|last| self.scores[last]).into(),
                n.into(),
                self.correct[calls].into(),
                accuracy.accuracy.into(),
                accuracy.low.into(),
                accuracy.high.into(),
                random.into(),
                self.share(self.ideal[calls]).into(),
                self.closed(self.correct[calls] as f64).into(),
                self.ms(calls, router_ms).into(),
            ]
        };
        (0..=STEPS).map(row).collect()
    }

    /// Rows of the table of [`methods_table`]: what it takes the router to be as good as other methods of the run.
    pub(super) fn against(&self, others: &[Other], form: Form, router_ms: f64) -> Vec<Vec<Cell>> {
        let row = |other: &Other| {
            let calls = self.correct.iter().position(|correct| *correct >= other.correct);
            vec![
                form.as_str().into(),
                other.method.as_str().into(),
                self.share(other.correct).into(),
                other.milliseconds.into(),
                calls.map(|calls| self.share(calls)).into(),
                Cell::from(calls.map(|calls| self.ms(calls, router_ms))),
            ]
        };
        others.iter().map(row).collect()
    }

    /// Share of calls and accuracy, from no calls to all.
    pub(super) fn points(&self) -> Vec<(f64, f64)> {
        (0..=self.questions()).map(|calls| (self.share(calls), self.share(self.correct[calls]))).collect()
    }

    /// The same of calls where they help.
    pub(super) fn ideal(&self) -> Vec<(f64, f64)> {
        (0..=self.questions()).map(|calls| (self.share(calls), self.share(self.ideal[calls]))).collect()
    }
}

pub(super) fn curve_table(rows: Vec<Vec<Cell>>) -> Table {
    let about = "Accuracy and time by the share of questions that go to the strong method, those of the highest score first. \
                 `threshold` is the score from which on they do. `gap_closed` is 0 for the weak method and 1 for the strong \
                 one; `random` is the accuracy of as many calls without regard to the question, `ideal` that of calls \
                 where they help. Milliseconds are means of the records, and the router's own.";
    let columns = [
        ("form", Kind::Text),
        ("strong", Kind::Share),
        ("threshold", Kind::Number),
        ("n", Kind::Count),
        ("correct", Kind::Count),
        ("accuracy", Kind::Share),
        ("low", Kind::Share),
        ("high", Kind::Share),
        ("random", Kind::Share),
        ("ideal", Kind::Share),
        ("gap_closed", Kind::Number),
        ("ms", Kind::Milliseconds),
    ];
    let title = "Accuracy by the share that goes to the strong method";
    Table { rows, ..Table::new("curve", title, about, &columns) }
}

pub(super) fn methods_table(rows: Vec<Vec<Cell>>) -> Table {
    let about = "Methods of the test run, and the smallest share of questions with which the router is as accurate. Nothing where no \
                 share is enough.";
    let columns = [
        ("form", Kind::Text),
        ("method", Kind::Text),
        ("accuracy", Kind::Share),
        ("ms", Kind::Milliseconds),
        ("strong_to_match", Kind::Share),
        ("ms_to_match", Kind::Milliseconds),
    ];
    Table { rows, ..Table::new("methods", "What it takes the router to be as accurate", about, &columns) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use c2c_recipe::Method;

    fn question(weak: bool, strong: bool) -> Question {
        Question {
            benchmark: "x".into(),
            id: "q".into(),
            text: String::new(),
            correct: [weak, strong],
            right: vec![weak, strong],
            milliseconds: [1.0, 3.0],
        }
    }

    #[test]
    fn four_questions_by_hand() {
        let questions = [question(true, false), question(false, true), question(false, true), question(true, true)];
        // The two that need the strong method come first and third.
        let curve = Curve::new(&questions, &[0.4, 0.9, 0.3, 0.1]);
        assert_eq!(curve.correct, [2, 3, 2, 3, 3]);
        assert_eq!(curve.ideal, [2, 3, 4, 4, 3]);
        assert_eq!(curve.milliseconds, [4.0, 6.0, 8.0, 10.0, 12.0]);
        // Of the four pairs of one that needs it and one that doesn't, three are in order.
        assert_eq!(curve.order(), Some(0.75));
        // Gaps closed: 0, 1, 0, 1, 1; trapezoids of a quarter.
        assert_eq!(curve.recovered(), Some((0.5 + 0.5 + 0.5 + 1.0) / 4.0));
        let other = Other { method: Method::C2c, correct: 3, milliseconds: 2.0 };
        let row = &curve.against(&[other], Form::Logistic, 0.5)[0];
        assert_eq!((&row[4], &row[5]), (&Cell::Number(0.25), &Cell::Number(2.0)));
        let rows = curve.rows(Form::Logistic, 0.5);
        assert_eq!(rows.len(), 11);
        assert_eq!((&rows[0][11], &rows[10][11]), (&Cell::Number(1.5), &Cell::Number(3.5)));
        let (points, ideal) = (curve.points(), curve.ideal());
        assert_eq!((points[1], points[4]), ((0.25, 0.75), (1.0, 0.75)));
        assert_eq!(ideal[2], (0.5, 1.0));
    }

    #[test]
    fn without_a_gap_nothing_is_closed() {
        let curve = Curve::new(&[question(true, true), question(false, false)], &[0.5, 0.5]);
        assert_eq!((curve.recovered(), curve.order()), (None, None));
        let equal = Curve::new(&[question(false, true), question(true, true)], &[0.5, 0.5]);
        assert_eq!(equal.order(), Some(0.5));
    }
}
