//! What is shown: replies on stdout, talk about them on stderr.

use std::io::{IsTerminal, Write};

use c2c_eval::{ChatReply, End};
use c2c_lm::{Lm, SamplingParams};
use serde_json::{Value, json};

use super::load::Linked;
use super::{Talk, Who};
use crate::exit::plain;

const BOLD: &str = "1";
const DIM: &str = "2";

/// Stdout, as far as somebody reads it.
pub struct Screen {
    terminal: bool,
    colour: bool,
    /// The reader has gone, which is no error.
    gone: bool,
}

impl Screen {
    /// Stdout.
    pub fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { terminal, colour: terminal && colours(), gone: false }
    }

    /// Whether the reader has gone.
    pub fn gone(&self) -> bool {
        self.gone
    }

    /// Writes a part of a reply; false if nobody reads it any more. What a model says can't steer the terminal.
    pub fn piece(&mut self, text: &str) -> bool {
        if self.terminal { self.write(&plain(text)) } else { self.write(text) }
    }

    /// The name above a reply, where several answer, and an empty line between it and the one before.
    pub fn label(&mut self, who: Who, first: bool) {
        let label = painted(self.colour, BOLD, &format!("[{who}]"));
        let space = if first { "" } else { "\n" };
        self.write(&format!("{space}{label}\n"));
    }

    /// The end of a reply.
    pub fn end(&mut self) {
        self.write("\n");
    }

    fn write(&mut self, text: &str) -> bool {
        if !self.gone {
            let mut out = std::io::stdout().lock();
            self.gone = out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err();
        }
        !self.gone
    }
}

/// Says something about a reply on stderr.
pub fn aside(text: &str) {
    let colour = std::io::stderr().is_terminal() && colours();
    for line in text.lines() {
        eprintln!("{}", painted(colour, DIM, &plain(line)));
    }
}

fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn painted(colour: bool, code: &str, text: &str) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// One line on a reply: how long it is and why it ended, what was read and fused, where the time went.
pub fn told(who: Who, reply: &ChatReply) -> String {
    let mut line = format!("{who}: {}", counted(reply.ids.len(), "token"));
    line.push_str(match reply.finish {
        End::Eos => "",
        End::Length => ", cut at --max-new-tokens",
        End::Context => ", cut at the end of the model's context",
        End::Stopped => ", stopped",
    });
    if let Some(rate) = reply.tokens_per_second() {
        line.push_str(&format!(", {rate:.0} a second"));
    }
    let phases = &reply.phases;
    let mut parts = Vec::new();
    if !reply.sharer_tokens.is_empty() {
        let whose = if reply.sharer_tokens.len() == 1 { "sharer" } else { "sharers" };
        let tokens: Vec<String> = reply.sharer_tokens.iter().map(ToString::to_string).collect();
        parts.push(format!("{whose} read {} in {:.1} ms", tokens.join(" and "), phases.sharer_prefill));
    }
    if let Some(tokens) = reply.receiver_tokens {
        parts.push(format!("receiver read {tokens} in {:.1} ms", phases.receiver_prefill));
    }
    if reply.fused.sections > 0 {
        parts.push(format!("{} fused in {:.1} ms", reply.fused.tokens, phases.fusion));
    }
    format!("{line}; {}", parts.join(", "))
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Who is there, and how they answer.
pub fn introduced(talk: &Talk<'_>) -> String {
    let model = |name: &str, model: &Lm<burn::Dispatch>| {
        let config = model.config();
        let context = match config.max_position {
            0 => String::new(),
            limit => format!(", context {limit}"),
        };
        format!("{name} ({}, {} layers{context})", format!("{:?}", config.family).to_lowercase(), config.num_layers)
    };
    let loaded = talk.loaded;
    let mut text = format!("receiver  {}\n", model(&loaded.receiver, &loaded.c2c.receiver));
    for (link, sharer) in loaded.links.iter().zip(loaded.sharers()) {
        text.push_str(&format!("sharer    {}\n", model(&link.sharer, sharer)));
        text.push_str(&format!("fuser     {}, {}\n", link.fuser, gates_in_words(link)));
    }
    text.push_str(&format!(
        "{}, {}, {}\n",
        talk.args.device.device,
        talk.dtype(),
        choice(&talk.settings.of(Who::Receiver).sampling)
    ));
    text.push_str("/help lists commands, Ctrl-D ends\n");
    text
}

/// How tokens are chosen.
fn choice(sampling: &SamplingParams) -> String {
    let mut text = match sampling.do_sample {
        true => format!("drawn at temperature {}", sampling.temperature),
        false => "the likeliest token".to_owned(),
    };
    if let Some(k) = sampling.top_k {
        text.push_str(&format!(", top-k {k}"));
    }
    if sampling.top_p < 1.0 {
        text.push_str(&format!(", top-p {}", sampling.top_p));
    }
    text
}

fn gates_in_words(link: &Linked) -> String {
    let [keys, values] = link.open();
    let layers = link.keys.len();
    format!("gates open: {keys} of {layers} for keys, {values} of {layers} for values")
}

/// The gates of all Fusers, layer by layer.
pub fn gates(links: &[Linked]) -> String {
    let mut text = String::new();
    for link in links {
        text.push_str(&format!("{}, {}\n", link.fuser, gates_in_words(link)));
        text.push_str("receiver layer  sharer layer  keys             values\n");
        for (layer, read) in link.layer_map.iter().enumerate() {
            let [key, value] =
                [&link.keys, &link.values].map(|logits| logits.get(layer).map_or_else(String::new, gate));
            text.push_str(&format!("{layer:>14}  {read:>12}  {key:<15}  {value}\n"));
        }
    }
    text
}

/// A gate by its logit.
fn gate(logit: &f32) -> String {
    match logit {
        logit if logit.is_infinite() => "open (no gate)".to_owned(),
        logit if *logit > 0.0 => format!("open ({logit:.3})"),
        logit => format!("shut ({logit:.3})"),
    }
}

/// What `--json` prints.
pub fn json(talk: &Talk<'_>, prompt: &str, replies: &[(Who, ChatReply)]) -> Value {
    let loaded = talk.loaded;
    json!({
        "system": talk.args.system,
        "prompt": prompt,
        "replies": replies.iter().map(|(who, reply)| reply_json(talk, *who, reply)).collect::<Vec<_>>(),
        "receiver": loaded.receiver,
        "fusers": loaded.links.iter().map(link_json).collect::<Vec<_>>(),
        "device": talk.args.device.device.to_string(),
        "dtype": talk.dtype(),
    })
}

fn link_json(link: &Linked) -> Value {
    let [keys, values] = link.open();
    json!({
        "fuser": link.fuser,
        "sharer": link.sharer,
        "gates_open": { "keys": keys, "values": values, "of": link.keys.len() },
    })
}

fn reply_json(talk: &Talk<'_>, who: Who, reply: &ChatReply) -> Value {
    let (phases, settings) = (&reply.phases, talk.settings.of(who));
    json!({
        "method": who.to_string(),
        "text": reply.text,
        "ids": reply.ids,
        "finish": reply.finish,
        "prompt_tokens": { "receiver": reply.receiver_tokens, "sharers": reply.sharer_tokens },
        "fused": reply.fused,
        "ms": {
            "sharer": phases.sharer_prefill,
            "receiver": phases.receiver_prefill,
            "fusion": phases.fusion,
            "decode": phases.decode,
            "total": reply.milliseconds,
        },
        "tokens_per_second": reply.tokens_per_second(),
        "sampling": settings.sampling,
        "seed": settings.seed,
        "max_new_tokens": settings.max_new_tokens,
    })
}
