//! What is asked, how, and who answers.

use c2c_data::McQuestion;
use c2c_lm::Finish;
use c2c_recipe::{
    AnswerMode, BaselineSettings, EvaluationSettings, FusedFrom, Method, QUESTION, T2T_PROMPTS, layer_list,
    t2t_template,
};
use c2c_text::{End, FusedShare};

use crate::EvalError;
use crate::extract::Compat;
use c2c_data::ANSWER_CUE;
use c2c_data::prompts::PromptFormat;

/// How an evaluation is done. Decoding is always greedy.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalSettings {
    /// Who answers: at least one, each once.
    pub methods: Vec<Method>,
    /// How a question is put.
    pub prompt: PromptFormat,
    /// Longest answer, in tokens; 1 or more.
    pub max_new_tokens: usize,
    /// Questions answered together; 1 or more.
    pub batch_size: usize,
    /// The most tokens of prompts answered together, padding counted; `None` is no limit.
    pub batch_tokens: Option<usize>,
    /// Seed of the mismatched pairs.
    pub seed: u64,
    /// Whose rules of prompts and answer extraction to follow.
    pub compat: Compat,
    /// How an answer is got out of a model.
    pub mode: AnswerMode,
    /// With [`AnswerMode::Logits`], the start of the reply.
    pub response_text: String,
    /// Whether prompts are put in chat templates; `None` is as the benchmark has it.
    pub chat_template: Option<bool>,
    /// How much of a prompt is fused by whoever fuses; `None` is all of it, and records don't say how much that was.
    pub fused: Option<FusedShare>,
    /// What only baselines read.
    pub baselines: Baselines,
}

/// What only baselines read.
#[derive(Debug, Clone, PartialEq)]
pub struct Baselines {
    /// What the sharer is asked to write: a text with [`QUESTION`] and perhaps [`CHOICES`](c2c_recipe::CHOICES) in it.
    pub t2t_template: String,
    /// Longest text of the sharer, in tokens; 1 or more.
    pub t2t_max_new_tokens: usize,
    /// The examples before each question, as [`load_examples`](crate::load_examples) draws them.
    pub examples: Vec<McQuestion>,
    /// Whether the cache of what all prompts begin with is computed once.
    pub reuse_prefix: bool,
    /// The receiver's layers that are enriched; all if none.
    pub oracle_layers: Option<Vec<usize>>,
}

impl Default for Baselines {
    /// The reference implementation's prompt, texts of 256 tokens, no examples, all layers.
    fn default() -> Self {
        Self {
            t2t_template: T2T_PROMPTS[0].1.to_owned(),
            t2t_max_new_tokens: 256,
            examples: Vec::new(),
            reuse_prefix: true,
            oracle_layers: None,
        }
    }
}

impl From<&BaselineSettings> for Baselines {
    /// The settings of a recipe, without examples. A prompt or layers that a recipe would refuse stay as they are, for
    /// [`evaluate`](fn@crate::evaluate) to refuse.
    fn from(recipe: &BaselineSettings) -> Self {
        Self {
            t2t_template: t2t_template(&recipe.t2t_prompt).unwrap_or(&recipe.t2t_prompt).to_owned(),
            t2t_max_new_tokens: recipe.t2t_max_new_tokens,
            examples: Vec::new(),
            reuse_prefix: recipe.few_shot_reuse,
            // A layer that no model has.
            oracle_layers: layer_list(&recipe.oracle_layers).unwrap_or_else(|_| Some(vec![usize::MAX])),
        }
    }
}

impl From<&EvaluationSettings> for EvalSettings {
    /// The settings of a recipe, without examples.
    fn from(recipe: &EvaluationSettings) -> Self {
        Self {
            methods: recipe.methods.clone(),
            prompt: prompt_format(recipe.prompt, recipe.compat.into()),
            max_new_tokens: recipe.max_new_tokens,
            batch_size: recipe.batch_size,
            batch_tokens: recipe.batch_tokens,
            seed: recipe.seed,
            compat: recipe.compat.into(),
            mode: recipe.mode.unwrap_or_default(),
            response_text: recipe.response_text.clone().unwrap_or_else(|| ANSWER_CUE.to_owned()),
            chat_template: recipe.chat_template,
            fused: recipe.fused_share.map(|share| FusedShare { share, from: end(recipe.fused_from) }),
            baselines: recipe.baselines.as_ref().map(Baselines::from).unwrap_or_default(),
        }
    }
}

/// The end that a recipe's word stands for.
fn end(recipe: Option<FusedFrom>) -> End {
    match recipe.unwrap_or_default() {
        FusedFrom::Front => End::Front,
        FusedFrom::Back => End::Back,
    }
}

/// The prompt that a recipe's word stands for. `plain` is [`PromptFormat::PlainTrimmed`]: what a fuser trained on plain
/// questions has seen. The reference implementation's plain prompt ends in a line break ([`PromptFormat::Plain`]).
pub fn prompt_format(recipe: c2c_recipe::PromptFormat, compat: Compat) -> PromptFormat {
    match recipe {
        c2c_recipe::PromptFormat::Training => PromptFormat::Training,
        c2c_recipe::PromptFormat::C2c => PromptFormat::C2c,
        c2c_recipe::PromptFormat::C2cCot => PromptFormat::C2cCot,
        c2c_recipe::PromptFormat::Plain => match compat {
            Compat::Fixed => PromptFormat::PlainTrimmed,
            Compat::Reference => PromptFormat::Plain,
        },
        c2c_recipe::PromptFormat::PlainCued => PromptFormat::PlainCued,
    }
}

