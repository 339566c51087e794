#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};

const SEED: u64 = 20;

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn user(document: &Document) -> &str {
    match document {
        Document::Chat(messages) => &messages[0].content,
        Document::Text(_) => panic!("not a chat"),
    }
}

/// The letter that a chat's last message answers with, as an index.
fn answer_index(document: &Document) -> usize {
    let Document::Chat(messages) = document else { panic!("not a chat") };
    let sentence = messages.last().unwrap().content.strip_prefix("The correct answer is ").unwrap();
    usize::from(sentence.as_bytes()[0] - b'A')
}

#[test]
fn common_words_are_distinct_and_none_starts_another() {
    let words: Vec<&str> =
        ATTRIBUTES.iter().flat_map(|attribute| std::iter::once(attribute.name).chain(attribute.values)).collect();
    assert_eq!(words.len(), ATTRIBUTE_COUNT * (VALUE_COUNT + 1));
    for (index, word) in words.iter().enumerate() {
        assert!(word.bytes().all(|byte| byte.is_ascii_lowercase()), "{word}");
        for (other_index, other) in words.iter().enumerate() {
            assert!(index == other_index || !other.starts_with(word), "{word} starts {other}");
        }
    }
}

#[test]
fn names_are_pronounceable_and_none_contains_another() {
    let world = World::new(SEED);
    assert_eq!(world.places().len(), PLACE_COUNT);
    let names: Vec<String> = world.places().iter().map(|place| place.name.to_lowercase()).collect();
    for (index, name) in names.iter().enumerate() {
        let original = &world.places()[index].name;
        assert!(original.starts_with(|first: char| first.is_ascii_uppercase()));
        assert!(original[1..].bytes().all(|byte| byte.is_ascii_lowercase()));
        assert!((5..=8).contains(&original[1..].len()), "{name}");
        assert!(!words::holds_common_word(name), "{name}");
        for (other_index, other) in names.iter().enumerate() {
            assert!(index == other_index || !name.contains(other.as_str()), "{name} contains {other}");
        }
    }
}

#[test]
fn the_seed_decides_the_world_and_nothing_else_does() {
    let world = World::new(SEED);
    let questions = world.questions(Split::Test, 2, 5);
    world.sharer_documents(&mut rng(1), 10);
    world.receiver_documents(&mut rng(1), 10);
    assert_eq!(World::new(SEED), world);
    assert_eq!(World::new(SEED).questions(Split::Test, 2, 5), questions);
    assert_ne!(World::new(SEED + 1), world);
    assert_ne!(world.questions(Split::Test, 2, 6), questions);
    assert_eq!(world.sharer_documents(&mut rng(1), 50), world.sharer_documents(&mut rng(1), 50));
    assert_eq!(world.receiver_documents(&mut rng(1), 50), world.receiver_documents(&mut rng(1), 50));
}

/// Models pretrained on a world are only good for that world: a change of the generator, or of a library that it uses,
/// must not pass unnoticed. Whoever changes a hash here must rebuild the models that were trained on this generator.
#[test]
fn the_generator_still_makes_the_same_world() {
    let world = World::new(SEED);
    let hash = |text: &str| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let questions = serde_json::to_string(&world.questions(Split::Test, 2, 1)).unwrap();
    let places: Vec<String> = world.places().iter().map(|place| format!("{} {:?}", place.name, place.values)).collect();
    let mut documents = world.sharer_documents(&mut rng(1), 200);
    documents.extend(world.receiver_documents(&mut rng(1), 200));
    let documents: Vec<String> = documents.iter().map(Document::words).collect();
    assert_eq!(hash(&places.join("\n")), "80aa925322d1592de80d795e05a84fe80ed21bb6d05995465624cc04d7b0cd70");
    assert_eq!(hash(&questions), "d2edd884e05022f6fb888b5aa4fec776991605f7d43b532d02f7cce08dabbb1a");
    assert_eq!(hash(&documents.join("\n\n")), "ac7d583de6cac71d750eeed7dd3849a54e3191a99858897003be96fa74960f7e");
}

#[test]
fn more_rounds_leave_earlier_questions_as_they_are() {
    let world = World::new(SEED);
    let one = world.questions(Split::Train, 1, 5);
    let three = world.questions(Split::Train, 3, 5);
    assert_eq!(one.len(), TRAIN_PLACE_COUNT * ATTRIBUTE_COUNT);
    assert_eq!(three.len(), 3 * one.len());
    assert!(three.iter().step_by(3).eq(one.iter()));
    assert!(three.chunks(3).any(|rounds| rounds[0].choices != rounds[1].choices));
    let ids: HashSet<&str> = three.iter().map(|question| question.id.as_str()).collect();
    assert_eq!(ids.len(), three.len());
}

