//! Published benchmarks, in the files that their authors publish, as questions with a task each.
//!
//! A [`Question`] is more than its text: its [`Task`] says what counts as an answer, and for a free answer who scores
//! it ([`Scorer`]). Every row of a file becomes a question, is left out for a reason that the fingerprint counts, or is
//! an error: what is measured on must not shrink unnoticed.
//!
//! Order: subjects are chosen first, then every `sample_interval`-th row of each file, then the benchmark's own rules
//! leave rows out, then `limit_per_subject` and `limit` count what is left.

mod categories;
mod choices;
mod free;
mod shuffle;
mod subjects;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::ids::Ids;
use crate::read::each_row;
use crate::row::Row;
use crate::{DataError, Home, Input, Loaded, McQuestion, multiple_choice};

pub use categories::{categories, category, subject_count};

/// A benchmark whose files are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Benchmark {
    /// Multiple-choice questions in the shapes of [`crate::load_multiple_choice`].
    MultipleChoice,
    /// OpenBookQA.
    OpenBookQa,
    /// ARC, Challenge or Easy.
    Arc,
    /// MMLU.
    Mmlu,
    /// MMLU-Redux 2.0: MMLU questions with their errors marked.
    MmluRedux,
    /// C-Eval, in Chinese.
    Ceval,
    /// MMMLU: MMLU in fourteen languages.
    Mmmlu,
    /// MMLU-Pro, up to ten choices.
    MmluPro,
    /// GPQA.
    Gpqa,
    /// GSM8K.
    Gsm8k,
    /// MATH-500.
    Math500,
    /// LongBench, version 1.
    LongBench,
}

impl Benchmark {
    /// Where it is published.
    pub fn home(self) -> Home {
        let home = |hub, config, split| Home { hub, config, split, extended: None };
        match self {
            Self::MultipleChoice => home("", None, None),
            Self::OpenBookQa => home("allenai/openbookqa", Some("main"), Some("test")),
            Self::Arc => home("allenai/ai2_arc", Some("ARC-Challenge"), Some("test")),
            Self::Mmlu => home("cais/mmlu", Some("all"), Some("test")),
            Self::MmluRedux => home("edinburgh-dawg/mmlu-redux-2.0", None, Some("test")),
            // The answers of the test split are not public on every copy.
            Self::Ceval => home("ceval/ceval-exam", None, Some("val")),
            Self::Mmmlu => home("openai/MMMLU", None, Some("test")),
            Self::MmluPro => home("TIGER-Lab/MMLU-Pro", None, Some("test")),
            Self::Gpqa => home("Idavidrein/gpqa", Some("gpqa_diamond"), None),
            Self::Gsm8k => home("openai/gsm8k", Some("main"), Some("test")),
            Self::Math500 => home("HuggingFaceH4/MATH-500", None, Some("test")),
            // Its files are named by task; which rows are for the test is told by their ids.
            Self::LongBench => Home { extended: Some(false), ..home("THUDM/LongBench", None, None) },
        }
    }
}

/// A question of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Question {
    /// The identifier given by the source, else the row's place; unique within a benchmark.
    pub id: String,
    /// The question, without its choices or its context.
    pub question: String,
    /// The subject, language or task that it is part of, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What is to be answered.
    pub task: Task,
}

/// What is to be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Task {
    /// The letter of one of several choices.
    Choice {
        /// The choices in the order of their letters.
        choices: Vec<String>,
        /// The index of the right one, from 0.
        answer: usize,
    },
    /// A text that a scorer compares with the right ones.
    Free(Free),
}

/// A question with a free answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Free {
    /// The user's whole text.
    pub prompt: String,
    /// Right answers, at least one.
    pub gold: Vec<String>,
    /// All classes, where the answer is one of them.
    pub classes: Vec<String>,
    /// Who compares the reply with the right answers.
    pub scorer: Scorer,
    /// The longest reply that the benchmark asks for, in tokens.
    pub max_new_tokens: usize,
    /// Whether the text is put in the model's chat template.
    pub framing: Framing,
    /// Whether the middle of a long prompt is left out.
    pub cut: Cut,
}

/// How a text is put to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Framing {
    /// As a user's message in the chat template.
    Chat,
    /// As it is: the model goes on with examples or code.
    Bare,
    /// As a user's message that itself is in a chat template: a defect of the reference implementation (thu-nics/C2C).
    ChatTwice,
}

/// What is left out of a long prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Cut {
    /// Nothing.
    Never,
    /// The middle, so that prompt and reply fit the model's context.
    ToContext,
    /// The middle, down to so many tokens.
    To(usize),
}

