//! The Sharers of an evaluation beside the first, for the method `several` and its control.
//!
//! The Receiver is loaded once for all. So is a Sharer that several Fusers read, found by the folder that is named or, where
//! none is, by the hash of the weights that the Fuser was trained with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::{Dispatch, DispatchDevice};
use c2c_eval::journal::LinkHashes;
use c2c_eval::{FurtherSharer, SeveralSharers};
use c2c_export::artefact::{self, ModelId};
use c2c_fuser::{C2c, FusionOrder, Link};
use c2c_lm::Lm;
use c2c_recipe::{AlignmentSettings, EvalRecipe, LinkRef, ModelRef, SeveralSettings};
use c2c_text::{PairText, SectionCut, TokenMode, Tokenizer};
use serde_json::json;

use super::eval_recipe::{dtype_of, known, model_of, note_weights};
use crate::exit::{Failure, environment, usage};
use crate::{hub, models};

/// The pair that is there already.
pub struct First<'a> {
    /// Its models and Fuser.
    pub c2c: &'a C2c<Dispatch>,
    /// How it reads.
    pub text: &'a PairText,
    /// Its Sharer as the recipe or the Fuser names it.
    pub sharer: &'a ModelRef,
    /// Hash of the Receiver's weights.
    pub receiver_sha256: &'a str,
    /// Hash of the Sharer's weights.
    pub sharer_sha256: &'a str,
}

/// All that is fused beside the pair, and what says which they are.
pub struct Further {
    /// The models and Fusers.
    pub sharers: SeveralSharers<Dispatch>,
    /// Of those that are used, in their order.
    pub hashes: Vec<LinkHashes>,
    /// The further Sharers by role, as they are named.
    pub named: Vec<(String, ModelRef)>,
}

/// Loads the links of `[several]` that are used. `None` if nobody asks for them.
pub fn open(recipe: &EvalRecipe, first: &First<'_>, device: &DispatchDevice) -> Result<Option<Further>, Failure> {
    let Some(several) = &recipe.several else { return Ok(None) };
    if !recipe.evaluation.methods.iter().any(|method| method.fuses_several()) {
        eprintln!("note: evaluation.methods has no \"several\", so that [several] is not read");
        return Ok(None);
    }
    links(several, first, device).map(Some)
}

/// Loads the links that are used, whoever asks for them.
pub fn links(several: &SeveralSettings, first: &First<'_>, device: &DispatchDevice) -> Result<Further, Failure> {
    let used = several.used();
    let with_first = used.first().copied().unwrap_or(true);
    let mut further = Further {
        sharers: SeveralSharers { with_first, others: Vec::new(), order: order(several) },
        hashes: Vec::new(),
        named: Vec::new(),
    };
    let mut opening = Opening::new(first, with_first);
    let links = several.links.iter().enumerate().filter(|(place, _)| used.get(place + 1).copied().unwrap_or(true));
    for (place, link) in links {
        let (sharer, hashes, named) = opening.link(place, link, device)?;
        further.sharers.others.push(sharer);
        further.hashes.push(hashes);
        further.named.push((sharer_name(place + 2), named));
    }
    Ok(further)
}

/// What is known while links are loaded one after the other.
struct Opening<'a> {
    first: &'a First<'a>,
    /// The Sharers so far; that of the pair at the beginning.
    loaded: Vec<Loaded>,
    /// How all that are fused have to read, and who says so: the first of them.
    alignment: Option<(String, String)>,
}

impl<'a> Opening<'a> {
    fn new(first: &'a First<'a>, with_first: bool) -> Self {
        let own = Loaded {
            named: first.sharer.clone(),
            model: first.c2c.sharer.clone(),
            tokenizer: first.text.sharer_shared(),
            sha256: first.sharer_sha256.to_owned(),
        };
        let alignment = with_first.then(|| (sharer_name(1), reads(first.text.mode(), first.text.cut())));
        Self { first, loaded: vec![own], alignment }
    }

