//! Commands in README, guide, docs and recipes are ones that this parser takes.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use clap::Parser;

use super::Cli;

/// What a command of this program begins with, in the ways that docs write it.
const BEGINNINGS: [&[&str]; 3] = [&["c2c"], &["cargo", "run", "--release", "--"], &["target/release/c2c"]];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All files below a folder that end like this.
fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
}

/// The blocks of shell in a Markdown text.
fn blocks(markdown: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in markdown.lines() {
        match (&mut open, line.starts_with("```")) {
            (None, true) if line == "```sh" => open = Some(String::new()),
            (Some(_), true) => blocks.extend(open.take()),
            (Some(block), false) => block.push_str(&format!("{line}\n")),
            _ => {}
        }
    }
    blocks
}

/// The commands of a script, as far as docs use the shell: quotes, backslashes, comments, pipes, redirections.
fn commands(script: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    // The file of a redirection isn't one of the words.
    let mut redirected = false;
    let mut chars = script.chars().peekable();
    let end_word = |word: &mut Option<String>, commands: &mut Vec<Vec<String>>, redirected: &mut bool| {
        if let Some(word) = word.take()
            && !std::mem::take(redirected)
        {
            commands.last_mut().unwrap().push(word);
        }
    };
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some(c) => word.get_or_insert_default().push(c),
            },
            '\'' => word.get_or_insert_default().extend(chars.by_ref().take_while(|c| *c != '\'')),
            '"' => {
                let word = word.get_or_insert_default();
                while let Some(c) = chars.next().filter(|c| *c != '"') {
                    let escaped = c == '\\' && chars.peek().is_some_and(|c| "\"\\$`".contains(*c));
                    word.extend(if escaped { chars.next() } else { Some(c) });
                }
            }
            '#' if word.is_none() => while chars.next_if(|c| *c != '\n').is_some() {},
            '\n' | ';' | '|' | '&' => {
                end_word(&mut word, &mut commands, &mut redirected);
                commands.push(Vec::new());
            }
            '<' | '>' => {
                end_word(&mut word, &mut commands, &mut redirected);
                redirected = true;
            }
            c if c.is_whitespace() => end_word(&mut word, &mut commands, &mut redirected),
            c => word.get_or_insert_default().push(c),
        }
    }
    end_word(&mut word, &mut commands, &mut redirected);
    commands.retain(|words| !words.is_empty());
    commands
}

/// The arguments, if it is a command of this program.
fn arguments(words: &[String]) -> Option<&[String]> {
    BEGINNINGS.iter().find_map(|beginning| {
        let rest = words.get(beginning.len()..)?;
        words.iter().zip(*beginning).all(|(word, expected)| word == expected).then_some(rest)
    })
}

/// Parses every command of this program in a script; gives how many there are.
fn parse(from: &Path, script: &str) -> usize {
    let mut parsed = 0;
    // A line with `[--option]` is a synopsis, not a command.
    let typed: String = script.lines().filter(|line| !line.contains(" [-")).flat_map(|line| [line, "\n"]).collect();
    for words in commands(&typed) {
        let Some(arguments) = arguments(&words) else { continue };
        if let Err(error) = Cli::try_parse_from(std::iter::once("c2c").chain(arguments.iter().map(String::as_str))) {
            panic!("{}: {words:?}\n{error}", from.display());
        }
        parsed += 1;
    }
    parsed
}

#[test]
fn commands_in_the_docs_are_taken() {
    let mut docs = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    files(&root().join("docs"), ".md", &mut docs);
    files(&root().join("exports"), ".md", &mut docs);
    let mut parsed = 0;
    for path in &docs {
        let text = std::fs::read_to_string(path).unwrap();
        let found: usize = blocks(&text).iter().map(|block| parse(path, block)).sum();
        assert!(found > 0 || !path.ends_with("guide.md"), "no command in the guide");
        parsed += found;
    }
    assert!(parsed > 30, "{parsed} commands");
}

#[test]
fn commands_in_the_recipes_are_taken() {
    let mut recipes = Vec::new();
    files(&root().join("recipes"), ".toml", &mut recipes);
    for path in &recipes {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("# Command:"));
        let parsed: usize = lines.map(|line| parse(path, line)).sum();
        assert!(parsed > 0, "{}: no command", path.display());
    }
    assert!(recipes.len() > 30, "{} recipes", recipes.len());
}

#[test]
fn a_script_is_cut_into_words_as_a_shell_does() {
    let script =
        "c2c eval 'a b' -o \"x=[\\\"c\\\"]\" \\\n  more  # no\nc2c chat < in > out | grep \\#1; echo 'two\nlines'\n";
    let expected: [&[&str]; 4] = [
        &["c2c", "eval", "a b", "-o", "x=[\"c\"]", "more"],
        &["c2c", "chat"],
        &["grep", "#1"],
        &["echo", "two\nlines"],
    ];
    assert_eq!(commands(script), expected);
}
