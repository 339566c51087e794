//! A conversation, message by message.

use c2c_eval::Conversation;

use super::input::{Input, Typed};
use super::show::{self, Screen, aside};
use super::slash::{self, Line};
use super::{Talk, Who};
use crate::exit::{Failure, Outcome, usage};

/// Talks until the end of input. Where nobody types, the first thing that goes wrong ends it.
pub fn run(talk: &Talk<'_>, mut who: Vec<Who>) -> Outcome {
    let mut input = Input::open()?;
    let mut screen = Screen::new();
    let mut conversation = Conversation::new(talk.args.system.clone());
    aside(&show::introduced(talk));
    loop {
        let prompt = format!("{}> ", names(&who));
        let typed = match input.next(&prompt)? {
            Typed::Text(text) => text,
            Typed::Nothing => continue,
            Typed::End => return Ok(()),
        };
        let done = match Line::read(&typed) {
            Ok(Line::Quit) => return Ok(()),
            Ok(Line::Say(text)) if text.is_empty() => continue,
            Ok(Line::Say(text)) => turn(talk, &who, &mut conversation, &text, &mut screen),
            Ok(line) => command(talk, line, &mut who, &mut conversation),
            Err(wrong) => Err(usage(anyhow::anyhow!(wrong))),
        };
        match done {
            _ if screen.gone() => return Ok(()),
            // Who types can do something about it, or has stopped the reply only.
            Err(Failure::Interrupted(_)) if input.is_typed() => {}
            Err(failure) if input.is_typed() => eprintln!("error: {failure}"),
            done => done?,
        }
    }
}

/// A message and its replies. The first one's is what the conversation goes on with.
fn turn(talk: &Talk<'_>, who: &[Who], conversation: &mut Conversation, text: &str, screen: &mut Screen) -> Outcome {
    let answered = talk.replies(who, &conversation.with(text), Some(screen))?;
    if let Some((_, reply)) = answered.replies.first() {
        conversation.remember(text, &reply.text);
    }
    if answered.stopped { Err(Failure::Interrupted("interrupted".into())) } else { Ok(()) }
}

fn command(talk: &Talk<'_>, line: Line, who: &mut Vec<Who>, conversation: &mut Conversation) -> Outcome {
    match line {
        Line::Help => aside(&slash::help()),
        Line::Gates => aside(&show::gates(&talk.loaded.links)),
        Line::Reset => {
            let turns = conversation.turns();
            conversation.forget();
            aside(&format!("forgot {turns} turn{}", if turns == 1 { "" } else { "s" }));
        }
        Line::System(text) => {
            aside(if text.is_some() { "the system prompt is set" } else { "there is no system prompt" });
            conversation.set_system(text);
        }
        Line::Method(named) => {
            if !named.is_empty() {
                *who = Who::chosen(&named, talk.chat.sharers())?;
            }
            aside(&format!("{} of {}", names(who), names(&Who::all(talk.chat.sharers()))));
        }
        Line::Say(_) | Line::Quit => {}
    }
    Ok(())
}

fn names(who: &[Who]) -> String {
    who.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
