//! Formulas in the Expr language (<https://expr-lang.org/docs/language-definition>), as users of other autoscalers write them.
//!
//! The engine is `expr-lang`. Whoever may write a configuration may write a formula, and the engine alone can be made to
//! overflow its stack, to ask for gigabytes and to run for hours, none of which can be caught. Therefore a formula passes a
//! guard first: it is short, calls only functions whose results are no longer than what they are given, has no statements,
//! closures, ranges or maps, and nests little. What passes is evaluated on a thread of its own, with a large stack and a deadline.
//!
//! Numbers of variables are floats, so that none wraps. What would let an unknown number pass for zero is an error here,
//! though not in Expr: `int` of what is not finite, and `min`, `max`, `mean` and `median` of nothing or of NaN. A formula
//! may say itself what stands for what is absent: `doc.waiting ?? 0`.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use expr::{Context, Environment, Value, compile};
use serde_json::Value as Json;

use crate::error::{Error, ErrorKind, Result};

/// Longest formula, in bytes.
const LONGEST: usize = 1024;

/// Most brackets within each other.
const DEEPEST: usize = 32;

/// Most square brackets within each other. The parser reads an index twice, to see whether it is a slice, and so twice as
/// often for each level.
const DEEPEST_INDEX: usize = 4;

/// What all uses of variables may take together, in bytes: 32 MiB. The engine copies a variable each time it is named.
const LARGEST: usize = 32 << 20;

/// What one value takes beside its text, in bytes, with its place in a map.
const EACH_VALUE: usize = 128;

/// The stack of an evaluation: 16 MiB, of which the longest sum takes ten in a build without optimization.
const STACK: usize = 16 << 20;

/// How long an evaluation may take. What passes the guard takes microseconds, and with a large document milliseconds.
const DEADLINE: Duration = Duration::from_secs(1);

/// How many evaluations may be left over from deadlines that they missed: a thread cannot be ended from outside.
const MOST_LATE: usize = 3;

/// The functions that a formula may call. Left out are those whose results can be longer than what they are given (`repeat`,
/// `replace`, `join`) and those that compare each with each (`uniq`, `groupBy`, `fromPairs`).
const FUNCTIONS: &[&str] = &[
    "abs", "all", "any", "ceil", "concat", "count", "filter", "find", "first", "flatten", "float", "floor", "get",
    "int", "keys", "last", "len", "lower", "map", "max", "mean", "median", "min", "none", "one", "reverse", "round",
    "sort", "sum", "take", "trim", "upper", "values",
];

/// Words after which a bracket is no call.
const OPERATORS: &[&str] = &["and", "or", "not", "in", "contains", "startsWith", "endsWith"];

/// Other words that are no names.
const KEYWORDS: &[&str] = &["true", "false", "nil", "matches"];

/// Says what is wrong with a formula, before there are values for its variables.
///
/// # Errors
/// The problem as the end of a sentence, without the formula: `has a bracket that is not closed`.
pub(crate) fn check(text: &str) -> Result<(), String> {
    guard(text)?;
    let text = text.to_owned();
    let compiled = THREADS.run(DEADLINE, move || compile(&text).map(|_| ()).map_err(|error| explain(&error)));
    compiled.unwrap_or_else(|late| Err(late.to_string()))
}

