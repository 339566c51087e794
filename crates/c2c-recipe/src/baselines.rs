//! The words of the keys that only baselines read (prompts of T2T, lists of layers), and what methods have in common.

use crate::sections::Method;

/// The named prompts of T2T, with the text that the Sharer reads: those of the reference implementation (thu-nics/C2C), by
/// default and as its evaluation recipe suggests.
pub const T2T_PROMPTS: &[(&str, &str)] = &[
    ("background", "Briefly describe the most useful background to solve the problem:\n\n{question}"),
    (
        "essential",
        "In one clear sentence, describe the most essential background knowledge needed to answer the question: {question}",
    ),
];

/// What stands for the question, without its choices.
pub const QUESTION: &str = "{question}";
/// What stands for the lines of the choices.
pub const CHOICES: &str = "{choices}";

/// The text that a value of `evaluation.t2t_prompt` means: that of its name, or itself if it holds `{question}`.
pub fn t2t_template(written: &str) -> Option<&str> {
    let named = T2T_PROMPTS.iter().find(|(name, _)| *name == written).map(|(_, text)| *text);
    named.or_else(|| written.contains(QUESTION).then_some(written))
}

/// The layers that a value of `evaluation.oracle_layers` names, sorted, each once: `None` for `all`, else those of a list
/// such as `0-3,7`, counted from 0.
///
/// # Errors
/// What is wrong with it.
pub fn layer_list(written: &str) -> Result<Option<Vec<usize>>, String> {
    if written == "all" {
        return Ok(None);
    }
    let refuse = || format!("expected `all`, or layers from 0 on such as \"0-3,7\"; found {written:?}");
    let mut layers = Vec::new();
    for part in written.split(',').map(str::trim) {
        let number = |text: &str| text.trim().parse::<u16>().map(usize::from).map_err(|_| refuse());
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if last < first {
            return Err(refuse());
        }
        layers.extend(first..=last);
    }
    layers.sort_unstable();
    layers.dedup();
    Ok(Some(layers))
}

impl Method {
    /// Whether the method puts examples before the question.
    pub fn reads_examples(self) -> bool {
        matches!(self, Self::FewShot | Self::Oracle)
    }

    /// Whether the Sharer writes a text for the Receiver.
    pub fn writes_text(self) -> bool {
        matches!(self, Self::T2t | Self::T2tC2c)
    }

    /// Whether there has to be a Fuser, even if its gates are shut.
    pub fn needs_fuser(self) -> bool {
        matches!(self, Self::C2c | Self::Mismatched | Self::GatesShut | Self::T2tC2c) || self.fuses_several()
    }

    /// Whether all Sharers of `[several]` are fused.
    pub fn fuses_several(self) -> bool {
        matches!(self, Self::Several | Self::SeveralMismatched)
    }

    /// Whether Sharers read another question than the Receiver.
    pub fn mismatches(self) -> bool {
        matches!(self, Self::Mismatched | Self::SeveralMismatched)
    }

    /// Whether the method is no way to answer, but shows what another one's gain comes from.
    pub fn is_control(self) -> bool {
        self.mismatches() || self == Self::GatesShut
    }

    /// Whether there has to be a Sharer.
    pub fn needs_sharer(self) -> bool {
        self.needs_fuser() || matches!(self, Self::Sharer | Self::T2t)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn prompts_are_named_or_written() {
        assert!(t2t_template("essential").unwrap().starts_with("In one clear sentence"));
        assert_eq!(t2t_template("Think of {question}"), Some("Think of {question}"));
        assert_eq!(t2t_template("essentials"), None);
        assert!(T2T_PROMPTS.iter().all(|(_, text)| text.contains(QUESTION)));
    }

    #[test]
    fn layers_are_numbers_and_ranges() {
        assert_eq!(layer_list("all").unwrap(), None);
        assert_eq!(layer_list("7, 0-3,2").unwrap().unwrap(), [0, 1, 2, 3, 7]);
        for bad in ["", "x", "3-1", "1,,2", "-1", "0-99999", "All"] {
            assert!(layer_list(bad).unwrap_err().contains("0-3,7"), "{bad}");
        }
    }
}
