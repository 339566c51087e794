//! `c2c chat`: talk to a fused pair, or to its models alone.
//!
//! What a turn is stands in `c2c_eval::Chat`; here is who is asked, what is typed and what is shown.

mod input;
mod load;
mod once;
mod reply;
mod session;
mod show;
mod slash;
mod who;

use std::io::{IsTerminal, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;

use burn::Dispatch;
use c2c_eval::{Chat, ChatError, ChatReply};
use c2c_recipe::{Dtype, FusionOrder};
use c2c_text::{Message, TextError};

use crate::DeviceOption;
use crate::exit::{Failure, Outcome, environment, usage};
use crate::signals::Signals;
use load::Loaded;
use reply::{ReplyArgs, Settings};
use show::{Screen, aside};
use who::Who;

/// Arguments of `c2c chat`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The trained fuser: a folder, the run directory that it was trained in, or a hub id. Given again: further ones, each
    /// with a sharer of its own
    #[arg(long, value_name = "DIR", required = true)]
    fuser: Vec<PathBuf>,
    /// Another receiver than the one that the fuser names, a folder or hub id
    #[arg(long, value_name = "MODEL")]
    receiver: Option<String>,
    /// Another sharer; given again for further fusers, in their order
    #[arg(long, value_name = "MODEL")]
    sharer: Vec<String>,
    /// How several sharers are fused: one after the other, or side by side
    #[arg(long, value_name = "ORDER", value_parser = FusionOrder::WORDS.to_vec())]
    fusion_order: Option<String>,
    /// Number format of the models [default: the one that the fuser was trained beside]
    #[arg(long, value_name = "DTYPE", value_parser = dtype)]
    dtype: Option<Dtype>,
    /// Answer this and end; without it, on a terminal, messages are read one after the other, else all of stdin is the prompt
    #[arg(short, long, value_name = "TEXT", conflicts_with = "interactive")]
    prompt: Option<String>,
    /// Read messages line by line though stdin is no terminal
    #[arg(long)]
    interactive: bool,
    /// The system prompt
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Who answers: c2c, receiver, sharer, or of several sharers sharer:N; given again, one after the other, and the
    /// first one's replies are remembered
    #[arg(long = "method", value_name = "WHO", default_value = "c2c", conflicts_with = "compare")]
    methods: Vec<Who>,
    /// Ask the pair and each of its models alone
    #[arg(long)]
    compare: bool,
    /// Print one JSON object instead of text: replies with ids, counts and times
    #[arg(long, conflicts_with = "interactive")]
    json: bool,
    #[command(flatten)]
    reply: ReplyArgs,
    #[command(flatten)]
    device: DeviceOption,
}

const AFTER_HELP: &str = "\
The reply goes to stdout, everything else to stderr. Earlier turns are part of the prompt, and fused as the message is.

Examples:
  c2c chat --fuser exports/pocket
  c2c chat --fuser org/fuser --device cuda --prompt 'Why is the sky blue?' --compare
  c2c chat --fuser exports/pocket --json < question.txt";

fn dtype(text: &str) -> Result<Dtype, String> {
    match text {
        "f32" => Ok(Dtype::F32),
        "bf16" => Ok(Dtype::Bf16),
        _ => Err(format!("unknown dtype `{text}`: expected bf16 or f32")),
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    // Told before anything is loaded.
    args.reply.check()?;
    let who = if args.compare { Vec::new() } else { Who::chosen(&args.methods, args.fuser.len())? };
    let prompt = prompt(args)?;
    let device = args.device.device.open().map_err(|e| environment(anyhow::anyhow!(e)))?;
    let loaded = Loaded::new(args, &device)?;
    let settings = Settings::new(&args.reply, &loaded)?;
    let who = if args.compare { Who::all(loaded.links.len()) } else { who };
    let chat = Chat::new(&loaded.c2c, &loaded.text, loaded.several.as_ref()).map_err(environment)?;
    let talk = Talk { args, loaded: &loaded, chat, settings, signals: Signals::telling("", String::new()) };
    match prompt {
        Some(prompt) => once::run(&talk, &who, &prompt),
        None => session::run(&talk, who),
    }
}

/// The one prompt that is asked; `None` if there is a conversation.
fn prompt(args: &Args) -> Result<Option<String>, Failure> {
    let terminal = std::io::stdin().is_terminal();
    let prompt = match &args.prompt {
        Some(prompt) => prompt.clone(),
        None if args.json && terminal => {
            return Err(usage(anyhow::anyhow!("--json answers once: give --prompt TEXT, or the prompt on stdin")));
        }
        None if terminal || args.interactive => return Ok(None),
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|e| environment(anyhow::anyhow!("stdin: {e}")))?;
            // Shells and editors end a file with a line break that nobody means.
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    if prompt.trim().is_empty() {
        let from = if args.prompt.is_some() { "--prompt" } else { "stdin" };
        return Err(usage(anyhow::anyhow!(
            "{from} holds no text to answer; give --prompt TEXT or a text on stdin, or --interactive to read lines"
        )));
    }
    Ok(Some(prompt))
}

/// All that a turn needs but what is said.
struct Talk<'a> {
    args: &'a Args,
    loaded: &'a Loaded,
    chat: Chat<'a, Dispatch>,
    settings: Settings,
    signals: Signals,
}

impl Talk<'_> {
    /// The number format that the models compute in.
    fn dtype(&self) -> String {
        format!("{:?}", self.loaded.c2c.receiver.dtype()).to_lowercase()
    }

    /// The replies to a conversation, one below the other as they come; without a screen nothing is shown. A signal ends
    /// them, and so does a reader that has gone.
    fn replies(&self, who: &[Who], messages: &[Message], mut screen: Option<&mut Screen>) -> Result<Answered, Failure> {
        let mut answered = Answered { replies: Vec::with_capacity(who.len()), stopped: false };
        self.signals.forget();
        for (place, one) in who.iter().enumerate() {
            if let Some(screen) = screen.as_mut().filter(|_| who.len() > 1) {
                screen.label(*one, place == 0);
            }
            let reply = self.signals.while_working(|stop| {
                let reply = self.chat.reply((*one).into(), messages, self.settings.of(*one), &mut |piece| {
                    let shown = screen.as_mut().is_none_or(|screen| screen.piece(piece));
                    if shown && !stop.should_stop() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                });
                answered.stopped = stop.should_stop();
                reply
            });
            if let Some(screen) = screen.as_mut() {
                screen.end();
            }
            let reply = reply.map_err(refused)?;
            if screen.is_some() {
                aside(&show::told(*one, &reply));
            }
            answered.replies.push((*one, reply));
            if answered.stopped || screen.as_ref().is_some_and(|screen| screen.gone()) {
                break;
            }
        }
        Ok(answered)
    }
}

/// What came of a message.
struct Answered {
    replies: Vec<(Who, ChatReply)>,
    /// A signal has come.
    stopped: bool,
}

/// A message that can't be put is a matter of usage, all else one of the environment.
fn refused(error: ChatError) -> Failure {
    match error {
        ChatError::Context { .. } | ChatError::NoSharer { .. } | ChatError::Text(TextError::EmptyPrompt { .. }) => {
            usage(error)
        }
        error => environment(error),
    }
}
