//! The keys of a foreign recipe, each taken once, and what became of them.

use serde_json::Value as Json;
use toml::Value;

/// What became of one key of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// The key, dotted.
    pub key: String,
    /// Its value in one line.
    pub value: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it wasn't carried over, or what is different; empty if nothing is.
    pub note: String,
}

/// Whether a key was carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To this key of the new recipe.
    Carried(String),
    /// Not needed: it holds here anyway, or the reference doesn't read it either.
    Implied,
    /// Lost.
    Lost,
}

impl Outcome {
    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Carried(_) => "carried",
            Self::Implied => "implied",
            Self::Lost => "lost",
        }
    }
}

impl Fate {
    /// The key of the new recipe, if it was carried over.
    pub fn to(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Carried(to) => Some(to),
            _ => None,
        }
    }
}

/// The leaves of a source. Each is answered for by one of the methods; [`Keys::finish`] lists those that weren't.
pub(super) struct Keys {
    leaves: Vec<(String, Json, Option<Fate>)>,
    refusals: Vec<(String, String)>,
    /// The new recipe.
    pub(super) table: toml::Table,
}

impl Keys {
    pub(super) fn new(source: &Json) -> Self {
        let mut leaves = Vec::new();
        flatten("", source, &mut leaves);
        Self { leaves, refusals: Vec::new(), table: toml::Table::new() }
    }

    /// The value of a key, if it is there and not null. Doesn't answer for it.
    pub(super) fn get(&self, key: &str) -> Option<&Json> {
        self.leaves.iter().find(|(other, ..)| other == key).map(|(_, value, _)| value).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.get(key)?.as_str().map(str::to_owned)
    }

