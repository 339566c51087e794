//! The pickle of a state dict.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = c2c_export::torch::state_dict(data);
});
