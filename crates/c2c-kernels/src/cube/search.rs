//! Searches of one cube in a row of keys: for the key at a rank or at a share of the mass, and for an id.
//!
//! Whatever is added up is an integer: sums are exact, and the same in any order. A token's mass is its weight times a scale, which
//! is chosen so that a row's masses add up to about [`WHOLE`]. All of a cube's units take the same way through these functions.

use cubecl::prelude::*;

use super::order::value_of;

/// What the masses of a row add up to, give or take what rounding each of them adds.
pub(super) const WHOLE: f32 = 2_147_483_648.0;
/// Parts of a range of keys that are told apart in one pass over the row.
pub(super) const BINS: usize = 2048;
const LOG_BINS: u32 = 11;
/// Groups of units whose sums are added up first.
const GROUPS: usize = 32;

/// A row of keys and what gives a key its mass.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Row {
    /// The row's first vector.
    pub(super) start: usize,
    /// Vectors of the row.
    pub(super) vectors: usize,
    /// The largest key.
    pub(super) top: u32,
    /// One over the temperature.
    pub(super) rate: f32,
}

/// Which tokens are left: those with larger keys than `key`, and of those with this very key the ids up to `last`. Each has the
/// weight of its key times `scale` as mass, or 1 where `by_mass` is false.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Kept {
    pub(super) key: u32,
    pub(super) last: u32,
    pub(super) scale: f32,
    pub(super) by_mass: bool,
}

/// A weight between 0 and 1; 1 for the largest key.
#[cube]
pub(super) fn weight(row: &Row, key: u32) -> f32 {
    f32::exp((value_of(key) - value_of(row.top)) * row.rate)
}

#[cube]
pub(super) fn is_kept(kept: &Kept, key: u32, id: u32) -> bool {
    key > kept.key || (key == kept.key && id <= kept.last)
}

#[cube]
pub(super) fn mass(row: &Row, kept: &Kept, key: u32) -> u32 {
    let mass = RuntimeCell::<u32>::new(1_u32);
    if kept.by_mass {
        mass.store(u32::cast_from(weight(row, key) * kept.scale + 0.5_f32));
    }
    mass.read()
}

/// Shared memory of the searches.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Desk {
    /// Masses of parts of a range of keys; all 0 between two searches.
    bins: SharedMemory<Atomic<u32>>,
    /// A sum a unit.
    sums: SharedMemory<u32>,
    /// A sum a group of units.
    groups: SharedMemory<u32>,
    /// What one unit tells the others.
    told: SharedMemory<u32>,
}

#[cube]
impl Desk {
    pub(super) fn new(#[comptime] units: usize) -> Desk {
        let bins = SharedMemory::<Atomic<u32>>::new(BINS);
        #[unroll]
        for j in 0..comptime!(BINS / units) {
            bins[UNIT_POS as usize + j * units].store(0_u32);
        }
        let desk = Desk {
            bins,
            sums: SharedMemory::<u32>::new(units),
            groups: SharedMemory::<u32>::new(GROUPS),
            told: SharedMemory::<u32>::new(3usize),
        };
        sync_cube();
        desk
    }
}

/// Notes every unit's sum; returns the sum of all.
#[cube]
fn note(desk: &mut Desk, sum: u32, #[comptime] units: usize) -> u32 {
    let lanes = comptime!(units / GROUPS);
    let unit = UNIT_POS as usize;
    // Others may still read the sums of before.
    sync_cube();
    desk.sums[unit] = sum;
    sync_cube();
    if unit < GROUPS {
        let all = RuntimeCell::<u32>::new(0_u32);
        for lane in 0..lanes {
            all.store(all.read() + desk.sums[unit * lanes + lane]);
        }
        desk.groups[unit] = all.read();
    }
    sync_cube();
    let all = RuntimeCell::<u32>::new(0_u32);
    for group in 0..GROUPS {
        all.store(all.read() + desk.groups[group]);
    }
    all.read()
}

