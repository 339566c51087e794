//! Where messages come from: a terminal with editing and history, or lines of anything else.

use std::io::{BufRead, IsTerminal, Write};

use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Config, Editor};

use crate::exit::{Failure, environment};

/// What was read.
pub enum Typed {
    /// A message or a command.
    Text(String),
    /// Nothing: Ctrl-C, which takes a line back.
    Nothing,
    /// The end.
    End,
}

/// The reader of lines.
pub enum Input {
    /// Editing, and the messages of this conversation as history.
    Terminal(Box<Editor<(), MemHistory>>),
    /// Line by line.
    Plain {
        /// Somebody types, so that they have to be asked.
        asking: bool,
    },
}

impl Input {
    /// Stdin.
    pub fn open() -> Result<Self, Failure> {
        let (typing, seeing) = (std::io::stdin().is_terminal(), std::io::stdout().is_terminal());
        if !(typing && seeing) {
            return Ok(Self::Plain { asking: typing });
        }
        let editor = Editor::with_history(Config::default(), MemHistory::new());
        editor.map(|editor| Self::Terminal(Box::new(editor))).map_err(failed)
    }

    /// Whether somebody types.
    pub fn is_typed(&self) -> bool {
        matches!(self, Self::Terminal(_) | Self::Plain { asking: true })
    }

    /// The next message: lines up to the first that doesn't end in a backslash.
    pub fn next(&mut self, prompt: &str) -> Result<Typed, Failure> {
        let mut text = String::new();
        loop {
            let shown = if text.is_empty() { prompt } else { "... " };
            let line = match self.line(shown)? {
                Typed::Text(line) => line,
                // What was begun is a message, too.
                Typed::End if !text.is_empty() => break,
                other => return Ok(other),
            };
            match line.strip_suffix('\\') {
                Some(line) => {
                    text.push_str(line);
                    text.push('\n');
                }
                None => {
                    text.push_str(&line);
                    break;
                }
            }
        }
        if let Self::Terminal(editor) = self
            && !text.trim().is_empty()
        {
            // A history that takes no more is no reason to end.
            let _ = editor.add_history_entry(text.as_str());
        }
        Ok(Typed::Text(text))
    }

    fn line(&mut self, prompt: &str) -> Result<Typed, Failure> {
        match self {
            Self::Terminal(editor) => match editor.readline(prompt) {
                Ok(line) => Ok(Typed::Text(line)),
                Err(ReadlineError::Interrupted) => Ok(Typed::Nothing),
                Err(ReadlineError::Eof) => Ok(Typed::End),
                Err(error) => Err(failed(error)),
            },
            Self::Plain { asking } => {
                if *asking {
                    eprint!("{prompt}");
                    let _ = std::io::stderr().flush();
                }
                let mut line = String::new();
                match std::io::stdin().lock().read_line(&mut line).map_err(failed)? {
                    0 => Ok(Typed::End),
                    _ => Ok(Typed::Text(line.trim_end_matches(['\n', '\r']).to_owned())),
                }
            }
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    environment(anyhow::anyhow!("cannot read from stdin: {error}"))
}
