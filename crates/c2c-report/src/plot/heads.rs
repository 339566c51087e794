//! The weights of heads: a field a layer and head, darker for more, keys and values side by side.

use super::canvas::{self, Anchor, Canvas, INK, MARKS, SOFT, TEXT, readable_on};
use crate::ReportError;

/// The heads of one layer's keys or values.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadRow {
    /// The layer.
    pub layer: usize,
    /// Whether its gate is open, so that the weights count.
    pub open: bool,
    /// The mean weight of each head, from 0 to 1; none where they aren't known.
    pub means: Vec<f64>,
}

/// The keys or the values of all layers.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadPanel {
    /// What is shown.
    pub title: String,
    /// A row a layer.
    pub rows: Vec<HeadRow>,
}

const LEFT: i32 = 80;
const TOP: i32 = 120;
const ROW: i32 = 26;
/// A field at its widest, and the width from which a number has room in it.
const FIELD: i32 = 58;
const ROOM: i32 = 40;
/// The fields of a panel, at most.
const PANEL: i32 = 640;
/// What stands behind a row: the word for a gate that is shut.
const WORD: i32 = 50;
const GAP: i32 = 50;

/// The SVG of some panels.
///
/// # Errors
/// What the drawing reports.
pub fn head_fields(title: &str, panels: &[HeadPanel]) -> Result<String, ReportError> {
    let heads = panels.iter().flat_map(|panel| &panel.rows).map(|row| row.means.len()).max().unwrap_or(0) as i32;
    let layers = panels.iter().map(|panel| panel.rows.len()).max().unwrap_or(0) as i32;
    let field = (PANEL / heads.max(1)).clamp(6, FIELD);
    let step = field * heads + WORD + GAP;
    let width = (LEFT + step * panels.len() as i32).max(700);
    let about = "mean weight of each head by layer, from 0 to 1, and whether the gate of the layer is open";
    canvas::draw(title, about, (width, TOP + ROW * layers + 50), |canvas| {
        legend(canvas)?;
        for (place, panel) in (0..).zip(panels) {
            draw(canvas, panel, LEFT + step * place, field, heads)?;
        }
        Ok(())
    })
}

/// Light and dark, and what grey is.
fn legend(canvas: &Canvas<'_>) -> Result<(), ReportError> {
    canvas.text("layer", (LEFT - 14, TOP - 14), TEXT, SOFT, Anchor::Right)?;
    let mut x = LEFT;
    for step in 0..=4 {
        let strength = f64::from(step) / 4.0;
        fill(canvas, (x, 46), 48, true, strength)?;
        canvas.text(&format!("{strength:.2}"), (x + 24, 46 + ROW / 2), TEXT, readable_on(strength), Anchor::Middle)?;
        x += 48;
    }
    fill(canvas, (x + 30, 46), 48, false, 0.5)?;
    canvas.text("gate shut: the weight has no effect", (x + 88, 46 + ROW / 2), TEXT, INK, Anchor::Left)
}

fn draw(canvas: &Canvas<'_>, panel: &HeadPanel, left: i32, field: i32, heads: i32) -> Result<(), ReportError> {
    let axis = if heads > 1 { format!("{}, heads 0 to {}", panel.title, heads - 1) } else { panel.title.clone() };
    canvas.text(&axis, (left, TOP - 14), TEXT, INK, Anchor::Left)?;
    for (place, row) in (0..).zip(&panel.rows) {
        let y = TOP + ROW * place;
        canvas.text(&row.layer.to_string(), (left - 14, y + ROW / 2), TEXT, INK, Anchor::Right)?;
        for (head, mean) in (0..).zip(&row.means) {
            let x = left + field * head;
            fill(canvas, (x, y), field, row.open, *mean)?;
            if field >= ROOM {
                let at = (x + field / 2, y + ROW / 2);
                canvas.text(&format!("{mean:.2}"), at, TEXT, readable_on(*mean), Anchor::Middle)?;
            }
        }
        if !row.open {
            canvas.text("shut", (left + field * heads + 8, y + ROW / 2), TEXT, SOFT, Anchor::Left)?;
        }
    }
    Ok(())
}

fn fill(canvas: &Canvas<'_>, (x, y): (i32, i32), width: i32, open: bool, mean: f64) -> Result<(), ReportError> {
    let colour = if open { MARKS[0].colour } else { SOFT };
    // A field that is there is seen, however small its weight.
    canvas.fill((x + 1, y + 1), (x + width - 1, y + ROW - 1), colour, mean.max(0.03))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn panel(title: &str, layers: usize, heads: usize) -> HeadPanel {
        let row = |layer: usize| HeadRow {
            layer,
            open: layer != 1,
            means: (0..heads).map(|head| (head + 1) as f64 / (heads + 1) as f64).collect(),
        };
        HeadPanel { title: title.to_owned(), rows: (0..layers).map(row).collect() }
    }

    #[test]
    fn every_head_has_a_field_with_its_mean_and_shut_gates_are_said() {
        let svg = head_fields("Mean weight", &[panel("keys", 3, 4), panel("values", 3, 4)]).unwrap();
        for text in ["keys, heads 0 to 3", "values, heads 0 to 3", "<desc>", "gate shut"] {
            assert!(svg.contains(text), "{text}");
        }
        // Two panels of three layers, and one in the legend: 0.25 is not among the means of four heads.
        assert_eq!((svg.matches("0.20").count(), svg.matches("0.80").count()), (6, 6));
        // Row 1 of both panels; the legend says it in another way.
        assert_eq!(svg.matches("\nshut\n").count(), 2, "{svg}");
        // The white ground, the legend's six, and 24 fields.
        assert_eq!(svg.matches("<rect").count(), 1 + 6 + 24);
    }

    #[test]
    fn many_heads_get_narrow_fields_without_numbers_and_no_heads_none() {
        let svg = head_fields("Mean weight", &[panel("keys", 2, 64)]).unwrap();
        assert_eq!(svg.matches("<rect").count(), 1 + 6 + 128);
        assert!(!svg.contains("0.02"));
        assert!(head_fields("Nothing", &[panel("keys", 2, 0)]).is_ok() && head_fields("Nothing", &[]).is_ok());
    }
}
