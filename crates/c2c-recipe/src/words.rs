//! The words that recipes choose between.

use serde::{Deserialize, Serialize};

/// Defines an enum whose variants are words of a recipe. The words are the one list that serde, the key table and
/// `Display` share.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$about])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// The words that a recipe may use here, in the order of the variants.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word as a recipe writes it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// What a recipe is for.
    RecipeKind {
        /// Trains a Fuser between two frozen models.
        Train = "train",
        /// Evaluates a trained Fuser.
        Eval = "eval",
        /// Pretrains one small model of the embedded pair.
        Pretrain = "pretrain",
    }
}

words! {
    /// Number format in which a model's weights and cache are held.
    Dtype {
        /// 32-bit float.
        F32 = "f32",
        /// bfloat16.
        Bf16 = "bf16",
    }
}

words! {
    /// What the Sharer reads for a Receiver's prompt.
    AlignmentMode {
        /// The prompt in the Sharer's own tokens, aligned with the Receiver's one to one.
        Aligned = "aligned",
        /// The Receiver's token ids, unchanged. Only for models that share a vocabulary.
        Shared = "shared",
    }
}

words! {
    /// Which Sharer token stands for a Receiver token that the Sharer splits (paper, token alignment).
    AlignmentStrategy {
        /// The one that covers most characters; the earliest of equals.
        Longest = "longest",
        /// The first one.
        First = "first",
        /// All of them: the Sharer reads its own tokens, and tokens of the same characters share positions.
        Spans = "spans",
    }
}

words! {
    /// How finely a message is cut into sections, each fused as a whole before the next one is read.
    SectionCut {
        /// A message is one section.
        Message = "message",
        /// A message is cut behind each blank line.
        Paragraph = "paragraph",
    }
}

words! {
    /// Which Sharer layer each Receiver layer is fused with (paper, layer alignment).
    LayerMapping {
        /// Last with last, and so on backwards.
        LastAligned = "last_aligned",
        /// The nearest in relative depth.
        KNearest = "k_nearest",
    }
}

words! {
    /// How much of a Fuser there is: the paper's ablation (table 7).
    FuserLevel {
        /// The projection alone, which replaces the Receiver's cache.
        Project = "project",
        /// The Receiver's cache takes part, and the projection is weighted and added to it.
        Fuse = "fuse",
        /// With the Gate: the whole Fuser.
        Gate = "gate",
    }
}

words! {
    /// Which network a Fuser is.
    FuserNetwork {
        /// The paper's.
        Paper = "paper",
        /// The reference implementation's older one, its class `AllInOneProjector`.
        AllInOne = "all_in_one",
    }
}

words! {
    /// The function between the linear maps of an all-in-one network's projections.
    Activation {
        /// The exact GELU.
        Gelu = "gelu",
        /// max(x, 0).
        Relu = "relu",
        /// x sigmoid(x).
        Silu = "silu",
    }
}

words! {
    /// What becomes of the Receiver's own cache in an all-in-one network.
    ReceiverTerm {
        /// It stays, and the projection is added.
        Added = "added",
        /// It is scaled by 1 minus the weight, and the projection is added.
        Blended = "blended",
        /// The projection takes its place.
        Replaced = "replaced",
    }
}

words! {
    /// For what an all-in-one network has one gate or weight.
    Granularity {
        /// A layer.
        Scalar = "scalar",
        /// A token.
        Token = "token",
        /// A token and head, each made from that head alone.
        Head = "head",
        /// A token and head, made from all heads of the token.
        HeadMerged = "head_merged",
        /// A token, head and channel.
        Value = "value",
    }
}

words! {
    /// What an all-in-one network makes a gate or weight from.
    Features {
        /// The Receiver's key.
        ReceiverKey = "receiver_key",
        /// The Receiver's value.
        ReceiverValue = "receiver_value",
        /// The Receiver's key and value.
        ReceiverBoth = "receiver_both",
        /// The Receiver's key and the projected key.
        ProjectedKey = "projected_key",
        /// The Receiver's value and the projected value.
        ProjectedValue = "projected_value",
        /// The Receiver's key and value, the projected key and value.
        ProjectedBoth = "projected_both",
    }
}

words! {
    /// The noise of the Gate in training.
    GateNoise {
        /// One Gumbel variate, as the reference implementation (thu-nics/C2C) draws it: a gate of logit 0 opens in
        /// 63 % of draws.
        Gumbel = "gumbel",
        /// The difference of two Gumbel variates: a gate of logit 0 opens in half of all draws.
        Logistic = "logistic",
    }
}

words! {
    /// How a section is fused with more than one Sharer.
    FusionOrder {
        /// One after the other: each Fuser reads what the one before has left.
        Sequential = "sequential",
        /// Side by side: each Fuser reads the Receiver's own cache, and what each would change is added up.
        Parallel = "parallel",
    }
}

words! {
    /// How the learning rate moves after its warm-up.
    ScheduleKind {
        /// Falls in a straight line to 0.
        Linear = "linear",
        /// Stays.
        Constant = "constant",
        /// Falls along half a cosine to 0.
        Cosine = "cosine",
    }
}

