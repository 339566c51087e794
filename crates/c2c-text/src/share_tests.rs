//! What a cut may not change, and where it has to fall.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::SectionKind;

/// A section whose Receiver's ids are numbered from `first`; `mask` says which are tokens.
fn section(kind: SectionKind, first: u32, mask: &[bool], fuse: bool) -> Section {
    let ids: Vec<u32> = (first..).take(mask.len()).collect();
    Section {
        kind,
        sharer: ids.iter().map(|id| id + 1000).collect(),
        sharer_mask: mask.iter().rev().copied().collect(),
        labels: vec![None; mask.len()],
        receiver: ids,
        receiver_mask: mask.to_vec(),
        fuse,
    }
}

/// Prompts with sections of any padding, fused or not, and a last one that isn't.
fn prompts() -> impl Strategy<Value = Prompt> {
    let one = (proptest::collection::vec(proptest::bool::weighted(0.8), 1..7), proptest::bool::weighted(0.7));
    proptest::collection::vec(one, 0..6).prop_map(|parts| {
        let mut first = 0;
        let mut sections = Vec::new();
        for (place, (mask, fuse)) in parts.into_iter().enumerate() {
            sections.push(section(SectionKind::Message(place), first, &mask, fuse));
            first += mask.len() as u32;
        }
        sections.push(section(SectionKind::Template, first, &[true, true], false));
        Prompt::new(sections).unwrap()
    })
}

fn ends() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Front), Just(End::Back)]
}

/// Sections side by side put together again, as they were before they were cut.
fn joined(prompt: &Prompt, like: &Prompt) -> Vec<Section> {
    let mut pieces = prompt.sections.iter();
    like.sections
        .iter()
        .map(|whole| {
            let mut joined = pieces.next().unwrap().clone();
            while joined.len() < whole.len() {
                let next = pieces.next().unwrap();
                assert_eq!(next.kind, whole.kind);
                joined.receiver.extend(&next.receiver);
                joined.sharer.extend(&next.sharer);
                joined.receiver_mask.extend(&next.receiver_mask);
                joined.sharer_mask.extend(&next.sharer_mask);
                joined.labels.extend(&next.labels);
            }
            Section { fuse: whole.fuse, ..joined }
        })
        .collect()
}

/// Whether each of the Receiver's tokens that would be fused is, in the order of the text.
fn fused(prompt: &Prompt, whole: &Prompt) -> Vec<bool> {
    let tokens = |prompt: &Prompt| -> Vec<(u32, bool)> {
        let slots = prompt.sections.iter().flat_map(|section| {
            section.receiver.iter().zip(&section.receiver_mask).map(move |(id, real)| (*id, *real, section.fuse))
        });
        slots.filter(|(_, real, _)| *real).map(|(id, _, fuse)| (id, fuse)).collect()
    };
    let of_whole = tokens(whole);
    tokens(prompt).into_iter().zip(of_whole).filter(|(_, (_, would))| *would).map(|((_, fuse), _)| fuse).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn pieces_make_the_section_and_as_many_tokens_as_said_are_fused(
        whole in prompts(), share in 0.0f64..=1.0, from in ends()
    ) {
        let part = FusedShare { share, from };
        let cut = whole.clone().fused_in_part(part);
        // It is a prompt still, and nothing of it but what is fused has changed.
        Prompt::new(cut.sections.clone()).unwrap();
        prop_assert_eq!(&joined(&cut, &whole), &whole.sections);
        // At most one section is cut.
        prop_assert!(cut.sections.len() <= whole.sections.len() + 1);

        let all = whole.fused_tokens();
        let count = (all as f64 * share).floor() as usize;
        prop_assert_eq!(cut.fused_tokens(), count);
        let mut expected = vec![true; count];
        expected.resize(all, false);
        if from == End::Back {
            expected.reverse();
        }
        prop_assert_eq!(fused(&cut, &whole), expected);
        // Sections that wouldn't be fused still aren't.
        let would: usize = whole.sections.iter().filter(|section| section.fuse).map(Section::len).sum();
        let is: usize = cut.sections.iter().filter(|section| section.fuse).map(Section::len).sum();
        prop_assert!(is <= would);
    }

    #[test]
    fn all_is_the_prompt_itself_and_nothing_its_sections(whole in prompts(), from in ends()) {
        prop_assert_eq!(&whole.clone().fused_in_part(FusedShare { share: 1.0, from }), &whole);
        let none = whole.clone().fused_in_part(FusedShare { share: 0.0, from });
        let unfused = whole.sections.iter().map(|section| Section { fuse: false, ..section.clone() });
        prop_assert_eq!(none.sections, unfused.collect::<Vec<_>>());
    }

    /// Prompts of several Sharers have the same tokens of the Receiver between other padding.
    #[test]
    fn padding_does_not_move_the_cut(whole in prompts(), share in 0.0f64..=1.0, from in ends()) {
        let part = FusedShare { share, from };
        let unpadded = Prompt {
            sections: whole.sections.iter().filter_map(|section| {
                let real: Vec<usize> = (0..section.len()).filter(|slot| section.receiver_mask[*slot]).collect();
                let pick = |ids: &[u32]| real.iter().map(|slot| ids[*slot]).collect::<Vec<u32>>();
                let (receiver, sharer) = (pick(&section.receiver), pick(&section.sharer));
                (!real.is_empty()).then(|| Section::new(section.kind, receiver, sharer, section.fuse))
            }).collect(),
        };
        let with = whole.clone().fused_in_part(part);
        let without = unpadded.clone().fused_in_part(part);
        prop_assert_eq!(fused(&with, &whole), fused(&without, &unpadded));
    }
}

