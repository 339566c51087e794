//! The walk over a recipe's tree: every key against the key table, every value against its type and range.
//!
//! Nothing stops the walk. What is right is gathered as plain TOML, filled with defaults, and handed to the cross
//! checks and to serde; what is wrong becomes a problem.

use std::collections::BTreeMap;

use toml::Value;

use crate::error::Problem;
use crate::node::{Entry, Node, Origin, Raw};
use crate::schema::{self, Bound, DefaultValue, KeySpec, Kind, Section};
use crate::sections::RecipeKind;
use crate::suggest::{nearest, nearest_key};

/// What the walk found.
pub(crate) struct Checked {
    /// The kind of recipe; guessed from its sections if `kind` is missing or wrong (then a problem says so).
    pub kind: RecipeKind,
    /// All good values, and the defaults of keys that weren't written.
    pub table: toml::Table,
    /// Where each written key and section stands.
    pub origins: BTreeMap<String, Origin>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Checks a whole tree.
pub(crate) fn check(root: &Node) -> Checked {
    let entries: &[Entry] = if let Raw::Table(entries) = &root.raw { entries } else { &[] };
    let kind = kind_of(entries);
    let mut checked = Checked { kind, table: toml::Table::new(), origins: BTreeMap::new(), problems: Vec::new() };
    checked.walk(entries);
    checked
}

/// The kind as written or, failing that, the one whose sections the recipe has.
fn kind_of(entries: &[Entry]) -> RecipeKind {
    let has = |name: &str| entries.iter().any(|entry| entry.key == name);
    let written = entries.iter().find(|entry| entry.key == "kind").map(|entry| &entry.node.raw);
    match written {
        Some(Raw::Text(word)) if word == RecipeKind::Train.as_str() => RecipeKind::Train,
        Some(Raw::Text(word)) if word == RecipeKind::Eval.as_str() => RecipeKind::Eval,
        Some(Raw::Text(word)) if word == RecipeKind::Pretrain.as_str() => RecipeKind::Pretrain,
        _ if has("corpus") || has("model") => RecipeKind::Pretrain,
        _ if has("artefact") => RecipeKind::Eval,
        _ => RecipeKind::Train,
    }
}

impl Checked {
    fn walk(&mut self, entries: &[Entry]) {
        let sections = schema::sections(self.kind);
        for entry in entries {
            let top = sections.iter().find(|section| section.name.is_empty());
            if let Some(spec) = top.and_then(|section| section.key(&entry.key)) {
                if let Some(value) = self.key(spec, &entry.key, entry) {
                    self.table.insert(entry.key.clone(), value);
                }
            } else if let Some(section) = sections.iter().find(|section| section.name == entry.key) {
                self.section(section, entry);
            } else {
                self.unknown_at_top(entry);
            }
        }
        for section in sections {
            self.fill(section);
        }
    }

    fn section(&mut self, section: &Section, entry: &Entry) {
        self.origins.insert(entry.key.clone(), entry.origin.clone());
        let Raw::Table(entries) = &entry.node.raw else {
            let message = format!("expected a section, `[{}]`; found {}", entry.key, entry.node.raw.describe());
            return self.problem(&entry.node.origin, &entry.key, message);
        };
        let mut table = toml::Table::new();
        for inner in entries {
            let path = format!("{}.{}", section.name, inner.key);
            match section.key(&inner.key) {
                Some(spec) => {
                    if let Some(value) = self.key(spec, &path, inner) {
                        table.insert(inner.key.clone(), value);
                    }
                }
                None => {
                    let valid: Vec<&str> = section.keys.iter().map(KeySpec::name).collect();
                    self.unknown(&path, &valid, &inner.origin);
                }
            }
        }
        self.table.insert(section.name.to_owned(), Value::Table(table));
    }

    /// Puts the defaults of keys that weren't written, and tells those that must be.
    fn fill(&mut self, section: &Section) {
        let absent = !section.name.is_empty() && !self.table.contains_key(section.name);
        if absent && (section.optional || self.origins.contains_key(section.name)) {
            return;
        }
        let mut table = match section.name {
            "" => std::mem::take(&mut self.table),
            name => match self.table.remove(name) {
                Some(Value::Table(table)) => table,
                _ => toml::Table::new(),
            },
        };
        let header = self.origins.get(section.name).cloned();
        for spec in section.keys {
            self.default(spec, spec.path, header.as_ref(), &mut table);
        }
        match section.name {
            "" => self.table = table,
            name => drop(self.table.insert(name.to_owned(), Value::Table(table))),
        }
    }

