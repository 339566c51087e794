//! A share of each prompt fused: all of it is today's path, nothing of it the Receiver, and batches change neither.

use c2c_eval::Baselines;
use c2c_fuser::Prefilled;
use c2c_recipe::AnswerMode;
use c2c_text::{End, FusedShare, Prompt};

use super::*;

const FUSING: [Method; 5] =
    [Method::C2c, Method::Mismatched, Method::GatesShut, Method::Several, Method::SeveralMismatched];
const ENDS: [End; 2] = [End::Front, End::Back];
const MODES: [AnswerMode; 2] = [AnswerMode::Generate, AnswerMode::Logits];

fn part(share: f64, from: End) -> Option<FusedShare> {
    Some(FusedShare { share, from })
}

fn of_share(methods: &[Method], batch_size: usize, fused: Option<FusedShare>) -> EvalSettings {
    EvalSettings { fused, ..settings(methods, batch_size) }
}

/// A pair with token alignment, and one with shared ids.
fn toys() -> [Toy; 2] {
    [false, true].map(|shared| Toy::of(&Shape { shared, ..Shape::default() }))
}

fn prompts(toy: &Toy) -> Vec<Prompt> {
    questions().iter().map(|question| toy.text.prompt(&chat(question)).unwrap()).collect()
}

/// The records without what only a share says.
fn unsaid(records: Vec<Record>) -> Vec<Record> {
    records.into_iter().map(|record| Record { fused_tokens: None, ..record }).collect()
}

#[test]
fn all_of_a_prompt_is_fused_to_the_bit_as_without_a_share() {
    for toy in toys() {
        for (mode, batch_size) in MODES.into_iter().flat_map(|mode| [1, 5].map(|size| (mode, size))) {
            let of = |fused| EvalSettings { mode, ..of_share(&FUSING, batch_size, fused) };
            let whole = untimed(&toy.evaluate(&questions(), &of(None)));
            assert!(whole.iter().all(|record| record.error.is_none() && record.fused_tokens.is_none()));
            for end in ENDS {
                let all = untimed(&toy.evaluate(&questions(), &of(part(1.0, end))));
                for (record, prompt) in all.iter().zip(prompts(&toy).iter().cycle()) {
                    assert_eq!(record.fused_tokens, Some(prompt.fused_tokens() as u32));
                }
                assert_eq!(unsaid(all), whole, "{mode} {end:?}");
            }
        }
    }
}

#[test]
fn nothing_of_a_prompt_is_fused_and_the_receiver_answers() {
    for toy in toys() {
        for (prompt, end) in prompts(&toy).into_iter().zip(ENDS.into_iter().cycle()) {
            let none = prompt.clone().fused_in_part(FusedShare { share: 0.0, from: end });
            let logits = |prompt: &Prompt, fusion| -> Vec<f32> {
                let batch = PairBatch::collate(std::slice::from_ref(prompt), 0, 0).unwrap();
                let Prefilled { logits, .. } = toy.c2c.prefill(&batch, fusion, LogitsWanted::Last).unwrap();
                logits.into_data().iter::<f32>().collect()
            };
            let unfused = logits(&none, Fusion::On);
            assert_eq!(unfused, logits(&none, Fusion::Off), "the Receiver over the same sections, to the bit");
            // Where fusion would have ended a section, the Receiver stops to read and goes on: other sums of the same.
            let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-3 * (1.0 + b.abs());
            assert!(unfused.iter().zip(&logits(&prompt, Fusion::Off)).all(near));
            assert!(!unfused.iter().zip(&logits(&prompt, Fusion::On)).all(near));
        }
        // The control with shut gates is the Receiver over the whole prompt's sections.
        let shut = toy.evaluate(&questions(), &settings(&[Method::GatesShut], 5));
        let outputs = |records: &[Record]| records.iter().map(|record| record.output.clone()).collect::<Vec<_>>();
        for end in ENDS {
            let none = toy.evaluate(&questions(), &of_share(&FUSING, 5, part(0.0, end)));
            assert_eq!(none.gates_shut_bit_equal, Some(true));
            for method in FUSING {
                let records: Vec<Record> = of(&none.records, method).into_iter().cloned().collect();
                assert!(records.iter().all(|record| record.fused_tokens == Some(0)), "{method}");
                assert_eq!(outputs(&records), outputs(&shut.records), "{method}");
            }
        }
    }
}

#[test]
fn each_row_of_a_batch_is_cut_at_its_own_place() {
    for toy in toys() {
        for (share, end) in [0.1, 0.3, 0.75].into_iter().flat_map(|share| ENDS.map(|end| (share, end))) {
            let alone = toy.evaluate(&questions(), &of_share(&FUSING, 1, part(share, end)));
            assert_eq!(alone.gates_shut_bit_equal, Some(true), "{share} {end:?}");
            assert!(alone.records.iter().all(|record| record.error.is_none()));
            let counts: HashSet<Option<u32>> = alone.records.iter().map(|record| record.fused_tokens).collect();
            assert!(counts.len() > 2 || share < 0.2, "{counts:?}");
            for batch_size in [5, 13] {
                let together = toy.evaluate(&questions(), &of_share(&FUSING, batch_size, part(share, end)));
                assert_eq!(untimed(&together), untimed(&alone), "{share} {end:?} by {batch_size}");
            }
        }
    }
}

