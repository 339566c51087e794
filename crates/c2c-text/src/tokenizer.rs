//! A tokenizer folder in Hugging Face layout: ids, byte offsets, raw token bytes and the chat template.
//!
//! Invariants: encoding is deterministic and never adds, cuts or pads tokens, whatever tokenizer.json asks for
//! (post-processor, truncation, padding and merge dropout are switched off on load); offsets are bytes of the text
//! given. Special tokens that stand in the text are recognised, because chat templates write them as text.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::OnceLock;

use tokenizers::{ModelWrapper, PostProcessorWrapper};

use crate::bytes::{ByteScheme, byte_token};
use crate::config::TokenizerConfig;
use crate::dropout::MergeTable;
use crate::template::ChatTemplate;
use crate::{Message, TextError};

/// A text as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// The ids, in the order of the text.
    pub ids: Vec<u32>,
    /// For each id the bytes `start..end` of the text that it covers. Several tokens of one character all cover it.
    pub offsets: Vec<(usize, usize)>,
}

/// A tokenizer with the special tokens and the chat template of its model.
#[derive(Debug)]
pub struct Tokenizer {
    owner: String,
    inner: tokenizers::Tokenizer,
    /// What stands before a bare text.
    frame: Vec<u32>,
    scheme: ByteScheme,
    /// Added tokens, and whether each is special.
    added: HashMap<u32, bool>,
    vocab_size: usize,
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    unk: Option<u32>,
    /// Compiled on load; a template that doesn't compile is an error only when it is used, because a Sharer that
    /// reads the Receiver's ids never needs its own.
    template: Option<Result<ChatTemplate, String>>,
    merges: OnceLock<Result<MergeTable, String>>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and, where they exist, `tokenizer_config.json` and `chat_template.jinja` (which wins
    /// over the template in the config).
    ///
    /// # Errors
    /// [`TextError::Read`], [`TextError::TokenizerJson`] or [`TextError::Config`]. A folder without chat template
    /// loads; rendering then fails.
    pub fn from_dir(dir: &Path) -> Result<Self, TextError> {
        let path = dir.join("tokenizer.json");
        let json = std::fs::read(&path).map_err(|source| TextError::Read { path, source })?;
        let config = read_optional(&dir.join("tokenizer_config.json"))?;
        let template = read_optional(&dir.join("chat_template.jinja"))?;
        Self::build(dir.display().to_string(), &json, config.as_deref(), template.as_deref())
    }

    /// Builds a tokenizer from the texts of its files.
    ///
    /// # Errors
    /// [`TextError::TokenizerJson`] or [`TextError::Config`].
    pub fn from_parts(
        tokenizer_json: &[u8],
        tokenizer_config: Option<&str>,
        chat_template: Option<&str>,
    ) -> Result<Self, TextError> {
        Self::build("tokenizer in memory".to_string(), tokenizer_json, tokenizer_config, chat_template)
    }

    fn build(owner: String, json: &[u8], config: Option<&str>, chat_template: Option<&str>) -> Result<Self, TextError> {
        let bad_json = |reason: String| TextError::TokenizerJson { owner: owner.clone(), reason };
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(|err| bad_json(err.to_string()))?;
        let frame = frame(&inner);
        inner.with_post_processor(None::<PostProcessorWrapper>);
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|err| bad_json(err.to_string()))?;
        if let ModelWrapper::BPE(bpe) = inner.get_model()
            && bpe.dropout.is_some()
        {
            let mut bpe = bpe.clone();
            bpe.dropout = None;
            inner.with_model(bpe);
        }
        let config = match config {
            Some(text) => {
                TokenizerConfig::parse(text).map_err(|reason| TextError::Config { owner: owner.clone(), reason })?
            }
            None => TokenizerConfig::default(),
        };
        let highest = inner.get_vocab(true).into_values().max();
        let Some(vocab_size) = highest.and_then(|id| usize::try_from(id).ok()).and_then(|id| id.checked_add(1)) else {
            return Err(bad_json("the vocabulary is empty".to_string()));
        };
        let id_of = |name: &str| config.specials.get(name).and_then(|token| inner.token_to_id(token));
        let (bos, eos, pad) = (id_of("bos_token"), id_of("eos_token"), id_of("pad_token"));
        let unk = id_of("unk_token").or_else(|| match inner.get_model() {
            ModelWrapper::BPE(bpe) => inner.token_to_id(bpe.get_unk_token().as_deref()?),
            _ => None,
        });
        let added = inner.get_added_tokens_decoder().iter().map(|(&id, token)| (id, token.special)).collect();
        let template = chat_template
            .or(config.chat_template.as_deref())
            .map(|source| ChatTemplate::new(source, config.specials.clone()));
        let scheme = ByteScheme::of(&inner);
        Ok(Self {
            owner,
            inner,
            frame,
            scheme,
            added,
            vocab_size,
            bos,
            eos,
            pad,
            unk,
            template,
            merges: OnceLock::new(),
        })
    }

    /// The folder that the tokenizer was read from, for messages.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Turns text into ids. No special tokens are added; those written in the text are recognised.
    ///
    /// # Errors
    /// [`TextError::Encode`] when the model can't represent the text, as with a missing unknown token.
    pub fn encode(&self, text: &str) -> Result<Encoding, TextError> {
        let encoding = self.inner.encode(text, false).map_err(|err| self.encode_error(&err))?;
        Ok(Encoding { ids: encoding.get_ids().to_vec(), offsets: encoding.get_offsets().to_vec() })
    }

