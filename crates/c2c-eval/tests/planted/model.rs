//! A model whose reply is planted in its weights, asked through the whole engine: prompts are put and read, tokens decoded
//! one by one, replies scored, records written to Parquet and read again.
//!
//! Its layers add nothing, so the next token depends on the last one alone, and its head knows one reply: from whatever a
//! prompt ends in to the reply's first token, from each token to the next, from the last to the end. So its accuracy is the
//! share of questions of which that reply is the right answer, which is known by construction.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use burn::{Dispatch, DispatchDevice};
use c2c_data::prompts::PromptFormat;
use c2c_data::{ANSWER_CUE, Framing, Question, Task, letter};
use c2c_eval::extract::Compat;
use c2c_eval::{
    Baselines, BenchmarkQuestion, EvalModels, EvalPair, EvalSettings, Evaluation, evaluate, load_questions,
    read_records,
};
use c2c_lm::{Finish, Lm, LmConfig, init_random};
use c2c_recipe::{AnswerMode, DataKind, DataSource, Method, PromptFormat as RecipePrompt, SourceOptions};
use c2c_text::{Message, PairText, PreTok, TokenMode, Tokenizer, train_bpe};
use serde_json::{Value, json};

use super::{CHOICES, row};

const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
const CHATML_CONFIG: &str = r#"{"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}"#;
const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// Room for a state a token of the reply.
const HIDDEN: usize = 64;
/// Questions of a benchmark, and how many of them the reply answers rightly.
const N: usize = 40;
const RIGHT: usize = 17;

/// The rows of a matrix that aren't 0: a token, the place of its one number, and that number.
type Rows = Vec<(u32, usize, f32)>;

/// Writes embedding and head, and makes every other matrix add nothing.
struct Planter {
    embedding: Rows,
    head: Rows,
    field: Vec<String>,
}

impl ModuleMapper<Dispatch> for Planter {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.field.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.field.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<Dispatch, D>>) -> Param<Tensor<Dispatch, D>> {
        if D != 2 {
            return param;
        }
        let none = Rows::new();
        let rows = match self.field.first().map(String::as_str) {
            Some("embedding") => &self.embedding,
            Some("head") => &self.head,
            _ => &none,
        };
        param.map(|matrix| {
            let shape = matrix.shape();
            let columns = shape.dims::<D>()[D - 1];
            let mut values = vec![0.0f32; shape.num_elements()];
            for (token, place, value) in rows {
                values[*token as usize * columns + place] = *value;
            }
            Tensor::from_data(TensorData::new(values, shape), &matrix.device())
        })
    }
}

/// A model that says `reply` behind every prompt of these questions, and what it reads with.
fn planted(reply: &str, questions: &[Question]) -> (Lm<Dispatch>, PairText) {
    // The reply's words are worth tokens of their own, so that none comes twice, and so are letters, which logits tell apart.
    let letters = (0..10).map(|index| format!("{ANSWER_CUE} {}.", letter(index)));
    let corpus: Vec<String> = letters.chain(vec![reply.to_owned(); 50]).collect();
    let bytes = train_bpe(&corpus, 400, &SPECIAL, PreTok::Qwen).unwrap();
    let tokenizer = std::sync::Arc::new(Tokenizer::from_parts(&bytes, Some(CHATML_CONFIG), Some(CHATML)).unwrap());
    let ids = |text: &str| tokenizer.encode(text).unwrap().ids;
    let last = |question: &Question| {
        let (text, bare) = match &question.task {
            Task::Choice { .. } => ("?", false),
            Task::Free(free) => (free.prompt.as_str(), free.framing == Framing::Bare),
        };
        let chat = || tokenizer.render_chat(&[Message::user(text)], true).unwrap();
        *ids(&if bare { text.to_owned() } else { chat() }).last().unwrap()
    };
    let mut ends: Vec<u32> = questions.iter().map(last).collect();
    ends.sort_unstable();
    ends.dedup();
    let mut said = ids(reply);
    said.push(tokenizer.eos_id().unwrap());
    let mut once = [ends.clone(), said.clone()].concat();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), ends.len() + said.len(), "a token of {reply:?} comes twice: {said:?}, {ends:?}");

    // State 0 is a prompt's end, state n the reply's n-th token; anything else is the last state, in which nothing is said.
    let others = (0..tokenizer.vocab_size() as u32).filter(|id| !once.contains(id)).map(|id| (id, HIDDEN - 1, 1.0));
    let ends = ends.iter().map(|id| (*id, 0, 1.0));
    let states = said.iter().enumerate().map(|(place, id)| (*id, place + 1, 1.0));
    let mut planter = Planter {
        embedding: others.chain(ends).chain(states).collect(),
        head: said.iter().enumerate().map(|(place, id)| (*id, place, 9.0)).collect(),
        field: Vec::new(),
    };
    let config = json!({
        "model_type": "llama", "vocab_size": tokenizer.vocab_size(), "hidden_size": HIDDEN, "intermediate_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8,
        "max_position_embeddings": 4096, "tie_word_embeddings": false,
    });
    let config = LmConfig::from_json(&config, "planted/config.json".as_ref()).unwrap();
    let device = DispatchDevice::Flex(burn_flex::FlexDevice);
    let model = init_random(&config, 1, &device).map(&mut planter);
    (model, PairText::new(tokenizer.clone(), tokenizer, TokenMode::Shared).unwrap())
}

