//! `config.json` beside the fusers: the training recipe of the reference implementation, which copies the file under this
//! name even if it is YAML.
//!
//! Only what names the pair and its alignment is taken; the rest describes a training run that isn't repeated here.

use std::path::Path;

use serde::Deserialize;

use super::{SUBFOLDER, folder};
use crate::artefact::AlignmentInfo;
use crate::{ExportError, files};

/// The file's name.
pub(crate) const RECIPE_FILE: &str = "config.json";

/// What a published folder says about its training. What it doesn't say stays unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishedRecipe {
    /// The Receiver, by hub id or folder.
    pub receiver: Option<String>,
    /// The Sharer, by hub id or folder.
    pub sharer: Option<String>,
    /// What the Sharer read.
    pub alignment: Option<AlignmentInfo>,
}

#[derive(Deserialize, Default)]
struct File {
    #[serde(default)]
    model: Model,
}

#[derive(Deserialize, Default)]
struct Model {
    base_model: Option<String>,
    teacher_model: Option<String>,
    is_do_alignment: Option<bool>,
    alignment_strategy: Option<String>,
}

/// JSON, else YAML.
fn parse(text: &str) -> Result<File, String> {
    match serde_json::from_str(text) {
        Ok(file) => Ok(file),
        Err(error) if text.trim_start().starts_with('{') => Err(files::reason(error)),
        Err(_) => serde_saphyr::from_str(text).map_err(|error| {
            let first = error.to_string().lines().next().unwrap_or_default().to_owned();
            format!("neither JSON nor YAML: {}", files::reason(first))
        }),
    }
}

impl PublishedRecipe {
    /// Reads `config.json` of a published folder or of the folder above `final`; nothing is known if there is none.
    ///
    /// # Errors
    /// No published folder, a file that can't be read or is neither JSON nor YAML, an unknown `alignment_strategy`.
    pub fn read(dir: &Path) -> Result<Self, ExportError> {
        let inner = folder(dir)?;
        let above = inner.parent().filter(|_| inner.file_name().is_some_and(|name| name == SUBFOLDER));
        let places = [Some(inner.as_path()), above];
        let Some(path) = places.into_iter().flatten().map(|d| d.join(RECIPE_FILE)).find(|p| p.is_file()) else {
            return Ok(Self::default());
        };
        let json = |reason: String| ExportError::Json { path: path.clone(), reason };
        let text = files::read_config(&path)?;
        let file: File = parse(&String::from_utf8_lossy(&text)).map_err(&json)?;
        let Model { base_model: receiver, teacher_model: sharer, is_do_alignment, alignment_strategy } = file.model;
        let strategy = alignment_strategy.unwrap_or_else(|| "first".to_owned());
        // The third is of this project: its own export writes it.
        if !["first", "longest", "spans"].contains(&strategy.as_str()) {
            let reason = format!("model.alignment_strategy = {strategy:?}, expected \"first\" or \"longest\"");
            return Err(json(reason));
        }
        let alignment = is_do_alignment.map(|aligned| AlignmentInfo {
            mode: if aligned { "aligned" } else { "shared" }.to_owned(),
            strategy,
            // The only cut that the reference implementation has.
            sections: "message".to_owned(),
        });
        Ok(Self { receiver, sharer, alignment })
    }
}
