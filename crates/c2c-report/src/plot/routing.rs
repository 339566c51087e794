//! Accuracy over the share of questions that go to the strong method, a line a router.

use super::canvas::{self, Anchor, Canvas, GRID, INK, Mark, SOFT, Scale, TEXT, mark_of, tick_text};
use crate::ReportError;
use c2c_eval::stats::wilson_interval;

const SIZE: (i32, i32) = (900, 560);
const LEFT: i32 = 70;
const RIGHT: i32 = 700;
const TOP: i32 = 50;
const BOTTOM: i32 = 490;
/// Marks of a line, but for the first.
const STEPS: usize = 10;

/// A router's curve.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub name: String,
    /// Share of calls and accuracy, from no calls to all.
    pub points: Vec<(f64, f64)>,
}

/// The SVG of routers on so many questions. `ideal` is what calls where they help come to, `others` are the run's methods with
/// their accuracies.
pub(crate) fn draw(
    [weak, strong]: [&str; 2],
    questions: usize,
    lines: &[Line],
    ideal: &[(f64, f64)],
    others: &[(String, f64)],
) -> Result<String, ReportError> {
    let all = lines.iter().flat_map(|line| &line.points).chain(ideal).map(|point| point.1);
    let all = || all.clone().chain(others.iter().map(|other| other.1));
    let (low, high) = (all().fold(1.0, f64::min), all().fold(0.0, f64::max));
    let room = ((high - low) * 0.08).max(0.02);
    let x = Scale::linear((0.0, 100.0), (LEFT, RIGHT));
    let y = Scale::linear((100.0 * (low - room).max(0.0), 100.0 * (high + room)), (BOTTOM, TOP));
    let at = |point: &(f64, f64)| (x.at(100.0 * point.0), y.at(100.0 * point.1));
    let about = format!(
        "right answers in percent over the share of {questions} questions that go from {weak} to {strong}, with Wilson's 95 % \
         intervals"
    );
    canvas::draw("Accuracy against calls of the strong method", &about, SIZE, |canvas| {
        axes(canvas, &x, &y, &format!("questions that go from {weak} to {strong}, %"))?;
        // What others reach, whatever the share.
        for (method, accuracy) in others.iter().filter(|(method, _)| has_line(method, [weak, strong])) {
            let height = y.at(100.0 * accuracy);
            canvas.line(vec![(LEFT, height), (RIGHT, height)], mark_of(method).colour, 1)?;
            canvas.mark(mark_of(method), (RIGHT, height))?;
        }
        let ends = [ideal.first(), ideal.last()].map(|end| end.map_or((LEFT, BOTTOM), at));
        canvas.line(ends.to_vec(), SOFT, 1)?;
        canvas.line(thinned(ideal).iter().map(at).collect(), GRID_OF_IDEAL, 2)?;
        for (line, mark) in lines.iter().zip(marks()) {
            canvas.line(thinned(&line.points).iter().map(at).collect(), mark.colour, 2)?;
            for step in 0..=STEPS {
                let place = ((line.points.len().max(1) - 1) * step + STEPS / 2) / STEPS;
                let Some(point) = line.points.get(place) else { continue };
                let (low, high) = wilson_interval((point.1 * questions as f64).round() as usize, questions);
                let across = at(point).0;
                canvas.line(vec![(across, y.at(100.0 * low)), (across, y.at(100.0 * high))], mark.colour, 1)?;
                canvas.mark(mark, at(point))?;
            }
        }
        let named = others.iter().map(|other| other.0.as_str()).filter(|method| has_line(method, [weak, strong]));
        legend(canvas, lines, named)
    })
}

/// The line of ideal calls: a light one that is still seen.
const GRID_OF_IDEAL: plotters::style::RGBColor = plotters::style::RGBColor(170, 170, 170);

/// Marks of routers: those of the controls, which are no choice and have no line here.
fn marks() -> impl Iterator<Item = Mark> {
    CONTROLS.into_iter().map(mark_of)
}

