//! Tests of the public API: prompts and examples of tokenizer pairs, training of tokenizers, agreement with the
//! reference implementation, and hostile input.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod aligned;
mod hostile;
mod kit;
mod reference;
mod shared;
mod spans;
mod stream;
mod tokenizer;
mod trained;
