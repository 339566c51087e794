//! Several Sharers together: what one of them alone is, what batches may not change, and what is refused.

use c2c_eval::{EvalModels, Evaluation, check_evaluation};
use c2c_fuser::{C2c, FusionOrder};
use c2c_recipe::AnswerMode;
use c2c_text::TokenMode;

use super::*;

const BOTH: [Method; 2] = [Method::C2c, Method::Several];
const CONTROLS: [Method; 2] = [Method::Mismatched, Method::SeveralMismatched];
const MODES: [AnswerMode; 2] = [AnswerMode::Generate, AnswerMode::Logits];
const ORDERS: [FusionOrder; 2] = [FusionOrder::Sequential, FusionOrder::Parallel];

fn in_mode(methods: &[Method], batch_size: usize, mode: AnswerMode) -> EvalSettings {
    EvalSettings { mode, ..settings(methods, batch_size) }
}

/// What a method made of the questions, as if another method had done it.
fn as_c2c(evaluation: &Evaluation, method: Method) -> Vec<Record> {
    let of = untimed(evaluation).into_iter().filter(|record| record.method == method);
    of.map(|record| Record { method: Method::C2c, ..record }).collect()
}

#[test]
fn one_sharer_of_several_is_c2c_to_the_bit() {
    let mut toy = Toy::new();
    let other = toy.several.others.pop().unwrap();
    for (mode, order) in MODES.into_iter().flat_map(|mode| ORDERS.map(|order| (mode, order))) {
        toy.several.order = order;
        for batch_size in [1, 4] {
            let evaluation = toy.evaluate(&questions(), &in_mode(&BOTH, batch_size, mode));
            assert_eq!(as_c2c(&evaluation, Method::Several), as_c2c(&evaluation, Method::C2c), "{mode} {order:?}");
        }
    }
    // And its control is that of `c2c`.
    for (mode, batch_size) in MODES.into_iter().flat_map(|mode| [1, 4].map(|size| (mode, size))) {
        let evaluation = toy.evaluate(&questions(), &in_mode(&CONTROLS, batch_size, mode));
        let [one, all] = CONTROLS.map(|method| as_c2c(&evaluation, method));
        assert_eq!(all, one, "{mode}");
        assert!(all.iter().all(|record| record.partner.is_some()));
    }
    // The second alone is the pair that it is part of.
    let C2c { receiver, .. } = toy.c2c.clone();
    let pair = C2c::new(receiver, other.link.sharer.clone(), other.link.fuser.clone()).unwrap();
    for mode in MODES {
        let asked = in_mode(&[Method::C2c], 4, mode);
        let models = EvalPair { models: EvalModels::Pair(&pair), text: &other.text };
        let alone = evaluate(&models, &named(&questions()), &asked, &mut |_| {}).unwrap();
        let mut second = Toy::new();
        second.several.with_first = false;
        let evaluation = second.evaluate(&questions(), &in_mode(&BOTH, 4, mode));
        assert_eq!(as_c2c(&evaluation, Method::Several), as_c2c(&alone, Method::C2c), "{mode}");
        assert_ne!(as_c2c(&evaluation, Method::Several), as_c2c(&evaluation, Method::C2c), "{mode}");
    }
}

#[test]
fn the_order_counts_and_so_does_each_sharer() {
    let mut toy = Toy::new();
    let asked = in_mode(&BOTH, 4, AnswerMode::Logits);
    let logprobs = |evaluation: &Evaluation, method| -> Vec<Vec<f64>> {
        of(&evaluation.records, method).iter().map(|record| record.letter_logprobs.clone()).collect()
    };
    let sequential = toy.evaluate(&questions(), &asked);
    toy.several.order = FusionOrder::Parallel;
    let parallel = toy.evaluate(&questions(), &asked);
    let all = [
        logprobs(&sequential, Method::C2c),
        logprobs(&sequential, Method::Several),
        logprobs(&parallel, Method::Several),
    ];
    assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2], "{all:?}");
    assert_eq!(all[0], logprobs(&parallel, Method::C2c));
    // What was read is part of the record: the receiver's tokens, then each sharer's.
    let prompts = |method| -> Vec<String> {
        of(&sequential.records, method).iter().map(|record| record.prompt_sha256.clone()).collect()
    };
    assert!(prompts(Method::C2c).iter().zip(prompts(Method::Several)).all(|(one, all)| *one != all));
    let compared: Vec<(Method, Method)> =
        sequential.differences.iter().map(|(first, second, _)| (*first, *second)).collect();
    assert_eq!(compared, [(Method::Several, Method::C2c)]);
}

