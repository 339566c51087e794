//! `c2c chat` through the real binary: one prompt and conversations, by pipe, on the embedded pair.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod kit;

use std::io::Write;
use std::process::{Output, Stdio};

use c2c_data::pocket::{Split, WORLD_SEED, World};
use c2c_data::prompts::{PromptFormat, multiple_choice};
use c2c_eval::read_records;
use c2c_recipe::Method;
use kit::{command, failed, fails, only_folder, stderr, stdout, succeeded, succeeds};
use serde_json::Value;

const POCKET: [&str; 3] = ["chat", "--fuser", "exports/pocket"];
const BOTH: [&str; 5] = ["chat", "--fuser", "exports/pocket", "--fuser", "exports/pocket-narrow"];

/// Questions about places that the fuser was never trained on, as it was trained to read them.
fn questions() -> Vec<String> {
    let questions = World::new(WORLD_SEED).questions(Split::Test, 1, WORLD_SEED);
    let put = |q: &c2c_data::McQuestion| multiple_choice(PromptFormat::PlainCued, &q.question, &q.choices);
    questions.iter().map(put).collect()
}

fn question() -> String {
    questions().remove(0)
}

/// Runs with this on stdin.
fn piped(args: &[&str], input: &str) -> Output {
    let mut child = command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that is refused before it reads has closed its end.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// A message of several lines, as it is typed.
fn typed(message: &str) -> String {
    message.replace('\n', "\\\n")
}

fn json(args: &[&str]) -> Value {
    let out = succeeds(&[args, &["--json"]].concat());
    serde_json::from_str(&stdout(&out)).unwrap_or_else(|e| panic!("{e}\n{}", stdout(&out)))
}

#[test]
fn a_reply_is_the_one_that_the_evaluation_records() {
    let dir = tempfile::tempdir().unwrap();
    let output = format!("output.dir={}", dir.path().display());
    succeeds(&["eval", "recipes/eval/pocket-several.toml", "--limit", "4", "-o", &output]);
    let records = read_records(only_folder(dir.path()).join("eval/records.parquet")).unwrap();
    let world = World::new(WORLD_SEED).questions(Split::Test, 1, WORLD_SEED);
    let texts = questions();
    let asked: Vec<&str> = records.iter().filter(|r| r.method == Method::C2c).map(|r| r.question_id.as_str()).collect();
    assert_eq!(asked.len(), 4);
    for id in asked {
        let text = &texts[world.iter().position(|question| question.id == id).unwrap()];
        let ask = ["--compare", "--max-new-tokens", "8", "--prompt", text];
        let (pair, both) = (json(&[&POCKET[..], &ask].concat()), json(&[&BOTH[..], &ask].concat()));
        let recorded = |method: Method| records.iter().find(|r| r.method == method && r.question_id == id).unwrap();
        let replies = pair["replies"].as_array().unwrap().iter();
        let replies = replies.zip(["c2c", "receiver", "sharer"]).zip([Method::C2c, Method::Receiver, Method::Sharer]);
        let together = both["replies"].as_array().unwrap().iter().zip(["c2c"]).zip([Method::Several]);
        for ((reply, name), method) in replies.chain(together) {
            let record = recorded(method);
            assert_eq!(reply["method"], name);
            assert_eq!(reply["text"].as_str().unwrap().trim_matches('\n'), record.output, "{id} {method}");
            assert_eq!(reply["ids"].as_array().unwrap().len(), record.output_tokens as usize);
            assert_eq!(reply["finish"], serde_json::to_value(record.finish).unwrap());
            let read = &reply["prompt_tokens"];
            let read = if name == "sharer" { &read["sharers"][0] } else { &read["receiver"] };
            assert_eq!(read, &Value::from(record.prompt_tokens));
        }
    }
}

#[test]
fn the_json_says_what_was_read_fused_and_how_long_it_took() {
    let question = question();
    let said = json(&[&POCKET[..], &["--system", "Answer.", "--prompt", &question]].concat());
    assert_eq!((&said["prompt"], &said["system"]), (&Value::from(question), &Value::from("Answer.")));
    assert_eq!((&said["device"], &said["dtype"]), (&"cpu".into(), &"f32".into()));
    assert_eq!(said["receiver"], "datasets/pocket/receiver");
    let fuser = &said["fusers"][0];
    assert_eq!((&fuser["fuser"], &fuser["sharer"]), (&"exports/pocket".into(), &"datasets/pocket/sharer".into()));
    assert_eq!(fuser["gates_open"], serde_json::json!({ "keys": 5, "values": 5, "of": 5 }));
    let [reply] = said["replies"].as_array().unwrap().as_slice() else { panic!("{said}") };
    assert_eq!((&reply["method"], &reply["finish"]), (&"c2c".into(), &"eos".into()));
    assert_eq!((&reply["sampling"]["do_sample"], &reply["max_new_tokens"]), (&false.into(), &256.into()));
    // The system prompt and the message.
    assert_eq!(reply["fused"]["sections"], 2);
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {reply}"));
    assert!(number(&reply["fused"]["slots"]) >= number(&reply["fused"]["tokens"]));
    assert!(number(&reply["prompt_tokens"]["receiver"]) > number(&reply["fused"]["tokens"]));
    let ms = &reply["ms"];
    let parts: f64 = ["sharer", "receiver", "fusion", "decode"].iter().map(|part| number(&ms[part])).sum();
    assert!(parts > 0.0 && parts <= number(&ms["total"]), "{reply}");
    assert!(number(&reply["tokens_per_second"]) > 0.0);
}

#[test]
fn replies_go_to_stdout_and_everything_else_to_stderr() {
    let question = question();
    let ask = ["--prompt", &question, "--max-new-tokens", "8"];
    let text = |method: &str| {
        let said = json(&[&POCKET[..], &ask, &["--method", method]].concat());
        said["replies"][0]["text"].as_str().unwrap().to_owned()
    };
    let [c2c, receiver, sharer] = ["c2c", "receiver", "sharer"].map(text);
    let one = succeeds(&[&POCKET[..], &ask].concat());
    assert_eq!(stdout(&one), format!("{c2c}\n"));
    assert!(stderr(&one).starts_with("c2c: ") && stderr(&one).contains(" fused in "), "{}", stderr(&one));
    let all = succeeds(&[&POCKET[..], &ask, &["--compare"]].concat());
    assert_eq!(stdout(&all), format!("[c2c]\n{c2c}\n\n[receiver]\n{receiver}\n\n[sharer]\n{sharer}\n"));
    let chosen = ["--method", "sharer", "--method", "c2c"];
    let some = succeeds(&[&POCKET[..], &ask, &chosen].concat());
    assert_eq!(stdout(&some), format!("[sharer]\n{sharer}\n\n[c2c]\n{c2c}\n"));
    // The receiver doesn't know the answer and the sharer does.
    assert!(c2c == sharer && c2c != receiver, "{c2c:?} {receiver:?} {sharer:?}");
    // The same from stdin, with the line break that a file ends in.
    let read = succeeded(&POCKET, piped(&[&POCKET[..], &ask[2..]].concat(), &format!("{question}\n")));
    assert_eq!(stdout(&read), stdout(&one));
}

/// The numbers of tokens that the receiver has read, turn by turn, as told on stderr.
fn read(out: &Output) -> Vec<usize> {
    let said = stderr(out);
    let told = said.lines().filter_map(|line| line.split_once("receiver read ")).map(|(_, rest)| rest);
    told.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()).collect()
}

