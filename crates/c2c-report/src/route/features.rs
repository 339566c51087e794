//! A question as numbers: hashed words and pairs of words, so that no vocabulary has to be kept.

/// Buckets that words are hashed into.
pub(super) const BUCKETS: usize = 1 << 14;

/// The buckets of a text with how much of each there is, sorted; of length 1 as a vector, or empty if there is no word.
pub(super) type Features = Vec<(usize, f64)>;

/// Words are runs of letters and digits, in lower case.
pub(super) fn features(text: &str) -> Features {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let single = words.iter().map(|word| bucket(&[word]));
    let pairs = words.windows(2).map(bucket);
    let mut buckets: Vec<usize> = single.chain(pairs).collect();
    buckets.sort_unstable();
    let mut features: Features = Vec::new();
    for bucket in buckets {
        match features.last_mut() {
            Some((last, count)) if *last == bucket => *count += 1.0,
            _ => features.push((bucket, 1.0)),
        }
    }
    let length = features.iter().map(|(_, count)| count * count).sum::<f64>().sqrt();
    features.iter_mut().for_each(|(_, count)| *count /= length);
    features
}

/// FNV-1a over the words, each closed by a byte that no UTF-8 text has.
fn bucket(words: &[&str]) -> usize {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in words.iter().flat_map(|word| word.bytes().chain([0xff])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The upper bits are mixed best.
    (hash >> 40) as usize % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_count_whatever_stands_between_them() {
        assert_eq!(features("What is iron?"), features("what  IS, iron"));
        assert_ne!(features("iron is what"), features("what is iron"), "pairs know the order");
        assert!(features(" ?! ").is_empty());
        let length: f64 = features("to be or not to be").iter().map(|(_, x)| x * x).sum();
        assert!((length - 1.0).abs() < 1e-12);
        let buckets: Vec<usize> = features("to be or not to be").into_iter().map(|(bucket, _)| bucket).collect();
        // Four words and four pairs; `to be` comes twice.
        assert!(buckets.is_sorted_by(|a, b| a < b) && buckets.len() == 8, "{buckets:?}");
    }
}
