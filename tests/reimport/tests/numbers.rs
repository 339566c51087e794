//! The generated code computes what the fuser computes.

use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use c2c_reimport::fuser::Model;
use safetensors::SafeTensors;

/// Differences are shares of the largest change that fusing makes.
const TOLERANCE: f32 = 1e-5;

type Cache = Tensor<Flex, 5>;

fn read(file: &SafeTensors<'_>, name: &str) -> Cache {
    let view = file.tensor(name).expect("cases hold all six tensors");
    let values: Vec<f32> = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    Tensor::from_data(TensorData::new(values, view.shape().to_vec()), &Default::default())
}

fn largest(a: &Cache, b: &Cache) -> f32 {
    (a.clone() - b.clone()).abs().max().into_scalar()
}

#[test]
fn the_imported_graph_gives_the_same_numbers() {
    let bytes =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/cases.safetensors")).expect("a file of the repository");
    let file = SafeTensors::deserialize(&bytes).expect("cases");
    let model: Model<Flex> = Model::default();
    let cases = file.names().iter().filter(|name| name.ends_with(".fused_key")).count();
    assert!(cases > 0, "no case");
    for n in 0..cases {
        let [sharer_key, sharer_value, receiver_key, receiver_value, fused_key, fused_value] =
            ["sharer_key", "sharer_value", "receiver_key", "receiver_value", "fused_key", "fused_value"]
                .map(|name| read(&file, &format!("{n}.{name}")));
        let (key, value) = model.forward(sharer_key, sharer_value, receiver_key.clone(), receiver_value.clone());
        for (side, found, expected, own) in
            [("key", key, fused_key, receiver_key), ("value", value, fused_value, receiver_value)]
        {
            assert_eq!(found.dims(), expected.dims(), "case {n}");
            let (worst, change) = (largest(&found, &expected), largest(&expected, &own));
            println!("case {n} {:?}: {side}: largest difference {worst:.1e} of a change of {change:.2}", found.dims());
            assert!(change > 0.01 && worst <= TOLERANCE * change, "case {n}: {side}: {worst:e} of {change}");
        }
    }
}
