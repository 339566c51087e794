//! `README.md`: the card that people and model hubs read.

mod data;
mod gates;

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::config::{ArtefactConfig, ModelId};
use super::format::WeightsDtype;

/// How one method did on held-out questions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultRow {
    /// Who answered: `receiver`, `sharer`, `c2c`, ..
    pub method: String,
    /// Right answers.
    pub correct: usize,
    /// Questions.
    pub total: usize,
    /// `correct / total`.
    pub accuracy: f64,
    /// Lower end of the 95 % interval of the accuracy.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Mean time a question took, in milliseconds.
    pub ms_per_question: f64,
}

/// What was asked for such rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The sources of the questions.
    pub sources: Vec<String>,
    /// Why these aren't the figures of all of their questions; empty if they are.
    pub partial: Vec<String>,
    /// How much of prompts was fused, in words; none if all of them were.
    pub fused: Option<String>,
}

/// The heading of the section of results.
pub(super) const RESULTS_HEADING: &str = "Results";

/// What a card's folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CardOf {
    /// The artefact.
    Artefact,
    /// Burn's own file.
    Burnpack,
    /// The layout of the reference implementation.
    Published,
    /// An ONNX graph.
    Onnx {
        /// Whether its weights lie in a file of their own.
        external: bool,
    },
}

/// The card. `gates` are the logits of keys and of values, by layer.
pub(crate) fn render(
    of: CardOf,
    config: &ArtefactConfig,
    gates: (&[f32], &[f32]),
    results: (&[ResultRow], &Asked),
) -> String {
    let mut card = front_matter(of, config);
    // Writing to a string can't fail.
    let _ = intro(&mut card, config)
        .and_then(|()| pair(&mut card, config))
        .and_then(|()| data::section(&mut card, config))
        .and_then(|()| gates::section(&mut card, config, gates))
        .and_then(|()| result_table(&mut card, results))
        .and_then(|()| match of {
            CardOf::Artefact => usage(&mut card, config),
            CardOf::Burnpack => writeln!(card, "## Use\n\n{BURNPACK_USE}"),
            CardOf::Published => writeln!(card, "## Use\n\n{PUBLISHED_USE}"),
            CardOf::Onnx { external } => crate::onnx::usage(&mut card, config, external),
        });
    card
}

const BURNPACK_USE: &str = "For programs in Rust with the crates `burn-store`, `c2c-fuser` and `c2c-export`:\n\n```rust\n\
    use burn_store::ModuleSnapshot;\n\
    let config = c2c_export::artefact::read_config(\"path/to/this/folder\".as_ref())?.fuser;\n\
    let mut fuser = c2c_fuser::Fuser::<B>::init(&config, 0, &device)?;\n\
    fuser.load_from(&mut burn_store::BurnpackStore::from_file(\"path/to/this/folder/fuser.bpk\"))?;\n```\n\n\
    `c2c eval` reads the artefact that this was exported from, not this file.";
const PUBLISHED_USE: &str = "The layout of the reference implementation ([thu-nics/C2C](https://github.com/thu-nics/C2C)), which loads the \
    folder `final`. `c2c import path/to/this/folder --out DIR` makes a folder of it that `c2c eval` reads.";

fn front_matter(of: CardOf, config: &ArtefactConfig) -> String {
    // A JSON string is a YAML string.
    let quoted = |name: &str| serde_json::Value::from(name).to_string();
    // A hub refuses a card that names a folder here.
    let ids: Vec<&str> =
        [&config.receiver.name, &config.sharer.name].into_iter().filter_map(|name| hub_id(name)).collect();
    let mut base: String = ids.iter().map(|id| format!("- {}\n", quoted(id))).collect();
    if !base.is_empty() {
        base.insert_str(0, "base_model:\n");
    }
    // Hubs list what ONNX Runtime can load by this tag.
    let onnx = if matches!(of, CardOf::Onnx { .. }) { "- onnx\n" } else { "" };
    // Under which licence a fuser may be given away depends on its models and data: that is for its owner to say.
    format!("---\nlibrary_name: {LIBRARY}\n{base}tags:\n- c2c\n- cache-to-cache\n- kv-cache\n{onnx}---\n\n")
}

