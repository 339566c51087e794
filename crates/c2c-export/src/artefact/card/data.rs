//! What a fuser was trained on, by the fingerprints of its run.

use std::fmt::{Result, Write};

use serde_json::Value;

use super::{ArtefactConfig, cell};

/// A row a source. Sources are objects of the run; what isn't one of the known fields is left to the config.
pub(super) fn section(out: &mut String, config: &ArtefactConfig) -> Result {
    let Some(training) = &config.training else { return Ok(()) };
    writeln!(out, "## Training data\n")?;
    if training.data.is_empty() {
        return writeln!(out, "Unknown.\n");
    }
    writeln!(out, "| source | rows | of them used at most | sha256 of the rows |\n|---|---|---|---|")?;
    for source in &training.data {
        let field = |names: &[&str], absent: &str| match names.iter().find_map(|name| source.get(name)) {
            None | Some(Value::Null) => absent.to_owned(),
            Some(Value::String(text)) => cell(text),
            Some(other) => cell(&other.to_string()),
        };
        writeln!(
            out,
            "| {} | {} | {} | {} |",
            field(&["source", "kind"], "unknown"),
            field(&["rows"], "unknown"),
            field(&["limit"], "all"),
            field(&["sha256"], "unknown"),
        )?;
    }
    writeln!(out)
}
