//! The machine that a run was made on, as far as the operating system says it in files.
//!
//! Facts that can't be told are left out: a run mustn't fail, or wait, because its machine keeps to itself.

use serde_json::{Map, Value, json};

/// The processor's name, the GPUs' names and the version of their driver.
pub fn facts() -> Map<String, Value> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let cpu = read("/proc/cpuinfo").and_then(|text| value(&text, "model name"));
    let driver = read("/proc/driver/nvidia/version").and_then(|text| version(&text));
    let cards = std::fs::read_dir("/proc/driver/nvidia/gpus").ok();
    let mut folders: Vec<_> = cards.into_iter().flatten().flatten().map(|card| card.path()).collect();
    // In the order of their places on the bus, which is that of their numbers.
    folders.sort();
    let name = |folder: &std::path::PathBuf| value(&std::fs::read_to_string(folder.join("information")).ok()?, "Model");
    let gpus: Vec<String> = folders.iter().filter_map(name).collect();
    let mut facts = Map::new();
    facts.extend(cpu.map(|cpu| ("cpu".to_owned(), json!(cpu))));
    facts.extend((!gpus.is_empty()).then(|| ("gpus".to_owned(), json!(gpus))));
    facts.extend(driver.map(|driver| ("nvidia_driver".to_owned(), json!(driver))));
    facts
}

/// The most memory in bytes that this process has held so far, where the operating system tells (Linux: `VmHWM`).
pub fn most_memory() -> Option<u64> {
    kilobytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM")
}

/// A value of `kB` lines, in bytes.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let value = value(text, key)?;
    value.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The first value of a key in lines of `key : value`.
fn value(text: &str, key: &str) -> Option<String> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = pairs.find(|(name, _)| name.trim() == key)?;
    Some(value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// The version in the driver's first line, the first word of numbers and points.
fn version(text: &str) -> Option<String> {
    let is_version = |word: &&str| word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok());
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_memory_is_found_in_bytes() {
        let status = "Name:\tc2c\nVmPeak:\t  900 kB\nVmHWM:\t  5120 kB\nVmRSS:\t 64 kB\n";
        assert_eq!(kilobytes(status, "VmHWM"), Some(5120 * 1024));
        assert_eq!((kilobytes(status, "VmSwap"), kilobytes("VmHWM: 5 pages\n", "VmHWM")), (None, None));
        #[cfg(target_os = "linux")]
        assert!(most_memory() > Some(1 << 20), "{:?}", most_memory());
    }

    #[test]
    fn names_and_versions_are_found_in_their_lines() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\nflags\t\t: a b\nmodel name\t: Other\n";
        assert_eq!(value(cpuinfo, "model name").as_deref(), Some("Some CPU @ 2.00GHz"));
        assert_eq!((value(cpuinfo, "Model"), value("model name\t:\n", "model name")), (None, None));
        let driver =
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.124.06  Wed Feb 26 2025\nGCC version: 12.2.0\n";
        assert_eq!(version(driver).as_deref(), Some("570.124.06"));
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build\n";
        assert_eq!(version(open).as_deref(), Some("550.54.15"));
        assert_eq!(version(""), None);
    }
}