/// The library that hubs show.
const LIBRARY: &str = "c2c";

/// The hub id in a model's name, without its revision; `None` for what can only be a folder.
fn hub_id(name: &str) -> Option<&str> {
    let id = name.split('@').next().unwrap_or(name);
    let part = |part: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        !part.is_empty() && !part.starts_with(['.', '-']) && part.chars().all(good)
    };
    id.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name)).then_some(id)
}

/// What a card tells hubs. Keys that aren't listed here are left to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FrontMatter {
    /// What the folder is loaded with.
    pub library_name: String,
    /// The hub ids of the two models, if they are from a hub.
    pub base_model: Vec<String>,
    /// The licence, if it is known.
    pub license: Option<String>,
}

impl FrontMatter {
    /// Reads the front matter of a card, or says what is wrong: key, found, expected.
    pub(crate) fn read(card: &[u8]) -> Result<Self, (&'static str, String, &'static str)> {
        let text = String::from_utf8_lossy(card).replace("\r\n", "\n");
        let Some((yaml, _)) = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n")) else {
            let found = text.lines().next().unwrap_or_default().chars().take(80).collect::<String>();
            return Err(("front matter", format!("`{found}` in the first line"), "YAML between two lines of `---`"));
        };
        let read: Self = serde_saphyr::from_str(yaml).map_err(|e| {
            let reason = e.to_string().lines().next().unwrap_or_default().to_owned();
            ("front matter", reason, "YAML with library_name, and base_model as a list")
        })?;
        if read.library_name != LIBRARY {
            return Err(("library_name", format!("`{}`", read.library_name), "`c2c`"));
        }
        Ok(read)
    }
}

fn intro(out: &mut String, config: &ArtefactConfig) -> std::fmt::Result {
    let (receiver, sharer) = (cell(&config.receiver.name), cell(&config.sharer.name));
    writeln!(out, "# Cache-to-Cache Fuser: {sharer} to {receiver}\n")?;
    writeln!(
        out,
        "With this Fuser, {receiver} (the Receiver) answers a prompt with the help of what {sharer} (the Sharer) has read in \
         it: layer by layer, the Sharer's KV cache is projected into the Receiver's and added to it \
         ([Cache-to-Cache](https://arxiv.org/abs/2510.03215)). Both models stay as they are and are not part of this folder. \
         The Fuser fits exactly these two, in the shapes given below.\n"
    )
}

fn pair(out: &mut String, config: &ArtefactConfig) -> std::fmt::Result {
    let row = |what: &str, of: &dyn Fn(&ModelId) -> String| {
        format!("| {what} | {} | {} |\n", cell(&of(&config.receiver)), cell(&of(&config.sharer)))
    };
    writeln!(out, "## Pair\n\n| | Receiver | Sharer |\n|---|---|---|")?;
    out.push_str(&row("model", &|m| m.name.clone()));
    out.push_str(&row("type", &|m| m.model_type.clone()));
    out.push_str(&row("layers", &|m| m.layers.to_string()));
    out.push_str(&row("key and value heads x width", &|m| format!("{} x {}", m.kv_heads, m.head_dim)));
    out.push_str(&row("vocabulary", &|m| m.vocab_size.to_string()));
    let unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    out.push_str(&row("number format", &|m| unknown(&m.dtype)));
    out.push_str(&row("sha256 of the weights", &|m| unknown(&m.weights_sha256)));
    let (fuser, alignment) = (&config.fuser, &config.alignment);
    let mapping = config.layer_mapping.map(|mapping| serde_json::to_value(mapping).unwrap_or_default());
    write!(
        out,
        "\n{} parameters in {}: hidden width {}, inner width {}, {} layers a Fuser. Layer alignment: {}. Token alignment: {}",
        fuser.num_params(),
        config.weights.dtype.as_str(),
        fuser.hidden_dim,
        fuser.intermediate_dim,
        fuser.num_layers,
        mapping.as_ref().and_then(|m| m.as_str()).unwrap_or("its own"),
        cell(&alignment.mode),
    )?;
    // With shared ids there is nothing to align.
    if alignment.mode != "shared" {
        write!(out, ", {}", cell(&alignment.strategy))?;
    }
    match &config.training {
        Some(training) => writeln!(
            out,
            ". Trained for {} steps by the recipe `{}` (sha256 {}), seed {}, down to gate temperature {}.\n",
            training.steps,
            cell(&training.recipe_name),
            cell(&training.recipe_hash),
            training.seed,
            training.final_temperature,
        )?,
        None => writeln!(out, ". How it was trained is unknown.\n")?,
    }
    origin(out, config)?;
    weights(out, config)
}

