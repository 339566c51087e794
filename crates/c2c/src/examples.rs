//! One training example on the terminal: slot by slot, what both models read, and what is fused, supervised or padding.
//!
//! Slots stand above each other: the Receiver's token and the Sharer's that is fused into it. Each line begins with a
//! mark in words, so that nothing depends on colours.

use c2c_text::{PairText, Section, SectionKind, Tokenizer};
use c2c_train::TrainExample;
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

/// Where an example's slots go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Slots {
    /// All positions.
    pub positions: usize,
    /// Positions whose cache is fused.
    pub fused: usize,
    /// Positions with a loss.
    pub supervised: usize,
    /// Positions that are padding for the Receiver.
    pub receiver_padding: usize,
    /// Positions that are padding for the Sharer.
    pub sharer_padding: usize,
}

impl Slots {
    /// Counts an example.
    pub fn of(example: &TrainExample) -> Self {
        let mut slots = Self::default();
        for section in &example.prompt.sections {
            let padding = |mask: &[bool]| mask.iter().filter(|real| !**real).count();
            slots.positions += section.len();
            slots.fused += if section.fuse { section.len() } else { 0 };
            slots.supervised += section.labels.iter().flatten().count();
            slots.receiver_padding += padding(&section.receiver_mask);
            slots.sharer_padding += padding(&section.sharer_mask);
        }
        slots
    }

    /// Adds another example's.
    pub fn add(&mut self, other: Self) {
        self.positions += other.positions;
        self.fused += other.fused;
        self.supervised += other.supervised;
        self.receiver_padding += other.receiver_padding;
        self.sharer_padding += other.sharer_padding;
    }
}

/// What happens at a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Plain,
    Fused,
    Loss,
}

impl Mark {
    fn of(section: &Section, slot: usize) -> Self {
        match (section.fuse, section.labels[slot]) {
            (true, _) => Self::Fused,
            (false, Some(_)) => Self::Loss,
            (false, None) => Self::Plain,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Fused => "fused",
            Self::Loss => "loss",
        }
    }

    /// The ANSI colour.
    fn colour(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Fused => "36",
            Self::Loss => "32",
        }
    }
}

const DIM: &str = "2";
/// What stands for padding.
const PADDING: &str = "·";

