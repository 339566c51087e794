//! A case folder of the pipeline fixtures: models, fusers and runs.

use std::path::{Path, PathBuf};

use c2c_fuser::{C2c, FusionOrder, PairBatch};
use c2c_lm::{Lm, ModelDtype};
use c2c_tests::{B, Fixture, device, pair_batch};
use serde_json::Value;

/// One run of a case.
#[derive(Debug)]
pub struct Run {
    pub name: String,
    /// Length and sharer bits; -1 is not fused.
    pub sections: Vec<(usize, i64)>,
    /// How several sharers are joined.
    pub order: FusionOrder,
}

impl Run {
    /// The one sharer that this run fuses with: its index, 0 too where nothing is fused. `None` where several are joined.
    ///
    /// The mode is of no matter then: a sharer that is alone has no other to run before, after or beside.
    pub fn sharer(&self) -> Option<usize> {
        let mut masks: Vec<i64> = self.sections.iter().map(|s| s.1).filter(|m| *m > 0).collect();
        masks.dedup();
        match masks[..] {
            [] => Some(0),
            [mask] if mask.count_ones() == 1 => Some(mask.trailing_zeros() as usize),
            _ => None,
        }
    }

    /// True if any section is fused.
    pub fn fuses(&self) -> bool {
        self.sections.iter().any(|s| s.1 > 0)
    }

    /// The batch of this run.
    pub fn batch(&self, expected: &Fixture) -> PairBatch {
        pair_batch(expected, &self.name, &self.sections)
    }
}

/// A case folder.
pub struct Case {
    dir: PathBuf,
    json: Value,
    pub expected: Fixture,
    pub runs: Vec<Run>,
    pub receiver: Lm<B>,
}

fn model(dir: &Path) -> Lm<B> {
    Lm::from_dir(dir, ModelDtype::F32, &device()).unwrap()
}

impl Case {
    pub fn open(dir: &Path) -> Self {
        let text = std::fs::read_to_string(dir.join("case.json")).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let section = |s: &Value| (s[0].as_u64().unwrap() as usize, s[1].as_i64().unwrap());
        let run = |r: &Value| Run {
            name: r["name"].as_str().unwrap().to_owned(),
            sections: r["sections"].as_array().unwrap().iter().map(section).collect(),
            order: match r["mode"].as_str().unwrap() {
                "sequential" => FusionOrder::Sequential,
                "parallel" => FusionOrder::Parallel,
                other => panic!("unknown mode {other}"),
            },
        };
        let runs: Vec<Run> = json["runs"].as_array().unwrap().iter().map(run).collect();
        assert!(runs.iter().any(|r| r.sharer().is_some()), "{}: no run with one sharer", dir.display());
        let receiver = model(&dir.join(json["receiver"].as_str().unwrap()));
        let expected = Fixture::open(&dir.join("expected.safetensors"));
        Self { dir: dir.to_owned(), json, expected, runs, receiver }
    }

    /// How many sharers the case has.
    pub fn sharers(&self) -> usize {
        self.json["sharers"].as_array().unwrap().len()
    }

    /// The layer map of a sharer, as the case says.
    pub fn layer_map(&self, sharer: usize) -> Vec<usize> {
        let map = self.json["source_layer"][sharer].as_array().unwrap();
        map.iter().map(|l| l.as_u64().unwrap() as usize).collect()
    }

    /// How the layer map was made.
    pub fn mapping(&self) -> &str {
        self.json["mapping"].as_str().unwrap()
    }

    /// The receiver joined with one sharer by its published fuser.
    pub fn pair(&self, sharer: usize) -> C2c<B> {
        let folder = |list: &str| self.dir.join(self.json[list][sharer].as_str().unwrap());
        let sharer_model = model(&folder("sharers"));
        let published = c2c_export::published::load::<B>(
            &folder("fusers"),
            self.receiver.config(),
            sharer_model.config(),
            &device(),
        )
        .unwrap();
        C2c::new(self.receiver.clone(), sharer_model, published.fuser).unwrap()
    }

    /// The runs that one sharer can do, with that sharer's index.
    pub fn single_runs(&self) -> impl Iterator<Item = (&Run, usize)> {
        self.runs.iter().filter_map(|r| r.sharer().map(|s| (r, s)))
    }
}
