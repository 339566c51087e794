//! What is planted comes out, to the last digit; what is shuffled becomes chance.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use c2c_eval::stats::{Accuracy, wilson_interval};
use c2c_eval::{Asked, Evaluation, Record};
use c2c_recipe::Method;
use c2c_report::{Cell, Options, Report, Table, find_runs, verify};
use common::{LETTERS, asked, planted, write_run};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;

const METHODS: [Method; 3] = [Method::Receiver, Method::Sharer, Method::C2c];

fn report(dir: &std::path::Path) -> Report {
    Report::new(&find_runs(&[dir.to_owned()]).unwrap(), &Options::default()).unwrap()
}

fn table(report: &Report, name: &str) -> Table {
    report.full_tables().into_iter().find(|table| table.name == name).unwrap()
}

/// The cells of a column, of the rows whose `key` is `value`.
fn cells(table: &Table, key: &str, value: &str, column: &str) -> Vec<Cell> {
    let place = |name: &str| table.columns.iter().position(|column| column.name == name).unwrap();
    let (key, column) = (place(key), place(column));
    table.rows.iter().filter(|row| row[key] == Cell::from(value)).map(|row| row[column].clone()).collect()
}

#[test]
fn planted_accuracies_come_out_exactly() {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), planted(500, [120, 450, 371]), &asked(&METHODS, &[]));
    assert!(verify(dir.path()).unwrap().is_good());
    let report = report(dir.path());
    let by_method = Report::new(
        &find_runs(&[dir.path().to_owned()]).unwrap(),
        &Options { by: c2c_report::By::Method, ..Options::default() },
    )
    .unwrap();
    let accuracy = table(&by_method, "accuracy_by_method");
    for (method, right, ms) in [("receiver", 120usize, 1.0), ("sharer", 450, 2.0), ("c2c", 371, 4.0)] {
        let (low, high) = wilson_interval(right, 500);
        let expected = [("n", Cell::from(500usize)), ("correct", right.into()), ("failed", 0usize.into())];
        let numbers = [("accuracy", right as f64 / 500.0), ("low", low), ("high", high), ("ms", ms)];
        for (column, cell) in expected.into_iter().chain(numbers.map(|(name, number)| (name, Cell::from(number)))) {
            assert_eq!(cells(&accuracy, "method", method, column), [cell], "{method} {column}");
        }
    }
    // Every other question is of each benchmark, and the first 120 and 371 are right.
    let by_benchmark = table(&report, "accuracy_by_benchmark");
    assert_eq!(cells(&by_benchmark, "method", "c2c", "correct"), [Cell::from(186usize), Cell::from(185usize)]);
    assert_eq!(cells(&by_benchmark, "benchmark", "stones", "n"), vec![Cell::from(250usize); 3]);

    // 186 and 185 of 250 each, side by side; the mean counts both alike.
    let overview = table(&report, "overview");
    let c2c = |column: &str| cells(&overview, "method", "c2c", column);
    assert_eq!((c2c("stones"), c2c("metals")), (vec![Cell::from(0.744)], vec![Cell::from(0.74)]));
    assert_eq!(c2c("mean_of_benchmarks"), [Cell::from(0.742)]);

    // C2C is right on the first 371, the receiver on the first 120, the sharer on the first 450.
    let overlap = table(&report, "overlap");
    let of = |column| cells(&overlap, "first", "c2c", column);
    assert_eq!(of("second"), [Cell::from("receiver"), Cell::from("sharer")]);
    assert_eq!(of("both"), [Cell::from(120usize), Cell::from(371usize)]);
    assert_eq!(of("only_first"), [Cell::from(251usize), Cell::from(0usize)]);
    assert_eq!(of("only_second"), [Cell::from(0usize), Cell::from(79usize)]);
    assert_eq!(of("neither"), [Cell::from(129usize), Cell::from(50usize)]);
    assert_eq!(of("either"), [Cell::from(371.0 / 500.0), Cell::from(450.0 / 500.0)]);
    let differences = table(&report, "differences");
    let points = cells(&differences, "first", "c2c", "points");
    assert_eq!(points, [Cell::from(251.0 / 500.0), Cell::from(-79.0 / 500.0)]);

    // Gold letters come in turn; a wrong answer is the next letter.
    let answers = table(&report, "answers");
    for letter in LETTERS {
        assert_eq!(cells(&answers, "method", "gold", &letter.to_string()), [Cell::from(125usize)]);
    }
    assert_eq!(cells(&answers, "method", "c2c", "none"), [Cell::from(0usize)]);

    let trade = table(&report, "accuracy_against_ms");
    assert_eq!(cells(&trade, "method", "receiver", "best"), [Cell::from("best")]);
    assert_eq!(cells(&trade, "method", "sharer", "best"), [Cell::from("best")]);
    assert_eq!(cells(&trade, "method", "c2c", "best"), [Cell::Nothing]);
}

