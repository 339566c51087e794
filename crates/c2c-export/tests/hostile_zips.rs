//! Zip bombs, lying directories and absurd shapes in PyTorch files.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/alloc.rs"]
mod alloc;
#[path = "common/zip.rs"]
mod zip;

use alloc::{measured, quick};
use c2c_export::torch::{StateDict, StorageType, TensorFile, write_state_dict};
use zip::{End, Record, record, zip};

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn long(n: u64) -> Vec<u8> {
    [b"\x8a\x09".as_slice(), &n.to_le_bytes(), b"\0"].concat()
}

fn number(n: u64) -> Vec<u8> {
    if n < 1 << 63 { [b"\x8a\x08".as_slice(), &n.to_le_bytes()].concat() } else { long(n) }
}

/// Tensors by name, storage, elements of the storage, offset, shape, strides.
type Tensor<'a> = (&'a str, &'a str, u64, u64, &'a [u64], &'a [u64]);

fn pickle(tensors: &[Tensor<'_>]) -> Vec<u8> {
    let tuple =
        |sizes: &[u64]| [b"(".to_vec(), sizes.iter().flat_map(|n| number(*n)).collect(), b"t".to_vec()].concat();
    let mut p = b"\x80\x02}(".to_vec();
    for (name, storage, len, offset, shape, strides) in tensors {
        p.extend(text(name));
        p.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        p.extend(text("storage"));
        p.extend(b"ctorch\nFloatStorage\n");
        p.extend([text(storage), text("cpu"), number(*len)].concat());
        p.extend(b"tQ");
        p.extend([number(*offset), tuple(shape), tuple(strides)].concat());
        p.extend(b"\x89}tR");
    }
    p.extend(b"u.");
    p
}

/// Elements of the one storage.
const LEN: usize = 6;

fn records(pickle: &[u8]) -> Vec<Record> {
    let values: Vec<u8> = (0..LEN).flat_map(|i| (i as f32).to_le_bytes()).collect();
    vec![record("x/data.pkl", pickle), record("x/byteorder", b"little"), record("x/data/0", &values)]
}

fn good() -> Vec<Record> {
    records(&pickle(&[("w", "0", 6, 0, &[2, 3], &[3, 1])]))
}

fn open(bytes: &[u8]) -> Result<Vec<f32>, String> {
    let tmp = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(tmp.path(), bytes).unwrap();
    let mut state = StateDict::open(tmp.path()).map_err(|e| e.to_string())?;
    state.read("w").map_err(|e| e.to_string()).map(Option::unwrap_or_default)
}

#[test]
fn strides_and_offsets_are_followed() {
    let read = |offset, shape: &[u64], strides: &[u64]| {
        open(&zip(&records(&pickle(&[("w", "0", 6, offset, shape, strides)])), End::default())).unwrap()
    };
    assert_eq!(read(0, &[2, 3], &[3, 1]), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(read(0, &[3, 2], &[1, 3]), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0], "a transpose");
    assert_eq!(read(2, &[2], &[2]), [2.0, 4.0], "every second");
    assert_eq!(read(4, &[], &[]), [4.0], "one value");
    assert_eq!(read(1, &[1, 3], &[99, 1]), [1.0, 2.0, 3.0], "the stride of an axis of 1 says nothing");
    assert!(read(6, &[0, 1 << 40], &[1, 1]).is_empty());
    let wide = zip(&good(), End { wide: Some((3, directory_bytes(&good()), start(&good()))), ..End::default() });
    assert_eq!(open(&wide).unwrap().len(), 6, "as PyTorch writes it, with a zip64 directory");
}

/// Bytes of the directory of these records.
fn directory_bytes(records: &[Record]) -> u64 {
    records.iter().map(|r| 46 + r.name.len() as u64).sum()
}

/// Where it starts.
fn start(records: &[Record]) -> u64 {
    records.iter().map(|r| 30 + (r.name.len() + r.bytes.len()) as u64).sum()
}

#[test]
fn what_is_written_is_read_back() {
    let tmp = tempfile::NamedTempFile::new().unwrap();
    for kind in [StorageType::F32, StorageType::Bf16, StorageType::F16] {
        let values: Vec<f32> = (0..300).map(|i| (i % 64) as f32 / 4.0).collect();
        let tensors = [TensorFile::new("gate", &[], &[0.5], kind), TensorFile::new("w", &[3, 100], &values, kind)];
        let mut out = Vec::new();
        write_state_dict(&mut out, "layer", kind, &tensors).unwrap();
        std::fs::write(tmp.path(), &out).unwrap();
        let mut state = StateDict::open(tmp.path()).unwrap();
        assert_eq!(state.names().collect::<Vec<_>>(), ["gate", "w"]);
        assert_eq!(state.view("w").unwrap().shape, [3, 100]);
        assert_eq!(state.view("w").unwrap().kind, kind);
        assert_eq!(state.read("w").unwrap().unwrap(), values);
        assert_eq!(state.read("gate").unwrap().unwrap(), [0.5]);
        assert_eq!(state.read("v").unwrap(), None);
    }
}

fn hostile() -> Vec<(String, Vec<u8>, &'static str)> {
    let mut out: Vec<(String, Vec<u8>, &'static str)> = Vec::new();
    let mut add = |case: &str, bytes: Vec<u8>, expected| out.push((case.to_owned(), bytes, expected));
    let with = |edit: &dyn Fn(&mut Vec<Record>)| {
        let mut records = good();
        edit(&mut records);
        zip(&records, End::default())
    };
    let shaped = |tensor: Tensor<'_>| zip(&records(&pickle(&[tensor])), End::default());
    let whole = zip(&good(), End::default());

    add("an empty file", Vec::new(), "no zip file");
    add("a pickle alone", pickle(&[]), "no zip file");
    add("a tar file", [b"././@LongLink".as_slice(), &[0; 1000]].concat(), "no zip file");
    add("zeros", vec![0; 1 << 20], "no zip file");
    add("a start without end", [b"PK\x03\x04".as_slice(), &[0; 1 << 20]].concat(), "no directory at its end");
    add("something behind it", [whole.clone(), vec![0]].concat(), "no directory at its end");
    add("something before it", [b"PK\x03\x04".to_vec(), whole.clone()].concat(), "expected it to end at");
    add("a comment", [&whole[..whole.len() - 2], b"\x05\0hello"].concat(), "no directory at its end");
    // Bombs: what is compressed can be any number of times larger than the file.
    add("deflate", with(&|r| r[2].method = 8), "is compressed (method 8)");
    add("bzip2", with(&|r| r[2].method = 12), "is compressed (method 12)");
    add("a compressed pickle", with(&|r| (r[0].method, r[0].sizes) = (8, Some((10, u32::MAX - 1)))), "is compressed");
    add("a stored record of two sizes", with(&|r| r[2].sizes = Some((24, 1 << 30))), "sizes differ: 1073741824 and 24");
    add("a record of 2 GB", with(&|r| r[2].sizes = Some((1 << 31, 1 << 31))), "of 2147483648 bytes");
    add("records on one another", with(&|r| r[2].header = Some(0)), "reaches over");
    add("a record on half of another", with(&|r| r[1].header = Some(20)), "reaches over");
    add("a record in the directory", with(&|r| r[2].header = Some(start(&good()) as u32)), "reaches over");
    add("a record behind the end", with(&|r| r[2].header = Some(u32::MAX - 1)), "reaches over");
    let wide = |fields: &[u64]| {
        let body: Vec<u8> = fields.iter().flat_map(|n| n.to_le_bytes()).collect();
        [b"\x01\x00".as_slice(), &(body.len() as u16).to_le_bytes(), &body].concat()
    };
    let huge = u64::MAX - 8;
    add(
        "a zip64 record of 2^64",
        with(&|r| (r[2].sizes, r[2].extra) = (Some((u32::MAX, u32::MAX)), wide(&[huge, huge]))),
        "bytes at",
    );
    add("zip64 sizes that aren't there", with(&|r| r[2].sizes = Some((u32::MAX, u32::MAX))), "no zip64 sizes");
    add(
        "an extra field that is cut off",
        with(&|r| (r[2].sizes, r[2].extra) = (Some((u32::MAX, u32::MAX)), vec![1, 0, 99, 0])),
        "no zip64 sizes",
    );
    add(
        "2^60 records",
        zip(&good(), End { wide: Some((1 << 60, 200, 0)), ..End::default() }),
        "records of the zip file",
    );
    add(
        "a directory of 2^60 bytes",
        zip(&good(), End { wide: Some((3, 1 << 60, 0)), ..End::default() }),
        "bytes of its directory",
    );
    add(
        "a directory at 2^64",
        zip(&good(), End { wide: Some((3, 200, u64::MAX - 100)), ..End::default() }),
        "expected it to end at",
    );
    add(
        "a directory that starts late",
        zip(&good(), End { start: Some(u32::MAX), ..End::default() }),
        "expected it to end at",
    );
    add(
        "65,535 records",
        zip(&good(), End { count: Some(u16::MAX), ..End::default() }),
        "records of the zip file: 65535",
    );
    add("a record too many", zip(&good(), End { count: Some(4), ..End::default() }), "no directory entry");
    add("a record too few", zip(&good(), End { count: Some(2), ..End::default() }), "its 2 records take");
    add("encrypted", with(&|r| r[2].flags = 1), "is encrypted");
    add("a record twice", with(&|r| r.push(r[2].clone())), "is there twice");
    add("up and away", with(&|r| r[2].name = "x/../../etc/passwd".into()), "would lie outside");
    add("an absolute name", with(&|r| r[2].name = "/etc/passwd".into()), "would lie outside");
    add("a name of another system", with(&|r| r[2].name = "x\\data\\0".into()), "would lie outside");
    add("a name with a null byte", with(&|r| r[2].name = "x/data/0\0".into()), "without control characters");
    add("a name that steers a terminal", with(&|r| r[2].name = "x/\u{1b}[2J".into()), "`x/\\u{1b}[2J`");
    add("a name of 10 kB", with(&|r| r[2].name = "x/".repeat(5_000)), "at most 512 bytes");
    add("another folder", with(&|r| r[2].name = "y/data/0".into()), "lies outside `x/`");
    add("two folders", with(&|r| r.push(record("y/data.pkl", b""))), "lies outside");
    add(
        "TorchScript",
        with(&|r| r.push(record("x/code/__torch__.py", b"import os"))),
        "`code/__torch__.py` is no part",
    );
    add("constants", with(&|r| r.push(record("x/constants.pkl", b"."))), "`constants.pkl` is no part");
    add("big-endian", with(&|r| r[1].bytes = b"big".to_vec()), "byteorder is `big`");
    add("another name in the local header", with(&|r| r[2].local_name = Some("x/data/1".into())), "another name");
    add("a wrong checksum", with(&|r| r[2].crc = Some(1)), "its checksum differs");
    add("a pickle with a wrong checksum", with(&|r| r[0].crc = Some(1)), "its checksum differs");
    add("no pickle", with(&|r| drop(r.remove(0))), "no record `<name>/data.pkl`");
    add("a pickle of 2 MB", with(&|r| r[0].bytes = vec![b'('; 2 << 20]), "at most 1048576");
    add("no storage", with(&|r| drop(r.remove(2))), "storage 0 is not in the file");
    add("a storage that is too small", with(&|r| r[2].bytes.truncate(23)), "has 23 bytes, expected 6 elements of 4");
    add("a storage without tensor", with(&|r| r.push(record("x/data/1", b""))), "storage 1 belongs to no tensor");
    // Shapes.
    let n = 1u64 << 62;
    add("2^62 elements of 24 bytes", shaped(("w", "0", n, 0, &[n], &[1])), "has 24 bytes");
    add("a shape beyond its storage", shaped(("w", "0", 6, 0, &[7], &[1])), "reach over the 6 elements");
    add("an offset beyond it", shaped(("w", "0", 6, 6, &[], &[])), "reach over");
    add("strides beyond it", shaped(("w", "0", 6, 0, &[2, 3], &[4, 1])), "reach over");
    add("a shape that overflows", shaped(("w", "0", 6, 0, &[n, n], &[0, 0])), "beyond all memory");
    add("strides that overflow", shaped(("w", "0", 6, 0, &[5], &[n])), "beyond all memory");
    add("an offset that overflows", shaped(("w", "0", 6, (1 << 63) - 1, &[3, 3], &[n, n])), "beyond all memory");
    add("one element, 2^40 times", shaped(("w", "0", 6, 0, &[1 << 40], &[0])), "reach over");
    let twice = pickle(&[("v", "0", 6, 0, &[6], &[1]), ("w", "0", 6, 0, &[6], &[1])]);
    add("one storage, two tensors", zip(&records(&twice), End::default()), "shares elements of storage 0");
    let part = pickle(&[("v", "0", 6, 0, &[2], &[2]), ("w", "0", 6, 1, &[2], &[2])]);
    add("two tensors between one another", zip(&records(&part), End::default()), "with the tensor `v`");
    // A record whose local header names a longer name or extra field would be read from out of the next one.
    let second = 30 + "x/data.pkl".len() + good()[0].bytes.len();
    for field in [26, 28] {
        let mut bytes = whole.clone();
        bytes[second + field] += 30;
        add("bytes from out of the next record", bytes, "`x/byteorder` of 6 bytes");
    }
    for end in (0..whole.len()).step_by(7) {
        add(&format!("the first {end} bytes"), whole[..end].to_vec(), "zip container");
    }
    out
}

#[test]
fn hostile_zip_files_are_refused() {
    let cases = hostile();
    assert!(cases.len() > 60, "{}", cases.len());
    assert_eq!(open(&zip(&good(), End::default())).unwrap().len(), 6);
    for (case, bytes, expected) in cases {
        let (result, held) = quick(&case, || open(&bytes));
        let error = result.err().unwrap_or_else(|| panic!("{case}: read"));
        assert!(error.contains(expected), "{case}: {error}");
        assert!(error.len() < 1_000 && !error.contains(char::is_control), "{case}: {error:?}");
        assert!(held <= 4 * bytes.len() + (32 << 10), "{case}: {held} bytes for a file of {}", bytes.len());
    }
}

#[test]
fn tensors_that_share_a_storage_read_it_once_and_take_their_part_of_it() {
    const TENSORS: usize = 32;
    const EACH: usize = 32 << 10;
    let names: Vec<String> = (0..TENSORS).map(|i| if i == 0 { "w".into() } else { format!("t{i}") }).collect();
    let shape = [EACH as u64];
    let (all, each) = ((TENSORS * EACH) as u64, EACH as u64);
    let tensors: Vec<Tensor<'_>> = (0..TENSORS)
        .map(|i| (names[i].as_str(), "0", all, i as u64 * each, shape.as_slice(), [1].as_slice()))
        .collect();
    let mut records = records(&pickle(&tensors));
    records[2].bytes = (0..all as u32).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let tmp = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(tmp.path(), zip(&records, End::default())).unwrap();
    let mut state = StateDict::open(tmp.path()).unwrap();
    for (i, name) in names.iter().enumerate() {
        let (values, held) = measured(|| state.read(name).unwrap().unwrap());
        assert_eq!((values.len(), values[0], values[EACH - 1]), (EACH, (i * EACH) as f32, ((i + 1) * EACH - 1) as f32));
        // The tensor as bytes and as numbers; a part of the storage while its checksum is made.
        assert!(held <= 8 * EACH + (1 << 20) + (16 << 10), "{name}: {held} bytes");
        let (_, again) = measured(|| state.read(name).unwrap().unwrap());
        assert!(again <= 8 * EACH + (16 << 10), "{name}: {again} bytes once the storage is known to be sound");
    }
    records[2].crc = Some(1);
    std::fs::write(tmp.path(), zip(&records, End::default())).unwrap();
    let error = StateDict::open(tmp.path()).unwrap().read("t3").unwrap_err().to_string();
    assert!(error.contains("its checksum differs"), "{error}");
}
