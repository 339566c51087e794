//! Checks between keys. Each needs the keys it compares to be right by themselves and is left out otherwise.

use toml::Value;

use crate::check::Checked;
use crate::error::Problem;
use crate::sections::{AnswerMode, Method, RecipeKind};

/// Gathers what doesn't go together.
pub(crate) fn check(checked: &Checked) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut tell = |key: &str, message: String| problems.push(checked.told(key, message));

    if let Some(name) = checked.text("name")
        && !is_folder_name(name)
    {
        let expected = "expected at most 100 letters, digits, `.`, `_`, `-`, `+`, not beginning with a dot";
        tell("name", format!("{expected} (it becomes the name of a folder); found {name:?}"));
    }
    match checked.kind {
        RecipeKind::Train => {
            fuser(checked, &mut tell);
            training(checked, &mut tell);
            evaluation(checked, &mut tell);
            answers(checked, &mut tell);
        }
        RecipeKind::Eval => {
            evaluation(checked, &mut tell);
            answers(checked, &mut tell);
        }
        RecipeKind::Pretrain => pretraining(checked, &mut tell),
    }
    problems
}

fn fuser(checked: &Checked, tell: &mut impl FnMut(&str, String)) {
    let initial = checked.number("fuser.initial_temperature");
    let last = checked.number("fuser.final_temperature");
    if let (Some(initial), Some(last)) = (initial, last)
        && last > initial
    {
        let message = format!("{last} is above fuser.initial_temperature, {initial}; the temperature only falls");
        tell("fuser.final_temperature", message);
    }
}

fn training(checked: &Checked, tell: &mut impl FnMut(&str, String)) {
    if checked.number("training.validation_fraction") == Some(0.0)
        && checked.integer("training.evaluate_every").is_some()
    {
        let message = "there is nothing to evaluate on, since training.validation_fraction is 0; \
                       keep a part of the data, or leave this key out";
        tell("training.evaluate_every", message.to_owned());
    }
}

fn evaluation(checked: &Checked, tell: &mut impl FnMut(&str, String)) {
    let mismatched = match checked.get("evaluation.methods") {
        Some(Value::Array(methods)) => {
            methods.iter().any(|method| method.as_str() == Some(Method::Mismatched.as_str()))
        }
        _ => false,
    };
    if mismatched && checked.integer("evaluation.limit") == Some(1) {
        let message = "the method `mismatched` pairs each question with another, so it needs 2 or more; \
                       raise the limit or take the method out";
        tell("evaluation.limit", message.to_owned());
    }
}

/// The modes and the benchmarks that fit them.
fn answers(checked: &Checked, tell: &mut impl FnMut(&str, String)) {
    let logits = checked.text("evaluation.mode") == Some(AnswerMode::Logits.as_str());
    let Some(Value::Array(sources)) = checked.get("evaluation.sources") else { return };
    for (place, source) in sources.iter().enumerate() {
        let kind = source.get("kind").and_then(Value::as_str).unwrap_or_default();
        if logits && ["gsm8k", "math500", "longbench"].contains(&kind) {
            let message =
                format!("`{kind}` has no choices whose letters `logits` could compare; ask it with `generate`");
            tell(&format!("evaluation.sources[{place}].kind"), message);
        }
    }
}

fn pretraining(checked: &Checked, tell: &mut impl FnMut(&str, String)) {
    let heads = (checked.integer("model.num_heads"), checked.integer("model.num_kv_heads"));
    if let (Some(heads), Some(shared)) = heads
        && heads % shared != 0
    {
        let message =
            format!("{shared} does not divide model.num_heads, {heads}; each is shared by equally many heads");
        tell("model.num_kv_heads", message);
    }
    if let Some(width) = checked.integer("model.head_dim")
        && width % 2 != 0
    {
        tell("model.head_dim", format!("{width} is odd; rotary embedding turns pairs, so it must be even"));
    }
    let lengths = (checked.integer("corpus.sequence_length"), checked.integer("model.max_position"));
    if let (Some(length), Some(most)) = lengths
        && length > most
    {
        tell("corpus.sequence_length", format!("{length} is above model.max_position, {most}"));
    }
}

/// Longest name; run directories add a date and a hash to it.
const MAX_NAME: usize = 100;

fn is_folder_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    !name.is_empty() && name.len() <= MAX_NAME && !name.starts_with('.') && name.chars().all(good)
}

impl Checked {
    fn get(&self, path: &str) -> Option<&Value> {
        let mut parts = path.split('.');
        let first = self.table.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.as_table()?.get(part))
    }

    fn integer(&self, path: &str) -> Option<i64> {
        self.get(path)?.as_integer()
    }

    fn number(&self, path: &str) -> Option<f64> {
        self.get(path)?.as_float()
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.get(path)?.as_str()
    }

    /// A problem of a key, at its line if it is written, else at that of its section.
    fn told(&self, key: &str, message: String) -> Problem {
        let section = key.split('.').next().unwrap_or(key);
        match self.origins.get(key).or_else(|| self.origins.get(section)) {
            Some(origin) => origin.problem(key, message),
            None => Problem { line: None, key: key.to_owned(), message },
        }
    }
}
