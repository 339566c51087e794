//! The baselines against the same work done by hand, row by row, without batches and without anything reused.

use c2c_data::{answer_sentence, choice_lines};
use c2c_eval::{Baselines, EvalError};
use c2c_fuser::C2c;
use c2c_lm::{Finish, KvCache};
use c2c_text::Tokenizer;

use super::*;

pub const BASELINES: [Method; 4] = [Method::T2t, Method::T2tC2c, Method::FewShot, Method::Oracle];
const TEMPLATE: &str = "Of what use is {question} One of:\n{choices}";

fn toy() -> Toy {
    Toy::of(&Shape { receiver_context: 400, sharer_context: 400, ..Shape::default() })
}

/// One that leads this untrained receiver to replies of several kinds.
fn examples() -> Vec<McQuestion> {
    vec![question(23, "What is the metal of Skundel?", &["iron", "lead"])]
}

fn asked(methods: &[Method], batch_size: usize) -> EvalSettings {
    let baselines = Baselines {
        t2t_template: TEMPLATE.to_owned(),
        t2t_max_new_tokens: 5,
        examples: examples(),
        ..Baselines::default()
    };
    EvalSettings { baselines, ..settings(methods, batch_size) }
}

fn put(question: &McQuestion) -> String {
    multiple_choice(PromptFormat::PlainTrimmed, &question.question, &question.choices)
}

fn ids(tokenizer: &Tokenizer, chat: &[Message]) -> Vec<u32> {
    tokenizer.encode(&tokenizer.render_chat(chat, true).unwrap()).unwrap().ids
}

/// The examples' turns and the question's.
fn with_examples(question: &McQuestion) -> Vec<Message> {
    let turns =
        examples().into_iter().flat_map(|e| [Message::user(put(&e)), Message::assistant(answer_sentence(e.answer))]);
    turns.chain([Message::user(put(question))]).collect()
}

/// The request, its answer by the sharer, and its length in tokens.
fn told(toy: &Toy, question: &McQuestion) -> (String, String, usize) {
    let request = format!("Of what use is {} One of:\n{}", question.question, choice_lines(&question.choices));
    let sharer = toy.text.sharer();
    let prompt = ids(sharer, &[Message::user(request.clone())]);
    let written = greedy(&toy.c2c.sharer, vec![sharer.eos_id().unwrap()], &prompt, 5);
    let text = sharer.decode(&written.tokens[0], true).unwrap().trim().to_owned();
    (request, text, written.tokens[0].len())
}

fn output(toy: &Toy, tokens: &[u32]) -> String {
    toy.text.receiver().decode(tokens, true).unwrap().trim_matches('\n').to_owned()
}

#[test]
fn batches_reuse_and_shards_change_no_record() {
    let toy = toy();
    let methods = [&ALL[..], &BASELINES].concat();
    let one = untimed(&toy.evaluate(&questions(), &asked(&methods, 1)));
    assert!(one.iter().all(|record| record.error.is_none()), "{one:#?}");
    let outputs = |method| of(&one, method).iter().map(|record| record.output.clone()).collect::<Vec<_>>();
    for method in BASELINES {
        assert!(outputs(method).iter().collect::<HashSet<_>>().len() > 2, "{method}: {:?}", outputs(method));
    }
    for reuse_prefix in [true, false] {
        for batch_size in [1, 5, 100] {
            let mut settings = asked(&methods, batch_size);
            settings.baselines.reuse_prefix = reuse_prefix;
            let records = untimed(&toy.evaluate(&questions(), &settings));
            assert_eq!(records, one, "batches of {batch_size}, reuse {reuse_prefix}");
        }
    }
}

#[test]
fn the_receiver_answers_with_the_text_that_the_sharer_wrote() {
    let toy = toy();
    let evaluation = toy.evaluate(&questions(), &asked(&[Method::T2t, Method::T2tC2c], 4));
    let eos = receiver_eos(toy.text.receiver());
    let mut texts = HashSet::new();
    for (place, question) in questions().iter().enumerate() {
        let (request, text, tokens) = told(&toy, question);
        let chat = [Message::user(request), Message::assistant(text.clone()), Message::user(put(question))];
        texts.insert(text.clone());

        let record = of(&evaluation.records, Method::T2t)[place];
        assert_eq!((record.message.as_ref(), record.message_tokens as usize), (Some(&text), tokens));
        let prompt = ids(toy.text.receiver(), &chat);
        let generated = greedy(&toy.c2c.receiver, eos.clone(), &prompt, 6);
        assert_eq!(record.output, output(&toy, &generated.tokens[0]));
        assert_eq!(record.prompt_tokens as usize, prompt.len());

        let record = of(&evaluation.records, Method::T2tC2c)[place];
        assert_eq!((record.message.as_ref(), record.message_tokens as usize), (Some(&text), tokens));
        let prompt = toy.text.prompt(&chat).unwrap();
        let batch = PairBatch::collate(&[prompt], 0, 0).unwrap();
        let options = DecodeOptions { max_new_tokens: 6, eos: eos.clone(), ..Default::default() };
        let (sampling, mut rng) = (SamplingParams::default(), ChaCha8Rng::seed_from_u64(0));
        let generated = toy.c2c.generate(&batch, Fusion::On, &sampling, &options, &mut rng).unwrap();
        assert_eq!(record.output, output(&toy, &generated.tokens[0]));
    }
    assert!(texts.len() > 3, "{texts:?}");
    // The prompt's hash follows the text: the same question after another request is another prompt.
    let mut other = asked(&[Method::T2t], 4);
    other.baselines.t2t_max_new_tokens = 1;
    let shorter = toy.evaluate(&questions(), &other);
    for (short, long) in shorter.records.iter().zip(of(&evaluation.records, Method::T2t)) {
        assert_eq!(short.prompt_sha256 == long.prompt_sha256, short.message == long.message);
    }
}

