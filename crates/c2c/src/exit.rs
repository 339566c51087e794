//! Exit codes and the one error type of the binary.

/// What a command ends with.
#[derive(Debug)]
pub enum Failure {
    /// 1: a check failed.
    Check(anyhow::Error),
    /// 2: usage or recipe.
    Usage(anyhow::Error),
    /// 3: files, devices, models.
    Environment(anyhow::Error),
    /// 130: interrupted, with what was trained so far saved.
    Interrupted(String),
}

impl Failure {
    /// The process's exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Check(_) => 1,
            Self::Usage(_) => 2,
            Self::Environment(_) => 3,
            Self::Interrupted(_) => crate::signals::INTERRUPTED,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Check(e) | Self::Usage(e) | Self::Environment(e) => f.write_str(&plain(&told(e))),
            Self::Interrupted(text) => f.write_str(text),
        }
    }
}

/// A text whose control characters, which a terminal would obey, are escaped: errors quote files and servers.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// An error and its causes, less those that it has told itself.
fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// A command's result.
pub type Outcome = Result<(), Failure>;

/// Any error as an environment failure.
pub fn environment(error: impl Into<anyhow::Error>) -> Failure {
    Failure::Environment(error.into())
}

/// Any error as a usage failure.
pub fn usage(error: impl Into<anyhow::Error>) -> Failure {
    Failure::Usage(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_error_quotes_cannot_steer_the_terminal() {
        let quoted = environment(anyhow::anyhow!("x.json: unknown field `\u{1b}[2J\r`, expected\n\tone of these"));
        assert_eq!(quoted.to_string(), "x.json: unknown field `\\u{1b}[2J\\r`, expected\n\tone of these");
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = || std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let said = anyhow::Error::from(cause()).context("cannot read a.json: no such file; check the path");
        assert_eq!(usage(said).to_string(), "cannot read a.json: no such file; check the path");
        let unsaid = anyhow::Error::from(cause()).context("cannot read a.json");
        assert_eq!(usage(unsaid).to_string(), "cannot read a.json: no such file");
    }
}
