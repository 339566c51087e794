//! Conversations from every format and shape, filters, and the count of everything that is left out.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use c2c_data::{
    DataError, Example, Fingerprint, Input, Loaded, LongBench, McQuestion, Part, Place, Selection, Shape, load_chats,
    training_chat,
};
use flate2::{Compression, write::GzEncoder};
use polars::prelude::{Column, DataFrame, IntoColumn, IntoSeries, NamedFrom, ParquetWriter, Series, StructChunked};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

const CHATS: [&str; 4] = [
    r#"{"id":"a","source":"poems","conversations":[{"from":"system","value":"S"},{"from":"human","value":" Hi "},{"from":"gpt","value":"Hello "}]}"#,
    r#"{"id":"b","source":"code","conversations":[{"from":"human","value":"1"},{"from":"gpt","value":"2"},{"from":"human","value":"3"},{"from":"gpt","value":"4"}]}"#,
    r#"{"id":"c","source":"code","conversations":[{"from":"human","value":"Hi"}]}"#,
    r#"{"id":"d","source":"codes","conversations":[{"from":"human","value":"x"},{"from":"gpt","value":"y"}]}"#,
];

fn sha256(bytes: impl AsRef<[u8]>) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write(folder: &tempfile::TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn load(path: &Path, shape: Shape<'_>, selection: &Selection) -> Result<Loaded<Example>, DataError> {
    load_chats(&Input::file(path), shape, selection, None)
}

fn ids(loaded: &Loaded<Example>) -> Vec<&str> {
    loaded.rows.iter().map(|row| row.id.as_str()).collect()
}

fn columns(column: &str, values: &[&str]) -> BTreeMap<String, Vec<String>> {
    BTreeMap::from([(column.to_owned(), values.iter().map(|value| (*value).to_owned()).collect())])
}

fn put(question: &McQuestion) -> Vec<c2c_text::Message> {
    training_chat(question)
}

/// The first two of `CHATS` as Parquet: lists of objects, as published data sets have them.
fn parquet(path: &Path, from: usize, to: usize) {
    let turns: [&[(&str, &str)]; 2] = [
        &[("system", "S"), ("human", " Hi "), ("gpt", "Hello ")],
        &[("human", "1"), ("gpt", "2"), ("human", "3"), ("gpt", "4")],
    ];
    let lists: Vec<Series> = turns[from..to]
        .iter()
        .map(|turns| {
            let (names, values): (Vec<&str>, Vec<&str>) = turns.iter().copied().unzip();
            let fields = [Series::new("from".into(), names), Series::new("value".into(), values)];
            StructChunked::from_series("turn".into(), turns.len(), fields.iter()).unwrap().into_series()
        })
        .collect();
    let ids = &["a", "b"][from..to];
    let columns: Vec<Column> = vec![
        Series::new("id".into(), ids).into_column(),
        Series::new("score".into(), vec![0.5_f32; to - from]).into_column(),
        Series::new("conversations".into(), lists).into_column(),
    ];
    let mut frame = DataFrame::new(to - from, columns).unwrap();
    ParquetWriter::new(std::fs::File::create(path).unwrap()).finish(&mut frame).unwrap();
}

#[test]
fn every_format_gives_the_same_chats() {
    let folder = tempfile::tempdir().unwrap();
    let lines = format!("{}\n{}\n", CHATS[0], CHATS[1]);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(lines.as_bytes()).unwrap();
    let list = format!("[\n{},\n{}]\n", CHATS[0], CHATS[1]);
    let parquet_path = folder.path().join("a.parquet");
    parquet(&parquet_path, 0, 2);
    let files = [
        (write(&folder, "a.jsonl", &lines), sha256(&lines)),
        (write(&folder, "a.jsonl.gz", gzip.finish().unwrap()), sha256(&lines)),
        (write(&folder, "a.jsonl.zst", zstd::encode_all(lines.as_bytes(), 1).unwrap()), sha256(&lines)),
        (write(&folder, "a.json", &list), sha256(&list)),
        (write(&folder, "lines.json", &lines), sha256(&lines)),
        (parquet_path.clone(), sha256(std::fs::read(&parquet_path).unwrap())),
    ];
    for (path, hash) in files {
        let loaded = load(&path, Shape::Chat, &Selection::default()).unwrap();
        assert_eq!(ids(&loaded), ["a", "b"], "{}", path.display());
        assert_eq!(loaded.rows[0].chat.len(), 3);
        assert_eq!((loaded.rows[0].chat[1].role.as_str(), loaded.rows[0].chat[1].content.as_str()), ("user", " Hi "));
        assert_eq!(loaded.fingerprint.sha256, hash, "{}", path.display());
        let one = load(&path, Shape::Chat, &Selection::first(Some(1))).unwrap();
        assert_eq!((ids(&one), one.fingerprint.rows, one.fingerprint.limit), (vec!["a"], 1, Some(1)));
    }
}

#[test]
fn shards_are_read_in_order_with_a_hash_each() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    parquet(&folder.path().join("data/train-00000-of-00002.parquet"), 0, 1);
    parquet(&folder.path().join("data/train-00001-of-00002.parquet"), 1, 2);
    parquet(&folder.path().join("data/test-00000-of-00001.parquet"), 0, 2);
    let place = Place { path: folder.path().into(), usual_split: Some("train"), ..Place::default() };
    let input = Input::locate(&place).unwrap();
    let loaded = load_chats(&input, Shape::OpenHermes, &Selection::default(), None).unwrap();
    assert_eq!(ids(&loaded), ["a", "b"]);
    assert_eq!(loaded.rows[1].place, "train-00001-of-00002.parquet:1");
    let files = &loaded.fingerprint.files;
    assert_eq!(files.iter().map(|file| file.rows).collect::<Vec<_>>(), [1, 1]);
    let lines: String = files.iter().map(|file| format!("{}\n", file.sha256)).collect();
    assert_eq!(loaded.fingerprint.sha256, sha256(lines));
    let first = load_chats(&input, Shape::Chat, &Selection::first(Some(1)), None).unwrap();
    assert_eq!((ids(&first), first.fingerprint.files.len()), (vec!["a"], 0), "the second shard isn't opened");
}

