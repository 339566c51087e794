//! Zip files with any fault: what a record says about itself need not be true.
#![allow(dead_code)]

/// A record. Local header and directory agree unless the faults say otherwise.
#[derive(Clone)]
pub struct Record {
    pub name: String,
    pub local_name: Option<String>,
    pub bytes: Vec<u8>,
    pub method: u16,
    pub flags: u16,
    pub crc: Option<u32>,
    /// Stored and unpacked size, as the directory has them.
    pub sizes: Option<(u32, u32)>,
    /// Where the directory says that the local header is.
    pub header: Option<u32>,
    pub extra: Vec<u8>,
}

pub fn record(name: &str, bytes: &[u8]) -> Record {
    Record {
        name: name.into(),
        local_name: None,
        bytes: bytes.to_vec(),
        method: 0,
        flags: 0,
        crc: None,
        sizes: None,
        header: None,
        extra: Vec::new(),
    }
}

/// The end of the file, as it says it is.
#[derive(Clone, Copy, Default)]
pub struct End {
    pub count: Option<u16>,
    pub bytes: Option<u32>,
    pub start: Option<u32>,
    /// Records, bytes and start of a zip64 directory.
    pub wide: Option<(u64, u64, u64)>,
}

fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

pub fn zip(records: &[Record], end: End) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for r in records {
        let at = out.len() as u32;
        let (packed, size) = r.sizes.unwrap_or((r.bytes.len() as u32, r.bytes.len() as u32));
        let common = |name: &str, extra: usize| {
            let mut c = Vec::new();
            for field in [20, r.flags, r.method, 0, 0x21] {
                c.extend(field.to_le_bytes());
            }
            for field in [r.crc.unwrap_or_else(|| crc(&r.bytes)), packed, size] {
                c.extend(field.to_le_bytes());
            }
            c.extend((name.len() as u16).to_le_bytes());
            c.extend((extra as u16).to_le_bytes());
            c
        };
        let local = r.local_name.as_ref().unwrap_or(&r.name);
        out.extend(b"PK\x03\x04");
        out.extend(common(local, 0));
        out.extend(local.bytes());
        out.extend(&r.bytes);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(common(&r.name, r.extra.len()));
        directory.extend([0; 10]);
        directory.extend(r.header.unwrap_or(at).to_le_bytes());
        directory.extend(r.name.bytes());
        directory.extend(&r.extra);
    }
    let start = out.len() as u32;
    out.extend(&directory);
    if let Some((count, bytes, first)) = end.wide {
        let place = out.len() as u64;
        out.extend(b"PK\x06\x06");
        out.extend(44u64.to_le_bytes());
        out.extend([0; 12]);
        for field in [count, count, bytes, first] {
            out.extend(field.to_le_bytes());
        }
        out.extend(b"PK\x06\x07\0\0\0\0");
        out.extend(place.to_le_bytes());
        out.extend(1u32.to_le_bytes());
    }
    out.extend(b"PK\x05\x06\0\0\0\0");
    let count = end.count.unwrap_or(records.len() as u16);
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(end.bytes.unwrap_or(directory.len() as u32).to_le_bytes());
    out.extend(end.start.unwrap_or(start).to_le_bytes());
    out.extend([0, 0]);
    out
}
