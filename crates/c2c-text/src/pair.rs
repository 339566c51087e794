//! Prompts and training examples for a Receiver and a Sharer.
//!
//! With shared ids (one vocabulary) both models read the Receiver's tokens, and all but the last prompt token is
//! fused. With token alignment (paper, "Model Alignment") each model reads the chat in its own template: the sections
//! alternate between template text, each model's own and padded to one length, and message contents, where the Sharer
//! reads the aligned tokens. Messages are fused, template text isn't.

use std::sync::Arc;

use crate::slots::shared_slots;
use crate::span::{render_spans, token_ranges};
use crate::{AlignStrategy, Message, Prompt, Section, SectionKind, TextError, TokenAligner, Tokenizer};

/// How the Sharer reads the Receiver's prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenMode {
    /// It reads the Receiver's ids. Both must have one vocabulary.
    Shared,
    /// It reads its own template and aligned message tokens.
    Aligned(AlignStrategy),
}

/// How finely a message is cut into sections. A section is fused as a whole, and the Receiver reads the next one on the
/// fused cache of those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SectionCut {
    /// A message is one section, as in the reference implementation: nothing but the reply reads fused tokens.
    #[default]
    Message,
    /// A message is cut behind each blank line: later paragraphs are read in the light of the fused earlier ones.
    Paragraph,
}

/// The texts of a Receiver and a Sharer.
#[derive(Debug)]
pub struct PairText {
    receiver: Arc<Tokenizer>,
    sharer: Arc<Tokenizer>,
    /// None with shared ids.
    aligner: Option<TokenAligner>,
    mode: TokenMode,
    cut: SectionCut,
}

/// A chat in one model's tokens: template text and message contents take turns, template text first and last.
struct Side {
    /// One more than there are messages; each may be empty.
    gaps: Vec<Vec<u32>>,
    messages: Vec<(usize, Vec<u32>)>,
}

impl PairText {
    /// A pair of tokenizers.
    ///
    /// # Errors
    /// [`TextError::VocabularyMismatch`] when ids are to be shared but an id that both have is another token in each.
    pub fn new(receiver: Arc<Tokenizer>, sharer: Arc<Tokenizer>, mode: TokenMode) -> Result<Self, TextError> {
        let aligner = match mode {
            TokenMode::Shared => {
                check_shared(&receiver, &sharer)?;
                None
            }
            TokenMode::Aligned(strategy) => Some(TokenAligner::new(receiver.clone(), sharer.clone(), strategy)),
        };
        Ok(Self { receiver, sharer, aligner, mode, cut: SectionCut::Message })
    }

    /// The same with messages cut otherwise. Prompts with shared ids stay one fused section.
    pub fn with_cut(self, cut: SectionCut) -> Self {
        Self { cut, ..self }
    }

    /// How messages are cut.
    pub fn cut(&self) -> SectionCut {
        self.cut
    }

    /// The Receiver's tokenizer.
    pub fn receiver(&self) -> &Tokenizer {
        &self.receiver
    }

    /// The Sharer's tokenizer.
    pub fn sharer(&self) -> &Tokenizer {
        &self.sharer
    }

    /// The Sharer's tokenizer, to be used by others too.
    pub fn sharer_shared(&self) -> Arc<Tokenizer> {
        self.sharer.clone()
    }

    /// The same Receiver with another Sharer. Messages are not cut.
    ///
    /// # Errors
    /// As [`PairText::new`].
    pub fn with_sharer(&self, sharer: Arc<Tokenizer>, mode: TokenMode) -> Result<Self, TextError> {
        Self::new(self.receiver.clone(), sharer, mode)
    }

    /// How the Sharer reads the Receiver's prompt.
    pub fn mode(&self) -> TokenMode {
        self.mode
    }

    /// A chat to be answered: it ends where the assistant's reply begins.
    ///
    /// # Errors
    /// [`TextError::EmptyPrompt`], an error of a chat template, or, aligned, [`TextError::ContentNotFound`] or
    /// [`TextError::NoGenerationPrompt`].
    pub fn prompt(&self, messages: &[Message]) -> Result<Prompt, TextError> {
        check_messages(messages)?;
        match &self.aligner {
            None => self.shared_prompt(messages),
            Some(aligner) => self.aligned_prompt(aligner, messages),
        }
    }

    /// A chat to learn from: the last message is the assistant's reply. It and the template text that closes it are
    /// supervised; what comes before is the [`PairText::prompt`] of the other messages.
    ///
    /// # Errors
    /// As [`PairText::prompt`]; [`TextError::NotAssistant`]; [`TextError::PromptNotPrefix`] when the tokens of the
    /// whole chat don't start with those of the prompt.
    pub fn example(&self, messages: &[Message]) -> Result<Prompt, TextError> {
        let Some((reply, before)) = messages.split_last() else {
            return Err(TextError::EmptyPrompt { what: "the chat has no messages".to_string() });
        };
        if reply.role != "assistant" {
            return Err(TextError::NotAssistant { role: reply.role.clone() });
        }
        if reply.is_blank() {
            return Err(TextError::EmptyPrompt { what: "the reply to learn from has no text".to_string() });
        }
        let prompt = self.prompt(before)?;
        match &self.aligner {
            None => self.shared_example(prompt, messages),
            Some(aligner) => self.aligned_example(aligner, prompt, messages),
        }
    }

