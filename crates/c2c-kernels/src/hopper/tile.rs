//! The kernel's tiles, and which of them suits a product.

/// Threads of a warpgroup.
pub(super) const THREADS: usize = 128;
/// Rows that a warpgroup makes, and the inner axis's length of a slice.
const STEP: usize = 64;
/// Bytes in a line of shared memory.
const LINE: usize = 128;

/// What a block of the kernel makes of the result, and in how many steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Warpgroups of 64 rows each.
    pub warpgroups: usize,
    /// Columns.
    pub columns: usize,
    /// Slices of the inner axis that shared memory holds.
    pub stages: usize,
}

impl Tile {
    /// The tiles to choose from.
    pub const ALL: [Self; 4] = [Self::new(2, 256, 4), Self::new(2, 128, 3), Self::new(1, 128, 4), Self::new(1, 64, 6)];

    const fn new(warpgroups: usize, columns: usize, stages: usize) -> Self {
        Self { warpgroups, columns, stages }
    }

    /// Rows of the tile.
    pub(super) fn rows(self) -> usize {
        self.warpgroups * STEP
    }

    /// Shared memory in bytes: the buffers, and room to begin them at a multiple of 1,024.
    pub(super) const fn shared(self) -> usize {
        (self.warpgroups * STEP + self.columns) * LINE * self.stages + 1024
    }

    pub(super) fn most_shared() -> usize {
        Self::ALL.into_iter().map(Self::shared).max().unwrap_or(0)
    }

    /// The tile with which a device of so many multiprocessors is soonest done with a product.
    pub(super) fn for_product(m: usize, n: usize, k: usize, batches: usize, processors: usize) -> Self {
        let time = |tile: &Self| tile.cost(m, n, k, batches, processors);
        // There is always one: the list is a constant.
        Self::ALL.into_iter().min_by(|a, b| time(a).total_cmp(&time(b))).unwrap_or(Self::ALL[0])
    }

    /// Time that a product takes by this tile, in units that mean nothing.
    fn cost(&self, m: usize, n: usize, k: usize, batches: usize, processors: usize) -> f64 {
        let blocks = m.div_ceil(self.rows()) * n.div_ceil(self.columns) * batches;
        // Shared memory that a multiprocessor has, of which every block costs 1 KiB more than it asks for.
        let at_once = (233_472 / (self.shared() + 1024)).max(1);
        let waves = blocks.div_ceil(processors * at_once) as f64;
        let area = (self.rows() * self.columns) as f64;
        let edge = (self.rows() + self.columns) as f64;
        // What is multiplied, what is read, and what a slice and a block cost at least.
        let slice = area / 16.0 + edge + 200.0;
        waves * at_once as f64 * (k.div_ceil(STEP) as f64 * slice + area / 8.0 + 1500.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiprocessors of an H100.
    const PROCESSORS: usize = 132;

    fn chosen(m: usize, n: usize, k: usize, batches: usize) -> (usize, usize) {
        let tile = Tile::for_product(m, n, k, batches, PROCESSORS);
        (tile.rows(), tile.columns)
    }

    /// Each of these was the fastest of the four, or within a tenth of it, on an H100 (docs/performance.md).
    #[test]
    fn the_tile_is_one_that_was_fast() {
        assert_eq!(chosen(512, 1024, 2048, 1), (64, 64), "output projection");
        assert_eq!(chosen(512, 1024, 3072, 1), (64, 64), "down");
        assert_eq!(chosen(512, 3072, 1024, 2), (128, 256), "gate and up");
        assert_eq!(chosen(512, 1024, 1152, 56), (128, 256), "fuser input");
        assert_eq!(chosen(1024, 1024, 2048, 56), (128, 256), "gradient of a fuser's weight");
        assert_eq!(chosen(512, 151_936, 1024, 1), (128, 256), "head");
        assert_eq!(chosen(14_336, 64, 2048, 2), (64, 64), "weighted values of width 64");
    }

    #[test]
    fn every_tile_fits_a_multiprocessor() {
        // What an H100 lets one block have.
        const MOST: usize = 227 * 1024;
        assert!(Tile::most_shared() <= MOST, "{} bytes", Tile::most_shared());
        for tile in Tile::ALL {
            // The kernel stages a warpgroup's 64 rows of results, 16 bytes apart from a multiple of 128, in the same memory.
            let results = tile.rows() * (2 * tile.columns + 16);
            assert!(results + 1024 <= tile.shared(), "{tile:?}");
            assert!(tile.stages > 2, "{tile:?}: a slice is multiplied, one is done with, and one has to be on its way");
            assert!(tile.warpgroups * THREADS <= 1024, "{tile:?}");
        }
    }
}
