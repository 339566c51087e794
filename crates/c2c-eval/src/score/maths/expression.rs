//! A formula in LaTeX or plain text as an expression that can be evaluated.
//!
//! Two formulas are the same if they have the same value at a handful of fixed points (complex numbers without any
//! structure): a difference would have to vanish at all of them. Rational numbers are compared exactly.

use super::complex::Complex;
use super::token::{Token, tokens};

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    /// A number with its decimals.
    Number {
        numerator: i128,
        decimals: u32,
    },
    /// A letter, with its subscript, or a constant's name.
    Name(String),
    Sum(Vec<Expr>),
    Product(Vec<Expr>),
    Quotient(Box<Expr>, Box<Expr>),
    Negative(Box<Expr>),
    Power(Box<Expr>, Box<Expr>),
    Call(String, Box<Expr>),
}

/// How deep brackets may be nested, so that no text exhausts the stack.
const DEEPEST: usize = 60;

/// Names that are functions, with or without a backslash.
const FUNCTIONS: &[&str] = &[
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "ln", "log", "exp",
    "sqrt",
];

impl Expr {
    /// Reads a whole formula; `None` if it isn't one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let tokens = tokens(text)?;
        let mut parser = Parser { tokens: &tokens, at: 0, depth: 0 };
        let expr = parser.sum()?;
        (parser.at == tokens.len()).then_some(expr)
    }

    /// Whether it holds a number written with a decimal point.
    pub(super) fn has_decimals(&self) -> bool {
        self.any(&|expr| matches!(expr, Self::Number { decimals: 1.., .. }))
    }

    /// Whether it holds a variable.
    pub(super) fn has_variables(&self) -> bool {
        self.any(&|expr| matches!(expr, Self::Name(name) if !["pi", "e", "i"].contains(&name.as_str())))
    }

    fn any(&self, what: &dyn Fn(&Self) -> bool) -> bool {
        what(self)
            || match self {
                Self::Number { .. } | Self::Name(_) => false,
                Self::Sum(parts) | Self::Product(parts) => parts.iter().any(|part| part.any(what)),
                Self::Quotient(a, b) | Self::Power(a, b) => a.any(what) || b.any(what),
                Self::Negative(inner) | Self::Call(_, inner) => inner.any(what),
            }
    }

    /// Its value as a fraction in lowest terms, where it is one and fits.
    pub(super) fn exact(&self) -> Option<(i128, i128)> {
        let ratio = |numerator: i128, denominator: i128| -> Option<(i128, i128)> {
            if denominator == 0 || numerator == i128::MIN || denominator == i128::MIN {
                return None;
            }
            let (mut a, mut b) = (numerator.abs(), denominator.abs());
            while b != 0 {
                (a, b) = (b, a % b);
            }
            let sign = denominator.signum();
            Some((sign * numerator / a.max(1), sign * denominator / a.max(1)))
        };
        match self {
            Self::Number { numerator, decimals } => ratio(*numerator, 10i128.checked_pow(*decimals)?),
            Self::Name(_) | Self::Call(..) => None,
            Self::Sum(parts) => parts.iter().try_fold((0i128, 1i128), |(a, b), part| {
                let (c, d) = part.exact()?;
                ratio(a.checked_mul(d)?.checked_add(c.checked_mul(b)?)?, i128::checked_mul(b, d)?)
            }),
            Self::Product(parts) => parts.iter().try_fold((1i128, 1i128), |(a, b), part| {
                let (c, d) = part.exact()?;
                ratio(i128::checked_mul(a, c)?, i128::checked_mul(b, d)?)
            }),
            Self::Quotient(a, b) => {
                let ((a, b), (c, d)) = (a.exact()?, b.exact()?);
                ratio(a.checked_mul(d)?, b.checked_mul(c)?)
            }
            Self::Negative(inner) => inner.exact().map(|(a, b)| (-a, b)),
            Self::Power(base, power) => {
                let ((a, b), (n, 1)) = (base.exact()?, power.exact()?) else { return None };
                let n_abs = u32::try_from(n.abs()).ok()?;
                let (a, b) = (a.checked_pow(n_abs)?, b.checked_pow(n_abs)?);
                if n < 0 { ratio(b, a) } else { ratio(a, b) }
            }
        }
    }

    /// Its value, with each variable at a number of its own; `point` chooses them.
    pub(super) fn value(&self, point: u64) -> Complex {
        match self {
            Self::Number { numerator, decimals } => Complex::real(*numerator as f64 / 10f64.powi(*decimals as i32)),
            Self::Name(name) => match name.as_str() {
                "pi" => Complex::real(std::f64::consts::PI),
                "e" => Complex::real(std::f64::consts::E),
                "i" => Complex { re: 0.0, im: 1.0 },
                name => Complex::of_name(name, point),
            },
            Self::Sum(parts) => parts.iter().fold(Complex::real(0.0), |sum, part| sum.add(part.value(point))),
            Self::Product(parts) => {
                parts.iter().fold(Complex::real(1.0), |product, part| product.mul(part.value(point)))
            }
            Self::Quotient(a, b) => a.value(point).div(b.value(point)),
            Self::Negative(inner) => Complex::real(-1.0).mul(inner.value(point)),
            Self::Power(base, power) => base.value(point).pow(power.value(point)),
            Self::Call(name, inner) => inner.value(point).call(name),
        }
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn takes(&mut self, symbol: char) -> bool {
        let is = self.peek() == Some(&Token::Symbol(symbol));
        self.at += usize::from(is);
        is
    }

    fn sum(&mut self) -> Option<Expr> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        let mut parts = Vec::new();
        loop {
            let mut negative = false;
            loop {
                if self.takes('-') {
                    negative = !negative;
                } else if !self.takes('+') {
                    break;
                }
            }
            let term = self.term()?;
            parts.push(if negative { Expr::Negative(Box::new(term)) } else { term });
            if !matches!(self.peek(), Some(Token::Symbol('+' | '-'))) {
                break;
            }
        }
        self.depth -= 1;
        Some(if parts.len() == 1 { parts.remove(0) } else { Expr::Sum(parts) })
    }

    fn term(&mut self) -> Option<Expr> {
        let mut product = self.factor()?;
        loop {
            if self.takes('*') {
                let factor = self.signed()?;
                product = times(product, factor);
            } else if self.takes('/') {
                let factor = self.signed()?;
                product = Expr::Quotient(Box::new(product), Box::new(factor));
            } else if self.starts_factor() {
                let mixed = matches!(product, Expr::Number { decimals: 0, .. })
                    && matches!(self.peek(), Some(Token::Command(name)) if name == "frac");
                let factor = self.factor()?;
                // 1\\frac{3}{4} is one and three quarters.
                let is_fraction = matches!(&factor, Expr::Quotient(a, b) if a.exact().is_some() && b.exact().is_some());
                product = if mixed && is_fraction { Expr::Sum(vec![product, factor]) } else { times(product, factor) };
            } else {
                return Some(product);
            }
        }
    }

    fn signed(&mut self) -> Option<Expr> {
        if self.takes('-') { Some(Expr::Negative(Box::new(self.factor()?))) } else { self.factor() }
    }

    fn starts_factor(&self) -> bool {
        match self.peek() {
            Some(Token::Number { .. } | Token::Word(_) | Token::Command(_)) => true,
            Some(Token::Symbol(symbol)) => "({[".contains(*symbol),
            None => false,
        }
    }

    fn factor(&mut self) -> Option<Expr> {
        let mut base = self.base()?;
        loop {
            if self.takes('^') {
                let power = self.argument()?;
                base = Expr::Power(Box::new(base), Box::new(power));
            } else if self.takes('!') {
                base = Expr::Call("!".to_owned(), Box::new(base));
            } else {
                return Some(base);
            }
        }
    }

    fn base(&mut self) -> Option<Expr> {
        let token = self.peek()?.clone();
        self.at += 1;
        match token {
            Token::Number { numerator, decimals } => Some(Expr::Number { numerator, decimals }),
            Token::Symbol('(') => self.closed(')'),
            Token::Symbol('{') => self.closed('}'),
            Token::Symbol('[') => self.closed(']'),
            Token::Symbol('|') => Some(Expr::Call("abs".to_owned(), Box::new(self.closed('|')?))),
            Token::Symbol(_) => None,
            Token::Word(name) | Token::Command(name) if FUNCTIONS.contains(&name.as_str()) => self.function(&name),
            Token::Command(name) => match name.as_str() {
                "frac" => {
                    let above = self.argument()?;
                    Some(Expr::Quotient(Box::new(above), Box::new(self.argument()?)))
                }
                "binom" => {
                    let (n, k) = (self.argument()?, self.argument()?);
                    let factorial = |expr: Expr| Expr::Call("!".to_owned(), Box::new(expr));
                    let rest = Expr::Sum(vec![n.clone(), Expr::Negative(Box::new(k.clone()))]);
                    Some(Expr::Quotient(Box::new(factorial(n)), Box::new(times(factorial(k), factorial(rest)))))
                }
                "lfloor" => Some(Expr::Call("floor".to_owned(), Box::new(self.until("rfloor")?))),
                "lceil" => Some(Expr::Call("ceil".to_owned(), Box::new(self.until("rceil")?))),
                "infty" => Some(Expr::Name("infty".to_owned())),
                _ => self.name(name),
            },
            Token::Word(name) => self.name(name),
        }
    }

    /// A name with its subscript.
    fn name(&mut self, name: String) -> Option<Expr> {
        if !self.takes('_') {
            return Some(Expr::Name(name));
        }
        let from = self.at;
        self.argument()?;
        let subscript: Vec<String> = self.tokens[from..self.at].iter().map(Token::plain).collect();
        Some(Expr::Name(format!("{name}_{}", subscript.concat())))
    }

    fn function(&mut self, name: &str) -> Option<Expr> {
        if name == "sqrt" {
            if self.takes('[') {
                let degree = self.closed(']')?;
                let inner = self.argument()?;
                let one = Expr::Number { numerator: 1, decimals: 0 };
                return Some(Expr::Power(Box::new(inner), Box::new(Expr::Quotient(Box::new(one), Box::new(degree)))));
            }
            return Some(Expr::Call("sqrt".to_owned(), Box::new(self.argument()?)));
        }
        let base = if self.takes('_') { Some(self.argument()?) } else { None };
        let power = if self.takes('^') { Some(self.argument()?) } else { None };
        let inner = if matches!(self.peek(), Some(Token::Symbol('('))) { self.base()? } else { self.plain_product()? };
        let call = |name: &str, inner: Expr| Expr::Call(name.to_owned(), Box::new(inner));
        let value = match (name, base) {
            ("log", Some(base)) => Expr::Quotient(Box::new(call("ln", inner)), Box::new(call("ln", base))),
            (_, Some(_)) => return None,
            (name, None) => call(name, inner),
        };
        Some(match power {
            Some(power) => Expr::Power(Box::new(value), Box::new(power)),
            None => value,
        })
    }

    /// What a function without brackets is of: factors up to the next sign or function.
    fn plain_product(&mut self) -> Option<Expr> {
        let mut product = self.factor()?;
        let is_function =
            |token: &Token| matches!(token, Token::Word(n) | Token::Command(n) if FUNCTIONS.contains(&n.as_str()));
        while self.starts_factor() && !self.peek().is_some_and(is_function) && self.peek() != Some(&Token::Symbol('('))
        {
            product = times(product, self.factor()?);
        }
        Some(product)
    }

    /// An argument: a group, or the next digit, letter or command.
    fn argument(&mut self) -> Option<Expr> {
        match self.peek()? {
            // \\frac12 and x^12: one digit each, but a plain `x^12` is meant as it looks, so only \\frac cuts; see
            // `tokens`.
            Token::Symbol('-') => {
                self.at += 1;
                Some(Expr::Negative(Box::new(self.base()?)))
            }
            _ => self.base(),
        }
    }

    fn closed(&mut self, symbol: char) -> Option<Expr> {
        let inner = self.sum()?;
        self.takes(symbol).then_some(inner)
    }

    fn until(&mut self, command: &str) -> Option<Expr> {
        let inner = self.sum()?;
        let ends = matches!(self.peek(), Some(Token::Command(name)) if name == command);
        self.at += 1;
        ends.then_some(inner)
    }
}

fn times(a: Expr, b: Expr) -> Expr {
    match a {
        Expr::Product(mut parts) => {
            parts.push(b);
            Expr::Product(parts)
        }
        a => Expr::Product(vec![a, b]),
    }
}