/// Moves each question's gold letter to another question, the same way for every method.
fn shuffled(records: &[Record], seed: u64) -> Vec<Record> {
    let first = records[0].method;
    let mut gold: Vec<String> =
        records.iter().filter(|record| record.method == first).map(|record| record.gold.clone()).collect();
    gold.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let place = |index: usize| index % gold.len();
    let moved = |(index, record): (usize, &Record)| {
        let gold = gold[place(index)].clone();
        Record { correct: record.answer.as_ref() == Some(&gold), gold, ..record.clone() }
    };
    records.iter().enumerate().map(moved).collect()
}

#[test]
fn shuffled_gold_gives_chance_within_three_sigma() {
    let n = 2000;
    // The sharer knows nearly everything, the receiver little more than chance.
    let records = planted(n, [600, 1960, 1400]);
    for seed in 0..5 {
        let evaluation = Evaluation::of(shuffled(&records, seed), &METHODS, None).unwrap();
        for method in METHODS {
            // With answers fixed and gold permuted, a right answer has the chance that a drawn letter is the answer.
            let counts = |of: &dyn Fn(&Record) -> Option<String>, letter: char| {
                let own = evaluation.records.iter().filter(|record| record.method == method);
                own.filter(|record| of(record) == Some(letter.to_string())).count() as f64 / n as f64
            };
            let both = |l| counts(&|r| r.answer.clone(), l) * counts(&|r| Some(r.gold.clone()), l);
            let chance: f64 = LETTERS.map(both).iter().sum();
            let sigma = (chance * (1.0 - chance) / n as f64).sqrt();
            let Accuracy { accuracy, .. } = evaluation.result(method).unwrap().accuracy;
            assert!((accuracy - chance).abs() <= 3.0 * sigma, "{method}, seed {seed}: {accuracy} against {chance}");
        }
    }
}

/// Questions of C-Eval in subjects of different size, told in every average that there is of them.
#[test]
fn categories_are_averaged_over_questions_and_over_subjects() {
    let dir = tempfile::tempdir().unwrap();
    let subjects = ["logic", "law", "law", "law", "physician"];
    let mut records = planted(100, [0, 100, 40]);
    for (place, record) in records.iter_mut().enumerate() {
        (record.benchmark, record.subject) = ("ceval".into(), Some(subjects[place % 5].into()));
        // C2C knows all of law and nothing else.
        if record.method == Method::C2c {
            let right = record.subject.as_deref() == Some("law");
            let gold = record.gold.chars().next().unwrap();
            let answer = if right { gold } else { common::wrong(gold) };
            (record.answer, record.correct) = (Some(answer.to_string()), right);
            record.output = format!("The correct answer is {answer}.");
        }
    }
    write_run(dir.path(), records, &asked(&METHODS, &[]));
    assert!(verify(dir.path()).unwrap().is_good(), "{:?}", verify(dir.path()).unwrap().differences);
    let report = report(dir.path());
    let by_category = table(&report, "accuracy_by_category");
    let of = |column: &str| cells(&by_category, "method", "c2c", column);
    assert_eq!(of("category"), [Cell::from("humanities"), Cell::from("other")]);
    assert_eq!(of("subjects"), [Cell::from(2usize), Cell::from(1usize)]);
    // 60 of 80 questions; one of two subjects.
    assert_eq!(of("accuracy"), [Cell::from(0.75), Cell::from(0.0)]);
    assert_eq!(of("mean_of_subjects"), [Cell::from(0.5), Cell::from(0.0)]);
    let by_benchmark = table(&report, "accuracy_by_benchmark");
    let of = |column: &str| cells(&by_benchmark, "method", "c2c", column)[0].clone();
    assert_eq!((of("accuracy"), of("mean_of_subjects")), (Cell::from(0.6), Cell::from(1.0 / 3.0)));
    assert_eq!(of("mean_of_categories"), Cell::from(0.25));

    // The run's own summary says the same, and a forged one is caught.
    let path = dir.path().join("summary.json");
    let mut summary = common::read_json(&path);
    let told = &mut summary["benchmarks"]["ceval"]["c2c"];
    assert_eq!((&told["mean_of_categories"], &told["categories"][0]["category"]), (&0.25.into(), &"humanities".into()));
    assert_eq!(told["categories"][0]["mean_of_subjects"], 0.5);
    told["categories"][0]["mean_of_subjects"] = 0.75.into();
    common::write_json(&path, &summary);
    let verdict = verify(dir.path()).unwrap();
    assert_eq!(verdict.differences[0].field, "benchmarks.ceval.c2c.categories[0].mean_of_subjects");
    let files: Vec<&str> = verdict.differences.iter().map(|difference| difference.file.as_str()).collect();
    assert_eq!((files, verdict.differences[1].field.as_str()), (vec!["summary.json"; 2], "sha256"));
}

