//! The evaluation engine on a toy pair.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod baselines;
mod chat;
mod modes;
mod several;
mod shares;
mod sittings;
mod toy;

use std::collections::HashSet;

use burn::Dispatch;
use c2c_data::prompts::{PromptFormat, multiple_choice};
use c2c_data::{McQuestion, letter};
use c2c_eval::extract::{Compat, extract_letter};
use c2c_eval::{EvalError, EvalPair, EvalProgress, EvalSettings, Record, evaluate};
use c2c_fuser::{Fusion, PairBatch};
use c2c_lm::{DecodeOptions, Finish, Generated, Lm, LogitsWanted, SamplingParams, TokenBatch, decode};
use c2c_recipe::Method;
use c2c_text::Message;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use toy::{ALL, Shape, Toy, named, question, questions, receiver_eos, settings, untimed};

fn of(records: &[Record], method: Method) -> Vec<&Record> {
    records.iter().filter(|record| record.method == method).collect()
}

fn chat(question: &McQuestion) -> [Message; 1] {
    [Message::user(multiple_choice(PromptFormat::PlainTrimmed, &question.question, &question.choices))]
}

#[test]
fn a_record_for_every_method_and_question_in_order() {
    let questions = questions();
    let evaluation = Toy::new().evaluate(&questions, &settings(&ALL, 4));
    let order: Vec<(Method, &str)> =
        evaluation.records.iter().map(|record| (record.method, record.question_id.as_str())).collect();
    let expected: Vec<(Method, &str)> =
        ALL.iter().flat_map(|method| questions.iter().map(move |q| (*method, q.id.as_str()))).collect();
    assert_eq!(order, expected);

    for (record, question) in evaluation.records.iter().zip(questions.iter().cycle()) {
        assert_eq!(record.error, None);
        assert_eq!((&record.gold, &record.subject), (&letter(question.answer).to_string(), &question.subject));
        assert_eq!((record.benchmark.as_str(), record.choices as usize), ("toys", question.choices.len()));
        let found = extract_letter(&record.output, question.choices.len(), Compat::Fixed);
        assert_eq!(record.answer, found.map(|found| found.letter.to_string()));
        assert_eq!(record.rule, found.map(|found| found.rule));
        assert_eq!(record.correct, record.answer.as_ref() == Some(&record.gold));
        assert_eq!(record.finish == Some(Finish::Length), record.output_tokens == 6);
        assert_eq!(record.prompt_sha256.len(), 64);
        assert_eq!(record.partner.is_some(), record.method == Method::Mismatched);
    }
    assert_eq!(evaluation.results.iter().map(|result| result.method).collect::<Vec<_>>(), ALL);
    for result in &evaluation.results {
        let records = of(&evaluation.records, result.method);
        assert_eq!(result.accuracy.correct, records.iter().filter(|record| record.correct).count());
        assert_eq!((result.accuracy.total, result.skipped), (questions.len(), 0));
        assert_eq!(result.answers.values().sum::<usize>(), questions.len());
        assert_eq!(result.answers.keys().collect::<Vec<_>>(), ["A", "B", "C", "D", "none"]);
    }
    let compared: Vec<Method> = evaluation.differences.iter().map(|(_, other, _)| *other).collect();
    assert_eq!(compared, [Method::Receiver, Method::Sharer, Method::Mismatched]);
}

#[test]
fn time_goes_to_the_parts_that_a_method_has() {
    let evaluation = Toy::new().evaluate(&questions(), &settings(&ALL, 4));
    for record in &evaluation.records {
        let fused = !matches!(record.method, Method::Receiver | Method::Sharer);
        let has = [record.method != Method::Sharer, record.method != Method::Receiver, false, fused, true];
        assert_eq!(record.phases.values().map(|part| part > 0.0), has, "{record:?}");
        // The parts are taken within the whole; only rounding may make their sum larger.
        assert!(record.phases.sum() <= record.milliseconds * (1.0 + 1e-9), "{record:?}");
    }
}

#[test]
fn the_same_run_gives_the_same_records() {
    let run = || Toy::new().evaluate(&questions(), &settings(&ALL, 4));
    let (first, second) = (run(), run());
    assert_eq!(untimed(&first), untimed(&second));
    assert_eq!(first.differences, second.differences);
}

