//! Parts of an evaluation that are done in different places.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Part `index` of `of`, counted from 1; 1 of 1 is all of it.
///
/// An evaluation is dealt out by whole units, not by questions: every batch holds the same questions as without shards,
/// so that all shards together give the records of the undivided evaluation, not merely ones that are as good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: usize,
    of: usize,
}

impl Shard {
    /// The undivided evaluation.
    pub const WHOLE: Self = Self { index: 1, of: 1 };

    /// Part `index` of `of`.
    ///
    /// # Errors
    /// An index that isn't between 1 and `of`.
    pub fn new(index: usize, of: usize) -> Result<Self, String> {
        if index == 0 || index > of {
            return Err(format!("{index}/{of}: expected I/N with I from 1 to N, such as 2/4"));
        }
        Ok(Self { index, of })
    }

    /// Which part, from 1.
    pub fn index(self) -> usize {
        self.index
    }

    /// Of how many.
    pub fn of(self) -> usize {
        self.of
    }

    /// Whether this part does the unit of this number.
    pub fn holds(self, unit: usize) -> bool {
        unit % self.of == self.index - 1
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        let (index, of) = numbers.ok_or_else(|| format!("{text:?}: expected I/N, such as 2/4"))?;
        Self::new(index, of)
    }
}

impl TryFrom<String> for Shard {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_unit_has_one_shard() {
        for of in 1..5 {
            for unit in 0..20 {
                let holders = (1..=of).filter(|index| Shard::new(*index, of).unwrap().holds(unit)).count();
                assert_eq!(holders, 1, "unit {unit} of {of} shards");
            }
        }
        assert!((0..9).all(|unit| Shard::WHOLE.holds(unit)));
    }

    #[test]
    fn a_shard_is_written_as_it_is_read() {
        let shard: Shard = "2/4".parse().unwrap();
        assert_eq!((shard.index(), shard.of(), shard.to_string().as_str()), (2, 4, "2/4"));
        assert_eq!(serde_json::from_str::<Shard>("\"2/4\"").unwrap(), shard);
        for bad in ["0/4", "5/4", "1", "a/b", "1/0", "-1/2", "1/2/3"] {
            assert!(bad.parse::<Shard>().unwrap_err().contains("expected I/N"), "{bad}");
        }
    }
}
