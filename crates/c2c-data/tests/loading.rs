//! Loading rows from files: every shape, limits and fingerprints, and what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use c2c_data::{DataError, MAX_LINE_BYTES, McQuestion, load_conversations, load_multiple_choice};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};

const GOOD: &str = r#"{"id":"q1","question":"Q?","choices":["x","y","z"],"answer":2,"note":"kept out"}"#;

fn file(folder: &tempfile::TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn questions(text: &str) -> Result<Vec<McQuestion>, DataError> {
    let folder = tempfile::tempdir().unwrap();
    load_multiple_choice(file(&folder, "rows.jsonl", text), None).map(|loaded| loaded.rows)
}

/// The roles and contents of the one conversation of a file.
fn conversation(text: &str) -> Result<Vec<(String, String)>, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let loaded = load_conversations(file(&folder, "rows.jsonl", text), None)?;
    assert_eq!(loaded.rows.len(), 1);
    Ok(loaded.rows[0].iter().map(|message| (message.role.clone(), message.content.clone())).collect())
}

fn pairs(turns: &[(&str, &str)]) -> Vec<(String, String)> {
    turns.iter().map(|(role, content)| ((*role).to_owned(), (*content).to_owned())).collect()
}

#[test]
fn reads_plain_and_gzipped_files_alike() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{GOOD}\n\n{}\n", GOOD.replace("q1", "q2"));
    let plain = load_multiple_choice(file(&folder, "a.jsonl", &text), None).unwrap();
    let zipped = load_multiple_choice(file(&folder, "a.jsonl.gz", gzip(text.as_bytes())), None).unwrap();
    assert_eq!(plain.rows, zipped.rows);
    assert_eq!(plain.rows.len(), 2);
    let expected = McQuestion {
        id: "q1".to_owned(),
        question: "Q?".to_owned(),
        choices: ["x", "y", "z"].map(str::to_owned).to_vec(),
        answer: 2,
        subject: None,
    };
    assert_eq!(plain.rows[0], expected);
    assert_eq!(plain.fingerprint.sha256, sha256(text.as_bytes()));
    assert_eq!(zipped.fingerprint.sha256, plain.fingerprint.sha256);
    assert_eq!((plain.fingerprint.rows, plain.fingerprint.limit), (2, None));
    assert!(plain.fingerprint.source.ends_with("a.jsonl"));
}

#[test]
fn a_limit_reads_and_hashes_only_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    // The second line is broken and must not be looked at.
    let path = file(&folder, "a.jsonl", format!("{GOOD}\nbroken\n"));
    let loaded = load_multiple_choice(&path, Some(1)).unwrap();
    assert_eq!(loaded.rows.len(), 1);
    assert_eq!(loaded.fingerprint.limit, Some(1));
    assert_eq!(loaded.fingerprint.sha256, sha256(format!("{GOOD}\n").as_bytes()));
    assert!(matches!(load_multiple_choice(&path, Some(0)), Err(DataError::Empty { limit: Some(0), .. })));
}

