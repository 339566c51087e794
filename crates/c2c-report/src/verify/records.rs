//! The records against themselves.

use std::collections::{BTreeMap, HashMap, HashSet};

use c2c_data::Scorer;
use c2c_eval::score::judge;
use c2c_eval::{Asked, Record, letters_compared};
use c2c_recipe::{AnswerMode, Method};

use super::{Difference, place};
use crate::run::RECORDS;

/// Everything in the records that an evaluation can't have written.
pub(super) fn check(records: &[Record], asked: &Asked) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut by_method: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        by_method.entry(record.method.as_str()).or_default().push(record);
    }
    for method in by_method.keys().filter(|method| !asked.methods.iter().any(|asked| asked.as_str() == **method)) {
        let expected = asked.methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(", ");
        differences.push(Difference::new(RECORDS, "", "method", method, expected));
    }
    let of = |method: Method| by_method.get(method.as_str()).map(Vec::as_slice).unwrap_or_default();
    if let Some(first) = asked.methods.first() {
        twice(of(*first), &mut differences);
        for method in &asked.methods[1..] {
            twice(of(*method), &mut differences);
            same_questions(*method, of(*method), of(*first), &mut differences);
        }
    }
    for record in records {
        check_record(record, asked, &mut differences);
    }
    for method in asked.methods.iter().filter(|method| method.mismatches()) {
        check_partners(of(*method), &mut differences);
    }
    differences
}

fn twice(records: &[&Record], differences: &mut Vec<Difference>) {
    let mut seen = HashSet::new();
    for record in records {
        if !seen.insert(key(record)) {
            let at = place(record.method, &record.benchmark, &record.question_id);
            differences.push(Difference::new(RECORDS, at, "question_id", "twice", "once"));
        }
    }
}

/// Every method has answered the questions of the first one, in their order: differences are made pair by pair.
fn same_questions(method: Method, records: &[&Record], first: &[&Record], differences: &mut Vec<Difference>) {
    let before = differences.len();
    let of_first: HashMap<Key<'_>, &Record> = first.iter().map(|record| (key(record), *record)).collect();
    for record in records {
        let at = place(method, &record.benchmark, &record.question_id);
        let Some(first) = of_first.get(&key(record)) else {
            let expected =
                format!("a question that {} has, too", first.first().map_or("nobody", |r| r.method.as_str()));
            differences.push(Difference::new(RECORDS, at, "question_id", "this one", expected));
            continue;
        };
        let mut same = |field: &str, found: String, expected: String| {
            if found != expected {
                let expected = format!("{expected} as {}", first.method);
                differences.push(Difference::new(RECORDS, at.clone(), field, found, expected));
            }
        };
        same("gold", record.gold.clone(), first.gold.clone());
        same("choices", record.choices.to_string(), first.choices.to_string());
        same("subject", option(record.subject.as_deref()), option(first.subject.as_deref()));
    }
    let own: HashSet<Key<'_>> = records.iter().map(|record| key(record)).collect();
    for missing in first.iter().filter(|record| !own.contains(&key(record))) {
        let at = place(method, &missing.benchmark, &missing.question_id);
        let expected = format!("a record, as {} has", missing.method);
        differences.push(Difference::new(RECORDS, at, "question_id", "nothing", expected));
    }
    if before == differences.len() && !records.iter().map(|r| key(r)).eq(first.iter().map(|r| key(r))) {
        differences.push(Difference::new(RECORDS, method.as_str(), "order", "another", "that of the first method"));
    }
}

/// What names a question.
type Key<'a> = (&'a str, &'a str);

fn key(record: &Record) -> Key<'_> {
    (&record.benchmark, &record.question_id)
}

