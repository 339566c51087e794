//! Runs an ONNX graph of the operators that the fuser needs, one f64 loop each: what the graph says, not how it was made.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::Path;

use onnx_protobuf::{Message, ModelProto, NodeProto, TensorProto, tensor_proto};

/// Shape and values, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Array(pub Vec<usize>, pub Vec<f64>);

pub fn read(path: &Path) -> ModelProto {
    ModelProto::parse_from_bytes(&std::fs::read(path).unwrap()).unwrap()
}

fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}

/// The place of an element in an array of another shape whose axes of 1 are repeated.
fn broadcast(index: usize, to: &[usize], from: &[usize]) -> usize {
    let (outer, inner) = (strides(to), strides(from));
    let lead = to.len() - from.len();
    (0..from.len()).map(|a| index / outer[a + lead] % to[a + lead] * usize::from(from[a] > 1) * inner[a]).sum()
}

fn elementwise(a: &Array, b: &Array, f: fn(f64, f64) -> f64) -> Array {
    let rank = a.0.len().max(b.0.len());
    let size = |x: &Array, axis: usize| (axis + x.0.len()).checked_sub(rank).map_or(1, |axis| x.0[axis]);
    let shape: Vec<usize> = (0..rank).map(|axis| size(a, axis).max(size(b, axis))).collect();
    let count = shape.iter().product();
    let at = |x: &Array, i| x.1[broadcast(i, &shape, &x.0)];
    let values = (0..count).map(|i| f(at(a, i), at(b, i))).collect();
    Array(shape, values)
}

fn map(x: &Array, f: impl Fn(f64) -> f64) -> Array {
    Array(x.0.clone(), x.1.iter().map(|v| f(*v)).collect())
}

