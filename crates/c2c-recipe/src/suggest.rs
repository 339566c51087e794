//! The nearest valid name to a wrong one.

/// Names nearer than this are suggested (1 is equal, 0 is nothing in common).
const NEAR: f64 = 0.6;

/// What a key that belongs to another tool's recipes is called here.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("accumulation_steps", "training.gradient_accumulation"),
    ("base_model", "receiver.model"),
    ("eval_steps", "training.evaluate_every"),
    ("gradient_accumulation_steps", "training.gradient_accumulation"),
    ("lr", "optimizer.learning_rate"),
    ("mapping", "fuser.layer_mapping"),
    ("num_epochs", "training.epochs"),
    ("num_train_epochs", "training.epochs"),
    ("output_dir", "output.dir"),
    ("per_device_train_batch_size", "training.batch_size"),
    ("scheduler_type", "schedule.kind"),
    ("teacher_model", "sharer.model"),
];

/// The nearest of some names, or `None` if none is near.
pub(crate) fn nearest<'a>(found: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    best(names.into_iter().map(|name| (strsim::normalized_damerau_levenshtein(found, name), name)))
}

/// The nearest of some dotted keys. A key of the same name in another section is nearer than another name in the same
/// section, since a right name in the wrong section is the commonest mistake.
pub(crate) fn nearest_key<'a>(found: &str, keys: &[&'a str]) -> Option<&'a str> {
    let name = last(found);
    if let Some((_, ours)) = OTHER_NAMES.iter().find(|(theirs, _)| *theirs == name)
        && let Some(key) = keys.iter().find(|key| *key == ours)
    {
        return Some(key);
    }
    best(keys.iter().map(|key| {
        let whole = strsim::normalized_damerau_levenshtein(found, key);
        let name = strsim::normalized_damerau_levenshtein(name, last(key));
        // The whole key only decides between names that are equally near.
        (if name >= NEAR { name + 0.01 * whole } else { 0.0 }, *key)
    }))
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

fn best<'a>(scored: impl Iterator<Item = (f64, &'a str)>) -> Option<&'a str> {
    scored.filter(|(score, _)| *score >= NEAR).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name() {
        assert_eq!(nearest("liner", ["linear", "cosine"]), Some("linear"));
        assert_eq!(nearest("zzz", ["linear", "cosine"]), None);
    }

    #[test]
    fn nearest_key_prefers_the_name_then_the_section() {
        let keys = ["training.batch_size", "evaluation.batch_size", "optimizer.learning_rate", "receiver.model"];
        assert_eq!(nearest_key("evaluation.batchsize", &keys), Some("evaluation.batch_size"));
        assert_eq!(nearest_key("training.lerning_rate", &keys), Some("optimizer.learning_rate"));
        assert_eq!(nearest_key("model.base_model", &keys), Some("receiver.model"));
        assert_eq!(nearest_key("training.zebra", &keys), None);
    }
}
