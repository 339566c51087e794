//! Accuracy by length: the questions of a benchmark in bins, by how long their prompts and their replies are.
//!
//! All methods are told on the same questions, so that bins can be compared across them: the lengths are those of one
//! method, C2C's if it was asked. What is kept of a run is a row a bin and method.

use c2c_eval::stats::Accuracy;
use c2c_recipe::Method;
use polars::prelude::{DataFrame, PolarsResult};

use super::Report;
use super::answers::Answers;
use super::tables::{row, table};
use crate::{Cell, Kind, Table};

/// The columns that are read for it.
pub(super) const COLUMNS: [&str; 2] = ["prompt_tokens", "output_tokens"];
/// What they are called in the table, in the same order.
const NAMES: [&str; 2] = ["prompt", "reply"];

/// Bins of a benchmark, at most, and questions in a bin, at least.
const BINS: usize = 8;
pub(super) const QUESTIONS: usize = 20;

/// How much better than the Receiver the Sharer has to be for a recovery to mean anything. A share of the questions, less
/// what rounding takes from it.
const LEAD: f64 = 0.05 - 1e-9;

/// What a method reaches on the questions of one bin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Binned {
    benchmark: String,
    /// Of the prompts or of the replies, and of which method.
    length: &'static str,
    length_of: String,
    /// The shortest and the longest in the bin, in tokens.
    ends: (u32, u32),
    method: String,
    accuracy: Accuracy,
    /// Of C2C: how much of the Sharer's lead it has.
    recovery: Option<f64>,
}

/// One question: its place among the answers, and its lengths.
struct Measured {
    place: usize,
    tokens: [u32; 2],
}

/// The bins of a run, in the order of its benchmarks.
pub(super) fn binned(frame: &DataFrame, answers: &Answers, methods: &[String]) -> PolarsResult<Vec<Binned>> {
    let is = |name: &str, method: Method| name == method.as_str();
    let Some(length_of) = methods.iter().find(|name| is(name, Method::C2c)).or(methods.first()) else {
        return Ok(Vec::new());
    };
    let text = |name: &str| frame.column(name)?.str();
    let (by, benchmarks, ids, errors) = (text("method")?, text("benchmark")?, text("question_id")?, text("error")?);
    let [prompts, replies] = COLUMNS.map(|name| frame.column(name)?.u32());
    let (prompts, replies) = (prompts?, replies?);
    let mut measured: Vec<(&str, Vec<Measured>)> = Vec::new();
    for at in 0..frame.height() {
        // A question without a reply has no length.
        if by.get(at) != Some(length_of) || errors.get(at).is_some() {
            continue;
        }
        let (Some(benchmark), Some(id)) = (benchmarks.get(at), ids.get(at)) else { continue };
        let (Some(prompt), Some(reply)) = (prompts.get(at), replies.get(at)) else { continue };
        let Some(place) = answers.place(benchmark, id) else { continue };
        let one = Measured { place, tokens: [prompt, reply] };
        match measured.iter_mut().find(|(name, _)| *name == benchmark) {
            Some((_, questions)) => questions.push(one),
            None => measured.push((benchmark, vec![one])),
        }
    }
    let mut all = Vec::new();
    for (benchmark, questions) in &measured {
        for (side, length) in NAMES.into_iter().enumerate() {
            for ends in bins(questions.iter().map(|question| question.tokens[side]).collect()) {
                let inside = questions.iter().filter(|one| (ends.0..=ends.1).contains(&one.tokens[side]));
                let places: Vec<usize> = inside.map(|one| one.place).collect();
                let accuracy = |method: &String| {
                    let scores: Vec<f64> = places.iter().filter_map(|place| answers.score(method, *place)).collect();
                    Accuracy::of_scores(&scores)
                };
                let found: Vec<Accuracy> = methods.iter().map(accuracy).collect();
                let of = |wanted| methods.iter().position(|name| is(name, wanted)).map(|place| found[place].accuracy);
                let recovery = recovery(of(Method::C2c), of(Method::Receiver), of(Method::Sharer));
                all.extend(methods.iter().zip(&found).map(|(method, accuracy)| Binned {
                    benchmark: (*benchmark).to_owned(),
                    length,
                    length_of: length_of.clone(),
                    ends,
                    method: method.clone(),
                    accuracy: *accuracy,
                    recovery: recovery.filter(|_| is(method, Method::C2c)),
                }));
            }
        }
    }
    Ok(all)
}

fn recovery(c2c: Option<f64>, receiver: Option<f64>, sharer: Option<f64>) -> Option<f64> {
    let (c2c, receiver, sharer) = (c2c?, receiver?, sharer?);
    (sharer - receiver >= LEAD).then(|| (c2c - receiver) / (sharer - receiver))
}