#[test]
fn a_conversation_by_pipe_remembers_its_turns() {
    let asked = questions();
    let args = [&POCKET[..], &["--interactive", "--max-new-tokens", "8"]].concat();
    let alone: Vec<Value> =
        asked[..2].iter().map(|text| json(&[&POCKET[..], &["-p", text, "--max-new-tokens", "8"]].concat())).collect();
    let texts: Vec<&str> = alone.iter().map(|said| said["replies"][0]["text"].as_str().unwrap()).collect();
    let tokens: Vec<u64> =
        alone.iter().map(|said| said["replies"][0]["prompt_tokens"]["receiver"].as_u64().unwrap()).collect();
    let two = format!("{}\n{}\n", typed(&asked[0]), typed(&asked[1]));
    let said = succeeded(&args, piped(&args, &two));
    let lines: Vec<String> = stdout(&said).lines().map(str::to_owned).collect();
    assert_eq!((lines.len(), lines[0].as_str()), (2, texts[0]), "{lines:?}");
    let counted = read(&said);
    assert_eq!(counted[0] as u64, tokens[0]);
    assert!(counted[1] as u64 > tokens[0] + tokens[1], "{counted:?}: both questions and a reply");
    // What is forgotten isn't read.
    let apart = format!("{}\n/reset\n{}", typed(&asked[0]), typed(&asked[1]));
    let said = succeeded(&args, piped(&args, &apart));
    assert_eq!(stdout(&said).lines().collect::<Vec<_>>(), texts);
    assert_eq!(read(&said).iter().map(|count| *count as u64).collect::<Vec<_>>(), tokens);
    assert!(stderr(&said).contains("forgot 1 turn\n"), "{}", stderr(&said));
}

