//! Small constructors over the ONNX messages: nodes by name, constants, and weights that may lie outside the file.

use std::fmt::{Display, Formatter};

use onnx_protobuf::type_proto::{Tensor as TensorType, Value};
use onnx_protobuf::{
    AttributeProto, GraphProto, NodeProto, StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, attribute_proto, tensor_proto, tensor_shape_proto,
};

/// A graph that is being built. Every node is named after its only output.
#[derive(Default)]
pub(super) struct Graph {
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
}

/// An axis of an input or output.
#[derive(Clone, Copy)]
pub(super) enum Axis {
    Fixed(usize),
    Dynamic(&'static str),
}

impl Display for Axis {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(n) => n.fmt(f),
            Self::Dynamic(name) => name.fmt(f),
        }
    }
}

impl Graph {
    /// A node with one output, whose name is returned.
    pub fn node(&mut self, op: &str, inputs: &[&str], output: &str) -> String {
        self.node_with(op, inputs, output, Vec::new())
    }

    pub fn node_with(&mut self, op: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) -> String {
        self.nodes.push(NodeProto {
            op_type: op.to_owned(),
            name: output.to_owned(),
            input: inputs.iter().map(|s| (*s).to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute: attributes,
            ..NodeProto::default()
        });
        output.to_owned()
    }

    /// A constant list of integers, such as a shape.
    pub fn integers(&mut self, name: &str, values: &[i64]) -> String {
        self.weights.push(TensorProto {
            name: name.to_owned(),
            dims: vec![values.len() as i64],
            data_type: tensor_proto::DataType::INT64 as i32,
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..TensorProto::default()
        });
        name.to_owned()
    }

    /// A constant number.
    pub fn scalar(&mut self, name: &str, value: f32) -> String {
        let mut tensor = floats(name, &[]);
        tensor.raw_data = value.to_le_bytes().to_vec();
        self.weights.push(tensor);
        name.to_owned()
    }

    /// Weights in the file itself.
    pub fn inside(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let mut tensor = floats(name, shape);
        tensor.raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.weights.push(tensor);
        name.to_owned()
    }

    /// Weights at a place of another file in the same folder.
    pub fn outside(&mut self, name: &str, shape: &[usize], file: &str, offset: u64, length: u64) -> String {
        let mut tensor = floats(name, shape);
        tensor.data_location = tensor_proto::DataLocation::EXTERNAL.into();
        tensor.external_data =
            vec![entry("location", file), entry("offset", &offset.to_string()), entry("length", &length.to_string())];
        self.weights.push(tensor);
        name.to_owned()
    }

    pub fn finish(self, name: &str, inputs: Vec<ValueInfoProto>, outputs: Vec<ValueInfoProto>) -> GraphProto {
        GraphProto {
            name: name.to_owned(),
            node: self.nodes,
            initializer: self.weights,
            input: inputs,
            output: outputs,
            ..GraphProto::default()
        }
    }
}

fn floats(name: &str, shape: &[usize]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: shape.iter().map(|n| *n as i64).collect(),
        data_type: tensor_proto::DataType::FLOAT as i32,
        ..TensorProto::default()
    }
}

pub(super) fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: key.to_owned(), value: value.to_owned(), ..StringStringEntryProto::default() }
}

pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    let type_ = attribute_proto::AttributeType::INT.into();
    AttributeProto { name: name.to_owned(), type_, i: value, ..AttributeProto::default() }
}

pub(super) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    let type_ = attribute_proto::AttributeType::INTS.into();
    AttributeProto { name: name.to_owned(), type_, ints: values.to_vec(), ..AttributeProto::default() }
}

/// An f32 input or output.
pub(super) fn value(name: &str, axes: &[Axis]) -> ValueInfoProto {
    let dim = |axis: &Axis| {
        let value = match axis {
            Axis::Fixed(n) => tensor_shape_proto::dimension::Value::DimValue(*n as i64),
            Axis::Dynamic(name) => tensor_shape_proto::dimension::Value::DimParam((*name).to_owned()),
        };
        tensor_shape_proto::Dimension { value: Some(value), ..tensor_shape_proto::Dimension::default() }
    };
    let shape = TensorShapeProto { dim: axes.iter().map(dim).collect(), ..TensorShapeProto::default() };
    let tensor = TensorType {
        elem_type: tensor_proto::DataType::FLOAT as i32,
        shape: Some(shape).into(),
        ..TensorType::default()
    };
    let type_ = TypeProto { value: Some(Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), type_: Some(type_).into(), ..ValueInfoProto::default() }
}