#[test]
fn batching_changes_no_record() {
    let toy = Toy::new();
    let one = untimed(&toy.evaluate(&questions(), &settings(&ALL, 1)));
    for batch_size in [5, 100] {
        assert_eq!(untimed(&toy.evaluate(&questions(), &settings(&ALL, batch_size))), one);
    }
    // The comparison says something only if prompts and methods lead to different replies, of different lengths.
    let outputs = |method| of(&one, method).iter().map(|record| record.output.clone()).collect::<Vec<_>>();
    for method in ALL {
        assert!(outputs(method).iter().collect::<HashSet<_>>().len() > 2, "{method}: {:?}", outputs(method));
    }
    assert_ne!(outputs(Method::C2c), outputs(Method::Receiver));
    for finish in [Finish::Eos, Finish::Length] {
        assert!(one.iter().any(|record| record.finish == Some(finish)), "{finish:?}");
    }
}

#[test]
fn shut_gates_are_the_receiver_to_the_bit() {
    let toy = Toy::new();
    let evaluation = toy.evaluate(&questions(), &settings(&[Method::GatesShut], 5));
    assert_eq!(evaluation.gates_shut_bit_equal, Some(true));
    let evaluation = toy.evaluate(&questions(), &settings(&[Method::C2c], 5));
    assert_eq!(evaluation.gates_shut_bit_equal, None);
}

#[test]
fn models_of_one_vocabulary_share_ids() {
    let toy = Toy::of(&Shape { shared: true, ..Shape::default() });
    let questions = questions();
    let evaluation = toy.evaluate(&questions, &settings(&ALL, 5));
    assert!(evaluation.records.iter().all(|record| record.error.is_none()));
    assert_eq!(evaluation.gates_shut_bit_equal, Some(true));
    // There is no padding between the sections, so the shut pair reads what the receiver alone reads.
    let outputs = |method| of(&evaluation.records, method).iter().map(|r| r.output.clone()).collect::<Vec<_>>();
    assert_eq!(outputs(Method::GatesShut), outputs(Method::Receiver));
    assert_ne!(outputs(Method::C2c), outputs(Method::Receiver));
    assert_ne!(outputs(Method::C2c), outputs(Method::Mismatched));
}

/// Greedy decoding of one prompt, by hand.
fn greedy(model: &Lm<Dispatch>, eos: Vec<u32>, ids: &[u32], max_new_tokens: usize) -> Generated {
    let mut cache = model.new_cache(1);
    let tokens = TokenBatch::new(vec![ids.to_vec()], 0).unwrap();
    let logits = model.forward(&tokens, &mut cache, LogitsWanted::Last).unwrap();
    let options = DecodeOptions { max_new_tokens, eos, ..Default::default() };
    let sampling = SamplingParams::default();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    decode(model, &mut cache, logits, &[ids.to_vec()], &[ids.len()], &sampling, &options, &mut rng).unwrap()
}

#[test]
fn each_model_alone_reads_its_own_chat() {
    let toy = Toy::new();
    let questions = questions();
    let evaluation = toy.evaluate(&questions, &settings(&[Method::Receiver, Method::Sharer], 4));
    let models = [
        (Method::Receiver, &toy.c2c.receiver, toy.text.receiver(), receiver_eos(toy.text.receiver())),
        (Method::Sharer, &toy.c2c.sharer, toy.text.sharer(), vec![toy.text.sharer().eos_id().unwrap()]),
    ];
    for (method, model, tokenizer, eos) in models {
        for (record, question) in of(&evaluation.records, method).into_iter().zip(&questions) {
            let ids = tokenizer.encode(&tokenizer.render_chat(&chat(question), true).unwrap()).unwrap().ids;
            let generated = greedy(model, eos.clone(), &ids, 6);
            let text = tokenizer.decode(&generated.tokens[0], true).unwrap();
            assert_eq!(record.output, text.trim_matches('\n'));
            assert_eq!(record.finish, Some(generated.finish[0]));
            assert_eq!(record.prompt_tokens as usize, ids.len());
        }
    }
}