#[test]
fn openhermes_loses_the_system_and_the_users_outer_spaces() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = load(&write(&folder, "a.jsonl", CHATS[0]), Shape::OpenHermes, &Selection::default()).unwrap();
    let turns: Vec<(&str, &str)> =
        loaded.rows[0].chat.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect();
    assert_eq!(turns, [("user", "Hi"), ("assistant", "Hello ")]);
}

/// An empty message of the system is dropped like any other; only where it is read it makes a row bad.
#[test]
fn an_empty_system_message_does_not_make_a_row_of_openhermes_bad() {
    let folder = tempfile::tempdir().unwrap();
    let row = |system: &str| {
        format!(
            r#"{{"id":"a","conversations":[{{"from":"system","value":{system}}},{{"from":"human","value":"Hi"}},{{"from":"gpt","value":"Ho"}}]}}"#
        )
    };
    let path = write(&folder, "a.jsonl", format!("{}\n{}\n", row("\"\""), row("null")));
    let loaded = load(&path, Shape::OpenHermes, &Selection::default()).unwrap();
    assert_eq!((loaded.rows.len(), loaded.rows[0].chat.len(), loaded.fingerprint.bad.count), (2, 2, 0));
    let error = load(&path, Shape::Chat, &Selection::default()).unwrap_err().to_string();
    assert!(error.contains("conversations[0].value"), "{error}");
}

/// Files of one name in two folders: a row's place is what tells it from others.
#[test]
fn places_tell_files_of_one_name_apart() {
    let folder = tempfile::tempdir().unwrap();
    for language in ["de", "fr"] {
        std::fs::create_dir_all(folder.path().join("data").join(language)).unwrap();
        write(&folder, &format!("data/{language}/train.jsonl"), "{\"prompt\":\"Hi\",\"response\":\"Ho\"}\n");
    }
    let input = Input::locate(&Place { path: folder.path().into(), ..Place::default() }).unwrap();
    let loaded = load_chats(&input, Shape::Chat, &Selection::default(), None).unwrap();
    // The folder that all share says nothing, and a row without an id is called by its place.
    assert_eq!(ids(&loaded), ["de/train.jsonl:1", "fr/train.jsonl:1"]);
    assert_eq!(loaded.rows[1].place, "fr/train.jsonl:1");
}