#[test]
fn a_share_is_answered_on_the_cache_that_it_makes() {
    for toy in toys() {
        let mut seen = Vec::new();
        for (share, end) in [0.25, 0.5].into_iter().flat_map(|share| ENDS.map(|end| (share, end))) {
            let asked = EvalSettings { mode: AnswerMode::Logits, ..of_share(&[Method::C2c], 4, part(share, end)) };
            let generated = toy.evaluate(&questions(), &of_share(&[Method::C2c], 4, part(share, end)));
            for (record, whole) in generated.records.iter().zip(prompts(&toy)) {
                let count = (whole.fused_tokens() as f64 * share) as usize;
                assert_eq!(record.fused_tokens, Some(count as u32));
                let prompt = whole.fused_in_part(FusedShare { share, from: end });
                assert_eq!(record.prompt_tokens as usize, prompt.receiver_tokens().len());
                let batch = PairBatch::collate(&[prompt], 0, 0).unwrap();
                let eos = receiver_eos(toy.text.receiver());
                let options = DecodeOptions { max_new_tokens: 6, eos, ..Default::default() };
                let (sampling, mut rng) = (SamplingParams::default(), ChaCha8Rng::seed_from_u64(0));
                let by_hand = toy.c2c.generate(&batch, Fusion::On, &sampling, &options, &mut rng).unwrap();
                let text = toy.text.receiver().decode(&by_hand.tokens[0], true).unwrap();
                assert_eq!(record.output, text.trim_matches('\n'));
            }
            let letters = toy.evaluate(&questions(), &asked).records;
            seen.push(letters.into_iter().map(|record| record.letter_logprobs).collect::<Vec<_>>());
        }
        // Each share from each end is something else.
        for (place, one) in seen.iter().enumerate() {
            assert!(seen[..place].iter().all(|other| other != one), "{place}");
        }
    }
}

#[test]
fn who_fuses_nothing_does_not_notice() {
    let toy = Toy::of(&Shape { receiver_context: 400, sharer_context: 400, ..Shape::default() });
    let methods = [Method::Receiver, Method::Sharer, Method::T2t, Method::FewShot, Method::Oracle];
    let example = question(23, "What is the metal of Skundel?", &["iron", "lead"]);
    let of = |fused| EvalSettings {
        baselines: Baselines { t2t_max_new_tokens: 5, examples: vec![example.clone()], ..Baselines::default() },
        ..of_share(&methods, 4, fused)
    };
    let whole = untimed(&toy.evaluate(&questions(), &of(None)));
    assert_eq!(untimed(&toy.evaluate(&questions(), &of(part(0.3, End::Back)))), whole);
}

/// Over all messages of the chat, which is known only when the Sharer has written its text.
#[test]
fn a_chat_with_the_sharers_text_is_fused_in_part() {
    let toy = Toy::of(&Shape { receiver_context: 400, sharer_context: 400, ..Shape::default() });
    let of = |batch_size, fused| {
        let baselines = Baselines { t2t_max_new_tokens: 5, ..Baselines::default() };
        let asked = EvalSettings { baselines, ..of_share(&[Method::T2tC2c], batch_size, fused) };
        untimed(&toy.evaluate(&questions(), &asked))
    };
    let whole = of(4, part(1.0, End::Front));
    assert_eq!(unsaid(whole.clone()), of(4, None));
    for end in ENDS {
        let some = of(5, part(0.4, end));
        assert_eq!(some, of(1, part(0.4, end)), "{end:?}");
        for (some, whole) in some.iter().zip(&whole) {
            assert_eq!(some.error, None);
            let all = whole.fused_tokens.unwrap();
            assert_eq!(some.fused_tokens, Some((f64::from(all) * 0.4) as u32), "of {all}");
            assert_eq!((&some.message, &some.prompt_sha256), (&whole.message, &whole.prompt_sha256));
        }
        assert_ne!(unsaid(some), unsaid(whole.clone()), "{end:?}");
    }
}

#[test]
fn the_sharer_reads_no_further_than_is_fused() {
    let toy = Toy::of(&Shape { sharer_context: 24, ..Shape::default() });
    let errors = |share, end| {
        let records = toy.evaluate(&questions(), &of_share(&[Method::C2c], 4, part(share, end))).records;
        records.iter().filter(|record| record.error.is_some()).count()
    };
    assert_eq!((errors(1.0, End::Front), errors(0.2, End::Back)), (13, 13));
    assert_eq!((errors(0.2, End::Front), errors(0.0, End::Back)), (0, 0));
}