words! {
    /// Where questions or chats come from.
    DataKind {
        /// Questions of the generated world that is part of the project.
        Pocket = "pocket",
        /// Files of multiple-choice questions.
        MultipleChoice = "multiple_choice",
        /// Files of chats.
        Chat = "chat",
        /// OpenHermes-2.5.
        OpenHermes = "openhermes",
        /// MMLU, by default its auxiliary training split.
        Mmlu = "mmlu",
        /// OpenBookQA.
        OpenBookQa = "openbookqa",
        /// MMLU-Pro with chains of thought.
        MmluProCot = "mmlu_pro_cot",
        /// LongBench.
        LongBench = "longbench",
        /// Answers that a model has generated.
        Generated = "generated",
        /// ARC, Challenge or Easy.
        Arc = "arc",
        /// MMLU-Redux 2.0.
        MmluRedux = "mmlu_redux",
        /// C-Eval.
        Ceval = "ceval",
        /// MMMLU.
        Mmmlu = "mmmlu",
        /// MMLU-Pro.
        MmluPro = "mmlu_pro",
        /// GPQA.
        Gpqa = "gpqa",
        /// GSM8K.
        Gsm8k = "gsm8k",
        /// MATH-500.
        Math500 = "math500",
    }
}

words! {
    /// How an answer is got out of a model.
    #[derive(Default)]
    AnswerMode {
        /// It writes a reply, in which the answer is looked for.
        #[default]
        Generate = "generate",
        /// Its probabilities of the choices' letters are compared, right behind the start of a reply.
        Logits = "logits",
    }
}

words! {
    /// Whose rules are followed in an evaluation.
    #[derive(Default)]
    Compat {
        /// This program's.
        #[default]
        Fixed = "fixed",
        /// Those of the reference implementation (thu-nics/C2C), with their defects.
        Reference = "reference",
    }
}

words! {
    /// Which end of a prompt is fused where only a share of it is.
    #[derive(Default)]
    FusedFrom {
        /// Its first tokens are.
        #[default]
        Front = "front",
        /// Its last ones are, up to the reply.
        Back = "back",
    }
}

words! {
    /// How a multiple-choice question is put to a model.
    PromptFormat {
        /// As the reference implementation puts it in training: question, choices, and a reply in a full sentence.
        Training = "training",
        /// As the paper's evaluation puts it: with instructions that ask for the letter alone.
        C2c = "c2c",
        /// As `c2c`, asking for a brief chain of thought before the answer.
        C2cCot = "c2c_cot",
        /// The question and its choices, nothing else.
        Plain = "plain",
        /// As `plain`, with `The correct answer is` as the last line.
        PlainCued = "plain_cued",
    }
}

words! {
    /// Who answers in an evaluation.
    Method {
        /// The Receiver alone.
        Receiver = "receiver",
        /// The Sharer alone.
        Sharer = "sharer",
        /// The Receiver with the Sharer's cache fused into its own.
        C2c = "c2c",
        /// As `c2c` with several Sharers, each through a Fuser of its own.
        Several = "several",
        /// Control: as `c2c`, but the Sharer reads another question. What is gained here is not communication.
        Mismatched = "mismatched",
        /// Control: as `several`, but every Sharer reads another question, all of them the same.
        SeveralMismatched = "several_mismatched",
        /// Control: as `c2c` with every Gate shut. Must equal the Receiver to the bit.
        GatesShut = "gates_shut",
        /// Text to text: the Sharer writes a text about the question, and the Receiver answers with that text before it.
        T2t = "t2t",
        /// As `t2t`, and the Receiver answers with the Sharer's cache fused into its own.
        T2tC2c = "t2t_c2c",
        /// The Receiver alone, with answered examples before the question.
        FewShot = "few_shot",
        /// Cache enrichment: the Receiver answers on the cache that it has of the question after examples, without the
        /// examples' own slots (paper, section 3.2).
        Oracle = "oracle",
    }
}

words! {
    /// What a train recipe trains.
    TrainMethod {
        /// A Fuser between two frozen models.
        Fuser = "fuser",
        /// The Receiver alone, as a baseline.
        Single = "single",
        /// An oracle: the Sharer's cache is mapped into the Receiver's space, without a reply to learn from (paper, section
        /// 3.2).
        Transformation = "transformation",
    }
}

words! {
    /// Which weights of the Receiver the method `single` trains.
    Trainable {
        /// All of them.
        Full = "full",
        /// Low-rank adapters beside frozen weights.
        Lora = "lora",
        /// Some parts of some layers.
        Partial = "partial",
    }
}

words! {
    /// A matrix that can have a low-rank adapter, in every layer.
    LoraTarget {
        /// Query.
        Query = "q_proj",
        /// Key.
        Key = "k_proj",
        /// Value.
        Value = "v_proj",
        /// Output of the attention.
        Output = "o_proj",
        /// Gate of the MLP.
        Gate = "gate_proj",
        /// Up projection of the MLP.
        Up = "up_proj",
        /// Down projection of the MLP.
        Down = "down_proj",
    }
}

words! {
    /// A part of the Receiver that can be trained by itself.
    ModelPart {
        /// The embedding, and with it a tied head.
        Embedding = "embedding",
        /// Query, key and value.
        Qkv = "qkv",
        /// Output projection of the attention.
        OProj = "o_proj",
        /// Gate and up projection.
        GateUp = "gate_up",
        /// Down projection.
        DownProj = "down_proj",
        /// The norms of a layer.
        Norms = "norms",
        /// The norm behind the last layer.
        FinalNorm = "final_norm",
        /// The head, and with it a tied embedding.
        Head = "head",
    }
}

words! {
    /// Architecture of a pretrained model.
    ModelFamily {
        /// Qwen3: norms on queries and keys, no biases.
        Qwen3 = "qwen3",
        /// Llama.
        Llama = "llama",
    }
}

words! {
    /// Which model of the embedded pair is pretrained, hence what it reads.
    CorpusRole {
        /// Knows the language and the format of questions, not the facts.
        Receiver = "receiver",
        /// Has read the facts.
        Sharer = "sharer",
    }
}
