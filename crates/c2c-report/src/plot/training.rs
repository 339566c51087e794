//! Loss and open gates over the steps of training, a line a run.

use super::canvas::{self, Anchor, Canvas, GRID, INK, MARKS, SOFT, Scale, TEXT, tick_text};
use super::label;
use crate::ReportError;
use crate::report::{Curve, RunData};

/// Most runs of a plot: as many as there are colours.
const RUNS: usize = MARKS.len();
const SIZE: (i32, i32) = (900, 640);
const LEFT: i32 = 76;
const RIGHT: i32 = 870;
const LOSS: (i32, i32) = (320, 60);
const GATES: (i32, i32) = (520, 370);

/// The SVG; none if no run was trained.
pub(super) fn draw(runs: &[RunData]) -> Result<Option<String>, ReportError> {
    let trained: Vec<(&RunData, &Curve)> = runs.iter().filter_map(|run| Some((run, run.curve.as_ref()?))).collect();
    if trained.is_empty() {
        return Ok(None);
    }
    let shown = &trained[..trained.len().min(RUNS)];
    let points = || shown.iter().flat_map(|(_, curve)| &curve.points);
    let finite = |values: &mut dyn Iterator<Item = f64>| {
        values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)))
    };
    let steps = finite(&mut points().map(|point| point.step));
    let highest = finite(&mut points().map(|point| point.loss)).1;
    let x = Scale::linear(steps, (LEFT, RIGHT));
    let height = SIZE.1 - 40 + 20 * shown.len() as i32;
    let about = "mean loss of each step above, share of open gates below";
    let svg = canvas::draw("Training", about, (SIZE.0, height), |canvas| {
        let loss = Scale::linear((0.0, if highest.is_finite() { highest * 1.05 } else { 1.0 }), LOSS);
        let gates = Scale::linear((0.0, 100.0), GATES);
        panel(canvas, &x, &loss, LOSS, "loss")?;
        panel(canvas, &x, &gates, GATES, "gates open, %")?;
        canvas.text("optimiser step", ((LEFT + RIGHT) / 2, GATES.0 + 38), TEXT, INK, Anchor::Middle)?;
        for (place, (run, curve)) in shown.iter().enumerate() {
            let colour = MARKS[place].colour;
            let finite = curve.points.iter().filter(|point| point.loss.is_finite());
            canvas.line(finite.map(|point| (x.at(point.step), loss.at(point.loss))).collect(), colour, 2)?;
            let open = curve.points.iter().map(|point| (x.at(point.step), gates.at(100.0 * point.gates_open)));
            canvas.line(open.collect(), colour, 2)?;
            let y = GATES.0 + 62 + 20 * place as i32;
            canvas.line(vec![(LEFT, y), (LEFT + 24, y)], colour, 2)?;
            canvas.text(&label(run), (LEFT + 32, y), TEXT, INK, Anchor::Left)?;
        }
        if shown.len() < trained.len() {
            let left = format!("the first {} of {} trained runs", shown.len(), trained.len());
            canvas.text(&left, (SIZE.0 - 20, 24), TEXT, SOFT, Anchor::Right)?;
        }
        Ok(())
    })?;
    Ok(Some(svg))
}

fn panel(canvas: &Canvas<'_>, x: &Scale, y: &Scale, (bottom, top): (i32, i32), name: &str) -> Result<(), ReportError> {
    for tick in x.ticks() {
        let at = x.at(tick);
        canvas.line(vec![(at, top), (at, bottom)], GRID, 1)?;
        canvas.text(&tick_text(tick), (at, bottom + 14), TEXT, INK, Anchor::Middle)?;
    }
    for tick in y.ticks() {
        let at = y.at(tick);
        canvas.line(vec![(LEFT, at), (RIGHT, at)], GRID, 1)?;
        canvas.text(&tick_text(tick), (LEFT - 8, at), TEXT, INK, Anchor::Right)?;
    }
    canvas.line(vec![(LEFT, top), (LEFT, bottom), (RIGHT, bottom)], INK, 1)?;
    canvas.upright(name, (22, (bottom + top) / 2))
}
