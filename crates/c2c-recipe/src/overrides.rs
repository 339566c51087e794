//! Overrides: values given beside a recipe, as `section.key=value`.
//!
//! An override replaces one value of the tree before anything is checked, so it is checked like a value of the file:
//! an unknown key is refused with the nearest one, a wrong type or range is told.

use crate::error::Problem;
use crate::node::{Entry, Node, Origin, Raw, parse_value};

/// One override, `optimizer.learning_rate=3e-4`.
///
/// The right side is a TOML value. A bare word is taken as a string (`receiver.dtype=bf16`), a whole list or table may
/// be given (`evaluation.methods=["c2c"]`), `data.sources[0].limit=100` reaches into a list (counted from 0), and an
/// empty right side takes the key out of the recipe, back to its default (`training.max_steps=`).
#[derive(Clone, Debug)]
pub struct Override {
    /// The text as typed.
    typed: String,
    /// The key's parts: a name and, for an element of a list, its index.
    parts: Vec<(String, Option<usize>)>,
    /// The new value; `None` takes the key out.
    node: Option<Node>,
}

impl Override {
    /// Reads `section.key=value`.
    ///
    /// # Errors
    /// No `=`, a malformed key, or a quoted string, list or table that is not TOML.
    pub fn parse(typed: &str) -> Result<Self, Problem> {
        let refuse = |key: &str, message: &str| Problem {
            line: None,
            key: key.to_owned(),
            message: format!("{message} (from the override `{typed}`)"),
        };
        let Some((key, value)) = typed.split_once('=') else {
            return Err(refuse("", "an override is written `section.key=value`; there is no `=`"));
        };
        let (key, value) = (key.trim(), value.trim());
        let parts: Option<Vec<_>> = key.split('.').map(part).collect();
        let Some(parts) = parts else {
            return Err(refuse(key, "not a key; expected names joined by dots, such as `data.sources[0].limit`"));
        };
        let origin = Origin::Override { typed: typed.to_owned(), value: value.to_owned() };
        let node = match parse_value(value, &origin) {
            _ if value.is_empty() => None,
            Some(node) => Some(node),
            None if value.starts_with(['"', '\'', '[', '{']) => {
                return Err(refuse(key, "the value is not TOML; check its quotes and brackets"));
            }
            None => Some(Node { raw: Raw::Text(value.to_owned()), origin }),
        };
        Ok(Self { typed: typed.to_owned(), parts, node })
    }

    /// Puts the value into the tree, making the tables on the way to it.
    ///
    /// # Errors
    /// The key leads through something that is no table, or to an element that the list doesn't have.
    pub(crate) fn apply(&self, root: &mut Node) -> Result<(), Problem> {
        let origin = Origin::Override { typed: self.typed.clone(), value: String::new() };
        let mut here = root;
        let mut path = String::new();
        for (depth, (name, index)) in self.parts.iter().enumerate() {
            let last = depth + 1 == self.parts.len();
            let found = here.raw.describe();
            let Raw::Table(entries) = &mut here.raw else {
                return Err(origin.problem(path, format!("expected a table, found {found}")));
            };
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(name);
            let at = match (entries.iter().position(|entry| entry.key == *name), &self.node) {
                (Some(at), None) if last && index.is_none() => {
                    entries.remove(at);
                    return Ok(());
                }
                (Some(at), _) => at,
                // Nothing to take out. A misspelt key still enters the tree, so that it is refused as unknown.
                (None, None) if crate::schema::is_known(&plain(&self.parts)) => return Ok(()),
                (None, _) => {
                    entries.push(empty(name, &origin));
                    entries.len() - 1
                }
            };
            if last && index.is_none() {
                if let Some(node) = &self.node {
                    entries[at] = Entry { key: name.clone(), origin: node.origin.clone(), node: node.clone() };
                }
                return Ok(());
            }
            here = &mut entries[at].node;
            if let Some(index) = *index {
                let Raw::List(list) = &mut here.raw else {
                    return Err(origin.problem(path, "not a list in this recipe, so it has no element to change"));
                };
                let length = list.len();
                if index >= length {
                    let noun = if length == 1 { "element" } else { "elements" };
                    let message = format!("the list has {length} {noun} (counted from 0), none at [{index}]");
                    return Err(origin.problem(path, message));
                }
                path.push_str(&format!("[{index}]"));
                match &self.node {
                    Some(node) if last => list[index] = node.clone(),
                    None if last => drop(list.remove(index)),
                    _ => {}
                }
                if last {
                    return Ok(());
                }
                here = &mut list[index];
            }
        }
        Ok(())
    }
}

impl std::str::FromStr for Override {
    type Err = Problem;

    fn from_str(typed: &str) -> Result<Self, Problem> {
        Self::parse(typed)
    }
}

fn empty(name: &str, origin: &Origin) -> Entry {
    let node = Node { raw: Raw::Table(Vec::new()), origin: origin.clone() };
    Entry { key: name.to_owned(), origin: origin.clone(), node }
}

/// The key with every index left open, as the key table writes it.
fn plain(parts: &[(String, Option<usize>)]) -> String {
    let names: Vec<String> =
        parts.iter().map(|(name, index)| format!("{name}{}", if index.is_some() { "[]" } else { "" })).collect();
    names.join(".")
}

fn part(text: &str) -> Option<(String, Option<usize>)> {
    let (name, index) = match text.split_once('[') {
        Some((name, rest)) => (name, Some(rest.strip_suffix(']')?.parse().ok()?)),
        None => (text, None),
    };
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (!name.is_empty() && name.chars().all(good)).then(|| (name.to_owned(), index))
}