    fn default(&mut self, spec: &KeySpec, path: &str, header: Option<&Origin>, table: &mut toml::Table) {
        // A key that was written wrongly has an origin but no value: it is no missing key.
        if table.contains_key(spec.name()) || self.origins.contains_key(path) {
            return;
        }
        if let Some(value) = spec.default.value() {
            table.insert(spec.name().to_owned(), value);
        } else if matches!(spec.default, DefaultValue::Required) {
            let message = format!("missing; expected {}", spec.kind.describe());
            match header {
                Some(origin) => self.problem(origin, path, message),
                None => self.problems.push(Problem { line: None, key: path.to_owned(), message }),
            }
        }
    }

    /// Checks one value; `None` if it is wrong.
    fn key(&mut self, spec: &KeySpec, path: &str, entry: &Entry) -> Option<Value> {
        self.origins.insert(path.to_owned(), entry.origin.clone());
        let node = &entry.node;
        let outcome = match (spec.kind, &node.raw) {
            (Kind::Text, _) => text(node).ok_or(None),
            (Kind::Path, _) => match text(node) {
                Some(Value::String(path)) if path.is_empty() => Err(None),
                value => value.ok_or(None),
            },
            (Kind::Bool, Raw::Bool(flag)) => Ok(Value::Boolean(*flag)),
            (Kind::Integer { min }, Raw::Integer(number)) if *number >= min => Ok(Value::Integer(*number)),
            (Kind::IntegerIn { min, max }, Raw::Integer(number)) if (min..=max).contains(number) => {
                Ok(Value::Integer(*number))
            }
            (Kind::Number { low, high }, Raw::Number(number)) => number_in(*number, low, high).ok_or(None),
            (Kind::Number { low, high }, Raw::Integer(number)) => number_in(*number as f64, low, high).ok_or(None),
            (Kind::Word(words), Raw::Text(word)) => match words.contains(&word.as_str()) {
                true => Ok(Value::String(word.clone())),
                false => Err(nearest(word, words.iter().copied()).map(|near| format!("did you mean {near:?}?"))),
            },
            (Kind::Columns, Raw::Table(entries)) => return self.columns(path, entries),
            (Kind::Texts, Raw::List(list)) if !list.is_empty() => {
                let texts: Option<Vec<Value>> = list.iter().map(text).collect();
                texts.map(Value::Array).ok_or(None)
            }
            (Kind::Words(words), Raw::List(list)) => return self.words(words, path, list, &node.origin),
            (Kind::Tables(keys), Raw::List(list)) => return self.tables(keys, path, list, &node.origin),
            (_, Raw::Text(text)) if unquoted_would_do(spec.kind, text) => Err(Some("take the quotes away".to_owned())),
            _ => Err(None),
        };
        match outcome {
            Ok(value) => Some(value),
            Err(hint) => {
                self.mismatch(spec, path, node, hint);
                None
            }
        }
    }

    fn mismatch(&mut self, spec: &KeySpec, path: &str, node: &Node, hint: Option<String>) {
        let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        let message = format!("expected {}; found {}{hint}", spec.kind.describe(), node.raw.describe());
        self.problem(&node.origin, path, message);
    }

    fn words(&mut self, words: &'static [&'static str], path: &str, list: &[Node], origin: &Origin) -> Option<Value> {
        let before = self.problems.len();
        let mut found: Vec<&str> = Vec::new();
        if list.is_empty() {
            self.problem(origin, path, format!("the list is empty; expected at least one of {}", words.join(", ")));
        }
        for (index, node) in list.iter().enumerate() {
            let place = format!("{path}[{index}]");
            match &node.raw {
                Raw::Text(word) if found.contains(&word.as_str()) => {
                    self.problem(&node.origin, &place, format!("{word:?} is in the list twice"));
                }
                Raw::Text(word) if words.contains(&word.as_str()) => found.push(word),
                raw => {
                    let near = match raw {
                        Raw::Text(word) => nearest(word, words.iter().copied()),
                        _ => None,
                    };
                    let hint = near.map(|near| format!(" (did you mean {near:?}?)")).unwrap_or_default();
                    let expected = Kind::Word(words).describe();
                    let message = format!("expected {expected}; found {}{hint}", raw.describe());
                    self.problem(&node.origin, &place, message);
                }
            }
        }
        let good = self.problems.len() == before;
        good.then(|| Value::Array(found.into_iter().map(|word| Value::String(word.to_owned())).collect()))
    }