fn origin(out: &mut String, config: &ArtefactConfig) -> std::fmt::Result {
    let Some(origin) = &config.origin else { return Ok(()) };
    writeln!(
        out,
        "Imported from `{}`: class {}, layout of {}, {}, files sha256 {}. That layout doesn't name the weights of the two models: \
         whether yours are those that the Fuser was trained with can't be checked.\n",
        cell(&origin.name),
        cell(&origin.class),
        cell(&origin.layout),
        cell(&origin.dtype),
        cell(&origin.files_sha256),
    )
}

fn weights(out: &mut String, config: &ArtefactConfig) -> std::fmt::Result {
    let format = &config.weights;
    if !config.fuser.parts.is_whole() {
        let parts = config.fuser.parts;
        let named =
            [("head weights", parts.weights), ("gates", parts.gates), ("the Receiver's own cache", parts.receiver)];
        let left: Vec<&str> = named.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect();
        writeln!(out, "An ablation without {}.\n", left.join(", "))?;
    }
    if config.fuser.all_in_one.is_some() {
        writeln!(
            out,
            "An all-in-one network, the older one of the reference implementation: its inner width is that of the weights' \
             network, its layers are linear maps, and keys and values share their gates.\n"
        )?;
    }
    if !format.shut.is_empty() {
        writeln!(
            out,
            "Of {} key and value branches, the {} whose gate is shut aren't in the file: they do nothing at inference. Such a \
             Fuser can't be trained further.\n",
            config.fuser.branches(),
            format.shut.len()
        )?;
    }
    let Some(loss) = &format.loss else { return Ok(()) };
    // What was rounded once may lie in f32 again.
    let what = if format.dtype == WeightsDtype::F32 { "rounded earlier" } else { format.dtype.as_str() };
    writeln!(
        out,
        "Against the Fuser before its values were rounded, on {} tokens of random caches (seed {}), as shares of the root mean square \
         of its result:\n\n\
         | {} | mean | largest |\n|---|---|---|\n| fused keys | {:.1e} | {:.1e} |\n| fused values | {:.1e} | {:.1e} |\n",
        loss.tokens, loss.seed, what, loss.key_mean, loss.key_max, loss.value_mean, loss.value_max,
    )
}

fn result_table(out: &mut String, (results, asked): (&[ResultRow], &Asked)) -> std::fmt::Result {
    if results.is_empty() {
        return Ok(());
    }
    writeln!(out, "## {RESULTS_HEADING}\n")?;
    if !asked.sources.is_empty() {
        let sources: Vec<String> = asked.sources.iter().map(|source| cell(source)).collect();
        writeln!(out, "Questions: {}. Whether any of them were trained on isn't checked here.\n", sources.join("; "))?;
    }
    if !asked.partial.is_empty() {
        let reasons: Vec<String> = asked.partial.iter().map(|reason| cell(reason)).collect();
        writeln!(out, "**PARTIAL**: {}; these are no figures of the whole set.\n", reasons.join(", "))?;
    }
    if let Some(part) = &asked.fused {
        writeln!(out, "Fused in part: {}.\n", cell(part))?;
    }
    writeln!(out, "| method | accuracy | 95 % interval | correct | ms a question |\n|---|---|---|---|---|")?;
    for r in results {
        writeln!(
            out,
            "| {} | {:.1} % | {:.1} to {:.1} % | {} of {} | {:.1} |",
            cell(&r.method),
            100.0 * r.accuracy,
            100.0 * r.low,
            100.0 * r.high,
            r.correct,
            r.total,
            r.ms_per_question
        )?;
    }
    writeln!(out)
}

