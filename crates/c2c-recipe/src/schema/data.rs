//! The lines of the key table for `[data]` of a train recipe and its list of sources.

use super::DefaultValue::{Bool, Integer, Required, Text, Unset};
use super::sections::{COUNT, MANY, key, only};
use super::{Bound, KeySpec, Kind, Section};
use crate::sections::PromptFormat;

pub(super) static DATA: Section = Section {
    name: "data",
    optional: false,
    doc: "What the Fuser is trained on. `docs/data.md` shows the formats; `c2c data show RECIPE` shows the examples.",
    keys: &[
        key("data.sources", Kind::Tables(DATA_SOURCE), Required, "One table a source; their examples are joined."),
        key("data.shuffle", Kind::Bool, Bool(true), "Draw a new order of the examples for each epoch."),
        key(
            "data.length_bucket",
            Kind::IntegerIn { min: 1, max: MANY },
            Unset,
            "How many batches' examples are sorted by length together, so that a batch holds examples of like length and little padding; unset: batches as they are drawn.",
        ),
        key(
            "data.prepared",
            Kind::Path,
            Unset,
            "Folder of caches that `c2c data prepare` has computed for these models and data; they are read instead of running the frozen models over each prompt. Unset: the models are run.",
        ),
        key(
            "data.prefetch",
            Kind::IntegerIn { min: 0, max: 1024 },
            Integer(2),
            "Batches that are made ahead, on a thread of their own; 0 makes each when it is needed. Not part of the recipe's hash: it changes no result.",
        ),
    ],
};

/// What a Fuser can be trained on. The other kinds are benchmarks, which are for evaluations only.
const TRAINING: &[&str] = &[
    "pocket",
    "multiple_choice",
    "chat",
    "openhermes",
    "mmlu",
    "openbookqa",
    "mmlu_pro_cot",
    "longbench",
    "generated",
];
pub(super) const POCKET: &[&str] = &["pocket"];
pub(super) const MULTIPLE_CHOICE: &[&str] = &["multiple_choice"];
pub(super) const SPLITS: Kind = Kind::Word(&["train", "test"]);

const NAMED: &[&str] = &["openhermes", "mmlu", "openbookqa", "mmlu_pro_cot", "longbench"];
const OWN: &[&str] = &["multiple_choice", "chat", "generated"];
const FILES: &[&str] =
    &["multiple_choice", "chat", "generated", "openhermes", "mmlu", "openbookqa", "mmlu_pro_cot", "longbench"];
const SPLIT_BY_FILE: &[&str] =
    &["multiple_choice", "chat", "generated", "openhermes", "mmlu", "openbookqa", "mmlu_pro_cot"];
const LONGBENCH: &[&str] = &["longbench"];
const QUESTIONS: &[&str] = &["pocket", "multiple_choice", "mmlu", "openbookqa"];
const QUESTION_FILES: &[&str] = &["multiple_choice", "mmlu", "openbookqa"];
const PART: Kind = Kind::Number { low: Bound::Open(0.0), high: Bound::Closed(1.0) };
/// An epoch's order is a list of all examples as often as they are seen.
const WEIGHT: Kind = Kind::Number { low: Bound::Open(0.0), high: Bound::Closed(1000.0) };
/// All repeats are held in memory.
const REPEATS: Kind = Kind::IntegerIn { min: 1, max: 10_000 };

