//! The lines of the key table, but for those of `[data]` and `[evaluation]`.

use super::all_in_one::ALL_IN_ONE;
use super::data::DATA;
use super::evaluation::{EVALUATION, SEVERAL, TRAIN_EVALUATION};
use super::{Bound, DefaultValue, KeySpec, Kind, Section};
use crate::sections::{
    AlignmentMode, AlignmentStrategy, CorpusRole, Dtype, FuserLevel, FuserNetwork, GateNoise, LayerMapping, LoraTarget,
    ModelFamily, ModelPart, RecipeKind, ScheduleKind, SectionCut, TrainMethod, Trainable,
};
use Bound::{Closed, Open};
use DefaultValue::{Bool, Integer, Number, Required, Text, Unset, Words};

pub(super) static TRAIN: &[&Section] = &[
    &TRAIN_TOP,
    &RECEIVER,
    &TRAIN_SHARER,
    &ALIGNMENT,
    &FUSER,
    &ALL_IN_ONE,
    &SINGLE,
    &OPTIMIZER,
    &SCHEDULE,
    &TRAINING,
    &DATA,
    &TRAIN_EVALUATION,
    &CHECKPOINT,
    &OUTPUT,
];
pub(super) static EVAL: &[&Section] = &[&TOP, &ARTEFACT, &EVAL_RECEIVER, &EVAL_SHARER, &SEVERAL, &EVALUATION, &OUTPUT];
pub(super) static PRETRAIN: &[&Section] = &[&TOP, &MODEL, &CORPUS, &OPTIMIZER, &SCHEDULE, &PRETRAINING, &OUTPUT];

pub(super) const COUNT: Kind = Kind::Integer { min: 1 };
/// More than any run has, and few enough that two such numbers can be multiplied.
pub(super) const MANY: i64 = 1_000_000;
const MANY_COUNT: Kind = Kind::IntegerIn { min: 1, max: MANY };
pub(super) const ANY: Kind = Kind::Number { low: Bound::None, high: Bound::None };
pub(super) const POSITIVE: Kind = Kind::Number { low: Open(0.0), high: Bound::None };
const NOT_NEGATIVE: Kind = Kind::Number { low: Closed(0.0), high: Bound::None };
/// From 0 to below 1.
const FRACTION: Kind = Kind::Number { low: Closed(0.0), high: Open(1.0) };

pub(super) const fn key(path: &'static str, kind: Kind, default: DefaultValue, doc: &'static str) -> KeySpec {
    KeySpec { path, kind, default, doc, only: &[] }
}

pub(super) const fn only(only: &'static [&'static str], key: KeySpec) -> KeySpec {
    KeySpec { only, ..key }
}

static TOP: Section = Section {
    name: "",
    optional: false,
    doc: "Keys at the top of the file, before any section.",
    keys: &[KIND, NAME, DESCRIPTION, SEED, BASE_DIR],
};
static TRAIN_TOP: Section = Section {
    name: "",
    optional: false,
    doc: "Keys at the top of the file, before any section.",
    keys: &[
        KIND,
        NAME,
        DESCRIPTION,
        SEED,
        BASE_DIR,
        key(
            "method",
            Kind::Word(TrainMethod::WORDS),
            Unset,
            "What is trained. `fuser`, which is also what unset means: a Fuser between two frozen models. `single`: the Receiver alone, a baseline; `[sharer]`, `[alignment]` and `[fuser]` are not read then. `transformation`: an oracle; a projection is to make the Receiver's cache of a prompt out of the Sharer's, by least squares.",
        ),
    ],
};
const KIND: KeySpec = key("kind", Kind::Word(RecipeKind::WORDS), Required, "What the recipe is for.");
const NAME: KeySpec = key(
    "name",
    Kind::Text,
    Required,
    "Short name; the run directory begins with it. Letters, digits and `.`, `_`, `-`, `+`.",
);
const DESCRIPTION: KeySpec = key("description", Kind::Text, Text(""), "One line for the list of recipes.");
const SEED: KeySpec = key(
    "seed",
    Kind::Integer { min: 0 },
    Integer(42),
    "Seed of everything that is drawn: initial weights, order of the data, dropout, gate noise.",
);
const BASE_DIR: KeySpec = key(
    "base_dir",
    Kind::Path,
    Unset,
    "Folder that relative paths of the recipe start from; unset: the recipe's own. A resolved recipe has it, so that a copy in a run directory still finds its files. Not part of the recipe's hash.",
);

