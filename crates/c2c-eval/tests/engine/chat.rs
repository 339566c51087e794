//! Conversations with the toy pair: the same replies as an evaluation records, told piece by piece, turn after turn.

use std::ops::ControlFlow;

use c2c_eval::{Chat, ChatError, ChatReply, ChatSettings, Conversation, End, FusedSlots, Speaker};
use c2c_fuser::{FusionOrder, Link, Several, SeveralBatch};
use toy::CONTEXT;

use super::*;

const SPEAKERS: [(Speaker, Method); 3] =
    [(Speaker::C2c, Method::C2c), (Speaker::Receiver, Method::Receiver), (Speaker::Sharer(0), Method::Sharer)];

fn greedily(max_new_tokens: usize) -> ChatSettings {
    ChatSettings { sampling: SamplingParams::default(), max_new_tokens, seed: 1 }
}

fn drawn(seed: u64) -> ChatSettings {
    let sampling = SamplingParams { do_sample: true, temperature: 1.5, ..SamplingParams::default() };
    ChatSettings { sampling, max_new_tokens: 24, seed }
}

/// Answers without anybody watching.
fn reply(chat: &Chat<'_, Dispatch>, speaker: Speaker, messages: &[Message], settings: &ChatSettings) -> ChatReply {
    chat.reply(speaker, messages, settings, &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn the_first_reply_is_the_one_that_an_evaluation_records() {
    for shared in [false, true] {
        let toy = Toy::of(&Shape { shared, ..Shape::default() });
        let questions = questions();
        let evaluation = toy.evaluate(&questions, &settings(&SPEAKERS.map(|(_, method)| method), 4));
        let chat = Chat::new(&toy.c2c, &toy.text, None).unwrap();
        for (speaker, method) in SPEAKERS {
            for (record, question) in of(&evaluation.records, method).into_iter().zip(&questions) {
                let reply = reply(&chat, speaker, &chat_of(question), &greedily(6));
                assert_eq!(reply.text.trim_matches('\n'), record.output, "{method}");
                assert_eq!(reply.ids.len(), record.output_tokens as usize);
                assert_eq!(reply.finish == End::Eos, record.finish == Some(Finish::Eos));
                let read = reply.receiver_tokens.unwrap_or_else(|| reply.sharer_tokens[0]);
                assert_eq!(read, record.prompt_tokens as usize);
            }
        }
    }
}

fn chat_of(question: &McQuestion) -> [Message; 1] {
    super::chat(question)
}

#[test]
fn what_was_read_and_fused_is_told_and_time_goes_to_its_parts() {
    let toy = Toy::new();
    let chat = Chat::new(&toy.c2c, &toy.text, None).unwrap();
    let messages = chat_of(&questions()[0]);
    let prompt = toy.text.prompt(&messages).unwrap();
    let fused = prompt.sections.iter().filter(|section| section.fuse);
    let slots = fused.clone().map(|section| section.len()).sum();
    let tokens = fused.flat_map(|section| &section.receiver_mask).filter(|real| **real).count();
    for (speaker, _) in SPEAKERS {
        let reply = reply(&chat, speaker, &messages, &greedily(6));
        let c2c = speaker == Speaker::C2c;
        let expected = if c2c { FusedSlots { sections: 1, slots, tokens } } else { FusedSlots::default() };
        assert_eq!(reply.fused, expected);
        let (receiver, sharer) = (speaker != Speaker::Sharer(0), speaker != Speaker::Receiver);
        assert_eq!((reply.receiver_tokens.is_some(), !reply.sharer_tokens.is_empty()), (receiver, sharer));
        assert_eq!(reply.phases.values().map(|part| part > 0.0), [receiver, sharer, false, c2c, true]);
        assert!(reply.phases.sum() <= reply.milliseconds * (1.0 + 1e-9), "{reply:?}");
        assert_eq!(reply.tokens_per_second().is_some(), !reply.ids.is_empty());
    }
}

#[test]
fn pieces_joined_are_the_reply_and_a_break_ends_it() {
    let toy = Toy::new();
    let chat = Chat::new(&toy.c2c, &toy.text, None).unwrap();
    let messages = chat_of(&questions()[3]);
    for (speaker, _) in SPEAKERS {
        for seed in 0..4 {
            let mut pieces = Vec::new();
            let whole = chat.reply(speaker, &messages, &drawn(seed), &mut |piece| {
                pieces.push(piece.to_owned());
                ControlFlow::Continue(())
            });
            let whole = whole.unwrap();
            assert_eq!(pieces.concat(), whole.text);
            if whole.ids.len() < 3 {
                continue;
            }
            let mut seen = 0;
            let stopped = chat.reply(speaker, &messages, &drawn(seed), &mut |_| {
                seen += 1;
                if seen < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            let stopped = stopped.unwrap();
            assert_eq!(stopped.finish, End::Stopped);
            assert_eq!(stopped.ids, whole.ids[..2]);
        }
    }
}

#[test]
fn earlier_turns_are_read_and_fused_with_their_roles() {
    let toy = Toy::new();
    let chat = Chat::new(&toy.c2c, &toy.text, None).unwrap();
    let mut conversation = Conversation::new(Some("Be brief.".into()));
    conversation.remember("What is the stone of Teal?", "Gold.");
    let messages = conversation.with("And of Brai?");
    let roles: Vec<&str> = messages.iter().map(|message| message.role.as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    let answered = reply(&chat, Speaker::C2c, &messages, &greedily(6));
    assert_eq!(answered.fused.sections, 4);
    // By hand: the text layer's prompt of all messages, as training has it.
    let batch = PairBatch::collate(&[toy.text.prompt(&messages).unwrap()], 0, 0).unwrap();
    let options = DecodeOptions { max_new_tokens: 6, eos: receiver_eos(toy.text.receiver()), ..Default::default() };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let sampling = SamplingParams::default();
    let mut seen = Vec::new();
    let by_hand = toy.c2c.generate_observed(&batch, Fusion::On, &sampling, &options, &mut rng, &mut |row, id| {
        seen.push((row, id));
        ControlFlow::Continue(())
    });
    let by_hand = by_hand.unwrap();
    assert_eq!(answered.ids, by_hand.tokens[0]);
    assert_eq!(seen, by_hand.tokens[0].iter().map(|id| (0, *id)).collect::<Vec<_>>());
    // What was said counts; so does the system prompt; and what is forgotten doesn't.
    let after = |conversation: &Conversation| reply(&chat, Speaker::C2c, &conversation.with("And?"), &greedily(6)).ids;
    let full = after(&conversation);
    conversation.set_system(None);
    let unled = after(&conversation);
    assert_eq!(conversation.turns(), 1);
    conversation.forget();
    assert_eq!((conversation.turns(), conversation.with("x").len()), (0, 1));
    let bare = after(&conversation);
    assert!(full != unled && unled != bare, "{full:?} {unled:?} {bare:?}");
    assert_eq!(bare, reply(&chat, Speaker::C2c, &[Message::user("And?")], &greedily(6)).ids);
}

#[test]
fn several_sharers_answer_as_they_do_together() {
    let mut toy = Toy::new();
    let messages = chat_of(&questions()[1]);
    let mut told = Vec::new();
    for order in [FusionOrder::Sequential, FusionOrder::Parallel] {
        toy.several.order = order;
        let chat = Chat::new(&toy.c2c, &toy.text, Some(&toy.several)).unwrap();
        assert_eq!(chat.sharers(), 2);
        let together = reply(&chat, Speaker::C2c, &messages, &greedily(12));
        assert_eq!(together.sharer_tokens.len(), 2);
        let own = Link { sharer: toy.c2c.sharer.clone(), fuser: toy.c2c.fuser.clone() };
        let other = &toy.several.others[0];
        let several = Several::new(toy.c2c.receiver.clone(), vec![own, other.link.clone()], order).unwrap();
        let batch =
            [&toy.text, &other.text].map(|text| PairBatch::collate(&[text.prompt(&messages).unwrap()], 0, 0).unwrap());
        let batch = SeveralBatch::new(batch.to_vec()).unwrap();
        let options =
            DecodeOptions { max_new_tokens: 12, eos: receiver_eos(toy.text.receiver()), ..Default::default() };
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let by_hand = several.generate(&batch, &SamplingParams::default(), &options, &mut rng).unwrap();
        assert_eq!(together.ids, by_hand.tokens[0], "{order:?}");
        let second = reply(&chat, Speaker::Sharer(1), &messages, &greedily(12));
        assert_ne!(second.ids, reply(&chat, Speaker::Sharer(0), &messages, &greedily(12)).ids);
        let missing = chat.reply(Speaker::Sharer(2), &messages, &greedily(1), &mut |_| ControlFlow::Continue(()));
        assert!(matches!(missing, Err(ChatError::NoSharer { asked: 3, sharers: 2 })));
        told.push(together.ids);
    }
    let alone = Chat::new(&toy.c2c, &toy.text, None).unwrap();
    assert!(told.iter().any(|ids| *ids != reply(&alone, Speaker::C2c, &messages, &greedily(12)).ids));
}

#[test]
fn a_reply_ends_with_the_context_and_a_longer_conversation_is_refused() {
    let toy = Toy::of(&Shape { sharer_context: 4 * CONTEXT, ..Shape::default() });
    let chat = Chat::new(&toy.c2c, &toy.text, None).unwrap();
    let messages = |words: usize| [Message::user("gold ".repeat(words).trim_end())];
    let tokens = |words: usize| toy.text.prompt(&messages(words)).unwrap().receiver_tokens().len();
    // The longest prompt that fits leaves room for less than was asked for.
    let words = (1..).take_while(|words| tokens(*words) <= CONTEXT - 2).last().unwrap();
    // No penalty of this size lets a token come twice, and few of all tokens end a reply: one of these goes to the end.
    let cut = (0..32).map(|seed| reply(&chat, Speaker::C2c, &messages(words), &drawn(seed)));
    let cut = cut.into_iter().find(|reply| reply.finish == End::Context).unwrap();
    assert_eq!(cut.ids.len(), CONTEXT - tokens(words) + 1);
    let over = messages(words + 3);
    for speaker in [Speaker::C2c, Speaker::Receiver] {
        let refused = chat.reply(speaker, &over, &greedily(1), &mut |_| ControlFlow::Continue(())).unwrap_err();
        let ChatError::Context { found, limit, .. } = refused else { panic!("{refused}") };
        assert_eq!((found, limit), (tokens(words + 3), CONTEXT));
        let said = refused.to_string();
        assert!(
            said.contains("receiver") && said.contains(&format!("{found} tokens")) && said.contains("context of 96")
        );
    }
    // The Sharer has more room.
    reply(&chat, Speaker::Sharer(0), &over, &greedily(1));
    let toy = Toy::of(&Shape { sharer_context: CONTEXT / 2, receiver_context: 4 * CONTEXT, ..Shape::default() });
    let chat = Chat::new(&toy.c2c, &toy.text, None).unwrap();
    let refused = chat.reply(Speaker::C2c, &over, &greedily(1), &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(refused, ChatError::Context { speaker: Speaker::Sharer(0), limit, .. } if limit == CONTEXT / 2));
}

#[test]
fn a_seed_decides_what_is_drawn_and_every_turn_draws_by_itself() {
    let toy = Toy::new();
    let chat = Chat::new(&toy.c2c, &toy.text, None).unwrap();
    let messages = chat_of(&questions()[2]);
    let of = |seed| reply(&chat, Speaker::C2c, &messages, &drawn(seed)).ids;
    assert_eq!(of(7), of(7));
    assert!((0..8).any(|seed| of(seed) != of(7)));
    let refused = ChatSettings { sampling: SamplingParams { top_p: 0.0, ..Default::default() }, ..greedily(1) };
    let refused = chat.reply(Speaker::C2c, &messages, &refused, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(refused.to_string().contains("top_p"), "{refused}");
}

#[test]
fn there_has_to_be_something_to_answer() {
    let toy = Toy::new();
    let chat = Chat::new(&toy.c2c, &toy.text, None).unwrap();
    for (speaker, _) in SPEAKERS {
        for messages in [vec![], vec![Message::user(" \n")]] {
            let refused = chat.reply(speaker, &messages, &greedily(1), &mut |_| ControlFlow::Continue(()));
            assert!(refused.unwrap_err().to_string().contains("no text to answer"));
        }
        // Templates say what they refuse.
        let refused =
            chat.reply(speaker, &[Message::user("Atlantis")], &greedily(1), &mut |_| ControlFlow::Continue(()));
        assert_eq!(refused.is_err(), speaker != Speaker::Receiver, "{speaker:?}");
    }
}