#[test]
fn commands_change_who_answers_and_what_is_read() {
    let question = question();
    let args = [&POCKET[..], &["--interactive", "--max-new-tokens", "8"]].concat();
    let script = format!(
        "/help\n/gates\n\n/method sharer receiver\n/system Be brief.\n{q}\n/system\n/reset\n{q}\n/method c2c\n/reset\n{q}\n/quit\nnever read\n",
        q = typed(&question)
    );
    let said = succeeded(&args, piped(&args, &script));
    let (out, talk) = (stdout(&said), stderr(&said));
    let all = stdout(&succeeds(
        &[&POCKET[..], &["-p", &question, "--max-new-tokens", "8", "--method", "sharer", "--method", "receiver"]]
            .concat(),
    ));
    let c2c = stdout(&succeeds(&[&POCKET[..], &["-p", &question, "--max-new-tokens", "8"]].concat()));
    assert!(out.ends_with(&format!("{all}{c2c}")), "{out}");
    assert!(out.starts_with("[sharer]\n") && !out.contains("never read"));
    for words in [
        "receiver  datasets/pocket/receiver (qwen3, 5 layers, context 512)",
        "/system [TEXT]",
        "receiver layer  sharer layer  keys             values",
        "             4             3  open (1.077)     open (1.227)",
        "sharer, receiver of c2c, receiver, sharer",
        "the system prompt is set",
        "there is no system prompt",
    ] {
        assert!(talk.contains(words), "no `{words}` in\n{talk}");
    }
    // The first turn's receiver has read the system prompt, the second's hasn't, and with fusion it reads the same.
    let counted = read(&said);
    assert_eq!(counted.len(), 3);
    assert!(counted[0] > counted[1] && counted[1] == counted[2], "{counted:?}");
}

#[test]
fn what_is_drawn_depends_on_the_seed_alone() {
    let question = question();
    let draw = |seed: &str| {
        let sampling = ["--temperature", "3", "--top-k", "50", "--top-p", "0.95", "--repetition-penalty", "1.1"];
        let more = ["--max-new-tokens", "24", "--seed", seed, "-p", &question];
        json(&[&POCKET[..], &sampling, &more].concat())["replies"][0]["ids"].clone()
    };
    assert_eq!(draw("1"), draw("1"));
    assert!(["2", "3", "4"].iter().any(|seed| draw(seed) != draw("1")));
}