static RECEIVER: Section = Section {
    name: "receiver",
    optional: false,
    doc: "The model that answers. Its weights are never changed, but by the method `single`.",
    keys: RECEIVER_KEYS,
};
static EVAL_RECEIVER: Section = Section {
    name: "receiver",
    optional: true,
    doc: "The model that answers. Left out: the one that the artefact names; without an artefact it must be written.",
    keys: RECEIVER_KEYS,
};
const RECEIVER_KEYS: &[KeySpec] = &[
    key("receiver.model", Kind::Path, Required, "Folder in Hugging Face's layout, or hub id."),
    key("receiver.dtype", Kind::Word(Dtype::WORDS), Text("f32"), "Number format of its weights and its cache."),
];

static TRAIN_SHARER: Section = Section {
    name: "sharer",
    optional: true,
    doc: "The model whose cache is shared. Its weights are never changed. Only the method `single` does without.",
    keys: SHARER_KEYS,
};
static EVAL_SHARER: Section = Section {
    name: "sharer",
    optional: true,
    doc: "The model whose cache is shared. Left out: the one that the artefact names; without an artefact it must be written if a method needs it.",
    keys: SHARER_KEYS,
};
const SHARER_KEYS: &[KeySpec] = &[
    key("sharer.model", Kind::Path, Required, "Folder in Hugging Face's layout, or hub id."),
    key("sharer.dtype", Kind::Word(Dtype::WORDS), Text("f32"), "Number format of its weights and its cache."),
];

static ALIGNMENT: Section = Section {
    name: "alignment",
    optional: false,
    doc: "Token alignment: how the Receiver's prompt is put into the Sharer's tokens.",
    keys: &[
        key(
            "alignment.mode",
            Kind::Word(AlignmentMode::WORDS),
            Text("aligned"),
            "`aligned`: the Sharer reads its own tokens, one for each of the Receiver's. `shared`: it reads the Receiver's ids unchanged, for models of one vocabulary.",
        ),
        key(
            "alignment.strategy",
            Kind::Word(AlignmentStrategy::WORDS),
            Text("longest"),
            "Which of several Sharer tokens stands for one Receiver token: the one that covers most characters, or the first. `spans`: none is chosen; the Sharer reads all of its own tokens, and tokens of the same characters share positions.",
        ),
        key(
            "alignment.sections",
            Kind::Word(SectionCut::WORDS),
            Text("message"),
            "What is fused at once: a whole `message`, or one `paragraph` of it after the other, so that the Receiver reads later paragraphs on the fused cache of earlier ones.",
        ),
    ],
};

static FUSER: Section = Section {
    name: "fuser",
    optional: false,
    doc: "Layer alignment, the Fuser's sizes, and its Gate.",
    keys: &[
        key(
            "fuser.layer_mapping",
            Kind::Word(LayerMapping::WORDS),
            Text("last_aligned"),
            "Sharer layer of each Receiver layer: counted from the last backwards, or nearest in relative depth.",
        ),
        key(
            "fuser.network",
            Kind::Word(FuserNetwork::WORDS),
            Unset,
            "Which network the Fuser is. `paper`, which is also what unset means: the paper's. `all_in_one`: the reference implementation's older one, its class `AllInOneProjector`, with the choices of `[all_in_one]`; of `[fuser]` it has no `level` and no `zero_init`.",
        ),
        key(
            "fuser.level",
            Kind::Word(FuserLevel::WORDS),
            Unset,
            "How much of the Fuser there is, for the paper's ablation. `project`: the projection alone replaces the Receiver's cache. `fuse`: the Receiver's cache takes part, and the projection is weighted and added to it. `gate`, which is also what unset means: with the Gate, the whole Fuser. The method `transformation` always trains `project`.",
        ),
        key(
            "fuser.hidden_dim",
            COUNT,
            Integer(1024),
            "Width of the Fuser's residual stream. In an all-in-one network that of its projections, and of the small network that makes gates.",
        ),
        key(
            "fuser.intermediate_dim",
            COUNT,
            Integer(1024),
            "Inner width of its feed-forward blocks. In an all-in-one network that of the small network that makes weights.",
        ),
        key(
            "fuser.num_layers",
            COUNT,
            Integer(3),
            "Depth, 3 or more; all but two of the layers are projection blocks. In an all-in-one network 1 or more, the linear maps of a projection.",
        ),
        key(
            "fuser.dropout",
            FRACTION,
            Number(0.1),
            "Dropout inside the feed-forward blocks, in training. In an all-in-one network behind each linear map of a projection but the last; its small networks always have 0.1.",
        ),
        key("fuser.initial_temperature", POSITIVE, Number(1.0), "Temperature of the Gate at the first step."),
        key(
            "fuser.final_temperature",
            POSITIVE,
            Number(0.001),
            "Temperature of the Gate once annealed; at most the initial one.",
        ),
        key(
            "fuser.anneal_steps",
            COUNT,
            Unset,
            "Optimiser steps over which the temperature falls, geometrically; unset: the whole run.",
        ),
        key(
            "fuser.gate_noise",
            Kind::Word(GateNoise::WORDS),
            Text("gumbel"),
            "Noise on the Gate in training. `gumbel`: one variate, as the reference implementation draws it. `logistic`: the difference of two, which opens a gate of logit 0 in half of all draws.",
        ),
        key(
            "fuser.initial_gate_logit",
            ANY,
            Number(0.0),
            "Logit of every Gate at the first step. A Gate is open at inference if its logit is above 0.",
        ),
        key(
            "fuser.zero_init",
            Kind::Bool,
            Bool(false),
            "Start the output projections at zero, so that an open Gate adds nothing at first.",
        ),
    ],
};

