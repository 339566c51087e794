//! Chat templates: Jinja as Hugging Face models ship it.
//!
//! The environment is the one that templates are written for: `trim_blocks` and `lstrip_blocks`, loop controls, Python
//! string methods, `raise_exception`, `strftime_now`, a `tojson` that writes like Python's, no escaping, and
//! `{% generation %}` tags, which mark the assistant's text for other tools and are read as plain blocks. Thinking
//! is off: `enable_thinking` is always false.
//!
//! Invariant: rendering is a function of its arguments alone. `strftime_now` tells the time at which the template
//! was loaded, so that a chat and its prefix agree even when they are rendered around midnight.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value, context};
use regex::Regex;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::Message;

/// The name under which the template stands in its environment, and in error messages.
const NAME: &str = "chat_template";

/// A compiled chat template.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    specials: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// Compiles a template. `specials` are defined in it by name (`bos_token`, `eos_token`, ...).
    pub(crate) fn new(source: &str, specials: BTreeMap<String, String>) -> Result<Self, String> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|err| chain(&err))?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        let loaded = chrono::Local::now();
        environment.add_function("strftime_now", move |format: String| -> Result<String, Error> {
            let mut text = String::new();
            write!(text, "{}", loaded.format(&format)).map_err(|_| {
                Error::new(ErrorKind::InvalidOperation, format!("strftime_now doesn't know the format {format:?}"))
            })?;
            Ok(text)
        });
        environment.add_filter("tojson", tojson);
        environment.add_template_owned(NAME, plain_generation_tags(source)?).map_err(|err| chain(&err))?;
        Ok(Self { environment, specials })
    }

    /// Renders a chat; with `add_generation_prompt` the text ends where the assistant's reply begins.
    pub(crate) fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, String> {
        let template = self.environment.get_template(NAME).map_err(|err| chain(&err))?;
        // The keys that `apply_chat_template` always passes; templates test `tools is not none`.
        let fixed = context! {
            messages => messages.iter().map(turn).collect::<Vec<Value>>(),
            add_generation_prompt => add_generation_prompt,
            enable_thinking => false,
            tools => (),
            documents => (),
        };
        let specials = Value::from_pairs(self.specials.iter().map(|(name, token)| (name.as_str(), token.as_str())));
        template.render(context! { ..fixed, ..specials }).map_err(|err| chain(&err))
    }
}

fn turn(message: &Message) -> Value {
    Value::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())])
}

/// The error with its causes, in one line.
fn chain(err: &Error) -> String {
    let mut text = err.to_string();
    let mut cause = std::error::Error::source(err);
    while let Some(inner) = cause {
        let _ = write!(text, ": {inner}");
        cause = inner.source();
    }
    text
}

/// Rewrites `{% generation %}` ... `{% endgeneration %}` as a block that is always rendered.
fn plain_generation_tags(source: &str) -> Result<String, String> {
    let tag = Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").map_err(|err| err.to_string())?;
    Ok(tag
        .replace_all(source, |found: &regex::Captures<'_>| {
            let word = if found.get(2).is_some() { "endif" } else { "if true" };
            format!("{{%{} {word} {}%}}", &found[1], &found[3])
        })
        .into_owned())
}

/// `tojson` as Hugging Face defines it: Python's separators, non-ASCII and HTML characters left alone.
fn tojson(value: Value, indent: Option<usize>, options: Kwargs) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<usize>>("indent")?,
    };
    let fail = |err: serde_json::Error| Error::new(ErrorKind::InvalidOperation, format!("tojson: {err}"));
    // By way of a JSON value, because the template engine's own values serialise with markers inside.
    let value = serde_json::to_value(&value).map_err(fail)?;
    let mut out = Vec::new();
    match indent {
        Some(width) => {
            let pad = vec![b' '; width];
            value
                .serialize(&mut Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(&pad)))
                .map_err(fail)?;
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut out, Spaced)).map_err(fail)?,
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// `{"a": 1, "b": [2, 3]}`: a space after each separator.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn render(source: &str, messages: &[Message]) -> Result<String, String> {
        let specials = BTreeMap::from([("eos_token".to_string(), "</s>".to_string())]);
        ChatTemplate::new(source, specials)?.render(messages, true)
    }

    #[test]
    fn blocks_are_trimmed_and_special_tokens_defined() {
        let source = "{% for m in messages %}\n    {% if m.role == 'user' %}\n{{ m.content }}{{ eos_token }}\n    {% endif %}\n{% endfor %}\n{{ bos_token }}!";
        assert_eq!(render(source, &[Message::user("a <b> & 'c'")]).unwrap(), "a <b> & 'c'</s>\n!");
    }

    #[test]
    fn thinking_is_off_and_tools_are_none() {
        let source = "{{ enable_thinking is defined and enable_thinking is false }} {{ tools is none }} {{ add_generation_prompt }}";
        assert_eq!(render(source, &[]).unwrap(), "True True True");
    }

    #[test]
    fn the_python_that_templates_use() {
        let source = concat!(
            "{%- set ns = namespace(last=messages|length - 1) %}",
            "{%- for m in messages[::-1] %}{%- set i = (messages|length - 1) - loop.index0 %}",
            "{%- if m.role == 'user' and m.content is string and not (m.content.startswith('<t>') and m.content.endswith('</t>')) %}",
            "{%- set ns.last = i %}{%- break %}{%- endif %}{%- endfor %}",
            "{{ ns.last }}|{{ messages[0].content.split('</think>')[-1].lstrip('\\n') }}|{{ messages[0]['content'].strip() | upper }}",
        );
        let messages = [Message::user("x</think>\n\ny "), Message::assistant("z")];
        assert_eq!(render(source, &messages).unwrap(), "0|y |X</THINK>\n\nY");
    }

    #[test]
    fn tojson_writes_like_python() {
        let source = "{{ messages[0] | tojson }}{{ [] | tojson(indent=2) }}{{ {'k': [1, 'é<']} | tojson(indent=4) }}";
        assert_eq!(
            render(source, &[Message::user("<é>")]).unwrap(),
            "{\"role\": \"user\", \"content\": \"<é>\"}[]{\n    \"k\": [\n        1,\n        \"é<\"\n    ]\n}"
        );
    }

    #[test]
    fn generation_tags_are_plain_blocks() {
        let source = "a{%- generation -%} {{ messages[0].content }} {%- endgeneration %}\nb";
        assert_eq!(render(source, &[Message::user("x")]).unwrap(), "axb");
    }

    #[test]
    fn a_template_that_raises_says_why() {
        let err = render("{{ raise_exception('System role not supported') }}", &[]).unwrap_err();
        assert!(err.contains("System role not supported"), "{err}");
        let err = render("{{ strftime_now('%Q') }}", &[]).unwrap_err();
        assert!(err.contains("%Q"), "{err}");
        assert_eq!(render("{{ strftime_now('%d %b %Y') | length }}", &[]).unwrap(), "11");
    }

    #[test]
    fn a_syntax_error_names_the_line() {
        let err = ChatTemplate::new("line one\n{% for m in %}", BTreeMap::new()).unwrap_err();
        assert!(err.contains("chat_template:2"), "{err}");
    }
}