/// Who scores a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scorer {
    /// The letter of a choice: right or wrong.
    #[default]
    Letter,
    /// A number, as GSM8K asks for: right or wrong.
    Number,
    /// A mathematical expression, as MATH-500 asks for: right or wrong.
    Maths,
    /// F1 of words.
    F1,
    /// F1 of the words of the reply's first line.
    F1Line,
    /// F1 of Chinese words.
    F1Zh,
    /// ROUGE-L of words.
    Rouge,
    /// ROUGE-L of the words of the reply's first line.
    RougeLine,
    /// ROUGE-L of Chinese words.
    RougeZh,
    /// The class named in the reply's first line.
    Class,
    /// The number of a paragraph.
    Paragraph,
    /// The number of a Chinese paragraph.
    ParagraphZh,
    /// A count.
    Count,
    /// Likeness of a line of code.
    Code,
}

impl Scorer {
    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Letter => "letter",
            Self::Number => "number",
            Self::Maths => "maths",
            Self::F1 => "f1",
            Self::F1Line => "f1_line",
            Self::F1Zh => "f1_zh",
            Self::Rouge => "rouge",
            Self::RougeLine => "rouge_line",
            Self::RougeZh => "rouge_zh",
            Self::Class => "class",
            Self::Paragraph => "paragraph",
            Self::ParagraphZh => "paragraph_zh",
            Self::Count => "count",
            Self::Code => "code",
        }
    }

    /// Whether an answer is right, wrong, or anything between.
    pub fn is_graded(self) -> bool {
        !matches!(self, Self::Letter | Self::Number | Self::Maths)
    }

    /// Whether it is the scorer of letters, for records that don't name it.
    pub fn is_letter(&self) -> bool {
        *self == Self::Letter
    }
}

impl From<McQuestion> for Question {
    fn from(question: McQuestion) -> Self {
        let McQuestion { id, question, choices, answer, subject } = question;
        Self { id, question, subject, task: Task::Choice { choices, answer } }
    }
}

impl Question {
    /// The choices; none of a question with a free answer.
    pub fn choices(&self) -> &[String] {
        match &self.task {
            Task::Choice { choices, .. } => choices,
            Task::Free(_) => &[],
        }
    }

    /// Right answers, the first of which is the usual one: of choices, the letter.
    pub fn gold(&self) -> Vec<String> {
        match &self.task {
            Task::Choice { answer, .. } => vec![crate::letter(*answer).to_string()],
            Task::Free(free) => free.gold.clone(),
        }
    }

    /// What tells it from other questions: the question, or where all is in the context, the whole text.
    pub fn asked(&self) -> &str {
        match &self.task {
            Task::Choice { .. } => &self.question,
            Task::Free(free) => &free.prompt,
        }
    }

    /// Who scores it.
    pub fn scorer(&self) -> Scorer {
        match &self.task {
            Task::Choice { .. } => Scorer::Letter,
            Task::Free(free) => free.scorer,
        }
    }
}

/// Which rows of a benchmark are asked.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Subjects, or the languages of MMMLU, or the tasks of LongBench; empty for all.
    pub subjects: Vec<String>,
    /// Every how many-th row of each file is taken, the first one included; 0 and 1 are all.
    pub sample_interval: usize,
    /// At most so many questions of a subject.
    pub limit_per_subject: Option<usize>,
    /// At most so many questions in all.
    pub limit: Option<usize>,
    /// Which rows of LongBench.
    pub part: crate::Part,
    /// Down to how many tokens the middle of LongBench's prompts is left out; `None` is what the model's context holds.
    pub cut_middle: Option<usize>,
    /// The longest reply to questions with free answers; `None` is the benchmark's own.
    pub max_new_tokens: Option<usize>,
    /// Read answers with the defects of the reference implementation (thu-nics/C2C): keys beyond D and keys that are
    /// numbers are left out, a number ends at its thousands separator.
    pub as_reference: bool,
}