static SINGLE: Section = Section {
    name: "single",
    optional: true,
    doc: "What of the Receiver the method `single` trains. Trained weights are held in f32; `receiver.dtype` is that of the arithmetic.",
    keys: &[
        key(
            "single.trainable",
            Kind::Word(Trainable::WORDS),
            Text("full"),
            "`full`: all weights. `lora`: low-rank adapters. `partial`: some parts of some layers. Left out, the section means `full`.",
        ),
        key("single.lora_rank", COUNT, Integer(16), "Inner width of an adapter."),
        key("single.lora_alpha", POSITIVE, Number(32.0), "An adapter's product is scaled by `lora_alpha / lora_rank`."),
        key("single.lora_dropout", FRACTION, Number(0.1), "Dropout on an adapter's input, in training."),
        key(
            "single.lora_targets",
            Kind::Words(LoraTarget::WORDS),
            Words(LoraTarget::WORDS),
            "Matrices that get an adapter, in every layer.",
        ),
        key("single.first_layer", Kind::Integer { min: 0 }, Integer(0), "First layer that `partial` trains, from 0."),
        key(
            "single.last_layer",
            Kind::Integer { min: 0 },
            Unset,
            "Last layer that `partial` trains; unset: the Receiver's last.",
        ),
        key(
            "single.last_share",
            Kind::Number { low: Open(0.0), high: Closed(1.0) },
            Unset,
            "Share of the layers, the last ones, that `partial` trains, rounded down to whole layers; set, it decides instead of the two.",
        ),
        key(
            "single.parts",
            Kind::Words(ModelPart::WORDS),
            Words(&["qkv", "o_proj", "gate_up", "down_proj", "norms", "final_norm", "head"]),
            "What `partial` trains: parts of the chosen layers, and of what stands outside of layers `embedding`, `final_norm` and `head`. A tied head is the embedding.",
        ),
    ],
};

static OPTIMIZER: Section = Section {
    name: "optimizer",
    optional: false,
    doc: "AdamW, with the gradient clipped by its global norm.",
    keys: &[
        key("optimizer.learning_rate", POSITIVE, Number(1e-4), "Peak learning rate."),
        key("optimizer.weight_decay", NOT_NEGATIVE, Number(0.01), "Decoupled weight decay, on every parameter."),
        key("optimizer.beta1", FRACTION, Number(0.9), "Decay of the first moment."),
        key("optimizer.beta2", FRACTION, Number(0.999), "Decay of the second moment."),
        key("optimizer.epsilon", POSITIVE, Number(1e-8), "Added to the root of the second moment."),
        key(
            "optimizer.max_grad_norm",
            POSITIVE,
            Number(1.0),
            "Largest norm of the gradient over all parameters together.",
        ),
    ],
};

static SCHEDULE: Section = Section {
    name: "schedule",
    optional: false,
    doc: "The learning rate over the run: up from 0 in the warm-up, then by kind.",
    keys: &[
        key(
            "schedule.kind",
            Kind::Word(ScheduleKind::WORDS),
            Text("linear"),
            "After the warm-up: down to 0 in a straight line, level, or down to 0 along half a cosine.",
        ),
        key("schedule.warmup_ratio", FRACTION, Number(0.1), "Part of all optimiser steps that is warm-up."),
    ],
};

