//! What all plots are drawn with: a canvas in pixels, scales, texts, and the mark of each method.

use plotters::coord::Shift;
use plotters::prelude::{
    BLACK, Circle, Color, DrawingArea, EmptyElement, IntoDrawingArea, IntoFont, PathElement, Polygon, RGBColor,
    Rectangle, SVGBackend, ShapeStyle, Text, TextStyle, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::ReportError;

/// A point in pixels from the upper left corner.
pub(super) type At = (i32, i32);

/// Light lines that help the eye.
pub(super) const GRID: RGBColor = RGBColor(222, 222, 222);
/// Axes, and text that explains.
pub(super) const INK: RGBColor = RGBColor(51, 51, 51);
/// Text that is read second.
pub(super) const SOFT: RGBColor = RGBColor(95, 95, 95);

/// Size of ordinary text. The backend writes a font size of 1/1.24 of it: 13 pixels.
pub(super) const TEXT: i32 = 16;
/// Size of a plot's heading.
const HEADING: i32 = 22;

/// A colour and a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub colour: RGBColor,
    pub shape: Shape,
}

/// Shapes that are told apart in black and white.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Disc,
    Square,
    Triangle,
    Diamond,
    Ring,
    Downwards,
    Bar,
    Column,
    Frame,
    Cross,
    Lozenge,
}

/// Colours of the Okabe-Ito palette, a violet in place of its yellow, a brown, and an olive, each with a shape.
pub(super) const MARKS: [Mark; 11] = [
    Mark { colour: RGBColor(0, 114, 178), shape: Shape::Disc },
    Mark { colour: RGBColor(213, 94, 0), shape: Shape::Triangle },
    Mark { colour: RGBColor(0, 158, 115), shape: Shape::Square },
    Mark { colour: RGBColor(204, 121, 167), shape: Shape::Diamond },
    Mark { colour: RGBColor(90, 90, 90), shape: Shape::Ring },
    Mark { colour: RGBColor(230, 159, 0), shape: Shape::Downwards },
    Mark { colour: RGBColor(86, 180, 233), shape: Shape::Bar },
    Mark { colour: RGBColor(0, 0, 0), shape: Shape::Column },
    Mark { colour: RGBColor(120, 94, 240), shape: Shape::Frame },
    Mark { colour: RGBColor(128, 66, 24), shape: Shape::Cross },
    Mark { colour: RGBColor(133, 133, 0), shape: Shape::Lozenge },
];

/// The mark of a method, the same in every plot.
pub(super) fn mark_of(method: &str) -> Mark {
    let place = match method {
        "c2c" => 0,
        "receiver" => 1,
        "sharer" => 2,
        "mismatched" => 3,
        "t2t" => 5,
        "t2t_c2c" => 6,
        "few_shot" => 7,
        "oracle" => 8,
        "several" => 9,
        "several_mismatched" => 10,
        _ => 4,
    };
    MARKS[place]
}

/// Where a text is anchored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Left,
    Middle,
    Right,
}

/// A drawing in the making.
pub(super) struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
}

