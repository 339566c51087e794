//! The controls in which the sharer, or each of several, reads another question.
//!
//! If a fused answer were right for any other reason than what the sharer has read, it would stay right with the sharer
//! reading something else of the same length. So the receiver's side of a prompt is left alone and the sharer's ids of
//! every section are taken from a partner's prompt.
//!
//! Of several sharers all read the same other question: each the side that its own pair has of it.
//!
//! Partners never ask the same question (the same fact may be asked several times with other choices, and would give
//! the answer away), and have sections of the same lengths where there is such a partner. Else the partner's ids of a
//! section are cut, or repeated from their start.

use c2c_data::mismatched_pairs;
use c2c_text::{Prompt, Section, SectionKind};
use std::collections::{BTreeMap, HashMap};

/// A section as far as partners have to agree about it: the message it holds, if any, and whether it is fused.
type Shape = (Option<usize>, bool);

/// For each question the index of the one whose sharers' sides it gets.
///
/// `prompts` are those of a question, one a sharer. `texts` are the questions' texts, which partners must not share.
/// Questions without prompts, and those for which no other question's have the same kinds of sections, get none.
///
/// Questions of equal section lengths are paired by a permutation without fixed points, so each is used once; where too
/// many of them ask the same question, and for one of unique length, the nearest in length is taken.
pub(crate) fn partners(prompts: &[Option<&[Prompt]>], texts: &[&str], seed: u64) -> Vec<Option<usize>> {
    let mut groups: BTreeMap<(Vec<Shape>, Vec<usize>), Vec<usize>> = BTreeMap::new();
    for (index, own) in prompts.iter().enumerate() {
        if let Some(own) = own {
            groups.entry((shape(own), lengths(own))).or_default().push(index);
        }
    }
    let mut partners = vec![None; prompts.len()];
    let mut left = Vec::new();
    for members in groups.values() {
        match derangement(members, texts, seed) {
            Some(pairs) => pairs.into_iter().for_each(|(index, other)| partners[index] = Some(other)),
            None => left.extend_from_slice(members),
        }
    }
    if !left.is_empty() {
        let usable: Vec<usize> = (0..prompts.len()).filter(|index| prompts[*index].is_some()).collect();
        // A random order, so that of equally near prompts not always the first question of the set is taken.
        let order: Vec<usize> = cycle(usable.len(), seed).into_iter().map(|place| usable[place]).collect();
        for index in left {
            partners[index] = nearest(index, &order, prompts, texts);
        }
    }
    partners
}

/// The prompts of a question, one a sharer, with the sharers' sides of another one's. All have the same kinds of sections.
pub(crate) fn with_sharers_of(own: &[Prompt], partner: &[Prompt]) -> Vec<Prompt> {
    own.iter().zip(partner).map(|(own, partner)| with_sharer_of(own, partner)).collect()
}

fn with_sharer_of(own: &Prompt, partner: &Prompt) -> Prompt {
    let sections = own.sections.iter().zip(&partner.sections).map(|(own, partner)| Section {
        sharer: fit(&partner.sharer, own.len()),
        sharer_mask: fit(&partner.sharer_mask, own.len()),
        ..own.clone()
    });
    Prompt { sections: sections.collect() }
}

fn shape(prompts: &[Prompt]) -> Vec<Shape> {
    let message = |section: &Section| match section.kind {
        SectionKind::Template => None,
        SectionKind::Message(index) => Some(index),
    };
    sections(prompts).map(|section| (message(section), section.fuse)).collect()
}

fn lengths(prompts: &[Prompt]) -> Vec<usize> {
    sections(prompts).map(Section::len).collect()
}

fn sections(prompts: &[Prompt]) -> impl Iterator<Item = &Section> {
    prompts.iter().flat_map(|prompt| &prompt.sections)
}

/// The values cut to a length, or repeated from their start up to it. Sections are never empty.
fn fit<T: Copy>(values: &[T], length: usize) -> Vec<T> {
    values.iter().copied().cycle().take(length).collect()
}

/// The places `0..n` in the order of [`mismatched_pairs`], which is one cycle.
fn cycle(n: usize, seed: u64) -> Vec<usize> {
    let next = mismatched_pairs(n, seed);
    let mut order: Vec<usize> = (0..n.min(1)).collect();
    while let Some(&place) = order.last().and_then(|last| next.get(*last)).filter(|place| **place != 0) {
        order.push(place);
    }
    order
}