/// Evaluates a formula and returns its finite number. Blocks for a second at most, and usually for microseconds.
///
/// # Errors
/// `Config` for a formula that [`check`] refuses, `Missing` where the result is nothing, `Malformed` where it is no finite number
/// or cannot be made of these variables, `Timeout`, and `Bug` for a panic of the engine.
pub(crate) fn evaluate(text: &str, variables: &[(&str, Json)]) -> Result<f64> {
    let fail = |kind, cause: String| Error::new(kind, "evaluating the formula", cause);
    let tokens = guard(text).map_err(|problem| fail(ErrorKind::Config, format!("it {problem}")))?;
    let uses = |name: &str| tokens.iter().filter(|token| **token == name).count();
    let size = variables.iter().map(|(name, value)| size(value).saturating_mul(uses(name) + 1));
    if LARGEST < size.fold(0, usize::saturating_add) {
        return Err(fail(
            ErrorKind::Malformed,
            "its variables hold too much to be used as often as it does".to_owned(),
        ));
    }
    let known: HashSet<_> = tokens.into_iter().collect();
    let used = variables.iter().filter(|(name, _)| known.contains(name));
    let mut context = Context::default();
    for (name, value) in used {
        context.insert(*name, convert(value));
    }
    let text = text.to_owned();
    let result = THREADS.run(DEADLINE, move || -> Result<_, (ErrorKind, String)> {
        let program = compile(&text).map_err(|error| (ErrorKind::Config, format!("it {}", explain(&error))))?;
        ENVIRONMENT.run(&program, &context).map_err(|error| (ErrorKind::Malformed, explain(&error)))
    })?;
    let number = match result.map_err(|(kind, cause)| fail(kind, cause))? {
        Value::Integer(number) => number as f64,
        Value::Float(number) => number,
        Value::Nil => return Err(fail(ErrorKind::Missing, "its result is nothing".to_owned())),
        _ => return Err(fail(ErrorKind::Malformed, "its result is no number".to_owned())),
    };
    match number.is_finite() {
        true => Ok(number),
        false => Err(fail(ErrorKind::Malformed, format!("its result is {number}, as of a division by zero"))),
    }
}

/// Returns the names in a formula that none of its variables has, wherever they stand: one that is evaluated only under load must
/// not be found out then. A formula that [`check`] refuses has none.
pub(crate) fn unknown_names<'a>(text: &'a str, variables: &[&str]) -> Vec<&'a str> {
    let tokens = guard(text).unwrap_or_default();
    let next = tokens.iter().skip(1).copied().chain([""]);
    let is_unknown = |(token, next): (&'a str, &str)| {
        let is_name = token.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        let is_known = [OPERATORS, KEYWORDS, variables].iter().any(|known| known.contains(&token));
        (is_name && next != "(" && !is_known).then_some(token)
    };
    tokens.iter().copied().zip(next).filter_map(is_unknown).collect()
}

/// Refuses what the engine cannot be trusted with; returns the words and signs outside quotes.
fn guard(text: &str) -> Result<Vec<&str>, String> {
    if LONGEST < text.len() {
        return Err(format!("has {} bytes, and {LONGEST} are the most", text.len()));
    }
    let (mut tokens, mut open, mut rest) = (Vec::new(), Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        // A comment may hold half a pair of quotes, which the parser would not see.
        if let Some(sign) = ["..", "//", "/*"].iter().find(|sign| rest.starts_with(**sign)) {
            return Err(format!("has {sign}, which is not for formulas here"));
        }
        let (token, after) = rest.split_at(length_of_token(rest, first));
        rest = match first {
            '{' | '}' | '#' | '$' | ';' | '\\' => return Err(format!("has {first}, which is not for formulas here")),
            '"' | '\'' | '`' => quoted(after, first)?,
            '(' | '[' => {
                open.push(first);
                let indexes = open.iter().filter(|bracket| **bracket == '[').count();
                if DEEPEST < open.len() || DEEPEST_INDEX < indexes {
                    return Err(format!(
                        "has more than {DEEPEST} brackets, or {DEEPEST_INDEX} of [], within each other"
                    ));
                }
                after
            }
            ')' | ']' => match (open.pop(), first) {
                (Some('('), ')') | (Some('['), ']') => after,
                _ => return Err(format!("has a {first} that closes nothing")),
            },
            _ if is_of_word(first) => {
                let is_call = after.trim_start().starts_with('(') && !OPERATORS.contains(&token);
                if is_call && !FUNCTIONS.contains(&token) {
                    return Err(format!("calls {token:?}, and may call only {}", FUNCTIONS.join(", ")));
                }
                after
            }
            _ => after,
        };
        if !first.is_whitespace() {
            tokens.push(token);
        }
    }
    match open.is_empty() {
        true => defaults_stand_alone(&tokens).map(|()| tokens),
        false => Err("has a bracket that is not closed".to_owned()),
    }
}