    /// The ids that the tokenizer's own post-processor puts before a text, such as the begin token of Llama; mostly
    /// none. What a model expects in front of a bare text. (A chat template writes such tokens itself.)
    pub fn frame(&self) -> &[u32] {
        &self.frame
    }

    /// Turns text into ids by BPE dropout (Provilkov et al. 2020, arXiv 1910.13267): each merge is skipped with
    /// probability `p` whenever its turn comes, so that a model sees a word in several segmentations. Special tokens
    /// stay whole. The same text, `p` and `seed` give the same ids on every machine; `p` 0 is [`Tokenizer::encode`].
    ///
    /// # Errors
    /// [`TextError::Dropout`] when `p` isn't in `0..=1` or the model isn't plain BPE.
    pub fn encode_with_dropout(&self, text: &str, p: f32, seed: u64) -> Result<Vec<u32>, TextError> {
        let refuse = |reason: String| TextError::Dropout { owner: self.owner.clone(), reason };
        if !(0.0..=1.0).contains(&p) {
            return Err(refuse(format!("probability {p}, expected a number from 0 to 1")));
        }
        if p == 0.0 {
            return Ok(self.encode(text)?.ids);
        }
        let table =
            self.merges.get_or_init(|| MergeTable::of(&self.inner)).as_ref().map_err(|why| refuse(why.clone()))?;
        table.encode(&self.inner, text, p, seed).map_err(|err| self.encode_error(&err))
    }

    /// Turns ids into text; bytes that aren't valid UTF-8 become U+FFFD, and unknown ids nothing.
    ///
    /// # Errors
    /// [`TextError::Decode`] when the decoder of tokenizer.json fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        self.inner
            .decode(ids, skip_special)
            .map_err(|err| TextError::Decode { owner: self.owner.clone(), reason: err.to_string() })
    }

    /// The highest id plus one, added tokens included. A model's embedding may have more rows.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of a token as the vocabulary writes it.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token as the vocabulary writes it.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The bytes that a token stands for on its own. They need not be valid UTF-8: a character may be spread over
    /// several tokens. None for an id that the vocabulary doesn't hold.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let token = self.inner.id_to_token(id)?;
        Some(match self.added.get(&id) {
            Some(true) => token.into_bytes(),
            Some(false) => self.scheme.added_bytes(&token),
            None => self.scheme.bytes(&token),
        })
    }

    /// The token that begins a text, if the model has one.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text or a turn, if the model has one.
    pub fn eos_id(&self) -> Option<u32> {
        self.eos
    }

    /// The token for what the vocabulary can't write, if the model has one.
    pub fn unk_id(&self) -> Option<u32> {
        self.unk
    }

    /// The padding token; without one the end token, without that 0. Padding is always masked, so any id will do.
    pub fn pad_id(&self) -> u32 {
        self.pad_or_eos().unwrap_or(0)
    }

    /// The padding token, or the end token in its stead.
    pub(crate) fn pad_or_eos(&self) -> Option<u32> {
        self.pad.or(self.eos)
    }

    /// Whether an id is a special token: marked so in tokenizer.json, or named by the config.
    pub fn is_special(&self, id: u32) -> bool {
        self.added.get(&id).copied().unwrap_or(false) || [self.bos, self.eos, self.pad, self.unk].contains(&Some(id))
    }

    /// Whether an id is a SentencePiece byte token (`<0xNN>`), which stands for a byte that no other token covers.
    pub(crate) fn is_byte_token(&self, id: u32) -> bool {
        self.scheme == ByteScheme::SentencePiece
            && self.inner.id_to_token(id).is_some_and(|token| byte_token(&token).is_some())
    }

    /// Whether [`Tokenizer::render_chat`] has a template to render.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// Renders a chat with the model's template, thinking off. With `add_generation_prompt` the text ends where the
    /// assistant's reply begins.
    ///
    /// # Errors
    /// [`TextError::NoChatTemplate`], [`TextError::TemplateSyntax`], or [`TextError::TemplateRender`] when the
    /// template refuses the messages.
    pub fn render_chat(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, TextError> {
        let owner = || self.owner.clone();
        match &self.template {
            None => Err(TextError::NoChatTemplate { owner: owner() }),
            Some(Err(reason)) => Err(TextError::TemplateSyntax { owner: owner(), reason: reason.clone() }),
            Some(Ok(template)) => template
                .render(messages, add_generation_prompt)
                .map_err(|reason| TextError::TemplateRender { owner: owner(), reason }),
        }
    }

    /// Every token with its id, ordered by id.
    pub(crate) fn tokens(&self) -> BTreeMap<u32, String> {
        let ids = self.inner.get_vocab(true).into_values();
        ids.filter_map(|id| Some((id, self.inner.id_to_token(id)?))).collect()
    }

    fn encode_error(&self, err: &tokenizers::Error) -> TextError {
        TextError::Encode { owner: self.owner.clone(), reason: err.to_string() }
    }
}

/// What stands before the ids of a text when special tokens are added.
fn frame(inner: &tokenizers::Tokenizer) -> Vec<u32> {
    const TEXT: &str = "a";
    let ids = |special| inner.encode(TEXT, special).map(|encoding| encoding.get_ids().to_vec());
    match (ids(true), ids(false)) {
        (Ok(framed), Ok(bare)) if !bare.is_empty() => {
            let start = framed.windows(bare.len()).position(|window| window == bare).unwrap_or(0);
            framed[..start].to_vec()
        }
        _ => Vec::new(),
    }
}

fn read_optional(path: &Path) -> Result<Option<String>, TextError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TextError::Read { path: path.to_path_buf(), source }),
    }
}
