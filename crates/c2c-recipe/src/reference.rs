//! The tables of `docs/recipes.md`, written from the key table.
//!
//! The document keeps its prose; what stands between the two marker lines is generated. After a change of the key
//! table, `cargo run -p c2c-recipe --example recipe_reference` writes it anew; a test fails until that is done.

use crate::render::in_line;
use crate::schema::{self, DefaultValue, KeySpec, Kind, Section};
use crate::sections::RecipeKind;

/// The line before the generated part.
pub const BEGIN: &str = "<!-- keys: begin (generated) -->";
/// The line after the generated part.
pub const END: &str = "<!-- keys: end -->";

/// The document with its generated part written anew; `None` if it lacks the two marker lines.
pub fn refresh(document: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}{END}{after}", tables()))
}

/// A heading and a table for each section. A section that several kinds of recipe share appears once.
pub fn tables() -> String {
    let kinds = [RecipeKind::Train, RecipeKind::Eval, RecipeKind::Pretrain];
    let mut text = String::new();
    let mut done: Vec<&Section> = Vec::new();
    for section in kinds.iter().flat_map(|kind| schema::sections(*kind)) {
        if done.iter().any(|other| std::ptr::eq(*other, *section)) {
            continue;
        }
        done.push(section);
        let of: Vec<&str> = kinds
            .iter()
            .filter(|kind| schema::sections(**kind).iter().any(|other| std::ptr::eq(*other, *section)))
            .map(|kind| kind.as_str())
            .collect();
        let title =
            if section.name.is_empty() { "Top of the file".to_owned() } else { format!("`[{}]`", section.name) };
        let optional = if section.optional { "Optional. " } else { "" };
        text.push_str(&format!("### {title} ({})\n\n{optional}{}\n\n", of.join(", "), section.doc));
        table(section.keys, &mut text);
        for key in section.keys {
            if let Kind::Tables(keys) = key.kind {
                text.push_str(&format!("Each table of `{}`:\n\n", key.path));
                table(keys, &mut text);
            }
        }
    }
    text
}

fn table(keys: &[KeySpec], text: &mut String) {
    text.push_str("| key | value | default | meaning |\n|---|---|---|---|\n");
    for key in keys {
        let only = if key.only.is_empty() { String::new() } else { format!(" (only `{}`)", key.only.join("`, `")) };
        let value = match key.kind {
            Kind::Word(words) => format!("`{}`", words.join("`, `")),
            Kind::Words(words) => format!("list of `{}`", words.join("`, `")),
            kind => kind.describe(),
        };
        let default = match (&key.default, key.default.value()) {
            (_, Some(value)) => format!("`{}`", in_line(&value)),
            (DefaultValue::Required, _) => "required".to_owned(),
            _ => "unset".to_owned(),
        };
        let cells = [format!("`{}`{only}", key.name()), value, default, key.doc.to_owned()];
        text.push_str(&format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | ")));
    }
    text.push('\n');
}