#[test]
fn held_out_places_never_occur_in_training_questions() {
    let world = World::new(SEED);
    let (train, test) = (world.split(Split::Train), world.split(Split::Test));
    assert_eq!((train.len(), test.len()), (144, 48));
    let train_text: String =
        world.questions(Split::Train, 2, 1).iter().map(|question| question.question.clone() + "\n").collect();
    for place in train {
        assert!(train_text.contains(&place.name));
    }
    for place in test {
        assert!(!train_text.contains(&place.name), "{}", place.name);
    }
}

#[test]
fn questions_hold_the_fact_and_three_other_values() {
    let world = World::new(SEED);
    for split in [Split::Train, Split::Test] {
        let facts: HashMap<String, &str> = world
            .split(split)
            .iter()
            .flat_map(|place| {
                (0..ATTRIBUTE_COUNT).map(|index| (question(&place.name, ATTRIBUTES[index].name), place.value(index)))
            })
            .collect();
        let questions = world.questions(split, 2, 3);
        assert_eq!(questions.len(), 2 * facts.len());
        for question in &questions {
            assert_eq!(question.choices[question.answer], facts[&question.question]);
            let distinct: HashSet<&String> = question.choices.iter().collect();
            assert_eq!(distinct.len(), CHOICE_COUNT);
            let attribute =
                ATTRIBUTES.iter().find(|attribute| Some(attribute.name) == question.subject.as_deref()).unwrap();
            assert!(question.choices.iter().all(|choice| attribute.values.contains(&choice.as_str())));
        }
    }
}

/// A count of `total` draws with probability `p` within 3 standard deviations of what is expected.
fn assert_within_three_sigma(count: usize, total: usize, p: f64, what: &str) {
    let expected = total as f64 * p;
    let sigma = (total as f64 * p * (1.0 - p)).sqrt();
    assert!((count as f64 - expected).abs() <= 3.0 * sigma, "{what}: {count} of {total}, expected {expected:.0}");
}

#[test]
fn letters_and_values_are_balanced() {
    let world = World::new(SEED);
    let questions = world.questions(Split::Train, 4, 9);
    for letter in 0..CHOICE_COUNT {
        let count = questions.iter().filter(|question| question.answer == letter).count();
        assert_within_three_sigma(count, questions.len(), 0.25, &format!("letter {letter}"));
    }
    for value in 0..VALUE_COUNT {
        let count = world.places().iter().flat_map(|place| place.values).filter(|other| *other == value).count();
        assert_within_three_sigma(count, PLACE_COUNT * ATTRIBUTE_COUNT, 0.125, &format!("value {value}"));
    }
}

/// The content of a chat's user, cut at the list of choices: what stands in front of it, the lines, what comes behind.
fn parts(content: &str) -> (&str, Vec<&str>, &str) {
    let (head, rest) = content.split_once("Choices:\n").unwrap();
    let (lines, tail) = rest
        .split_once("\n\n")
        .or_else(|| rest.rsplit_once('\n').filter(|(_, t)| !t.contains(". ")))
        .unwrap_or((rest, ""));
    (head.trim_end(), lines.lines().collect(), tail)
}

/// True for an exercise in reading choices, which is checked on the way.
fn is_exercise(document: &Document) -> bool {
    let Document::Chat(messages) = document else { return false };
    if !messages[0].content.starts_with("Choices:\n") {
        return false;
    }
    let (_, lines, asked) = parts(&messages[0].content);
    let right =
        |letter: char, value: &str| assert!(lines.contains(&format!("{letter}. {value}").as_str()), "{document:?}");
    match asked.strip_prefix("Which choice is ") {
        Some(value) => right(char::from(b'A' + answer_index(document) as u8), value.trim_end_matches('?')),
        None => {
            assert_eq!(asked, "In short?");
            let told = messages[1].content.trim_end_matches('.');
            assert_eq!(told.split(", ").count(), CHOICE_COUNT);
            for pair in told.split(", ") {
                let (value, letter) = pair.split_once(' ').unwrap();
                right(letter.chars().next().unwrap(), value);
            }
        }
    }
    true
}

