//! The lines of the key table for `[evaluation]` and its list of sources.

use super::Bound::Closed;
use super::DefaultValue::{Bool, Integer, Required, Text, Unset, Words};
use super::data::{MULTIPLE_CHOICE, POCKET, SPLITS};
use super::sections::{COUNT, key, only};
use super::{KeySpec, Kind, Section};
use crate::sections::{AnswerMode, Compat, Dtype, FusedFrom, FusionOrder, Method, PromptFormat};

pub(super) static SEVERAL: Section = Section {
    name: "several",
    optional: true,
    doc: "Sharers beside the first, which is that of `[artefact]`; read by the method `several`, which fuses all of them, and by its control `several_mismatched`. Each has the Fuser that was trained between it and the Receiver, and reads the prompt as that Fuser's alignment says.",
    keys: &[
        key(
            "several.links",
            Kind::Tables(LINK),
            Required,
            "One table a further Sharer, in the order in which they are fused behind the first.",
        ),
        key(
            "several.order",
            Kind::Word(FusionOrder::WORDS),
            Text("sequential"),
            "`sequential`: one after the other, each Fuser reads what the one before has left. `parallel`: each reads the Receiver's own cache, and what each would change is added up.",
        ),
        key(
            "several.use",
            Kind::Text,
            Text("all"),
            "Which Sharers are fused, counted from 1, which is that of `[artefact]`: `\"all\"`, or such as `\"2\"` or `\"1,3-4\"`. A Sharer that is left out isn't loaded, but for the first.",
        ),
    ],
};
const LINK: &[KeySpec] = &[
    key("several.links[].fuser", Kind::Path, Required, "The Fuser: a folder, or a hub id."),
    key(
        "several.links[].sharer",
        Kind::Path,
        Unset,
        "Its Sharer: a folder, or a hub id; unset: the one that the Fuser names, or that of `[artefact]` if the Fuser was trained with the same weights.",
    ),
    key(
        "several.links[].dtype",
        Kind::Word(Dtype::WORDS),
        Unset,
        "Number format of the Sharer's weights and cache; unset: the one that the Fuser names.",
    ),
];

pub(super) static TRAIN_EVALUATION: Section = Section {
    name: "evaluation",
    optional: true,
    doc: "What the trained Fuser is judged on when the run ends. Left out: the run ends without an evaluation.",
    keys: EVALUATION_KEYS,
};
pub(super) static EVALUATION: Section =
    Section { name: "evaluation", optional: false, doc: "What is asked, how, and who answers.", keys: EVALUATION_KEYS };

