//! Tells the program which commit it is built from, for the environment of runs: `C2C_COMMIT`, or `unknown` outside of a
//! checkout of its own.

use std::process::Command;

fn main() {
    // A copy of the sources inside another project's checkout isn't of that one's commit.
    let tracked = git(&["ls-files", "--error-unmatch", "build.rs"]).is_some();
    let commit = git(&["rev-parse", "HEAD"]).filter(|_| tracked).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=C2C_COMMIT={commit}");
    println!("cargo::rerun-if-changed=build.rs");
    // A commit changes the branch, a checkout of another branch the head.
    let branch = git(&["symbolic-ref", "HEAD"]);
    for name in ["HEAD"].into_iter().chain(branch.as_deref()).filter(|_| tracked) {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// What git prints; none if there is none, or no checkout.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}
