//! Matrix products in slices.

use gemm::Parallelism;

/// Multiplications from which a product is worth a second thread.
const PARALLEL: usize = 192 * 192 * 192;

/// A matrix that lies in a slice; element `(row, col)` is at `row * row_step + col * col_step`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    cols: usize,
    row_step: usize,
    col_step: usize,
}

impl<'a> Matrix<'a> {
    /// Row after row, without gaps.
    pub(super) fn new(values: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(values.len(), rows * cols, "a matrix of {rows} x {cols}");
        Self { values, rows, cols, row_step: cols, col_step: 1 }
    }

    /// Rows.
    pub(super) fn rows(self) -> usize {
        self.rows
    }

    /// The same values with rows and columns exchanged.
    pub(super) fn turned(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_step: self.col_step, col_step: self.row_step, ..self }
    }
}

/// Where a product is written: `steps` from a row and from a column to the next.
pub(super) struct Target<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) steps: [usize; 2],
    /// Adds the product to what is there.
    pub(super) add: bool,
}

/// How many threads work on one product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// This one: others work on other products.
    One,
    /// All, if the product is large enough.
    All,
}

/// `out = a @ b`, or `out += a @ b`.
///
/// # Panics
/// Inner sizes that differ, or a target that is too small or whose places overlap.
#[allow(unsafe_code)]
pub(super) fn product(out: Target<'_>, a: Matrix<'_>, b: Matrix<'_>, threads: Threads) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    assert_eq!(k, b.rows, "the inner sizes of a product");
    if m == 0 || n == 0 {
        return;
    }
    let [row_step, col_step] = out.steps;
    let last = (m - 1) * row_step + (n - 1) * col_step;
    assert!(last < out.values.len(), "a product of {m} x {n} has no room in {} values", out.values.len());
    let apart = (row_step >= n * col_step && col_step > 0) || (col_step >= m * row_step && row_step > 0);
    assert!(apart, "the places of a product overlap: steps of {row_step} and {col_step}");
    if k == 0 {
        return;
    }
    let parallelism = match threads {
        Threads::All if m * n * k >= PARALLEL => Parallelism::Rayon(0),
        _ => Parallelism::None,
    };
    let steps = |x: Matrix<'_>| (x.col_step as isize, x.row_step as isize);
    let ((a_cols, a_rows), (b_cols, b_rows)) = (steps(a), steps(b));
    // SAFETY: a `Matrix` spans its slice exactly, the last place of the result lies inside its slice, no two of its places are the
    // same, and it is borrowed alone.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.values.as_mut_ptr(),
            col_step as isize,
            row_step as isize,
            out.add,
            a.values.as_ptr(),
            a_cols,
            a_rows,
            b.values.as_ptr(),
            b_cols,
            b_rows,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