fn usage(out: &mut String, config: &ArtefactConfig) -> std::fmt::Result {
    let quoted = |name: &str| serde_json::Value::from(name).to_string();
    writeln!(
        out,
        "## Use\n\n`c2c eval --fuser path/to/this/folder --questions multiple_choice=questions.jsonl` asks the two models named above. \
         For more, name this folder and the two models in an evaluation recipe, then run `c2c eval RECIPE`:\n\n```toml\n\
         kind = \"eval\"\nname = \"mine\"\n\n[artefact]\npath = \"path/to/this/folder\"\n\n[receiver]\nmodel = {}\n\n\
         [sharer]\nmodel = {}\n\n[evaluation]\nsources = [ {{ kind = \"multiple_choice\", path = \"questions.jsonl\" }} ]\n```\n",
        quoted(&config.receiver.name),
        quoted(&config.sharer.name)
    )?;
    let f = &config.fuser;
    let formats = if f.all_in_one.is_some() {
        "`--format pytorch`, `burnpack`"
    } else {
        "`--format pytorch`, `onnx`, `burnpack`"
    };
    writeln!(
        out,
        "`c2c parity RECIPE --card` compares devices with the CPU and writes the result into this card; `c2c export` writes other \
         formats ({formats}).\n\n\
         In Rust, with the crates `burn`, `c2c-export`, `c2c-fuser` and `c2c-lm`, from one pair of caches to another:\n\n```rust\n\
         let fuser = c2c_export::artefact::load::<B>(\"path/to/this/folder\".as_ref(), &device)?.fuser;\n\
         // A `LayerKv {{ key, value }}` a layer: of the Sharer [batch, {}, tokens, {}] for its first {} layers or more,\n\
         // of the Receiver [batch, {}, tokens, {}] for all of its {}.\n\
         let fused = fuser.fuse(&sharer_cache, &receiver_cache, c2c_fuser::FuserMode::Infer)?;\n```\n\n\
         `c2c_fuser::C2c::new(receiver, sharer, fuser)` joins it with the two models, `generate` answers prompts.",
        f.sharer_heads,
        f.sharer_head_dim,
        f.sharer_depth(),
        f.receiver_heads,
        f.receiver_head_dim,
        f.layers()
    )
}

/// Text that stays inside a table cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hub_ids_are_base_models() {
        assert_eq!(hub_id("Qwen/Qwen3-0.6B"), Some("Qwen/Qwen3-0.6B"));
        assert_eq!(hub_id("Qwen/Qwen3-0.6B@abc"), Some("Qwen/Qwen3-0.6B"));
        for folder in ["../../datasets/pocket/receiver", "/models/x", "~/models/x", "./x", "x", "a/b/c", ""] {
            assert_eq!(hub_id(folder), None, "{folder}");
        }
    }

    #[test]
    fn front_matter_is_read_or_refused_with_its_reason() {
        let read = |text: &str| FrontMatter::read(text.as_bytes());
        let good = read("---\nlicense: mit\nlibrary_name: c2c\nbase_model: [a/b, c/d]\nother: 1\n---\n# Card\n");
        assert_eq!(good.map(|card| card.base_model), Ok(vec!["a/b".to_owned(), "c/d".to_owned()]));
        for (text, key) in [
            ("", "front matter"),
            ("# Card\n", "front matter"),
            ("---\nlibrary_name: c2c\n", "front matter"),
            ("---\nlibrary_name: [\n---\n", "front matter"),
            ("---\nbase_model: [a/b]\n---\n", "library_name"),
        ] {
            assert_eq!(read(text).map_err(|(key, ..)| key), Err(key), "{text:?}");
        }
    }
}
