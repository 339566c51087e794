//! Accuracy against milliseconds, a mark a run and method.

use super::canvas::{self, Anchor, GRID, INK, SOFT, Scale, TEXT, mark_of, tick_text};
use crate::ReportError;
use crate::report::sums::Trade;
use crate::report::tables::PARTIAL;

const SIZE: (i32, i32) = (900, 560);
const LEFT: i32 = 70;
const RIGHT: i32 = 712;
const TOP: i32 = 50;
const BOTTOM: i32 = 490;
/// Up to this many marks get their interval; beyond, the lines would hide the marks.
const WITH_INTERVALS: usize = 40;

/// The SVG; none if nothing was timed.
pub(super) fn draw(trades: &[Trade<'_>]) -> Result<Option<String>, ReportError> {
    let timed: Vec<&Trade<'_>> = trades.iter().filter(|trade| trade.ms > 0.0).collect();
    let (Some(fastest), Some(slowest)) = (timed.first(), timed.last()) else { return Ok(None) };
    let x = Scale::log((fastest.ms / 1.3, slowest.ms * 1.3), (LEFT, RIGHT));
    // Room above 100, so that marks there are seen whole.
    let y = Scale::linear((0.0, 104.0), (BOTTOM, TOP));
    let about = "right answers in percent against milliseconds a question on a logarithmic axis";
    let svg = canvas::draw("Accuracy against milliseconds", about, SIZE, |canvas| {
        for tick in x.ticks() {
            let at = x.at(tick);
            canvas.line(vec![(at, TOP), (at, BOTTOM)], GRID, 1)?;
            canvas.text(&tick_text(tick), (at, BOTTOM + 14), TEXT, INK, Anchor::Middle)?;
        }
        for tick in Scale::linear((0.0, 100.0), (BOTTOM, TOP)).ticks() {
            let at = y.at(tick);
            canvas.line(vec![(LEFT, at), (RIGHT, at)], GRID, 1)?;
            canvas.text(&tick_text(tick), (LEFT - 8, at), TEXT, INK, Anchor::Right)?;
        }
        canvas.line(vec![(LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)], INK, 1)?;
        canvas.text(
            "milliseconds a question (logarithmic)",
            ((LEFT + RIGHT) / 2, BOTTOM + 40),
            TEXT,
            INK,
            Anchor::Middle,
        )?;
        canvas.upright("right answers, %", (20, (TOP + BOTTOM) / 2))?;

        let best: Vec<(i32, i32)> = timed
            .iter()
            .filter(|trade| trade.best)
            .map(|trade| (x.at(trade.ms), y.at(100.0 * trade.sum.accuracy().accuracy)))
            .collect();
        if best.len() > 1 {
            canvas.line(stairs(&best), SOFT, 1)?;
        }
        for trade in &timed {
            let accuracy = trade.sum.accuracy();
            let mark = mark_of(&trade.sum.method);
            let at = x.at(trade.ms);
            if timed.len() <= WITH_INTERVALS {
                canvas.line(
                    vec![(at, y.at(100.0 * accuracy.low)), (at, y.at(100.0 * accuracy.high))],
                    mark.colour,
                    1,
                )?;
            }
            canvas.mark(mark, (at, y.at(100.0 * accuracy.accuracy)))?;
        }
        let mut methods: Vec<String> = Vec::new();
        for trade in &timed {
            if !methods.contains(&trade.sum.method) {
                methods.push(trade.sum.method.clone());
            }
        }
        canvas.legend(&methods, (RIGHT + 24, TOP + 10))?;
        let below = TOP + 10 + 22 * methods.len() as i32;
        if best.len() > 1 {
            canvas.line(vec![(RIGHT + 16, below), (RIGHT + 32, below)], SOFT, 1)?;
            canvas.text("best for its time", (RIGHT + 38, below), TEXT, INK, Anchor::Left)?;
        }
        if timed.iter().any(|trade| !trade.run.partial.is_empty()) {
            canvas.text(&format!("some results are {PARTIAL}"), (SIZE.0 - 20, 24), TEXT, SOFT, Anchor::Right)?;
        }
        Ok(())
    })?;
    Ok(Some(svg))
}

/// What can be reached in a time: level up to the next better one, then up.
fn stairs(points: &[(i32, i32)]) -> Vec<(i32, i32)> {
    let mut stairs = Vec::new();
    for point in points {
        if let Some((_, y)) = stairs.last().copied() {
            stairs.push((point.0, y));
        }
        stairs.push(*point);
    }
    stairs
}
