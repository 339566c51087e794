//! Batches: rows of the reference implementation (thu-nics/C2C), and rows of any mix of turns.
//!
//! Padding is put elsewhere than by the reference (on the left of a section, there on its right), so what is compared is what a row
//! reads: its real tokens, each with its label and whether it is fused.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use c2c_fuser::PairBatch;
use c2c_lm::TokenBatch;
use c2c_text::{AlignStrategy, Message, PairText, Prompt, Section, SectionKind, TokenMode, Tokenizer};
use proptest::prelude::*;
use serde_json::Value;

const BATCHES: &str = include_str!("../../c2c-text/tests/fixtures/collator.json");
const CHATS: &str = include_str!("../../c2c-text/tests/fixtures/alignment.json");
const RECEIVER: &[u8] = include_bytes!("../../c2c-text/tests/fixtures/toy_receiver_tokenizer.json");
const SHARER: &[u8] = include_bytes!("../../c2c-text/tests/fixtures/toy_sharer_tokenizer.json");
/// The reference's mark of no label.
const NO_LABEL: i64 = -100;

/// A real token of a row: its id, its label, whether it is fused.
type Slot = (u32, Option<u32>, bool);

/// What a row of a batch reads, the Receiver's side or the Sharer's.
fn read(batch: &PairBatch, row: usize, side: fn(&c2c_fuser::BatchSection) -> &TokenBatch) -> Vec<Slot> {
    let of = |section: &c2c_fuser::BatchSection| {
        let tokens = side(section);
        let slots = (0..tokens.tokens()).filter(|slot| tokens.mask()[row][*slot]);
        slots.map(|slot| (tokens.ids()[row][slot], section.labels[row][slot], section.fuse)).collect::<Vec<_>>()
    };
    batch.sections().iter().flat_map(of).collect()
}

/// The same of a prompt by itself.
fn written(prompt: &Prompt, side: fn(&Section) -> (&[u32], &[bool])) -> Vec<Slot> {
    let of = |section: &Section| {
        let (ids, mask) = side(section);
        let slots = (0..ids.len()).filter(|slot| mask[*slot]);
        slots.map(|slot| (ids[slot], section.labels[slot], section.fuse)).collect::<Vec<_>>()
    };
    prompt.sections.iter().flat_map(of).collect()
}

/// The same of a row of the reference, whose flags are by section.
fn theirs(case: &Value, side: Option<usize>, row: usize) -> Vec<Slot> {
    let pick = |key: &str| match side {
        Some(side) => &case[key][side][row],
        None => &case[key][row],
    };
    let (ids, mask) = (pick("input_ids").as_array().unwrap(), pick("attention_mask").as_array().unwrap());
    let labels = case["labels"][row].as_array().unwrap();
    let sections = case["kv_cache_index"].as_array().unwrap().iter();
    let flags: Vec<bool> = sections
        .flat_map(|section| {
            // Flags of a row's padding are -1; those of row 0 decide.
            let fused = section[0][0][0] == 1;
            vec![fused; section[row].as_array().unwrap().len()]
        })
        .collect();
    let label = |value: &Value| value.as_i64().filter(|label| *label != NO_LABEL).map(|label| label as u32);
    (0..ids.len())
        .filter(|slot| mask[*slot] == 1.0)
        .map(|slot| (ids[slot].as_u64().unwrap() as u32, label(&labels[slot]), flags[slot]))
        .collect()
}

fn toy(json: &[u8], side: &str) -> Arc<Tokenizer> {
    let all: Value = serde_json::from_str(CHATS).unwrap();
    let special = all[format!("{side}_special")].as_object().unwrap().clone();
    let config: serde_json::Map<_, _> =
        special.into_iter().map(|(role, token)| (format!("{role}_token"), token)).collect();
    let config = serde_json::to_string(&config).unwrap();
    let template = all[format!("{side}_chat_template")].as_str().unwrap().to_owned();
    Arc::new(Tokenizer::from_parts(json, Some(&config), Some(&template)).unwrap())
}

fn chats() -> Vec<Vec<Message>> {
    let all: Value = serde_json::from_str(BATCHES).unwrap();
    serde_json::from_value(all["conversations"].clone()).unwrap()
}

fn collated(text: &PairText) -> PairBatch {
    let prompts: Vec<Prompt> = chats().iter().map(|chat| text.example(chat).unwrap()).collect();
    PairBatch::collate(&prompts, text.receiver().pad_id(), text.sharer().pad_id()).unwrap()
}