#[test]
fn a_ragged_record_is_one_bad_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, "a.csv", b"prompt,response\nHi,Ho\none value\na,b,c\n\xff,x\nBye,Then\n");
    let loaded = load(&path, Shape::Chat, &Selection::default()).unwrap();
    assert_eq!(ids(&loaded), ["a.csv:1", "a.csv:5"]);
    let bad = &loaded.fingerprint.bad;
    assert_eq!(bad.count, 3);
    for (listed, words) in
        bad.listed.iter().zip([["a.csv:2:", "1 field"], ["a.csv:3:", "3 field"], ["a.csv:4:", "UTF-8"]])
    {
        assert!(words.iter().all(|word| listed.contains(word)), "{listed}");
    }
    // The limit counts rows, good or bad.
    let first = load(&path, Shape::Chat, &Selection::first(Some(2))).unwrap();
    assert_eq!((first.rows.len(), first.fingerprint.bad.count), (1, 1));
}

#[test]
fn every_row_is_used_left_out_or_bad() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{}\nno json\n[1]\n\n{}\n{}\n{}\n", CHATS[0], CHATS[1], CHATS[2], CHATS[3]);
    let path = write(&folder, "a.jsonl", text);
    let most = Selection { max_turns: Some(2), ..Selection::default() };
    let loaded = load(&path, Shape::Chat, &most).unwrap();
    let Fingerprint { rows, left_out, bad, filter, .. } = &loaded.fingerprint;
    assert_eq!((*rows, left_out["max_turns"], bad.count), (2, 1, 3), "of 6");
    assert_eq!(filter.as_deref(), Some("max_turns = 2"));
    for (listed, words) in bad.listed.iter().zip([
        ["a.jsonl:2:", "not one JSON object"],
        ["a.jsonl:3:", "not one"],
        ["a.jsonl:6:", "assistant's"],
    ]) {
        assert!(words.iter().all(|word| listed.contains(word)), "{listed}");
    }
    let as_json = serde_json::to_value(&loaded.fingerprint).unwrap();
    assert_eq!(as_json["bad"]["count"], 3);
    assert!(as_json.get("revision").is_none() && as_json.get("files").is_none());
}

#[test]
fn column_filters_come_before_the_row_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, "a.jsonl", CHATS.join("\n"));
    let select = |selection: Selection| load(&path, Shape::Chat, &selection);
    let equal = select(Selection { equal: columns("source", &["poems", "codes"]), ..Selection::default() }).unwrap();
    assert_eq!(ids(&equal), ["a", "d"]);
    assert_eq!((equal.fingerprint.left_out["equal"], equal.fingerprint.bad.count), (2, 0), "the bad row isn't wanted");
    let contain = select(Selection { contain: columns("source", &["code"]), ..Selection::default() }).unwrap();
    assert_eq!((ids(&contain), contain.fingerprint.bad.count), (vec!["b", "d"], 1));
    let typo = select(Selection { equal: columns("sorce", &["code"]), ..Selection::default() }).unwrap_err();
    for word in ["`equal`", "`sorce`", "id, source, conversations"] {
        assert!(typo.to_string().contains(word), "{typo}");
    }
    let none = select(Selection { equal: columns("source", &["nothing"]), ..Selection::default() }).unwrap_err();
    assert!(none.to_string().contains("none of 4 rows can be used: 0 bad, 4 left out"), "{none}");
}

