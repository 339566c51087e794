//! Journals written, torn, damaged and gone on with.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::record::tests::record;
use c2c_recipe::Method;

fn head() -> Head {
    let print = Fingerprint { source: "a.jsonl".into(), rows: 4, sha256: "0d".into(), ..Default::default() };
    Head {
        format: JOURNAL_FORMAT,
        records_format: RECORDS_FORMAT,
        program: "0.1.0".into(),
        device: "cpu".into(),
        recipe_sha256: "0a".into(),
        fuser_sha256: Some("0b".into()),
        receiver_sha256: "0c".into(),
        sharer_sha256: Some("0e".into()),
        further_sharers: vec![LinkHashes { fuser_sha256: "1f".into(), sharer_sha256: "20".into() }],
        evaluation_data: vec![print],
        examples_data: vec![],
        fused_share: Some(0.5),
        fused_from: None,
        questions: 4,
        shard: Shard::WHOLE,
    }
}

fn unit(number: usize) -> Unit {
    let mut record = record(Method::C2c, number, Some('B'));
    record.output = "Ω \"quoted\",\nand a line".to_owned();
    // No short decimal.
    record.milliseconds = 10.0 / 3.0;
    Unit { number, method: Method::C2c, records: vec![(number, record)] }
}

fn written(path: &Path, units: std::ops::Range<usize>) -> Journal {
    let mut journal = Journal::create(path, &head()).unwrap();
    units.for_each(|number| journal.unit(&unit(number)).unwrap());
    journal
}

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let mut journal = written(&path, 0..3);
    assert!(matches!(Journal::create(&path, &head()), Err(EvalError::Busy { .. })), "one process at a time");
    let read = Written::read(&path).unwrap().unwrap();
    assert_eq!((&read.head, read.total), (&head(), None));
    assert_eq!(read.units, [unit(0), unit(1), unit(2)]);
    journal.end(3).unwrap();
    assert_eq!(Written::read(&path).unwrap().unwrap().total, Some(3));
}

#[test]
fn wherever_it_is_torn_whole_lines_are_kept_and_gone_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    written(&path, 0..2).end(2).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let ends: Vec<usize> = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
    for length in 0..=bytes.len() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let lines = ends.iter().filter(|end| **end <= length).count();
        let Some(read) = Written::read(&path).unwrap() else {
            assert_eq!(lines, 0, "{length}");
            continue;
        };
        assert_eq!((read.units.len(), read.total), ((lines - 1).min(2), (lines == 4).then_some(2)), "{length}");
        if read.total.is_none() {
            let mut journal = Journal::append(&path, &read).unwrap();
            (read.units.len()..2).for_each(|number| journal.unit(&unit(number)).unwrap());
            journal.end(2).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "{length}");
        }
    }
}

#[test]
fn a_last_line_of_rubbish_is_torn_and_one_in_the_middle_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    written(&path, 0..2);
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&good[..], b"\0\0\0\0\n"].concat()).unwrap();
    assert_eq!(Written::read(&path).unwrap().unwrap().units.len(), 2);
    let first = good.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let cases: [(Vec<u8>, &str); 4] = [
        ([&good[..first], b"\0\0\n", &good[first..]].concat(), "line 2: "),
        ([&good[..], &good[first..]].concat(), "line 4: unit 0 a second time"),
        ([&good[..first], &good[..]].concat(), "line 2: not in its place"),
        (good[first..].to_vec(), "line 1 is no head"),
    ];
    for (bytes, expected) in cases {
        std::fs::write(&path, bytes).unwrap();
        let message = Written::read(&path).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("journal.jsonl"), "{message}");
    }
}

#[test]
fn another_version_is_refused_by_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    std::fs::write(&path, "{\"head\":{\"format\":9,\"records_format\":1,\"new\":true}}\n").unwrap();
    let message = Written::read(&path).unwrap_err().to_string();
    assert!(message.contains("journal of format 9 with records of format 1"), "{message}");
}

#[test]
fn what_differs_between_heads_is_told_and_where_data_lies_does_not() {
    let mut other = head();
    other.evaluation_data[0].source = "elsewhere/a.jsonl".into();
    assert!(head().differences(&other).is_empty());
    other.fuser_sha256 = Some("ff".into());
    other.further_sharers.clear();
    other.evaluation_data[0].sha256 = "00".into();
    (other.fused_share, other.fused_from) = (None, Some(FusedFrom::Back));
    other.shard = "2/3".parse().unwrap();
    let expected = [
        "fuser_sha256: 0b, not ff",
        "further_sharers: fuser 1f with sharer 20, not none",
        "evaluation_data: 0d (4 rows), not 00 (4 rows)",
        "fused_share: 0.5, not 1",
        "fused_from: front, not back",
        "shard: 1/1, not 2/3",
    ];
    assert_eq!(head().differences(&other), expected);
}