#[test]
fn shared_ids_are_read_as_by_the_reference() {
    let all: Value = serde_json::from_str(BATCHES).unwrap();
    let receiver = toy(RECEIVER, "slm");
    let batch = collated(&PairText::new(receiver.clone(), receiver, TokenMode::Shared).unwrap());
    for row in 0..batch.rows() {
        assert_eq!(read(&batch, row, |section| &section.receiver), theirs(&all["plain"], None, row), "row {row}");
        assert_eq!(read(&batch, row, |section| &section.sharer), theirs(&all["plain"], None, row), "row {row}");
    }
    // As many slots as there, none of them wasted: 18 for the prompts, 7 for the replies.
    assert_eq!(batch.sections().iter().map(|section| section.receiver.tokens()).collect::<Vec<_>>(), [18, 7]);
    // Positions count a row's own tokens, there too where nothing is aligned.
    assert_eq!(batch.next_positions(), [25, 22]);
}

#[test]
fn aligned_tokens_are_read_as_by_the_reference() {
    let all: Value = serde_json::from_str(BATCHES).unwrap();
    let (receiver, sharer) = (toy(RECEIVER, "slm"), toy(SHARER, "llm"));
    let batch = collated(&PairText::new(receiver, sharer, TokenMode::Aligned(AlignStrategy::First)).unwrap());
    let case = &all["aligned_first"];
    for row in 0..batch.rows() {
        assert_eq!(read(&batch, row, |section| &section.receiver), theirs(case, Some(0), row), "row {row}");
        let ids = |slots: Vec<Slot>| slots.into_iter().map(|(id, _, fused)| (id, fused)).collect::<Vec<_>>();
        let (ours, theirs) = (ids(read(&batch, row, |section| &section.sharer)), ids(theirs(case, Some(1), row)));
        assert_eq!(ours, theirs, "row {row}");
    }
    // Not as there: it counts the padding of the alignment as positions (30 and 27), which neither model has ever read.
    assert_eq!(case["position_ids"][1].as_array().unwrap().last().unwrap(), 26);
    assert_eq!(batch.next_positions(), [25, 22]);
}

/// A chat of so many turns: template and message by turns, the reply behind the last template text. The reference drops the loss of
/// a row with fewer turns than the longest, and takes the flags of row 0 for all.
fn prompt(turns: &[(usize, usize)], reply: usize, first: u32) -> Prompt {
    let mut next = first;
    let mut section = |kind, real: usize, padding: usize, fuse| {
        let mut ids = |count: usize| -> Vec<u32> {
            next += count as u32;
            (next - count as u32..next).collect()
        };
        let (receiver, sharer) = (ids(real + padding), ids(real + padding));
        // The Sharer has more tokens here, as template text often has.
        let mask: Vec<bool> = (0..real + padding).map(|slot| slot >= padding).collect();
        let labels = vec![None; real + padding];
        Section { kind, receiver, sharer, receiver_mask: mask, sharer_mask: vec![true; real + padding], labels, fuse }
    };
    let mut sections = Vec::new();
    for (index, (template, message)) in turns.iter().enumerate() {
        sections.push(section(SectionKind::Template, *template, 1, false));
        sections.push(section(SectionKind::Message(index), *message, 0, true));
    }
    let mut last = section(SectionKind::Template, 1 + reply, 0, false);
    last.labels = last.receiver.iter().enumerate().map(|(slot, id)| (slot > 0).then_some(*id)).collect();
    sections.push(last);
    Prompt::new(sections).unwrap()
}

proptest! {
    #[test]
    fn ids_labels_and_flags_survive_any_mix_of_turns(
        rows in prop::collection::vec((prop::collection::vec((1usize..4, 1usize..6), 0..5), 1usize..5), 1..6),
    ) {
        let prompts: Vec<Prompt> =
            rows.iter().zip(0..).map(|((turns, reply), row)| prompt(turns, *reply, 1 + 1000 * row)).collect();
        let batch = PairBatch::collate(&prompts, 0, 0).unwrap();
        for (row, prompt) in prompts.iter().enumerate() {
            let receiver = read(&batch, row, |section| &section.receiver);
            prop_assert_eq!(receiver, written(prompt, |s| (&s.receiver, &s.receiver_mask)));
            let sharer = read(&batch, row, |section| &section.sharer);
            prop_assert_eq!(sharer, written(prompt, |s| (&s.sharer, &s.sharer_mask)));
            // The reply is in the last section, where the loss is.
            let learnt = batch.last().labels[row].iter().flatten().count();
            prop_assert_eq!(learnt, rows[row].1);
        }
    }
}
