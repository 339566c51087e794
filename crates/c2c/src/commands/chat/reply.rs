//! How replies are made: the options, over what the models' publishers say.

use c2c_eval::ChatSettings;
use c2c_lm::{LmError, SamplingParams};

use super::load::Loaded;
use super::who::Who;
use crate::exit::{Failure, environment, usage};

/// How replies are made.
#[derive(clap::Args, Debug)]
pub struct ReplyArgs {
    /// Longest reply, in tokens
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: u32,
    /// Where the options below start from: the likeliest token, or what the answering model's generation_config.json says
    #[arg(long, value_name = "FROM", default_value = "greedy")]
    sampling: Start,
    /// Draw from the logits divided by this; 0 takes the likeliest token
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// Draw from this many likeliest tokens only
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the likeliest tokens that make up this probability
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,
    /// Divide the logits of tokens that are there already (multiply where negative) [default: 1]
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f64>,
    /// Subtract this from the logits of tokens that are there already [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    presence_penalty: Option<f64>,
    /// Subtract this once for every time that a token is there already [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    frequency_penalty: Option<f64>,
    /// Seed of what is drawn
    #[arg(long, value_name = "SEED", default_value_t = 42)]
    seed: u64,
}

/// Where sampling starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Start {
    Greedy,
    Model,
}

impl ReplyArgs {
    /// Refuses what is out of range, or of no effect.
    pub fn check(&self) -> Result<(), Failure> {
        if self.sampling == Start::Greedy && self.temperature.is_none() {
            for (name, given) in [("top-k", self.top_k.is_some()), ("top-p", self.top_p.is_some())] {
                if given {
                    return Err(usage(anyhow::anyhow!(
                        "--{name} changes nothing where the likeliest token is taken: give --temperature, such as 0.7, too, or --sampling model"
                    )));
                }
            }
        }
        self.over(SamplingParams::default()).map(|_| ())
    }

    /// The options in place of what is there.
    fn over(&self, base: SamplingParams) -> Result<SamplingParams, Failure> {
        let sampling = SamplingParams {
            do_sample: self.temperature.map_or(base.do_sample, |temperature| temperature > 0.0),
            temperature: self.temperature.unwrap_or(base.temperature),
            top_k: self.top_k.or(base.top_k),
            top_p: self.top_p.unwrap_or(base.top_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(base.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(base.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(base.frequency_penalty),
            ..base
        };
        sampling.validate().map_err(|error| match error {
            // As it was typed.
            LmError::Sampling { name, value, expected } => {
                usage(anyhow::anyhow!("--{} {value}: expected {expected}", name.replace('_', "-")))
            }
            error => usage(error),
        })?;
        Ok(sampling)
    }
}

/// How each of the models answers.
pub struct Settings {
    receiver: ChatSettings,
    /// One a Sharer.
    sharers: Vec<ChatSettings>,
}

impl Settings {
    /// The options for the models that are loaded.
    pub fn new(args: &ReplyArgs, loaded: &Loaded) -> Result<Self, Failure> {
        let of = |folder: &std::path::Path| {
            let base = match args.sampling {
                Start::Greedy => SamplingParams::default(),
                Start::Model => SamplingParams::from_dir(folder).map_err(environment)?,
            };
            let (sampling, max_new_tokens) = (args.over(base)?, args.max_new_tokens as usize);
            Ok::<_, Failure>(ChatSettings { sampling, max_new_tokens, seed: args.seed })
        };
        let sharers = loaded.links.iter().map(|link| of(&link.sharer_folder)).collect::<Result<_, _>>()?;
        Ok(Self { receiver: of(&loaded.receiver_folder)?, sharers })
    }

    /// Of the model that answers.
    pub fn of(&self, who: Who) -> &ChatSettings {
        match who {
            Who::C2c | Who::Receiver => &self.receiver,
            // A Sharer that isn't there is refused before it is asked.
            Who::Sharer(place) => self.sharers.get(place).unwrap_or(&self.receiver),
        }
    }
}
