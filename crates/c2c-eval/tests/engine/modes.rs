//! Letters compared instead of replies written, and prompts without a chat template.

use c2c_data::prompts::{PromptFormat, multiple_choice};
use c2c_data::{Cut, Framing, Free, Question, Scorer, Task, answer_sentence, letter};
use c2c_eval::extract::Rule;
use c2c_eval::{Baselines, BenchmarkQuestion, EvalSettings, Record, evaluate};
use c2c_lm::{LogitsWanted, TokenBatch};
use c2c_recipe::{AnswerMode, Method};
use c2c_text::Message;

use crate::toy::{ALL, Shape, Toy, question, questions, settings};

/// Float sums of padded and unpadded rows differ in their last bits.
const NEAR: f64 = 1e-4;

fn logits(batch_size: usize) -> EvalSettings {
    EvalSettings { mode: AnswerMode::Logits, response_text: "So".to_owned(), ..settings(&ALL, batch_size) }
}

fn near(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < NEAR)
}

/// The letters' log probabilities behind a rendered chat and the start of the reply, each read by itself.
fn behind(toy: &Toy, chat: &str, choices: usize) -> Vec<f64> {
    let text = toy.text.receiver();
    (0..choices)
        .map(|index| {
            // The whole reply with its letter; the last token is the letter's, the ones before are read.
            let ids = [text.encode(chat).unwrap().ids, text.encode(&format!("So {}", letter(index))).unwrap().ids];
            let ids = ids.concat();
            let (last, read) = ids.split_last().unwrap();
            let mut cache = toy.c2c.receiver.new_cache(1);
            let tokens = TokenBatch::new(vec![read.to_vec()], 0).unwrap();
            let logits = toy.c2c.receiver.forward(&tokens, &mut cache, LogitsWanted::Last).unwrap();
            let logits: Vec<f64> = logits.into_data().iter::<f32>().map(f64::from).collect();
            let all = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
            logits[*last as usize] - all
        })
        .collect()
}

#[test]
fn the_likeliest_letter_of_each_question_is_its_answer() {
    let (toy, questions) = (Toy::new(), questions());
    let records = toy.evaluate(&questions, &logits(4)).records;
    assert_eq!(records.len(), ALL.len() * questions.len());
    for (record, question) in records.iter().zip(questions.iter().cycle()) {
        assert_eq!((&record.error, record.finish, record.output_tokens), (&None, None, 0), "{record:?}");
        assert_eq!(record.letter_logprobs.len(), question.choices.len());
        assert!(record.letter_logprobs.iter().map(|logprob| logprob.exp()).sum::<f64>() <= 1.0);
        let best = record.letter_logprobs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let place = record.letter_logprobs.iter().position(|logprob| *logprob == best).unwrap();
        assert_eq!((record.answer.clone(), record.rule), (Some(letter(place).to_string()), Some(Rule::Logits)));
        assert_eq!(record.correct, place == question.answer);
    }
    // Batches of one: the same letters' probabilities, but for rounding.
    let alone = toy.evaluate(&questions, &logits(1)).records;
    assert!(records.iter().zip(&alone).all(|(a, b)| near(&a.letter_logprobs, &b.letter_logprobs)));
}

#[test]
fn probabilities_are_those_of_the_tokens_behind_the_start_of_the_reply() {
    let (toy, questions) = (Toy::new(), questions());
    let records = toy.evaluate(&questions, &logits(3)).records;
    let text = toy.text.receiver();
    for (record, question) in records.iter().filter(|record| record.method == Method::Receiver).zip(&questions) {
        let prompt = multiple_choice(PromptFormat::PlainTrimmed, &question.question, &question.choices);
        let chat = text.render_chat(&[Message::user(prompt)], true).unwrap();
        let found = behind(&toy, &chat, question.choices.len());
        assert!(near(&found, &record.letter_logprobs), "{found:?} {:?}", record.letter_logprobs);
    }
}

fn of(records: &[Record], method: Method) -> Vec<&Record> {
    records.iter().filter(|record| record.method == method).collect()
}