fn questions(kind: DataKind, rows: &[Value]) -> Vec<Question> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.jsonl");
    std::fs::write(&path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    let source = DataSource {
        kind,
        path_as_written: Some(path.display().to_string()),
        path: Some(path),
        split: (kind == DataKind::LongBench).then(|| "all".to_owned()),
        places: None,
        limit: None,
        repeats: None,
        format: RecipePrompt::C2c,
        options: SourceOptions::default(),
    };
    load_questions(&source, 0, Compat::Fixed).unwrap().0
}

/// Asks the planted model; returns what stands in the file of its records.
fn asked(reply: &str, questions: &[Question], mode: AnswerMode) -> Evaluation {
    let (model, text) = planted(reply, questions);
    let named = |question: &Question| BenchmarkQuestion { benchmark: "planted".to_owned(), question: question.clone() };
    let asked: Vec<BenchmarkQuestion> = questions.iter().map(named).collect();
    let settings = EvalSettings {
        methods: vec![Method::Receiver],
        prompt: PromptFormat::C2c,
        max_new_tokens: 16,
        batch_size: 8,
        batch_tokens: None,
        seed: 0,
        compat: Compat::Fixed,
        mode,
        response_text: ANSWER_CUE.to_owned(),
        chat_template: None,
        fused: None,
        baselines: Baselines::default(),
    };
    let pair = EvalPair { models: EvalModels::Receiver(&model), text: &text };
    let evaluation = evaluate(&pair, &asked, &settings, &mut |_| {}).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.parquet");
    evaluation.write_parquet(&path).unwrap();
    Evaluation::of(read_records(&path).unwrap(), &[Method::Receiver], None).unwrap()
}

/// The planted reply stands in every record, and the accuracy is what the rows make it.
fn comes_out(what: &str, reply: &str, questions: &[Question], expected: f64) {
    let evaluation = asked(reply, questions, AnswerMode::Generate);
    for record in &evaluation.records {
        assert_eq!((record.output.as_str(), record.finish, &record.error), (reply, Some(Finish::Eos), &None), "{what}");
        assert!(record.prompt_tokens > 10 && record.output_tokens > 0, "{what}");
    }
    let found = evaluation.results[0].accuracy.accuracy;
    // ROUGE-L of equal texts is short of 1 by the package's guard against division by zero.
    assert!((found - expected).abs() < 1e-8, "{what}: {found}, {expected}");
}

#[test]
fn a_planted_model_has_its_accuracy_on_every_benchmark_of_choices() {
    for kind in CHOICES {
        let rows: Vec<Value> = (0..N).map(|n| row(kind, n)).collect();
        let questions = questions(kind, &rows);
        for answer in ['B', 'D'] {
            let right = questions.iter().filter(|question| question.gold()[0] == answer.to_string()).count();
            assert!(right > 0 && right < N, "{kind}");
            let expected = right as f64 / N as f64;
            let reply = format!("The correct answer is {answer}.");
            comes_out(kind.as_str(), &reply, &questions, expected);
            // The same by the letters' probabilities behind the start of the reply.
            let by_logits = asked(&reply, &questions, AnswerMode::Logits);
            assert_eq!(by_logits.results[0].accuracy.accuracy, expected, "{kind}");
            let place = usize::from(answer as u8 - b'A');
            assert!(by_logits.records.iter().all(|record| record.answer == Some(letter(place).to_string())));
        }
    }
}

#[test]
fn a_planted_model_has_its_accuracy_in_mathematics() {
    let gold = |n: usize, right: &'static str, wrong: &'static str| if n % N < RIGHT { right } else { wrong };
    let gsm8k = |n: usize| json!({ "question": "How many?", "answer": format!("Work.\n#### {}", gold(n, "35", "47")) });
    let math = |n: usize| json!({ "unique_id": n.to_string(), "problem": "What part?", "answer": gold(n, "\\frac{3}{7}", "\\frac37x") });
    let expected = RIGHT as f64 / N as f64;
    let rows: Vec<Value> = (0..N).map(gsm8k).collect();
    comes_out("gsm8k", "Answer: 35", &questions(DataKind::Gsm8k, &rows), expected);
    let rows: Vec<Value> = (0..N).map(math).collect();
    comes_out("math500", "Answer: 3/7", &questions(DataKind::Math500, &rows), expected);
}

#[test]
fn a_planted_model_has_its_accuracy_by_every_scorer_of_longbench() {
    // A task for each scorer, its reply, and a right answer that shares nothing with it.
    let tasks = [
        ("qasper", "red stone", "blue river"),
        ("triviaqa", "red stone", "blue river"),
        ("multifieldqa_zh", "北京", "上海"),
        ("gov_report", "red stone", "blue river"),
        ("samsum", "red stone", "blue river"),
        ("vcsum", "北京", "上海"),
        ("trec", "red", "blue"),
        ("passage_retrieval_en", "Paragraph 3", "Paragraph 5"),
        ("passage_retrieval_zh", "段落3", "段落5"),
        ("passage_count", "3", "5"),
        ("lcc", "let red = stone;", "QQQQ"),
    ];
    for (task, reply, wrong) in tasks {
        let row = |n: usize| {
            json!({
                "_id": n.to_string(), "dataset": task, "input": "Which?", "context": "Long.", "all_classes": ["red", "blue"],
                "answers": [if n < RIGHT { reply } else { wrong }],
            })
        };
        let rows: Vec<Value> = (0..N).map(row).collect();
        comes_out(task, reply, &questions(DataKind::LongBench, &rows), RIGHT as f64 / N as f64);
    }
}