/// Figures of before there were categories are made again as they were.
#[test]
fn older_figures_without_categories_are_verified() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = planted(40, [10, 30, 20]);
    for (place, record) in records.iter_mut().enumerate() {
        (record.benchmark, record.subject) = ("ceval".into(), Some(["logic", "physician"][place % 2].into()));
    }
    write_run(dir.path(), records, &Asked { format: 1, ..asked(&METHODS, &[]) });
    let told = &common::read_json(&dir.path().join("summary.json"))["benchmarks"]["ceval"]["c2c"];
    assert!(told.get("categories").is_none() && told.get("mean_of_subjects").is_some(), "{told}");
    assert!(verify(dir.path()).unwrap().is_good());
    assert_eq!(table(&report(dir.path()), "accuracy_by_category").rows.len(), 6);
}

/// For readers runs are called as shortly as can be, and columns of nothing are left out; programs get all of it.
#[test]
fn readers_get_short_names_and_no_empty_columns() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["small-20261124T145220Z-f4804176", "large-20261124T145221Z-0123abcd"];
    for (name, right) in names.iter().zip([10, 20]) {
        write_run(&dir.path().join(name), planted(40, [10, 30, right]), &asked(&METHODS, &[]));
    }
    let report = report(dir.path());
    let text = report.text(None);
    assert!(text.contains("\n  large  c2c") && text.contains("\n  small  c2c"), "{text}");
    // The sharer writes nothing here.
    assert!(!text.contains("sharer decode ms") && text.contains("sharer prefill ms"), "{text}");
    let full = table(&report, "accuracy_by_benchmark");
    assert_eq!(full.rows[0][0], Cell::from(names[1]));
    assert!(full.columns.iter().any(|column| column.name == "sharer_decode_ms"));
    let runs = find_runs(&[dir.path().to_owned()]).unwrap();
    let based = Report::new(&runs, &Options { baseline: Some("small".into()), ..Options::default() }).unwrap();
    assert_eq!(based.baseline(), names[0]);
}

/// Runs read by a pool of rayon's own filled the stack: while one waited for Polars, its thread took up the next.
#[test]
fn hundreds_of_runs_are_read_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let runs = 400;
    let place = |run: usize| dir.path().join(format!("run-{run:03}"));
    for run in 0..9 {
        write_run(&place(run), planted(8, [2, 8, run]), &asked(&METHODS, &[]));
    }
    // Copies, as each file that is written is also waited for until the disk has it.
    for run in 9..runs {
        std::fs::create_dir_all(place(run).join("eval")).unwrap();
        for file in ["summary.json", "environment.json", "eval/records.parquet"] {
            std::fs::copy(place(run % 9).join(file), place(run).join(file)).unwrap();
        }
    }
    let report = report(dir.path());
    assert_eq!(table(&report, "runs").rows.len(), runs);
    assert_eq!(table(&report, "across_runs").rows.len(), (runs - 1) * METHODS.len());
    // In the order of their names, whichever thread was first.
    assert_eq!(cells(&table(&report, "overlap"), "run", "run-004", "both")[0], Cell::from(2usize));
    assert_eq!(cells(&table(&report, "overlap"), "run", "run-001", "both")[0], Cell::from(1usize));
    assert_eq!(table(&report, "runs").rows[399][0], Cell::from("run-399"));
}

/// A filter leaves nothing of a run: that is what was asked for, and no fault of the run.
#[test]
fn a_run_that_a_filter_leaves_nothing_of_is_not_broken() {
    let dir = tempfile::tempdir().unwrap();
    write_run(&dir.path().join("both"), planted(8, [2, 8, 4]), &asked(&METHODS, &[]));
    let mut alone = planted(8, [2, 8, 4]);
    alone.retain(|record| record.method == Method::Receiver);
    write_run(&dir.path().join("alone"), alone, &asked(&METHODS[..1], &[]));
    let filter = c2c_report::Filter { methods: vec!["c2c".to_owned()], ..Default::default() };
    let options = Options { filter, ..Options::default() };
    let report = Report::new(&find_runs(&[dir.path().to_owned()]).unwrap(), &options).unwrap();
    let notes = report.notes().join("\n");
    assert!(notes.contains("alone is in no table: none of its records passes the filters"), "{notes}");
    let nobody = c2c_report::Filter { methods: vec!["t2t".to_owned()], ..Default::default() };
    let options = Options { filter: nobody, ..Options::default() };
    let error = Report::new(&find_runs(&[dir.path().to_owned()]).unwrap(), &options).unwrap_err().to_string();
    assert!(error.contains("none of the 2 runs has a record that passes the filters"), "{error}");
    assert!(!notes.contains("BROKEN") && report.full_tables().iter().all(|table| table.name != "broken"), "{notes}");
}