const CONTROLS: [&str; 3] = ["mismatched", "gates_shut", "several_mismatched"];

/// Whether a method's accuracy is a line of its own: the two that are routed between are the ends of every line.
fn has_line(method: &str, ends: [&str; 2]) -> bool {
    !ends.contains(&method) && !CONTROLS.contains(&method)
}

fn axes(canvas: &Canvas<'_>, x: &Scale, y: &Scale, below: &str) -> Result<(), ReportError> {
    for tick in x.ticks() {
        let at = x.at(tick);
        canvas.line(vec![(at, TOP), (at, BOTTOM)], GRID, 1)?;
        canvas.text(&tick_text(tick), (at, BOTTOM + 14), TEXT, INK, Anchor::Middle)?;
    }
    for tick in y.ticks() {
        let at = y.at(tick);
        canvas.line(vec![(LEFT, at), (RIGHT, at)], GRID, 1)?;
        canvas.text(&tick_text(tick), (LEFT - 8, at), TEXT, INK, Anchor::Right)?;
    }
    canvas.line(vec![(LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)], INK, 1)?;
    canvas.text(below, ((LEFT + RIGHT) / 2, BOTTOM + 40), TEXT, INK, Anchor::Middle)?;
    canvas.upright("right answers, %", (20, (TOP + BOTTOM) / 2))
}

fn legend<'a>(canvas: &Canvas<'_>, lines: &[Line], others: impl Iterator<Item = &'a str>) -> Result<(), ReportError> {
    let (left, mut height) = (RIGHT + 24, TOP + 10);
    let mut entry = |colour, width, mark: Option<Mark>, name: &str| {
        canvas.line(vec![(left, height), (left + 24, height)], colour, width)?;
        if let Some(mark) = mark {
            canvas.mark(mark, (left + 12, height))?;
        }
        canvas.text(name, (left + 32, height), TEXT, INK, Anchor::Left)?;
        height += 22;
        Ok::<(), ReportError>(())
    };
    for (line, mark) in lines.iter().zip(marks()) {
        entry(mark.colour, 2, Some(mark), &format!("router, {}", line.name))?;
    }
    entry(SOFT, 1, None, "as many at random")?;
    entry(GRID_OF_IDEAL, 2, None, "calls where they help")?;
    for method in others {
        entry(mark_of(method).colour, 1, Some(mark_of(method)), method)?;
    }
    Ok(())
}

/// As many points as there is room for; the last one stays.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(400).max(1);
    let last = points.last().into_iter().filter(|_| !(points.len().max(1) - 1).is_multiple_of(step));
    points.iter().step_by(step).chain(last).copied().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_line_and_method_is_named_and_ends_where_it_should() {
        let points =
            |bend: f64| (0..=1000).map(|n| (n as f64 / 1e3, 0.25 + 0.5 * (n as f64 / 1e3).powf(bend))).collect();
        let lines = ["logistic", "mf"].map(|name| Line { name: name.to_owned(), points: points(0.5) });
        let others = [("receiver", 0.25), ("sharer", 0.75), ("c2c", 0.6), ("mismatched", 0.3)]
            .map(|(name, share)| (name.to_owned(), share));
        let svg = draw(["receiver", "sharer"], 1000, &lines, &points(0.25), &others).unwrap();
        for words in
            ["router, logistic", "router, mf", "as many at random", "calls where they help", "c2c", "1000 questions"]
        {
            assert!(svg.contains(words), "no `{words}`");
        }
        // The two methods are the ends of every line, and controls are no choice.
        assert!(!svg.contains(">\nsharer\n") && !svg.contains("mismatched"));
        let thin = thinned(&lines[0].points);
        assert!(thin.len() <= 402 && thin.last() == lines[0].points.last() && thin[0] == (0.0, 0.25), "{}", thin.len());
    }
}