/// The first unit whose sum, added to those of the units before, is more than `rank`, which is less than the sum of all; and what
/// is left of `rank` there.
#[cube]
fn owner(desk: &Desk, rank: u32, #[comptime] units: usize) -> (u32, u32) {
    let lanes = comptime!(units / GROUPS);
    let at = RuntimeCell::<u32>::new(0_u32);
    let left = RuntimeCell::<u32>::new(rank);
    while left.read() >= desk.groups[at.read() as usize] && at.read() < comptime!(GROUPS as u32 - 1) {
        left.store(left.read() - desk.groups[at.read() as usize]);
        at.store(at.read() + 1);
    }
    at.store(at.read() * comptime!(lanes as u32));
    while left.read() >= desk.sums[at.read() as usize] && at.read() < comptime!(units as u32 - 1) {
        left.store(left.read() - desk.sums[at.read() as usize]);
        at.store(at.read() + 1);
    }
    (at.read(), left.read())
}

/// The first id behind which the masses of the kept tokens with a key from `kept.key` to `most`, in the order of ids, add up to more
/// than a number: `share` of all their mass in units of 2^-32, or without `by_mass` `share` itself.
#[cube]
pub(super) fn find_id<N: Size>(
    keys: &Array<Vector<u32, N>>,
    desk: &mut Desk,
    row: &Row,
    kept: &Kept,
    most: u32,
    share: u32,
    #[comptime] units: usize,
) -> u32 {
    let unit = UNIT_POS as usize;
    let begin = RuntimeCell::<usize>::new(0usize);
    let length = RuntimeCell::<usize>::new(row.vectors);
    let left = RuntimeCell::<u32>::new(share);
    let first = RuntimeCell::<bool>::new(true);
    // Each unit takes a stretch; the stretch in which the number is passed is divided again, down to a vector.
    while first.read() || length.read() > 1 {
        let stretch = length.read().div_ceil(units);
        let end = begin.read() + length.read();
        let from = begin.read() + unit * stretch;
        let to = RuntimeCell::<usize>::new(from + stretch);
        if to.read() > end {
            to.store(end);
        }
        let sum = RuntimeCell::<u32>::new(0_u32);
        let at = RuntimeCell::<usize>::new(from);
        while at.read() < to.read() {
            let vector = keys[row.start + at.read()];
            #[unroll]
            for e in 0..N::value() {
                let (key, id) = (vector[e], (at.read() * N::value() + e) as u32);
                if key <= most && is_kept(kept, key, id) {
                    sum.store(sum.read() + mass(row, kept, key));
                }
            }
            at.store(at.read() + 1);
        }
        let all = note(desk, sum.read(), units);
        if first.read() && kept.by_mass {
            left.store(u32::mul_hi(all, share));
        }
        first.store(false);
        let (found, rest) = owner(desk, left.read(), units);
        left.store(rest);
        begin.store(begin.read() + found as usize * stretch);
        length.store(stretch);
        if begin.read() + stretch > end {
            length.store(end - begin.read());
        }
    }
    let id = RuntimeCell::<u32>::new(0_u32);
    let passed = RuntimeCell::<bool>::new(false);
    let vector = keys[row.start + begin.read()];
    #[unroll]
    for e in 0..N::value() {
        let (key, here) = (vector[e], (begin.read() * N::value() + e) as u32);
        if !passed.read() && key <= most && is_kept(kept, key, here) {
            let mass = mass(row, kept, key);
            id.store(here);
            passed.store(mass > left.read());
            left.store(left.read() - mass);
        }
    }
    id.read()
}

/// What [`find_key`] finds.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Edge {
    /// False if all that is kept is less than what was looked for.
    pub(super) found: bool,
    /// The key with which it is passed.
    pub(super) key: u32,
    /// The mass of the tokens with this key.
    pub(super) mass: u32,
    /// The mass of those with larger keys.
    pub(super) above: u32,
    /// What was looked for, less that.
    pub(super) left: u32,
}