/// How examples are printed.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// With ANSI colours.
    pub colour: bool,
    /// Columns of a line.
    pub width: usize,
    /// Slots of a section that are shown; the middle of a longer one is left out.
    pub most: Option<usize>,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.colour && !code.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// What the marks mean.
    pub fn legend(self) -> String {
        format!(
            "R receiver, S sharer, one slot above the other   {} its cache is fused   {} it is learnt   {} padding\n",
            self.paint(Mark::Fused.colour(), "fused"),
            self.paint(Mark::Loss.colour(), "loss"),
            self.paint(DIM, PADDING),
        )
    }

    /// An example, its figures first.
    pub fn example(self, index: usize, example: &TrainExample, text: &PairText) -> String {
        let s = Slots::of(example);
        let id = if example.id == example.place { String::new() } else { format!(", id {}", example.id) };
        let mut out = format!(
            "\nexample {index}, {}{id}: {} slots, {} fused, {} supervised, padding {} for the receiver, {} for the sharer\n",
            example.place, s.positions, s.fused, s.supervised, s.receiver_padding, s.sharer_padding
        );
        for section in &example.prompt.sections {
            let mut from = 0;
            while from < section.len() {
                let mark = Mark::of(section, from);
                let same = (from..section.len()).take_while(|slot| Mark::of(section, *slot) == mark).count();
                self.run(section, from..from + same, mark, text, &mut out);
                from += same;
            }
        }
        out
    }

    /// Slots of one mark, wrapped.
    fn run(self, section: &Section, range: std::ops::Range<usize>, mark: Mark, text: &PairText, out: &mut String) {
        let half = self.most.map_or(range.len(), |most| most.div_ceil(2)).max(1);
        let hidden = if range.len() > 2 * half { range.start + half..range.end - half } else { range.end..range.end };
        let mut cells = Vec::new();
        for slot in range.clone().filter(|slot| !hidden.contains(slot)) {
            if slot == hidden.end && !hidden.is_empty() {
                let left_out = format!("… {} slots …", hidden.len());
                cells.push([(left_out, true), (String::new(), true)]);
            }
            cells.push([
                cell(text.receiver(), section.receiver[slot], section.receiver_mask[slot]),
                cell(text.sharer(), section.sharer[slot], section.sharer_mask[slot]),
            ]);
        }
        let mut at = 0;
        while at < cells.len() {
            let mut width = 0;
            let fitting = cells[at..]
                .iter()
                .take_while(|pair| {
                    width += pair[0].0.width().max(pair[1].0.width()) + 1;
                    width + LABEL <= self.width
                })
                .count();
            let line = &cells[at..at + fitting.max(1)];
            for (side, name) in ["R", "S"].into_iter().enumerate() {
                let word = if side == 0 && at == 0 { mark.word() } else { "" };
                out.push_str(&self.paint(mark.colour(), &format!("  {word:<5}")));
                out.push_str(&format!(" {name} "));
                out.push_str(&self.paint(DIM, "│"));
                for pair in line {
                    let (text, dim) = &pair[side];
                    let wide = pair[0].0.width().max(pair[1].0.width());
                    out.push_str(&self.paint(if *dim { DIM } else { mark.colour() }, text));
                    out.push_str(&" ".repeat(wide - text.width()));
                    out.push_str(&self.paint(DIM, "│"));
                }
                out.push('\n');
            }
            at += fitting.max(1);
        }
    }
}

/// Columns in front of the first cell.
const LABEL: usize = 11;

/// A token as it is shown, and whether it is dimmed.
fn cell(tokenizer: &Tokenizer, id: u32, real: bool) -> (String, bool) {
    if real { (shown(tokenizer, id), false) } else { (PADDING.to_owned(), true) }
}

/// A token's own text: line breaks and the like as symbols, bytes that are no character in hex.
fn shown(tokenizer: &Tokenizer, id: u32) -> String {
    let Some(bytes) = tokenizer.token_bytes(id) else { return format!("<{id}>") };
    match String::from_utf8(bytes) {
        Ok(text) => text
            .chars()
            .map(|c| match c {
                '\n' => "⏎".to_owned(),
                '\t' => "⇥".to_owned(),
                c if c.is_control() => c.escape_default().to_string(),
                c => c.to_string(),
            })
            .collect(),
        Err(error) => error.into_bytes().iter().map(|byte| format!("<{byte:02X}>")).collect(),
    }
}

/// An example as JSON: every slot with both tokens (null where it is padding) and its mark.
pub fn to_json(index: usize, example: &TrainExample, text: &PairText) -> Value {
    let token = |tokenizer: &Tokenizer, id: u32, real: bool| {
        if real { json!({ "id": id, "text": shown(tokenizer, id) }) } else { Value::Null }
    };
    let sections = example.prompt.sections.iter().map(|section| {
        let message = match section.kind {
            SectionKind::Template => None,
            SectionKind::Message(index) => Some(index),
        };
        let slots = (0..section.len()).map(|slot| {
            json!({
                "receiver": token(text.receiver(), section.receiver[slot], section.receiver_mask[slot]),
                "sharer": token(text.sharer(), section.sharer[slot], section.sharer_mask[slot]),
                "supervised": section.labels[slot].is_some(),
            })
        });
        json!({ "message": message, "fused": section.fuse, "slots": slots.collect::<Vec<_>>() })
    });
    json!({
        "index": index,
        "id": example.id,
        "place": example.place,
        "source": example.source,
        "figures": Slots::of(example),
        "sections": sections.collect::<Vec<_>>(),
    })
}