/// The ends of bins that hold about as many each. Equal lengths stay together. Nothing if there aren't two bins to compare.
fn bins(mut lengths: Vec<u32>) -> Vec<(u32, u32)> {
    lengths.sort_unstable();
    let wanted = (lengths.len() / QUESTIONS).min(BINS);
    let mut bins: Vec<(u32, u32)> = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for equal in lengths.chunk_by(|a, b| a == b) {
        end += equal.len();
        // What large groups took is shared out among the bins that are left.
        let fair = (lengths.len() - begin).div_ceil(wanted.saturating_sub(bins.len()).max(1));
        if end - begin >= fair.max(QUESTIONS) {
            bins.push((lengths[begin], lengths[end - 1]));
            begin = end;
        }
    }
    // Too few for a bin of their own.
    if let (Some(last), Some(longest)) = (bins.last_mut(), lengths.last()) {
        last.1 = *longest;
    }
    if bins.len() > 1 { bins } else { Vec::new() }
}

pub(super) fn by_length(report: &Report) -> Table {
    let about = "Questions in bins of about as many each (8 at most, of 20 or more), by the tokens of the prompt and by those of the reply, from \
                 the shortest to the longest of a bin. Both are the lengths of one method, `length_of`; every method is told on the same \
                 questions. `low` and `high` as in the table by benchmark. `recovery` is C2C's lead over the receiver as a share of the sharer's, \
                 where the sharer leads by 5 points or more.";
    let columns = [
        ("benchmark", Kind::Text),
        ("length", Kind::Text),
        ("length_of", Kind::Text),
        ("from", Kind::Count),
        ("to", Kind::Count),
        ("method", Kind::Text),
        ("n", Kind::Count),
        ("accuracy", Kind::Share),
        ("low", Kind::Share),
        ("high", Kind::Share),
        ("recovery", Kind::Share),
    ];
    let mut table = table("accuracy_by_length", "Accuracy by length in tokens", about, &columns);
    for run in report.runs() {
        for bin in &run.lengths {
            let mut cells = row(run, [bin.benchmark.as_str().into(), bin.length.into(), bin.length_of.as_str().into()]);
            cells.extend([Cell::Count(bin.ends.0.into()), Cell::Count(bin.ends.1.into())]);
            cells.extend([bin.method.as_str().into(), bin.accuracy.total.into()]);
            cells.extend([bin.accuracy.accuracy, bin.accuracy.low, bin.accuracy.high].map(Cell::from));
            cells.push(bin.recovery.into());
            table.rows.push(cells);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many questions of each length.
    fn of(lengths: &[(u32, usize)]) -> Vec<(u32, u32)> {
        bins(lengths.iter().flat_map(|(length, count)| vec![*length; *count]).collect())
    }

    #[test]
    fn bins_hold_about_as_many_each() {
        let all: Vec<(u32, usize)> = (1..=800).map(|length| (length, 1)).collect();
        let expected: Vec<(u32, u32)> = (0..8).map(|bin| (100 * bin + 1, 100 * bin + 100)).collect();
        assert_eq!(of(&all), expected);
        // 59 questions are two bins of 20 or more, not three.
        let some: Vec<(u32, usize)> = (1..=59).map(|length| (length, 1)).collect();
        assert_eq!(of(&some), [(1, 30), (31, 59)]);
    }

    #[test]
    fn equal_lengths_stay_together_and_no_bin_is_small() {
        // Half of 320 are of one length: a bin of their own and the others' share.
        let mut lengths = vec![(5, 160)];
        lengths.extend((10..170).map(|length| (length, 1)));
        let found = of(&lengths);
        assert_eq!((found[0], found.len()), ((5, 5), 8));
        assert_eq!(found[7].1, 169);
        // The last ten are too few.
        assert_eq!(of(&[(3, 40), (4, 40), (9, 10)]), [(3, 3), (4, 9)]);
        // One length, or too few questions: nothing to compare.
        assert!(of(&[(3, 500)]).is_empty() && of(&[(3, 20), (4, 19)]).is_empty() && of(&[]).is_empty());
    }

    #[test]
    fn recovery_needs_a_lead() {
        assert_eq!(recovery(Some(0.5), Some(0.25), Some(0.75)), Some(0.5));
        // 0.3 - 0.25 is a little less than 0.05 in binary.
        assert!(recovery(Some(0.3), Some(0.25), Some(0.3)).is_some_and(|share| (share - 1.0).abs() < 1e-9));
        assert_eq!(recovery(Some(0.5), Some(0.25), Some(0.29)), None);
        assert_eq!(recovery(Some(0.5), None, Some(0.75)), None);
    }
}