    /// A table whose names the user chooses; each value a scalar or a list of scalars.
    fn columns(&mut self, path: &str, entries: &[Entry]) -> Option<Value> {
        let before = self.problems.len();
        let mut table = toml::Table::new();
        for entry in entries {
            let scalars = match &entry.node.raw {
                Raw::List(list) if !list.is_empty() => {
                    list.iter().map(|node| scalar(&node.raw)).collect::<Option<Vec<_>>>().map(Value::Array)
                }
                raw => scalar(raw),
            };
            match scalars {
                Some(value) => drop(table.insert(entry.key.clone(), value)),
                None => {
                    let expected = "expected a string, an integer, true or false, or a list of those";
                    let message = format!("{expected}; found {}", entry.node.raw.describe());
                    self.problem(&entry.origin, &format!("{path}.{}", entry.key), message);
                }
            }
        }
        (self.problems.len() == before).then_some(Value::Table(table))
    }

    fn tables(&mut self, keys: &'static [KeySpec], path: &str, list: &[Node], origin: &Origin) -> Option<Value> {
        let before = self.problems.len();
        if list.is_empty() {
            self.problem(origin, path, "the list is empty; expected at least one table".to_owned());
        }
        let tables: Vec<Value> = list
            .iter()
            .enumerate()
            .map(|(index, node)| Value::Table(self.element(keys, &format!("{path}[{index}]"), node)))
            .collect();
        (self.problems.len() == before).then_some(Value::Array(tables))
    }

    /// One table of a list. Its `kind` decides which other keys it has.
    fn element(&mut self, keys: &'static [KeySpec], path: &str, node: &Node) -> toml::Table {
        let mut table = toml::Table::new();
        let Raw::Table(entries) = &node.raw else {
            self.problem(&node.origin, path, format!("expected a table; found {}", node.raw.describe()));
            return table;
        };
        self.origins.insert(path.to_owned(), node.origin.clone());
        let kinds = keys.iter().find_map(|key| match key.kind {
            Kind::Word(words) if key.name() == "kind" => Some(words),
            _ => None,
        });
        let kind = entries.iter().find_map(|entry| match &entry.node.raw {
            Raw::Text(word) if entry.key == "kind" && kinds.is_some_and(|kinds| kinds.contains(&word.as_str())) => {
                Some(word.as_str())
            }
            _ => None,
        });
        for entry in entries {
            let place = format!("{path}.{}", entry.key);
            // A name may stand in the table twice, for different kinds.
            let named = || keys.iter().filter(|key| key.name() == entry.key);
            let of_kind = kind.and_then(|kind| named().find(|key| key.belongs_to(kind)));
            let spec = of_kind.or_else(|| named().next());
            match (spec, kind) {
                (Some(spec), kind) if kind.is_none_or(|kind| spec.belongs_to(kind)) => {
                    if let Some(value) = self.key(spec, &place, entry) {
                        table.insert(entry.key.clone(), value);
                    }
                }
                (Some(_), Some(kind)) => {
                    let valid: Vec<&str> = keys.iter().filter(|key| key.belongs_to(kind)).map(KeySpec::name).collect();
                    let message = format!("not a key of a `{kind}` source; those are {}", valid.join(", "));
                    self.problem(&entry.origin, &place, message);
                }
                _ => {
                    let valid: Vec<&str> = keys
                        .iter()
                        .filter(|key| kind.is_none_or(|kind| key.belongs_to(kind)))
                        .map(KeySpec::name)
                        .collect();
                    let near = nearest(&entry.key, valid.iter().copied());
                    self.problem(&entry.origin, &place, unknown_message("key", near, &valid));
                }
            }
        }
        for spec in keys {
            // Without a kind only `kind` itself is missed: what else belongs here isn't known.
            if kinds.is_none() || spec.name() == "kind" || kind.is_some_and(|kind| spec.belongs_to(kind)) {
                self.default(spec, &format!("{path}.{}", spec.name()), Some(&node.origin), &mut table);
            }
        }
        table
    }

