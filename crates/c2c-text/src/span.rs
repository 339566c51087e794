//! Where the messages stand in a rendered chat.
//!
//! A content may occur in the template's own text (a user who writes "user"), and a template may trim it. So the chat
//! is rendered a second time with a marker in place of each content; the text between the markers is the template's
//! own, and the first rendering is read along it. Templates that treat the marker differently from the content (they
//! look into it) are searched instead.

use std::ops::Range;

use crate::{Encoding, Message, TextError, Tokenizer};

/// How much of a content an error message quotes.
const QUOTED: usize = 60;

/// A rendered chat and where its messages stand.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    /// For each message with text in it, its place in the chat and the bytes of its content.
    pub(crate) spans: Vec<(usize, Range<usize>)>,
}

/// Renders a chat and finds the content of every message that isn't blank, in order.
///
/// `side` is `receiver` or `sharer`, for the error.
pub(crate) fn render_spans(
    tokenizer: &Tokenizer,
    side: &'static str,
    messages: &[Message],
    add_generation_prompt: bool,
) -> Result<Rendered, TextError> {
    let text = tokenizer.render_chat(messages, add_generation_prompt)?;
    let sought: Vec<(usize, &str)> = messages
        .iter()
        .enumerate()
        .filter(|(_, message)| !message.is_blank())
        .map(|(index, message)| (index, message.content.as_str()))
        .collect();
    let spans =
        match template_gaps(tokenizer, messages, add_generation_prompt).and_then(|gaps| walk(&text, &gaps, &sought)) {
            Some(spans) => spans,
            None => search(&text, &sought).map_err(|index| TextError::ContentNotFound {
                index,
                side,
                owner: tokenizer.owner().to_string(),
                content: messages[index].content.chars().take(QUOTED).collect(),
            })?,
        };
    Ok(Rendered { text, spans })
}

/// For each span the range of tokens that stand for it. A token across a span's edge belongs to the span.
pub(crate) fn token_ranges(encoding: &Encoding, spans: &[(usize, Range<usize>)]) -> Vec<Range<usize>> {
    let count = encoding.offsets.len();
    let mut from = 0;
    spans
        .iter()
        .map(|(_, span)| {
            let start = (from..count).find(|&token| encoding.offsets[token].1 > span.start).unwrap_or(count);
            let stop = (start..count).find(|&token| encoding.offsets[token].0 >= span.end).unwrap_or(count);
            from = stop;
            start..stop
        })
        .collect()
}

/// The template's own text before, between and after the contents; None when markers get lost or doubled.
fn template_gaps(tokenizer: &Tokenizer, messages: &[Message], add_generation_prompt: bool) -> Option<Vec<String>> {
    // Private-use characters: no template writes them, trims them or looks for them.
    let marker = |index: usize| format!("\u{F8FF}{index}\u{F8FE}");
    let marked: Vec<Message> = messages
        .iter()
        .enumerate()
        .map(|(index, message)| Message {
            role: message.role.clone(),
            content: if message.is_blank() { message.content.clone() } else { marker(index) },
        })
        .collect();
    let text = tokenizer.render_chat(&marked, add_generation_prompt).ok()?;
    let mut gaps = Vec::with_capacity(messages.len() + 1);
    let mut rest = text.as_str();
    for (index, _) in messages.iter().enumerate().filter(|(_, message)| !message.is_blank()) {
        let (gap, after) = rest.split_once(&marker(index))?;
        gaps.push(gap.to_string());
        rest = after;
    }
    gaps.push(rest.to_string());
    (!gaps.iter().any(|gap| gap.contains('\u{F8FF}'))).then_some(gaps)
}

/// Reads the text as gap, content, gap, content, ..., gap.
fn walk(text: &str, gaps: &[String], sought: &[(usize, &str)]) -> Option<Vec<(usize, Range<usize>)>> {
    let (first, later) = gaps.split_first()?;
    let mut place = text.starts_with(first.as_str()).then_some(first.len())?;
    let mut spans = Vec::with_capacity(sought.len());
    for (number, (&(index, content), gap)) in sought.iter().zip(later).enumerate() {
        let last = number + 1 == sought.len();
        let rest = text.get(place..)?;
        // A form must be there, and the template's text right after it.
        let length = forms(content).into_iter().find_map(|form| {
            let after = rest.strip_prefix(form)?;
            let goes_on = if last { after == gap } else { after.starts_with(gap.as_str()) };
            goes_on.then_some(form.len())
        })?;
        spans.push((index, place..place + length));
        place += length + gap.len();
    }
    Some(spans)
}

/// Searches forward for each content, first where the template goes on with a tag or the text ends, then anywhere.
/// The error is the place of the message that isn't there.
fn search(text: &str, sought: &[(usize, &str)]) -> Result<Vec<(usize, Range<usize>)>, usize> {
    let mut from = 0;
    let mut spans = Vec::with_capacity(sought.len());
    for &(index, content) in sought {
        let rest = &text[from..];
        let found = forms(content).into_iter().find_map(|form| {
            let closed = rest.match_indices(form).find(|(place, _)| {
                let after = &rest[place + form.len()..];
                after.is_empty() || after.starts_with('<')
            });
            let (place, _) = closed.or_else(|| rest.match_indices(form).next())?;
            Some(from + place..from + place + form.len())
        });
        let span = found.ok_or(index)?;
        from = span.end;
        spans.push((index, span));
    }
    Ok(spans)
}

/// The forms in which templates write a content: as it is, or without its outer whitespace or newlines.
fn forms(content: &str) -> [&str; 7] {
    [
        content,
        content.trim(),
        content.trim_end(),
        content.trim_start(),
        content.trim_matches('\n'),
        content.trim_end_matches('\n'),
        content.trim_start_matches('\n'),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_content_that_the_template_also_writes_is_told_apart() {
        let gaps = ["<user>".to_string(), "</user>\n".to_string()];
        assert_eq!(walk("<user>user</user>\n", &gaps, &[(0, "user")]), Some(vec![(0, 6..10)]));
        // Without markers: the occurrence that a tag follows.
        assert_eq!(search("user\nuser<end>", &[(0, "user")]), Ok(vec![(0, 5..9)]));
        assert_eq!(search("a user.", &[(0, "user")]), Ok(vec![(0, 2..6)]));
    }

    #[test]
    fn trimmed_contents_are_found() {
        let gaps = ["[".to_string(), "]".to_string()];
        assert_eq!(walk("[a b]", &gaps, &[(2, " a b\n")]), Some(vec![(2, 1..4)]));
        assert_eq!(walk("[ a b]", &gaps, &[(0, " a b\n")]), Some(vec![(0, 1..5)]));
        assert_eq!(walk("[other]", &gaps, &[(0, "a")]), None);
        assert_eq!(search("[a b]", &[(0, " a b\n")]), Ok(vec![(0, 1..4)]));
    }

    #[test]
    fn a_lost_message_is_named() {
        assert_eq!(search("only one", &[(1, "one"), (3, "two")]), Err(3));
    }

    #[test]
    fn tokens_across_an_edge_belong_to_the_message() {
        let encoding = Encoding { ids: vec![0; 4], offsets: vec![(0, 3), (3, 6), (6, 9), (9, 10)] };
        assert_eq!(token_ranges(&encoding, &[(0, 4..8)]), vec![1..3]);
        assert_eq!(token_ranges(&encoding, &[(0, 3..6)]), vec![1..2]);
        // The second span's only token went to the first: nothing is left for it.
        assert_eq!(token_ranges(&encoding, &[(0, 4..7), (1, 7..8)]), vec![1..3, 3..3]);
    }
}