const EVALUATION_KEYS: &[KeySpec] = &[
    key(
        "evaluation.sources",
        Kind::Tables(EVALUATION_SOURCE),
        Required,
        "One table a source; their questions are joined.",
    ),
    key(
        "evaluation.limit",
        COUNT,
        Unset,
        "Ask only this many questions in all; unset: all. Figures of a limited evaluation are marked partial.",
    ),
    key(
        "evaluation.prompt",
        Kind::Word(PromptFormat::WORDS),
        Text("c2c"),
        "How a question is put: as the paper's evaluation does, the same with a chain of thought, as in training, or question and choices alone.",
    ),
    key("evaluation.max_new_tokens", COUNT, Integer(64), "Longest answer, in tokens."),
    key(
        "evaluation.methods",
        Kind::Words(Method::WORDS),
        Words(&["receiver", "sharer", "c2c", "mismatched"]),
        "Who answers. `several` is `c2c` with all Sharers of `[several]`. Three are controls: `mismatched` and `several_mismatched` are `c2c` and `several` with another question for the Sharers, `gates_shut` shuts every Gate. `t2t`, `t2t_c2c`, `few_shot` and `oracle` are baselines (docs/baselines.md).",
    ),
    key("evaluation.batch_size", COUNT, Integer(1), "Questions answered together."),
    key(
        "evaluation.batch_tokens",
        COUNT,
        Unset,
        "The most tokens of the prompts answered together, padding counted: where prompts are long, fewer than `batch_size` are. One that is longer is answered alone. Unset: `batch_size` alone decides.",
    ),
    key(
        "evaluation.seed",
        Kind::Integer { min: 0 },
        Unset,
        "Seed of the questions' choice, of the mismatched pairs and of the examples' choice; unset: the recipe's.",
    ),
    key(
        "evaluation.mode",
        Kind::Word(AnswerMode::WORDS),
        Unset,
        "`generate`, also if unset: the model writes a reply, in which the answer is looked for. `logits`: the choice whose letter is the likeliest next token behind `response_text`.",
    ),
    key(
        "evaluation.response_text",
        Kind::Text,
        Unset,
        "With `logits`, the start of the reply; unset: `The correct answer is`.",
    ),
    key(
        "evaluation.chat_template",
        Kind::Bool,
        Unset,
        "Whether prompts are put in the models' chat templates; unset: true, but for the tasks of LongBench that go on with examples or code.",
    ),
    key(
        "evaluation.compat",
        Kind::Word(Compat::WORDS),
        Unset,
        "`fixed`, also if unset; or `reference`: questions, prompts and answers are read as the reference implementation reads them, defects included, to compare with its figures.",
    ),
    key(
        "evaluation.fused_share",
        Kind::Number { low: Closed(0.0), high: Closed(1.0) },
        Unset,
        "For the methods that fuse, controls among them: how much of a prompt is fused, `floor(n * fused_share)` of the `n` tokens that would be; unset: all of them (docs/evaluation.md).",
    ),
    key(
        "evaluation.fused_from",
        Kind::Word(FusedFrom::WORDS),
        Unset,
        "With `fused_share`: the prompt's first tokens (`front`, also if unset) or its last (`back`).",
    ),
    key(
        "evaluation.t2t_prompt",
        Kind::Text,
        Text("background"),
        "For `t2t` and `t2t_c2c`: what the Sharer is asked to write. `background` or `essential`, the two of the reference implementation, or a text with `{question}` in it, and `{choices}` if wanted.",
    ),
    key(
        "evaluation.t2t_max_new_tokens",
        COUNT,
        Integer(256),
        "For `t2t` and `t2t_c2c`: longest text of the Sharer, in tokens.",
    ),
    key(
        "evaluation.few_shot_examples",
        COUNT,
        Integer(5),
        "For `few_shot` and `oracle`: examples before the question.",
    ),
    key(
        "evaluation.few_shot_sources",
        Kind::Tables(EVALUATION_SOURCE),
        Unset,
        "For `few_shot` and `oracle`: where the examples are drawn from, by the seed and once for all questions; the same keys as `sources`. A question that is asked is never an example.",
    ),
    key(
        "evaluation.few_shot_reuse",
        Kind::Bool,
        Bool(true),
        "For `few_shot` and `oracle`: compute the cache of what all prompts begin with once and use it for every question.",
    ),
    key(
        "evaluation.oracle_layers",
        Kind::Text,
        Text("all"),
        "For `oracle`: layers of the Receiver whose cache is enriched, from 0, such as `\"3\"` or `\"0-3,7\"`; the others have that of the question alone.",
    ),
];

/// What can be asked: what has no file, a file of one's own, then the published benchmarks, `longbench` last.
const KINDS: &[&str] = &[
    "pocket",
    "multiple_choice",
    "openbookqa",
    "arc",
    "mmlu",
    "mmlu_redux",
    "ceval",
    "mmmlu",
    "mmlu_pro",
    "gpqa",
    "gsm8k",
    "math500",
    "longbench",
];
const FILES: &[&str] = KINDS.split_at(1).1;
/// Benchmarks with files of their own.
const BENCHMARKS: &[&str] = FILES.split_at(1).1;
const SPLIT_BY_FILE: &[&str] = BENCHMARKS.split_at(BENCHMARKS.len() - 1).0;
const LONGBENCH: &[&str] = BENCHMARKS.split_at(BENCHMARKS.len() - 1).1;
const WITH_SUBJECTS: &[&str] = &["mmlu", "mmlu_redux", "ceval", "mmmlu", "mmlu_pro", "gpqa", "math500", "longbench"];
const FREE: &[&str] = &["gsm8k", "math500", "longbench"];

