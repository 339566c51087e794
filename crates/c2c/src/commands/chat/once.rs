//! One prompt, answered once.

use c2c_eval::Conversation;

use super::show::{self, Screen};
use super::{Talk, Who};
use crate::exit::{Failure, Outcome};

/// Answers and ends.
pub fn run(talk: &Talk<'_>, who: &[Who], prompt: &str) -> Outcome {
    let messages = Conversation::new(talk.args.system.clone()).with(prompt);
    let mut screen = (!talk.args.json).then(Screen::new);
    let answered = talk.replies(who, &messages, screen.as_mut())?;
    if talk.args.json {
        crate::print(&format!("{:#}\n", show::json(talk, prompt, &answered.replies)));
    }
    if answered.stopped { Err(Failure::Interrupted("interrupted; the reply ends here".into())) } else { Ok(()) }
}
