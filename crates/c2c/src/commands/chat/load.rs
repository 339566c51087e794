//! The models of a conversation, as the command line names them.

use std::path::{Path, PathBuf};

use burn::{Dispatch, DispatchDevice};
use c2c_eval::SeveralSharers;
use c2c_export::artefact::{self, ModelId};
use c2c_fuser::{C2c, Fuser};
use c2c_hub::Need;
use c2c_lm::Lm;
use c2c_recipe::{Dtype, FusionOrder, LinkRef, ModelRef, SeveralSettings};
use c2c_text::PairText;

use super::Args;
use crate::commands::eval_recipe::{dtype_of, fingerprints, folder_or_id, model_of, models_of};
use crate::commands::eval_several::{self, First};
use crate::exit::{Failure, environment, usage};
use crate::hub;

/// A pair, perhaps with further Sharers, and what they are called.
pub struct Loaded {
    pub c2c: C2c<Dispatch>,
    pub text: PairText,
    pub several: Option<SeveralSharers<Dispatch>>,
    pub receiver: String,
    pub receiver_folder: PathBuf,
    /// A Fuser each, with the Sharer that it links with the Receiver.
    pub links: Vec<Linked>,
}

/// A Fuser and its Sharer by name.
pub struct Linked {
    pub fuser: String,
    pub sharer: String,
    pub sharer_folder: PathBuf,
    /// For each of the Receiver's layers the Sharer's that is read.
    pub layer_map: Vec<usize>,
    /// The gates' logits by layer; open above 0, infinite where there is no gate.
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
}

impl Linked {
    fn of(fuser: &Path, sharer: &ModelRef, network: &Fuser<Dispatch>) -> Result<Self, Failure> {
        let (keys, values) = network.gate_logits().map_err(environment)?;
        let layer_map = network.config().layer_map.clone();
        let sharer_folder = folder(sharer)?;
        Ok(Self { fuser: short(fuser), sharer: name(sharer), sharer_folder, layer_map, keys, values })
    }

    /// Open gates of keys and of values.
    pub fn open(&self) -> [usize; 2] {
        [&self.keys, &self.values].map(|logits| logits.iter().filter(|logit| **logit > 0.0).count())
    }
}

impl Loaded {
    /// Finds and loads everything.
    pub fn new(args: &Args, device: &DispatchDevice) -> Result<Self, Failure> {
        if args.sharer.len() > args.fuser.len() {
            return Err(usage(anyhow::anyhow!(
                "{} sharers for {} fusers: give --sharer once for each --fuser, in the same order",
                args.sharer.len(),
                args.fuser.len()
            )));
        }
        let mut fusers = args.fuser.iter();
        // The parser wants one at least.
        let Some(first) = fusers.next() else { return Err(usage(anyhow::anyhow!("no fuser: give --fuser DIR"))) };
        let written = folder_or_id(first)?;
        let beside = hub::fuser(&written.to_string_lossy(), &written)?;
        let opened = artefact::load::<Dispatch>(&beside, device).map_err(environment)?;
        let config = &opened.config;
        let named = |word: Option<&String>, id: &ModelId| {
            let model = match word {
                Some(word) => ModelRef { model: word.clone(), path_hint: PathBuf::from(word), dtype: dtype_of(id)? },
                None => model_of(None, id, &beside)?,
            };
            Ok::<_, Failure>(ModelRef { dtype: args.dtype.unwrap_or(model.dtype), ..model })
        };
        let receiver = named(args.receiver.as_ref(), &config.receiver)?;
        let sharer = named(args.sharer.first(), &config.sharer)?;
        let pair = models_of(config, [&receiver, &sharer], device)?;
        let [receiver_sha256, sharer_sha256] = fingerprints(config, &pair)?;
        let mut links = vec![Linked::of(&written, &sharer, &opened.fuser)?];
        let c2c = C2c::new(pair.receiver, pair.sharer, opened.fuser).map_err(environment)?;
        let further = fusers.zip(1..).map(|(fuser, place)| link(fuser, args.sharer.get(place), args.dtype));
        let further: Vec<LinkRef> = further.collect::<Result<_, _>>()?;
        let mut several = None;
        if !further.is_empty() {
            let first = First {
                c2c: &c2c,
                text: &pair.text,
                sharer: &sharer,
                receiver_sha256: &receiver_sha256,
                sharer_sha256: &sharer_sha256,
            };
            let settings = SeveralSettings {
                links: further,
                order: order(args.fusion_order.as_deref()),
                use_as_written: "all".into(),
            };
            let opened = eval_several::links(&settings, &first, device)?;
            for ((other, (_, model)), link) in opened.sharers.others.iter().zip(&opened.named).zip(&settings.links) {
                links.push(Linked::of(&link.path, model, &other.link.fuser)?);
            }
            several = Some(opened.sharers);
        }
        let receiver_folder = folder(&receiver)?;
        Ok(Self { receiver: name(&receiver), receiver_folder, text: pair.text, c2c, several, links })
    }

    /// The Sharers in the order of their Fusers.
    pub fn sharers(&self) -> impl Iterator<Item = &Lm<Dispatch>> {
        let others = self.several.iter().flat_map(|several| several.others.iter().map(|other| &other.link.sharer));
        std::iter::once(&self.c2c.sharer).chain(others)
    }
}

/// A further Fuser, as a recipe would name it.
fn link(fuser: &Path, sharer: Option<&String>, dtype: Option<Dtype>) -> Result<LinkRef, Failure> {
    let path = folder_or_id(fuser)?;
    let path_as_written = path.display().to_string();
    let sharer_hint = sharer.map(PathBuf::from);
    Ok(LinkRef { path, path_as_written, sharer: sharer.cloned(), sharer_hint, dtype })
}

fn order(word: Option<&str>) -> FusionOrder {
    match word {
        Some(word) if word == FusionOrder::Parallel.as_str() => FusionOrder::Parallel,
        _ => FusionOrder::Sequential,
    }
}

/// The folder of a model that has been found before.
fn folder(model: &ModelRef) -> Result<PathBuf, Failure> {
    hub::model(&model.model, &model.path_hint, Need::Text)
}

fn name(model: &ModelRef) -> String {
    if model.path_hint.is_dir() { short(&model.path_hint) } else { model.model.clone() }
}

/// A folder as seen from the current one, if it lies in it. What is none stays as it is.
fn short(path: &Path) -> String {
    let Ok(whole) = path.canonicalize() else { return path.display().to_string() };
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    let inner = here.ok().and_then(|here| whole.strip_prefix(here).ok().map(Path::to_owned));
    match inner {
        Some(inner) if !inner.as_os_str().is_empty() => inner.display().to_string(),
        _ => whole.display().to_string(),
    }
}