static TRAINING: Section = Section {
    name: "training",
    optional: false,
    doc: "Batches and length of a training run.",
    keys: &[
        key("training.batch_size", MANY_COUNT, Integer(4), "Examples in one forward pass."),
        key(
            "training.gradient_accumulation",
            MANY_COUNT,
            Integer(8),
            "Forward passes in one optimiser step; their gradients are averaged.",
        ),
        key("training.epochs", MANY_COUNT, Integer(1), "Passes over the data."),
        key(
            "training.max_steps",
            COUNT,
            Unset,
            "Optimiser steps; set, it decides the run's length instead of `epochs`.",
        ),
        key(
            "training.max_length",
            Kind::Integer { min: 8 },
            Integer(2048),
            "Tokens of an example, prompt and reply; longer examples are left out and counted.",
        ),
        key(
            "training.evaluate_every",
            COUNT,
            Unset,
            "Optimiser steps between two measurements of the validation loss; unset: at the end of each epoch.",
        ),
        key(
            "training.validation_fraction",
            Kind::Number { low: Closed(0.0), high: Closed(0.5) },
            Number(0.01),
            "Part of the data that is kept from training for the validation loss.",
        ),
    ],
};

static PRETRAINING: Section = Section {
    name: "training",
    optional: false,
    doc: "Length of a pretraining run.",
    keys: &[
        key("training.steps", COUNT, Integer(2000), "Optimiser steps."),
        key("training.evaluate_every", COUNT, Integer(200), "Optimiser steps between two evaluations."),
    ],
};

static ARTEFACT: Section = Section {
    name: "artefact",
    optional: true,
    doc: "The trained Fuser. May be left out where no method needs it: `receiver`, `sharer`, `t2t`, `few_shot` and `oracle` don't.",
    keys: &[key(
        "artefact.path",
        Kind::Path,
        Required,
        "Folder that holds `fuser_config.json` and `fuser.safetensors`.",
    )],
};

static CHECKPOINT: Section = Section {
    name: "checkpoint",
    optional: false,
    doc: "What `c2c train --resume` goes on from. Not part of the recipe's hash: it changes no result.",
    keys: &[
        key(
            "checkpoint.every",
            COUNT,
            Integer(100),
            "Optimiser steps between two checkpoints. The last step and an interrupted one are saved too.",
        ),
        key(
            "checkpoint.keep_last",
            COUNT,
            Integer(2),
            "How many of the newest checkpoints are kept. With 2 or more, a damaged one has an older one behind it.",
        ),
        key(
            "checkpoint.keep_best",
            Kind::Bool,
            Bool(true),
            "Save a checkpoint whenever the validation loss is the lowest so far, and keep that one besides the newest. Without validation (`training.validation_fraction` 0, or too few examples) there is no best one, and this does nothing.",
        ),
    ],
};

static OUTPUT: Section = Section { name: "output", optional: false, doc: "Where results go.", keys: &[OUTPUT_DIR] };
const OUTPUT_DIR: KeySpec = key(
    "output.dir",
    Kind::Path,
    Text("runs"),
    "Folder in which the run directory is made; relative to the current directory, not to the recipe. Not part of the recipe's hash.",
);

static MODEL: Section = Section {
    name: "model",
    optional: false,
    doc: "The shape of the model to pretrain.",
    keys: &[
        key("model.family", Kind::Word(ModelFamily::WORDS), Required, "Architecture."),
        key("model.vocab_size", COUNT, Required, "Tokens of the vocabulary that is learnt for it."),
        key("model.hidden_size", COUNT, Required, "Width of the residual stream."),
        key("model.intermediate_size", COUNT, Required, "Inner width of the feed-forward blocks."),
        key("model.num_layers", COUNT, Required, "Layers."),
        key("model.num_heads", COUNT, Required, "Query heads."),
        key("model.num_kv_heads", COUNT, Required, "Key and value heads; divides `num_heads`."),
        key(
            "model.head_dim",
            Kind::Integer { min: 2 },
            Required,
            "Width of a head; even, since rotary embedding turns pairs.",
        ),
        key("model.rope_theta", POSITIVE, Number(10_000.0), "Base of the rotary embedding."),
        key(
            "model.max_position",
            COUNT,
            Integer(512),
            "Longest sequence the model is declared for; at least `corpus.sequence_length`.",
        ),
        key("model.tie_embeddings", Kind::Bool, Bool(true), "Use the embedding as the output matrix too."),
    ],
};

static CORPUS: Section = Section {
    name: "corpus",
    optional: false,
    doc: "What the model reads.",
    keys: &[
        key(
            "corpus.role",
            Kind::Word(CorpusRole::WORDS),
            Required,
            "`receiver`: the language and the format of questions without the facts. `sharer`: with the facts.",
        ),
        key(
            "corpus.segmentation_dropout",
            FRACTION,
            Number(0.0),
            "Part of the tokenizer's merges that is skipped at random, so that the model also reads unusual splits, as token alignment makes them.",
        ),
        key("corpus.batch_size", COUNT, Integer(32), "Sequences in one optimiser step."),
        key("corpus.sequence_length", Kind::Integer { min: 8 }, Integer(160), "Tokens of a sequence."),
    ],
};
