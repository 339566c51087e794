//! Tokens chosen where the logits are, on the device under test, against the distributions of the host.

use burn::tensor::{DType, Tensor, TensorData};
use c2c_lm::{BadLogits, Sampler, SamplingCompat, SamplingParams};
use c2c_tests::{B, computes_bf16, device};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// How far a number may lie from the border between two tokens for either of them to be right.
const BORDER: f64 = 1e-5;
/// Relative distance of a top-p at which either cut is right.
const CUT: f64 = 1e-6;

/// A row of logits and what was seen before.
#[derive(Clone, Debug)]
struct Row {
    logits: Vec<f32>,
    seen: Vec<u32>,
}

/// As [`Row::probabilities`] for top-p a little lower, as it is, and a little higher.
fn distributions(params: &SamplingParams, row: &Row) -> Vec<Vec<f64>> {
    let mut logits = row.logits.clone();
    params.adjust(&mut logits, &row.seen);
    let cuts = if params.top_p < 1.0 { vec![1.0 - CUT, 1.0, 1.0 + CUT] } else { vec![1.0] };
    let of = |cut: f64| {
        let params = SamplingParams { top_p: params.top_p * cut, ..params.clone() };
        params.probabilities(&logits).into_iter().map(f64::from).collect()
    };
    cuts.into_iter().map(of).collect()
}

/// True if the id lies at this number of the distribution, in the order of ids.
fn lies_at(probs: &[f64], id: u32, drawn: f32) -> bool {
    let before: f64 = probs[..id as usize].iter().sum();
    let p = probs[id as usize];
    let drawn = f64::from(drawn);
    p > 0.0 && before - BORDER <= drawn && drawn <= before + p + BORDER
}

fn tensor(rows: &[Row], dtype: DType) -> Tensor<B, 3> {
    let flat: Vec<f32> = rows.iter().flat_map(|row| row.logits.iter().copied()).collect();
    let shape = [rows.len(), 1, rows[0].logits.len()];
    Tensor::<B, 3>::from_data(TensorData::new(flat, shape), &device()).cast(dtype)
}

fn seen(rows: &[Row]) -> Vec<Vec<u32>> {
    rows.iter().map(|row| row.seen.clone()).collect()
}

/// What the device chooses of each row by its number.
fn choose(params: &SamplingParams, rows: &[Row], drawn: &[f32], dtype: DType) -> Vec<Result<u32, BadLogits>> {
    let mut sampler = Sampler::<B>::new(params, &seen(rows), rows[0].logits.len(), &device());
    let going: Vec<(usize, f32)> = drawn.iter().copied().enumerate().collect();
    sampler.choose(tensor(rows, dtype), &going).unwrap()
}