/// The key with which the masses of the kept tokens, in falling order of keys, add up to more than a number: `rank`; or with
/// `by_mass`, `share` of all their mass in units of 2^-32, and what is looked for is the first key with which they reach it, or, with
/// `strictly`, with which they are more.
#[cube]
pub(super) fn find_key<N: Size>(
    keys: &Array<Vector<u32, N>>,
    desk: &mut Desk,
    row: &Row,
    kept: &Kept,
    rank: u32,
    share: u32,
    strictly: bool,
    #[comptime] units: usize,
) -> Edge {
    let per = comptime!(BINS / units);
    let unit = UNIT_POS as usize;
    // Keys are counted down from the largest. Of the range `base..base + 2^bits`, where the number is passed, all but a bin is left
    // out in each round.
    let base = RuntimeCell::<u32>::new(0_u32);
    let bits = RuntimeCell::<u32>::new(32_u32 - (row.top - kept.key).leading_zeros());
    let sought = RuntimeCell::<u32>::new(rank);
    let left = RuntimeCell::<u32>::new(rank);
    let here = RuntimeCell::<u32>::new(0_u32);
    let found = RuntimeCell::<bool>::new(true);
    let first = RuntimeCell::<bool>::new(true);
    while found.read() && (first.read() || bits.read() > 0) {
        let shift = RuntimeCell::<u32>::new(0_u32);
        if bits.read() > LOG_BINS {
            shift.store(bits.read() - LOG_BINS);
        }
        let used = 1_u32 << (bits.read() - shift.read());
        let at = RuntimeCell::<usize>::new(unit);
        while at.read() < row.vectors {
            let vector = keys[row.start + at.read()];
            #[unroll]
            for e in 0..N::value() {
                let (key, id) = (vector[e], (at.read() * N::value() + e) as u32);
                if is_kept(kept, key, id) {
                    let depth = row.top - key;
                    let bin = (depth - base.read()) >> shift.read();
                    if depth >= base.read() && bin < used {
                        desk.bins[bin as usize].fetch_add(mass(row, kept, key));
                    }
                }
            }
            at.store(at.read() + units);
        }
        sync_cube();
        let mut mine = Array::<u32>::new(per);
        let sum = RuntimeCell::<u32>::new(0_u32);
        #[unroll]
        for j in 0..per {
            mine[j] = desk.bins[unit * per + j].swap(0_u32);
            sum.store(sum.read() + mine[j]);
        }
        let all = note(desk, sum.read(), units);
        if first.read() {
            if kept.by_mass {
                sought.store(u32::mul_hi(all, share));
                // To reach a number is to be more than the integer below it.
                if !strictly && all * share == 0_u32 {
                    sought.store(sought.read() - 1);
                }
            }
            left.store(sought.read());
            found.store(sought.read() < all);
        }
        first.store(false);
        if found.read() {
            let (owner, rest) = owner(desk, left.read(), units);
            if unit == owner as usize {
                let rest = RuntimeCell::<u32>::new(rest);
                let passed = RuntimeCell::<bool>::new(false);
                #[unroll]
                for j in 0..per {
                    if !passed.read() {
                        if mine[j] > rest.read() {
                            passed.store(true);
                            desk.told[0] = (unit * per + j) as u32;
                            desk.told[1] = rest.read();
                            desk.told[2] = mine[j];
                        } else {
                            rest.store(rest.read() - mine[j]);
                        }
                    }
                }
            }
            sync_cube();
            base.store(base.read() + (desk.told[0] << shift.read()));
            left.store(desk.told[1]);
            here.store(desk.told[2]);
        }
        bits.store(shift.read());
    }
    Edge {
        found: found.read(),
        key: row.top - base.read(),
        mass: here.read(),
        above: sought.read() - left.read(),
        left: left.read(),
    }
}