#[test]
fn examples_stand_before_the_question() {
    let toy = toy();
    let evaluation = toy.evaluate(&questions(), &asked(&[Method::FewShot], 4));
    for (record, question) in evaluation.records.iter().zip(&questions()) {
        let prompt = ids(toy.text.receiver(), &with_examples(question));
        let generated = greedy(&toy.c2c.receiver, receiver_eos(toy.text.receiver()), &prompt, 6);
        assert_eq!(record.output, output(&toy, &generated.tokens[0]));
        assert_eq!((record.prompt_tokens as usize, record.finish), (prompt.len(), Some(generated.finish[0])));
    }
}

/// Reads one row from `start` on; returns the last logits.
fn read(
    model: &Lm<Dispatch>,
    cache: &mut KvCache<Dispatch>,
    ids: &[u32],
    start: usize,
) -> burn::tensor::Tensor<Dispatch, 3> {
    let tokens = TokenBatch::new(vec![ids.to_vec()], start).unwrap();
    model.forward(&tokens, cache, LogitsWanted::Last).unwrap()
}

/// Cache enrichment of one row in one go: no prefix, no padding, no batch.
fn enriched_by_hand(toy: &Toy, question: &McQuestion, layers: Option<&[usize]>) -> Generated {
    let C2c { receiver, .. } = &toy.c2c;
    let all = ids(toy.text.receiver(), &with_examples(question));
    let own = ids(toy.text.receiver(), &[Message::user(put(question))]);
    // This template begins with the user's turn, so all of the question's prompt is the end of the other.
    assert!(all.ends_with(&own));
    let (n, dropped) = (all.len(), all.len() - own.len());
    let mut cache = receiver.new_cache(1);
    read(receiver, &mut cache, &all[..n - 1], 0);
    let mut cache = cache.without_slots(0..dropped).unwrap();
    if let Some(layers) = layers {
        let mut direct = receiver.new_cache(1);
        read(receiver, &mut direct, &own[..own.len() - 1], dropped);
        cache = direct.with_layers_of(&cache, layers).unwrap();
    }
    let logits = read(receiver, &mut cache, &all[n - 1..], n - 1);
    let options = DecodeOptions { max_new_tokens: 6, eos: receiver_eos(toy.text.receiver()), ..Default::default() };
    let (sampling, mut rng) = (SamplingParams::default(), ChaCha8Rng::seed_from_u64(0));
    decode(receiver, &mut cache, logits, &[all], &[n], &sampling, &options, &mut rng).unwrap()
}

#[test]
fn an_enriched_cache_has_the_questions_slots_and_no_others() {
    let toy = toy();
    let outputs = |layers: Option<Vec<usize>>| {
        let mut settings = asked(&[Method::Oracle], 4);
        settings.baselines.oracle_layers = layers;
        toy.evaluate(&questions(), &settings).records.iter().map(|r| r.output.clone()).collect::<Vec<_>>()
    };
    let by_hand = |layers: Option<&[usize]>| {
        let one = |q: &McQuestion| output(&toy, &enriched_by_hand(&toy, q, layers).tokens[0]);
        questions().iter().map(one).collect::<Vec<_>>()
    };
    let all = outputs(None);
    assert_eq!(all, by_hand(None));
    assert_eq!(all, outputs(Some(vec![0, 1])), "both layers by number are all layers");
    for layer in [0, 1] {
        assert_eq!(outputs(Some(vec![layer])), by_hand(Some(&[layer])), "layer {layer}");
    }
    assert_ne!(outputs(Some(vec![0])), outputs(Some(vec![1])));
    // Without an enriched layer it is the receiver alone: moved by some positions, at the same distances.
    let evaluation = toy.evaluate(&questions(), &asked(&[Method::Receiver, Method::FewShot], 4));
    let of_method = |method| of(&evaluation.records, method).iter().map(|r| r.output.clone()).collect::<Vec<_>>();
    assert_eq!(outputs(Some(vec![])), of_method(Method::Receiver));
    assert_ne!(all, of_method(Method::Receiver));
    assert_ne!(all, of_method(Method::FewShot));
}