/// Draws on a white canvas and returns the SVG, with title and description for screen readers.
pub(super) fn draw(
    title: &str,
    about: &str,
    (width, height): (i32, i32),
    paint: impl FnOnce(&Canvas<'_>) -> Result<(), ReportError>,
) -> Result<String, ReportError> {
    let mut svg = String::new();
    {
        let size = (width.unsigned_abs(), height.unsigned_abs());
        let canvas = Canvas { area: SVGBackend::with_string(&mut svg, size).into_drawing_area() };
        canvas.area.fill(&WHITE).map_err(|err| failed(title, &err))?;
        canvas.text(title, (20, 24), HEADING, INK, Anchor::Left)?;
        paint(&canvas)?;
        canvas.area.present().map_err(|err| failed(title, &err))?;
    }
    let head = svg.find("<svg").and_then(|start| Some(start + svg[start..].find('>')? + 1));
    if let Some(head) = head {
        svg.insert_str(head, &format!("\n<title>{}</title>\n<desc>{}</desc>", escaped(title), escaped(about)));
    }
    Ok(svg)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn failed(what: &str, reason: &dyn std::fmt::Display) -> ReportError {
    ReportError::Encode { what: format!("the plot `{what}`"), reason: reason.to_string() }
}

impl Canvas<'_> {
    pub(super) fn text(
        &self,
        text: &str,
        at: At,
        size: i32,
        colour: RGBColor,
        anchor: Anchor,
    ) -> Result<(), ReportError> {
        self.styled(text, at, size, colour, anchor, false)
    }

    /// Text that runs upwards, centred.
    pub(super) fn upright(&self, text: &str, at: At) -> Result<(), ReportError> {
        self.styled(text, at, TEXT, INK, Anchor::Middle, true)
    }

    fn styled(
        &self,
        text: &str,
        at: At,
        size: i32,
        colour: RGBColor,
        anchor: Anchor,
        upright: bool,
    ) -> Result<(), ReportError> {
        let horizontal = match anchor {
            Anchor::Left => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::Right => HPos::Right,
        };
        let font = ("sans-serif", size).into_font();
        let font = if upright { font.transform(plotters::style::FontTransform::Rotate270) } else { font };
        let style = TextStyle::from(font).color(&colour).pos(Pos::new(horizontal, VPos::Center));
        self.area.draw(&Text::new(text.to_owned(), at, style)).map_err(|err| failed(text, &err))
    }

    pub(super) fn line(&self, points: Vec<At>, colour: RGBColor, width: u32) -> Result<(), ReportError> {
        let style = ShapeStyle::from(colour).stroke_width(width);
        self.area.draw(&PathElement::new(points, style)).map_err(|err| failed("line", &err))
    }

    /// A filled rectangle; `strength` from 0 to 1 is how much of the colour is there.
    pub(super) fn fill(&self, from: At, to: At, colour: RGBColor, strength: f64) -> Result<(), ReportError> {
        let rectangle = Rectangle::new([from, to], colour.mix(strength).filled());
        self.area.draw(&rectangle).map_err(|err| failed("rectangle", &err))
    }

    pub(super) fn mark(&self, mark: Mark, at: At) -> Result<(), ReportError> {
        self.sized_mark(mark, at, 5)
    }

    /// A mark of another size: half its width in pixels.
    pub(super) fn sized_mark(&self, mark: Mark, (x, y): At, r: i32) -> Result<(), ReportError> {
        let filled = mark.colour.filled();
        let polygon =
            |points: Vec<At>| self.area.draw(&Polygon::new(points, filled)).map_err(|err| failed("mark", &err));
        match mark.shape {
            Shape::Disc => self.area.draw(&Circle::new((x, y), r, filled)).map_err(|err| failed("mark", &err)),
            Shape::Ring => {
                let ring = Circle::new((0, 0), r, mark.colour.stroke_width(2));
                self.area.draw(&(EmptyElement::at((x, y)) + ring)).map_err(|err| failed("mark", &err))
            }
            Shape::Square => polygon(vec![(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)]),
            Shape::Triangle => polygon(vec![(x, y - r - 1), (x + r + 1, y + r), (x - r - 1, y + r)]),
            Shape::Downwards => polygon(vec![(x, y + r + 1), (x + r + 1, y - r), (x - r - 1, y - r)]),
            Shape::Bar => polygon(vec![(x - r - 2, y - 2), (x + r + 2, y - 2), (x + r + 2, y + 2), (x - r - 2, y + 2)]),
            Shape::Column => {
                polygon(vec![(x - 2, y - r - 2), (x + 2, y - r - 2), (x + 2, y + r + 2), (x - 2, y + r + 2)])
            }
            Shape::Cross => {
                let (far, near) = (r + 1, (r + 1) / 2);
                // From the upper left, clockwise.
                let corner = [(-far, -near), (-near, -far), (0, -near)];
                let turned = |turns: i32, at: At| (0..turns).fold(at, |(across, down), _| (-down, across));
                let corners = (0..4).flat_map(|turns| corner.map(|at| turned(turns, at)));
                polygon(corners.map(|(across, down)| (x + across, y + down)).collect())
            }
            Shape::Frame => {
                let frame = Rectangle::new([(x - r, y - r), (x + r, y + r)], mark.colour.stroke_width(2));
                self.area.draw(&frame).map_err(|err| failed("mark", &err))
            }
            Shape::Diamond => polygon(vec![(x, y - r - 2), (x + r + 2, y), (x, y + r + 2), (x - r - 2, y)]),
            Shape::Lozenge => {
                let corners = vec![(x, y - r - 2), (x + r + 2, y), (x, y + r + 2), (x - r - 2, y), (x, y - r - 2)];
                let lozenge = PathElement::new(corners, mark.colour.stroke_width(2));
                self.area.draw(&lozenge).map_err(|err| failed("mark", &err))
            }
        }
    }

    /// A legend of methods, one under another.
    pub(super) fn legend(&self, names: &[String], (x, y): At) -> Result<(), ReportError> {
        for (name, place) in names.iter().zip(0..) {
            let y = y + 22 * place;
            self.mark(mark_of(name), (x, y))?;
            self.text(name, (x + 14, y), TEXT, INK, Anchor::Left)?;
        }
        Ok(())
    }
}

/// Dark text on light fields, white on dark ones: whichever has the more contrast on the blue of the first mark.
pub(super) fn readable_on(strength: f64) -> RGBColor {
    if strength > 0.9 { RGBColor(255, 255, 255) } else { RGBColor(BLACK.0, BLACK.1, BLACK.2) }
}

/// A number's place in pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    values: (f64, f64),
    pixels: (i32, i32),
    log: bool,
}

