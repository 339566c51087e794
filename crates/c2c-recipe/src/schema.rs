//! The key table: every key that a recipe may hold, with its type, range, default and meaning.
//!
//! This is the single source of the checks, of the defaults and of the recipe reference. Adding a key means a line in
//! [`sections`](self) (the file `schema/sections.rs`) and a field in the section's type; tests fail if only one is
//! done.

mod all_in_one;
mod data;
mod evaluation;
mod sections;

use crate::sections::RecipeKind;

/// A section of a recipe: `[name]` and its keys.
#[derive(Debug)]
pub struct Section {
    /// Name of the table; empty for the keys at the top of the file.
    pub name: &'static str,
    /// Whether the section may be left out as a whole. One that may not is still free to be absent if every key of it
    /// has a default.
    pub optional: bool,
    /// What the section is for.
    pub doc: &'static str,
    /// Its keys, in the order in which they are written out.
    pub keys: &'static [KeySpec],
}

/// One key.
#[derive(Debug)]
pub struct KeySpec {
    /// The dotted key, `training.batch_size`; in a list of tables `data.sources[].path`.
    pub path: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// Value of a key that isn't written.
    pub default: DefaultValue,
    /// What it means.
    pub doc: &'static str,
    /// In a list of tables: the `kind`s of table that have this key. Empty: all of them.
    pub only: &'static [&'static str],
}

/// Type and range of a key.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A string.
    Text,
    /// A string that is a path, or for a model a path or a hub id. May not be empty.
    Path,
    /// `true` or `false`.
    Bool,
    /// An integer from `min` on.
    Integer {
        /// The least value.
        min: i64,
    },
    /// An integer in a range. What so many things are made of or multiplied by must not outgrow memory.
    IntegerIn {
        /// The least value.
        min: i64,
        /// The greatest value.
        max: i64,
    },
    /// A finite number. An integer will do.
    Number {
        /// Lower end.
        low: Bound,
        /// Upper end.
        high: Bound,
    },
    /// One of some words.
    Word(&'static [&'static str]),
    /// A list of some words, at least one, each once.
    Words(&'static [&'static str]),
    /// A list of strings, at least one.
    Texts,
    /// A table of names that the user chooses, each with a string, an integer or a truth value, or a list of those.
    Columns,
    /// A list of tables, at least one, with these keys.
    Tables(&'static [KeySpec]),
}

/// One end of a range of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// No limit.
    None,
    /// The value itself is allowed.
    Closed(f64),
    /// The value itself is not allowed.
    Open(f64),
}

/// What a key is when it isn't written.
#[derive(Clone, Copy, Debug)]
pub enum DefaultValue {
    /// It must be written.
    Required,
    /// It stays unset; the key's meaning says what that does.
    Unset,
    /// A string.
    Text(&'static str),
    /// An integer.
    Integer(i64),
    /// A number.
    Number(f64),
    /// A truth value.
    Bool(bool),
    /// A list of words.
    Words(&'static [&'static str]),
}

impl KeySpec {
    /// The last part of the key, as it is written inside its table.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// Whether a list's table of this `kind` has the key.
    pub(crate) fn belongs_to(&self, kind: &str) -> bool {
        self.only.is_empty() || self.only.contains(&kind)
    }
}

impl Section {
    /// The key of this name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static KeySpec> {
        self.keys.iter().find(|key| key.name() == name)
    }
}

impl Kind {
    /// The type and range in words: `an integer, 1 or more`.
    pub fn describe(&self) -> String {
        match self {
            Kind::Text => "a string".to_owned(),
            Kind::Path => "a path".to_owned(),
            Kind::Bool => "true or false".to_owned(),
            Kind::Integer { min } => format!("an integer, {min} or more"),
            Kind::IntegerIn { min, max } => format!("an integer from {min} to {max}"),
            Kind::Number { low, high } => describe_range(*low, *high),
            Kind::Word(words) => format!("one of {}", quoted(words)),
            Kind::Words(words) => format!("a list of {}", quoted(words)),
            Kind::Texts => "a list of strings".to_owned(),
            Kind::Columns => "a table of columns, `{ column = value }` or `{ column = [value, ...] }`".to_owned(),
            Kind::Tables(_) => "a list of tables".to_owned(),
        }
    }
}

impl Bound {
    /// Whether a value is on the right side of this lower end.
    pub(crate) fn below(self, value: f64) -> bool {
        match self {
            Bound::None => true,
            Bound::Closed(bound) => value >= bound,
            Bound::Open(bound) => value > bound,
        }
    }

    /// Whether a value is on the right side of this upper end.
    pub(crate) fn above(self, value: f64) -> bool {
        match self {
            Bound::None => true,
            Bound::Closed(bound) => value <= bound,
            Bound::Open(bound) => value < bound,
        }
    }
}

fn describe_range(low: Bound, high: Bound) -> String {
    match (low, high) {
        (Bound::None, Bound::None) => "a number".to_owned(),
        (Bound::Closed(low), Bound::None) => format!("a number, {low} or more"),
        (Bound::Open(low), Bound::None) => format!("a number above {low}"),
        (Bound::None, Bound::Closed(high)) => format!("a number, {high} or less"),
        (Bound::None, Bound::Open(high)) => format!("a number below {high}"),
        (Bound::Closed(low), Bound::Closed(high)) => format!("a number from {low} to {high}"),
        (Bound::Closed(low), Bound::Open(high)) => format!("a number from {low} to below {high}"),
        (Bound::Open(low), Bound::Closed(high)) => format!("a number above {low}, up to {high}"),
        (Bound::Open(low), Bound::Open(high)) => format!("a number above {low} and below {high}"),
    }
}

fn quoted(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    words.join(", ")
}

/// The sections of a kind of recipe, the keys at the top of the file first.
pub fn sections(kind: RecipeKind) -> &'static [&'static Section] {
    match kind {
        RecipeKind::Train => sections::TRAIN,
        RecipeKind::Eval => sections::EVAL,
        RecipeKind::Pretrain => sections::PRETRAIN,
    }
}

/// Keys that users of other trainers look for, and what is done here instead.
pub(crate) const ABSENT: &[(&str, &str)] = &[(
    "data.packing",
    "several examples are never packed into one row, where each would be fused and attended apart from the others; \
     `data.length_bucket` puts examples of like length into a batch instead (docs/data.md)",
)];

/// Every dotted key of a kind of recipe, keys in lists of tables included.
pub(crate) fn keys(kind: RecipeKind) -> Vec<&'static str> {
    let mut keys = Vec::new();
    for key in sections(kind).iter().flat_map(|section| section.keys) {
        keys.push(key.path);
        if let Kind::Tables(inner) = key.kind {
            keys.extend(inner.iter().map(|key| key.path));
        }
    }
    keys
}

/// Whether any kind of recipe has this key.
pub(crate) fn is_known(path: &str) -> bool {
    [RecipeKind::Train, RecipeKind::Eval, RecipeKind::Pretrain].iter().any(|kind| keys(*kind).contains(&path))
}