/// By its power series.
fn erf(x: f64) -> f64 {
    if x.abs() > 4.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn transpose(x: &Array, perm: &[i64]) -> Array {
    let from = strides(&x.0);
    let shape: Vec<usize> = perm.iter().map(|p| x.0[*p as usize]).collect();
    let to = strides(&shape);
    let place = |i: usize| (0..perm.len()).map(|a| i / to[a] % shape[a] * from[perm[a] as usize]).sum::<usize>();
    Array(shape.clone(), (0..x.1.len()).map(|i| x.1[place(i)]).collect())
}

fn concat(parts: &[&Array], axis: usize) -> Array {
    let mut shape = parts[0].0.clone();
    shape[axis] = parts.iter().map(|p| p.0[axis]).sum();
    let outer: usize = shape[..axis].iter().product();
    let chunk = |p: &Array| p.0[axis..].iter().product::<usize>();
    let values = (0..outer).flat_map(|o| parts.iter().flat_map(move |p| p.1[o * chunk(p)..][..chunk(p)].to_vec()));
    Array(shape, values.collect())
}

/// Of three axes each.
fn matmul(a: &Array, b: &Array) -> Array {
    let ([m, rows, inner], [_, _, columns]) = ([a.0[0], a.0[1], a.0[2]], [b.0[0], b.0[1], b.0[2]]);
    assert_eq!((m, inner), (b.0[0], b.0[1]));
    let value = |i: usize| -> f64 {
        let (m, r, c) = (i / (rows * columns), i / columns % rows, i % columns);
        (0..inner).map(|k| a.1[(m * rows + r) * inner + k] * b.1[(m * inner + k) * columns + c]).sum()
    };
    Array(vec![m, rows, columns], (0..m * rows * columns).map(value).collect())
}

fn reshape(x: &Array, shape: &Array) -> Array {
    let known: usize = shape.1.iter().filter(|n| **n >= 0.0).map(|n| *n as usize).product();
    let size = |n: &f64| if *n < 0.0 { x.1.len() / known } else { *n as usize };
    Array(shape.1.iter().map(size).collect(), x.1.clone())
}

/// Items `from..to` of the first axis.
fn rows(x: &Array, items: impl Iterator<Item = usize>) -> Array {
    let row: usize = x.0[1..].iter().product();
    let items: Vec<usize> = items.collect();
    let shape = [&[items.len()], &x.0[1..]].concat();
    Array(shape, items.iter().flat_map(|i| x.1[i * row..][..row].to_vec()).collect())
}

fn attribute(node: &NodeProto, name: &str) -> (i64, Vec<i64>) {
    let found = node.attribute.iter().find(|a| a.name == name).unwrap_or_else(|| panic!("{}: no {name}", node.name));
    (found.i, found.ints.clone())
}

fn run_node(node: &NodeProto, x: &[&Array]) -> Array {
    match node.op_type.as_str() {
        "Add" => elementwise(x[0], x[1], |a, b| a + b),
        "Mul" => elementwise(x[0], x[1], |a, b| a * b),
        "Div" => elementwise(x[0], x[1], |a, b| a / b),
        "Sqrt" => map(x[0], f64::sqrt),
        "Erf" => map(x[0], erf),
        "Sigmoid" => map(x[0], |v| 1.0 / (1.0 + (-v).exp())),
        "MatMul" => matmul(x[0], x[1]),
        "Transpose" => transpose(x[0], &attribute(node, "perm").1),
        "Concat" => concat(x, attribute(node, "axis").0 as usize),
        "Reshape" => reshape(x[0], x[1]),
        "Shape" => Array(vec![x[0].0.len()], x[0].0.iter().map(|n| *n as f64).collect()),
        "Gather" => {
            assert_eq!(attribute(node, "axis").0, 0);
            rows(x[0], x[1].1.iter().map(|i| *i as usize))
        }
        "Slice" => {
            assert_eq!(x[3].1, [0.0], "along the first axis");
            rows(x[0], x[1].1[0] as usize..x[2].1[0] as usize)
        }
        "ReduceMean" => {
            assert_eq!((attribute(node, "keepdims").0, x[1].1.as_slice()), (1, [-1.0].as_slice()));
            let width = *x[0].0.last().unwrap();
            let mut shape = x[0].0.clone();
            *shape.last_mut().unwrap() = 1;
            Array(shape, x[0].1.chunks(width).map(|row| row.iter().sum::<f64>() / width as f64).collect())
        }
        other => panic!("{}: operator {other}", node.name),
    }
}

/// The values of an initializer, wherever they lie.
pub fn initializer(tensor: &TensorProto, folder: &Path) -> Array {
    let shape = tensor.dims.iter().map(|n| *n as usize).collect();
    let outside = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.clone());
    let raw = match outside("location") {
        None => tensor.raw_data.clone(),
        Some(file) => {
            let bytes = std::fs::read(folder.join(file)).unwrap();
            let number = |key: &str| outside(key).unwrap().parse::<usize>().unwrap();
            bytes[number("offset")..][..number("length")].to_vec()
        }
    };
    let values = if tensor.data_type == tensor_proto::DataType::INT64 as i32 {
        raw.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect()
    } else {
        raw.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
    };
    Array(shape, values)
}

/// The outputs by name. Nodes have to stand in an order in which they can run.
pub fn run(model: &ModelProto, folder: &Path, inputs: &[(&str, Array)]) -> BTreeMap<String, Array> {
    let graph = &model.graph;
    let mut known: BTreeMap<String, Array> =
        graph.initializer.iter().map(|t| (t.name.clone(), initializer(t, folder))).collect();
    known.extend(inputs.iter().map(|(name, array)| ((*name).to_owned(), array.clone())));
    for node in &graph.node {
        let x: Vec<&Array> = node.input.iter().map(|name| &known[name]).collect();
        let out = run_node(node, &x);
        assert!(known.insert(node.output[0].clone(), out).is_none(), "{} is made twice", node.output[0]);
    }
    graph.output.iter().map(|o| (o.name.clone(), known[&o.name].clone())).collect()
}
