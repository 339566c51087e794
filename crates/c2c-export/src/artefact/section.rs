//! A section of the card that something else than training writes, such as the agreement of devices.

use std::fs;
use std::path::Path;

use super::{CARD_FILE, beside};
use crate::{ExportError, files};

/// The card section before which new ones are put, so that "how to use it" stays the last.
const LAST: &str = "\n## Use\n";

/// Puts a section into the card of an artefact, in the place of one with the same heading. `body` is Markdown without
/// headings of the second level.
///
/// # Errors
/// A card that can't be read or written, or isn't UTF-8.
pub fn put_section(dir: &Path, heading: &str, body: &str) -> Result<(), ExportError> {
    let path = dir.join(CARD_FILE);
    let card = String::from_utf8(files::read_text(&path)?).map_err(|e| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, format!("not UTF-8: {e}"));
        ExportError::Read { path: path.clone(), source }
    })?;
    let staged = beside(&path, "tmp")?;
    let text = with_section(&card, heading, body);
    let written = files::write_new(&staged, text.as_bytes())
        .and_then(|()| fs::rename(&staged, &path).map_err(files::write_error(&path)));
    if written.is_err() {
        // The error is being reported; the card is still the old one.
        let _ = fs::remove_file(&staged);
    }
    written
}

pub(super) fn with_section(card: &str, heading: &str, body: &str) -> String {
    let title = format!("\n## {heading}\n");
    let section = format!("{title}\n{}\n", body.trim_end());
    let (before, after) = match card.find(&title) {
        Some(start) => {
            let rest = &card[start + title.len()..];
            (&card[..start], rest.find("\n## ").map_or("", |next| &rest[next..]))
        }
        None => card.split_at(card.find(LAST).unwrap_or(card.len())),
    };
    format!("{before}{section}{after}")
}

/// The body of a section, without the blank lines around it.
pub(super) fn section<'a>(card: &'a str, heading: &str) -> Option<&'a str> {
    let title = format!("\n## {heading}\n");
    let rest = &card[card.find(&title)? + title.len()..];
    Some(rest.find("\n## ").map_or(rest, |next| &rest[..next]).trim_matches('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_put_before_the_last_and_replaced_in_its_place() {
        let card = "# Fuser\n\n## Gates\n\nopen\n\n## Use\n\nso\n";
        let once = with_section(card, "Parity", "| a |\n");
        assert_eq!(once, "# Fuser\n\n## Gates\n\nopen\n\n## Parity\n\n| a |\n\n## Use\n\nso\n");
        assert_eq!((section(&once, "Parity"), section(&once, "Use")), (Some("| a |"), Some("so")));
        assert_eq!(section(&once, "Par"), None);
        let twice = with_section(&once, "Parity", "| b |");
        assert_eq!(twice, once.replace("| a |", "| b |"));
        let end = with_section("# Fuser\n", "Parity", "x");
        assert_eq!(end, "# Fuser\n\n## Parity\n\nx\n");
        assert_eq!(with_section(&end, "Parity", "y"), end.replace('x', "y"));
    }
}