/// What a row comes to.
enum Outcome {
    Asked(Question),
    /// Why it isn't.
    LeftOut(&'static str),
}

/// Reads a benchmark.
///
/// # Errors
///
/// A file that can't be read, the first row that isn't well formed or whose identifier another row has, subjects that no
/// row has, or nothing left.
pub fn load_benchmark(input: &Input, benchmark: Benchmark, wanted: &Wanted) -> Result<Loaded<Question>, DataError> {
    let mut rows: Vec<Question> = Vec::new();
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    let mut of_subject: BTreeMap<Option<String>, usize> = BTreeMap::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut ids = Ids::default();
    let mut of_file: BTreeMap<(std::path::PathBuf, Option<String>), usize> = BTreeMap::new();
    // Files of one subject are told by their names; where one file holds all, the rows say it.
    let mut fingerprint = each_row(input, None, &mut |row| {
        let row = row?;
        let subject = subjects::of(benchmark, &row);
        if let Some(subject) = &subject {
            *seen.entry(subject.clone()).or_default() += 1;
        }
        let mut leave = |reason: &str| *left_out.entry(reason.to_owned()).or_default() += 1;
        if !subjects::is_wanted(&wanted.subjects, subject.as_deref()) {
            leave("subjects");
            return Ok(());
        }
        let place = of_file.entry((row.path.to_path_buf(), subject.clone())).or_default();
        *place += 1;
        if wanted.sample_interval > 1 && !(*place - 1).is_multiple_of(wanted.sample_interval) {
            leave("sample_interval");
            return Ok(());
        }
        match parse(benchmark, &row, subject.clone(), wanted)? {
            Outcome::LeftOut(reason) => leave(reason),
            Outcome::Asked(mut question) => {
                if let (Task::Free(free), Some(most)) = (&mut question.task, wanted.max_new_tokens) {
                    free.max_new_tokens = most;
                }
                let count = of_subject.entry(subject).or_default();
                if wanted.limit_per_subject.is_some_and(|limit| *count >= limit) {
                    leave("limit_per_subject");
                } else if wanted.limit.is_some_and(|limit| rows.len() >= limit) {
                    leave("limit");
                } else {
                    *count += 1;
                    match row.id(id_fields(benchmark)) {
                        // Unique within a task, as each is made of another data set.
                        Some(_) if benchmark == Benchmark::LongBench => {
                            let task = question.subject.as_deref().unwrap_or_default();
                            ids.take(&row, &format!("{task}/{}", question.id))?;
                            question.id = ids.make(&row, question.id);
                        }
                        Some(_) => ids.take(&row, &question.id)?,
                        None => question.id = ids.make(&row, question.id),
                    }
                    rows.push(question);
                }
            }
        }
        Ok(())
    })?;
    if let Some(unknown) = wanted.subjects.iter().find(|wanted| !seen.keys().any(|has| subjects::matches(wanted, has)))
    {
        let found: Vec<&str> = seen.keys().map(String::as_str).collect();
        return Err(DataError::NoSubject {
            name: input.name.clone(),
            subject: unknown.clone(),
            found: if found.is_empty() { "no subjects".to_owned() } else { found.join(", ") },
        });
    }
    if rows.is_empty() {
        return Err(DataError::NoneLeft {
            name: input.name.clone(),
            read: fingerprint.rows,
            bad: 0,
            filtered: left_out.values().sum(),
            first: String::new(),
        });
    }
    fingerprint.rows = rows.len();
    fingerprint.limit = wanted.limit;
    fingerprint.filter = describe(wanted);
    fingerprint.left_out = left_out;
    Ok(Loaded { rows, fingerprint })
}

/// Where a row has its identifier, if it has one. Others are called by their places.
fn id_fields(benchmark: Benchmark) -> &'static [&'static str] {
    match benchmark {
        Benchmark::MmluPro => &["question_id", "id"],
        Benchmark::Gpqa => &["Record ID", "id"],
        Benchmark::Math500 => &["unique_id", "id"],
        Benchmark::LongBench => &["_id"],
        Benchmark::MultipleChoice
        | Benchmark::OpenBookQa
        | Benchmark::Arc
        | Benchmark::Mmlu
        | Benchmark::MmluRedux
        | Benchmark::Ceval
        | Benchmark::Mmmlu
        | Benchmark::Gsm8k => &["id"],
    }
}

fn describe(wanted: &Wanted) -> Option<String> {
    let mut parts = Vec::new();
    if !wanted.subjects.is_empty() {
        parts.push(format!("subjects = [{}]", wanted.subjects.join(", ")));
    }
    if wanted.sample_interval > 1 {
        parts.push(format!("sample_interval = {}", wanted.sample_interval));
    }
    if let Some(limit) = wanted.limit_per_subject {
        parts.push(format!("limit_per_subject = {limit}"));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn parse(benchmark: Benchmark, row: &Row<'_>, subject: Option<String>, wanted: &Wanted) -> Result<Outcome, DataError> {
    match benchmark {
        Benchmark::MultipleChoice => Ok(Outcome::Asked(multiple_choice::parse(row)?.into())),
        Benchmark::OpenBookQa | Benchmark::Arc => choices::labelled(row, wanted.as_reference),
        Benchmark::Mmlu => choices::mmlu(row, subject),
        Benchmark::MmluRedux => choices::redux(row, subject, wanted.as_reference),
        Benchmark::Ceval | Benchmark::Mmmlu => choices::columns(row, subject),
        Benchmark::MmluPro => choices::pro(row),
        Benchmark::Gpqa => choices::gpqa(row),
        Benchmark::Gsm8k => free::gsm8k(row, wanted.as_reference),
        Benchmark::Math500 => free::math500(row),
        Benchmark::LongBench => free::longbench(row, wanted),
    }
}
