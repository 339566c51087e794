//! The order of GPQA's choices.
//!
//! GPQA names the right answer and the wrong ones; somebody has to mix them. As in the reference implementation
//! (thu-nics/C2C), the order follows from the question's own text: the MD5 of question and answers seeds a Mersenne
//! Twister as CPython's `random` seeds it, and that shuffles. So every run, of either program, asks the same letters.

/// The order in which choices are put: places into `texts`, the first of which is the right answer.
pub(super) fn content_order(question: &str, texts: &[String]) -> Vec<usize> {
    let mut parts = vec![question];
    parts.extend(texts.iter().map(String::as_str));
    let digest = md5::compute(parts.join("||"));
    // The last four bytes are the hash's remainder when divided by 2^32.
    let seed = digest.0[12..].iter().fold(0u32, |seed, byte| (seed << 8) | u32::from(*byte));
    let mut order: Vec<usize> = (0..texts.len()).collect();
    let mut twister = Twister::new(seed);
    for last in (1..order.len()).rev() {
        order.swap(last, twister.below(last as u32 + 1) as usize);
    }
    order
}

const N: usize = 624;
const M: usize = 397;

/// MT19937 (M. Matsumoto and T. Nishimura, 1998).
struct Twister {
    state: [u32; N],
    next: usize,
}

impl Twister {
    /// Seeded by an array of one number (the authors' `init_by_array`), as CPython does for small integers.
    fn new(seed: u32) -> Self {
        let mut state = [0u32; N];
        state[0] = 19_650_218;
        for i in 1..N {
            let previous = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i as u32);
        }
        let mut i = 1;
        let step = |state: &mut [u32; N], i: &mut usize| {
            *i += 1;
            if *i >= N {
                state[0] = state[N - 1];
                *i = 1;
            }
        };
        for _ in 0..N {
            let previous = state[i - 1];
            state[i] = (state[i] ^ (previous ^ (previous >> 30)).wrapping_mul(1_664_525)).wrapping_add(seed);
            step(&mut state, &mut i);
        }
        for _ in 1..N {
            let previous = state[i - 1];
            let mixed = state[i] ^ (previous ^ (previous >> 30)).wrapping_mul(1_566_083_941);
            state[i] = mixed.wrapping_sub(i as u32);
            step(&mut state, &mut i);
        }
        state[0] = 0x8000_0000;
        Self { state, next: N }
    }

    fn word(&mut self) -> u32 {
        if self.next == N {
            for i in 0..N {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A number below `n`, by as many high bits as `n` has, drawn until it fits.
    fn below(&mut self, n: u32) -> u32 {
        let bits = u32::BITS - n.leading_zeros();
        loop {
            let drawn = self.word() >> (u32::BITS - bits);
            if drawn < n {
                return drawn;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_cpython() {
        // random.seed(5489); [random.getrandbits(32) for _ in range(3)], and the 1000th, of CPython 3.11.
        let mut twister = Twister::new(5489);
        assert_eq!([twister.word(), twister.word(), twister.word()], WORDS);
        assert_eq!((3..1000).map(|_| twister.word()).last(), Some(THOUSANDTH));
    }

    #[test]
    fn orders_are_those_of_cpython() {
        // r = random.Random(int(hashlib.md5("||".join([q, *t]).encode()).hexdigest(), 16) % 2**32); r.shuffle(order)
        for (question, expected) in ORDERS {
            let texts = ["right", "wrong 1", "wrong 2", "wrong 3"].map(str::to_owned);
            assert_eq!(content_order(question, &texts), expected, "{question}");
        }
    }

    const WORDS: [u32; 3] = [3382763572, 956215839, 417760592];
    const THOUSANDTH: u32 = 2180146995;
    const ORDERS: [(&str, [usize; 4]); 5] = [
        ("What?", [1, 3, 2, 0]),
        ("Which of these?", [1, 3, 2, 0]),
        ("How fast is light?", [3, 1, 0, 2]),
        ("Warum ist der Himmel blau?", [1, 2, 3, 0]),
        ("量子とは何か", [0, 3, 2, 1]),
    ];
}
