//! In which number format, and for which branches, the weights of an artefact are stored.
//!
//! f32 is what training keeps. bf16 and f16 round every value but the gates' logits. int8 rounds the matrices only: each output of each branch
//! has its own scale, `max |w| / 127`, and the values are multiples of it; norms, biases and gates stay f32.

use half::{bf16, f16};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::layout::{Form, Slot};

/// Ends the name of an int8 matrix's scales.
const SCALE: &str = ".scale";
/// The largest int8 that is used; -128 isn't.
const INT8_MAX: f32 = 127.0;

/// The number format of stored weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightsDtype {
    /// 32-bit floats, exact.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
    /// 16-bit floats.
    F16,
    /// Matrices as 8-bit integers with a scale an output; the rest in f32.
    Int8,
}

impl WeightsDtype {
    /// The word in files and options.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }

    /// Rounds gates' logits and tables as the forms hold them that have one number format for all values: burnpack and the
    /// published layout. What is above 0 stays so: a logit that became 0 would shut its gate.
    pub(crate) fn round_wide(self, values: &mut [f32]) {
        let (round, least): (fn(f32) -> f32, f32) = match self {
            Self::F32 | Self::Int8 => return,
            Self::Bf16 => (|v| bf16::from_f32(v).to_f32(), bf16::MIN_POSITIVE_SUBNORMAL.to_f32()),
            Self::F16 => (|v| f16::from_f32(v).to_f32(), f16::MIN_POSITIVE_SUBNORMAL.to_f32()),
        };
        for value in values {
            *value = if *value > 0.0 { round(*value).max(least) } else { round(*value) };
        }
    }
}

/// How far the fused cache is from that of the f32 fuser, on random caches.
///
/// Differences are shares of the root mean square of the f32 fuser's result.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FusedLoss {
    /// Largest difference of fused keys.
    pub key_max: f32,
    /// Mean difference of fused keys.
    pub key_mean: f32,
    /// Largest difference of fused values.
    pub value_max: f32,
    /// Mean difference of fused values.
    pub value_mean: f32,
    /// Tokens of the random caches.
    pub tokens: usize,
    /// Their seed.
    pub seed: u64,
}

/// How the weights are stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsFormat {
    /// The number format.
    pub dtype: WeightsDtype,
    /// Branches that aren't in the file because their gate is shut, ascending: `l` is the key branch of receiver layer
    /// `l`, `layers + l` its value branch. Their gate logits are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shut: Vec<usize>,
    /// What the number format costs, if it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<FusedLoss>,
}

impl WeightsFormat {
    /// f32, all branches.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The branches in the file, of this many; `None` if they are all there.
    pub(crate) fn open(&self, branches: usize) -> Option<Vec<usize>> {
        (!self.shut.is_empty()).then(|| (0..branches).filter(|b| self.shut.binary_search(b).is_err()).collect())
    }

    /// The tensors of the file that hold a parameter.
    pub(crate) fn stored(&self, slot: &Slot) -> Vec<Stored> {
        let mut shape = slot.shape;
        if !slot.stays_wide() {
            shape[0] -= self.shut.len();
        }
        let tensor = |name: String, dtype, shape| Stored { name, dtype, shape };
        let dtype = match self.dtype {
            WeightsDtype::F32 => Dtype::F32,
            // A small logit must not become 0, which shuts the gate.
            _ if slot.stays_wide() => Dtype::F32,
            WeightsDtype::Bf16 => Dtype::BF16,
            WeightsDtype::F16 => Dtype::F16,
            WeightsDtype::Int8 if slot.form == Form::Matrix => {
                let scales = tensor(format!("{}{SCALE}", slot.name), Dtype::F32, [shape[0], 1, shape[2]]);
                return vec![tensor(slot.name.clone(), Dtype::I8, shape), scales];
            }
            WeightsDtype::Int8 => Dtype::F32,
        };
        vec![tensor(slot.name.clone(), dtype, shape)]
    }
}

/// A tensor of `fuser.safetensors`.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub name: String,
    pub dtype: Dtype,
    pub shape: [usize; 3],
}

impl Stored {
    pub fn bytes(&self) -> usize {
        let size = match self.dtype {
            Dtype::I8 => 1,
            Dtype::BF16 | Dtype::F16 => 2,
            _ => 4,
        };
        self.shape.iter().product::<usize>() * size
    }
}

/// The bytes of the tensors that hold a parameter, in the order of [`WeightsFormat::stored`].
pub(crate) fn encode(stored: &[Stored], values: &[f32]) -> Vec<Vec<u8>> {
    match stored.first().map(|s| s.dtype) {
        Some(Dtype::BF16) => vec![values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()],
        Some(Dtype::F16) => vec![values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()],
        Some(Dtype::I8) => {
            let [_, rows, columns] = stored[0].shape;
            let (mut numbers, mut scales) = (Vec::with_capacity(values.len()), Vec::new());
            for branch in values.chunks_exact((rows * columns).max(1)) {
                let mut most = vec![0f32; columns];
                for row in branch.chunks_exact(columns) {
                    most.iter_mut().zip(row).for_each(|(most, w)| *most = most.max(w.abs()));
                }
                let scale: Vec<f32> = most.iter().map(|most| most / INT8_MAX).collect();
                let round = |(w, scale): (&f32, &f32)| if *scale > 0.0 { (w / scale).round() as i8 as u8 } else { 0 };
                numbers.extend(branch.chunks_exact(columns).flat_map(|row| row.iter().zip(&scale).map(round)));
                scales.extend(scale.iter().flat_map(|s| s.to_le_bytes()));
            }
            vec![numbers, scales]
        }
        _ => vec![values.iter().flat_map(|v| v.to_le_bytes()).collect()],
    }
}

/// The values of a parameter, from the bytes of the tensors that hold it.
pub(crate) fn decode(stored: &[Stored], bytes: &[Vec<u8>]) -> Vec<f32> {
    let floats =
        |bytes: &[u8]| -> Vec<f32> { bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect() };
    match (stored.first().map(|s| s.dtype), bytes) {
        (Some(Dtype::BF16), [bytes]) => {
            bytes.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()
        }
        (Some(Dtype::F16), [bytes]) => {
            bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()
        }
        (Some(Dtype::I8), [numbers, scales]) => {
            let [_, rows, columns] = stored[0].shape;
            let scales = floats(scales);
            let branches = numbers.chunks_exact((rows * columns).max(1)).zip(scales.chunks_exact(columns.max(1)));
            let scaled = |(n, scale): (&u8, &f32)| f32::from(*n as i8) * scale;
            let row = |(branch, scale): (&[u8], &[f32])| -> Vec<f32> {
                branch.chunks_exact(columns).flat_map(|row| row.iter().zip(scale).map(scaled)).collect()
            };
            branches.flat_map(row).collect()
        }
        (_, [bytes, ..]) => floats(bytes),
        (_, []) => Vec::new(),
    }
}