impl EvalSettings {
    pub(crate) fn check(&self) -> Result<(), EvalError> {
        let refuse = |key, found: String, expected| Err(EvalError::Settings { key, found, expected });
        if self.methods.is_empty() {
            return refuse("methods", "[]".into(), "at least one");
        }
        for (place, method) in self.methods.iter().enumerate() {
            if self.methods[..place].contains(method) {
                return refuse("methods", format!("{method} twice"), "each method once");
            }
        }
        let baselines = &self.baselines;
        for (key, found) in [
            ("max_new_tokens", self.max_new_tokens),
            ("batch_size", self.batch_size),
            ("baselines.t2t_max_new_tokens", baselines.t2t_max_new_tokens),
        ] {
            if found == 0 {
                return refuse(key, "0".into(), "1 or more");
            }
        }
        if let Some(share) = self.fused.map(|fused| fused.share).filter(|share| !(0.0..=1.0).contains(share)) {
            return refuse("fused.share", share.to_string(), "a number from 0 to 1");
        }
        if let Some(method) = self.methods.iter().find(|method| method.reads_examples())
            && baselines.examples.is_empty()
        {
            return refuse("baselines.examples", format!("none for {method}"), "at least one");
        }
        if self.methods.iter().any(|method| method.writes_text()) && !baselines.t2t_template.contains(QUESTION) {
            return refuse("baselines.t2t_template", format!("{:?}", baselines.t2t_template), "a text with {question}");
        }
        Ok(())
    }
}

/// The name of a decoding's end in records.
pub(crate) fn finish_name(finish: Finish) -> &'static str {
    match finish {
        Finish::Eos => "eos",
        Finish::Length => "length",
        Finish::Stopped => "stopped",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn settings() -> EvalSettings {
        EvalSettings {
            methods: vec![Method::Receiver, Method::C2c],
            prompt: PromptFormat::C2c,
            max_new_tokens: 4,
            batch_size: 2,
            batch_tokens: None,
            seed: 0,
            compat: Compat::Fixed,
            mode: AnswerMode::Generate,
            response_text: ANSWER_CUE.to_owned(),
            chat_template: None,
            fused: None,
            baselines: Baselines::default(),
        }
    }

    #[test]
    fn a_plain_prompt_ends_in_a_line_break_where_the_reference_has_one() {
        use c2c_recipe::PromptFormat::{C2c, Plain};
        assert_eq!(prompt_format(Plain, Compat::Fixed), PromptFormat::PlainTrimmed);
        assert_eq!(prompt_format(Plain, Compat::Reference), PromptFormat::Plain);
        assert_eq!(prompt_format(C2c, Compat::Reference), PromptFormat::C2c);
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        settings().check().unwrap();
        let shared = |share| {
            let fused = Some(FusedShare { share, from: End::Front });
            EvalSettings { fused, ..settings() }
        };
        shared(1.0).check().unwrap();
        let refusals = [
            (EvalSettings { methods: vec![], ..settings() }, "methods = []: expected at least one"),
            (EvalSettings { methods: vec![Method::C2c; 2], ..settings() }, "methods = c2c twice"),
            (EvalSettings { max_new_tokens: 0, ..settings() }, "max_new_tokens = 0: expected 1 or more"),
            (EvalSettings { batch_size: 0, ..settings() }, "batch_size = 0: expected 1 or more"),
            (shared(1.5), "fused.share = 1.5: expected a number from 0 to 1"),
            (shared(f64::NAN), "fused.share = NaN: expected a number from 0 to 1"),
            (EvalSettings { methods: vec![Method::Oracle], ..settings() }, "examples = none for oracle"),
            (
                EvalSettings {
                    methods: vec![Method::T2t],
                    baselines: Baselines { t2t_template: "What?".into(), ..Baselines::default() },
                    ..settings()
                },
                "t2t_template = \"What?\": expected a text with {question}",
            ),
        ];
        for (settings, expected) in refusals {
            let message = settings.check().unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_recipes_words_become_formats() {
        use c2c_recipe::PromptFormat as Word;
        let formats = [Word::Training, Word::C2c, Word::C2cCot, Word::Plain, Word::PlainCued]
            .map(|word| prompt_format(word, Compat::Fixed));
        assert_eq!(
            formats,
            [
                PromptFormat::Training,
                PromptFormat::C2c,
                PromptFormat::C2cCot,
                PromptFormat::PlainTrimmed,
                PromptFormat::PlainCued
            ]
        );
    }

    #[test]
    fn a_recipes_settings_are_taken_over() {
        let recipe = EvaluationSettings {
            sources: vec![],
            limit: None,
            prompt: c2c_recipe::PromptFormat::C2c,
            max_new_tokens: 4,
            methods: vec![Method::Receiver, Method::C2c],
            batch_size: 2,
            batch_tokens: None,
            seed: 0,
            mode: None,
            response_text: None,
            chat_template: None,
            compat: None,
            fused_share: None,
            fused_from: None,
            baselines: None,
        };
        assert_eq!(EvalSettings::from(&recipe), settings());
        let of = |share, from| {
            EvalSettings::from(&EvaluationSettings { fused_share: share, fused_from: from, ..recipe.clone() }).fused
        };
        assert_eq!(of(Some(0.5), None), Some(FusedShare { share: 0.5, from: End::Front }));
        assert_eq!(of(Some(1.0), Some(FusedFrom::Back)), Some(FusedShare { share: 1.0, from: End::Back }));
    }

    #[test]
    fn names_of_ends_are_those_of_serde() {
        for finish in [Finish::Eos, Finish::Length, Finish::Stopped] {
            assert_eq!(serde_json::to_value(finish).unwrap(), finish_name(finish));
        }
    }
}
