//! From the data sources of a recipe to prompts with labels.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use c2c_data::pocket::{Split, world_questions};
use c2c_data::prompts::{self, multiple_choice};
use c2c_data::{
    Example, Fingerprint, Home, Input, Loaded, LongBench, McQuestion, Part, Place, Said, Selection, Shape, answered,
    load_chats, plain_chat, training_chat,
};
use c2c_recipe::{DataKind, DataSource, PromptFormat, TrainRecipe};
use c2c_text::{Message, PairText, Prompt, Tokenizer};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use sha2::{Digest, Sha256};

use crate::TrainError;
use crate::checkpoint::hex;

/// The examples of a run and where they came from.
#[derive(Debug)]
pub struct Examples {
    /// Those that fit, in the order of the sources.
    pub examples: Vec<TrainExample>,
    /// One a source.
    pub fingerprints: Vec<Fingerprint>,
    /// Examples read.
    pub read: usize,
    /// Left out: longer than `training.max_length`.
    pub too_long: usize,
    /// The first few of them.
    pub too_long_listed: Vec<String>,
    /// Left out: the templates or the alignment refused them; the first few reasons.
    pub refused: Vec<String>,
    /// How many were refused.
    pub refused_count: usize,
}

/// One example, ready to be collated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainExample {
    /// What both models read, and the labels. Most of an example, and shared by all that hold it.
    pub prompt: Arc<Prompt>,
    /// Which source it is from, from 0.
    pub source: usize,
    /// The row's identifier.
    pub id: String,
    /// File and line, or the like.
    pub place: String,
    /// How many other orders of its choices came before: 0 is the question as it is written.
    pub repeat: usize,
}

/// Reasons that are kept.
const KEPT_REASONS: usize = 20;