    /// A text to be gone on with, in no chat template: each model reads it as its tokenizer frames a bare text. All but
    /// the Receiver's last token is fused.
    ///
    /// # Errors
    /// [`TextError::EmptyPrompt`], [`TextError::PromptTooShort`], or a text that can't be encoded.
    pub fn bare_prompt(&self, text: &str) -> Result<Prompt, TextError> {
        check_messages(&[Message::user(text)])?;
        let framed = |tokenizer: &Tokenizer| tokenizer.frame().to_vec();
        let ids = self.receiver.encode(text)?.ids;
        let Some(aligner) = &self.aligner else {
            return self.shared_sections([framed(&self.receiver), ids].concat());
        };
        let whole = self.message_section(aligner, 0, ids, self.sharer.encode(text)?.ids)?;
        let Some(last) = whole.receiver_mask.iter().rposition(|real| *real).filter(|last| *last > 0) else {
            let found = usize::from(!whole.is_empty());
            return Err(TextError::PromptTooShort { owner: self.receiver.owner().to_string(), found });
        };
        let mut sections = vec![Section::template(
            framed(&self.receiver),
            framed(&self.sharer),
            self.receiver.pad_id(),
            self.sharer.pad_id(),
        )];
        sections.extend(whole.cut(&[last, last + 1]));
        if let Some(last) = sections.last_mut() {
            last.fuse = false;
        }
        sections.retain(|section| !section.is_empty());
        Prompt::new(sections)
    }

    fn message_section(
        &self,
        aligner: &TokenAligner,
        index: usize,
        ids: Vec<u32>,
        sharer_ids: Vec<u32>,
    ) -> Result<Section, TextError> {
        Ok(match self.mode {
            TokenMode::Aligned(AlignStrategy::Spans) => {
                shared_slots(index, (&self.receiver, &ids), (&self.sharer, &sharer_ids))
            }
            _ => {
                let aligned = aligner.align(&ids)?;
                Section::new(SectionKind::Message(index), ids, aligned, true)
            }
        })
    }

    fn shared_prompt(&self, messages: &[Message]) -> Result<Prompt, TextError> {
        self.shared_sections(self.receiver.encode(&self.receiver.render_chat(messages, true)?)?.ids)
    }

    fn shared_sections(&self, mut ids: Vec<u32>) -> Result<Prompt, TextError> {
        let found = ids.len();
        let last = match ids.pop() {
            Some(last) if found >= 2 => vec![last],
            _ => return Err(TextError::PromptTooShort { owner: self.receiver.owner().to_string(), found }),
        };
        Prompt::new(vec![
            Section::new(SectionKind::Template, ids.clone(), ids, true),
            Section::new(SectionKind::Template, last.clone(), last, false),
        ])
    }

    fn shared_example(&self, prompt: Prompt, messages: &[Message]) -> Result<Prompt, TextError> {
        let full = self.receiver.encode(&self.receiver.render_chat(messages, false)?)?.ids;
        let reply = self.after_prompt(&prompt, &full)?;
        extend_last(prompt, reply, reply.to_vec(), vec![true; reply.len()])
    }

    fn aligned_prompt(&self, aligner: &TokenAligner, messages: &[Message]) -> Result<Prompt, TextError> {
        let receiver = read_side(&self.receiver, "receiver", messages, true)?;
        let sharer = read_side(&self.sharer, "sharer", messages, true)?;
        for (side, tokenizer, gaps) in
            [("receiver", &self.receiver, &receiver.gaps), ("sharer", &self.sharer, &sharer.gaps)]
        {
            if gaps.last().is_none_or(Vec::is_empty) {
                return Err(TextError::NoGenerationPrompt { side, owner: tokenizer.owner().to_string() });
            }
        }
        let mut sections = Vec::with_capacity(2 * receiver.gaps.len());
        let mut contents = receiver.messages.into_iter().zip(sharer.messages);
        for (receiver_gap, sharer_gap) in receiver.gaps.into_iter().zip(sharer.gaps) {
            sections.push(Section::template(receiver_gap, sharer_gap, self.receiver.pad_id(), self.sharer.pad_id()));
            if let Some(((index, ids), (_, sharer_ids))) = contents.next() {
                let whole = self.message_section(aligner, index, ids, sharer_ids)?;
                let cuts = self.cuts(&whole.receiver);
                sections.extend(whole.cut(&cuts));
            }
        }
        // Messages without template text between them, or a content whose only token went to its neighbour.
        sections.retain(|section| !section.is_empty());
        Prompt::new(sections)
    }