#[test]
fn the_control_changes_what_every_sharer_reads_and_nothing_else() {
    let toy = Toy::new();
    let methods = [Method::Several, Method::SeveralMismatched];
    let evaluation = toy.evaluate(&questions(), &in_mode(&methods, 4, AnswerMode::Logits));
    let [several, control] = methods.map(|method| of(&evaluation.records, method));
    for (own, control) in several.iter().zip(&control) {
        assert_eq!((&control.error, control.prompt_tokens), (&None, own.prompt_tokens));
        let asked = |id: &str| questions().into_iter().find(|question| question.id == id).unwrap().question;
        assert_ne!(asked(control.partner.as_ref().unwrap()), asked(&own.question_id));
        assert_ne!((&own.prompt_sha256, &own.letter_logprobs), (&control.prompt_sha256, &control.letter_logprobs));
    }
    // With one Sharer left out, the other reads another question, too.
    for first in [true, false] {
        let mut one = Toy::new();
        one.several.with_first = first;
        one.several.others.truncate(usize::from(!first));
        let evaluation = one.evaluate(&questions(), &in_mode(&methods, 4, AnswerMode::Logits));
        let [several, control] = methods.map(|method| as_c2c(&evaluation, method));
        assert!(several.iter().zip(&control).all(|(own, control)| own.prompt_sha256 != control.prompt_sha256));
    }
    let compared: Vec<(Method, Method)> =
        evaluation.differences.iter().map(|(first, second, _)| (*first, *second)).collect();
    assert_eq!(compared, [(Method::Several, Method::SeveralMismatched)]);
}

#[test]
fn batches_change_nothing_but_the_last_digits() {
    let toy = Toy::new();
    let alone = toy.evaluate(&questions(), &settings(&[Method::Several], 1));
    let compared =
        |batch_size| toy.evaluate(&questions(), &in_mode(&[Method::Several], batch_size, AnswerMode::Logits));
    let letters = compared(1);
    for batch_size in [3, 13] {
        assert_eq!(untimed(&toy.evaluate(&questions(), &settings(&[Method::Several], batch_size))), untimed(&alone));
        for (a, b) in compared(batch_size).records.iter().zip(&letters.records) {
            let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-4;
            assert!(a.letter_logprobs.len() == b.letter_logprobs.len(), "{}", a.question_id);
            assert!(a.letter_logprobs.iter().zip(&b.letter_logprobs).all(near), "{a:?} {b:?}");
        }
    }
    assert!(alone.records.iter().all(|record| record.error.is_none() && record.phases.fusion > 0.0));
}

#[test]
fn a_question_must_fit_every_sharer() {
    let mut toy = Toy::new();
    let tight = Toy::of(&Shape { sharer_context: 40, ..Shape::default() });
    // The second sharer's place is taken by one that can't read far.
    toy.several.others[0].link.sharer = tight.c2c.sharer;
    let evaluation = toy.evaluate(&questions(), &settings(&BOTH, 4));
    assert!(of(&evaluation.records, Method::C2c).iter().all(|record| record.error.is_none()));
    let refused: Vec<&str> =
        of(&evaluation.records, Method::Several).iter().filter_map(|record| record.error.as_deref()).collect();
    assert!(!refused.is_empty() && refused.iter().all(|error| error.contains("40")), "{refused:?}");
}

#[test]
fn what_can_not_be_fused_together_is_refused() {
    let mut toy = Toy::new();
    let asked = settings(&[Method::SeveralMismatched], 4);
    let told =
        |pair: &EvalPair<'_, Dispatch>| check_evaluation(pair, &named(&questions()), &asked).unwrap_err().to_string();
    let pair = EvalPair { models: EvalModels::Pair(&toy.c2c), text: &toy.text };
    assert!(told(&pair).contains("no Sharers are to be fused together"), "{}", told(&pair));
    // Shared ids make one section of what alignment makes several of.
    let receiver = Toy::of(&Shape { shared: true, ..Shape::default() });
    toy.several.others[0].text = receiver.text.with_sharer(receiver.text.sharer_shared(), TokenMode::Shared).unwrap();
    let evaluation = toy.evaluate(&questions(), &asked);
    for record in &evaluation.records {
        let error = record.error.as_deref().unwrap();
        assert!(error.contains("sharer 2") && error.contains("alignment"), "{error}");
    }
}
