//! Pickles that would run something, or that would make a careless reader run out of memory: refused by name.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/alloc.rs"]
mod alloc;

use alloc::quick;
use c2c_export::torch::state_dict;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// `\x80\x02` and the parts.
fn pickle(parts: &[&[u8]]) -> Vec<u8> {
    [&[&[0x80, 2][..]], parts].concat().concat()
}

fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

/// A storage of 6 floats under this key.
fn storage(key: &[u8]) -> Vec<u8> {
    [b"(".as_slice(), &text("storage"), b"ctorch\nFloatStorage\n", key, &text("cpu"), b"K\x06tQ"].concat()
}

/// A tensor of this storage, offset, sizes and strides.
fn tensor(storage: &[u8], rest: &[u8]) -> Vec<u8> {
    [b"ctorch._utils\n_rebuild_tensor_v2\n(", storage, rest].concat()
}

const HOOKS: &[u8] = b"\x89ccollections\nOrderedDict\n)RtR";

/// A dict with one entry `w`.
fn dict(value: &[u8]) -> Vec<u8> {
    pickle(&[b"}", &text("w"), value, b"s."])
}

fn good() -> Vec<u8> {
    tensor(&storage(&text("0")), &[b"K\x00K\x02K\x03\x86K\x03K\x01\x86".as_slice(), HOOKS].concat())
}

#[test]
fn what_torch_writes_is_read() {
    let found = state_dict(&dict(&good())).unwrap();
    assert_eq!(found.len(), 1);
    let (name, view) = &found[0];
    assert_eq!((name.as_str(), view.storage.as_str(), view.storage_len, view.offset), ("w", "0", 6, 0));
    assert_eq!((view.shape.as_slice(), view.strides.as_slice()), ([2, 3].as_slice(), [3, 1].as_slice()));
    let parameter = [b"ctorch._utils\n_rebuild_parameter\n(".as_slice(), &good(), HOOKS].concat();
    assert_eq!(state_dict(&dict(&parameter)).unwrap(), found, "a parameter is its tensor");
    let noted = pickle(&[b"ccollections\nOrderedDict\n)R", &text("w"), &good(), b"s}", &text("_metadata"), b"}sb."]);
    assert_eq!(state_dict(&noted).unwrap(), found, "notes of PyTorch's own");
}

