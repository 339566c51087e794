//! What was measured with a Fuser, kept in the cards of its other forms.
//!
//! A card's results belong to the weights that they were measured with. An export that only changes the form has the same
//! values, and keeps them; one that rounds says whose they are. Each kept section begins with a line that names the
//! weights by their hash, so that what was kept once can be kept again, and nobody takes it for a measurement of its own.

use std::io::ErrorKind;
use std::path::Path;

use super::config::ArtefactConfig;
use super::format::WeightsDtype;
use super::section::{section, with_section};
use super::{CARD_FILE, FrontMatter, card};
use crate::{ExportError, files};

/// The sections of a card that hold measurements, in their order.
const KEPT: [&str; 2] = [card::RESULTS_HEADING, DEVICES_HEADING];

/// The heading of the section that `c2c parity --card` writes.
pub const DEVICES_HEADING: &str = "Agreement of devices";

const MEASURED: &str = "Measured with the Fuser whose `fuser.safetensors` has sha256 `";
const ROUNDED: &str = ", before its values were rounded to ";
const FILES: &str = " Its files here have sha256 `";

/// What the card of another form of a Fuser keeps: sections, and the licence that its owner wrote into it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardSections {
    sections: Vec<(&'static str, String)>,
    license: Option<String>,
}

impl CardSections {
    /// Those of the artefact in `from`, whose values were rounded to `rounded` if that is given. A folder without a card
    /// has none.
    ///
    /// # Errors
    /// A card that can't be read.
    pub(crate) fn of_artefact(
        from: &Path,
        config: &ArtefactConfig,
        rounded: Option<WeightsDtype>,
    ) -> Result<Self, ExportError> {
        let kept = |body: &str| {
            let (earlier, rest) = Note::split(body);
            let note = match earlier {
                // What was rounded once has the same values since.
                Some(note) if note.rounded.is_some() => note,
                Some(note) => Note { rounded: rounded.map(|dtype| dtype.as_str().to_owned()), ..note },
                None => Note {
                    weights: config.weights_sha256.clone(),
                    rounded: rounded.map(|dtype| dtype.as_str().to_owned()),
                    files: None,
                },
            };
            Some(format!("{}\n\n{rest}", Note { files: None, ..note }.line()))
        };
        let Some(card) = read(from)? else { return Ok(Self::default()) };
        let license = FrontMatter::read(card.as_bytes()).ok().and_then(|front| front.license);
        Ok(Self { license, ..Self::of_card(&card, kept) })
    }

    /// Those of a folder in the published layout, if they are said of these very files: other programs write cards, too,
    /// and files are replaced.
    ///
    /// # Errors
    /// A card that can't be read.
    pub(crate) fn of_published(from: &Path, files_sha256: &str) -> Result<Self, ExportError> {
        let Some(card) = read(from)? else { return Ok(Self::default()) };
        Ok(Self::of_card(&card, |body| {
            let (note, rest) = Note::split(body);
            let note = note.filter(|note| note.files.as_deref() == Some(files_sha256))?;
            Some(format!("{}\n\n{rest}", Note { files: None, ..note }.line()))
        }))
    }

    /// The same, for a folder in the published layout whose files have this hash.
    pub(crate) fn for_files(&self, files_sha256: &str) -> Self {
        let named = |(heading, body): &(&'static str, String)| {
            let (note, rest) = Note::split(body);
            let body = match note {
                Some(note) => {
                    format!("{}\n\n{rest}", Note { files: Some(files_sha256.to_owned()), ..note }.line())
                }
                None => body.clone(),
            };
            (*heading, body)
        };
        Self { sections: self.sections.iter().map(named).collect(), license: self.license.clone() }
    }

    /// The card with these sections before its last, and the licence in its front matter.
    pub(crate) fn put_into(&self, card: String) -> String {
        let card = self.sections.iter().fold(card, |card, (heading, body)| with_section(&card, heading, body));
        match (&self.license, card.strip_prefix("---\n")) {
            // A JSON string is a YAML string.
            (Some(license), Some(rest)) => {
                format!("---\nlicense: {}\n{rest}", serde_json::Value::from(license.as_str()))
            }
            _ => card,
        }
    }

    fn of_card(card: &str, kept: impl Fn(&str) -> Option<String>) -> Self {
        let of = |heading: &'static str| Some((heading, kept(section(card, heading)?)?));
        Self { sections: KEPT.into_iter().filter_map(of).collect(), license: None }
    }
}

/// The card of a folder, if it has one.
fn read(from: &Path) -> Result<Option<String>, ExportError> {
    match files::read_text(&from.join(CARD_FILE)) {
        Err(ExportError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        read => Ok(Some(String::from_utf8_lossy(&read?).replace("\r\n", "\n"))),
    }
}

/// The first line of a kept section.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Note {
    /// Of the weights that were measured.
    weights: String,
    /// What they were rounded to since.
    rounded: Option<String>,
    /// Of the files in the published layout.
    files: Option<String>,
}

impl Note {
    fn line(&self) -> String {
        let end = match &self.rounded {
            None => "; the values here are the same.".to_owned(),
            Some(dtype) => format!("{ROUNDED}{dtype}: the figures are that one's, not this one's."),
        };
        let files = self.files.as_ref().map(|files| format!("{FILES}{files}`.")).unwrap_or_default();
        format!("{MEASURED}{}`{end}{files}", self.weights)
    }

    /// The note of a section, if it has one, and the rest.
    fn split(body: &str) -> (Option<Self>, &str) {
        let read = || {
            let (line, rest) = body.strip_prefix(MEASURED)?.split_once("\n\n")?;
            let (weights, end) = line.split_once('`')?;
            let (end, files) = match end.split_once(FILES) {
                Some((end, files)) => (end, Some(files.strip_suffix("`.")?.to_owned())),
                None => (end, None),
            };
            let rounded =
                end.strip_prefix(ROUNDED).and_then(|end| end.split_once(':')).map(|(dtype, _)| dtype.to_owned());
            Some((Self { weights: weights.to_owned(), rounded, files }, rest))
        };
        match read() {
            Some((note, rest)) => (Some(note), rest),
            None => (None, body),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_reads_back_as_it_was_written() {
        for rounded in [None, Some("bf16".to_owned())] {
            for files in [None, Some("cd".to_owned())] {
                let note = Note { weights: "ab".into(), rounded: rounded.clone(), files };
                let body = format!("{}\n\n| table |\n", note.line());
                assert_eq!(Note::split(&body), (Some(note), "| table |\n"), "{body}");
            }
        }
        for other in ["", "On questions.\n\n| x |\n", MEASURED] {
            assert_eq!(Note::split(other), (None, other));
        }
    }
}