#[test]
fn c2c_answers_on_the_fused_cache() {
    let toy = Toy::new();
    let questions = questions();
    let evaluation = toy.evaluate(&questions, &settings(&[Method::C2c], 4));
    for (record, question) in evaluation.records.iter().zip(&questions) {
        let prompt = toy.text.prompt(&chat(question)).unwrap();
        assert_eq!(record.prompt_tokens as usize, prompt.receiver_tokens().len());
        let batch = PairBatch::collate(&[prompt], 0, 0).unwrap();
        let options = DecodeOptions { max_new_tokens: 6, eos: receiver_eos(toy.text.receiver()), ..Default::default() };
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let generated = toy.c2c.generate(&batch, Fusion::On, &SamplingParams::default(), &options, &mut rng).unwrap();
        let text = toy.text.receiver().decode(&generated.tokens[0], true).unwrap();
        assert_eq!(record.output, text.trim_matches('\n'));
    }
}

#[test]
fn the_mismatched_control_changes_what_the_sharer_reads() {
    let questions = questions();
    let evaluation = Toy::new().evaluate(&questions, &settings(&[Method::C2c, Method::Mismatched], 4));
    let (c2c, mismatched) = (of(&evaluation.records, Method::C2c), of(&evaluation.records, Method::Mismatched));
    for ((own, control), question) in c2c.iter().zip(&mismatched).zip(&questions) {
        assert_eq!(own.prompt_tokens, control.prompt_tokens);
        assert_ne!(own.prompt_sha256, control.prompt_sha256);
        let partner = questions.iter().find(|other| Some(&other.id) == control.partner.as_ref()).unwrap();
        assert_ne!(partner.question, question.question);
    }
    assert!(c2c.iter().zip(&mismatched).any(|(own, control)| own.output != control.output));
}

#[test]
fn a_question_past_the_context_is_a_wrong_answer_with_a_reason() {
    let long = question(13, &"What is the stone of Durmal and of Okean? ".repeat(40), &["iron", "lead"]);
    let short = questions();
    let mut with_long = short.clone();
    with_long.insert(4, long);
    let toy = Toy::new();
    let evaluation = toy.evaluate(&with_long, &settings(&ALL, 4));
    assert_eq!(evaluation.records.len(), ALL.len() * 14);
    for method in ALL {
        let records = of(&evaluation.records, method);
        let failed = records[4];
        let reason = failed.error.as_deref().unwrap();
        assert!(reason.contains("context of 96"), "{reason}");
        assert_eq!(
            (failed.correct, failed.answer.clone(), failed.finish, failed.output_tokens),
            (false, None, None, 0)
        );
        assert!(failed.prompt_tokens > 96 && failed.prompt_sha256.len() == 64);
        assert!(records.iter().all(|record| record.error.is_some() == (record.question_id == "q13")));
        let result = evaluation.result(method).unwrap();
        assert_eq!((result.accuracy.total, result.skipped), (14, 1));
    }
    // The other questions are answered as without it. (Mismatched pairs are drawn anew.)
    let alone = toy.evaluate(&short, &settings(&ALL, 4));
    for method in [Method::Receiver, Method::Sharer, Method::C2c, Method::GatesShut] {
        let outputs = |records| of(records, method).iter().map(|r| (r.question_id.clone(), r.output.clone())).collect();
        let mut with_long: Vec<(String, String)> = outputs(&evaluation.records);
        with_long.remove(4);
        let without: Vec<(String, String)> = outputs(&alone.records);
        assert_eq!(with_long, without);
    }
}

#[test]
fn the_longest_reply_has_to_fit_as_well() {
    let toy = Toy::new();
    let questions = questions();
    let ids = toy.text.receiver().encode(&toy.text.receiver().render_chat(&chat(&questions[0]), true).unwrap());
    // The last token of a reply is never read.
    let room = toy::CONTEXT - ids.unwrap().ids.len() + 1;
    let error = |max_new_tokens| {
        let settings = EvalSettings { max_new_tokens, ..settings(&[Method::Receiver], 4) };
        toy.evaluate(&questions[..1], &settings).records[0].error.clone()
    };
    assert_eq!(error(room), None);
    assert!(error(room + 1).unwrap().contains("97 positions"));
}

