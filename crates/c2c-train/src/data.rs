//! From the data sources of a recipe to prompts with labels.

use c2c_data::pocket::{Split, world_questions};
use c2c_data::prompts::{self, multiple_choice};
use c2c_data::{
    Fingerprint, Loaded, McQuestion, answered, load_conversations, load_multiple_choice, plain_chat, training_chat,
};
use c2c_recipe::{DataKind, DataSource, PromptFormat, TrainRecipe};
use c2c_text::{Message, PairText, Prompt};
use sha2::{Digest, Sha256};

use crate::TrainError;
use crate::checkpoint::hex;

/// The examples of a run and where they came from.
#[derive(Debug)]
pub struct Examples {
    /// Those that fit, in the order of the sources.
    pub prompts: Vec<Prompt>,
    /// One a source.
    pub fingerprints: Vec<Fingerprint>,
    /// Examples read.
    pub read: usize,
    /// Left out: longer than `training.max_length`.
    pub too_long: usize,
    /// Left out: the templates or the alignment refused them; the first few reasons.
    pub refused: Vec<String>,
    /// How many were refused.
    pub refused_count: usize,
}

/// Reasons that are kept.
const KEPT_REASONS: usize = 5;

/// Reads and tokenises all sources of a recipe.
///
/// # Errors
/// A source that can't be read; no example left.
pub fn load_examples(recipe: &TrainRecipe, text: &PairText) -> Result<Examples, TrainError> {
    let mut out = Examples {
        prompts: Vec::new(),
        fingerprints: Vec::new(),
        read: 0,
        too_long: 0,
        refused: Vec::new(),
        refused_count: 0,
    };
    for source in &recipe.data.sources {
        let (chats, fingerprint) = load_source(source, recipe.seed)?;
        out.fingerprints.push(fingerprint);
        for (index, chat) in chats.iter().enumerate() {
            out.read += 1;
            match text.example(chat) {
                Ok(prompt) if prompt.len() > recipe.training.max_length => out.too_long += 1,
                Ok(prompt) => out.prompts.push(prompt),
                Err(error) => {
                    out.refused_count += 1;
                    if out.refused.len() < KEPT_REASONS {
                        out.refused.push(format!("{} row {}: {error}", source.kind, index + 1));
                    }
                }
            }
        }
    }
    if out.prompts.is_empty() {
        return Err(match out.refused.into_iter().next() {
            Some(reason) => TrainError::Stopped(format!("every example was refused; the first: {reason}")),
            None => TrainError::NoExamples {
                read: out.read,
                too_long: out.too_long,
                max_length: recipe.training.max_length,
            },
        });
    }
    Ok(out)
}

/// SHA-256 of what the models read of some examples, in their order. It follows the files, the choice of examples, the
/// tokenizers and the chat templates.
pub(crate) fn digest<'a>(prompts: impl IntoIterator<Item = &'a Prompt>) -> String {
    let mut sha = Sha256::new();
    for prompt in prompts {
        sha.update((prompt.sections.len() as u64).to_le_bytes());
        for section in &prompt.sections {
            let mut bytes = vec![u8::from(section.fuse)];
            bytes.extend((section.len() as u64).to_le_bytes());
            bytes.extend(section.receiver.iter().chain(&section.sharer).flat_map(|id| id.to_le_bytes()));
            bytes.extend(section.receiver_mask.iter().chain(&section.sharer_mask).map(|real| u8::from(*real)));
            // No id is as large as the mark of no label.
            bytes.extend(section.labels.iter().flat_map(|label| label.unwrap_or(u32::MAX).to_le_bytes()));
            sha.update(&bytes);
        }
    }
    hex(&sha.finalize())
}

fn load_source(source: &DataSource, seed: u64) -> Result<(Vec<Vec<Message>>, Fingerprint), TrainError> {
    let missing_path = || TrainError::Stopped(format!("data source of kind {} has no path", source.kind));
    match source.kind {
        DataKind::Pocket => {
            let split = if source.split.as_deref() == Some("test") { Split::Test } else { Split::Train };
            let Loaded { rows, fingerprint } = world_questions(split, source.places, source.repeats, seed);
            Ok((rows.iter().map(|q| chat_of(q, source.format)).collect(), fingerprint))
        }
        DataKind::MultipleChoice => {
            let path = source.path.as_ref().ok_or_else(missing_path)?;
            let Loaded { rows, fingerprint } = load_multiple_choice(path, source.limit)?;
            Ok((rows.iter().map(|q| chat_of(q, source.format)).collect(), fingerprint))
        }
        DataKind::Chat => {
            let path = source.path.as_ref().ok_or_else(missing_path)?;
            let Loaded { rows, fingerprint } = load_conversations(path, source.limit)?;
            Ok((rows, fingerprint))
        }
    }
}

fn chat_of(question: &McQuestion, format: PromptFormat) -> Vec<Message> {
    let text = |format| multiple_choice(format, &question.question, &question.choices);
    match format {
        PromptFormat::Plain => plain_chat(question),
        PromptFormat::Training => training_chat(question),
        PromptFormat::C2c => answered(text(prompts::PromptFormat::C2c), question.answer),
        PromptFormat::PlainCued => answered(text(prompts::PromptFormat::PlainCued), question.answer),
        PromptFormat::C2cCot => answered(text(prompts::PromptFormat::C2cCot), question.answer),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use c2c_text::{Section, SectionKind};

    use super::*;

    #[test]
    fn the_digest_follows_everything_that_the_models_read() {
        let section = || Section {
            kind: SectionKind::Template,
            receiver: vec![1, 2],
            sharer: vec![3, 4],
            receiver_mask: vec![true; 2],
            sharer_mask: vec![true; 2],
            labels: vec![None, Some(2)],
            fuse: false,
        };
        let of = |sections: &[Section]| digest([&Prompt::new(sections.to_vec()).unwrap()]);
        let plain = of(&[section()]);
        assert_eq!(plain, of(&[section()]));
        let others = [
            of(&[Section { receiver: vec![1, 5], ..section() }]),
            of(&[Section { sharer: vec![3, 5], ..section() }]),
            of(&[Section { receiver_mask: vec![false, true], ..section() }]),
            of(&[Section { sharer_mask: vec![false, true], ..section() }]),
            of(&[Section { labels: vec![None, None], ..section() }]),
            of(&[section(), section()]),
            of(&[Section { fuse: true, ..section() }, section()]),
            digest([]),
        ];
        let all: std::collections::BTreeSet<&String> = others.iter().chain([&plain]).collect();
        assert_eq!(all.len(), others.len() + 1);
    }
}