/// Pairs each member with another one that asks something else, each used once; none if that can't be done.
fn derangement(members: &[usize], texts: &[&str], seed: u64) -> Option<Vec<(usize, usize)>> {
    let n = members.len();
    let mut order: Vec<usize> = cycle(n, seed).into_iter().map(|place| members[place]).collect();
    let mut ranks: HashMap<&str, usize> = HashMap::new();
    let mut counts = vec![0; n];
    for member in &order {
        let rank = ranks.len();
        counts[*ranks.entry(texts[*member]).or_insert(rank)] += 1;
    }
    // Equal questions next to each other, then a step as long as the longest run of them: it leaves every run, and
    // coming round it doesn't reach the run's start as long as no run is longer than half of all.
    order.sort_by_key(|member| ranks[texts[*member]]);
    let step: usize = counts.into_iter().max().unwrap_or(0);
    (n >= 2 && 2 * step <= n).then(|| (0..n).map(|place| (order[place], order[(place + step) % n])).collect())
}

fn nearest(index: usize, order: &[usize], prompts: &[Option<&[Prompt]>], texts: &[&str]) -> Option<usize> {
    let own = prompts[index]?;
    let (own_shape, own_lengths) = (shape(own), lengths(own));
    let distance = |other: usize| {
        let lengths = prompts[other].map(lengths).unwrap_or_default();
        own_lengths.iter().zip(lengths).map(|(own, other)| own.abs_diff(other)).sum::<usize>()
    };
    order
        .iter()
        .copied()
        .filter(|other| texts[*other] != texts[index])
        .filter(|other| prompts[*other].is_some_and(|other| shape(other) == own_shape))
        .min_by_key(|other| distance(*other))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::collections::HashSet;

    fn section(kind: SectionKind, receiver: u32, sharer: u32, length: usize, fuse: bool) -> Section {
        Section {
            kind,
            receiver: vec![receiver; length],
            sharer: (0..length as u32).map(|place| sharer + place).collect(),
            receiver_mask: vec![true; length],
            sharer_mask: vec![true; length],
            labels: vec![None; length],
            fuse,
        }
    }

    /// A prompt as token alignment makes them; the message's sharer ids start at `100 * (number + 1)`.
    fn prompt(number: usize, length: usize) -> Prompt {
        let base = 100 * (number as u32 + 1);
        Prompt::new(vec![
            section(SectionKind::Template, 1, 10, 2, false),
            section(SectionKind::Message(0), base, base, length, true),
            section(SectionKind::Template, 2, 20, 3, false),
        ])
        .unwrap()
    }

    fn partners_of(lengths: &[usize], texts: &[&str], seed: u64) -> Vec<Option<usize>> {
        let prompts: Vec<Prompt> = lengths.iter().enumerate().map(|(number, length)| prompt(number, *length)).collect();
        partners(&prompts.iter().map(|prompt| Some(std::slice::from_ref(prompt))).collect::<Vec<_>>(), texts, seed)
    }

    #[test]
    fn equal_lengths_are_paired_among_themselves_and_used_once() {
        let lengths: Vec<usize> = (0..40).map(|index| 5 + index % 4).collect();
        let texts: Vec<String> = (0..40).map(|index| format!("question {index}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        for seed in 0..10 {
            let partners = partners_of(&lengths, &texts, seed);
            let mut used = HashSet::new();
            for (index, partner) in partners.iter().enumerate() {
                let partner = partner.unwrap();
                assert_ne!(partner, index);
                assert_eq!(lengths[partner], lengths[index]);
                assert!(used.insert(partner));
            }
        }
        assert_eq!(partners_of(&lengths, &texts, 1), partners_of(&lengths, &texts, 1));
        assert_ne!(partners_of(&lengths, &texts, 1), partners_of(&lengths, &texts, 2));
    }

    #[test]
    fn one_group_of_different_questions_is_paired_as_by_mismatched_pairs() {
        let expected: Vec<Option<usize>> = mismatched_pairs(6, 9).into_iter().map(Some).collect();
        assert_eq!(partners_of(&[7; 6], &["a", "b", "c", "d", "e", "f"], 9), expected);
    }

    #[test]
    fn the_same_question_is_never_a_partner() {
        // Runs of every size up to half of all.
        let texts = ["a", "a", "a", "b", "b", "c", "c", "c", "d"];
        for seed in 0..50 {
            let partners = partners_of(&[4; 9], &texts, seed);
            let used: HashSet<_> = partners.iter().flatten().collect();
            assert_eq!(used.len(), 9);
            assert!((0..9).all(|index| texts[partners[index].unwrap()] != texts[index]), "seed {seed}: {partners:?}");
        }
        // Two of three: no permutation can do it, so one is used twice.
        assert_eq!(partners_of(&[4; 3], &["a", "b", "a"], 0)[0], Some(1));
        assert_eq!(partners_of(&[4; 3], &["a", "b", "a"], 0)[2], Some(1));
        assert!(partners_of(&[4; 3], &["a", "b", "a"], 0)[1].is_some());
        assert_eq!(partners_of(&[4; 3], &["a", "a", "a"], 0), [None; 3]);
    }

    #[test]
    fn a_unique_length_takes_the_nearest_one() {
        for seed in 0..10 {
            // 9 and 30 are nearest to each other only from 30's side.
            let partners = partners_of(&[5, 5, 9, 30], &["a", "b", "c", "d"], seed);
            assert_eq!((partners[0], partners[1], partners[3]), (Some(1), Some(0), Some(2)));
            assert!(partners[2] == Some(0) || partners[2] == Some(1));
        }
    }

    #[test]
    fn prompts_of_another_shape_or_missing_ones_are_no_partners() {
        let (a, b) = (prompt(0, 4), prompt(1, 4));
        let shared = Prompt::new(vec![
            section(SectionKind::Template, 1, 10, 4, true),
            section(SectionKind::Template, 2, 20, 1, false),
        ])
        .unwrap();
        let texts = ["a", "b", "c", "d"];
        let (a, b, shared) = ([a], [b], [shared]);
        let all: [Option<&[Prompt]>; 4] = [Some(&a), None, Some(&shared), Some(&b)];
        assert_eq!(partners(&all, &texts, 0), [Some(3), None, None, Some(0)]);
        assert_eq!(partners(&all[..1], &["a"], 0), [None]);
        assert!(partners(&[], &[], 0).is_empty());
    }

    #[test]
    fn only_the_sharers_side_changes() {
        let (own, partner) = (prompt(0, 4), prompt(1, 4));
        let mixed = with_sharer_of(&own, &partner);
        for (section, (own, partner)) in mixed.sections.iter().zip(own.sections.iter().zip(&partner.sections)) {
            let expected =
                Section { sharer: partner.sharer.clone(), sharer_mask: partner.sharer_mask.clone(), ..own.clone() };
            assert_eq!(*section, expected);
        }
        assert_ne!(mixed, own);
        assert_eq!(mixed.receiver_ids(), own.receiver_ids());
    }

    #[test]
    fn several_sharers_read_the_same_other_question_each_in_its_own_tokens() {
        // The second sharer's side is of another length, and decides between partners that are alike for the first.
        let both = |number, second| [prompt(number, 4), prompt(10 + number, second)];
        let questions = [both(0, 6), both(1, 5), both(2, 6), both(3, 5)];
        let prompts: Vec<Option<&[Prompt]>> = questions.iter().map(|both| Some(&both[..])).collect();
        for seed in 0..10 {
            assert_eq!(partners(&prompts, &["a", "b", "c", "d"], seed), [Some(2), Some(3), Some(0), Some(1)]);
        }
        let mixed = with_sharers_of(&questions[0], &questions[2]);
        assert_eq!(
            mixed,
            [with_sharer_of(&prompt(0, 4), &prompt(2, 4)), with_sharer_of(&prompt(10, 6), &prompt(12, 6))]
        );
    }

    #[test]
    fn longer_sides_are_cut_and_shorter_ones_repeated() {
        let sharer = |own, partner| with_sharer_of(&prompt(0, own), &prompt(1, partner)).sections[1].sharer.clone();
        assert_eq!(sharer(3, 5), [200, 201, 202]);
        assert_eq!(sharer(5, 2), [200, 201, 200, 201, 200]);
        Prompt::new(with_sharer_of(&prompt(0, 5), &prompt(1, 2)).sections).unwrap();
    }
}
