//! What runs are called: by their folders, and for readers by as little of that as tells them apart.
//!
//! A run directory's name is its recipe's, the time it was begun at, and the start of its recipe's hash:
//! `pocket-20261124T145220Z-f4804176`.

use std::collections::HashMap;

use crate::RunFiles;

/// A name for each run: that of its folder; the path where folders share a name.
pub(super) fn unique(runs: &[RunFiles]) -> Vec<String> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for run in runs {
        *counts.entry(run.name()).or_default() += 1;
    }
    let name = |run: &RunFiles| match counts.get(&run.name()) {
        Some(1) => run.name(),
        _ => run.dir.display().to_string(),
    };
    runs.iter().map(name).collect()
}

/// The same, shorter: the recipe, or recipe and hash, where no other run has the same; else the whole.
pub(super) fn short(names: &[String]) -> Vec<String> {
    let parts: Vec<[String; 3]> = names.iter().map(|name| forms(name)).collect();
    let is_unique = |place: usize, form: &String| {
        let others = parts.iter().enumerate().filter(|(other, _)| *other != place);
        others.flat_map(|(_, forms)| forms).all(|other| other != form)
    };
    let short = |(place, forms): (usize, &[String; 3])| {
        forms.iter().find(|form| is_unique(place, form)).unwrap_or(&forms[2]).clone()
    };
    parts.iter().enumerate().map(short).collect()
}

/// The recipe, recipe and hash, and the whole name; of a name of another kind three times itself.
fn forms(name: &str) -> [String; 3] {
    let mut parts = name.rsplitn(3, '-');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(hash), Some(time), Some(recipe)) if is_hash(hash) && is_time(time) && !recipe.contains('/') => {
            [recipe.to_owned(), format!("{recipe}-{hash}"), name.to_owned()]
        }
        _ => [name, name, name].map(str::to_owned),
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Such as `20261124T145220Z`.
fn is_time(text: &str) -> bool {
    let digits = |text: &str, n: usize| text.len() == n && text.bytes().all(|byte| byte.is_ascii_digit());
    text.strip_suffix('Z')
        .and_then(|text| text.split_once('T'))
        .is_some_and(|(date, time)| digits(date, 8) && digits(time, 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shortened(names: &[&str]) -> Vec<String> {
        short(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_are_as_short_as_they_can_be_told_apart() {
        let names = ["pocket-20261124T145220Z-f4804176", "gsm8k-test-20261124T145221Z-0123abcd", "mine"];
        assert_eq!(shortened(&names), ["pocket", "gsm8k-test", "mine"]);
        // Two recipes of a name, and one recipe twice.
        let names = [
            "pocket-20261124T145220Z-f4804176",
            "pocket-20261124T145221Z-0123abcd",
            "pocket-20261124T145222Z-0123abcd",
        ];
        assert_eq!(shortened(&names), ["pocket-f4804176", names[1], names[2]]);
        // A folder that has another's recipe for its name.
        let names = ["pocket-20261124T145220Z-f4804176", "pocket"];
        assert_eq!(shortened(&names), ["pocket-f4804176", "pocket"]);
        for other in ["a-b-c", "pocket-20261124T145220Z-f48041", "runs/pocket-20261124T145220Z-f4804176"] {
            assert_eq!(shortened(&[other]), [other]);
        }
    }
}
