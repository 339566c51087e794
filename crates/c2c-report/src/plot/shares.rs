//! Accuracy over the share of a prompt that is fused, a line from each end, with what both models reach alone.

use c2c_eval::stats::Accuracy;
use c2c_recipe::FusedFrom;

use super::canvas::{self, Anchor, Canvas, GRID, INK, MARKS, Mark, SOFT, Scale, TEXT, mark_of, tick_text};
use crate::ReportError;
use crate::report::fused::Point;
use crate::report::sums::sums;
use crate::report::tables::PARTIAL;
use crate::report::{By, RunData};

/// Most panels of a plot.
const PANELS: usize = 4;
const WIDTH: i32 = 900;
const LEFT: i32 = 70;
const RIGHT: i32 = 690;
/// Above the first panel, of a panel's drawing, and from one panel to the next.
const HEAD: i32 = 44;
const HEIGHT: i32 = 300;
const STEP: i32 = 390;
/// How far points of the two ends stand apart, so that intervals of one share don't cover each other.
const APART: i32 = 3;

/// One method of one fuser on one set of questions.
struct Panel<'a> {
    method: &'a str,
    recipe: &'a str,
    points: Vec<&'a Point<'a>>,
}

/// The SVG; none if no method is there with several shares.
pub(super) fn draw(points: &[Point<'_>]) -> Result<Option<String>, ReportError> {
    let panels = panels(points);
    if panels.is_empty() {
        return Ok(None);
    }
    let shown = &panels[..panels.len().min(PANELS)];
    let about =
        "right answers in percent over the share of a prompt's tokens that is fused, from the front and from the back";
    let size = (WIDTH, HEAD + STEP * shown.len() as i32);
    let svg = canvas::draw("Accuracy by the share that is fused", about, size, |canvas| {
        for (panel, place) in shown.iter().zip(0..) {
            panel.draw(canvas, HEAD + STEP * place)?;
        }
        if shown.len() < panels.len() {
            let left = format!("the first {} of {} methods and fusers", shown.len(), panels.len());
            canvas.text(&left, (WIDTH - 20, 24), TEXT, SOFT, Anchor::Right)?;
        } else if points.iter().any(|point| !point.run.partial.is_empty()) {
            canvas.text(&format!("some results are {PARTIAL}"), (WIDTH - 20, 24), TEXT, SOFT, Anchor::Right)?;
        }
        Ok(())
    })?;
    Ok(Some(svg))
}

/// A panel for each method that is no control, and for each fuser and set of questions.
fn panels<'a>(points: &'a [Point<'a>]) -> Vec<Panel<'a>> {
    let mut panels: Vec<Panel<'a>> = Vec::new();
    for point in points.iter().filter(|point| !point.is_control()) {
        let line = point.run.fused.line();
        let same = |panel: &Panel<'_>| panel.method == point.method && panel.points[0].run.fused.line() == line;
        match panels.iter_mut().find(|panel| same(panel)) {
            Some(panel) => panel.points.push(point),
            None => panels.push(Panel { method: &point.method, recipe: &line[0], points: vec![point] }),
        }
    }
    let share = |point: &Point<'_>| point.run.fused.share();
    panels.retain(|panel| panel.points.iter().any(|point| share(point) != share(panel.points[0])));
    panels
}

impl Panel<'_> {
    /// Those of one end, from nothing to all; those two are of either end.
    fn from(&self, end: FusedFrom) -> Vec<&Point<'_>> {
        let mut of: Vec<&Point<'_>> =
            self.points.iter().copied().filter(|point| point.run.fused.from().is_none_or(|from| from == end)).collect();
        of.sort_by(|a, b| a.run.fused.share().total_cmp(&b.run.fused.share()));
        of
    }

    /// What a method reaches that fuses nothing, in the first run that has asked it.
    fn alone(&self, method: &str) -> Option<f64> {
        let of = |run: &RunData| sums(run, By::Method).into_iter().find(|sum| sum.method == method);
        self.points.iter().find_map(|point| Some(100.0 * of(point.run)?.accuracy().accuracy))
    }

    fn draw(&self, canvas: &Canvas<'_>, top: i32) -> Result<(), ReportError> {
        let (top, bottom) = (top + 24, top + 24 + HEIGHT);
        let x = Scale::linear((0.0, 100.0), (LEFT + 12, RIGHT - 12));
        // Room above 100, so that marks there are seen whole.
        let y = Scale::linear((0.0, 104.0), (bottom, top));
        canvas.text(&format!("{} of {}", self.method, self.recipe), (LEFT, top - 14), TEXT, SOFT, Anchor::Left)?;
        for tick in x.ticks() {
            canvas.line(vec![(x.at(tick), top), (x.at(tick), bottom)], GRID, 1)?;
            canvas.text(&tick_text(tick), (x.at(tick), bottom + 14), TEXT, INK, Anchor::Middle)?;
        }
        for tick in Scale::linear((0.0, 100.0), (bottom, top)).ticks() {
            canvas.line(vec![(LEFT, y.at(tick)), (RIGHT, y.at(tick))], GRID, 1)?;
            canvas.text(&tick_text(tick), (LEFT - 8, y.at(tick)), TEXT, INK, Anchor::Right)?;
        }
        canvas.line(vec![(LEFT, top), (LEFT, bottom), (RIGHT, bottom)], INK, 1)?;
        let axis = "share of the prompt's tokens that is fused, %";
        canvas.text(axis, ((LEFT + RIGHT) / 2, bottom + 38), TEXT, INK, Anchor::Middle)?;
        canvas.upright("right answers, %", (20, (top + bottom) / 2))?;

        let mut key = top + 10;
        let mut named = |name: &str, mark: Mark, with_mark: bool| {
            canvas.line(vec![(RIGHT + 14, key), (RIGHT + 34, key)], mark.colour, 2)?;
            if with_mark {
                canvas.mark(mark, (RIGHT + 24, key))?;
            }
            canvas.text(name, (RIGHT + 42, key), TEXT, INK, Anchor::Left)?;
            key += 22;
            Ok::<(), ReportError>(())
        };
        for method in ["receiver", "sharer"] {
            let Some(accuracy) = self.alone(method) else { continue };
            canvas.line(vec![(LEFT, y.at(accuracy)), (RIGHT, y.at(accuracy))], mark_of(method).colour, 2)?;
            named(&format!("{method} alone"), mark_of(method), false)?;
        }
        // The back first, so that what both have in common wears the front's mark.
        for (end, mark, aside) in [(FusedFrom::Back, BACK, APART), (FusedFrom::Front, FRONT, -APART)] {
            if self.has(end) || (end == FusedFrom::Front && !self.has(FusedFrom::Back)) {
                Self::line(canvas, &self.from(end), mark, aside, (&x, &y))?;
                named(&format!("fused from the {end}"), mark, true)?;
            }
        }
        Ok(())
    }

    /// Whether there is a share from this end.
    fn has(&self, end: FusedFrom) -> bool {
        self.points.iter().any(|point| point.run.fused.from() == Some(end))
    }

    fn line(
        canvas: &Canvas<'_>,
        points: &[&Point<'_>],
        mark: Mark,
        aside: i32,
        (x, y): (&Scale, &Scale),
    ) -> Result<(), ReportError> {
        let at = |point: &Point<'_>| {
            let aside = if point.run.fused.from().is_some() { aside } else { 0 };
            x.at(100.0 * point.run.fused.share()) + aside
        };
        let places = points.iter().map(|point| (at(point), y.at(100.0 * point.accuracy.accuracy)));
        canvas.line(places.collect(), mark.colour, 2)?;
        for point in points {
            let Accuracy { accuracy, low, high, .. } = point.accuracy;
            let across = at(point);
            canvas.line(vec![(across, y.at(100.0 * low)), (across, y.at(100.0 * high))], mark.colour, 1)?;
            canvas.mark(mark, (across, y.at(100.0 * accuracy)))?;
        }
        Ok(())
    }
}

/// The marks of the two ends: none of them is the Receiver's or the Sharer's.
const FRONT: Mark = MARKS[0];
const BACK: Mark = MARKS[3];
