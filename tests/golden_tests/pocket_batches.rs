//! The embedded pair: eight prompts of different lengths in one left-padded batch reply, id for id, as each of them alone.

use std::path::Path;

use c2c_data::pocket::{Split, world_questions};
use c2c_data::prompts::{PromptFormat, multiple_choice};
use c2c_export::artefact;
use c2c_fuser::{C2c, Fusion, ModelSource, PairBatch, PairModels};
use c2c_lm::{DecodeOptions, Finish, Generated, Lm, LogitsWanted, ModelDtype, SamplingParams, TokenBatch, decode};
use c2c_tests::{B, device};
use c2c_text::{AlignStrategy, Message, PairText, SectionCut, TokenMode, Tokenizer};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

const ROWS: usize = 8;

fn pair() -> (C2c<B>, PairText) {
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("..");
    let source = |name: &str| ModelSource { folder: root.join("datasets/pocket").join(name), dtype: ModelDtype::F32 };
    let mode = TokenMode::Aligned(AlignStrategy::Spans);
    let models =
        PairModels::load(&source("receiver"), &source("sharer"), mode, SectionCut::Message, &device()).unwrap();
    let fuser = artefact::load(&root.join("exports/pocket"), &device()).unwrap().fuser;
    (C2c::new(models.receiver, models.sharer, fuser).unwrap(), models.text)
}

/// Questions of the test places with two to four choices, with and without a cue: prompts and replies of many lengths.
fn chats() -> Vec<[Message; 1]> {
    let questions = world_questions(Split::Test, None, 1, 3).rows;
    let chats = questions.iter().step_by(31).take(ROWS).enumerate().map(|(row, question)| {
        let format = if row % 2 == 0 { PromptFormat::PlainTrimmed } else { PromptFormat::PlainCued };
        [Message::user(multiple_choice(format, &question.question, &question.choices[..2 + row % 3]))]
    });
    let chats: Vec<_> = chats.collect();
    assert_eq!(chats.len(), ROWS);
    chats
}

fn options(eos: &[u32]) -> DecodeOptions {
    DecodeOptions { max_new_tokens: 10, eos: eos.to_vec(), ..Default::default() }
}

fn alone(model: &Lm<B>, prompts: &[Vec<u32>], eos: &[u32]) -> Generated {
    let width = prompts.iter().map(Vec::len).max().unwrap();
    let padded = |fill: u32, row: &[u32]| [vec![fill; width - row.len()], row.to_vec()].concat();
    let ids = prompts.iter().map(|row| padded(0, row)).collect();
    let mask = prompts.iter().map(|row| (0..width).map(|slot| slot >= width - row.len()).collect()).collect();
    let positions =
        prompts.iter().map(|row| (0..width).map(|slot| slot.saturating_sub(width - row.len())).collect()).collect();
    let tokens = TokenBatch::with_mask(ids, mask, positions).unwrap();
    let mut cache = model.new_cache(prompts.len());
    let logits = model.forward(&tokens, &mut cache, LogitsWanted::Last).unwrap();
    let next: Vec<usize> = prompts.iter().map(Vec::len).collect();
    let (sampling, mut rng) = (SamplingParams::default(), ChaCha8Rng::seed_from_u64(0));
    decode(model, &mut cache, logits, prompts, &next, &sampling, &options(eos), &mut rng).unwrap()
}

fn distinct<T: Ord + Clone>(values: &[T]) -> usize {
    values.iter().collect::<std::collections::BTreeSet<_>>().len()
}

/// `reply(rows, eos)` answers some of the rows together. Compared with the models' own end tokens, without any, and with
/// one that ends some rows before others.
fn assert_rows_reply_as_singles(
    name: &str,
    lengths: &[usize],
    own_eos: &[u32],
    reply: impl Fn(&[usize], &[u32]) -> Generated,
) {
    assert!(distinct(lengths) > 3, "{name}: lengths {lengths:?}");
    let all: Vec<usize> = (0..ROWS).collect();
    let free = reply(&all, &[]);
    assert!(distinct(&free.tokens) > 3, "{name}: replies that are all alike prove little: {:?}", free.tokens);
    // The letter that row 0 answers; other rows answer others and go on without it.
    let letter = [free.tokens[0][4]];
    for eos in [&[], own_eos, &letter] {
        let together = reply(&all, eos);
        for row in all.iter().copied() {
            let single = reply(&[row], eos);
            assert_eq!(together.tokens[row], single.tokens[0], "{name}, row {row} of {lengths:?}, ends {eos:?}");
            assert_eq!(together.finish[row], single.finish[0], "{name}, row {row}, ends {eos:?}");
        }
        assert_eq!(together.finish.contains(&Finish::Eos), !eos.is_empty(), "{name}, ends {eos:?}");
        if eos == letter {
            let lengths: Vec<usize> = together.tokens.iter().map(Vec::len).collect();
            assert!(distinct(&lengths) > 1, "{name}: {lengths:?}");
        }
    }
}

#[test]
fn eight_rows_reply_as_eight_singles() {
    let (c2c, text) = pair();
    let chats = chats();
    let own = |tokenizer: &Tokenizer| -> Vec<Vec<u32>> {
        let ids = |chat: &[Message; 1]| tokenizer.encode(&tokenizer.render_chat(chat, true).unwrap()).unwrap().ids;
        chats.iter().map(ids).collect()
    };
    for (name, model, prompts) in
        [("receiver", &c2c.receiver, own(text.receiver())), ("sharer", &c2c.sharer, own(text.sharer()))]
    {
        let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
        assert_rows_reply_as_singles(name, &lengths, &model.config().generation.eos, |rows, eos| {
            let prompts: Vec<Vec<u32>> = rows.iter().map(|row| prompts[*row].clone()).collect();
            alone(model, &prompts, eos)
        });
    }
    let prompts: Vec<_> = chats.iter().map(|chat| text.prompt(chat).unwrap()).collect();
    let lengths: Vec<usize> = prompts.iter().map(|prompt| prompt.len()).collect();
    assert_rows_reply_as_singles("c2c", &lengths, &c2c.receiver.config().generation.eos, |rows, eos| {
        let prompts: Vec<_> = rows.iter().map(|row| prompts[*row].clone()).collect();
        let batch = PairBatch::collate(&prompts, 0, 0).unwrap();
        let (sampling, mut rng) = (SamplingParams::default(), ChaCha8Rng::seed_from_u64(0));
        c2c.generate(&batch, Fusion::On, &sampling, &options(eos), &mut rng).unwrap()
    });
}