fn hostile() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let call = |name: &str| pickle(&[format!("c{name}\n").as_bytes(), b"(", &text("id"), b"tR."]);
    let raw = |body: &[u8]| pickle(&[body]);
    let shaped = |rest: &[u8]| dict(&tensor(&storage(&text("0")), &[rest, HOOKS].concat()));
    let long_key = dict(&tensor(&storage(&text(&"1".repeat(1000))), b"K\x00))\x89}tR"));
    // A list that holds the list before it twice: 2^2000 lists to whoever walks them.
    let laughs: Vec<u8> = (0..2000u16).fold(b"]q\x00".to_vec(), |mut p, _| {
        p.extend(b"](h\x00h\x00eq\x00");
        p
    });
    let many_texts: Vec<u8> = text("a").repeat(70_000);
    vec![
        ("os.system", call("os\nsystem"), "GLOBAL names `os.system`"),
        ("posix.system", call("posix\nsystem"), "GLOBAL names `posix.system`"),
        ("builtins.eval", call("builtins\neval"), "`builtins.eval`"),
        ("__builtin__.exec", call("__builtin__\nexec"), "`__builtin__.exec`"),
        ("builtins.getattr", call("builtins\ngetattr"), "`builtins.getattr`"),
        ("subprocess.Popen", call("subprocess\nPopen"), "`subprocess.Popen`"),
        ("runpy.run_path", call("runpy\nrun_path"), "`runpy.run_path`"),
        ("torch.load", call("torch\nload"), "`torch.load`"),
        ("torch.hub.load", call("torch.hub\nload"), "`torch.hub.load`"),
        ("numpy's own reader", call("numpy.core.multiarray\n_reconstruct"), "_reconstruct`"),
        ("an older rebuild", call("torch._utils\n_rebuild_tensor"), "`torch._utils._rebuild_tensor`"),
        ("a rebuild by type", call("torch._tensor\n_rebuild_from_type_v2"), "_rebuild_from_type_v2`"),
        ("a dotted name", call("collections\nOrderedDict.__init__"), "`collections.OrderedDict.__init__`"),
        ("a name of 1 MB", pickle(&[b"c", &[b'a'; 1_000_000], b"\nb\n."]), "GLOBAL names `aaaa"),
        ("a name that steers a terminal", raw(b"ca\x1b[2J\nb\n."), "names `a\\u{1b}[2J.b`"),
        ("a key that steers it", pickle(&[b"}", &text("\u{1b}[2J"), b"K\x01s."]), "`\\u{1b}[2J` is an integer"),
        ("a key of 1 MB", pickle(&[b"}", &text(&"k".repeat(1_000_000)), b"K\x01s."]), "kk..` is an integer"),
        ("a name that isn't UTF-8", raw(b"c\xff\n\xfe\n."), "aren't UTF-8"),
        ("a name that doesn't end", raw(b"ctorch"), "GLOBAL takes"),
        ("INST", raw(b"(S'id'\nios\nsystem\n."), "opcode STRING is refused"),
        ("INST at once", raw(b"(ios\nsystem\n."), "opcode INST is refused"),
        ("OBJ", raw(b"(ctorch\nFloatStorage\no."), "opcode OBJ is refused"),
        ("NEWOBJ", raw(b"ctorch\nFloatStorage\n)\x81."), "opcode NEWOBJ is refused"),
        ("NEWOBJ_EX", raw(b"\x92."), "opcode NEWOBJ_EX is refused"),
        ("STACK_GLOBAL", pickle(&[&text("os"), &text("system"), b"\x93."]), "opcode STACK_GLOBAL is refused"),
        ("EXT1", raw(b"\x82\x01."), "opcode EXT1 is refused"),
        ("EXT2", raw(b"\x83\x01\x00."), "opcode EXT2 is refused"),
        ("EXT4", raw(b"\x84\x01\x00\x00\x00."), "opcode EXT4 is refused"),
        ("PERSID", raw(b"P0\n."), "opcode PERSID is refused"),
        ("DUP", raw(b"N2."), "opcode DUP is refused"),
        ("BINBYTES", raw(b"B\xff\xff\xff\xff."), "opcode BINBYTES is refused"),
        ("BYTEARRAY8", raw(b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f."), "opcode BYTEARRAY8 is refused"),
        ("READONLY_BUFFER", raw(b"\x98."), "opcode READONLY_BUFFER is refused"),
        ("FRAME", raw(b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f."), "opcode FRAME is refused"),
        ("MEMOIZE", raw(b"N\x94."), "opcode MEMOIZE is refused"),
        ("LONG4", raw(b"\x8b\xff\xff\xff\x7f."), "opcode LONG4 is refused"),
        ("no opcode", raw(b"\xff."), "opcode 0xff (unknown) is refused"),
        ("protocol 4", b"\x80\x04}.".to_vec(), "found protocol 4, expected protocol 2"),
        ("a call of a storage type", raw(b"ctorch\nFloatStorage\n)R."), "REDUCE"),
        ("a call of a dict", raw(b"})R."), "a call of a dict"),
        ("a dict made of a list", raw(b"ccollections\nOrderedDict\n(]tR."), "OrderedDict"),
        ("attributes of a name", raw(b"ccollections\nOrderedDict\n}b."), "BUILD: found a dict of a name"),
        ("attributes that are a list", raw(b"}]b."), "BUILD: found a list of a dict"),
        ("nothing", Vec::new(), "without the opcode STOP"),
        ("no STOP", raw(b"}"), "without the opcode STOP"),
        ("an empty stack", raw(b"."), "an empty stack"),
        ("something behind STOP", raw(b"}.cos\nsystem\n)R."), "bytes behind the opcode STOP"),
        ("a string of 4 GB", raw(b"X\xff\xff\xff\xff"), "BINUNICODE takes 4294967295 bytes"),
        ("a string that isn't UTF-8", raw(b"X\x01\x00\x00\x00\xff."), "aren't UTF-8"),
        ("an integer of 255 bytes", pickle(&[b"\x8a\xff", &[1; 255], b"."]), "an integer of 255 bytes"),
        ("half an integer", raw(b"J\x01"), "BININT takes 4 bytes"),
        ("a memo that isn't there", raw(b"h\x05."), "found memo 5"),
        ("a memo at 2^32", raw(b"j\xff\xff\xff\xff."), "found memo 4294967295"),
        ("no MARK", raw(b"t."), "no MARK"),
        ("below the MARK", raw(b"}(s."), "SETITEM"),
        ("too few for a tuple", raw(b"N\x87."), "TUPLE3"),
        ("a MARK for every byte", pickle(&[&[b'('; 1 << 20]]), "without the opcode STOP"),
        ("a million objects", pickle(&[&[b'N'; 1 << 20]]), "objects of a pickle: 16385"),
        ("70,000 strings", pickle(&[&many_texts, b"."]), "objects of a pickle"),
        ("append to a dict", raw(b"}Na."), "APPEND: found a dict"),
        ("items of a list", raw(b"](NNu."), "SETITEMS: found a list"),
        ("a key without value", raw(b"}(Nu."), "a key without a value"),
        ("a list in itself", raw(b"]q\x00h\x00a."), "holds a list"),
        ("a dict in itself", pickle(&[b"}q\x00", &text("w"), b"h\x00s."]), "`w` is a dict"),
        ("a list of lists of lists", pickle(&[&laughs, b"."]), "holds a list"),
        ("a number as weight", dict(b"K\x01"), "`w` is an integer"),
        ("a number as key", pickle(&[b"}K\x01", &good(), b"s."]), "a key is an integer"),
        ("a key twice", pickle(&[b"}", &text("w"), &good(), b"s", &text("w"), &good(), b"s."]), "`w` is there twice"),
        ("a tensor alone", pickle(&[&good(), b"."]), "holds a tensor"),
        (
            "a storage that is a path",
            dict(&tensor(&storage(&text("../../etc/passwd")), b"K\x00))\x89}tR")),
            "BINPERSID",
        ),
        ("a storage with a long key", long_key, "BINPERSID"),
        ("a storage keyed by a number", dict(&tensor(&storage(b"K\x01"), b"K\x00))\x89}tR")), "BINPERSID"),
        ("another persistent id", dict(b"K\x01Q"), "BINPERSID: found an integer"),
        ("a negative size", shaped(b"K\x00J\xff\xff\xff\xff\x85K\x01\x85"), "RebuildTensor"),
        ("a negative stride", shaped(b"K\x00K\x02\x85J\xff\xff\xff\xff\x85"), "RebuildTensor"),
        ("a negative offset", shaped(b"J\xff\xff\xff\xffK\x02\x85K\x01\x85"), "RebuildTensor"),
        ("a stride too few", shaped(b"K\x00K\x02K\x03\x86K\x01\x85"), "RebuildTensor"),
        ("a size that is a list", shaped(b"K\x00]K\x01\x85"), "RebuildTensor"),
        (
            "100 axes",
            shaped(&[b"K\x00(".as_slice(), &b"K\x01".repeat(100), b"t(", &b"K\x01".repeat(100), b"t"].concat()),
            "RebuildTensor",
        ),
        ("hooks that are a call", dict(&tensor(&storage(&text("0")), b"K\x00))\x89cos\nsystem\n)RtR")), "`os.system`"),
        (
            "hooks that are a name",
            dict(&tensor(&storage(&text("0")), b"K\x00))\x89ctorch\nFloatStorage\ntR")),
            "RebuildTensor",
        ),
    ]
}

#[test]
fn hostile_pickles_are_refused_by_name() {
    let cases = hostile();
    assert!(cases.len() >= 30, "{}", cases.len());
    for (case, bytes, expected) in cases {
        let (result, held) = quick(case, || state_dict(&bytes));
        let error = result.err().unwrap_or_else(|| panic!("{case}: read")).to_string();
        assert!(error.contains(expected), "{case}: {error}");
        assert!(error.len() < 400, "{case}: {} bytes of error", error.len());
        // A mark is a byte of the pickle and 8 of memory, and the list of marks doubles as it grows.
        assert!(held <= 24 * bytes.len() + (16 << 10), "{case}: {held} bytes for a pickle of {}", bytes.len());
    }
}

#[test]
fn every_cut_and_every_changed_byte_is_refused_or_read() {
    let whole = dict(&good());
    for end in 0..whole.len() {
        state_dict(&whole[..end]).expect_err("a pickle that is cut off");
    }
    let mut refused = 0;
    for at in 0..whole.len() {
        for byte in 0..=255u8 {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            // Whatever the byte says, there is an answer.
            refused += usize::from(state_dict(&bytes).is_err());
        }
    }
    assert!(refused > whole.len() * 200, "{refused} of {}", whole.len() * 256);
}