fn check_record(record: &Record, asked: &Asked, differences: &mut Vec<Difference>) {
    let at = place(record.method, &record.benchmark, &record.question_id);
    let mut wrong = |field: &str, found: String, expected: String| {
        differences.push(Difference::new(RECORDS, at.clone(), field, found, expected));
    };
    let choices = record.choices as usize;
    let judged = judge(record, asked.extraction);
    if record.answer != judged.answer {
        wrong("answer", option(record.answer.as_ref()), option(judged.answer.as_ref()));
    }
    let rule = judged.rule;
    if record.rule != rule {
        wrong("rule", option(record.rule.map(|rule| rule.name())), option(rule.map(|rule| rule.name())));
    }
    let correct = judged.points >= 1.0;
    if record.correct != correct {
        wrong("correct", record.correct.to_string(), correct.to_string());
    }
    let score = record.scorer.is_graded().then_some(judged.points);
    if record.score != score {
        wrong("score", option(record.score), option(score));
    }
    let letters = record.scorer == Scorer::Letter;
    let gold = record.gold.bytes().next().map_or(choices, |letter| usize::from(letter.wrapping_sub(b'A')));
    if letters && gold >= choices {
        wrong("gold", record.gold.clone(), format!("one of {choices} letters from A on"));
    }
    if letters && record.output_tokens as usize > asked.max_new_tokens {
        wrong("output_tokens", record.output_tokens.to_string(), format!("at most {}", asked.max_new_tokens));
    }
    let longest = asked.baselines.as_ref().map_or(0, |baselines| baselines.t2t_max_new_tokens);
    if record.message_tokens as usize > longest {
        wrong("message_tokens", record.message_tokens.to_string(), format!("at most {longest}"));
    }
    let told = record.method.writes_text() && record.error.is_none();
    if record.message.is_some() != told {
        let expected = if told { "the sharer's text" } else { "nothing" };
        wrong("message", if told { "nothing" } else { "a text" }.to_owned(), expected.to_owned());
    }
    if record.error.is_some() {
        for (field, empty) in [("output", record.output.is_empty()), ("finish", record.finish.is_none())] {
            if !empty {
                wrong(field, "a value".into(), "nothing, as the question failed".into());
            }
        }
    } else {
        let by_logits = asked.mode == Some(AnswerMode::Logits);
        if by_logits != record.finish.is_none() {
            let expected = if by_logits { "nothing, as nothing was written" } else { "eos or length" };
            wrong("finish", if by_logits { "a value" } else { "nothing" }.into(), expected.into());
        }
        let letters = if by_logits { letters_compared(&record.benchmark, choices, asked.extraction) } else { 0 };
        if record.letter_logprobs.len() != letters {
            wrong("letter_logprobs", record.letter_logprobs.len().to_string(), letters.to_string());
        }
        if record.prompt_sha256.len() != 64 {
            wrong("prompt_sha256", format!("`{}`", record.prompt_sha256), "64 hexadecimal digits".into());
        }
    }
    // Records before this version don't say it; which version they are of is checked with the summary.
    let compared = record.method == Method::GatesShut && record.error.is_none();
    if record.bit_equal.is_some() != compared && asked.records_format >= super::WITH_BIT_EQUAL {
        let expected = if compared { "whether the logits were the receiver's" } else { "nothing" };
        wrong("bit_equal", option(record.bit_equal), expected.into());
    }
    if let Some((found, expected)) = fused_tokens(record, asked) {
        wrong("fused_tokens", found, expected);
    }
    let times = [record.milliseconds].into_iter().chain(record.phases.values());
    if times.clone().any(|time| !time.is_finite() || time < 0.0) {
        wrong("milliseconds", format!("{:?}", times.collect::<Vec<_>>()), "times of 0 or more".into());
    } else if record.phases.sum() > record.milliseconds * (1.0 + f64::EPSILON * 8.0) {
        // The parts were timed within the whole. They are sums of a few quotients, hence some roundings.
        wrong("milliseconds", record.milliseconds.to_string(), format!("at least its parts, {}", record.phases.sum()));
    }
}

/// What is wrong with the number of tokens that were fused: what was found and what was expected.
fn fused_tokens(record: &Record, asked: &Asked) -> Option<(String, String)> {
    let found = option(record.fused_tokens);
    let Some(share) = asked.fused_share.filter(|_| record.method.needs_fuser()) else {
        return record.fused_tokens.map(|_| (found, "nothing, as no share was asked of this method".to_owned()));
    };
    let Some(tokens) = record.fused_tokens else {
        return record.error.is_none().then(|| (found, "how many tokens were fused".to_owned()));
    };
    // Of all that was read, since no more than that can be fused.
    let most = (f64::from(record.prompt_tokens) * share) as u32;
    (tokens > most).then(|| (found, format!("at most {most}, {share} of {} tokens", record.prompt_tokens)))
}

/// The control's sharer has read another question of the same set, and nobody else's has.
fn check_partners(records: &[&Record], differences: &mut Vec<Difference>) {
    let ids: HashSet<&str> = records.iter().map(|record| record.question_id.as_str()).collect();
    for record in records {
        let fine = match &record.partner {
            Some(partner) => ids.contains(partner.as_str()) && *partner != record.question_id,
            None => record.error.is_some(),
        };
        if !fine {
            let at = place(record.method, &record.benchmark, &record.question_id);
            let found = option(record.partner.as_deref());
            differences.push(Difference::new(RECORDS, at, "partner", found, "another question of the set"));
        }
    }
}

fn option(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| value.to_string())
}
