//! What can go wrong with text, and how to put it right.

use std::path::PathBuf;

/// An error of this crate. Every message names the file, model or message it is about, and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file of the tokenizer folder can't be read.
    #[error("cannot read {}: {source}. Point at a model folder in Hugging Face layout that holds tokenizer.json", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `tokenizer.json` isn't a usable tokenizer.
    #[error(
        "tokenizer of {owner}: {reason}. Fetch tokenizer.json again, or convert the model's tokenizer to the fast format"
    )]
    TokenizerJson {
        /// Folder or name of the tokenizer.
        owner: String,
        /// What the parser said.
        reason: String,
    },
    /// `tokenizer_config.json` is malformed.
    #[error("tokenizer_config.json of {owner}: {reason}. Fetch the file again")]
    Config {
        /// Folder or name of the tokenizer.
        owner: String,
        /// What the parser said.
        reason: String,
    },
    /// The tokenizer has no chat template, but a chat is to be rendered.
    #[error(
        "{owner} has no chat template. Put one into the folder as chat_template.jinja (an instruction-tuned sibling of \
         the model usually has one), or use an instruction-tuned model"
    )]
    NoChatTemplate {
        /// Folder or name of the tokenizer.
        owner: String,
    },
    /// The chat template doesn't compile.
    #[error(
        "chat template of {owner} has a syntax error: {reason}. Correct it, or override it with chat_template.jinja"
    )]
    TemplateSyntax {
        /// Folder or name of the tokenizer.
        owner: String,
        /// What the template engine said, with the line.
        reason: String,
    },
    /// The chat template refuses these messages.
    #[error(
        "chat template of {owner} refuses the messages: {reason}. Change the messages' roles or order to what it accepts"
    )]
    TemplateRender {
        /// Folder or name of the tokenizer.
        owner: String,
        /// What the template raised.
        reason: String,
    },
    /// Text can't be turned into ids.
    #[error("{owner} cannot encode the text: {reason}")]
    Encode {
        /// Folder or name of the tokenizer.
        owner: String,
        /// What the tokenizer said.
        reason: String,
    },
    /// Ids can't be turned into text.
    #[error("{owner} cannot decode the ids: {reason}")]
    Decode {
        /// Folder or name of the tokenizer.
        owner: String,
        /// What the tokenizer said.
        reason: String,
    },
    /// There is nothing to ask or to learn from.
    #[error("{what}. Give at least one user message with text in it")]
    EmptyPrompt {
        /// What is empty.
        what: String,
    },
    /// A training example doesn't end in a reply.
    #[error(
        "the last message of a training example has role `{role}`, expected `assistant`. Drop the turns after the last reply"
    )]
    NotAssistant {
        /// The role found.
        role: String,
    },
    /// A message can't be found in the rendered chat.
    #[error(
        "message {index} ({content:?}) does not appear in the chat rendered by the {side}'s template ({owner}). The \
         template drops or rewrites it; change the message, or train and run without token alignment"
    )]
    ContentNotFound {
        /// Position of the message in the chat, from 0.
        index: usize,
        /// `receiver` or `sharer`.
        side: &'static str,
        /// Folder or name of the tokenizer.
        owner: String,
        /// The first characters of the content.
        content: String,
    },
    /// The template writes nothing after the last message, so there is no position to generate from.
    #[error(
        "the {side}'s chat template ({owner}) writes nothing after the last message. Use a template that honours \
         add_generation_prompt"
    )]
    NoGenerationPrompt {
        /// `receiver` or `sharer`.
        side: &'static str,
        /// Folder or name of the tokenizer.
        owner: String,
    },
    /// The prompt of a training example isn't a token prefix of the whole example.
    #[error(
        "the chat with its reply does not start with the prompt's tokens (first difference at token {at}, chat template \
         of {owner}). Training would see another prompt than generation does; start the reply without whitespace, or \
         use a template whose generation prompt is what it writes before a reply"
    )]
    PromptNotPrefix {
        /// Folder or name of the tokenizer.
        owner: String,
        /// Index of the first token that differs.
        at: usize,
    },
    /// A prompt of fewer than two tokens leaves nothing to fuse.
    #[error(
        "the prompt has {found} token(s), expected 2 or more (all but the last are fused). Check the chat template of {owner}"
    )]
    PromptTooShort {
        /// Folder or name of the tokenizer.
        owner: String,
        /// Tokens found.
        found: usize,
    },
    /// Shared ids need one vocabulary, but there are two.
    #[error(
        "Receiver and Sharer cannot share token ids: id {id} is {receiver:?} for the Receiver and {sharer:?} for the \
         Sharer. Switch token alignment on (strategy `longest` or `first`)"
    )]
    VocabularyMismatch {
        /// The first id on which they differ.
        id: u32,
        /// The Receiver's token.
        receiver: String,
        /// The Sharer's token.
        sharer: String,
    },
    /// A section breaks a rule that the models rely on.
    #[error("section {index} of the prompt: {reason}")]
    BadSection {
        /// Position of the section, from 0.
        index: usize,
        /// The rule and what was found.
        reason: String,
    },
    /// A tokenizer can't be trained from these arguments.
    #[error("cannot train a tokenizer: {reason}")]
    TrainBpe {
        /// The argument, what was found and what is expected.
        reason: String,
    },
    /// Merge dropout isn't defined for this tokenizer or probability.
    #[error("merge dropout on {owner}: {reason}")]
    Dropout {
        /// Folder or name of the tokenizer.
        owner: String,
        /// What was found and what is expected.
        reason: String,
    },
}
