//! `[several]`: further Sharers beside the first, and which of all of them are fused.
//!
//! The first link is that of `[artefact]`, `[receiver]` and `[sharer]`; what stands here is joined with it. Sharers are
//! counted from 1, as the paper's figures and the reference implementation's masks do; the first is 1.

use std::path::PathBuf;

use serde::Serialize;

use crate::layer_list;
use crate::sections::{Dtype, FusionOrder};

/// `[several]`: Sharers beside the first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeveralSettings {
    /// At least one, in the order in which they are fused behind the first.
    pub links: Vec<LinkRef>,
    /// One after the other, or side by side.
    pub order: FusionOrder,
    /// Which Sharers are fused: `all`, or numbers and ranges as [`SeveralSettings::used`] reads them.
    #[serde(rename = "use")]
    pub use_as_written: String,
}

/// One of `several.links`: a Fuser, and the Sharer that it links with the Receiver.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinkRef {
    /// The folder of the Fuser.
    #[serde(skip)]
    pub path: PathBuf,
    /// The folder or hub id of the Fuser, as written.
    #[serde(rename = "fuser")]
    pub path_as_written: String,
    /// The Sharer's folder or hub id, as written; `None` is the one that the Fuser names.
    pub sharer: Option<String>,
    /// The Sharer's folder if there is one, else the same text as a path.
    #[serde(skip)]
    pub sharer_hint: Option<PathBuf>,
    /// Number format of the Sharer; `None` is the one that the Fuser names.
    pub dtype: Option<Dtype>,
}

impl SeveralSettings {
    /// For each Sharer, the first included, whether it is fused.
    pub fn used(&self) -> Vec<bool> {
        let sharers = self.links.len() + 1;
        // Loading has refused what can't be read; of a list that a program has put here nothing is left out silently.
        sharer_list(&self.use_as_written, sharers).unwrap_or_else(|_| vec![true; sharers])
    }
}

/// The Sharers that a value of `several.use` names, of so many: for each whether it is fused. `all`, or a list such as
/// `1,3-4`, counted from 1.
///
/// # Errors
/// What is wrong with it.
pub fn sharer_list(written: &str, sharers: usize) -> Result<Vec<bool>, String> {
    let refuse = |found: String| {
        let known = if sharers == 2 { "1 and 2".to_owned() } else { format!("1 to {sharers}") };
        format!(
            "expected `all`, or Sharers such as \"2\" or \"1-2\" of {known} (1 is that of [artefact]); found {found}"
        )
    };
    let Some(numbers) = layer_list(written).map_err(|_| refuse(format!("{written:?}")))? else {
        return Ok(vec![true; sharers]);
    };
    match numbers.iter().find(|number| !(1..=sharers).contains(*number)) {
        Some(number) => Err(refuse(format!("{written:?}, in which {number} is none of them"))),
        None => Ok((1..=sharers).map(|sharer| numbers.contains(&sharer)).collect()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn sharers_are_counted_from_the_first() {
        assert_eq!(sharer_list("all", 3).unwrap(), [true; 3]);
        assert_eq!(sharer_list("1", 2).unwrap(), [true, false]);
        assert_eq!(sharer_list("3, 1", 3).unwrap(), [true, false, true]);
        assert_eq!(sharer_list("2-3", 3).unwrap(), [false, true, true]);
    }

    #[test]
    fn sharers_that_are_none_are_refused() {
        for (bad, said) in [("0", "0 is none"), ("1,3", "3 is none"), ("", "\"\""), ("both", "\"both\"")] {
            let told = sharer_list(bad, 2).unwrap_err();
            assert!(told.contains("1 and 2") && told.contains(said), "{told}");
        }
        assert!(sharer_list("4", 3).unwrap_err().contains("1 to 3"));
    }
}
