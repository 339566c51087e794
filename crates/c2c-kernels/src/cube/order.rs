//! Numbers as keys: unsigned integers in the same order, so that a search can go over their bits.

use cubecl::prelude::*;

/// The key of minus infinity; only [`NAN`] says more about a row than its largest key.
pub(super) const NOTHING: u32 = 0x007f_ffff;
/// The key of plus infinity.
pub(super) const INFINITE: u32 = 0xff80_0000;
/// The key of whatever is no number. It is the largest, so that it wins wherever the largest is looked for.
pub(super) const NAN: u32 = 0xffff_ffff;

/// The key of a number: the larger the number, the larger the key. Both zeros have one key. It goes by bits, as a shader's compiler
/// may take it that there are no infinities.
#[cube]
pub(super) fn key_of(x: f32) -> u32 {
    let bits = u32::reinterpret(x);
    let size = bits & 0x7fff_ffff_u32;
    let key = RuntimeCell::<u32>::new(size | 0x8000_0000_u32);
    if bits > 0x8000_0000_u32 {
        key.store(0xffff_ffff_u32 - bits);
    }
    if size > 0x7f80_0000_u32 {
        key.store(NAN);
    }
    key.read()
}

/// The number of a key.
#[cube]
pub(super) fn value_of(key: u32) -> f32 {
    let bits = RuntimeCell::<u32>::new(key ^ 0x8000_0000_u32);
    if key < 0x8000_0000_u32 {
        bits.store(0xffff_ffff_u32 - key);
    }
    f32::reinterpret(bits.read())
}

/// What is wrong with a row of this largest key: [`crate::FAULT_NAN`] and the like, or 0.
#[cube]
pub(super) fn fault_of(top: u32, infinite_is_wrong: bool) -> i32 {
    let fault = RuntimeCell::<i32>::new(0_i32);
    if top == NAN {
        fault.store(crate::FAULT_NAN);
    } else if top <= NOTHING {
        fault.store(crate::FAULT_NOTHING);
    } else if infinite_is_wrong && top == INFINITE {
        fault.store(crate::FAULT_INFINITE);
    }
    fault.read()
}