#[test]
fn a_share_is_counted_over_all_fused_sections() {
    let prompt = Prompt::new(vec![
        section(SectionKind::Template, 0, &[true, true], false),
        section(SectionKind::Message(0), 10, &[true; 4], true),
        section(SectionKind::Template, 20, &[false, true], false),
        section(SectionKind::Message(1), 30, &[true, false, true, true, false, true], true),
        section(SectionKind::Template, 40, &[true], false),
    ])
    .unwrap();
    assert_eq!(prompt.fused_tokens(), 8);
    let shape = |share, from| -> Vec<(bool, usize)> {
        let cut = prompt.clone().fused_in_part(FusedShare { share, from });
        cut.sections.iter().map(|section| (section.fuse, section.len())).collect()
    };
    let (no, yes) = (false, true);
    assert_eq!(shape(0.25, End::Front), [(no, 2), (yes, 2), (no, 2), (no, 2), (no, 6), (no, 1)]);
    // The first message and no more: nothing is cut.
    assert_eq!(shape(0.5, End::Front), [(no, 2), (yes, 4), (no, 2), (no, 6), (no, 1)]);
    // Six tokens: the cut falls behind the second message's second token, in front of the third.
    assert_eq!(shape(0.75, End::Front), [(no, 2), (yes, 4), (no, 2), (yes, 3), (no, 3), (no, 1)]);
    assert_eq!(shape(0.5, End::Back), [(no, 2), (no, 4), (no, 2), (yes, 6), (no, 1)]);
    assert_eq!(shape(0.25, End::Back), [(no, 2), (no, 4), (no, 2), (no, 3), (yes, 3), (no, 1)]);
    // Seven of eight, rounded down.
    assert_eq!(shape(0.99, End::Back), [(no, 2), (no, 1), (yes, 3), (no, 2), (yes, 6), (no, 1)]);
    assert_eq!(shape(0.1, End::Back), [(no, 2), (no, 4), (no, 2), (no, 6), (no, 1)]);
}

#[test]
fn numbers_that_are_no_share_fuse_nothing_or_all() {
    let of = |share| FusedShare { share, from: End::Front }.of(10);
    assert_eq!([0.0, 0.05, 0.1, 0.999, 1.0, 7.0, -1.0, f64::NAN].map(of), [0, 0, 1, 9, 10, 10, 0, 0]);
}
