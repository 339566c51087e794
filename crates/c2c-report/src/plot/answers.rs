//! How often each letter was answered: a field a method and letter, darker for more, with the share in it.

use super::canvas::{self, Anchor, INK, MARKS, SOFT, TEXT, readable_on};
use super::label;
use crate::ReportError;
use crate::report::RunData;
use crate::report::tables::{GOLD, letters};

/// Most rows of a plot.
const ROWS: usize = 60;
const LABELS: i32 = 200;
const FIELD: (i32, i32) = (70, 26);

/// The SVG; none without runs.
pub(super) fn draw(runs: &[RunData]) -> Result<Option<String>, ReportError> {
    let letters = letters(runs);
    let mut rows: Vec<(String, String, Vec<f64>)> = Vec::new();
    for run in runs.iter().filter(|run| !run.methods.is_empty()) {
        for method in run.methods.iter().map(String::as_str).chain([GOLD]) {
            let counts = if method == GOLD { Some(&run.gold) } else { run.answers.get(method) };
            let Some(counts) = counts else { continue };
            let total = counts.values().sum::<usize>().max(1) as f64;
            let shares = letters.iter().map(|l| counts.get(l).copied().unwrap_or(0) as f64 / total).collect();
            rows.push((label(run), method.to_owned(), shares));
        }
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let shown = &rows[..rows.len().min(ROWS)];
    let groups = shown.chunk_by(|a, b| a.0 == b.0).count() as i32;
    let top = 70;
    let width = (LABELS + FIELD.0 * letters.len() as i32 + 30).max(520);
    let height = top + FIELD.1 * (shown.len() as i32 + groups) + 20;
    let about = "share of each answer in percent, and of each right answer in the row named gold";
    let svg = canvas::draw("Answers, % of questions", about, (width, height), |canvas| {
        for (place, letter) in letters.iter().enumerate() {
            let x = LABELS + FIELD.0 * place as i32 + FIELD.0 / 2;
            canvas.text(letter, (x, top - 12), TEXT, INK, Anchor::Middle)?;
        }
        let mut y = top;
        for group in shown.chunk_by(|a, b| a.0 == b.0) {
            canvas.text(&group[0].0, (20, y + FIELD.1 / 2), TEXT, SOFT, Anchor::Left)?;
            y += FIELD.1;
            for (_, method, shares) in group {
                canvas.text(method, (LABELS - 14, y + FIELD.1 / 2), TEXT, INK, Anchor::Right)?;
                for (place, share) in shares.iter().enumerate() {
                    let x = LABELS + FIELD.0 * place as i32;
                    canvas.fill(
                        (x + 1, y + 1),
                        (x + FIELD.0 - 1, y + FIELD.1 - 1),
                        MARKS[0].colour,
                        share.max(0.03),
                    )?;
                    let at = (x + FIELD.0 / 2, y + FIELD.1 / 2);
                    canvas.text(&format!("{:.1}", 100.0 * share), at, TEXT, readable_on(*share), Anchor::Middle)?;
                }
                y += FIELD.1;
            }
        }
        if shown.len() < rows.len() {
            let left = format!("the first {} of {} rows", shown.len(), rows.len());
            canvas.text(&left, (width - 20, 24), TEXT, SOFT, Anchor::Right)?;
        }
        Ok(())
    })?;
    Ok(Some(svg))
}
