//! T2T: the sharer writes a text, the receiver answers with it.
//!
//! The receiver reads a chat of three turns: the request, the sharer's text as if it had written that itself, and the
//! question with its choices; with logits compared, the start of its reply, too. With fusion the pair reads that chat, aligned, and the receiver answers on the fused cache.

use std::collections::BTreeMap;

use c2c_fuser::{C2c, FuserError};
use c2c_kernels::KernelBackend;
use c2c_lm::DecodeOptions;
use c2c_recipe::Method;
use c2c_text::Message;

use super::{Answered, Answerer, Heard, Reply};
use crate::input::{Input, ToBeTold};
use crate::put;
use crate::times::Phases;

impl<B: KernelBackend> Answerer<'_, B> {
    /// With `fused`, the pair that reads the chat; without, the receiver reads it alone.
    pub(super) fn told(
        &self,
        fused: Option<&C2c<B>>,
        inputs: &[&Input],
        options: &DecodeOptions,
    ) -> Result<Answered, FuserError> {
        let requests: Vec<&ToBeTold> = inputs
            .iter()
            .filter_map(|input| match input {
                Input::ToBeTold(request) => Some(&**request),
                _ => None,
            })
            .collect();
        let prompts: Vec<&[u32]> = requests.iter().map(|request| request.ids.as_slice()).collect();
        let read = self.read(self.sharer, &prompts, &self.sharer_options)?;
        let rows = requests.len();
        let phases = Phases { sharer_prefill: read.prefill, sharer_decode: read.decode, ..Phases::default() };
        let (phases, milliseconds) = (phases.share(rows), read.milliseconds / rows as f64);

        let mut replies: Vec<Result<Reply, String>> = Vec::with_capacity(rows);
        // What can be read together, by shape.
        let mut ready: BTreeMap<Vec<bool>, Vec<(usize, Input, Heard)>> = BTreeMap::new();
        for (row, (request, ids)) in requests.iter().zip(&read.written.generated.tokens).enumerate() {
            match self.with_text(request, ids, options.max_new_tokens) {
                Ok((input, heard)) => ready.entry(input.shape()).or_default().push((row, input, heard)),
                Err(reason) => {
                    replies.push(Err(reason));
                    continue;
                }
            }
            // Filled below; whoever isn't there then was never answered.
            replies.push(Err("not answered".to_owned()));
        }
        for group in ready.into_values() {
            let inputs: Vec<&Input> = group.iter().map(|(_, input, _)| input).collect();
            let answered = match fused {
                Some(c2c) => self.fused(c2c, &inputs, options)?,
                None => self.alone(self.receiver, &inputs, options)?,
            };
            for ((row, _, heard), reply) in group.into_iter().zip(answered) {
                replies[row] = reply.map(|reply| Reply {
                    milliseconds: reply.milliseconds + milliseconds,
                    phases: [reply.phases, phases].into_iter().sum(),
                    heard: Some(heard),
                    ..reply
                });
            }
        }
        Ok(replies)
    }

    /// The prompt with the sharer's text in it.
    fn with_text(&self, request: &ToBeTold, ids: &[u32], budget: usize) -> Result<(Input, Heard), String> {
        let text = self.pair.text.sharer().decode(ids, true).map_err(|err| err.to_string())?.trim().to_owned();
        let chat = [
            Message::user(request.request.clone()),
            Message::assistant(text.clone()),
            Message::user(request.question.clone()),
        ];
        let input = match self.method {
            Method::T2tC2c => self.pair.text.prompt(&chat).map(|prompt| {
                let sharer_pad = self.pair.text.sharer().pad_id();
                let prompt = put::begun(prompt, self.letters.as_ref(), sharer_pad);
                Input::InStep(put::fused_in_part(vec![prompt], self.settings))
            }),
            _ => Input::alone(self.pair.text.receiver(), &chat, put::start(self.letters.as_ref())),
        }
        .map_err(|err| err.to_string())?;
        self.check_length(&input, budget)
            .map_err(|err| format!("with the sharer's text of {} tokens: {err}", ids.len()))?;
        let prompt_sha256 = input.sha256_and(&request.ids);
        let heard = Heard {
            text,
            tokens: ids.len(),
            prompt_tokens: input.tokens(),
            fused_tokens: input.fused_tokens(),
            prompt_sha256,
        };
        Ok((input, heard))
    }
}