const EVALUATION_SOURCE: &[KeySpec] = &[
    key(
        "evaluation.sources[].kind",
        Kind::Word(KINDS),
        Required,
        "`pocket`: questions of the generated world. `multiple_choice`: a file of your own questions. The others: a published benchmark.",
    ),
    only(
        POCKET,
        key(
            "evaluation.sources[].split",
            SPLITS,
            Text("test"),
            "Places whose questions were trained on, or those that were kept.",
        ),
    ),
    only(
        POCKET,
        key("evaluation.sources[].places", COUNT, Unset, "Use only this many places of the split; unset: all."),
    ),
    only(MULTIPLE_CHOICE, key("evaluation.sources[].path", Kind::Path, Required, "The file.")),
    only(
        BENCHMARKS,
        key(
            "evaluation.sources[].path",
            Kind::Path,
            Unset,
            "A file, a folder of files, or a hub id; unset: the benchmark's own hub id.",
        ),
    ),
    only(
        BENCHMARKS,
        key("evaluation.sources[].revision", Kind::Text, Unset, "Commit or branch of a hub id; unset: `main`."),
    ),
    only(
        BENCHMARKS,
        key(
            "evaluation.sources[].config",
            Kind::Text,
            Unset,
            "Use only the files of this configuration (a folder of the benchmark); unset: the usual one, such as `ARC-Challenge` of `arc`. `longbench`: `standard` (also if unset), `e` (LongBench-E), or the name of a task.",
        ),
    ),
    only(
        SPLIT_BY_FILE,
        key(
            "evaluation.sources[].split",
            Kind::Text,
            Unset,
            "Use only the files of this split; unset: `val` of `ceval`, else `test` if the folder has splits.",
        ),
    ),
    only(
        LONGBENCH,
        key(
            "evaluation.sources[].split",
            Kind::Word(&["train", "test", "all"]),
            Text("test"),
            "Rows for the test, those for training, or all, by the hash of a row's `_id`.",
        ),
    ),
    only(
        FILES,
        key("evaluation.sources[].limit", COUNT, Unset, "Use only this many questions, from the first on; unset: all."),
    ),
    only(
        WITH_SUBJECTS,
        key(
            "evaluation.sources[].subjects",
            Kind::Texts,
            Unset,
            "Ask only these subjects; of `mmmlu` languages (`ZH_CN`) or subjects, of `longbench` tasks; unset: all.",
        ),
    ),
    only(
        WITH_SUBJECTS,
        key(
            "evaluation.sources[].limit_per_subject",
            COUNT,
            Unset,
            "Use only this many questions of each subject, from the first on; unset: all.",
        ),
    ),
    only(
        BENCHMARKS,
        key(
            "evaluation.sources[].sample_interval",
            COUNT,
            Unset,
            "Ask every so many-th row of each subject, the first one included; unset: every row.",
        ),
    ),
    only(
        FREE,
        key(
            "evaluation.sources[].max_new_tokens",
            COUNT,
            Unset,
            "Longest answer, in tokens; unset: 1024 of `gsm8k` and `math500`, of `longbench` as its authors have it for each task.",
        ),
    ),
    only(
        LONGBENCH,
        key(
            "evaluation.sources[].cut_middle",
            Kind::Integer { min: 2 },
            Unset,
            "Prompts of more tokens of the model that answers lose their middle, down to this many; unset: to what its context holds.",
        ),
    ),
];
