//! Evaluations in several sittings and shards.

use std::cell::{Cell, RefCell};

use c2c_eval::{Baselines, Course, Evaluation, Session, Shard, Unit, evaluate_in};

use super::*;
use crate::baselines::BASELINES;

fn asked() -> EvalSettings {
    let methods = [&ALL[..], &[Method::Several, Method::SeveralMismatched], &BASELINES].concat();
    let baselines = Baselines { t2t_max_new_tokens: 3, examples: questions()[..1].to_vec(), ..Baselines::default() };
    EvalSettings { baselines, ..settings(&methods, 4) }
}

/// Some of the questions can't be put to some methods.
fn with_refusals() -> Vec<McQuestion> {
    let mut questions = questions();
    questions[6].question = "Where is Atlantis?".to_owned();
    questions[2].question = "What is the stone of Durmal and of Okean? ".repeat(80);
    questions
}

fn toy() -> Toy {
    Toy::of(&Shape { receiver_context: 300, sharer_context: 300, ..Shape::default() })
}

fn sitting(toy: &Toy, session: Session<'_>) -> Course {
    evaluate_in(&toy.pair(), &named(&with_refusals()), &asked(), session).unwrap()
}

#[test]
fn shards_make_the_records_of_the_undivided_evaluation() {
    let toy = toy();
    let whole = toy.evaluate(&with_refusals(), &asked());
    assert!(whole.records.iter().any(|record| record.error.is_some()));
    for of in 1..=4 {
        let shards: Vec<Course> = (1..=of)
            .map(|index| sitting(&toy, Session { shard: Shard::new(index, of).unwrap(), ..Session::default() }))
            .collect();
        let total = shards[0].total.unwrap();
        assert!(shards.iter().all(|course| course.total == Some(total)));
        assert_eq!(shards.iter().map(|course| course.units.len()).sum::<usize>(), total);
        let units = shards.into_iter().rev().flat_map(|course| course.units).collect();
        let merged = Evaluation::of_units(units, &asked(), 13).unwrap();
        assert_eq!(untimed(&merged), untimed(&whole), "{of} shards");
        assert_eq!(merged.gates_shut_bit_equal, whole.gates_shut_bit_equal);
        assert_eq!(merged.differences, whole.differences);
    }
}

#[test]
fn wherever_a_sitting_is_stopped_the_next_one_goes_on() {
    let toy = toy();
    let whole = toy.evaluate(&with_refusals(), &asked());
    let total = sitting(&toy, Session::default()).total.unwrap();
    for stop_after in (0..=total).step_by(5) {
        let saved = RefCell::new(Vec::<Unit>::new());
        let first = sitting(
            &toy,
            Session {
                stop: Box::new(|| saved.borrow().len() >= stop_after),
                save: Box::new(|unit| {
                    saved.borrow_mut().push(unit.clone());
                    Ok(())
                }),
                ..Session::default()
            },
        );
        assert_eq!((first.units.len(), first.total), (stop_after, (stop_after == total).then_some(total)));
        assert_eq!(first.units, *saved.borrow());
        let done_again = Cell::new(0);
        let save = Box::new(|_: &Unit| {
            done_again.set(done_again.get() + 1);
            Ok(())
        });
        let second = sitting(&toy, Session { done: saved.into_inner(), save, ..Session::default() });
        assert_eq!(done_again.get(), total - stop_after, "nothing is done twice");
        let evaluation = Evaluation::of_units(second.units, &asked(), 13).unwrap();
        assert_eq!(untimed(&evaluation), untimed(&whole), "stopped after {stop_after}");
    }
}

#[test]
fn units_of_another_evaluation_are_refused() {
    let toy = toy();
    let units = sitting(&toy, Session::default()).units;
    let refused = |done: Vec<Unit>, shard: Shard| {
        let session = Session { done, shard, ..Session::default() };
        matches!(
            evaluate_in(&toy.pair(), &named(&with_refusals()), &asked(), session),
            Err(EvalError::UnitChanged { .. })
        )
    };
    let mut other = units.clone();
    other[1].records[0].0 += 1;
    assert!(refused(other, Shard::WHOLE));
    assert!(refused(units[1..].to_vec(), Shard::WHOLE), "the first one isn't there");
    assert!(refused(units, Shard::new(1, 2).unwrap()), "every second one is another shard's");
}

#[test]
fn what_cannot_be_saved_ends_the_sitting() {
    let toy = toy();
    let session = Session { save: Box::new(|_| Err(EvalError::NoQuestions)), ..Session::default() };
    let result = evaluate_in(&toy.pair(), &named(&with_refusals()), &asked(), session);
    assert!(matches!(result, Err(EvalError::NoQuestions)));
}

#[test]
fn batches_hold_no_more_tokens_than_they_may_and_the_records_stay() {
    let toy = toy();
    let asked = settings(&[Method::Receiver], 4);
    let course = |batch_tokens| {
        let settings = EvalSettings { batch_tokens, ..asked.clone() };
        evaluate_in(&toy.pair(), &named(&questions()), &settings, Session::default()).unwrap().units
    };
    let whole = course(None);
    let tokens = |unit: &Unit| unit.records.iter().map(|(_, record)| record.prompt_tokens as usize).max().unwrap();
    let longest = whole.iter().map(tokens).max().unwrap();
    let limited = course(Some(2 * longest));
    assert!(limited.len() > whole.len(), "{} batches, {} without a limit", limited.len(), whole.len());
    for unit in &limited {
        assert!(tokens(unit) * unit.records.len() <= 2 * longest, "{} x {}", tokens(unit), unit.records.len());
    }
    assert!(limited.iter().any(|unit| unit.records.len() > 1));
    assert_eq!(course(Some(1)).len(), questions().len(), "a prompt that is longer is answered alone");
    assert_eq!(course(Some(4 * longest)).len(), whole.len());
    let evaluation = |units| Evaluation::of_units(units, &asked, 13).unwrap();
    assert_eq!(untimed(&evaluation(limited)), untimed(&evaluation(whole)));
}
