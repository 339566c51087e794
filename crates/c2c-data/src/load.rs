//! From the rows of an input to conversations, with everything that was left out counted.

use c2c_text::{Message, Tokenizer};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::longbench::LongBench;
use crate::read::each_row;
use crate::row::Row;
use crate::{BadRows, DataError, Input, Loaded, McQuestion, Selection, chat, multiple_choice};

/// What the rows of a source are.
#[derive(Clone, Copy)]
pub enum Shape<'a> {
    /// Multiple-choice questions, and how each is put as a conversation.
    Questions(&'a dyn Fn(&McQuestion) -> Vec<Message>),
    /// Conversations in `messages`, `conversations` or `prompt` and `response`.
    Chat,
    /// OpenHermes-2.5: conversations without the system's messages.
    OpenHermes,
    /// A question with its chain of thought.
    ChainOfThought,
    /// What another model has answered: `input_text` and `model_response`.
    Generated,
    /// LongBench rows.
    LongBench(LongBench),
}

/// A conversation to learn from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The row's own identifier, else its place.
    pub id: String,
    /// File name and line (or row): `rows.jsonl:12`; of a source of several files with the folders that they don't share.
    pub place: String,
    /// The messages; the last one is the assistant's.
    pub chat: Vec<Message>,
}

/// Reads conversations. Rows that can't be used are counted and listed in the fingerprint; they end nothing.
///
/// `tokenizer` is the Receiver's; filters that count tokens need it and do nothing without.
///
/// # Errors
/// A file that can't be read at all, a filter on a column that no row has, or no conversation left.
pub fn load_chats(
    input: &Input,
    shape: Shape<'_>,
    selection: &Selection,
    tokenizer: Option<&Tokenizer>,
) -> Result<Loaded<Example>, DataError> {
    let mut rows = Vec::new();
    let mut bad = BadRows::default();
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut columns = Vec::new();
    let root = input.root();
    let mut fingerprint = each_row(input, selection.limit, &mut |row| {
        let outcome = row.and_then(|row| {
            let row = Row { root: root.as_deref(), ..row };
            if columns.is_empty() {
                columns = row.object.keys().cloned().collect();
            }
            one(&row, shape, selection, tokenizer, &mut seen)
        });
        match outcome {
            Ok(Outcome::Kept(example)) => rows.push(example),
            Ok(Outcome::LeftOut(by)) => *left_out.entry(by.to_owned()).or_default() += 1,
            Err(error) => bad.push(error.to_string()),
        }
        Ok(())
    })?;
    for refused in selection.filter_chats(&mut rows, tokenizer) {
        match refused {
            Ok(by) => *left_out.entry(by.to_owned()).or_default() += 1,
            Err(error) => bad.push(error.to_string()),
        }
    }
    for (filter, wanted) in [("equal", &selection.equal), ("contain", &selection.contain)] {
        if let Some(column) = wanted.keys().find(|column| !seen.contains(*column)) {
            let (name, column) = (input.name.clone(), column.clone());
            return Err(DataError::NoColumn { name, filter, column, found: columns.join(", ") });
        }
    }
    let read = fingerprint.rows;
    for (by, count) in selection.narrow(&mut rows) {
        if count > 0 {
            left_out.insert(by.to_owned(), count);
        }
    }
    if rows.is_empty() {
        return Err(DataError::NoneLeft {
            name: input.name.clone(),
            read,
            bad: bad.count,
            filtered: left_out.values().sum(),
            first: bad.listed.first().map_or_else(String::new, |first| format!("; the first bad one: {first}")),
        });
    }
    fingerprint.rows = rows.len();
    fingerprint.filter = selection.describe();
    fingerprint.left_out = left_out;
    fingerprint.bad = bad;
    Ok(Loaded { rows, fingerprint })
}

enum Outcome {
    Kept(Example),
    LeftOut(&'static str),
}

fn one(
    row: &Row<'_>,
    shape: Shape<'_>,
    selection: &Selection,
    tokenizer: Option<&Tokenizer>,
    seen: &mut BTreeSet<String>,
) -> Result<Outcome, DataError> {
    if let Some(by) = selection.refuses_row(row, seen) {
        return Ok(Outcome::LeftOut(by));
    }
    let mut id = row.id(&["id", "_id", "question_id"]);
    let chat = match shape {
        Shape::Questions(put) => {
            let question = multiple_choice::parse(row)?;
            let chat = put(&question);
            id = Some(question.id);
            chat
        }
        Shape::Chat => chat::parse(row)?,
        Shape::OpenHermes => chat::open_hermes(row)?,
        Shape::ChainOfThought => chat::chain_of_thought(row)?,
        Shape::Generated => chat::generated(row)?,
        Shape::LongBench(how) => match how.parse(row, tokenizer)? {
            Some(chat) => chat,
            None => return Ok(Outcome::LeftOut("split")),
        },
    };
    let place = row.place();
    Ok(Outcome::Kept(Example { id: id.unwrap_or_else(|| place.clone()), place, chat }))
}

/// Reads one file whose every row must be good: what is measured on must not shrink unnoticed.
pub(crate) fn strict<T>(
    path: &Path,
    limit: Option<usize>,
    mut parse: impl FnMut(&Row<'_>) -> Result<T, DataError>,
) -> Result<Loaded<T>, DataError> {
    let mut rows = Vec::new();
    let fingerprint = each_row(&Input::file(path), limit, &mut |row| {
        rows.push(parse(&row?)?);
        Ok(())
    })?;
    Ok(Loaded { rows, fingerprint })
}
