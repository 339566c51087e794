//! Generates Burn code and weights from the exported graph.

fn main() {
    burn_onnx::ModelGen::new().input("fuser.onnx").out_dir("model/").run_from_script();
}
