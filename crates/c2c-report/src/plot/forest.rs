//! A mark with its interval a row, rows grouped by run.

use super::canvas::{self, Anchor, GRID, INK, Mark, SOFT, Scale, TEXT, tick_text};
use crate::ReportError;
use plotters::style::WHITE;

/// Most rows of a plot; more could not be read.
const ROWS: usize = 60;
const WIDTH: i32 = 900;
const LABELS: i32 = 272;
const ROW: i32 = 24;

/// A row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// The run; a heading stands where it changes.
    pub group: String,
    pub label: String,
    pub mark: Mark,
    pub value: f64,
    pub ends: (f64, f64),
}

/// What a plot of this kind shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forest<'a> {
    pub title: &'a str,
    pub axis: &'a str,
    /// The axis; none to fit it to the rows.
    pub range: Option<(f64, f64)>,
    /// A line at 0.
    pub zero: bool,
    /// Values with their sign.
    pub signed: bool,
}

impl Forest<'_> {
    /// The SVG; none without rows.
    pub(super) fn draw(&self, rows: &[Row]) -> Result<Option<String>, ReportError> {
        if rows.is_empty() {
            return Ok(None);
        }
        let shown = &rows[..rows.len().min(ROWS)];
        let groups = shown.chunk_by(|a, b| a.group == b.group).count() as i32;
        let top = 48;
        let bottom = top + (groups + shown.len() as i32) * ROW;
        let scale = Scale::linear(self.range.unwrap_or_else(|| fitted(shown)), (LABELS, WIDTH - 90));
        let size = (WIDTH, bottom + 62);
        let svg = canvas::draw(self.title, self.axis, size, |canvas| {
            for tick in scale.ticks() {
                let x = scale.at(tick);
                canvas.line(vec![(x, top), (x, bottom)], GRID, 1)?;
                canvas.text(&tick_text(tick), (x, bottom + 14), TEXT, INK, Anchor::Middle)?;
            }
            if self.zero {
                let x = scale.at(0.0);
                canvas.line(vec![(x, top), (x, bottom)], INK, 1)?;
            }
            canvas.line(vec![(LABELS, bottom), (WIDTH - 90, bottom)], INK, 1)?;
            canvas.text(self.axis, ((LABELS + WIDTH - 90) / 2, bottom + 36), TEXT, INK, Anchor::Middle)?;
            let mut y = top + ROW / 2;
            for group in shown.chunk_by(|a, b| a.group == b.group) {
                // A run's name may be longer than the labels: no lines behind it.
                canvas.fill((LABELS, y - ROW / 2), (WIDTH - 90, y + ROW / 2), WHITE, 1.0)?;
                canvas.text(&group[0].group, (20, y), TEXT, SOFT, Anchor::Left)?;
                y += ROW;
                for row in group {
                    self.row(canvas, &scale, row, y)?;
                    y += ROW;
                }
            }
            if shown.len() < rows.len() {
                let left = format!("the first {} of {} rows", shown.len(), rows.len());
                canvas.text(&left, (WIDTH - 20, 24), TEXT, SOFT, Anchor::Right)?;
            }
            Ok(())
        })?;
        Ok(Some(svg))
    }

    fn row(&self, canvas: &canvas::Canvas<'_>, scale: &Scale, row: &Row, y: i32) -> Result<(), ReportError> {
        canvas.text(&row.label, (LABELS - 14, y), TEXT, INK, Anchor::Right)?;
        let (low, high) = (scale.at(row.ends.0), scale.at(row.ends.1));
        canvas.line(vec![(low, y), (high, y)], row.mark.colour, 2)?;
        for end in [low, high] {
            canvas.line(vec![(end, y - 4), (end, y + 4)], row.mark.colour, 2)?;
        }
        canvas.mark(row.mark, (scale.at(row.value), y))?;
        let value = if self.signed { format!("{:+.1}", row.value) } else { format!("{:.1}", row.value) };
        canvas.text(&value, (WIDTH - 20, y), TEXT, INK, Anchor::Right)
    }
}

/// An axis that holds all intervals and 0, with some room.
fn fitted(rows: &[Row]) -> (f64, f64) {
    let low = rows.iter().map(|row| row.ends.0).fold(0.0, f64::min);
    let high = rows.iter().map(|row| row.ends.1).fold(0.0, f64::max);
    let room = ((high - low) * 0.05).max(0.5);
    (low - room, high + room)
}
