//! Leading axes of two factors as two axes at most, which is what the kernel counts over.

/// Batches over an outer and an inner axis, and a factor's elements from one to the next along each; 0 where it is broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batches {
    outer: usize,
    pub(super) inner: usize,
    pub(super) left: [usize; 2],
    pub(super) right: [usize; 2],
}

impl Batches {
    /// `None` if the axes don't fit each other or can't be joined to two, or there are more batches than a grid has rows.
    pub(super) fn new(left: &[usize], left_steps: &[usize], right: &[usize], right_steps: &[usize]) -> Option<Self> {
        const MOST: usize = u16::MAX as usize;
        let step = |length: usize, step: usize| if length == 1 { 0 } else { step };
        if left.len() != right.len() || left.iter().zip(right).any(|(a, b)| a != b && *a != 1 && *b != 1) {
            return None;
        }
        let mut axes: Vec<(usize, usize, usize)> = Vec::new();
        for axis in 0..left.len() {
            let length = left[axis].max(right[axis]);
            let next = (length, step(left[axis], left_steps[axis]), step(right[axis], right_steps[axis]));
            if length == 1 {
                continue;
            }
            match axes.last_mut() {
                Some(last) if last.1 == next.1 * length && last.2 == next.2 * length => {
                    *last = (last.0 * length, next.1, next.2);
                }
                _ => axes.push(next),
            }
        }
        let [outer, inner] = match axes[..] {
            [] => [(1, 0, 0), (1, 0, 0)],
            [only] => [(1, 0, 0), only],
            [outer, inner] => [outer, inner],
            _ => return None,
        };
        let batches = Self { outer: outer.0, inner: inner.0, left: [outer.1, inner.1], right: [outer.2, inner.2] };
        (1..=MOST).contains(&batches.count()).then_some(batches)
    }

    pub(super) fn count(&self) -> usize {
        self.outer * self.inner
    }

    pub(super) fn steps(&self) -> [usize; 4] {
        [self.left[0], self.left[1], self.right[0], self.right[1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_that_follow_each_other_are_one() {
        let found = Batches::new(&[2, 3], &[300, 100], &[2, 3], &[30, 10]);
        assert_eq!(found, Some(Batches { outer: 1, inner: 6, left: [0, 100], right: [0, 10] }));
    }

    #[test]
    fn an_axis_of_one_is_broadcast() {
        let found = Batches::new(&[2, 3], &[300, 100], &[1, 3], &[30, 10]);
        assert_eq!(found, Some(Batches { outer: 2, inner: 3, left: [300, 100], right: [0, 10] }));
        let both = Batches::new(&[2, 3], &[300, 100], &[1, 1], &[10, 10]);
        assert_eq!(both, Some(Batches { outer: 1, inner: 6, left: [0, 100], right: [0, 0] }));
    }

    #[test]
    fn no_axes_are_one_batch() {
        let found = Batches::new(&[], &[], &[], &[]);
        assert_eq!(found.map(|b| (b.count(), b.steps())), Some((1, [0; 4])));
        assert_eq!(Batches::new(&[1], &[7], &[1], &[9]).map(|b| b.count()), Some(1));
    }

    #[test]
    fn three_axes_apart_and_too_many_batches_are_refused() {
        assert_eq!(Batches::new(&[2, 3, 4], &[900, 200, 10], &[2, 3, 4], &[900, 200, 10]), None);
        assert_eq!(Batches::new(&[70_000], &[8], &[70_000], &[8]), None);
        assert_eq!(Batches::new(&[0], &[8], &[0], &[8]), None);
    }

    #[test]
    fn axes_that_do_not_fit_each_other_are_refused() {
        assert_eq!(Batches::new(&[2], &[8], &[3], &[8]), None);
        assert_eq!(Batches::new(&[2, 3], &[24, 8], &[3], &[8]), None);
    }
}
