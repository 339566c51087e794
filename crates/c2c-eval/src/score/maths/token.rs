//! Formulas cut into tokens.

/// One token of a formula.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A number without a sign: the digits, and how many of them stand behind the point.
    Number { numerator: i128, decimals: u32 },
    /// A letter, or one of the words that are known without a backslash.
    Word(String),
    /// A command, without its backslash.
    Command(String),
    /// Anything else.
    Symbol(char),
}

/// Words that are read whole without a backslash.
const WORDS: &[&str] =
    &["arcsin", "arccos", "arctan", "sqrt", "sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "ln", "pi"];

impl Token {
    /// The token as plain text, for names of subscripts.
    pub(super) fn plain(&self) -> String {
        match self {
            Self::Number { numerator, .. } => numerator.to_string(),
            Self::Word(text) | Self::Command(text) => text.clone(),
            Self::Symbol('{' | '}') => String::new(),
            Self::Symbol(symbol) => symbol.to_string(),
        }
    }
}

/// The tokens of a formula; `None` if it holds a number too long to be told exactly.
pub(super) fn tokens(text: &str) -> Option<Vec<Token>> {
    let letters: Vec<char> = text.chars().collect();
    let mut tokens: Vec<Token> = Vec::new();
    // How many arguments of a \frac are still to come: without braces each is one digit.
    let mut digits_only = 0;
    let mut at = 0;
    while let Some(&letter) = letters.get(at) {
        match letter {
            letter if letter.is_whitespace() => at += 1,
            '0'..='9' | '.' => {
                let from = at;
                if digits_only > 0 && letter != '.' {
                    at += 1;
                    digits_only -= 1;
                } else {
                    while letters.get(at).is_some_and(|l| l.is_ascii_digit()) {
                        at += 1;
                    }
                    if letters.get(at) == Some(&'.') && letters.get(at + 1).is_some_and(char::is_ascii_digit) {
                        at += 1;
                        while letters.get(at).is_some_and(|l| l.is_ascii_digit()) {
                            at += 1;
                        }
                    }
                    if at == from {
                        return None;
                    }
                }
                let number: String = letters[from..at].iter().collect();
                let decimals = number.split_once('.').map_or(0, |(_, decimals)| decimals.len());
                let numerator = number.replace('.', "").parse().ok()?;
                tokens.push(Token::Number { numerator, decimals: u32::try_from(decimals).ok()? });
            }
            '\\' => {
                at += 1;
                let from = at;
                while letters.get(at).is_some_and(char::is_ascii_alphabetic) {
                    at += 1;
                }
                if at == from {
                    // A backslash in front of a sign: a brace, a space.
                    let symbol = *letters.get(at)?;
                    at += 1;
                    tokens.push(Token::Symbol(symbol));
                    continue;
                }
                let name: String = letters[from..at].iter().collect();
                match name.as_str() {
                    "cdot" | "times" | "ast" => tokens.push(Token::Symbol('*')),
                    "div" => tokens.push(Token::Symbol('/')),
                    "lvert" | "rvert" | "vert" | "mid" => tokens.push(Token::Symbol('|')),
                    "pi" => tokens.push(Token::Word(name)),
                    "dfrac" | "tfrac" | "cfrac" | "frac" => {
                        digits_only = 2;
                        tokens.push(Token::Command("frac".to_owned()));
                        continue;
                    }
                    _ => tokens.push(Token::Command(name)),
                }
            }
            'π' => {
                at += 1;
                tokens.push(Token::Word("pi".to_owned()));
            }
            letter if letter.is_alphabetic() => {
                let rest: String = letters[at..].iter().take(6).collect();
                match WORDS.iter().find(|word| rest.starts_with(**word)) {
                    Some(word) => {
                        at += word.len();
                        tokens.push(Token::Word((*word).to_owned()));
                    }
                    None => {
                        at += 1;
                        tokens.push(Token::Word(letter.to_string()));
                    }
                }
            }
            '*' if letters.get(at + 1) == Some(&'*') => {
                at += 2;
                tokens.push(Token::Symbol('^'));
            }
            '√' => {
                at += 1;
                tokens.push(Token::Command("sqrt".to_owned()));
            }
            '×' | '·' => {
                at += 1;
                tokens.push(Token::Symbol('*'));
            }
            '−' => {
                at += 1;
                tokens.push(Token::Symbol('-'));
            }
            symbol => {
                at += 1;
                if symbol == '{' && digits_only > 0 {
                    digits_only -= 1;
                }
                tokens.push(Token::Symbol(symbol));
                continue;
            }
        }
        if letter != '\\' && !letter.is_whitespace() && !letter.is_ascii_digit() {
            digits_only = 0;
        }
    }
    Some(tokens)
}