fn length_of_token(rest: &str, first: char) -> usize {
    match first {
        _ if is_of_word(first) => rest.find(|next| !is_of_word(next)).unwrap_or(rest.len()),
        '?' if rest.starts_with("??") || rest.starts_with("?.") => 2,
        _ => first.len_utf8(),
    }
}

/// Refuses an operator after `a ?? b`: in Expr `??` binds first, and the engine takes all that follows for what stands for `a`, so
/// that `a ?? 0 + b` would be `a`.
fn defaults_stand_alone(tokens: &[&str]) -> Result<(), String> {
    // Whether there is a `??` before, for each bracket that is open.
    let (mut defaults, mut follows_operand) = (vec![false], false);
    for &token in tokens {
        let is_operator = "+-*/%^<>=!&|?".contains(token) || OPERATORS.contains(&token);
        match token {
            "(" | "[" => defaults.push(false),
            ")" | "]" => drop(defaults.pop()),
            "??" | "," | ":" => defaults.iter_mut().last().into_iter().for_each(|default| *default = token == "??"),
            _ if is_operator && follows_operand && defaults.last() == Some(&true) => {
                return Err(format!("has {token} after ??, which is not clear; put what ?? belongs to into brackets"));
            }
            _ => {}
        }
        follows_operand = !is_operator && !["(", "[", ",", ":", "??", ".", "?."].contains(&token);
    }
    Ok(())
}

/// What follows a quoted text. There are no backslashes, so that the next quote ends it.
fn quoted(after: &str, quote: char) -> Result<&str, String> {
    if after.contains('\\') {
        return Err("has \\, which is not for formulas here".to_owned());
    }
    let (_, rest) = after.split_once(quote).ok_or_else(|| "has a quote that is not closed".to_owned())?;
    Ok(rest)
}

fn is_of_word(sign: char) -> bool {
    sign.is_ascii_alphanumeric() || sign == '_'
}

/// What a value takes in memory, roughly.
fn size(value: &Json) -> usize {
    EACH_VALUE
        + match value {
            Json::Object(object) => object.iter().map(|(key, value)| key.len() + size(value)).sum(),
            Json::Array(list) => list.iter().map(size).sum(),
            Json::String(text) => text.len(),
            Json::Null | Json::Bool(_) | Json::Number(_) => 0,
        }
}

fn convert(value: &Json) -> Value {
    match value {
        Json::Null => Value::Nil,
        Json::Bool(bool) => Value::Bool(*bool),
        Json::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Value::String(text.clone()),
        Json::Array(list) => Value::Array(list.iter().map(convert).collect()),
        Json::Object(object) => object.iter().map(|(key, value)| (key.as_str(), convert(value))).collect(),
    }
}

/// The engine's message without the values in it, which are not ours to show.
fn explain(error: &expr::Error) -> String {
    let message = error.to_string();
    if matches!(error, expr::Error::PestError(_)) {
        // Its first line is `--> LINE:COLUMN`, and the others show the formula.
        let place = message.lines().next().and_then(|line| line.split("--> ").nth(1)).unwrap_or("its end");
        return format!("cannot be read at {place}");
    }
    let end = if message.starts_with("unknown variable: ") { None } else { message.find(": ") };
    message[..end.unwrap_or(message.len())].chars().filter(|sign| !sign.is_control()).take(200).collect()
}

