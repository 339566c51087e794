//! Says whether this build has kernels: with a GPU backend, and without Burn's fusion, whose tensors aren't there yet when a kernel
//! of our own would read them.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(kernels, cuda_kernels)");
    let has = |feature: &str| std::env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    if has("FUSION") {
        return;
    }
    if has("CUDA") {
        println!("cargo::rustc-cfg=cuda_kernels");
    }
    if has("CUDA") || has("WGPU") {
        println!("cargo::rustc-cfg=kernels");
    }
}