#[test]
fn time_of_both_models_is_counted() {
    for reuse_prefix in [true, false] {
        let mut settings = asked(&BASELINES, 4);
        settings.baselines.reuse_prefix = reuse_prefix;
        for record in &toy().evaluate(&questions(), &settings).records {
            let (text, fused) = (record.method.writes_text(), record.method == Method::T2tC2c);
            let has = [true, text, text, fused, true];
            assert_eq!(record.phases.values().map(|part| part > 0.0), has, "{record:?}");
            assert!(record.phases.sum() <= record.milliseconds * (1.0 + 1e-9), "{record:?}");
        }
    }
}

#[test]
fn a_text_that_leaves_no_room_fails_its_question_only() {
    let toy = toy();
    let roomy = toy.evaluate(&questions(), &asked(&[Method::T2t], 13));
    let mut lengths: Vec<u32> = roomy.records.iter().map(|record| record.prompt_tokens).collect();
    lengths.sort_unstable();
    // Room for half of them with the longest reply, whose last token needs none.
    let middle = lengths[6];
    assert!(middle < lengths[12], "{lengths:?}");
    let tight = Toy::of(&Shape { receiver_context: middle as usize + 5, sharer_context: 400, ..Shape::default() });
    let evaluation = tight.evaluate(&questions(), &asked(&[Method::T2t], 13));
    for (record, free) in evaluation.records.iter().zip(&roomy.records) {
        assert_eq!(record.error.is_some(), free.prompt_tokens > middle, "{record:?}");
        match &record.error {
            Some(reason) => {
                assert!(reason.contains("with the sharer's text of") && record.message.is_none(), "{reason}")
            }
            None => assert_eq!((&record.output, record.finish), (&free.output, free.finish)),
        }
    }
    assert!(evaluation.records.iter().any(|record| record.finish == Some(Finish::Length)));
}

#[test]
fn a_model_with_windows_reads_examples_without_padding_between() {
    let toy = Toy::of(&Shape { receiver_context: 400, sharer_context: 400, windowed: true, ..Shape::default() });
    let evaluate = |batch_size, reuse_prefix| {
        let mut settings = asked(&[Method::FewShot, Method::Oracle], batch_size);
        settings.baselines.reuse_prefix = reuse_prefix;
        untimed(&toy.evaluate(&questions(), &settings))
    };
    let one = evaluate(1, false);
    assert!(one.iter().all(|record| record.error.is_none()));
    for (batch_size, reuse) in [(5, false), (1, true), (5, true)] {
        assert_eq!(evaluate(batch_size, reuse), one, "batches of {batch_size}, reuse {reuse}");
    }
}

#[test]
fn baselines_that_cannot_be_done_are_refused_at_the_door() {
    let toy = toy();
    type Change = dyn Fn(&mut Baselines);
    let refusal = |change: &Change| {
        let mut settings = asked(&BASELINES, 4);
        change(&mut settings.baselines);
        evaluate(&toy.pair(), &named(&questions()), &settings, &mut |_| {}).unwrap_err()
    };
    let cases: [(&Change, &str); 4] = [
        (&|b| b.examples.clear(), "baselines.examples = none for few_shot"),
        (&|b| b.oracle_layers = Some(vec![0, 2]), "2, of a receiver with 2 layers"),
        (&|b| b.t2t_template = "What?".into(), "a text with {question}"),
        (&|b| b.t2t_max_new_tokens = 0, "t2t_max_new_tokens = 0"),
    ];
    for (change, expected) in cases {
        let error = refusal(change);
        assert!(matches!(error, EvalError::Settings { .. }) && error.to_string().contains(expected), "{error}");
    }
}

/// Whoever doesn't need a fuser answers without one as with one, and the others are refused.
#[test]
fn without_a_fuser_the_others_answer_the_same() {
    let toy = toy();
    let C2c { receiver, sharer, .. } = &toy.c2c;
    let unfused = EvalPair { models: c2c_eval::EvalModels::Unfused { receiver, sharer }, text: &toy.text };
    let alone = EvalPair { models: c2c_eval::EvalModels::Receiver(receiver), text: &toy.text };
    let answers = |pair: &EvalPair<'_, Dispatch>, methods: &[Method]| {
        untimed(&evaluate(pair, &named(&questions()), &asked(methods, 4), &mut |_| {}).unwrap())
    };
    let methods = [Method::Receiver, Method::Sharer, Method::T2t, Method::FewShot, Method::Oracle];
    assert_eq!(answers(&unfused, &methods), answers(&toy.pair(), &methods));
    let own = [Method::Receiver, Method::FewShot, Method::Oracle];
    assert_eq!(answers(&alone, &own), answers(&toy.pair(), &own));
    let refusal = |pair: &EvalPair<'_, Dispatch>, method| {
        evaluate(pair, &named(&questions()), &asked(&[method], 4), &mut |_| {}).unwrap_err().to_string()
    };
    for method in [Method::C2c, Method::Mismatched, Method::GatesShut, Method::T2tC2c] {
        assert!(refusal(&unfused, method).contains("no fuser") && refusal(&alone, method).contains("no fuser"));
    }
    for method in [Method::Sharer, Method::T2t] {
        assert!(refusal(&alone, method).contains("one model only"));
    }
}
