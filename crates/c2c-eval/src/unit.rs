//! The units of work that an evaluation is made of, and one sitting's way through them.

use c2c_recipe::Method;
use serde::{Deserialize, Serialize};

use crate::{EvalError, Record, Shard};

/// What is done as a whole: a batch of a method, or the method's questions that can't be put.
///
/// Units are numbered through all methods. Which questions a unit holds is a function of models, questions and settings,
/// so it is the same whoever does it and whenever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Its number, from 0.
    pub number: usize,
    /// Who answered.
    pub method: Method,
    /// Its records, each with the number of its question.
    pub records: Vec<(usize, Record)>,
}

/// How far a method has come. Reported before its first unit and after each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvalProgress {
    /// Who is answering.
    pub method: Method,
    /// Its place among the methods, from 0.
    pub place: usize,
    /// How many methods there are.
    pub methods: usize,
    /// Questions done, failed ones and those of earlier sittings included.
    pub done: usize,
    /// Questions in all, of this shard.
    pub total: usize,
    /// Right answers so far.
    pub correct: usize,
}

/// Is given a unit that is done.
pub type Save<'a> = Box<dyn FnMut(&Unit) -> Result<(), EvalError> + 'a>;

/// One sitting: what was done before, what to do, and who is told.
pub struct Session<'a> {
    /// The part to do.
    pub shard: Shard,
    /// Units of earlier sittings. They are not done again.
    pub done: Vec<Unit>,
    /// Is given each unit when it is done, before the next one begins. An error ends the sitting.
    pub save: Save<'a>,
    /// Asked before each unit whether to end here.
    pub stop: Box<dyn Fn() -> bool + 'a>,
    /// Told how far a method has come.
    pub progress: Box<dyn FnMut(EvalProgress) + 'a>,
}

impl Default for Session<'_> {
    /// All of the evaluation, from its beginning to its end, told to nobody.
    fn default() -> Self {
        Self {
            shard: Shard::WHOLE,
            done: Vec::new(),
            save: Box::new(|_| Ok(())),
            stop: Box::new(|| false),
            progress: Box::new(|_| {}),
        }
    }
}

/// What a sitting has come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// The units done so far, earlier sittings included, by number.
    pub units: Vec<Unit>,
    /// How many units the undivided evaluation has, if this shard's are all done; none if the sitting was stopped.
    pub total: Option<usize>,
}

/// Records method by method in the order of the questions, from all units of an evaluation.
///
/// # Errors
/// A question that a method has answered twice, or not at all.
pub(crate) fn assemble(units: Vec<Unit>, methods: &[Method], questions: usize) -> Result<Vec<Record>, EvalError> {
    let mut places: Vec<Option<Record>> = vec![None; methods.len() * questions];
    for unit in units {
        let method = methods.iter().position(|method| *method == unit.method);
        for (question, record) in unit.records {
            let refuse = |reason| Err(EvalError::Units { method: unit.method, question, reason });
            let slot = method.filter(|_| question < questions).map(|method| &mut places[method * questions + question]);
            match slot {
                None => return refuse("was not asked"),
                Some(Some(_)) => return refuse("is answered twice"),
                Some(slot) => *slot = Some(record),
            }
        }
    }
    if let Some(place) = places.iter().position(Option::is_none) {
        let (method, question) = (methods[place / questions], place % questions);
        return Err(EvalError::Units { method, question, reason: "is not answered" });
    }
    Ok(places.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::record::tests::record;

    fn unit(number: usize, method: Method, questions: &[usize]) -> Unit {
        let records = questions.iter().map(|question| (*question, record(method, *question, Some('B')))).collect();
        Unit { number, method, records }
    }

    const METHODS: [Method; 2] = [Method::C2c, Method::GatesShut];

    #[test]
    fn units_in_any_order_give_records_in_the_order_of_the_questions() {
        let units = vec![
            unit(3, Method::GatesShut, &[1]),
            unit(1, Method::C2c, &[2]),
            unit(2, Method::GatesShut, &[2, 0]),
            unit(0, Method::C2c, &[1, 0]),
        ];
        let records = assemble(units, &METHODS, 3).unwrap();
        let order: Vec<(Method, &str)> = records.iter().map(|r| (r.method, r.question_id.as_str())).collect();
        let expected = METHODS.map(|method| ["q0", "q1", "q2"].map(|id| (method, id))).concat();
        assert_eq!(order, expected);
    }

    #[test]
    fn what_is_missing_or_double_is_named() {
        let whole = || vec![unit(0, Method::C2c, &[1, 0]), unit(1, Method::GatesShut, &[0, 1])];
        assemble(whole(), &METHODS, 2).unwrap();
        let refusal = |units| assemble(units, &METHODS, 2).unwrap_err().to_string();
        let twice = [whole(), vec![unit(2, Method::GatesShut, &[1])]].concat();
        assert!(refusal(twice).contains("gates_shut: question 1 is answered twice"));
        assert!(refusal(whole()[..1].to_vec()).contains("gates_shut: question 0 is not answered"));
        assert!(refusal(vec![unit(0, Method::C2c, &[2])]).contains("c2c: question 2 was not asked"));
        assert!(refusal(vec![unit(0, Method::Sharer, &[0])]).contains("sharer: question 0 was not asked"));
    }
}
