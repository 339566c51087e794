//! Stacked parameters under their published names and shapes.

use burn::tensor::backend::Backend;
use c2c_fuser::{Fuser, FuserConfig};

use crate::artefact::values;
use crate::{ExportError, layout};

/// One parameter of one layer, as the published layout has it.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerParam {
    /// The receiver layer.
    pub layer: usize,
    /// The published name: `key_in.weight`, `value_gate_logit`, ..
    pub name: String,
    /// The published shape: `[out, in]`, `[width]`, or `[]` for a gate logit.
    pub shape: Vec<usize>,
    /// The values, in row order of that shape.
    pub values: Vec<f32>,
}

/// Splits a stacked parameter, or its gradient, into the published parameters: keys of all layers, then values.
///
/// # Errors
/// A name or a number of values that a fuser of this config doesn't have.
pub fn split_param(config: &FuserConfig, name: &str, values: &[f32]) -> Result<Vec<LayerParam>, ExportError> {
    let error = |found: String, expected: String| ExportError::Parameter { name: name.to_owned(), found, expected };
    let slots = layout::slots(config).map_err(|e| error(format!("{} = {}", e.key, e.found), e.expected))?;
    let slot = layout::find(&slots, name).ok_or_else(|| {
        let names: Vec<&str> = slots.iter().map(|s| s.name.as_str()).collect();
        error("no such parameter".into(), format!("one of {}", names.join(", ")))
    })?;
    let expected = slot.shape[0] * slot.branch_len();
    if values.len() != expected {
        return Err(error(format!("{} values", values.len()), format!("{expected} of shape {:?}", slot.shape)));
    }
    let layers = config.layers();
    Ok((0..slot.shape[0])
        .map(|branch| LayerParam {
            layer: branch % layers,
            name: slot.published_name(branch),
            shape: slot.published_shape(),
            values: slot.publish_branch(&values[branch * slot.branch_len()..][..slot.branch_len()]),
        })
        .collect())
}

/// Joins what [`split_param`] gives into the stacked values of `name`, in any order.
///
/// # Errors
/// A name that a fuser of this config doesn't have; a part that is missing, not of this parameter or misshapen.
pub fn join_params(config: &FuserConfig, name: &str, parts: &[LayerParam]) -> Result<Vec<f32>, ExportError> {
    let error = |found: String, expected: String| ExportError::Parameter { name: name.to_owned(), found, expected };
    let slots = layout::slots(config).map_err(|e| error(format!("{} = {}", e.key, e.found), e.expected))?;
    let slot =
        layout::find(&slots, name).ok_or_else(|| error("no such parameter".into(), "one of the fuser's".into()))?;
    let (layers, branches) = (config.layers(), slot.shape[0]);
    if parts.len() != branches {
        return Err(error(format!("{} parts", parts.len()), branches.to_string()));
    }
    let mut out = Vec::with_capacity(branches * slot.branch_len());
    for branch in 0..branches {
        let (layer, published) = (branch % layers, slot.published_name(branch));
        let part = parts.iter().find(|p| p.layer == layer && p.name == published);
        let part = part.ok_or_else(|| error("no part of that name".into(), format!("{published} of layer {layer}")))?;
        if part.values.len() != slot.branch_len() {
            let found = format!("{} values of {published} in layer {layer}", part.values.len());
            return Err(error(found, slot.branch_len().to_string()));
        }
        out.extend(slot.stack_branch(part.values.clone()));
    }
    Ok(out)
}

/// All parameters of a fuser under their published names.
///
/// # Errors
/// A tensor that can't be read back from the device.
pub fn named_layer_params<B: Backend>(fuser: &Fuser<B>) -> Result<Vec<LayerParam>, ExportError> {
    let mut out = Vec::new();
    for (name, param) in fuser.named_params() {
        out.extend(split_param(fuser.config(), &name, &values(&name, param)?)?);
    }
    Ok(out)
}