#[test]
fn reads_the_published_shape_with_letters_and_numbers() {
    for (labels, key, answer) in [
        (r#"["A","B","C"]"#, "B", 1),
        (r#"["1","2","3"]"#, "3", 2),
        (r#"["A","B","C"]"#, "2", 1),
        (r#"["1","2","3"]"#, "A", 0),
    ] {
        for question in ["question", "question_stem"] {
            let text = format!(
                r#"{{"id":"q","{question}":"Q?","choices":{{"text":["x","y","z"],"label":{labels}}},"answerKey":"{key}"}}"#
            );
            let row = &questions(&text).unwrap()[0];
            assert_eq!((row.answer, row.question.as_str(), row.choices.len()), (answer, "Q?", 3), "{text}");
        }
    }
}

#[test]
fn keeps_the_subject() {
    let text = r#"{"id":"q","question":"Q?","choices":["x","y"],"answer":0,"subject":"law"}"#;
    assert_eq!(questions(text).unwrap()[0].subject.as_deref(), Some("law"));
}

#[test]
fn published_rows_without_an_id_or_wrapped_in_a_field_are_read() {
    let plain = r#"{"question":"Q?","subject":"","choices":["x","y"],"answer":1}"#;
    for text in [plain.to_owned(), format!(r#"{{"train":{plain}}}"#)] {
        let row = &questions(&text).unwrap()[0];
        assert_eq!((row.id.as_str(), row.answer, &row.subject), ("rows.jsonl:1", 1, &None), "{text}");
    }
    let row = &questions(r#"{"id":7,"question":"Q?","choices":["x","y"],"answer":1}"#).unwrap()[0];
    assert_eq!(row.id, "7");
}

#[test]
fn a_bad_row_is_named_with_file_line_field_expected_and_found() {
    let cases = [
        (r#"{"id":"q","choices":["x","y"],"answer":0}"#, "`question` or `question_stem`", "nothing"),
        (r#"{"id":"q","question":" ","choices":["x","y"],"answer":0}"#, "`question`", "\" \""),
        (r#"{"id":"q","question":"Q?","answer":0}"#, "`choices`", "nothing"),
        (r#"{"id":"q","question":"Q?","choices":"xy","answer":0}"#, "`choices`", "\"xy\""),
        (r#"{"id":"q","question":"Q?","choices":[],"answer":"4"}"#, "`choices`", "0"),
        (r#"{"id":"q","question":"Q?","choices":["x",7],"answer":0}"#, "`choices[1]`", "7"),
        (r#"{"id":"q","question":"Q?","choices":["x","y"]}"#, "`answer` or `answerKey`", "nothing"),
        (r#"{"id":"q","question":"Q?","choices":["x","y"],"answer":2}"#, "`answer`", "2"),
        (r#"{"id":"q","question":"Q?","choices":["x","y"],"answer":-1}"#, "`answer`", "-1"),
        (r#"{"id":"q","question":"Q?","choices":["x","y"],"answer":"A"}"#, "`answer`", "\"A\""),
        (r#"{"id":"q","question":"Q?","choices":["x","y"],"answerKey":"C"}"#, "`answerKey`", "\"C\""),
        (r#"{"id":"q","question":"Q?","choices":["x","y"],"answerKey":"0"}"#, "`answerKey`", "\"0\""),
        (
            r#"{"id":"q","question":"Q?","choices":{"text":["x","y"],"label":["A"]},"answerKey":"A"}"#,
            "`choices.label`",
            "1",
        ),
        (r#"{"id":"q","question":"Q?","choices":{"text":["x","y"]},"answerKey":"A"}"#, "`choices.label`", "null"),
    ];
    for (row, field, found) in cases {
        let error = questions(&format!("{GOOD}\n{row}\n")).unwrap_err();
        assert!(matches!(error, DataError::Field { line: 2, .. }), "{row}: {error}");
        let message = error.to_string();
        assert!(message.contains("rows.jsonl:2: field"), "{message}");
        assert!(message.contains(field), "{message}");
        assert!(message.ends_with(&format!("found {found}")), "{message}");
    }
}

#[test]
fn lines_that_are_no_objects_are_refused() {
    for text in ["[1]", "{", "{\"id\":\"q\"}{}", "caf\u{e9}"] {
        let error = questions(&format!("{GOOD}\n{text}\n")).unwrap_err();
        assert!(matches!(error, DataError::Json { line: 2, .. }), "{text}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let error = load_multiple_choice(file(&folder, "a.jsonl", b"{\"id\":\"\xff\"}\n"), None).unwrap_err();
    assert!(matches!(error, DataError::Json { line: 1, .. }), "{error}");
}

#[test]
fn missing_empty_and_truncated_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = load_multiple_choice(Path::new("no/such/file.jsonl"), None).unwrap_err();
    assert!(matches!(missing, DataError::Io { .. }) && missing.to_string().contains("no/such/file.jsonl"));
    assert!(matches!(load_multiple_choice(folder.path(), None), Err(DataError::Io { .. })));
    assert!(matches!(questions("\n \n"), Err(DataError::Empty { limit: None, .. })));
    let rows: String = (0..50).map(|id| GOOD.replace("q1", &format!("q{id}")) + "\n").collect();
    let zipped = gzip(rows.as_bytes());
    let cut = file(&folder, "cut.jsonl.gz", &zipped[..zipped.len() - 9]);
    assert!(matches!(load_multiple_choice(cut, None), Err(DataError::Io { .. })));
}

#[test]
fn a_gzip_bomb_in_one_line_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bomb = file(&folder, "bomb.jsonl.gz", gzip(&vec![b' '; MAX_LINE_BYTES + 10]));
    assert!(matches!(load_multiple_choice(bomb, None), Err(DataError::LineTooLong { line: 1, .. })));
}

#[test]
fn reads_all_conversation_shapes() {
    let expected = pairs(&[("user", "Hi"), ("assistant", "Hello")]);
    for text in [
        r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}]}"#,
        r#"{"conversations":[{"from":"human","value":"Hi"},{"from":"gpt","value":"Hello"}]}"#,
        r#"{"conversations":[{"from":"user","value":"Hi"},{"from":"assistant","value":"Hello"}],"id":1}"#,
        r#"{"prompt":"Hi","response":"Hello"}"#,
    ] {
        assert_eq!(conversation(text).unwrap(), expected, "{text}");
    }
    let text = r#"{"conversations":[{"from":"system","value":"S"},{"from":"human","value":"1"},
        {"from":"gpt","value":"2"},{"from":"human","value":"3"},{"from":"gpt","value":"4"}]}"#
        .replace('\n', " ");
    let turns = [("system", "S"), ("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4")];
    assert_eq!(conversation(&text).unwrap(), pairs(&turns));
}

#[test]
fn a_bad_conversation_is_named() {
    let cases = [
        (r#"{"text":"Hi"}"#, "`messages`, `conversations` or `prompt`"),
        (r#"{"prompt":"Hi"}"#, "`response`"),
        (r#"{"messages":[]}"#, "`messages`"),
        (r#"{"messages":"Hi"}"#, "`messages`"),
        (r#"{"messages":[{"role":"user","content":"Hi"}]}"#, "`messages`"),
        (r#"{"messages":[{"role":"tool","content":"Hi"}]}"#, "`messages[0].role`"),
        (r#"{"messages":[{"role":"user","content":null}]}"#, "`messages[0].content`"),
        (r#"{"conversations":[{"from":"human","value":"Hi"},{"value":"x"}]}"#, "`conversations[1].from`"),
    ];
    for (text, field) in cases {
        let error = conversation(text).unwrap_err();
        assert!(matches!(error, DataError::Field { line: 1, .. }), "{text}: {error}");
        assert!(error.to_string().contains(&format!("field {field}")), "{error}");
    }
}

#[test]
fn an_identifier_that_comes_twice_is_refused_with_both_lines() {
    let other = GOOD.replace("q1", "q2");
    let error = questions(&format!("{GOOD}\n{other}\n\n{GOOD}\n")).unwrap_err().to_string();
    assert!(error.contains("rows.jsonl:4: the identifier `q1` is also that of"), "{error}");
    assert!(error.contains("rows.jsonl:1;"), "{error}");
    // Rows without one are called by their places.
    let without = GOOD.replace(r#""id":"q1","#, "");
    assert_eq!(questions(&format!("{without}\n{without}\n")).unwrap()[1].id, "rows.jsonl:2");
}