    /// Where the sections of a message end, the last one at its end.
    fn cuts(&self, ids: &[u32]) -> Vec<usize> {
        let mut cuts = Vec::new();
        if self.cut == SectionCut::Paragraph {
            let mut line_break = false;
            for (index, id) in ids.iter().enumerate() {
                let bytes = self.receiver.token_bytes(*id).unwrap_or_default();
                let blank_line = bytes.windows(2).any(|pair| pair == b"\n\n") || (line_break && bytes == b"\n");
                if blank_line && index + 1 < ids.len() {
                    cuts.push(index + 1);
                }
                line_break = bytes.ends_with(b"\n") && !blank_line;
            }
        }
        cuts.push(ids.len());
        cuts
    }

    fn aligned_example(
        &self,
        aligner: &TokenAligner,
        prompt: Prompt,
        messages: &[Message],
    ) -> Result<Prompt, TextError> {
        let receiver = read_side(&self.receiver, "receiver", messages, false)?;
        let sharer = read_side(&self.sharer, "sharer", messages, false)?;
        let closing = receiver.gaps.last().map_or(0, Vec::len);
        let full = receiver.into_ids();
        let reply = self.after_prompt(&prompt, &full)?;
        let Some(own) = reply.len().checked_sub(closing).filter(|&own| own > 0) else {
            return Err(self.not_prefix(full.len()));
        };
        let mut sharer_ids = aligner.align(&reply[..own])?;
        let mut sharer_closing = sharer.gaps.into_iter().next_back().unwrap_or_default();
        sharer_closing.truncate(closing);
        sharer_ids.append(&mut sharer_closing);
        let mut sharer_mask = vec![true; sharer_ids.len()];
        sharer_ids.resize(reply.len(), self.sharer.pad_id());
        sharer_mask.resize(reply.len(), false);
        extend_last(prompt, reply, sharer_ids, sharer_mask)
    }

    /// The tokens of the whole chat that come after the prompt's, which must be its first ones: else training would
    /// see another prompt than generation does.
    fn after_prompt<'a>(&self, prompt: &Prompt, full: &'a [u32]) -> Result<&'a [u32], TextError> {
        let start = prompt.receiver_tokens();
        match full.strip_prefix(start.as_slice()) {
            Some(reply) if !reply.is_empty() => Ok(reply),
            _ => Err(self.not_prefix(start.iter().zip(full).take_while(|(a, b)| a == b).count())),
        }
    }

    fn not_prefix(&self, at: usize) -> TextError {
        TextError::PromptNotPrefix { owner: self.receiver.owner().to_string(), at }
    }
}

impl Side {
    /// All tokens in the order of the text.
    fn into_ids(self) -> Vec<u32> {
        let mut contents = self.messages.into_iter();
        let mut ids = Vec::new();
        for gap in self.gaps {
            ids.extend(gap);
            ids.extend(contents.next().into_iter().flat_map(|(_, content)| content));
        }
        ids
    }
}

fn read_side(
    tokenizer: &Tokenizer,
    side: &'static str,
    messages: &[Message],
    add_generation_prompt: bool,
) -> Result<Side, TextError> {
    let rendered = render_spans(tokenizer, side, messages, add_generation_prompt)?;
    let encoding = tokenizer.encode(&rendered.text)?;
    let mut from = 0;
    let mut read = Side { gaps: Vec::new(), messages: Vec::new() };
    for ((index, _), range) in rendered.spans.iter().zip(token_ranges(&encoding, &rendered.spans)) {
        read.gaps.push(encoding.ids[from..range.start].to_vec());
        read.messages.push((*index, encoding.ids[range.clone()].to_vec()));
        from = range.end;
    }
    read.gaps.push(encoding.ids[from..].to_vec());
    Ok(read)
}

/// Appends a supervised reply to the last section.
fn extend_last(
    mut prompt: Prompt,
    reply: &[u32],
    sharer: Vec<u32>,
    sharer_mask: Vec<bool>,
) -> Result<Prompt, TextError> {
    if let Some(last) = prompt.sections.last_mut() {
        last.receiver.extend(reply);
        last.receiver_mask.resize(last.receiver.len(), true);
        last.sharer.extend(sharer);
        last.sharer_mask.extend(sharer_mask);
        last.labels.extend(reply.iter().map(|&id| Some(id)));
    }
    Prompt::new(prompt.sections)
}

fn check_messages(messages: &[Message]) -> Result<(), TextError> {
    if messages.is_empty() {
        return Err(TextError::EmptyPrompt { what: "the chat has no messages to answer".to_string() });
    }
    match messages.iter().position(|message| message.role == "user" && message.is_blank()) {
        Some(index) => Err(TextError::EmptyPrompt { what: format!("message {index}, the user's, has no text") }),
        None => Ok(()),
    }
}

/// Shared ids mean the same only if every id that both vocabularies hold is the same token. Ids that only one of them
/// names are let through: models of one family differ in their last special tokens, and have rows for more.
fn check_shared(receiver: &Arc<Tokenizer>, sharer: &Arc<Tokenizer>) -> Result<(), TextError> {
    if Arc::ptr_eq(receiver, sharer) {
        return Ok(());
    }
    let theirs = sharer.tokens();
    for (id, ours) in receiver.tokens() {
        if let Some(token) = theirs.get(&id)
            && *token != ours
        {
            return Err(TextError::VocabularyMismatch { id, receiver: ours, sharer: token.clone() });
        }
    }
    Ok(())
}
