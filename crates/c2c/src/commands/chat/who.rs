//! `--method`: who answers.

use std::str::FromStr;

use c2c_eval::Speaker;

use crate::exit::{Failure, usage};

/// Who answers, as typed: `c2c`, `receiver`, `sharer`, `sharer:2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The Receiver on the fused cache.
    C2c,
    /// The Receiver alone.
    Receiver,
    /// A Sharer alone, counted from 0.
    Sharer(usize),
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            Err(format!("nobody is called `{text}`: expected c2c, receiver, sharer, or of several sharers sharer:N"))
        };
        match text {
            "c2c" => Ok(Self::C2c),
            "receiver" => Ok(Self::Receiver),
            "sharer" => Ok(Self::Sharer(0)),
            _ => match text.strip_prefix("sharer:").map(str::parse::<usize>) {
                Some(Ok(number)) if number > 0 => Ok(Self::Sharer(number - 1)),
                _ => refuse(),
            },
        }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::C2c => f.write_str("c2c"),
            Self::Receiver => f.write_str("receiver"),
            Self::Sharer(0) => f.write_str("sharer"),
            Self::Sharer(place) => write!(f, "sharer:{}", place + 1),
        }
    }
}

impl From<Who> for Speaker {
    fn from(who: Who) -> Self {
        match who {
            Who::C2c => Self::C2c,
            Who::Receiver => Self::Receiver,
            Who::Sharer(place) => Self::Sharer(place),
        }
    }
}

impl Who {
    /// The pair, then each of its models alone.
    pub fn all(sharers: usize) -> Vec<Self> {
        [Self::C2c, Self::Receiver].into_iter().chain((0..sharers).map(Self::Sharer)).collect()
    }

    /// Each once, in the order as named; refuses a Sharer that isn't there.
    pub fn chosen(named: &[Self], sharers: usize) -> Result<Vec<Self>, Failure> {
        let mut chosen: Vec<Self> = Vec::new();
        for who in named {
            if let Self::Sharer(place) = who
                && *place >= sharers
            {
                let there = if sharers == 1 { "one sharer".to_owned() } else { format!("{sharers} sharers") };
                return Err(usage(anyhow::anyhow!("`{who}`: there is {there}; each --fuser brings one")));
            }
            if !chosen.contains(who) {
                chosen.push(*who);
            }
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for who in Who::all(3) {
            assert_eq!(who.to_string().parse::<Who>().unwrap(), who);
        }
        assert_eq!("sharer:1".parse::<Who>().unwrap(), Who::Sharer(0));
        for bad in ["Sharer", "sharer:0", "sharer:", "sharer:x", "", "fuser"] {
            let told = bad.parse::<Who>().unwrap_err();
            assert!(told.contains("c2c, receiver, sharer") && told.contains(bad), "{told}");
        }
    }

    #[test]
    fn each_is_asked_once() {
        let named = [Who::Sharer(1), Who::C2c, Who::Sharer(1)];
        assert_eq!(Who::chosen(&named, 2).unwrap(), [Who::Sharer(1), Who::C2c]);
        assert!(Who::chosen(&named, 1).unwrap_err().to_string().contains("one sharer"));
    }
}