/// Prompts of the stones grow question by question, replies about metals are short or long; C2C knows the first half of each.
#[test]
fn accuracy_by_length_is_of_the_same_questions_for_every_method() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = planted(160, [0, 160, 80]);
    for (place, record) in records.iter_mut().enumerate() {
        // Every other question is of each benchmark, so that C2C knows the first 40 of 80.
        let question = (place % 160 / 2) as u32;
        match record.benchmark.as_str() {
            "stones" => record.prompt_tokens = 100 + question,
            _ => record.output_tokens = if question < 40 { 3 } else { 9 },
        }
        if record.method != Method::C2c {
            // What others read and say is of no matter.
            (record.prompt_tokens, record.output_tokens) = (7 * question % 13, question);
        } else if record.benchmark == "metals" && question == 5 {
            (record.output, record.answer, record.rule, record.correct) = (String::new(), None, None, false);
            (record.error, record.finish, record.output_tokens) = (Some("too long".into()), None, 0);
        }
    }
    write_run(dir.path(), records, &asked(&METHODS, &[]));
    let runs = find_runs(&[dir.path().to_owned()]).unwrap();
    let by_length = Options { by: c2c_report::By::Length, ..Options::default() };
    let report = Report::new(&runs, &by_length).unwrap();
    let bins = table(&report, "accuracy_by_length");
    assert!(report.full_tables().iter().all(|table| table.name != "accuracy_by_benchmark"));

    let of = |benchmark: &str, method: &str, column: &str| {
        let place = |name: &str| bins.columns.iter().position(|column| column.name == name).unwrap();
        let wanted = |row: &&Vec<Cell>| {
            row[place("benchmark")] == Cell::from(benchmark) && row[place("method")] == Cell::from(method)
        };
        bins.rows.iter().filter(wanted).map(|row| row[place(column)].clone()).collect::<Vec<Cell>>()
    };
    // Four bins of the stones' prompts, whose replies are all alike.
    assert_eq!(of("stones", "c2c", "length"), vec![Cell::from("prompt"); 4]);
    assert_eq!(of("stones", "receiver", "length_of"), vec![Cell::from("c2c"); 4]);
    assert_eq!(of("stones", "sharer", "from"), [100usize, 120, 140, 160].map(Cell::from));
    assert_eq!(of("stones", "sharer", "to"), [119usize, 139, 159, 179].map(Cell::from));
    assert_eq!(of("stones", "c2c", "n"), vec![Cell::from(20usize); 4]);
    assert_eq!(of("stones", "c2c", "accuracy"), [1.0, 1.0, 0.0, 0.0].map(Cell::from));
    assert_eq!(of("stones", "c2c", "recovery"), [1.0, 1.0, 0.0, 0.0].map(Cell::from));
    assert_eq!(of("stones", "sharer", "recovery"), vec![Cell::Nothing; 4]);
    let (low, high) = wilson_interval(20, 20);
    assert_eq!((&of("stones", "sharer", "low")[0], &of("stones", "sharer", "high")[0]), (&low.into(), &high.into()));
    // Two of the metals' replies; the question that C2C didn't answer is in neither.
    assert_eq!(of("metals", "c2c", "length"), vec![Cell::from("reply"); 2]);
    assert_eq!(of("metals", "sharer", "n"), [39usize, 40].map(Cell::from));
    assert_eq!(of("metals", "c2c", "accuracy"), [1.0, 0.0].map(Cell::from));

    // Without C2C the first method's lengths count, and no share of a lead can be told.
    let filter = c2c_report::Filter { methods: vec!["receiver".into(), "sharer".into()], ..Default::default() };
    let report = Report::new(&runs, &Options { filter, ..by_length.clone() }).unwrap();
    let bins = table(&report, "accuracy_by_length");
    assert_eq!(cells(&bins, "method", "sharer", "length_of")[0], Cell::from("receiver"));
    assert!(cells(&bins, "method", "sharer", "recovery").iter().all(|cell| *cell == Cell::Nothing));
    let filter = c2c_report::Filter { subjects: vec!["subject 0".into()], ..Default::default() };
    let report = Report::new(&runs, &Options { filter, ..by_length }).unwrap();
    assert!(report.full_tables().iter().all(|table| table.name != "accuracy_by_length"));
    let notes = report.notes().join("\n");
    assert!(notes.contains("has no accuracy by length") && notes.contains("40 answered questions"), "{notes}");
}