    fn unknown(&mut self, path: &str, valid: &[&str], origin: &Origin) {
        let absent = schema::ABSENT.iter().find(|(key, _)| *key == path).map(|(_, why)| format!("unknown key: {why}"));
        let message = absent
            .or_else(|| self.of_other_kind(path, "key"))
            .unwrap_or_else(|| unknown_message("key", nearest_key(path, &schema::keys(self.kind)), valid));
        self.problem(origin, path, message);
    }

    fn unknown_at_top(&mut self, entry: &Entry) {
        let sections = schema::sections(self.kind);
        let names: Vec<&str> = sections.iter().map(|section| section.name).filter(|name| !name.is_empty()).collect();
        let message = if let Raw::Table(_) = entry.node.raw {
            let other = self.of_other_kind(&entry.key, "section");
            other.unwrap_or_else(|| unknown_message("section", nearest(&entry.key, names.iter().copied()), &names))
        } else {
            let top = sections.iter().find(|section| section.name.is_empty());
            let valid: Vec<&str> =
                top.map(|section| section.keys.iter().map(KeySpec::name).collect()).unwrap_or_default();
            unknown_message("key", nearest_key(&entry.key, &schema::keys(self.kind)), &valid)
        };
        self.problem(&entry.origin, &entry.key, message);
    }

    /// The message for a key or section that another kind of recipe has.
    fn of_other_kind(&self, path: &str, what: &str) -> Option<String> {
        let kinds = [RecipeKind::Train, RecipeKind::Eval, RecipeKind::Pretrain];
        let other = kinds.into_iter().find(|kind| {
            schema::keys(*kind).contains(&path)
                || schema::sections(*kind).iter().any(|section| !path.is_empty() && section.name == path)
        })?;
        Some(format!("a {what} of {other} recipes; this is a {} recipe", self.kind))
    }

    fn problem(&mut self, origin: &Origin, key: &str, message: String) {
        self.problems.push(origin.problem(key, message));
    }
}

impl DefaultValue {
    /// The default as TOML; `None` where there is none.
    pub(crate) fn value(&self) -> Option<Value> {
        Some(match *self {
            DefaultValue::Required | DefaultValue::Unset => return None,
            DefaultValue::Text(text) => Value::String(text.to_owned()),
            DefaultValue::Integer(number) => Value::Integer(number),
            DefaultValue::Number(number) => Value::Float(number),
            DefaultValue::Bool(flag) => Value::Boolean(flag),
            DefaultValue::Words(words) => {
                Value::Array(words.iter().map(|word| Value::String((*word).to_owned())).collect())
            }
        })
    }
}

/// A string; of an override also what looks like another type (`name=2024`), as long as it is a single word.
fn text(node: &Node) -> Option<Value> {
    match (&node.raw, &node.origin) {
        (Raw::Text(text), _) => Some(Value::String(text.clone())),
        (Raw::List(_) | Raw::Table(_), _) => None,
        (_, Origin::Override { value, .. }) => Some(Value::String(value.clone())),
        _ => None,
    }
}

fn scalar(raw: &Raw) -> Option<Value> {
    match raw {
        Raw::Text(text) => Some(Value::String(text.clone())),
        Raw::Integer(number) => Some(Value::Integer(*number)),
        Raw::Bool(flag) => Some(Value::Boolean(*flag)),
        _ => None,
    }
}

fn number_in(number: f64, low: Bound, high: Bound) -> Option<Value> {
    (number.is_finite() && low.below(number) && high.above(number)).then_some(Value::Float(number))
}

fn unquoted_would_do(kind: Kind, text: &str) -> bool {
    match kind {
        Kind::Integer { .. } | Kind::IntegerIn { .. } => text.parse::<i64>().is_ok(),
        Kind::Number { .. } => text.parse::<f64>().is_ok_and(f64::is_finite),
        Kind::Bool => text.parse::<bool>().is_ok(),
        _ => false,
    }
}

fn unknown_message(what: &str, near: Option<&str>, valid: &[&str]) -> String {
    match near {
        Some(near) => format!("unknown {what} (did you mean `{near}`?)"),
        None => format!("unknown {what}; expected one of {}", valid.join(", ")),
    }
}
