//! Lines that begin with a slash.

use super::who::Who;

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// An answer.
    Say(String),
    /// The list of these.
    Help,
    /// A conversation from its beginning.
    Reset,
    /// Another system prompt, or none.
    System(Option<String>),
    /// Others who answer; nobody named: who they are.
    Method(Vec<Who>),
    /// Which layers are open.
    Gates,
    /// The end.
    Quit,
}

/// The words, what stands behind them, and what they do.
const WORDS: [(&str, &str, &str); 6] = [
    ("/help", "", "this list"),
    ("/reset", "", "forget the turns so far"),
    ("/system", "[TEXT]", "set the system prompt; without a text, take it away"),
    ("/method", "[WHO...]", "who answers: c2c, receiver, sharer; several are asked one after the other"),
    ("/gates", "", "which layers of the fuser are open"),
    ("/quit", "", "end, as Ctrl-D does"),
];

/// How like a word a mistyped one is at least, from 0 to 1.
const NEAR: f64 = 0.5;

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(line: &str) -> Result<Self, String> {
        let text = line.trim();
        if let Some(said) = text.strip_prefix("//") {
            return Ok(Self::Say(format!("/{said}")));
        }
        if !text.starts_with('/') {
            return Ok(Self::Say(text.to_owned()));
        }
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let line = match word {
            "/help" => Self::Help,
            "/reset" => Self::Reset,
            "/system" => return Ok(Self::System((!rest.is_empty()).then(|| rest.to_owned()))),
            "/method" => {
                let words = rest.split([' ', '\t', ',']).filter(|word| !word.is_empty());
                return words.map(str::parse).collect::<Result<_, _>>().map(Self::Method);
            }
            "/gates" => Self::Gates,
            "/quit" | "/exit" => Self::Quit,
            _ => return Err(unknown(word)),
        };
        match rest {
            "" => Ok(line),
            rest => Err(format!("{word} takes nothing behind it, found `{rest}`")),
        }
    }
}

fn unknown(word: &str) -> String {
    let like = |known: &str| strsim::normalized_damerau_levenshtein(word, known);
    let nearest = WORDS.iter().map(|(known, _, _)| (like(known), *known)).max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match nearest {
        Some((near, known)) if near >= NEAR => format!("did you mean {known}?"),
        _ => format!("there are {}", WORDS.map(|(known, _, _)| known).join(", ")),
    };
    format!("unknown command `{word}`: {hint} (a message that begins with a slash is typed with two)")
}

/// The list for `/help`.
pub fn help() -> String {
    let line = |(word, rest, does): &(&str, &str, &str)| format!("  {:<18} {does}\n", format!("{word} {rest}"));
    let mut text: String = WORDS.iter().map(line).collect();
    text.push_str(
        "A backslash at the end of a line goes on in the next one. Two slashes begin a message with a slash.\n\
         Ctrl-C ends a reply, Ctrl-D the conversation.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn lines_are_messages_or_commands() {
        let read = |line| Line::read(line).unwrap();
        assert_eq!(read("  What is it? "), Line::Say("What is it?".into()));
        assert_eq!(read("//help me"), Line::Say("/help me".into()));
        assert_eq!(read("/system  Be brief. "), Line::System(Some("Be brief.".into())));
        assert_eq!(read("/system"), Line::System(None));
        assert_eq!(read("/method receiver, sharer:2"), Line::Method(vec![Who::Receiver, Who::Sharer(1)]));
        assert_eq!(read("/method"), Line::Method(vec![]));
        assert_eq!([read("/help"), read("/quit"), read("/exit")], [Line::Help, Line::Quit, Line::Quit]);
    }

    #[test]
    fn a_mistyped_command_is_told_with_the_nearest() {
        let refused = |line| Line::read(line).unwrap_err();
        assert!(refused("/rest").contains("did you mean /reset?"), "{}", refused("/rest"));
        assert!(refused("/metod c2c").contains("did you mean /method?"));
        let far = refused("/zzzzzzzz");
        assert!(WORDS.iter().all(|(word, _, _)| far.contains(word)), "{far}");
        assert!(refused("/reset now").contains("`now`"));
        assert!(refused("/method recever").contains("recever"));
    }

    #[test]
    fn every_command_of_the_list_is_read() {
        for (word, _, _) in WORDS {
            assert!(Line::read(word).is_ok(), "{word}");
            assert!(help().contains(word), "{word}");
        }
    }
}