    /// Loads one of `several.links`.
    fn link(
        &mut self,
        place: usize,
        link: &LinkRef,
        device: &DispatchDevice,
    ) -> Result<(FurtherSharer<Dispatch>, LinkHashes, ModelRef), Failure> {
        let (first, name) = (self.first, sharer_name(place + 2));
        let folder = hub::fuser(&link.path_as_written, &link.path)?;
        let opened = artefact::load::<Dispatch>(&folder, device).map_err(environment)?;
        let config = opened.config;
        let settings: AlignmentSettings = known(json!(config.alignment), "alignment")?;
        let (mode, cut) = (models::token_mode(&settings), models::section_cut(&settings));
        let own = reads(mode, cut);
        let (whose, expected) = self.alignment.get_or_insert_with(|| (name.clone(), own.clone()));
        if own != *expected {
            return Err(usage(anyhow::anyhow!(
                "several.links[{place}].fuser: {} reads with {own}, the Fuser of {whose} with {expected}; \
                 fuse those whose sections are cut alike, or leave one out with several.use",
                link.path_as_written
            )));
        }
        note_weights("receiver", &link.path_as_written, &config.receiver, first.receiver_sha256);
        let named = sharer_of(link, &folder, &config.sharer, &self.loaded[0])?;
        let sharer = self.sharer(&named, device)?;
        note_weights(&name, &link.path_as_written, &config.sharer, &sharer.sha256);
        let text = first.text.with_sharer(sharer.tokenizer.clone(), mode).map_err(environment)?.with_cut(cut);
        let hashes = LinkHashes { fuser_sha256: config.weights_sha256, sharer_sha256: sharer.sha256.clone() };
        let link = Link { sharer: sharer.model.clone(), fuser: opened.fuser };
        let fits = link.fuser.check_models(&first.c2c.receiver, &link.sharer);
        fits.map_err(|error| environment(anyhow::anyhow!("several.links[{place}]: {}: {error}", folder.display())))?;
        Ok((FurtherSharer { link, text }, hashes, named))
    }

    /// The Sharer of this name, loaded if it isn't yet.
    fn sharer(&mut self, named: &ModelRef, device: &DispatchDevice) -> Result<&Loaded, Failure> {
        let at = match self.loaded.iter().position(|other| other.is(named)) {
            Some(at) => at,
            None => {
                self.loaded.push(Loaded::load(named.clone(), device)?);
                self.loaded.len() - 1
            }
        };
        Ok(&self.loaded[at])
    }
}

/// A Sharer that is loaded.
struct Loaded {
    named: ModelRef,
    model: Lm<Dispatch>,
    tokenizer: Arc<Tokenizer>,
    sha256: String,
}

impl Loaded {
    fn load(named: ModelRef, device: &DispatchDevice) -> Result<Self, Failure> {
        let found = models::find(&named, device)?;
        let model = found.weights(&found.folder, device)?;
        let sha256 = model.fingerprint().map_err(environment)?.to_string();
        Ok(Self { named, model, tokenizer: found.tokenizer, sha256 })
    }

    fn is(&self, other: &ModelRef) -> bool {
        self.named.path_hint == other.path_hint && self.named.dtype == other.dtype
    }
}

/// The Sharer of a link: the one that the recipe names, else the first if the Fuser was trained with its weights, else
/// the one that the Fuser names.
fn sharer_of(link: &LinkRef, folder: &Path, id: &ModelId, first: &Loaded) -> Result<ModelRef, Failure> {
    let named = match (&link.sharer, &link.sharer_hint) {
        (Some(model), hint) => {
            let path_hint = hint.clone().unwrap_or_else(|| PathBuf::from(model));
            ModelRef { model: model.clone(), path_hint, dtype: dtype_of(id)? }
        }
        (None, _) if id.weights_sha256.as_deref() == Some(first.sha256.as_str()) => first.named.clone(),
        (None, _) => model_of(None, id, folder)?,
    };
    Ok(ModelRef { dtype: link.dtype.unwrap_or(named.dtype), ..named })
}

fn sharer_name(number: usize) -> String {
    format!("sharer {number}")
}

fn order(several: &SeveralSettings) -> FusionOrder {
    match several.order {
        c2c_recipe::FusionOrder::Sequential => FusionOrder::Sequential,
        c2c_recipe::FusionOrder::Parallel => FusionOrder::Parallel,
    }
}

/// What decides which sections the Receiver's prompt is cut into, in the words of a recipe.
fn reads(mode: TokenMode, cut: SectionCut) -> String {
    let mode = match mode {
        TokenMode::Shared => return "alignment.mode = \"shared\"".to_owned(),
        TokenMode::Aligned(_) => "aligned",
    };
    let cut = match cut {
        SectionCut::Message => "message",
        SectionCut::Paragraph => "paragraph",
    };
    format!("alignment.mode = \"{mode}\" and alignment.sections = \"{cut}\"")
}