    /// A list of texts, or one text as such a list.
    pub(super) fn texts(&self, key: &str) -> Option<Vec<String>> {
        match self.get(key)? {
            Json::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            Json::String(text) => Some(vec![text.clone()]),
            _ => None,
        }
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    pub(super) fn integer(&self, key: &str) -> Option<i64> {
        self.get(key)?.as_i64()
    }

    /// A number; also one that YAML 1.1 reads as a text, such as `1e-4`.
    pub(super) fn number(&self, key: &str) -> Option<f64> {
        let value = self.get(key)?;
        value.as_f64().or_else(|| value.as_str()?.parse().ok())
    }

    /// The keys below a section.
    pub(super) fn below(&self, section: &str) -> Vec<String> {
        let start = format!("{section}.");
        self.leaves.iter().map(|(key, ..)| key).filter(|key| key.starts_with(&start)).cloned().collect()
    }

    /// Writes a value into the new recipe.
    pub(super) fn set(&mut self, to: &str, value: impl Into<Value>) {
        match to.split_once('.') {
            None => drop(self.table.insert(to.to_owned(), value.into())),
            Some((section, name)) => {
                let section = self.table.entry(section).or_insert_with(|| Value::Table(toml::Table::new()));
                if let Some(table) = section.as_table_mut() {
                    table.insert(name.to_owned(), value.into());
                }
            }
        }
    }

    /// Whether the new recipe has a value there.
    pub(super) fn is_set(&self, to: &str) -> bool {
        let (section, name) = to.split_once('.').unwrap_or(("", to));
        match self.table.get(section) {
            Some(section) => section.get(name).is_some(),
            None => self.table.contains_key(to),
        }
    }

    /// Takes a value back out of the new recipe.
    pub(super) fn unset(&mut self, to: &str) {
        match to.split_once('.').and_then(|(section, name)| Some((self.table.get_mut(section)?.as_table_mut()?, name)))
        {
            Some((section, name)) => drop(section.remove(name)),
            None => drop(self.table.remove(to)),
        }
    }

    /// Carries a key over as this value.
    pub(super) fn carry(&mut self, key: &str, to: &str, value: impl Into<Value>) {
        self.set(to, value);
        self.done(key, to, "");
    }

    /// Carries a key over as it is, if it is there; gives whether it is. A value of another type goes along too: the
    /// check of the new recipe tells what is wrong with it.
    pub(super) fn same(&mut self, key: &str, to: &str) -> bool {
        let Some(value) = self.get(key).map(plain) else {
            return false;
        };
        self.carry(key, to, value);
        true
    }

    /// As [`Keys::same`] for a number, which may be a text in YAML.
    pub(super) fn same_number(&mut self, key: &str, to: &str) -> bool {
        match self.number(key) {
            Some(number) => {
                self.carry(key, to, number);
                true
            }
            None => self.same(key, to),
        }
    }

    /// Answers for a key that is carried to another, with a note on what is different.
    pub(super) fn done(&mut self, key: &str, to: &str, note: &str) {
        self.answer(key, Outcome::Carried(to.to_owned()), note);
    }

    /// Answers for a key that isn't carried over.
    pub(super) fn drop(&mut self, key: &str, reason: &str) {
        self.answer(key, Outcome::Lost, reason);
    }

    /// Answers for a key that needs no carrying over.
    pub(super) fn implied(&mut self, key: &str, reason: &str) {
        self.answer(key, Outcome::Implied, reason);
    }

    fn answer(&mut self, key: &str, outcome: Outcome, note: &str) {
        let leaf = self.leaves.iter_mut().find(|(other, value, _)| other == key && !value.is_null());
        if let Some((_, value, fate)) = leaf {
            let value = one_line(value);
            *fate = Some(Fate { key: key.to_owned(), value, outcome, note: note.to_owned() });
        }
    }

    /// Answers for all keys of a section that have no answer yet: lost.
    pub(super) fn drop_below(&mut self, section: &str, reason: &str) {
        self.answer_below(section, Outcome::Lost, reason);
    }

    /// The same: not needed.
    pub(super) fn implied_below(&mut self, section: &str, reason: &str) {
        self.answer_below(section, Outcome::Implied, reason);
    }

    fn answer_below(&mut self, section: &str, outcome: Outcome, reason: &str) {
        for key in self.below(section) {
            if self.leaves.iter().any(|(other, _, fate)| *other == key && fate.is_none()) {
                self.answer(&key, outcome.clone(), reason);
            }
        }
    }

    /// The recipe can't be converted.
    pub(super) fn refuse(&mut self, key: &str, reason: impl Into<String>) {
        self.refusals.push((key.to_owned(), reason.into()));
    }

    /// What became of every key, and why the recipe can't be converted.
    pub(super) fn finish(self) -> (Vec<Fate>, Vec<(String, String)>) {
        let fate = |(key, value, fate): (String, Json, Option<Fate>)| {
            let (outcome, note) = match &value {
                Json::Null => (Outcome::Implied, "null, as if it weren't written"),
                Json::Object(_) => (Outcome::Implied, "empty"),
                _ => (Outcome::Lost, "not a key of the reference's recipes that is known here; nothing reads it"),
            };
            fate.unwrap_or_else(|| Fate { key, value: one_line(&value), outcome, note: note.to_owned() })
        };
        (self.leaves.into_iter().map(fate).collect(), self.refusals)
    }
}

fn flatten(path: &str, value: &Json, leaves: &mut Vec<(String, Json, Option<Fate>)>) {
    match value {
        Json::Object(object) if !object.is_empty() => {
            for (key, value) in object {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, leaves);
            }
        }
        leaf => leaves.push((path.to_owned(), leaf.clone(), None)),
    }
}

/// A JSON value as TOML, as well as it goes.
fn plain(value: &Json) -> Value {
    match value {
        Json::Bool(flag) => Value::Boolean(*flag),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::Integer(integer),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(text.clone()),
        Json::Array(list) => Value::Array(list.iter().map(plain).collect()),
        Json::Null | Json::Object(_) => Value::String(value.to_string()),
    }
}

/// A value for a comment: short and without line breaks.
fn one_line(value: &Json) -> String {
    const SHOWN_CHARS: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= SHOWN_CHARS {
        return text;
    }
    text.chars().take(SHOWN_CHARS).chain("...".chars()).collect()
}