/// Reads and tokenises all sources of a recipe.
///
/// # Errors
/// A source that can't be read; no example left.
pub fn load_examples(recipe: &TrainRecipe, text: &PairText) -> Result<Examples, TrainError> {
    let mut out = Examples {
        examples: Vec::new(),
        fingerprints: Vec::new(),
        read: 0,
        too_long: 0,
        too_long_listed: Vec::new(),
        refused: Vec::new(),
        refused_count: 0,
    };
    let most = recipe.training.max_length;
    for (index, source) in recipe.data.sources.iter().enumerate() {
        let (rows, fingerprint) = load_source(source, recipe.seed, text.receiver())?;
        out.fingerprints.push(fingerprint);
        // Tokenising is most of the work; the order stays that of the rows.
        let prompts: Vec<_> = rows.par_iter().map(|(_, row)| text.example(&row.chat)).collect();
        for ((repeat, Example { id, place, .. }), prompt) in rows.into_iter().zip(prompts) {
            out.read += 1;
            match prompt {
                Ok(prompt) if prompt.len() > most => {
                    out.too_long += 1;
                    if out.too_long_listed.len() < KEPT_REASONS {
                        out.too_long_listed.push(format!("{place}: {} tokens, at most {most}", prompt.len()));
                    }
                }
                Ok(prompt) => {
                    out.examples.push(TrainExample { prompt: Arc::new(prompt), source: index, id, place, repeat });
                }
                Err(error) => {
                    out.refused_count += 1;
                    if out.refused.len() < KEPT_REASONS {
                        out.refused.push(format!("{place}: {error}"));
                    }
                }
            }
        }
    }
    if out.examples.is_empty() {
        return Err(match out.refused.into_iter().next() {
            Some(reason) => TrainError::Stopped(format!("every example was refused; the first: {reason}")),
            None => TrainError::NoExamples { read: out.read, too_long: out.too_long, max_length: most },
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

/// A seeded share is held out: what is left, and what is held out. A question of a file is held out as it is written, and left out
/// in its other orders. The draws of a `pocket` question count as questions of their own: what its validation loss says is in
/// docs/pocket.md.
pub fn split(examples: Vec<TrainExample>, fraction: f64, seed: u64) -> (Vec<TrainExample>, Vec<TrainExample>) {
    let (mut written, others): (Vec<_>, Vec<_>) = examples.into_iter().partition(|example| example.repeat == 0);
    let held_out = (fraction * written.len() as f64) as usize;
    if held_out == 0 {
        written.extend(others);
        return (written, Vec::new());
    }
    written.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ 0x5a11_da7e));
    let mut training = written.split_off(held_out);
    let held: HashSet<_> = written.iter().map(|example| (example.source, &example.place)).collect();
    training.extend(others.into_iter().filter(|example| !held.contains(&(example.source, &example.place))));
    (training, written)
}

/// The examples of a source, each with the number of its repeat, and what was read.
fn load_source(
    source: &DataSource,
    seed: u64,
    tokenizer: &Tokenizer,
) -> Result<(Vec<(usize, Example)>, Fingerprint), TrainError> {
    let repeats = if source.kind == DataKind::Pocket { 1 } else { source.repeats.unwrap_or(1) };
    let Loaded { rows, fingerprint } = load_once(source, 0, seed, tokenizer)?;
    let mut all: Vec<_> = rows.into_iter().map(|row| (0, row)).collect();
    for repeat in 1..repeats {
        let again = load_once(source, repeat, seed, tokenizer)?.rows;
        all.extend(again.into_iter().map(|row| (repeat, Example { id: format!("{}#{}", row.id, repeat + 1), ..row })));
    }
    Ok((all, fingerprint))
}

/// A question with its choices in an order that is drawn by the seed, the question and the repeat; as it is for repeat 0.
fn in_order(question: &McQuestion, repeat: usize, seed: u64) -> McQuestion {
    if repeat == 0 {
        return question.clone();
    }
    let digest = Sha256::digest(format!("{seed} {repeat} {} {}", question.id, question.question));
    let mut key = [0; 32];
    key.copy_from_slice(&digest);
    let mut order: Vec<usize> = (0..question.choices.len()).collect();
    order.shuffle(&mut ChaCha8Rng::from_seed(key));
    McQuestion {
        choices: order.iter().map(|index| question.choices[*index].clone()).collect(),
        // Every index is in the order once.
        answer: order.iter().position(|index| *index == question.answer).unwrap_or(question.answer),
        ..question.clone()
    }
}

fn load_once(
    source: &DataSource,
    repeat: usize,
    seed: u64,
    tokenizer: &Tokenizer,
) -> Result<Loaded<Example>, TrainError> {
    let selection = selection(source, seed);
    let put = |question: &McQuestion| chat_of(&in_order(question, repeat, selection.seed), source.format);
    let shape = match source.kind {
        DataKind::Pocket => return Ok(pocket(source, &selection, tokenizer)?),
        DataKind::MultipleChoice | DataKind::Mmlu | DataKind::OpenBookQa => Shape::Questions(&put),
        DataKind::Chat => Shape::Chat,
        DataKind::OpenHermes => Shape::OpenHermes,
        DataKind::MmluProCot => Shape::ChainOfThought,
        DataKind::Generated => Shape::Generated,
        // The key table refuses them as training data.
        DataKind::Arc
        | DataKind::MmluRedux
        | DataKind::Ceval
        | DataKind::Mmmlu
        | DataKind::MmluPro
        | DataKind::Gpqa
        | DataKind::Gsm8k
        | DataKind::Math500 => {
            return Err(TrainError::Stopped(format!(
                "`{}` is a benchmark, to be asked, not to be trained on",
                source.kind
            )));
        }
        DataKind::LongBench => {
            // The key table lets no other word through.
            let part = match source.split.as_deref() {
                Some("test") => Part::Test,
                Some("all") => Part::All,
                _ => Part::Train,
            };
            Shape::LongBench(LongBench { part, cut_middle: source.options.cut_middle })
        }
    };
    let input = Input::locate(&place(source))?;
    Ok(load_chats(&input, shape, &selection, Some(tokenizer))?)
}

/// Where the training data of a kind is published.
fn home(kind: DataKind) -> Home {
    let home = |hub, config, split| Home { hub, config, split: Some(split), extended: None };
    match kind {
        DataKind::OpenHermes => home("teknium/OpenHermes-2.5", None, "train"),
        DataKind::Mmlu => home("cais/mmlu", Some("all"), "auxiliary_train"),
        DataKind::OpenBookQa => home("allenai/openbookqa", Some("main"), "train"),
        DataKind::MmluProCot => home("Brench/MMLU-Pro-CoT-Train-43K", None, "train"),
        // Its files are named by task; `split` is by the hash of a row's id.
        DataKind::LongBench => Home { hub: "THUDM/LongBench", config: None, split: None, extended: Some(true) },
        _ => home("", None, "train"),
    }
}

/// Where the data of a source is; of published data sets also what they are called on the hub.
pub fn place(source: &DataSource) -> Place<'_> {
    home(source.kind).place(&Said {
        written: source.path_as_written.as_deref(),
        path: source.path.as_deref(),
        revision: source.options.revision.as_deref(),
        config: source.options.config.as_deref(),
        split: source.split.as_deref(),
    })
}

fn selection(source: &DataSource, seed: u64) -> Selection {
    let o = &source.options;
    let values = |columns: &Option<BTreeMap<String, toml::Value>>| -> BTreeMap<String, Vec<String>> {
        columns.iter().flatten().map(|(column, value)| (column.clone(), texts(value))).collect()
    };
    Selection {
        limit: source.limit,
        equal: values(&o.equal),
        contain: values(&o.contain),
        min_turns: o.min_turns,
        max_turns: o.max_turns,
        max_tokens: o.max_tokens,
        max_prompt_tokens: o.max_prompt_tokens,
        ratio: o.ratio,
        take: o.take,
        seed: o.seed.unwrap_or(seed),
    }
}

/// A value, or each value of a list, as the text that a column is compared with.
fn texts(value: &toml::Value) -> Vec<String> {
    match value {
        toml::Value::Array(values) => values.iter().flat_map(texts).collect(),
        toml::Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    }
}

/// Questions of the generated world, with the same filters as any source.
fn pocket(
    source: &DataSource,
    selection: &Selection,
    tokenizer: &Tokenizer,
) -> Result<Loaded<Example>, c2c_data::DataError> {
    let split = if source.split.as_deref() == Some("test") { Split::Test } else { Split::Train };
    let Loaded { rows, fingerprint } =
        world_questions(split, source.places, source.repeats.unwrap_or(1), selection.seed);
    let example = |question: &McQuestion| Example {
        id: question.id.clone(),
        place: format!("pocket:{}", question.id),
        chat: chat_of(question, source.format),
    };
    selection.apply(Loaded { rows: rows.iter().map(example).collect(), fingerprint }, tokenizer)
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

    fn section() -> Section {
        Section {
            kind: SectionKind::Template,
            receiver: vec![1, 2],
            sharer: vec![3, 4],
            receiver_mask: vec![true; 2],
            sharer_mask: vec![true; 2],
            labels: vec![None, Some(2)],
            fuse: false,
        }
    }

    fn question() -> McQuestion {
        let choices = ["ice", "sand", "iron", "wood"].map(String::from).to_vec();
        McQuestion { id: "q".into(), question: "What melts?".into(), choices, answer: 0, subject: None }
    }

    #[test]
    fn repeats_are_other_orders_whose_answer_is_the_same_choice() {
        assert_eq!(in_order(&question(), 0, 42), question());
        let orders: Vec<McQuestion> = (1..20).map(|repeat| in_order(&question(), repeat, 42)).collect();
        for other in &orders {
            assert_eq!(other.choices[other.answer], "ice");
            let sorted: std::collections::BTreeSet<_> = other.choices.iter().collect();
            assert_eq!(sorted.len(), 4);
        }
        let answers: std::collections::BTreeSet<usize> = orders.iter().map(|q| q.answer).collect();
        assert_eq!(answers.len(), 4, "every letter is right now and then");
        assert_eq!(orders[3], in_order(&question(), 4, 42));
        assert!((1..20).any(|repeat| in_order(&question(), repeat, 43) != orders[repeat - 1]));
    }

    #[test]
    fn a_held_out_question_is_held_out_in_all_orders() {
        let example = |row: usize, repeat: usize| TrainExample {
            prompt: Arc::new(Prompt::new(vec![section()]).unwrap()),
            source: 0,
            id: format!("{row}#{repeat}"),
            place: format!("file:{row}"),
            repeat,
        };
        let examples: Vec<_> = (0..3).flat_map(|repeat| (0..20).map(move |row| (row, repeat))).collect();
        let examples: Vec<_> = examples.into_iter().map(|(row, repeat)| example(row, repeat)).collect();
        let (training, held) = split(examples, 0.1, 42);
        assert_eq!((training.len(), held.len()), (54, 2));
        assert!(held.iter().all(|example| example.repeat == 0));
        assert!(training.iter().all(|example| held.iter().all(|other| other.place != example.place)));
    }

    #[test]
    fn the_digest_follows_everything_that_the_models_read() {
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