const DATA_SOURCE: &[KeySpec] = &[
    key(
        "data.sources[].kind",
        Kind::Word(TRAINING),
        Required,
        "`pocket`: questions of the generated world that is part of the project. `multiple_choice`, `chat`, `generated`: your own files. The others: a published data set.",
    ),
    only(
        POCKET,
        key(
            "data.sources[].split",
            SPLITS,
            Text("train"),
            "Places whose questions may be trained on, or those kept for the test.",
        ),
    ),
    only(POCKET, key("data.sources[].places", COUNT, Unset, "Use only this many places of the split; unset: all.")),
    only(
        POCKET,
        key(
            "data.sources[].repeats",
            REPEATS,
            Integer(1),
            "How often each question appears, each time with its choices drawn anew. The draws are examples of their own: one that is held out for the validation loss is trained on with other choices, so that the loss tells how well the questions are learnt, and nothing of new ones.",
        ),
    ),
    only(
        QUESTION_FILES,
        key(
            "data.sources[].repeats",
            REPEATS,
            Unset,
            "How often each question appears: once as it is written, then with its choices in another order each time, drawn by `seed`. A question that is held out for the validation loss is held out in all orders; unset: once.",
        ),
    ),
    only(
        OWN,
        key("data.sources[].path", Kind::Path, Required, "A file, a folder of files, or the hub id of a data set."),
    ),
    only(
        NAMED,
        key(
            "data.sources[].path",
            Kind::Path,
            Unset,
            "A file, a folder of files, or a hub id; unset: the data set's own hub id, fetched into the local cache if it isn't there.",
        ),
    ),
    only(FILES, key("data.sources[].revision", Kind::Text, Unset, "Commit or branch of a hub id; unset: `main`.")),
    only(
        FILES,
        key(
            "data.sources[].config",
            Kind::Text,
            Unset,
            "Use only the files of this configuration (a folder of the data set); unset: the one that the kind is read from, if there are several. `longbench`: `e` (LongBench-E, also if unset), `standard`, or the name of a task.",
        ),
    ),
    only(
        SPLIT_BY_FILE,
        key(
            "data.sources[].split",
            Kind::Text,
            Unset,
            "Use only the files of this split; unset: `auxiliary_train` of `mmlu`, else `train` if the folder has splits.",
        ),
    ),
    only(
        LONGBENCH,
        key(
            "data.sources[].split",
            Kind::Word(&["train", "test", "all"]),
            Text("train"),
            "Rows for training, those for the test, or all, by the hash of a row's `_id`.",
        ),
    ),
    only(FILES, key("data.sources[].limit", COUNT, Unset, "Read only this many rows, from the first on; unset: all.")),
    only(FILES, key("data.sources[].equal", Kind::Columns, Unset, "Keep rows whose columns have these values.")),
    only(
        FILES,
        key("data.sources[].contain", Kind::Columns, Unset, "Keep rows whose columns contain one of these texts."),
    ),
    only(
        FILES,
        key("data.sources[].min_turns", COUNT, Unset, "Keep chats of at least this many messages, the system's apart."),
    ),
    only(
        FILES,
        key("data.sources[].max_turns", COUNT, Unset, "Keep chats of at most this many messages, the system's apart."),
    ),
    key(
        "data.sources[].max_tokens",
        COUNT,
        Unset,
        "Keep chats of at most this many tokens in the Receiver's chat template, reply included.",
    ),
    key(
        "data.sources[].max_prompt_tokens",
        COUNT,
        Unset,
        "Keep chats whose messages before the reply have at most this many of the Receiver's tokens, template apart.",
    ),
    only(
        LONGBENCH,
        key(
            "data.sources[].cut_middle",
            Kind::Integer { min: 2 },
            Unset,
            "Prompts of more of the Receiver's tokens lose their middle, down to this many; unset: none is cut.",
        ),
    ),
    key("data.sources[].ratio", PART, Unset, "Part of the rows that is used after the filters, drawn by `seed`."),
    key("data.sources[].take", COUNT, Unset, "Use only this many examples, from the first on, after all filters."),
    key(
        "data.sources[].seed",
        Kind::Integer { min: 0 },
        Unset,
        "Seed of `ratio`, and of the questions of `pocket`; unset: the recipe's.",
    ),
    key(
        "data.sources[].weight",
        WEIGHT,
        Unset,
        "How often an example is seen in an epoch: 2 is twice, 0.5 is half of them, drawn anew for each epoch; unset: once.",
    ),
    only(
        QUESTIONS,
        key(
            "data.sources[].format",
            Kind::Word(PromptFormat::WORDS),
            Text("training"),
            "How a question is put, in the words of `evaluation.prompt`. Train with the prompt that is asked later.",
        ),
    ),
];
