//! Checks between keys. Each needs the keys it compares to be right by themselves and is left out otherwise.

mod all_in_one;

use toml::Value;

use crate::baselines::{QUESTION, T2T_PROMPTS, layer_list, t2t_template};
use crate::check::Checked;
use crate::error::Problem;
use crate::sections::{AnswerMode, FuserLevel, Method, RecipeKind, TrainMethod};
use crate::several::sharer_list;

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
            method(checked, &mut tell);
            fuser(checked, &mut tell);
            all_in_one::check(checked, &mut tell);
            training(checked, &mut tell);
            evaluation(checked, &mut tell);
            answers(checked, &mut tell);
            if let Some(method) = asked(checked).into_iter().find(|method| method.fuses_several()) {
                let message = format!(
                    "a train recipe has one Sharer, so that `{method}` would have none to add; \
                     take it out, and ask it in an eval recipe with [several]"
                );
                tell("evaluation.methods", message);
            }
        }
        RecipeKind::Eval => {
            several(checked, &mut tell);
            models(checked, &mut tell);
            evaluation(checked, &mut tell);
            answers(checked, &mut tell);
        }
        RecipeKind::Pretrain => pretraining(checked, &mut tell),
    }
    problems
}

/// What each training method needs, and who can answer behind it.
fn method(checked: &Checked, tell: &mut impl FnMut(&str, String)) {
    let method = checked.text("method");
    if method == Some(TrainMethod::Transformation.as_str()) {
        transformation(checked, tell);
    }
    if method != Some(TrainMethod::Single.as_str()) {
        if checked.get("sharer").is_none() && !checked.origins.contains_key("sharer") {
            tell("sharer.model", "missing; expected a path".to_owned());
        }
        if checked.origins.contains_key("single") {
            let message = "there is nothing to tune, since the models stay frozen while a Fuser is trained; \
                           write method = \"single\" at the top, or take this section out";
            tell("single", message.to_owned());
        }
        return;
    }
    if others_than_receiver(checked) {
        let message = "the method `single` leaves one model, so that only the Receiver can answer; \
                       write methods = [\"receiver\"]";
        tell("evaluation.methods", message.to_owned());
    }
    if checked.text("data.prepared").is_some() {
        let message =
            "prepared caches are those of a Fuser's training; the method `single` reads none, so leave this out";
        tell("data.prepared", message.to_owned());
    }
    let layers = (checked.integer("single.first_layer"), checked.integer("single.last_layer"));
    if let (Some(first), Some(last)) = layers
        && last < first
    {
        tell("single.last_layer", format!("{last} is below single.first_layer, {first}; no layer would be trained"));
    }
}

/// A transformation is a projection and nothing else, and reads more of the caches than are prepared.
fn transformation(checked: &Checked, tell: &mut impl FnMut(&str, String)) {
    if let Some(level) = checked.text("fuser.level").filter(|level| *level != FuserLevel::Project.as_str()) {
        let message =
            format!("{level:?} is not what the method `transformation` trains; write \"project\", or leave this out");
        tell("fuser.level", message);
    }
    if checked.text("data.prepared").is_some() {
        let message = "prepared caches end with the first fused section, and the method `transformation` reads all of \
                       them; leave this out";
        tell("data.prepared", message.to_owned());
    }
}

/// Without a Fuser the models have to be named that its artefact would name, and nobody can answer who needs it.
fn models(checked: &Checked, tell: &mut impl FnMut(&str, String)) {
    let written = |section: &str| checked.get(section).is_some() || checked.origins.contains_key(section);
    if written("artefact") {
        return;
    }
    let first = |needs: fn(Method) -> bool| asked(checked).into_iter().find(|method| needs(*method));
    if let Some(method) = first(Method::needs_fuser) {
        let message = format!(
            "missing; expected a path (the method `{method}` needs a Fuser; receiver, sharer, t2t, few_shot and oracle do without)"
        );
        tell("artefact.path", message);
        return;
    }
    if !written("receiver") {
        tell("receiver.model", "missing; expected a path (without an artefact nothing else names a model)".to_owned());
    }
    if let Some(method) = first(Method::needs_sharer).filter(|_| !written("sharer")) {
        let message =
            format!("missing; expected a path (the method `{method}` needs it, and there is no artefact to name it)");
        tell("sharer.model", message);
    }
}

/// The method `several` and its control need Sharers to add, and they are counted.
fn several(checked: &Checked, tell: &mut impl FnMut(&str, String)) {
    if !checked.origins.contains_key("several") {
        if let Some(method) = asked(checked).into_iter().find(|method| method.fuses_several()) {
            let alone = if method.mismatches() { Method::Mismatched } else { Method::C2c };
            let message = format!(
                "missing; expected a table a further Sharer, such as {{ fuser = \"DIR\" }} \
                 (the method `{method}` fuses them with that of [artefact]; with one Sharer ask `{alone}`)"
            );
            tell("several.links", message);
        }
        return;
    }
    if let (Some(Value::Array(links)), Some(written)) = (checked.get("several.links"), checked.text("several.use"))
        && let Err(message) = sharer_list(written, links.len() + 1)
    {
        tell("several.use", message);
    }
}

