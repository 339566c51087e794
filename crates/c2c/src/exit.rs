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
            Self::Check(e) | Self::Usage(e) | Self::Environment(e) => write!(f, "{e:#}"),
            Self::Interrupted(text) => f.write_str(text),
        }
    }
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
