//! Where published data has its home, and the place that a recipe's words mean there.

use std::path::Path;

use crate::Place;

/// Where a data set is published, and what of it is usually read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Home {
    /// Its id on the Hugging Face hub; empty if it has none.
    pub hub: &'static str,
    /// The configuration that is read if none is chosen.
    pub config: Option<&'static str>,
    /// The split that is read if none is chosen.
    pub split: Option<&'static str>,
    /// Of LongBench, whether LongBench-E is read if no configuration is chosen. Its configurations are `e` and `standard` or a
    /// task, and its split is told by the rows, not by files. `None` for everything else.
    pub extended: Option<bool>,
}

/// What a recipe says of where a source's data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Said<'a> {
    /// The path or hub id as written.
    pub written: Option<&'a str>,
    /// The path that it means here, which need not exist.
    pub path: Option<&'a Path>,
    /// Commit or branch of a hub id.
    pub revision: Option<&'a str>,
    /// Configuration.
    pub config: Option<&'a str>,
    /// Split.
    pub split: Option<&'a str>,
}

impl Home {
    /// The place that is meant: what is said, and what is usual here where nothing is.
    pub fn place<'a>(self, said: &Said<'a>) -> Place<'a> {
        let written = said.written.unwrap_or(self.hub);
        let (extended, config) = match (self.extended, said.config) {
            (Some(_), Some("e")) => (Some(true), None),
            (Some(_), Some("standard")) => (Some(false), None),
            (usual, None) => (usual, None),
            (_, config) => (None, config),
        };
        Place {
            written,
            path: said.path.map_or_else(|| written.into(), Path::to_owned),
            revision: said.revision,
            config,
            usual_config: self.config,
            extended,
            split: said.split.filter(|_| self.extended.is_none()),
            usual_split: self.split,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_goes_before_what_is_usual() {
        let home = Home { hub: "org/set", config: Some("all"), split: Some("test"), extended: None };
        let usual = home.place(&Said::default());
        assert_eq!((usual.written, usual.path.as_path()), ("org/set", Path::new("org/set")));
        assert_eq!(
            (usual.config, usual.usual_config, usual.split, usual.usual_split),
            (None, Some("all"), None, Some("test"))
        );
        let said = Said {
            written: Some("data"),
            path: Some(Path::new("/x/data")),
            revision: Some("abc"),
            config: Some("e"),
            split: Some("val"),
        };
        let place = home.place(&said);
        assert_eq!((place.written, place.path.as_path(), place.revision), ("data", Path::new("/x/data"), Some("abc")));
        // Only LongBench has a configuration of that meaning.
        assert_eq!((place.config, place.extended, place.split), (Some("e"), None, Some("val")));
    }

    #[test]
    fn longbench_has_sets_and_tasks_for_configurations() {
        for usual in [true, false] {
            let home = Home { hub: "THUDM/LongBench", extended: Some(usual), ..Home::default() };
            let place = |config| home.place(&Said { config, split: Some("train"), ..Said::default() });
            assert_eq!((place(None).extended, place(None).config), (Some(usual), None));
            assert_eq!((place(Some("e")).extended, place(Some("standard")).extended), (Some(true), Some(false)));
            assert_eq!((place(Some("qasper")).extended, place(Some("qasper")).config), (None, Some("qasper")));
            // Rows, not files, are of a split.
            assert_eq!(place(None).split, None);
        }
    }
}