/// The methods of the evaluation, as far as they are words that are known.
fn asked(checked: &Checked) -> Vec<Method> {
    let Some(Value::Array(methods)) = checked.get("evaluation.methods") else { return Vec::new() };
    methods.iter().filter_map(|method| method.clone().try_into().ok()).collect()
}

/// Whether anyone but the Receiver is to answer.
fn others_than_receiver(checked: &Checked) -> bool {
    asked(checked).iter().any(|method| *method != Method::Receiver)
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
    let methods: &[Value] = match checked.get("evaluation.methods") {
        Some(Value::Array(methods)) => methods,
        _ => &[],
    };
    let asks = |method: Method| methods.iter().any(|word| word.as_str() == Some(method.as_str()));
    if let Some(method) = asked(checked).into_iter().find(|method| method.mismatches())
        && checked.integer("evaluation.limit") == Some(1)
    {
        let message = format!(
            "the method `{method}` pairs each question with another, so it needs 2 or more; \
             raise the limit or take the method out"
        );
        tell("evaluation.limit", message);
    }
    let unsourced = [Method::FewShot, Method::Oracle].into_iter().find(|method| asks(*method));
    if let Some(method) = unsourced.filter(|_| !checked.origins.contains_key("evaluation.few_shot_sources")) {
        let message = format!("the method `{method}` needs examples: name their source in evaluation.few_shot_sources");
        tell("evaluation.methods", message);
    }
    if let Some(prompt) = checked.text("evaluation.t2t_prompt")
        && t2t_template(prompt).is_none()
    {
        let names = T2T_PROMPTS.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        tell(
            "evaluation.t2t_prompt",
            format!("expected one of {names}, or a text with `{QUESTION}`; found {prompt:?}"),
        );
    }
    if let Some(Err(message)) = checked.text("evaluation.oracle_layers").map(layer_list) {
        tell("evaluation.oracle_layers", message);
    }
    fused_share(checked, tell);
}

/// A share of what is fused needs someone who fuses, and an end needs a share.
fn fused_share(checked: &Checked, tell: &mut impl FnMut(&str, String)) {
    let asked = asked(checked);
    let share = checked.number("evaluation.fused_share");
    if share.is_some() && !asked.is_empty() && !asked.iter().any(|method| method.needs_fuser()) {
        let message = "none of the methods that are asked fuses anything (c2c and several, their controls, and t2t_c2c do); \
                       ask one of them, or leave this key out";
        tell("evaluation.fused_share", message.to_owned());
    }
    // One that is written wrongly is told already.
    if checked.text("evaluation.fused_from").is_some() && !checked.origins.contains_key("evaluation.fused_share") {
        let message = "without a share the whole prompt is fused, whichever end comes first; \
                       write evaluation.fused_share, or leave this key out";
        tell("evaluation.fused_from", message.to_owned());
    }
}

/// The modes, and the benchmarks and methods that fit them.
fn answers(checked: &Checked, tell: &mut impl FnMut(&str, String)) {
    let logits = checked.text("evaluation.mode") == Some(AnswerMode::Logits.as_str());
    if logits {
        let message = |kind: &str| {
            format!("`{kind}` has no choices whose letters `logits` could compare; ask it with `generate`")
        };
        free(checked, "evaluation.sources", message, tell);
    }
    let message = |kind: &str| format!("`{kind}` has no choices, and examples are answered with a letter");
    free(checked, "evaluation.few_shot_sources", message, tell);

    let Some(Value::Array(methods)) = checked.get("evaluation.methods") else { return };
    let in_turns = [Method::T2t, Method::T2tC2c, Method::FewShot, Method::Oracle];
    let asked = in_turns.iter().find(|method| methods.iter().any(|word| word.as_str() == Some(method.as_str())));
    if let Some(method) = asked
        && checked.get("evaluation.chat_template").and_then(Value::as_bool) == Some(false)
    {
        let message = format!(
            "the method `{method}` puts the question behind other turns of a chat, which a bare prompt doesn't have; \
             leave this key out or the method"
        );
        tell("evaluation.chat_template", message);
    }
}

/// Refuses the sources whose answers are free.
fn free(checked: &Checked, key: &str, message: impl Fn(&str) -> String, tell: &mut impl FnMut(&str, String)) {
    let Some(Value::Array(sources)) = checked.get(key) else { return };
    for (place, source) in sources.iter().enumerate() {
        let kind = source.get("kind").and_then(Value::as_str).unwrap_or_default();
        if ["gsm8k", "math500", "longbench"].contains(&kind) {
            tell(&format!("{key}[{place}].kind"), message(kind));
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

    fn flag(&self, path: &str) -> Option<bool> {
        self.get(path)?.as_bool()
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
