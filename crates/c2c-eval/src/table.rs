//! An evaluation as a plain-text table.

use crate::stats::PairedDifference;
use crate::{Evaluation, MethodResult};
use c2c_recipe::Method;

const COLUMNS: [&str; 6] = ["method", "accuracy", "95 % interval", "correct", "ms/question", "answers"];
/// The columns set flush left; numbers are set flush right.
const LEFT: [usize; 2] = [0, 5];
/// How many unanswered questions the table lists; the summary lists all.
const FAILURES_SHOWN: usize = 10;

impl Evaluation {
    /// The figures for a reader: a line a method, then what the questions fall into, then the paired differences, then the shut gates' proof. Every line
    /// ends in a line break.
    pub fn table(&self) -> String {
        let mut rows: Vec<[String; 6]> = vec![COLUMNS.map(str::to_owned)];
        rows.extend(self.results.iter().map(row));
        let widths: [usize; 6] =
            std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
        let mut text = String::new();
        for row in &rows {
            let cells = row.iter().enumerate().map(|(column, cell)| {
                let width = widths[column];
                if LEFT.contains(&column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text.push_str(&self.breakdown());
        if !self.differences.is_empty() {
            text.push('\n');
        }
        for (first, second, difference) in &self.differences {
            let graded = [first, second].iter().any(|method| self.result(**method).is_some_and(|one| one.graded > 0));
            text.push_str(&line(*first, *second, difference, if graded { "better" } else { "right only" }));
            text.push('\n');
        }
        if let Some(equal) = self.gates_shut_bit_equal {
            let verdict = if equal { "equal to the bit" } else { "NOT equal" };
            text.push_str(&format!("\nwith all gates shut, the logits and the receiver's: {verdict}\n"));
        }
        self.list_failures(&mut text);
        text
    }

    /// The questions that were not answered, the first of them with the reason.
    fn list_failures(&self, text: &mut String) {
        let failures: Vec<_> =
            self.records.iter().filter_map(|record| Some((record, record.error.as_ref()?))).collect();
        if failures.is_empty() {
            return;
        }
        text.push_str("\nnot answered, counted as wrong:\n");
        for (record, error) in failures.iter().take(FAILURES_SHOWN) {
            text.push_str(&format!("  {} {}/{}: {error}\n", record.method, record.benchmark, record.question_id));
        }
        if failures.len() > FAILURES_SHOWN {
            text.push_str(&format!("  and {} more, all in summary.json\n", failures.len() - FAILURES_SHOWN));
        }
    }
}

fn row(result: &MethodResult) -> [String; 6] {
    let accuracy = &result.accuracy;
    let mut answers =
        result.answers.iter().map(|(answer, count)| format!("{answer} {count}")).collect::<Vec<_>>().join("  ");
    if result.skipped > 0 {
        answers.push_str(&format!("  ({} failed)", result.skipped));
    }
    [
        result.method.to_string(),
        format!("{:.1} %", 100.0 * accuracy.accuracy),
        format!("{:.1} to {:.1} %", 100.0 * accuracy.low, 100.0 * accuracy.high),
        // A graded answer is hardly ever right to the last digit, so that a count of those says nothing.
        if result.graded > 0 { "graded".to_owned() } else { format!("{}/{}", accuracy.correct, accuracy.total) },
        format!("{:.2}", result.ms_per_question),
        answers,
    ]
}

/// `won` says what counts: of right and wrong answers that the other is wrong, of graded ones that its score is lower.
fn line(first: Method, second: Method, difference: &PairedDifference, won: &str) -> String {
    format!(
        "{first} less {second}: {:+.1} points, 95 % interval {:+.1} to {:+.1}, p {}; \
         {} questions {won} with {first}, {} {} with {second}",
        100.0 * difference.difference,
        100.0 * difference.low,
        100.0 * difference.high,
        p_value(difference.p_value),
        difference.only_first,
        difference.only_second,
        won.strip_prefix("right ").unwrap_or(won),
    )
}

fn p_value(p: f64) -> String {
    if p >= 1e-3 { format!("{p:.3}") } else { format!("{p:.1e}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::evaluation;

    #[test]
    fn table_by_hand() {
        let mut evaluation = evaluation();
        evaluation.differences[0].2.low = 0.25;
        evaluation.differences[0].2.high = 1.0;
        evaluation.differences.truncate(1);
        // Wilson intervals of 1, 4 and 2 of 4.
        let expected = "\
method      accuracy    95 % interval  correct  ms/question  answers
receiver      25.0 %    4.6 to 69.9 %      1/4         2.50  A 1  B 1  C 0  D 0  none 2  (1 failed)
c2c          100.0 %  51.0 to 100.0 %      4/4         2.50  A 0  B 4  C 0  D 0  none 0
mismatched    50.0 %   15.0 to 85.0 %      2/4         2.50  A 0  B 2  C 0  D 2  none 0

c2c less receiver: +75.0 points, 95 % interval +25.0 to +100.0, p 0.250; 3 questions right only with c2c, 0 only with receiver

with all gates shut, the logits and the receiver's: equal to the bit

not answered, counted as wrong:
  receiver stones/q3: the prompt is too long
";
        assert_eq!(evaluation.table(), expected);
    }

    #[test]
    fn graded_answers_are_better_and_not_right() {
        let mut evaluation = evaluation();
        for result in &mut evaluation.results {
            result.graded = 4;
        }
        let table = evaluation.table();
        assert!(table.contains("3 questions better with c2c, 0 better with receiver"), "{table}");
        assert!(table.contains("  graded  ") && !table.contains("4/4"), "{table}");
    }

    #[test]
    fn what_was_not_asked_is_left_out() {
        let mut evaluation = evaluation();
        evaluation.differences.clear();
        evaluation.gates_shut_bit_equal = None;
        evaluation.records.clear();
        assert_eq!(evaluation.table().lines().count(), 4);
        evaluation.gates_shut_bit_equal = Some(false);
        assert!(evaluation.table().ends_with(": NOT equal\n"));
    }

    #[test]
    fn a_long_list_of_failures_ends_with_their_number() {
        let mut evaluation = evaluation();
        let failed = evaluation.records[3].clone();
        evaluation.records.extend(std::iter::repeat_n(failed, 14));
        assert!(evaluation.table().ends_with("too long\n  and 5 more, all in summary.json\n"));
    }

    #[test]
    fn small_p_values_keep_their_size() {
        assert_eq!((p_value(0.0314), p_value(3.2e-31)), ("0.031".to_owned(), "3.2e-31".to_owned()));
    }
}