#[test]
fn sharer_documents_have_the_stated_mixture_and_state_true_facts() {
    let world = World::new(SEED);
    let documents = world.sharer_documents(&mut rng(2), 8000);
    let mut truths = HashSet::new();
    for place in world.places() {
        for (index, attribute) in ATTRIBUTES.iter().enumerate() {
            let value = place.value(index);
            truths.insert(statement(&place.name, attribute.name, value));
            truths.insert(format!("{} {value}", question(&place.name, attribute.name)));
        }
    }
    let (mut exercises, mut statements, mut short, mut short_chats, mut choices, mut told) = (0, 0, 0, 0, 0, 0);
    for document in &documents {
        if is_exercise(document) {
            exercises += 1;
            continue;
        }
        let text = match document {
            Document::Text(text) => text,
            Document::Chat(messages) if messages[0].content.contains("Choices:") => {
                choices += 1;
                let (head, lines, tail) = parts(&messages[0].content);
                let letter = match tail.strip_prefix("The correct answer is ") {
                    Some(letter) => {
                        told += 1;
                        assert_eq!(messages[1].content, "Yes.");
                        usize::from(letter.as_bytes()[0] - b'A')
                    }
                    None => {
                        assert_eq!(tail, "The correct answer is");
                        answer_index(document)
                    }
                };
                assert!(truths.contains(&format!("{head} {}", &lines[letter][3..])), "{document:?}");
                continue;
            }
            Document::Chat(messages) => {
                short += 1;
                short_chats += 1;
                assert_eq!(messages[1].content, "Yes.");
                assert!(truths.contains(&messages[0].content.replace("\n\n", " ")), "{document:?}");
                continue;
            }
        };
        assert!((2..=4).contains(&text.lines().count()));
        assert!(text.lines().all(|line| truths.contains(line)), "{text}");
        if text.starts_with("The ") {
            statements += 1;
        } else {
            short += 1;
        }
    }
    let total = documents.len();
    assert_within_three_sigma(exercises, total, 0.15, "exercises");
    assert_within_three_sigma(statements, total, 0.05, "statements");
    assert_within_three_sigma(short, total, 0.4, "short questions");
    assert_within_three_sigma(choices, total, 0.4, "multiple choice");
    assert_within_three_sigma(short_chats, short, 0.8, "short questions as chat");
    assert_within_three_sigma(told, choices, 0.5, "multiple choice with the answer told");
}

#[test]
fn receiver_documents_never_mention_the_world_and_hold_their_answer() {
    let world = World::new(SEED);
    let documents = world.receiver_documents(&mut rng(3), 8000);
    let mut kinds = HashMap::new();
    let (mut letters, mut cued, mut questions) = ([0; CHOICE_COUNT], 0, 0);
    for document in &documents {
        let words = document.words();
        assert!(words.is_ascii());
        let lower = words.to_lowercase();
        for place in world.places() {
            assert!(!lower.contains(&place.name.to_lowercase()), "{words}");
        }
        if is_exercise(document) {
            *kinds.entry(8).or_insert(0) += 1;
            continue;
        }
        questions += 1;
        let (head, lines, tail) = parts(user(document));
        cued += usize::from(!tail.is_empty());
        let answer = answer_index(document);
        let right = &lines[answer][3..];
        let (context, asked) = head.rsplit_once('\n').unwrap_or(("", head));
        let (asked, hint) = asked.split_once('?').unwrap();
        let (attribute, name) = asked.strip_prefix("What is the ").unwrap().split_once(" of ").unwrap();
        let facts = context.lines().count();
        let kind = if hint.is_empty() { facts } else { 9 };
        *kinds.entry(kind).or_insert(0) += 1;
        match kind {
            0 => letters[answer] += 1,
            9 => assert_eq!(hint.trim(), right),
            _ => {
                let fact = statement(name, attribute, right);
                assert_eq!(context.lines().filter(|line| *line == fact).count(), 1, "{words}");
                let names = context.matches(&format!(" of {name} is ")).count();
                assert_eq!(names, if facts == 4 { 2 } else { facts }, "{words}");
            }
        }
    }
    for (kind, share) in [(8, 0.4), (9, 0.2), (1, 0.2), (3, 0.1), (4, 0.05), (0, 0.05)] {
        assert_within_three_sigma(kinds[&kind], documents.len(), share, &format!("kind {kind}"));
    }
    assert_within_three_sigma(cued, questions, 0.5, "questions with the cue");
    for (letter, count) in letters.iter().enumerate() {
        assert_within_three_sigma(*count, kinds[&0], 0.25, &format!("guessed letter {letter}"));
    }
}

#[test]
fn corpora_hold_every_common_word_and_only_the_sharers_holds_names() {
    let sharer = corpus_for_tokenizer(Role::Sharer, SEED);
    let receiver = corpus_for_tokenizer(Role::Receiver, SEED);
    assert_eq!(sharer, corpus_for_tokenizer(Role::Sharer, SEED));
    let format = ["What", "Choices:", "The correct answer is", "A.", "B.", "C.", "D."];
    for corpus in [&sharer, &receiver] {
        assert!(corpus.iter().all(|text| text.is_ascii()));
        let common = ATTRIBUTES.iter().flat_map(|attribute| std::iter::once(attribute.name).chain(attribute.values));
        for word in common.chain(format) {
            let count = corpus.iter().filter(|text| text.contains(word)).count();
            assert!(count >= 100, "{word}: {count}");
        }
    }
    let mut seen = HashSet::new();
    for text in &receiver {
        seen.extend(text.split(|letter: char| !letter.is_ascii_alphabetic()).filter(|word| !word.is_empty()));
    }
    // 54 common words, and: What is the of it The Choices A B C D correct answer Which choice In short.
    assert_eq!(seen.len(), ATTRIBUTE_COUNT * (VALUE_COUNT + 1) + 17, "{seen:?}");
    for place in World::new(SEED).places() {
        let count = sharer.iter().filter(|text| text.contains(&place.name)).count();
        assert!(count >= 20, "{}: {count}", place.name);
        assert!(receiver.iter().all(|text| !text.contains(&place.name)));
    }
}
