//! Compiled kernels, kept between runs: compiling them is most of what a first pass on CUDA takes.

use std::path::Path;

use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

/// Keeps compiled kernels in this folder, unless a `cubecl.toml` names another. Only has an effect before the first use of
/// a GPU.
///
/// What is kept is found again by a kernel's name and parameters, not by its code: give every build of the program a folder
/// of its own.
pub fn keep_compiled(folder: &Path) {
    if CubeClRuntimeConfig::storage().lock().is_some() {
        return;
    }
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    config.compilation.cache.get_or_insert_with(|| CacheConfig::File(folder.to_owned()));
    CubeClRuntimeConfig::set(config);
}
