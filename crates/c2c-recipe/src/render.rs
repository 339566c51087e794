//! Writing recipes: a resolved one, and the one of all defaults.
//!
//! Keys come in the order of the key table and numbers in one way only, so the text is canonical: equal recipes give
//! equal texts.

use toml::{Table, Value};

use crate::recipe::Recipe;
use crate::schema::{self, DefaultValue, KeySpec, Kind};
use crate::sections::RecipeKind;

/// A resolved recipe as plain TOML values.
///
/// # Errors
/// It holds something that TOML can't: a path that is not UTF-8, an integer above 2^63.
pub(crate) fn table_of(recipe: &Recipe) -> Result<Table, toml::ser::Error> {
    Table::try_from(recipe)
}

/// A resolved recipe as TOML, without the keys and whole sections in `skip`.
pub(crate) fn recipe(recipe: &Recipe, skip: &[&str]) -> String {
    let table = match table_of(recipe) {
        Ok(table) => table,
        // Not for a recipe that was loaded, since loading tries this. One that a program has changed since gets a text
        // of its own, never that of another recipe.
        Err(error) => return format!("# not to be written as TOML: {error}\n# {recipe:?}\n"),
    };
    let mut text = String::new();
    for section in schema::sections(recipe.kind()).iter().filter(|section| !skip.contains(&section.name)) {
        let values = match section.name {
            "" => Some(&table),
            name => table.get(name).and_then(Value::as_table),
        };
        let Some(values) = values else { continue };
        if !section.name.is_empty() {
            text.push_str(&format!("\n[{}]\n", section.name));
        }
        for key in section.keys.iter().filter(|key| !skip.contains(&key.path)) {
            if let Some(value) = values.get(key.name()) {
                text.push_str(&format!("{} = {}\n", key.name(), in_full(key.kind, value)));
            }
        }
    }
    text
}

/// The keys of a table and nothing else, as a recipe of this kind writes them.
pub(crate) fn written(kind: RecipeKind, table: &Table) -> String {
    let mut text = String::new();
    for section in schema::sections(kind) {
        let values = match section.name {
            "" => Some(table),
            name => table.get(name).and_then(Value::as_table),
        };
        let Some(values) = values else { continue };
        if !section.name.is_empty() {
            text.push_str(&format!("\n[{}]\n", section.name));
        }
        for key in section.keys {
            if let Some(value) = values.get(key.name()) {
                text.push_str(&format!("{} = {}\n", key.name(), in_full(key.kind, value)));
            }
        }
    }
    text
}

/// A recipe of this kind with every key, its meaning, and its default, as TOML. Keys without a default are comments.
pub fn defaults_toml(kind: RecipeKind) -> String {
    let mut text = String::new();
    for section in schema::sections(kind) {
        if !section.name.is_empty() {
            let optional = if section.optional { "Optional. " } else { "" };
            text.push_str(&format!("\n# {optional}{}\n[{}]\n", section.doc, section.name));
        }
        for key in section.keys {
            default_line(key, kind, "", &mut text);
            if let Kind::Tables(keys) = key.kind {
                text.push_str("# Keys of each table:\n");
                keys.iter().for_each(|key| default_line(key, kind, "#   ", &mut text));
            }
        }
    }
    text
}

fn default_line(key: &KeySpec, kind: RecipeKind, indent: &str, text: &mut String) {
    let only = if key.only.is_empty() { String::new() } else { format!(" ({} only)", key.only.join(", ")) };
    let about = if indent.is_empty() { "# " } else { indent };
    text.push_str(&format!("{about}{}{only}\n", key.doc));
    let line = match key.default.value() {
        _ if key.path == "kind" => format!("kind = {:?}", kind.as_str()),
        Some(value) => format!("{} = {}", key.name(), in_full(key.kind, &value)),
        None => {
            let need = if matches!(key.default, DefaultValue::Required) { "required" } else { "unset" };
            let comment = if indent.is_empty() { "# " } else { "" };
            format!("{comment}{} = ({need}: {})", key.name(), key.kind.describe())
        }
    };
    text.push_str(&format!("{indent}{line}\n"));
}

/// A value on the right side of a key. A list of tables gets a line for each.
pub(crate) fn in_full(kind: Kind, value: &Value) -> String {
    match (kind, value) {
        (Kind::Tables(keys), Value::Array(tables)) => {
            let lines: Vec<String> = tables
                .iter()
                .filter_map(Value::as_table)
                .map(|table| format!("  {},\n", inline(keys, table)))
                .collect();
            format!("[\n{}]", lines.concat())
        }
        _ => in_line(value),
    }
}

/// One table of a list, with the keys that its kind has.
fn inline(keys: &[KeySpec], table: &Table) -> String {
    let kind = table.get("kind").and_then(Value::as_str).unwrap_or_default();
    let pairs: Vec<String> = keys
        .iter()
        .filter(|key| key.belongs_to(kind))
        .filter_map(|key| table.get(key.name()).map(|value| format!("{} = {}", key.name(), in_line(value))))
        .collect();
    format!("{{ {} }}", pairs.join(", "))
}

/// A value in one line.
pub(crate) fn in_line(value: &Value) -> String {
    match value {
        Value::Float(number) => float(*number),
        Value::Array(values) => format!("[{}]", values.iter().map(in_line).collect::<Vec<_>>().join(", ")),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// The shortest text that reads back as the same number, with an exponent where that is easier to read.
fn float(number: f64) -> String {
    let size = number.abs();
    if size != 0.0 && !(1e-3..1e7).contains(&size) { format!("{number:e}") } else { format!("{number:?}") }
}

/// A basic string, on one line whatever is in it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn numbers_read_back() {
        for number in [0.0, 1.0, -0.5, 1e-8, 1e-4, 1e-3, 0.999, 10_000.0, 1e7, 1e300, 0.1 + 0.2] {
            let table: Table = format!("x = {}", float(number)).parse().unwrap();
            assert_eq!(table["x"], Value::Float(number), "{number}");
        }
        assert_eq!(float(1e-4), "1e-4");
        assert_eq!(float(0.01), "0.01");
    }

    #[test]
    fn strings_read_back() {
        for text in ["", "plain", "a \"b\" \\ c", "two\nlines\t\u{7f}\u{85}", "'''\"\"\"", "é 漢"] {
            let table: Table = format!("x = {}", quoted(text)).parse().unwrap();
            assert_eq!(table["x"], Value::String(text.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn defaults_are_toml_and_hold_every_key() {
        for kind in [RecipeKind::Train, RecipeKind::Eval, RecipeKind::Pretrain] {
            let text = defaults_toml(kind);
            let table: Table = text.parse().unwrap();
            assert_eq!(table["kind"].as_str(), Some(kind.as_str()));
            for key in schema::keys(kind) {
                let name = key.rsplit('.').next().unwrap();
                assert!(text.contains(&format!("{name} = ")), "{kind} defaults lack {key}");
            }
        }
    }
}
