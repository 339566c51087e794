//! The fuser as Burn's importer generates it from `fuser.onnx`.

#[allow(missing_docs, clippy::all)]
pub mod fuser {
    include!(concat!(env!("OUT_DIR"), "/model/fuser.rs"));
}