#[test]
fn a_model_may_be_sampled_as_its_publisher_does() {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(kit::root().join("datasets/pocket/receiver")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let published =
        "{\"eos_token_id\": [2], \"pad_token_id\": 0, \"do_sample\": true, \"temperature\": 3.5, \"top_k\": 40}";
    std::fs::write(dir.path().join("generation_config.json"), published).unwrap();
    let (question, receiver) = (question(), dir.path().to_str().unwrap());
    let ask = ["-p", &question, "--receiver", receiver, "--max-new-tokens", "24", "--compare"];
    let replies = |more: &[&str]| json(&[&POCKET[..], &ask, more].concat())["replies"].clone();
    let (own, typed) = (replies(&["--sampling", "model"]), replies(&["--temperature", "3.5", "--top-k", "40"]));
    assert_eq!(own[0]["sampling"], typed[0]["sampling"]);
    assert_eq!(own[0]["ids"], typed[0]["ids"]);
    // The sharer's file says nothing of it.
    let greedy = replies(&[]);
    assert!(own[2]["ids"] == greedy[2]["ids"] && own[0]["ids"] != greedy[0]["ids"] && typed[2] != greedy[2]);
    // What is typed comes first.
    let colder = replies(&["--sampling", "model", "--temperature", "0"]);
    assert_eq!(colder[0]["ids"], greedy[0]["ids"]);
    assert_eq!((&colder[0]["sampling"]["do_sample"], &colder[0]["sampling"]["top_k"]), (&false.into(), &40.into()));
    std::fs::write(dir.path().join("generation_config.json"), "{\"top_p\": 7}").unwrap();
    let args = [&POCKET[..], &ask, &["--sampling", "model"]].concat();
    fails(&args, 3, &["generation_config.json", "top_p", "at most 1"]);
}

#[test]
fn several_sharers_are_fused_and_asked_alone() {
    let question = question();
    let said = json(&[&BOTH[..], &["--compare", "--fusion-order", "parallel", "-p", &question]].concat());
    let names: Vec<&Value> = said["replies"].as_array().unwrap().iter().map(|reply| &reply["method"]).collect();
    assert_eq!(names, ["c2c", "receiver", "sharer", "sharer:2"]);
    assert_eq!(said["replies"][0]["prompt_tokens"]["sharers"].as_array().unwrap().len(), 2);
    // Both fusers name the same sharer.
    assert_eq!(said["replies"][2]["ids"], said["replies"][3]["ids"]);
    let fusers: Vec<&Value> = said["fusers"].as_array().unwrap().iter().map(|one| &one["fuser"]).collect();
    assert_eq!(fusers, ["exports/pocket", "exports/pocket-narrow"]);
}

#[test]
fn a_run_directory_is_the_fuser_that_it_has_trained_with_its_models() {
    let dir = tempfile::tempdir().unwrap();
    let output = format!("output.dir={}", dir.path().display());
    let short = ["-o", &output, "-o", "training.max_steps=1", "-o", "evaluation.limit=2"];
    succeeds(&[&["train", "recipes/train/pocket.toml"], &short[..]].concat());
    let run = only_folder(dir.path());
    let (run, inner) = (run.to_str().unwrap(), run.join("fuser"));
    for fuser in [run, inner.to_str().unwrap()] {
        let said = json(&["chat", "--fuser", fuser, "-p", &question(), "--max-new-tokens", "2"]);
        assert_eq!(said["receiver"], "datasets/pocket/receiver");
    }
    let evals = format!("output.dir={}", dir.path().join("evals").display());
    succeeds(&["eval", "--fuser", run, "--questions", "pocket", "--limit", "2", "-o", &evals]);
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let with = |more: &[&'static str]| -> Vec<&'static str> { [&POCKET[..], more].concat() };
    fails(&["chat"], 2, &["--fuser"]);
    fails(&["chat", "--fuser", "nowhere", "-p", "x"], 3, &["nowhere", "fuser_config.json"]);
    fails(&with(&["-p", "x", "--method", "recever"]), 2, &["recever", "c2c, receiver, sharer"]);
    fails(&with(&["-p", "x", "--method", "sharer:2"]), 2, &["sharer:2", "one sharer", "--fuser"]);
    fails(&with(&["-p", " "]), 2, &["--prompt holds no text"]);
    fails(&with(&["-p", "x", "--sharer", "a", "--sharer", "b"]), 2, &["2 sharers for 1 fusers"]);
    fails(&with(&["-p", "x", "--receiver", "datasets/pocket/sharer"]), 3, &["receiver", "layers 5", "4"]);
    fails(&with(&["-p", "x", "--receiver", "datasets/nowhere"]), 3, &["datasets/nowhere"]);
    fails(&with(&["-p", "x", "--top-p", "0.9"]), 2, &["--temperature"]);
    fails(&with(&["-p", "x", "--temperature", "1", "--top-p", "1.5"]), 2, &["--top-p 1.5", "at most 1"]);
    fails(&with(&["-p", "x", "--temperature=-1"]), 2, &["--temperature -1", "0 or more"]);
    fails(&with(&["-p", "x", "--max-new-tokens", "0"]), 2, &["--max-new-tokens"]);
    fails(&with(&["-p", "x", "--dtype", "f16"]), 2, &["f16", "bf16 or f32"]);
    fails(&with(&["-p", "x", "--json", "--interactive"]), 2, &["--interactive"]);
    if cfg!(not(feature = "cuda")) {
        fails(&with(&["-p", "x", "--device", "cuda"]), 3, &["cuda", "--features cuda"]);
    }
    let args = with(&[]);
    failed(&args, &piped(&args, "\n"), 2, &["stdin holds no text"]);
    let long = "What is the fruit of Brai? ".repeat(100);
    let refused = kit::c2c(&[&args[..], &["-p", &long]].concat());
    failed(&args, &refused, 2, &["tokens for the sharer", "context of 512"]);
    // In a conversation that nobody types, the first thing that goes wrong ends it.
    let args = with(&["--interactive"]);
    failed(&args, &piped(&args, "/rest\nWhat?\n"), 2, &["/rest", "did you mean /reset?"]);
    failed(&args, &piped(&args, "/method nobody\n"), 2, &["nobody"]);
    failed(&args, &piped(&args, &format!("{long}\n")), 2, &["context of 512"]);
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let mut child = command(&[&POCKET[..], &["-p", &question()]].concat())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", stderr(&out));
    assert!(!stderr(&out).contains("panicked"), "{}", stderr(&out));
}

#[cfg(unix)]
#[test]
fn a_signal_between_replies_ends_the_conversation() {
    use std::io::{BufRead, BufReader, Read};
    let mut child = command(&[&POCKET[..], &["--interactive"]].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Neither end is closed before the signal has done its work.
    let (_input, mut talk) = (child.stdin.take(), BufReader::new(child.stderr.take().unwrap()));
    assert!(talk.by_ref().lines().any(|line| line.unwrap().contains("/help lists commands")));
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
