//! A toy pair: two untrained models of different family and tokenizer. What they answer is nonsense, but it is
//! deterministic and depends on the prompt, which is all that the engine's tests need.

use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use burn::{Dispatch, DispatchDevice};
use c2c_data::prompts::PromptFormat;
use c2c_data::{ANSWER_CUE, McQuestion, choice_lines};
use c2c_eval::extract::Compat;
use c2c_eval::{
    Baselines, BenchmarkQuestion, EvalPair, EvalSettings, Evaluation, FurtherSharer, Phases, Record, SeveralSharers,
    evaluate,
};
use c2c_fuser::{C2c, Fuser, FuserConfig, FusionOrder, GateNoise, LayerMapping, Link};
use c2c_lm::{Lm, LmConfig, init_random};
use c2c_recipe::{AnswerMode, Method};
use c2c_text::{AlignStrategy, PairText, PreTok, TokenMode, Tokenizer, train_bpe};

/// ChatML, as Qwen writes it.
const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
const CHATML_CONFIG: &str = r#"{"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}"#;

/// Llama 3: a begin token, headers, contents trimmed. This one refuses some questions.
const LLAMA3: &str = "{{ bos_token }}{% for m in messages %}\
{% if 'Atlantis' in m.content %}{{ raise_exception('Atlantis is not on the map') }}{% endif %}\
{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";
const LLAMA3_CONFIG: &str = r#"{"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}"#;

/// Enough for every question of these tests but the ones that are meant to be too long.
pub const CONTEXT: usize = 96;

pub const ALL: [Method; 5] = [Method::Receiver, Method::Sharer, Method::C2c, Method::Mismatched, Method::GatesShut];

pub struct Toy {
    pub c2c: C2c<Dispatch>,
    pub text: PairText,
    /// The first Sharer and another, of the same shape, that reads by another alignment.
    pub several: SeveralSharers<Dispatch>,
}

/// What differs from toy to toy.
pub struct Shape {
    pub receiver_context: usize,
    pub sharer_context: usize,
    pub receiver_pad: Option<u32>,
    /// One tokenizer for both.
    pub shared: bool,
    /// A receiver whose every other layer sees no further than some tokens.
    pub windowed: bool,
}

/// Makes matrices so large that attention tells prompts apart, which it hardly does right after initialisation.
struct Louder;

impl ModuleMapper<Dispatch> for Louder {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<Dispatch, D>>) -> Param<Tensor<Dispatch, D>> {
        if D == 2 { param.map(|matrix| matrix.mul_scalar(3.4)) } else { param }
    }
}

impl Default for Shape {
    fn default() -> Self {
        Self { receiver_context: CONTEXT, sharer_context: CONTEXT, receiver_pad: None, shared: false, windowed: false }
    }
}

impl Toy {
    pub fn new() -> Self {
        Self::of(&Shape::default())
    }

    pub fn of(shape: &Shape) -> Self {
        let device = DispatchDevice::Flex(burn_flex::FlexDevice);
        let corpus: Vec<String> =
            questions().iter().map(|q| format!("{}\n{}", q.question, choice_lines(&q.choices))).collect();
        let qwen = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
        let llama = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"];
        let receiver_text = train_bpe(&corpus, 330, &qwen, PreTok::Qwen).unwrap();
        let sharer_text = train_bpe(&corpus, 400, &llama, PreTok::Llama3).unwrap();
        let receiver_text = Arc::new(Tokenizer::from_parts(&receiver_text, Some(CHATML_CONFIG), Some(CHATML)).unwrap());
        let sharer_text = Arc::new(Tokenizer::from_parts(&sharer_text, Some(LLAMA3_CONFIG), Some(LLAMA3)).unwrap());
        let (sharer_text, mode) = match shape.shared {
            true => (receiver_text.clone(), TokenMode::Shared),
            false => (sharer_text, TokenMode::Aligned(AlignStrategy::Longest)),
        };

        let family = if shape.windowed { "gemma3_text" } else { "qwen3" };
        let receiver = serde_json::json!({
            "model_type": family, "sliding_window": 24, "sliding_window_pattern": 2, "query_pre_attn_scalar": 8,
            "vocab_size": receiver_text.vocab_size(), "hidden_size": 32,
            "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 8, "max_position_embeddings": shape.receiver_context,
            "eos_token_id": receiver_eos(&receiver_text), "pad_token_id": shape.receiver_pad,
        });
        // No end token in this config: the tokenizer's is to be taken.
        let sharer = serde_json::json!({
            "model_type": "llama", "vocab_size": sharer_text.vocab_size(), "hidden_size": 24,
            "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 3, "num_key_value_heads": 3,
            "head_dim": 8, "max_position_embeddings": shape.sharer_context,
        });
        let model = |json: &serde_json::Value, seed| -> Lm<Dispatch> {
            init_random(&LmConfig::from_json(json, "toy/config.json".as_ref()).unwrap(), seed, &device).map(&mut Louder)
        };
        let (receiver, sharer) = (model(&receiver, 1), model(&sharer, 2));
        let fuser = |seed| Fuser::init(&fuser_config(), seed, &device).unwrap();
        let other = Link { sharer: init_random(sharer.config(), 7, &device).map(&mut Louder), fuser: fuser(8) };
        let text = PairText::new(receiver_text, sharer_text.clone(), mode).unwrap();
        let other_mode = if shape.shared { mode } else { TokenMode::Aligned(AlignStrategy::Spans) };
        let other = FurtherSharer { link: other, text: text.with_sharer(sharer_text, other_mode).unwrap() };
        Self {
            c2c: C2c::new(receiver, sharer, fuser(3)).unwrap(),
            text,
            several: SeveralSharers { with_first: true, others: vec![other], order: FusionOrder::Sequential },
        }
    }