/// Expr's own functions, but for those that make a number of what is none.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.add_function("min", |call| fold("min", &call.args, f64::min));
    environment.add_function("max", |call| fold("max", &call.args, f64::max));
    environment.add_function("mean", |call| {
        let numbers = numbers("mean", &call.args)?;
        Ok((numbers.iter().sum::<f64>() / numbers.len() as f64).into())
    });
    environment.add_function("median", |call| {
        let mut numbers = numbers("median", &call.args)?;
        numbers.sort_by(f64::total_cmp);
        let middle = &numbers[(numbers.len() - 1) / 2..=numbers.len() / 2];
        Ok((middle.iter().sum::<f64>() / middle.len() as f64).into())
    });
    environment.add_function("float", |call| number("float", &call.args).map(Value::Float));
    environment.add_function("int", |call| {
        let number = number("int", &call.args)?;
        // Whole numbers wrap in Expr: no product of two of these does.
        match number.abs() < 2_147_483_648.0 {
            true => Ok(Value::Integer(number as i64)),
            false => Err("int() of a number that is too large".to_owned().into()),
        }
    });
    environment
});

fn fold(name: &str, args: &[Value], choose: fn(f64, f64) -> f64) -> expr::Result<Value> {
    let chosen = numbers(name, args)?.into_iter().reduce(choose);
    chosen.map(Value::Float).ok_or_else(|| format!("{name}() of nothing").into())
}

/// The one number that a conversion is given, as itself or as text.
fn number(name: &str, args: &[Value]) -> expr::Result<f64> {
    let number = match args {
        [Value::Integer(number)] => Some(*number as f64),
        [Value::Float(number)] => Some(*number),
        [Value::String(text)] => text.parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite()).ok_or_else(|| format!("{name}() of what is no finite number").into())
}

/// All numbers of the arguments and of lists among them, at least one, and none of them NaN.
fn numbers(name: &str, args: &[Value]) -> expr::Result<Vec<f64>> {
    let (mut found, mut left): (Vec<f64>, Vec<&Value>) = (Vec::new(), args.iter().rev().collect());
    while let Some(value) = left.pop() {
        match value {
            Value::Integer(number) => found.push(*number as f64),
            Value::Float(number) if !number.is_nan() => found.push(*number),
            Value::Array(list) => left.extend(list.iter().rev()),
            _ => return Err(format!("{name}() of what is no number").into()),
        }
    }
    match found.is_empty() {
        true => Err(format!("{name}() of nothing").into()),
        false => Ok(found),
    }
}

static THREADS: Threads = Threads { turn: Mutex::new(()), running: AtomicUsize::new(0) };

/// Where formulas are evaluated, one at a time.
struct Threads {
    turn: Mutex<()>,
    /// How many are running, with those that missed their deadline.
    running: AtomicUsize,
}