/// Rows of many kinds, and numbers to draw them by: the ends of the range, and seeded ones.
fn rows(vocab: usize, count: usize, rng: &mut ChaCha8Rng) -> (Vec<Row>, Vec<f32>) {
    let row = |kind: usize, rng: &mut ChaCha8Rng| {
        // The sum of twelve uniform numbers is close to a normal one.
        let mut normal = || (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0;
        let mut logits: Vec<f32> = match kind % 5 {
            // A model's: a wide body and a few tokens far above it.
            0 => (0..vocab).map(|id| 3.0 * normal() + if id % 97 == 5 { 14.0 } else { 0.0 }).collect(),
            1 => vec![0.75; vocab],
            // Few values, so that every cut goes through ties.
            2 => (0..vocab).map(|_| normal().round()).collect(),
            3 => (0..vocab).map(|_| normal()).collect(),
            // All below 0, and almost all the mass in one.
            _ => (0..vocab).map(|id| -40.0 + normal() + if id == vocab / 2 { 12.0 } else { 0.0 }).collect(),
        };
        if kind % 2 == 1 {
            logits[vocab - 1] = f32::NEG_INFINITY;
        }
        if vocab == 1 {
            logits[0] = -2.5;
        }
        let seen = (0..kind * 3).map(|_| rng.random_range(0..vocab as u32).min(7 * kind as u32)).collect();
        Row { logits, seen }
    };
    let rows = (0..count).map(|kind| row(kind, rng)).collect();
    let drawn = |i: usize| match i {
        0 => 0.0,
        1 => 1.0 - f32::EPSILON / 2.0,
        _ => rng.random(),
    };
    (rows, (0..count).map(drawn).collect())
}

fn parameters() -> Vec<SamplingParams> {
    let sampled = SamplingParams { do_sample: true, ..Default::default() };
    let penalised =
        SamplingParams { presence_penalty: 0.5, frequency_penalty: 0.25, repetition_penalty: 1.3, ..sampled.clone() };
    let mut all = vec![
        SamplingParams::default(),
        SamplingParams { do_sample: false, ..penalised.clone() },
        SamplingParams { repetition_penalty: 0.7, presence_penalty: -1.0, ..Default::default() },
        SamplingParams { top_k: Some(50), top_p: 0.95, ..penalised.clone() },
        SamplingParams { temperature: 0.7, top_k: Some(20), top_p: 0.8, ..sampled.clone() },
        penalised,
    ];
    all.extend(
        [1e-6, 1.1e-5, 1e-3, 0.3, 1.0, 5.0].map(|temperature| SamplingParams { temperature, ..sampled.clone() }),
    );
    all.extend([1, 2, 5, 40, 999_999, usize::MAX].map(|k| SamplingParams { top_k: Some(k), ..sampled.clone() }));
    for compat in [SamplingCompat::Standard, SamplingCompat::Reference] {
        let cut = |top_p, temperature, top_k| SamplingParams { top_p, temperature, top_k, compat, ..sampled.clone() };
        all.extend([cut(1e-9, 1.0, None), cut(0.3, 1.0, None), cut(0.9, 1.0, None), cut(0.999, 2.0, None)]);
        all.push(cut(0.5, 1.5, Some(10)));
    }
    all
}

fn check(vocab: usize, count: usize, parameters: &[SamplingParams]) {
    let mut rng = ChaCha8Rng::seed_from_u64(11 + vocab as u64);
    let (rows, drawn) = rows(vocab, count, &mut rng);
    for dtype in [DType::F32, DType::BF16] {
        if dtype == DType::BF16 && !computes_bf16() {
            continue;
        }
        // What the device was given, rounded to its dtype.
        let given: Vec<f32> = tensor(&rows, dtype).cast(DType::F32).into_data().to_vec().unwrap();
        let given: Vec<Row> = given
            .chunks(vocab)
            .zip(&rows)
            .map(|(logits, row)| Row { logits: logits.to_vec(), seen: row.seen.clone() })
            .collect();
        for params in parameters {
            params.validate().unwrap();
            let chosen = choose(params, &rows, &drawn, dtype);
            assert_eq!(chosen, choose(params, &rows, &drawn, dtype), "{params:?}: not the same twice");
            for (place, (row, chosen)) in given.iter().zip(chosen).enumerate() {
                let number = drawn[place];
                let host = params.choose_by(row.logits.clone(), &row.seen, number);
                let name = format!("{vocab} tokens, {dtype:?}, row {place}, drawn {number}, {params:?}");
                let (Ok(chosen), Ok(host)) = (chosen, host) else {
                    assert_eq!(chosen, host, "{name}");
                    continue;
                };
                let close = |id: u32| distributions(params, row).iter().any(|probs| lies_at(probs, id, number));
                if params.draws() {
                    assert!(close(host), "{name}: {host} isn't what the host's distribution has there");
                    assert!(chosen == host || close(chosen), "{name}: found {chosen}, expected {host}");
                } else {
                    assert_eq!(chosen, host, "{name}");
                }
            }
        }
    }
}

#[test]
fn the_device_chooses_as_the_host_from_small_vocabularies() {
    for vocab in [1, 7, 1000, 1030] {
        check(vocab, 20, &parameters());
    }
}

#[test]
fn the_device_chooses_as_the_host_from_a_large_vocabulary() {
    check(151_936, 5, &parameters());
}

/// Counts on the device go on from step to step, and with their rows when others leave.
#[test]
fn what_was_chosen_counts_as_seen() {
    let vocab = 60;
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (mut rows, _) = rows(vocab, 6, &mut rng);
    let params = SamplingParams {
        do_sample: true,
        temperature: 0.8,
        frequency_penalty: 0.9,
        repetition_penalty: 1.1,
        top_p: 0.97,
        ..Default::default()
    };
    let mut sampler = Sampler::<B>::new(&params, &seen(&rows), vocab, &device());
    let mut repeated = 0;
    for step in 0..40 {
        if step == 12 || step == 25 {
            let kept: &[usize] = if step == 12 { &[1, 2, 5] } else { &[2, 0] };
            sampler.select_rows(kept);
            rows = kept.iter().map(|place| rows[*place].clone()).collect();
        }
        // One row is over and waits to be taken out.
        let going: Vec<(usize, f32)> =
            (0..rows.len()).filter(|place| step < 6 || *place != 4).map(|place| (place, rng.random())).collect();
        let chosen = sampler.choose(tensor(&rows, DType::F32), &going).unwrap();
        assert_eq!(chosen.len(), going.len());
        for ((place, number), chosen) in going.into_iter().zip(chosen) {
            let row = &mut rows[place];
            let id = params.choose_by(row.logits.clone(), &row.seen, number).unwrap();
            assert_eq!(chosen, Ok(id), "step {step}, row {place}, seen {:?}", row.seen);
            let unpenalised = SamplingParams { frequency_penalty: 0.0, repetition_penalty: 1.0, ..params.clone() };
            repeated += usize::from(unpenalised.choose_by(row.logits.clone(), &[], number) != Ok(id));
            row.seen.push(id);
        }
    }
    assert!(repeated > 20, "only {repeated} choices depend on what was seen");
}

#[test]
fn logits_that_are_no_distribution_choose_nothing() {
    let infinite = f32::INFINITY;
    let bad = [
        vec![0.0, 1.0, -1.0, 0.5, 2.0],
        vec![0.0, f32::NAN, infinite, 0.5, 2.0],
        vec![-infinite; 5],
        vec![0.0, infinite, -1.0, infinite, f32::MAX],
        vec![-infinite, -infinite, -3.0, -infinite, -infinite],
        vec![0.0, 1.0, -1.0, 0.5, -f32::NAN],
    ];
    let rows: Vec<Row> = bad.map(|logits| Row { logits, seen: vec![0] }).to_vec();
    let greedy = [Ok(4), Err(BadLogits::Nan), Err(BadLogits::Nothing), Ok(1), Ok(2), Err(BadLogits::Nan)];
    let mut drawn = greedy;
    drawn[3] = Err(BadLogits::Infinite);
    let sampled = SamplingParams { do_sample: true, ..Default::default() };
    let penalised = SamplingParams { presence_penalty: 0.1, ..Default::default() };
    let cut = SamplingParams { top_k: Some(1), presence_penalty: 0.1, ..sampled.clone() };
    for dtype in [DType::F32, DType::BF16] {
        if dtype == DType::BF16 && !computes_bf16() {
            continue;
        }
        assert_eq!(choose(&SamplingParams::default(), &rows, &[0.0; 6], dtype), greedy);
        assert_eq!(choose(&penalised, &rows, &[0.0; 6], dtype), greedy);
        assert_eq!(choose(&sampled, &rows, &[0.99; 6], dtype), drawn);
        assert_eq!(choose(&cut, &rows, &[0.5; 6], dtype), drawn);
        // What a row that has ended makes of its padding is nobody's error.
        let going = [(4, 0.5), (0, 0.999)];
        let chosen = Sampler::<B>::new(&sampled, &[], 5, &device()).choose(tensor(&rows, dtype), &going).unwrap();
        assert_eq!(chosen, [Ok(2), Ok(4)]);
    }
}

/// Pearson's statistic, and its degrees of freedom.
fn chi_square(counts: &[f64], probs: &[f64]) -> (f64, f64) {
    let draws: f64 = counts.iter().sum();
    let terms: Vec<f64> = (counts.iter().zip(probs))
        .filter(|(_, p)| **p > 0.0)
        .map(|(count, p)| (count - draws * p).powi(2) / (draws * p))
        .collect();
    (terms.iter().sum(), terms.len() as f64 - 1.0)
}

/// The value that chi-square passes once in a thousand times (Wilson and Hilferty, 1931).
fn rare(degrees: f64) -> f64 {
    let part = 2.0 / (9.0 * degrees);
    degrees * (1.0 - part + 3.0902 * part.sqrt()).powi(3)
}

#[test]
fn draws_follow_the_distribution_by_chi_square() {
    let (vocab, batch, batches) = (300, 1000, 20);
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    let logits: Vec<f32> = (0..vocab).map(|_| 6.0 * (rng.random::<f32>() + rng.random::<f32>())).collect();
    let row = Row { logits, seen: Vec::new() };
    let params =
        SamplingParams { do_sample: true, temperature: 1.4, top_k: Some(80), top_p: 0.9, ..Default::default() };
    let rows = vec![row.clone(); batch];
    let mut counts = vec![0.0; vocab];
    for _ in 0..batches {
        let drawn: Vec<f32> = (0..batch).map(|_| rng.random()).collect();
        for id in choose(&params, &rows, &drawn, DType::F32) {
            counts[id.unwrap() as usize] += 1.0;
        }
    }
    let probs = |params: &SamplingParams| distributions(params, &row).swap_remove(1);
    let expected = probs(&params);
    assert!(counts.iter().zip(&expected).all(|(count, p)| *count == 0.0 || *p > 0.0), "a token that is cut off");
    let (found, degrees) = chi_square(&counts, &expected);
    assert!(degrees > 30.0 && found < rare(degrees), "{found:.1} at {degrees} degrees of freedom");
    // It tells a temperature from another.
    let other = SamplingParams { temperature: 1.6, top_p: 1.0, ..params };
    let other: Vec<f64> =
        distributions(&other, &row)[0].iter().zip(&expected).map(|(q, p)| if *p > 0.0 { *q } else { 0.0 }).collect();
    let all: f64 = other.iter().sum();
    let (found, degrees) = chi_square(&counts, &other.iter().map(|q| q / all).collect::<Vec<_>>());
    assert!(found > rare(degrees), "{found:.1} at {degrees} degrees of freedom, for another temperature");
}
