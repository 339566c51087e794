//! Caches of two models in a plane: a panel a map, side by side.

use super::canvas::{self, Anchor, At, Canvas, GRID, INK, SOFT, Scale, TEXT, mark_of};
use crate::ReportError;

/// Whose cache a point is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheOf {
    /// The Receiver's own.
    Receiver,
    /// The Sharer's.
    Sharer,
    /// What a Fuser makes of the Sharer's.
    Fuser,
}

/// One map of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct CachePanel {
    /// What is shown.
    pub title: String,
    /// What each axis is: along the bottom, upwards.
    pub axes: [String; 2],
    /// Tokens.
    pub points: Vec<(CacheOf, f64, f64)>,
}

const PANEL: i32 = 420;
const GAP: i32 = 70;
const LEFT: i32 = 60;
const TOP: i32 = 110;
const BOTTOM: i32 = TOP + PANEL;
/// Half the width of a token's mark, in pixels.
const DOT: i32 = 3;

impl CacheOf {
    /// In the order in which they are painted: the mapped ones last, on those that they should lie among.
    const ALL: [Self; 3] = [Self::Receiver, Self::Sharer, Self::Fuser];

    /// The method whose mark it has in the other plots.
    fn method(self) -> &'static str {
        match self {
            Self::Receiver => "receiver",
            Self::Sharer => "sharer",
            Self::Fuser => "c2c",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Receiver => "the Receiver's cache",
            Self::Sharer => "the Sharer's cache",
            Self::Fuser => "the Sharer's, transformed",
        }
    }
}

/// The SVG of some maps.
///
/// # Errors
/// What the drawing reports.
pub fn cache_maps(title: &str, panels: &[CachePanel]) -> Result<String, ReportError> {
    let width = LEFT + panels.len() as i32 * (PANEL + GAP);
    let about = "tokens of three caches along the first two principal components of all of them";
    canvas::draw(title, about, (width, BOTTOM + 60), |canvas| {
        let mut x = LEFT;
        for kind in CacheOf::ALL {
            canvas.mark(mark_of(kind.method()), (x, 54))?;
            canvas.text(kind.text(), (x + 14, 54), TEXT, INK, Anchor::Left)?;
            x += 200;
        }
        for (place, panel) in panels.iter().enumerate() {
            draw(canvas, panel, LEFT + place as i32 * (PANEL + GAP))?;
        }
        Ok(())
    })
}

fn draw(canvas: &Canvas<'_>, panel: &CachePanel, left: i32) -> Result<(), ReportError> {
    let right = left + PANEL;
    let of = |axis: fn(&(CacheOf, f64, f64)) -> f64| panel.points.iter().map(axis);
    let (xs, ys) = (|point: &(CacheOf, f64, f64)| point.1, |point: &(CacheOf, f64, f64)| point.2);
    let reach = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((0.0f64, 0.0f64), |(low, high), value| (low.min(value), high.max(value)))
    };
    let ((x_low, x_high), (y_low, y_high)) = (reach(&mut of(xs)), reach(&mut of(ys)));
    // One scale for both axes, so that distances can be compared.
    let half = 0.53 * (x_high - x_low).max(y_high - y_low).max(1e-9);
    let around = |low: f64, high: f64| ((low + high) / 2.0 - half, (low + high) / 2.0 + half);
    let x = Scale::linear(around(x_low, x_high), (left, right));
    let y = Scale::linear(around(y_low, y_high), (BOTTOM, TOP));
    canvas.text(&panel.title, (left, TOP - 20), TEXT, INK, Anchor::Left)?;
    for tick in x.ticks() {
        canvas.line(vec![(x.at(tick), TOP), (x.at(tick), BOTTOM)], GRID, 1)?;
    }
    for tick in y.ticks() {
        canvas.line(vec![(left, y.at(tick)), (right, y.at(tick))], GRID, 1)?;
    }
    canvas.line(vec![(left, TOP), (left, BOTTOM), (right, BOTTOM)], INK, 1)?;
    canvas.text(&panel.axes[0], ((left + right) / 2, BOTTOM + 22), TEXT, SOFT, Anchor::Middle)?;
    canvas.upright(&panel.axes[1], (left - 22, (TOP + BOTTOM) / 2))?;
    for kind in CacheOf::ALL {
        for (_, px, py) in panel.points.iter().filter(|(of, ..)| *of == kind) {
            let at: At = (x.at(*px), y.at(*py));
            canvas.sized_mark(mark_of(kind.method()), at, DOT)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_token_is_drawn_in_the_panel_it_is_of() {
        let panel = |title: &str, shift: f64| CachePanel {
            title: title.to_owned(),
            axes: ["first (60.0 %)".to_owned(), "second (20.0 %)".to_owned()],
            points: CacheOf::ALL.iter().map(|of| (*of, shift, -shift)).collect(),
        };
        let svg = cache_maps("Caches", &[panel("keys of layer 4", 1.0), panel("values of layer 4", 2.0)]).unwrap();
        for text in ["keys of layer 4", "values of layer 4", "first (60.0 %)", "transformed", "<desc>"] {
            assert!(svg.contains(text), "{text}");
        }
        // A disc and a triangle and a square in the legend and in each panel.
        assert_eq!((svg.matches("<circle").count(), svg.matches("<polygon").count()), (3, 6));
        assert!(cache_maps("Nothing", &[]).is_ok());
    }
}
