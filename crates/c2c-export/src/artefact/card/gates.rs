//! The gates of a fuser, as a table and as a chart of characters.

use std::fmt::{Result, Write};

use super::ArtefactConfig;

/// Characters of a full bar; the gate opens at its middle.
const BAR: usize = 20;

/// `gates` are the logits of keys and of values, by layer.
pub(super) fn section(out: &mut String, config: &ArtefactConfig, (keys, values): (&[f32], &[f32])) -> Result {
    writeln!(out, "## Gates\n")?;
    if !config.fuser.parts.gates {
        return writeln!(out, "None: every layer is always fused.\n");
    }
    if !config.fuser.has_layer_gates() {
        return writeln!(
            out,
            "Finer than a layer: whether one is open depends on the token's place or on what is fused.\n"
        );
    }
    let open = |logits: &[f32]| logits.iter().filter(|l| **l > 0.0).count();
    let state = |logit: f32| format!("{} ({logit:.4})", if logit > 0.0 { "open" } else { "shut" });
    let layers = config.fuser.layers();
    writeln!(
        out,
        "Open at inference where the logit, in brackets, is above 0: {} of {layers} for keys, {} of {layers} for values.\n",
        open(keys),
        open(values)
    )?;
    writeln!(out, "| Receiver layer | Sharer layer | keys | values |\n|---|---|---|---|")?;
    for (layer, ((source, key), value)) in config.fuser.layer_map.iter().zip(keys).zip(values).enumerate() {
        writeln!(out, "| {layer} | {source} | {} | {} |", state(*key), state(*value))?;
    }
    writeln!(out, "\nThe sigmoid of the logits; a gate is open where its bar passes the middle.\n\n```text")?;
    writeln!(out, "layer  {:<width$}  values", "keys", width = BAR + 5)?;
    for (layer, (key, value)) in keys.iter().zip(values).enumerate() {
        writeln!(out, "{layer:>5}  {}  {}", bar(*key), bar(*value))?;
    }
    writeln!(out, "```\n")
}

fn bar(logit: f32) -> String {
    let share = 1.0 / (1.0 + (-f64::from(logit)).exp());
    if share.is_nan() {
        return format!("{:<BAR$}  NaN", "");
    }
    let full = (share * BAR as f64).round() as usize;
    let bar: String = (0..BAR).map(|at| if at < full { '#' } else { '.' }).collect();
    format!("{bar} {share:.2}")
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn bars_show_how_far_open_a_gate_is() {
        assert_eq!(bar(0.0), "##########.......... 0.50");
        assert_eq!(bar(f32::INFINITY), "#################### 1.00");
        assert_eq!(bar(-1.0), "#####............... 0.27");
        assert_eq!(bar(f32::NAN).len(), bar(0.0).len());
    }
}