/// Counts a thread as long as it runs.
struct Running(&'static AtomicUsize);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Threads {
    /// Runs work on a thread with a large stack.
    fn run<T: Send + 'static>(
        &'static self,
        deadline: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let fail = |kind, cause: &str| Err(Error::new(kind, "evaluating the formula", cause));
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if MOST_LATE < self.running.load(Ordering::SeqCst) {
            return fail(ErrorKind::Timeout, "formulas that took too long are still running");
        }
        self.running.fetch_add(1, Ordering::SeqCst);
        let running = Running(&self.running);
        let (sender, receiver) = mpsc::sync_channel(1);
        let started = thread::Builder::new().name("formula".to_owned()).stack_size(STACK).spawn(move || {
            let result = work();
            drop(running);
            let _ = sender.send(result);
        });
        if started.is_err() {
            return fail(ErrorKind::Unavailable, "no thread could be started for it");
        }
        match receiver.recv_timeout(deadline) {
            Ok(result) => Ok(result),
            Err(RecvTimeoutError::Timeout) => fail(ErrorKind::Timeout, "it took too long; make it simpler"),
            Err(RecvTimeoutError::Disconnected) => {
                fail(ErrorKind::Bug, "the engine panicked; standard error has the place")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn number(text: &str) -> f64 {
        evaluate(text, &[("queue_depth", json!(95)), ("doc", document())])
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refusal(text: &str) -> Error {
        let result = evaluate(text, &[("queue_depth", json!(95)), ("doc", document())]);
        result.map(|number| panic!("{text} is {number}")).unwrap_err()
    }

    fn document() -> Json {
        json!({
            "queues": [{ "name": "a", "waiting": 3, "on": true }, { "name": "b", "waiting": 4.5, "on": false }],
            "text": "canary", "number": "42", "none": null, "empty": [], "zero": 0, "nan": "NaN",
        })
    }

    #[test]
    fn a_formula_has_the_value_that_expr_gives_it() {
        for (text, value) in [
            ("ceil(queue_depth / 10)", 10.0),
            ("min(50, queue_depth / 2)", 47.5),
            ("7 / 2", 3.5),
            ("2 ** 3 ^ 2", 512.0),
            ("queue_depth > 90 ? queue_depth > 99 ? 3 : 2 : 1", 2.0),
            ("doc.missing ?? 3", 3.0),
            ("doc.queues[0].waiting + doc.queues[-1]['waiting']", 7.5),
            ("sum(doc.queues, .waiting)", 7.5),
            ("doc.queues | map(.waiting) | max()", 4.5),
            ("sum(map(filter(doc.queues, .on), .waiting))", 3.0),
            ("len(doc.queues)", 2.0),
            ("mean(1, 2, 6) + median([5, 1, 2, 3]) + max(doc.queues[0].waiting, 1)", 8.5),
            ("int(doc.number) % 5 + float(doc.number)", 44.0),
            ("doc.text in ['canary'] and not (queue_depth < 3) ? 1 : 0", 1.0),
            ("sum(doc.empty)", 0.0),
            ("-3 + 1", -2.0),
        ] {
            assert_eq!(number(text), value, "{text}");
        }
    }

    #[test]
    fn what_is_unknown_is_never_a_number() {
        for (text, kind) in [
            ("doc.missing", ErrorKind::Missing),
            ("doc.none", ErrorKind::Missing),
            ("first(doc.empty)", ErrorKind::Missing),
            ("doc.missing + 1", ErrorKind::Malformed),
            ("missing", ErrorKind::Malformed),
            ("doc.text", ErrorKind::Malformed),
            ("doc.empty", ErrorKind::Malformed),
            ("true", ErrorKind::Malformed),
            ("1 / 0", ErrorKind::Malformed),
            ("0 / 0", ErrorKind::Malformed),
            ("int(0 / 0)", ErrorKind::Malformed),
            ("int(1 / 0)", ErrorKind::Malformed),
            ("max(0 / 0, 1)", ErrorKind::Malformed),
            ("min(1, 0 / 0)", ErrorKind::Malformed),
            ("mean(doc.empty)", ErrorKind::Malformed),
            ("median(doc.empty)", ErrorKind::Malformed),
            ("max(doc.empty)", ErrorKind::Malformed),
            ("float(doc.nan)", ErrorKind::Malformed),
            ("int(doc.nan)", ErrorKind::Malformed),
            ("sum(doc.queues, .missing)", ErrorKind::Malformed),
            ("len(doc.missing)", ErrorKind::Malformed),
        ] {
            assert_eq!(refusal(text).kind(), kind, "{text}");
        }
    }

    #[test]
    fn an_error_says_where_and_shows_no_value() {
        assert_eq!(check("1 + * 2"), Err("cannot be read at 1:5".to_owned()));
        assert_eq!(refusal("missing + 1").to_string(), "evaluating the formula: unknown variable: missing");
        for text in ["doc.text ? 1 : 2", "doc[doc.text].a", "doc.queues[doc.text]", "doc.text + 1", "int(doc.text)"] {
            assert!(!refusal(text).to_string().contains("canary"), "{}", refusal(text));
        }
    }

    /// In Expr `??` binds before every other operator, and in the engine after all of them on its right.
    #[test]
    fn what_follows_a_default_is_the_same_in_expr_or_refused() {
        for (text, value) in [
            ("queue_depth ?? 0", 95.0),
            ("(queue_depth ?? 0) + (doc.missing ?? 3)", 98.0),
            ("1 + doc.missing ?? 3", 4.0),
            ("doc.missing ?? doc.none ?? 3", 3.0),
            ("doc.missing ?? -3", -3.0),
            ("max(doc.missing ?? 1, 2 + 2)", 4.0),
            ("queue_depth > 1 ? doc.missing ?? 1 : 2 + 3", 1.0),
            ("doc.missing ?? doc?.queues[0].waiting", 3.0),
            ("doc.missing ?? (2 + 3)", 5.0),
        ] {
            assert_eq!(number(text), value, "{text}");
        }
        for text in [
            "queue_depth ?? 0 + 1",
            "queue_depth ?? 0 > 5 ? 3 : 1",
            "queue_depth ?? (0) - 1",
            "max(queue_depth ?? 0 * 2, 1)",
            "queue_depth ?? 0 and true ? 1 : 2",
            "queue_depth ?? doc.a[0] | max(1)",
            "1 > 2 ? 1 : queue_depth ?? 0 / 2",
        ] {
            assert!(check(text).is_err_and(|problem| problem.contains("after ??")), "{text}");
        }
    }

    #[test]
    fn a_name_is_found_wherever_it_stands() {
        let unknown = |text| unknown_names(text, &["orders", "max"]);
        assert_eq!(unknown("orders > 100 ? refnds : max(orders, max) + 1e3 - 'text'"), ["refnds"]);
        assert_eq!(unknown("not (orders in [1]) or true ? nil ?? a : B_1 [0].c"), ["a", "B_1", "c"]);
        assert_eq!(unknown("min(orders, min)"), ["min"]);
    }

    /// What was found to abort, panic or run for long in the engine by itself, and variations of it.
    #[test]
    fn what_the_engine_cannot_be_trusted_with_is_refused() {
        let nested = |open: &str, close: &str, times: usize| format!("{}1{}", open.repeat(times), close.repeat(times));
        let doubling: String = (0..32).map(|_| "let x = doc.text + doc.text; ").collect();
        for text in [
            "{a: queue_depth}",
            "{a: {b: 1}}",
            "len(1..100000000)",
            "1 .. 9",
            "map(1..30, map(1..30, map(1..30, map(1..30, map(1..30, 1)))))",
            "sum(doc.queues, {#.waiting})",
            "$env",
            "let x = 1; x",
            "if queue_depth > 1 { 2 } else { 3 }",
            "/* ' */ {a: queue_depth} /* ' */",
            "1 // ' \n + {a: queue_depth}",
            "'\\' + {a: queue_depth} + '\\'",
            "repeat(repeat('x', 1000000), 1000000)",
            "0orrepeat('x', 9)",
            "'x'.repeat(9)",
            "repeat\t\n ('x', 9)",
            "replace('xxxx', '', 'yyyyyyyy')",
            "join(doc.queues, 'xxxxxxxx')",
            "uniq(doc.queues)",
            "'open",
            "(1",
            "1)",
            "([1)]",
            &doubling,
            &nested("(", ")", 33),
            &nested("-(", ")", 33),
            &nested("doc[", "]", 5),
            &nested("if(", ")", 5),
            &nested("(", ")", 511),
            &format!("1{}", "+1".repeat(512)),
        ] {
            let problem = check(text).expect_err(text);
            assert!(!problem.contains("cannot be read"), "the guard does not see {text}: {problem}");
            assert_eq!(refusal(text).kind(), ErrorKind::Config, "{text}");
        }
        assert!(check("").is_err_and(|problem| problem.starts_with("cannot be read")));
    }

    /// The longest of each kind that the guard lets through: the stack must hold them.
    #[test]
    fn what_the_guard_lets_through_fits_the_stack() {
        let times = |unit: &str, end: &str| {
            let count = (LONGEST - end.len()) / unit.len();
            format!("{}{end}", unit.repeat(count))
        };
        for text in [
            format!("1{}", "+1".repeat(511)),
            format!("1{}", "<1".repeat(511)),
            format!("2{}", "^1".repeat(511)),
            times("nil??", "1"),
            times("0??", "1"),
            times("true?1:", "1"),
            times("true?", "1"),
            times("1==1?1:", "1"),
            times("not ", "true"),
            times("-", "1"),
            times("!", "1"),
            format!("doc{}", ".a".repeat(510)),
            format!("doc{}", "?.a".repeat(340)),
            format!("doc{}", "[0]".repeat(340)),
            format!("doc{}", "|len()".repeat(170)),
            format!("[{}1]", "1,".repeat(510)),
            format!("max({}1)", "1,".repeat(508)),
            format!("{}1{}", "(".repeat(32), ")".repeat(32)),
            format!("{}1{}", "max(".repeat(32), ")".repeat(32)),
            format!("{}1{}", "max(doc.a??".repeat(32), ")".repeat(32)),
            "doc[doc[doc[doc[1]]]]".to_owned(),
            format!("[{}]", ["doc[doc[doc[0]]]"; 60].join(",")),
            times("notif ", "x"),
            times("notif", "x"),
        ] {
            assert!(text.len() <= LONGEST);
            let result = evaluate(&text, &[("doc", json!({ "a": 1 }))]);
            let kind = result.as_ref().err().map(Error::kind);
            assert!(!matches!(kind, Some(ErrorKind::Timeout | ErrorKind::Bug)), "{text}: {result:?}");
        }
    }

    #[test]
    fn a_large_document_is_not_copied_without_end() {
        let large = json!({ "list": vec![1; 100_000] });
        let read = |text: &str| evaluate(text, &[("doc", large.clone())]);
        assert_eq!(read("sum(doc.list)").expect("once"), 100_000.0);
        let many = format!("len([{}])", ["doc"; 200].join(","));
        assert_eq!(read(&many).expect_err("200 copies").kind(), ErrorKind::Malformed);
    }

    #[test]
    fn what_takes_too_long_or_panics_is_an_error_and_is_bounded() {
        static THREADS: Threads = Threads { turn: Mutex::new(()), running: AtomicUsize::new(0) };
        let (hold, held) = mpsc::channel::<()>();
        let held = std::sync::Arc::new(Mutex::new(held));
        let late = || {
            let held = held.clone();
            THREADS.run(Duration::from_millis(1), move || held.lock().is_ok_and(|held| held.recv().is_ok()))
        };
        for _ in 0..=MOST_LATE {
            assert_eq!(late().expect_err("it waits").kind(), ErrorKind::Timeout);
        }
        let refused = THREADS.run(DEADLINE, || 1).expect_err("too many are left");
        assert!(refused.to_string().contains("still running"), "{refused}");
        drop(hold);
        while THREADS.running.load(Ordering::SeqCst) != 0 {
            thread::yield_now();
        }
        let panicked = THREADS.run(DEADLINE, || panic!("expected in this test")).map(|(): ()| ());
        assert_eq!(panicked.expect_err("it panics").kind(), ErrorKind::Bug);
        assert_eq!(THREADS.run(DEADLINE, || 2).expect("the others have ended"), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever passes the guard ends with a number or an error in time.
        #[test]
        fn no_formula_stops_the_process(parts in proptest::collection::vec(part(), 0..60)) {
            let text = parts.concat();
            let result = evaluate(&text, &[("doc", document()), ("a", json!(2.5))]);
            let kind = result.as_ref().err().map(Error::kind);
            prop_assert!(!matches!(kind, Some(ErrorKind::Timeout | ErrorKind::Bug)), "{}: {:?}", text, result);
        }
    }

    fn part() -> impl Strategy<Value = String> {
        let signs =
            "( ) [ ] ( ) , . ? : ?? ?. | || && ! + - * / % ** ^ < <= == != ' \" `".split(' ').map(str::to_owned);
        let words = "a doc queues waiting if else let not in and or nil true b 0 1 2.5 1e9 0x1F 9223372036854775807";
        let words = words.split(' ').chain(FUNCTIONS.iter().copied()).map(|word| format!(" {word} "));
        proptest::sample::select(signs.chain(words).collect::<Vec<_>>())
    }
}