#[test]
fn the_sharers_context_counts_for_fused_methods_only() {
    let toy = Toy::of(&Shape { sharer_context: 24, ..Shape::default() });
    let evaluation = toy.evaluate(&questions(), &settings(&[Method::Receiver, Method::C2c], 4));
    assert!(of(&evaluation.records, Method::Receiver).iter().all(|record| record.error.is_none()));
    for record in of(&evaluation.records, Method::C2c) {
        assert!(record.error.as_deref().unwrap().contains("context of 24"));
    }
}

#[test]
fn a_template_that_refuses_a_question_fails_that_question_only() {
    let mut questions = questions();
    questions[6].question = "Where is Atlantis?".to_owned();
    let evaluation = Toy::new().evaluate(&questions, &settings(&ALL, 4));
    for record in &evaluation.records {
        let refused = record.question_id == "q6" && record.method != Method::Receiver;
        assert_eq!(record.error.is_some(), refused, "{record:?}");
        if refused {
            assert!(record.error.as_deref().unwrap().contains("Atlantis is not on the map"));
            assert_eq!((record.prompt_tokens, record.prompt_sha256.as_str()), (0, ""));
        }
        assert_ne!(record.partner.as_deref(), Some("q6"));
    }
}

#[test]
fn questions_of_a_failed_batch_are_tried_alone() {
    // A padding id that the receiver doesn't know: batches with padding fail, single questions have none.
    let broken = Toy::of(&Shape { receiver_pad: Some(9999), ..Shape::default() });
    let settings = settings(&[Method::Receiver, Method::C2c], 13);
    assert_eq!(
        untimed(&broken.evaluate(&questions(), &settings)),
        untimed(&Toy::new().evaluate(&questions(), &settings))
    );
}

#[test]
fn a_single_question_has_no_mismatched_control() {
    let evaluation = Toy::new().evaluate(&questions()[..1], &settings(&[Method::C2c, Method::Mismatched], 4));
    assert_eq!(evaluation.records[0].error, None);
    assert!(evaluation.records[1].error.as_deref().unwrap().contains("no other question"));
    assert!(!evaluation.records[1].correct);
}

#[test]
fn progress_ends_at_the_totals_of_each_method() {
    let toy = Toy::new();
    let questions = questions();
    let mut seen: Vec<EvalProgress> = Vec::new();
    let settings = settings(&[Method::Sharer, Method::C2c], 5);
    let evaluation = evaluate(&toy.pair(), &named(&questions), &settings, &mut |progress| seen.push(progress)).unwrap();
    let done: Vec<(Method, usize)> = seen.iter().map(|progress| (progress.method, progress.done)).collect();
    let expected = [Method::Sharer, Method::C2c].map(|method| [0, 5, 10, 13].map(|done| (method, done)));
    assert_eq!(done, expected.concat());
    for (place, last) in [seen[3], seen[7]].into_iter().enumerate() {
        assert_eq!((last.total, last.place, last.methods), (13, place, 2));
        assert_eq!(last.correct, evaluation.result(last.method).unwrap().accuracy.correct);
    }
}

#[test]
fn what_would_fail_on_every_question_is_refused_at_the_door() {
    let toy = Toy::new();
    let refusal = |pair: &EvalPair<'_, Dispatch>, questions: &[McQuestion], settings: &EvalSettings| {
        evaluate(pair, &named(questions), settings, &mut |_| {}).unwrap_err()
    };
    assert!(matches!(refusal(&toy.pair(), &[], &settings(&ALL, 1)), EvalError::NoQuestions));
    assert!(matches!(refusal(&toy.pair(), &questions(), &settings(&[], 1)), EvalError::Settings { .. }));
    // Models that have changed places: neither fits the fuser, and the receiver's place has too small a model.
    let mut swapped = toy.c2c.clone();
    std::mem::swap(&mut swapped.receiver, &mut swapped.sharer);
    let pair = EvalPair { models: c2c_eval::EvalModels::Pair(&swapped), text: &toy.text };
    assert!(matches!(refusal(&pair, &questions(), &settings(&[Method::C2c], 1)), EvalError::Fuser(_)));
    let message = refusal(&pair, &questions(), &settings(&[Method::Sharer], 1)).to_string();
    assert!(message.contains("tokenizer"), "{message}");
}