#[test]
fn without_a_template_the_text_is_all_that_is_read() {
    let bare = EvalSettings { chat_template: Some(false), ..settings(&ALL, 4) };
    for shared in [false, true] {
        let toy = Toy::of(&Shape { shared, ..Shape::default() });
        let evaluation = toy.evaluate(&questions(), &bare);
        assert!(evaluation.records.iter().all(|record| record.error.is_none()), "{:?}", evaluation.table());
        assert_eq!(evaluation.gates_shut_bit_equal, Some(true));
        for (record, question) in of(&evaluation.records, Method::Receiver).into_iter().zip(questions()) {
            let text = multiple_choice(PromptFormat::PlainTrimmed, &question.question, &question.choices);
            let ids = toy.text.receiver().encode(&text).unwrap().ids;
            assert_eq!(record.prompt_tokens as usize, ids.len() + toy.text.receiver().frame().len());
        }
        // No template text stands between or before the tokens, so the shut pair reads what the receiver alone reads.
        let outputs = |method| of(&evaluation.records, method).iter().map(|r| r.output.clone()).collect::<Vec<_>>();
        assert_eq!(outputs(Method::GatesShut), outputs(Method::Receiver), "shared: {shared}");
        assert_ne!(outputs(Method::C2c), outputs(Method::Receiver), "shared: {shared}");
    }
}

#[test]
fn free_answers_have_their_own_length_frame_and_scorer() {
    let free = |id: usize, max_new_tokens: usize, framing: Framing, context: usize| BenchmarkQuestion {
        benchmark: "free".to_owned(),
        question: Question {
            id: format!("f{id}"),
            question: "Who?".to_owned(),
            subject: None,
            task: Task::Free(Free {
                prompt: format!("{}What is the metal of Brai?", "iron and lead. ".repeat(context)),
                gold: vec!["iron".to_owned(), "lead".to_owned()],
                classes: Vec::new(),
                scorer: Scorer::F1,
                max_new_tokens,
                framing,
                cut: Cut::ToContext,
            }),
        },
    };
    // The last one is far longer than the context and loses its middle.
    let asked = [free(0, 3, Framing::Chat, 0), free(1, 9, Framing::Bare, 0), free(2, 3, Framing::Bare, 100)];
    let toy = Toy::new();
    let evaluation = evaluate(&toy.pair(), &asked, &settings(&ALL, 4), &mut |_| {}).unwrap();
    for (record, asked) in evaluation.records.iter().zip(asked.iter().cycle()) {
        let Task::Free(free) = &asked.question.task else { panic!("no free answer") };
        if record.method != Method::Mismatched {
            assert_eq!(record.error, None, "{record:?}");
        }
        assert!(record.output_tokens as usize <= free.max_new_tokens);
        assert_eq!((record.choices, record.scorer, &record.alternatives), (0, Scorer::F1, &vec!["lead".to_owned()]));
        assert!(record.score.is_some_and(|score| (0.0..=1.0).contains(&score)));
    }
}

/// What is read once, cut into batches or written by the sharer beforehand changes no letter's probability; and that of
/// examples is the probability behind their whole chat and the start of the reply.
#[test]
fn baselines_compare_letters_behind_all_that_they_read() {
    let toy = Toy::of(&Shape { receiver_context: 400, sharer_context: 400, ..Shape::default() });
    let example = question(23, "What is the metal of Skundel?", &["iron", "lead"]);
    let settings = |batch_size, reuse_prefix| EvalSettings {
        methods: vec![Method::T2t, Method::T2tC2c, Method::FewShot, Method::Oracle],
        baselines: Baselines {
            t2t_max_new_tokens: 5,
            examples: vec![example.clone()],
            reuse_prefix,
            ..Baselines::default()
        },
        ..logits(batch_size)
    };
    let questions = questions();
    let records = toy.evaluate(&questions, &settings(1, false)).records;
    let again = toy.evaluate(&questions, &settings(5, true)).records;
    for (record, other) in records.iter().zip(&again) {
        assert_eq!((&record.error, record.output_tokens, record.rule), (&None, 0, Some(Rule::Logits)), "{record:?}");
        assert!(near(&record.letter_logprobs, &other.letter_logprobs), "{record:?} {other:?}");
        let told = matches!(record.method, Method::T2t | Method::T2tC2c);
        assert_eq!(record.message.is_some(), told);
    }
    let put = |q: &c2c_data::McQuestion| multiple_choice(PromptFormat::PlainTrimmed, &q.question, &q.choices);
    for (record, question) in of(&records, Method::FewShot).into_iter().zip(&questions) {
        let answer = Message::assistant(answer_sentence(example.answer));
        let chat = [Message::user(put(&example)), answer, Message::user(put(question))];
        let found = behind(&toy, &toy.text.receiver().render_chat(&chat, true).unwrap(), question.choices.len());
        assert!(near(&found, &record.letter_logprobs), "{found:?} {:?}", record.letter_logprobs);
    }
    let of_oracle = of(&records, Method::Oracle).into_iter().map(|record| &record.letter_logprobs);
    assert!(of_oracle.zip(of(&records, Method::FewShot)).any(|(a, b)| !near(a, &b.letter_logprobs)));
}