impl Scale {
    pub(super) fn linear(values: (f64, f64), pixels: (i32, i32)) -> Self {
        Self { values, pixels, log: false }
    }

    /// For positive numbers only.
    pub(super) fn log(values: (f64, f64), pixels: (i32, i32)) -> Self {
        Self { values, pixels, log: true }
    }

    pub(super) fn at(&self, value: f64) -> i32 {
        let warp = |value: f64| if self.log { value.ln() } else { value };
        let (low, high) = (warp(self.values.0), warp(self.values.1));
        let share = if high > low { (warp(value) - low) / (high - low) } else { 0.5 };
        let (from, to) = (f64::from(self.pixels.0), f64::from(self.pixels.1));
        (from + share.clamp(-0.05, 1.05) * (to - from)).round() as i32
    }

    /// Round numbers within the scale.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let (low, high) = self.values;
        if self.log {
            let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
            // Within a decade or so, three numbers a decade would be too few.
            let digits: &[f64] =
                if high / low < 12.0 { &[1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0] } else { &[1.0, 2.0, 5.0] };
            let all = decades.flat_map(|decade| digits.iter().map(move |digit| digit * 10f64.powi(decade)));
            return all.filter(|tick| (low..=high).contains(tick)).collect();
        }
        let step = round_step((high - low) / 5.0);
        let first = (low / step).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        (first..=last).map(|tick| tick as f64 * step).collect()
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.max(1e-12).log10().floor());
    let digit = [1.0, 2.0, 5.0, 10.0].into_iter().find(|digit| digit * power >= step * 0.999).unwrap_or(10.0);
    digit * power
}

/// A tick without needless zeros.
pub(super) fn tick_text(tick: f64) -> String {
    let text = format!("{tick:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_put_their_ends_at_their_ends_and_ticks_between() {
        let scale = Scale::linear((0.0, 100.0), (50, 250));
        assert_eq!((scale.at(0.0), scale.at(50.0), scale.at(100.0)), (50, 150, 250));
        assert_eq!(scale.ticks(), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        let upwards = Scale::linear((-1.0, 1.0), (200, 0));
        assert_eq!((upwards.at(-1.0), upwards.at(0.0)), (200, 100));
        let log = Scale::log((0.8, 120.0), (0, 100));
        assert_eq!(log.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        assert_eq!(Scale::log((1.8, 9.0), (0, 100)).ticks(), [2.0, 3.0, 4.0, 6.0, 8.0]);
        assert_eq!(Scale::linear((3.0, 3.0), (0, 10)).at(3.0), 5);
    }

    #[test]
    fn ticks_are_written_short() {
        assert_eq!([0.0, -0.0, 2.5, 20.0, 0.125].map(tick_text), ["0", "0", "2.5", "20", "0.125"]);
    }

    #[test]
    fn every_method_has_a_mark_of_its_own() {
        let marks: Vec<Mark> = c2c_recipe::Method::WORDS.iter().map(|method| mark_of(method)).collect();
        for (place, mark) in marks.iter().enumerate() {
            assert!(marks[..place].iter().all(|other| other.shape != mark.shape && other.colour != mark.colour));
        }
    }
}
