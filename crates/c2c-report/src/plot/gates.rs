//! The gates of a training: layers upwards, steps to the right, keys on the left and values on the right; a block a run.

use super::canvas::{self, Anchor, Canvas, GRID, INK, MARKS, SOFT, Scale, TEXT, tick_text};
use super::label;
use crate::ReportError;
use crate::report::{Gates, RunData};

/// Most runs of a plot; more are counted in it.
const RUNS: usize = 6;
/// Most columns of a run: of more looks, these are taken at equal distances, the last one among them.
const COLUMNS: usize = 100;
const WIDTH: i32 = 900;
const TOP: i32 = 70;
const PANEL: i32 = 360;
const LEFT: [i32; 2] = [76, 510];
/// Height of a block besides its fields.
const AROUND: i32 = 92;

/// The SVG; none if no run has gates.
pub(super) fn draw(runs: &[RunData]) -> Result<Option<String>, ReportError> {
    let gated: Vec<(&RunData, &Gates)> = runs.iter().filter_map(|run| Some((run, run.gates.as_ref()?))).collect();
    if gated.is_empty() {
        return Ok(None);
    }
    let shown = &gated[..gated.len().min(RUNS)];
    let height: i32 = TOP + shown.iter().map(|(_, gates)| AROUND + fields(gates)).sum::<i32>();
    let about = "sigmoid of each gate's logit by layer and step; above a half a gate is open";
    let svg = canvas::draw("Gates by layer", about, (WIDTH, height), |canvas| {
        legend(canvas)?;
        if shown.len() < gated.len() {
            let left = format!("the first {} of {} runs with gates", shown.len(), gated.len());
            canvas.text(&left, (WIDTH - 20, 24), TEXT, SOFT, Anchor::Right)?;
        }
        let mut top = TOP;
        for (run, gates) in shown {
            canvas.text(&label(run), (20, top), TEXT, INK, Anchor::Left)?;
            panel(canvas, gates, LEFT[0], top + 40, "keys")?;
            panel(canvas, gates, LEFT[1], top + 40, "values")?;
            top += AROUND + fields(gates);
        }
        Ok(())
    })?;
    Ok(Some(svg))
}

/// Pixels of all layers: 4 to 16 a layer.
fn fields(gates: &Gates) -> i32 {
    let layers = gates.layers().max(1) as i32;
    layers * (320 / layers).clamp(4, 16)
}

fn panel(canvas: &Canvas<'_>, gates: &Gates, left: i32, top: i32, name: &str) -> Result<(), ReportError> {
    let columns = columns(gates.looks.len());
    let bottom = top + fields(gates);
    let wide = f64::from(PANEL) / columns.len() as f64;
    let tall = fields(gates) / gates.layers().max(1) as i32;
    canvas.text(name, (left + PANEL / 2, top - 12), TEXT, SOFT, Anchor::Middle)?;
    for (place, look) in columns.iter().map(|place| &gates.looks[*place]).enumerate() {
        let (from, to) = ((place as f64 * wide).round() as i32, ((place + 1) as f64 * wide).round() as i32);
        let logits = if name == "keys" { &look.keys } else { &look.values };
        for (layer, logit) in (0..).zip(logits) {
            let lower = bottom - layer * tall;
            let (colour, strength) = shade(*logit);
            canvas.fill((left + from, lower - tall), (left + to, lower), colour, strength)?;
        }
    }
    // The first and the last look are named; others lie between them as they were taken.
    for (place, anchor) in [(0, Anchor::Left), (columns.len() - 1, Anchor::Right)] {
        let at = if place == 0 { left } else { left + PANEL };
        let step = format!("step {}", tick_text(gates.looks[columns[place]].step));
        canvas.text(&step, (at, bottom + 14), TEXT, INK, anchor)?;
        if columns.len() == 1 {
            break;
        }
    }
    for tick in Scale::linear((0.0, (gates.layers() - 1) as f64), (bottom, top)).ticks() {
        if tick.fract() == 0.0 {
            let at = bottom - tick as i32 * tall - tall / 2;
            canvas.text(&tick_text(tick), (left - 8, at), TEXT, INK, Anchor::Right)?;
        }
    }
    for (from, to) in [((left, bottom), (left + PANEL, bottom)), ((left, top), (left, bottom))] {
        canvas.line(vec![from, to], GRID, 1)?;
    }
    canvas.upright("layer", (left - 48, (bottom + top) / 2))
}

/// Which looks are shown.
fn columns(looks: usize) -> Vec<usize> {
    let shown = looks.min(COLUMNS);
    (1..=shown).map(|place| (place * looks).div_ceil(shown) - 1).collect()
}

/// Blue is open, orange shut, pale between; so that the sign can be told and how far a gate is from it.
fn shade(logit: f64) -> (plotters::prelude::RGBColor, f64) {
    let open = 1.0 / (1.0 + (-logit).exp());
    let colour = if logit > 0.0 { MARKS[0].colour } else { MARKS[1].colour };
    (colour, 0.12 + 0.88 * (2.0 * open - 1.0).abs())
}

fn legend(canvas: &Canvas<'_>) -> Result<(), ReportError> {
    let (mut x, y) = (20, 46);
    for (logit, text) in [(3.0, "open (0.95)"), (0.6, "open (0.65)"), (-0.6, "shut (0.35)"), (-3.0, "shut (0.05)")] {
        let (colour, strength) = shade(logit);
        canvas.fill((x, y - 7), (x + 16, y + 7), colour, strength)?;
        canvas.text(text, (x + 24, y), TEXT, INK, Anchor::Left)?;
        x += 130;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_looks_are_thinned_and_the_last_one_stays() {
        assert_eq!(columns(3), [0, 1, 2]);
        let thin = columns(1000);
        assert_eq!((thin.len(), thin[0], thin[99]), (100, 9, 999));
    }

    #[test]
    fn colours_tell_open_from_shut() {
        assert_eq!(shade(0.1).0, MARKS[0].colour);
        assert_eq!(shade(-0.1).0, MARKS[1].colour);
        assert!(shade(4.0).1 > shade(0.5).1 && shade(-4.0).1 > shade(-0.5).1);
    }
}