    pub fn pair(&self) -> EvalPair<'_, Dispatch> {
        EvalPair { models: c2c_eval::EvalModels::Several(&self.c2c, &self.several), text: &self.text }
    }

    pub fn evaluate(&self, questions: &[McQuestion], settings: &EvalSettings) -> Evaluation {
        evaluate(&self.pair(), &named(questions), settings, &mut |_| {}).unwrap()
    }
}

/// The ids that end the receiver's replies: its end token and one in eight others, so that some replies end early.
pub fn receiver_eos(tokenizer: &Tokenizer) -> Vec<u32> {
    let others = (0..tokenizer.vocab_size() as u32).filter(|id| id % 8 == 5);
    tokenizer.eos_id().into_iter().chain(others).collect()
}

fn fuser_config() -> FuserConfig {
    FuserConfig {
        sharer_heads: 3,
        sharer_head_dim: 8,
        sharer_layers: 3,
        receiver_heads: 2,
        receiver_head_dim: 8,
        layer_map: LayerMapping::LastAligned.map(2, 3),
        hidden_dim: 16,
        intermediate_dim: 16,
        num_layers: 3,
        dropout: 0.0,
        initial_temperature: 1.0,
        final_temperature: 0.1,
        anneal_steps: 1,
        gate_noise: GateNoise::Gumbel,
        initial_gate_logit: 1.0,
        zero_init: false,
        parts: Default::default(),
        all_in_one: None,
    }
}

pub fn settings(methods: &[Method], batch_size: usize) -> EvalSettings {
    EvalSettings {
        methods: methods.to_vec(),
        prompt: PromptFormat::PlainTrimmed,
        max_new_tokens: 6,
        batch_size,
        batch_tokens: None,
        seed: 5,
        compat: Compat::Fixed,
        mode: AnswerMode::Generate,
        response_text: ANSWER_CUE.to_owned(),
        chat_template: None,
        fused: None,
        baselines: Baselines::default(),
    }
}

pub fn question(id: usize, text: &str, choices: &[&str]) -> McQuestion {
    McQuestion {
        id: format!("q{id}"),
        question: text.to_owned(),
        choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
        answer: id % choices.len(),
        subject: (!id.is_multiple_of(3)).then(|| "places".to_owned()),
    }
}

/// Thirteen questions of different lengths, some of which come twice.
pub fn questions() -> Vec<McQuestion> {
    let places = ["Durmal", "Okean", "Brai", "Skundel", "Teal"];
    let asked = ["stone", "metal", "colour of the flag"];
    let choices = ["iron", "lead", "gold", "red and green"];
    (0..13)
        .map(|id| {
            let text = format!("What is the {} of {}?", asked[id % 3], places[(id / 2) % 5]);
            question(id, &text, &choices[..2 + id % 3])
        })
        .collect()
}

/// The questions as part of a benchmark.
pub fn named(questions: &[McQuestion]) -> Vec<BenchmarkQuestion> {
    questions.iter().map(|q| BenchmarkQuestion { benchmark: "toys".to_owned(), question: q.clone().into() }).collect()
}

/// The records without their times, which differ from run to run.
pub fn untimed(evaluation: &Evaluation) -> Vec<Record> {
    let untimed = |record: &Record| Record { milliseconds: 0.0, phases: Phases::default(), ..record.clone() };
    evaluation.records.iter().map(untimed).collect()
}
