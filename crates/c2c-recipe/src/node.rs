//! A TOML tree in which every key and value knows where it came from.
//!
//! The checks work on this tree, so that a value of the file and a value given by an override are checked by the same
//! code and only differ in how their origin is told. This is the only module that knows the TOML parser's own types.

use toml_edit::{Document, InlineTable, Item, Table, Value};

use crate::error::Problem;

/// Where a key or a value came from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Origin {
    /// A line of the recipe file, counted from 1.
    Line(usize),
    /// An override: the whole text as typed, and the part after the `=`.
    Override { typed: String, value: String },
}

impl Origin {
    /// A problem at this place. The text of an override is told in the message, since it has no line.
    pub(crate) fn problem(&self, key: impl Into<String>, message: impl Into<String>) -> Problem {
        let (line, message) = match self {
            Origin::Line(line) => (Some(*line), message.into()),
            Origin::Override { typed, .. } => (None, format!("{} (from the override `{typed}`)", message.into())),
        };
        Problem { line, key: key.into(), message }
    }
}

/// A value and its origin.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub raw: Raw,
    pub origin: Origin,
}

/// A key, its origin (the line of the key, or of the section's header) and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub key: String,
    pub origin: Origin,
    pub node: Node,
}

/// A TOML value.
#[derive(Clone, Debug)]
pub(crate) enum Raw {
    Text(String),
    Integer(i64),
    Number(f64),
    Bool(bool),
    Date(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

impl Raw {
    /// The value as an error message names it.
    pub(crate) fn describe(&self) -> String {
        match self {
            Raw::Text(text) => format!("the string {text:?}"),
            Raw::Integer(value) => format!("the integer {value}"),
            Raw::Number(value) => format!("the number {value:?}"),
            Raw::Bool(value) => value.to_string(),
            Raw::Date(text) => format!("the date {text}"),
            Raw::List(_) => "a list".to_owned(),
            Raw::Table(_) => "a table".to_owned(),
        }
    }
}

/// How a parsed item finds its origin: by its place in the text, or the same for all of it.
enum Places {
    Lines(Vec<usize>),
    Fixed(Origin),
}

impl Places {
    fn of_text(text: &str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Places::Lines(std::iter::once(0).chain(starts).collect())
    }

    /// The origin of a span; `outer` where the parser kept no span (tables that are only implied by a dotted key).
    fn at(&self, span: Option<std::ops::Range<usize>>, outer: &Origin) -> Origin {
        match (self, span) {
            (Places::Fixed(origin), _) => origin.clone(),
            (Places::Lines(_), None) => outer.clone(),
            (Places::Lines(starts), Some(span)) => {
                Origin::Line(starts.partition_point(|start| *start <= span.start).max(1))
            }
        }
    }
}

/// Parses the text of a recipe.
///
/// # Errors
/// The first place that is no TOML, with its line. (The parser can't go on from there.)
pub(crate) fn parse_document(text: &str) -> Result<Node, Problem> {
    let places = Places::of_text(text);
    let top = Origin::Line(1);
    match Document::parse(text) {
        Ok(document) => Ok(Node { raw: table(document.as_table(), &top, &places), origin: top }),
        Err(error) => {
            let message = format!("not TOML: {}", error.message().trim().replace('\n', ", "));
            Err(places.at(error.span(), &top).problem("", message))
        }
    }
}

/// Parses one value, the right side of an override. `None` if it is no single TOML value.
pub(crate) fn parse_value(text: &str, origin: &Origin) -> Option<Node> {
    let value: Value = text.trim().parse().ok()?;
    Some(from_value(&value, origin, &Places::Fixed(origin.clone())))
}

fn table(table: &Table, outer: &Origin, places: &Places) -> Raw {
    let entry = |(key, item): (&str, &Item)| {
        let origin = places.at(table.key(key).and_then(|key| key.span()), outer);
        Some(Entry { key: key.to_owned(), node: from_item(item, &origin, places)?, origin })
    };
    Raw::Table(table.iter().filter_map(entry).collect())
}

fn inline_table(table: &InlineTable, outer: &Origin, places: &Places) -> Raw {
    let entry = |(key, value): (&str, &Value)| {
        let origin = places.at(table.key(key).and_then(|key| key.span()), outer);
        Entry { key: key.to_owned(), node: from_value(value, &origin, places), origin }
    };
    Raw::Table(table.iter().map(entry).collect())
}

fn from_item(item: &Item, outer: &Origin, places: &Places) -> Option<Node> {
    let origin = places.at(item.span(), outer);
    let raw = match item {
        Item::None => return None,
        Item::Value(value) => return Some(from_value(value, outer, places)),
        Item::Table(inner) => table(inner, &origin, places),
        Item::ArrayOfTables(tables) => {
            let element = |inner: &Table| {
                let origin = places.at(inner.span(), &origin);
                Node { raw: table(inner, &origin, places), origin }
            };
            Raw::List(tables.iter().map(element).collect())
        }
    };
    Some(Node { raw, origin })
}

fn from_value(value: &Value, outer: &Origin, places: &Places) -> Node {
    let origin = places.at(value.span(), outer);
    let raw = match value {
        Value::String(text) => Raw::Text(text.value().clone()),
        Value::Integer(number) => Raw::Integer(*number.value()),
        Value::Float(number) => Raw::Number(*number.value()),
        Value::Boolean(flag) => Raw::Bool(*flag.value()),
        Value::Datetime(date) => Raw::Date(date.value().to_string()),
        Value::Array(list) => Raw::List(list.iter().map(|value| from_value(value, &origin, places)).collect()),
        Value::InlineTable(inner) => inline_table(inner, &origin, places),
    };
    Node { raw, origin }
}