#[test]
fn a_ratio_draws_by_its_seed_and_take_cuts_what_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<String> = (0..40).map(|id| format!(r#"{{"id":{id},"prompt":"p","response":"r"}}"#)).collect();
    let path = write(&folder, "a.jsonl", rows.join("\n"));
    let drawn = |seed, take| {
        let selection = Selection { ratio: Some(0.25), seed, take, ..Selection::default() };
        load(&path, Shape::Chat, &selection).unwrap()
    };
    let (one, other) = (drawn(1, None), drawn(2, None));
    assert_eq!((one.rows.len(), one.fingerprint.left_out["ratio"]), (10, 30));
    assert_eq!(one, drawn(1, None));
    assert_ne!(ids(&one), ids(&other));
    let places: Vec<usize> = ids(&one).iter().map(|id| id.parse().unwrap()).collect();
    assert!(places.is_sorted());
    let three = drawn(1, Some(3));
    assert_eq!((ids(&three), three.fingerprint.left_out["take"]), (ids(&one)[..3].to_vec(), 7));
}

#[test]
fn published_question_and_answer_shapes_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, Shape<'_>, &str, &str); 4] = [
        (
            r#"{"question":"Q?","choices":["x","y"],"answer":1}"#,
            Shape::Questions(&put),
            "Question: Q?\n\nChoices:\nA. x\nB. y",
            "The correct answer is B.",
        ),
        (
            r#"{"id":"1","question_stem":"Q?","choices":{"text":["x","y"],"label":["A","B"]},"answerKey":"A"}"#,
            Shape::Questions(&put),
            "Question: Q?\n\nChoices:\nA. x\nB. y",
            "The correct answer is A.",
        ),
        (r#"{"question":"Q?","chain_of_thoughts":"So B."}"#, Shape::ChainOfThought, "Q?", "So B."),
        (r#"{"id":3,"input_text":" Q?\n","model_response":"B.","is_finished":true}"#, Shape::Generated, "Q?", "B."),
    ];
    for (text, shape, user, assistant) in cases {
        let loaded = load(&write(&folder, "a.jsonl", text), shape, &Selection::default()).unwrap();
        let chat = &loaded.rows[0].chat;
        assert_eq!((chat[0].content.as_str(), chat[1].content.as_str()), (user, assistant), "{text}");
    }
}

#[test]
fn longbench_rows_get_their_tasks_prompt_and_only_the_training_part() {
    let folder = tempfile::tempdir().unwrap();
    let row = |id: &str, dataset: &str| {
        format!(r#"{{"_id":"{id}","dataset":"{dataset}","context":"C","input":"Q","answers":["yes","no"]}}"#)
    };
    // SHA-256 of "abc" leaves 1 when divided by 4: a row for the test.
    let path = write(&folder, "a.jsonl", [row("abc", "qmsum"), row("hello", "trec_e"), row("a", "other")].join("\n"));
    let load =
        |part| load(&path, Shape::LongBench(LongBench { part, cut_middle: None }), &Selection::default()).unwrap();
    let train = load(Part::Train);
    assert_eq!(ids(&train), ["hello"]);
    assert!(train.rows[0].chat[0].content.ends_with("Here are some examples of questions.\n\nC\nQ"), "{train:?}");
    assert_eq!(train.rows[0].chat[1].content, "yes");
    assert_eq!(train.fingerprint.left_out["split"], 1);
    assert!(train.fingerprint.bad.listed[0].contains("a task of LongBench"), "{:?}", train.fingerprint.bad);
    assert_eq!(ids(&load(Part::Test)), ["abc"]);
    assert_eq!(load(Part::All).rows.len(), 2);
}

#[test]
fn broken_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &[u8], &str); 5] = [
        ("b.parquet", b"{}", "not a Parquet file"),
        ("a.parquet", b"PAR1 and nothing else", "not a Parquet file"),
        ("a.json", br#"[{"prompt":"p","response":"r"}, {"prompt": "#, "JSON list"),
        ("b.json", br#"[{"prompt":"p","response":"r"}] more"#, "JSON list"),
        ("a.jsonl.zst", &[0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3], "cannot read"),
    ];
    for (name, bytes, words) in cases {
        let error = load(&write(&folder, name, bytes), Shape::Chat, &Selection::default()).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(name), "{error}");
    }
    let element = write(&folder, "c.json", r#"[7, {"prompt":"p","response":"r"}]"#);
    let loaded = load(&element, Shape::Chat, &Selection::default()).unwrap();
    assert_eq!((loaded.rows.len(), loaded.fingerprint.bad.count), (1, 1));
    let list_of_nothing = write(&folder, "d.json", "[]");
    assert!(matches!(load(&list_of_nothing, Shape::Chat, &Selection::default()), Err(DataError::Empty { .. })));
}

#[test]
fn a_data_set_that_is_not_there_comes_with_the_command_that_fetches_it() {
    let place = Place {
        written: "nobody/nothing-2.5",
        path: "/no/nobody/nothing-2.5".into(),
        revision: Some("abc"),
        ..Place::default()
    };
    let error = Input::locate(&place).unwrap_err().to_string();
    assert!(error.contains("c2c download datasets/nobody/nothing-2.5@abc`"), "{error}");
    let file = Place { written: "rows/none.jsonl", path: "/no/rows/none.jsonl".into(), ..Place::default() };
    let error = Input::locate(&file).unwrap_err().to_string();
    assert!(error.contains("/no/rows/none.jsonl") && !error.contains("c2c download"), "{error}");
}
