//! The example for programs with an inference engine of their own, run against committed exports.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../examples/own_engine.rs"]
mod own_engine;

use std::path::{Path, PathBuf};

use burn::{Dispatch, DispatchDevice};
use c2c_export::artefact::{self, Artefact};
use own_engine::{Cache, fuse, prefill};

fn device() -> DispatchDevice {
    DispatchDevice::Flex(burn_flex::FlexDevice)
}

fn exported(name: &str) -> Artefact<Dispatch> {
    let root: PathBuf = std::env::var("CARGO_MANIFEST_DIR").unwrap().into();
    artefact::load(&root.join("../../exports").join(name), &device()).unwrap()
}

fn caches(of: &Artefact<Dispatch>, tokens: usize) -> [Cache; 2] {
    let c = &of.config.fuser;
    [
        prefill(c.sharer_layers, c.sharer_heads, tokens, c.sharer_head_dim),
        prefill(c.layers(), c.receiver_heads, tokens, c.receiver_head_dim),
    ]
}

#[test]
fn arrays_go_in_and_fused_ones_come_out() {
    for name in ["pocket", "pocket-narrow"] {
        let artefact = exported(name);
        let [sharer, receiver] = caches(&artefact, 7);
        let fused = fuse(&artefact.fuser, &sharer, &receiver, &device()).unwrap();
        assert_eq!((fused.heads, fused.tokens, fused.head_dim), (receiver.heads, 7, receiver.head_dim));
        assert_eq!(fused.layers.len(), receiver.layers.len());
        for (l, (own, fused)) in receiver.layers.iter().zip(&fused.layers).enumerate() {
            assert_eq!(own.key.len(), fused.key.len());
            assert!(fused.key.iter().chain(&fused.value).all(|x| x.is_finite()), "{name}, layer {l}");
            // Every gate of these is open.
            assert_ne!((&own.key, &own.value), (&fused.key, &fused.value), "{name}, layer {l}");
        }
        // A slot depends on that slot alone, wherever it lies in the arrays.
        let first = |cache: &Cache| {
            let row = |x: &[f32]| -> Vec<f32> {
                x.chunks(7 * cache.head_dim).flat_map(|head| &head[..3 * cache.head_dim]).copied().collect()
            };
            let layers = cache.layers.iter().map(|l| own_engine::Layer { key: row(&l.key), value: row(&l.value) });
            Cache { tokens: 3, layers: layers.collect(), ..cache.clone() }
        };
        let part = fuse(&artefact.fuser, &first(&sharer), &first(&receiver), &device()).unwrap();
        for (part, whole) in part.layers.iter().zip(&first(&fused).layers) {
            let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
            assert!(near(&part.key, &whole.key) && near(&part.value, &whole.value), "{name}");
        }
        let with_gates_shut = artefact.fuser.clone().with_gates_shut();
        assert_eq!(fuse(&with_gates_shut, &sharer, &receiver, &device()).unwrap(), receiver, "{name}");
    }
}

#[test]
fn caches_of_other_models_are_refused() {
    let artefact = exported("pocket");
    let [sharer, receiver] = caches(&artefact, 4);
    let [_, longer] = caches(&artefact, 5);
    let fewer = Cache { layers: receiver.layers[1..].to_vec(), ..receiver.clone() };
    for (sharer, receiver) in [(&receiver, &sharer), (&sharer, &longer), (&sharer, &fewer)] {
        assert!(fuse(&artefact.fuser, sharer, receiver, &device()).is_err());
    }
    assert!(artefact::load::<Dispatch>(Path::new("/nowhere"), &device()).is_err());
}
