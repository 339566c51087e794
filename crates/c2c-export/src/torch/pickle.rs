//! The pickle of a state dict, parsed.
//!
//! A pickle is a program for a stack machine, and Python's own machine can be made to call anything. This one knows the
//! opcodes that PyTorch writes for tensors, numbers, strings, tuples, lists and dicts, and the few names among which a
//! tensor is described; every other opcode and name is refused by its name. Objects live in one list and refer to each
//! other by number, so that an object that holds itself, or one that is held a thousand times, costs nothing.

use std::collections::HashMap;

use super::TorchError;
use super::opcode::opcode_name;
use super::view::{StorageType, TensorView};
use crate::files::shown;

/// Objects of one pickle; that of a fuser layer has about 1,000.
const MAX_OBJECTS: usize = 1 << 14;
/// Digits of a storage's number.
const MAX_KEY_BYTES: usize = 10;
/// Axes of a tensor; those of a fuser have 2 at most.
const MAX_AXES: usize = 8;

/// A name that a file of tensors may use.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Name {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(StorageType),
}

impl Name {
    fn find(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("torch", name) => StorageType::named(name).map(Self::Storage),
            _ => None,
        }
    }
}

/// A place in the list of objects.
type Id = usize;

#[derive(Clone, Debug)]
enum Object {
    None,
    Bool,
    Int(i64),
    Float,
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Name(Name),
    Storage { kind: StorageType, key: String, len: u64 },
    Tensor(Box<TensorView>),
}

impl Object {
    fn what(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool => "a truth value",
            Self::Int(_) => "an integer",
            Self::Float => "a float",
            Self::Text(_) => "a string",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dict",
            Self::Name(_) => "a name",
            Self::Storage { .. } => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

/// The tensors of a pickled state dict, in its order.
///
/// # Errors
/// An opcode or name that isn't allowed, operands that don't fit, a pickle that is cut off, too large, or holds
/// something else than a dict from strings to tensors.
pub fn state_dict(pickle: &[u8]) -> Result<Vec<(String, TensorView)>, TorchError> {
    let mut machine = Machine::new(pickle);
    let top = machine.run()?;
    let wrong = |what: String| TorchError::NotAStateDict(what);
    let Object::Dict(entries) = &machine.objects[top] else {
        return Err(wrong(format!("the pickle holds {}", machine.objects[top].what())));
    };
    let mut seen = std::collections::HashSet::new();
    let mut out = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let Object::Text(key) = &machine.objects[*key] else {
            return Err(wrong(format!("a key is {}", machine.objects[*key].what())));
        };
        let Object::Tensor(view) = &machine.objects[*value] else {
            return Err(wrong(format!("`{}` is {}, expected a tensor", shown(key), machine.objects[*value].what())));
        };
        if !seen.insert(key) {
            return Err(wrong(format!("`{}` is there twice", shown(key))));
        }
        out.push((key.clone(), TensorView::clone(view)));
    }
    Ok(out)
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the present opcode stands, and its name.
    opcode: (usize, &'static str),
    objects: Vec<Object>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let (objects, stack, marks) = (Vec::new(), Vec::new(), Vec::new());
        Self { bytes, at: 0, opcode: (0, "PROTO"), objects, stack, marks, memo: HashMap::new() }
    }

    /// The object that the pickle ends with.
    fn run(&mut self) -> Result<Id, TorchError> {
        loop {
            let at = self.at;
            let Some(byte) = self.bytes.get(at).copied() else {
                return Err(TorchError::Truncated { at, what: "the pickle ends without the opcode STOP".into() });
            };
            self.at += 1;
            let Some(name) = opcode_name(byte) else {
                return Err(TorchError::Opcode { at, name: format!("0x{byte:02x} (unknown)") });
            };
            self.opcode = (at, name);
            if byte == b'.' {
                let top = self.pop()?;
                return if self.at == self.bytes.len() {
                    Ok(top)
                } else {
                    let what = format!("{} bytes behind the opcode STOP", self.bytes.len() - self.at);
                    Err(TorchError::Truncated { at: self.at, what })
                };
            }
            self.step(byte)?;
        }
    }

    fn step(&mut self, byte: u8) -> Result<(), TorchError> {
        match byte {
            0x80 => match self.take(1)?[0] {
                2 => Ok(()),
                version => Err(self.operand(format!("protocol {version}"), "protocol 2, PyTorch's")),
            },
            b'c' => self.name(),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'N' => self.push(Object::None),
            0x88 | 0x89 => self.push(Object::Bool),
            b'J' => {
                let b = self.take(4)?;
                let n = i32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                self.push(Object::Int(n.into()))
            }
            b'K' => {
                let n = self.take(1)?[0];
                self.push(Object::Int(n.into()))
            }
            b'M' => {
                let b = self.take(2)?;
                let n = u16::from_le_bytes([b[0], b[1]]);
                self.push(Object::Int(n.into()))
            }
            0x8a => self.long(),
            b'G' => {
                self.take(8)?;
                self.push(Object::Float)
            }
            b'X' => self.text(),
            b')' => self.push(Object::Tuple(Vec::new())),
            0x85..=0x87 => {
                let n = usize::from(byte - 0x84);
                let items = self.pop_many(n)?;
                self.push(Object::Tuple(items))
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Object::Tuple(items))
            }
            b']' => self.push(Object::List(Vec::new())),
            b'}' => self.push(Object::Dict(Vec::new())),
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.set(items)
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set(items)
            }
            b'q' | b'r' => {
                let index = self.index(byte == b'r')?;
                let top = self.top()?;
                self.memo.insert(index, top);
                Ok(())
            }
            b'h' | b'j' => {
                let index = self.index(byte == b'j')?;
                let found = self.memo.get(&index).copied();
                let id = found.ok_or_else(|| self.operand(format!("memo {index}"), "a memo that was put before"))?;
                self.stack.push(id);
                Ok(())
            }
            b'Q' => self.storage(),
            b'R' => self.call(),
            b'b' => self.build(),
            _ => Err(TorchError::Opcode { at: self.opcode.0, name: self.opcode.1.to_owned() }),
        }
    }

    fn operand(&self, found: impl Into<String>, expected: &'static str) -> TorchError {
        TorchError::Operand { at: self.opcode.0, opcode: self.opcode.1, found: found.into(), expected }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], TorchError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            let what = format!("opcode {} takes {count} bytes, the pickle ends before", self.opcode.1);
            return Err(TorchError::Truncated { at: self.opcode.0, what });
        };
        let bytes = &self.bytes[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<&'a str, TorchError> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        let line = self.take(end)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| self.operand("bytes that aren't UTF-8", "a name"))
    }

    fn index(&mut self, long: bool) -> Result<u32, TorchError> {
        let b = self.take(if long { 4 } else { 1 })?;
        Ok(if long { u32::from_le_bytes([b[0], b[1], b[2], b[3]]) } else { b[0].into() })
    }

    fn push(&mut self, object: Object) -> Result<(), TorchError> {
        if self.objects.len() == MAX_OBJECTS {
            let found = MAX_OBJECTS as u64 + 1;
            return Err(TorchError::Limit { what: "objects of a pickle", found, limit: MAX_OBJECTS as u64 });
        }
        self.stack.push(self.objects.len());
        self.objects.push(object);
        Ok(())
    }

    /// Objects above the last mark, or above the bottom.
    fn depth(&self) -> usize {
        self.stack.len() - self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id, TorchError> {
        match self.stack.last() {
            Some(id) if self.depth() > 0 => Ok(*id),
            _ => Err(self.operand("an empty stack", "an object on it")),
        }
    }

    fn pop(&mut self) -> Result<Id, TorchError> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, TorchError> {
        if self.depth() < count {
            return Err(self.operand(format!("{} objects on the stack", self.depth()), "as many as it takes"));
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, TorchError> {
        let mark = self.marks.pop().ok_or_else(|| self.operand("no MARK", "one before"))?;
        Ok(self.stack.split_off(mark))
    }

    fn long(&mut self) -> Result<(), TorchError> {
        let count = usize::from(self.take(1)?[0]);
        let bytes = self.take(count)?;
        if count > 8 {
            return Err(self.operand(format!("an integer of {count} bytes"), "8 at most"));
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = if negative { [0xff; 8] } else { [0; 8] };
        wide[..count].copy_from_slice(bytes);
        self.push(Object::Int(i64::from_le_bytes(wide)))
    }

    fn text(&mut self) -> Result<(), TorchError> {
        let b = self.take(4)?;
        let count = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        let text = self.take(count as usize)?;
        let text = std::str::from_utf8(text).map_err(|_| self.operand("bytes that aren't UTF-8", "a string"))?;
        self.push(Object::Text(text.to_owned()))
    }

    fn name(&mut self) -> Result<(), TorchError> {
        let (module, name) = (self.line()?, self.line()?);
        match Name::find(module, name) {
            Some(name) => self.push(Object::Name(name)),
            None => Err(TorchError::Global { at: self.opcode.0, name: shown(&format!("{module}.{name}")) }),
        }
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), TorchError> {
        let list = self.top()?;
        match &mut self.objects[list] {
            Object::List(list) => list.extend(items),
            other => {
                let found = other.what();
                return Err(self.operand(found, "a list"));
            }
        }
        Ok(())
    }

    fn set(&mut self, items: Vec<Id>) -> Result<(), TorchError> {
        let dict = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.operand("a key without a value", "pairs"));
        }
        match &mut self.objects[dict] {
            Object::Dict(dict) => dict.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            other => {
                let found = other.what();
                return Err(self.operand(found, "a dict"));
            }
        }
        Ok(())
    }

    fn objects_of<const N: usize>(&self, tuple: Id) -> Option<[&Object; N]> {
        let Object::Tuple(items) = &self.objects[tuple] else { return None };
        let items: [Id; N] = items.as_slice().try_into().ok()?;
        Some(items.map(|id| &self.objects[id]))
    }

    /// `('storage', type, key, device, elements)`.
    fn storage(&mut self) -> Result<(), TorchError> {
        let id = self.pop()?;
        let storage = match self.objects_of::<5>(id) {
            Some(
                [
                    Object::Text(tag),
                    Object::Name(Name::Storage(kind)),
                    Object::Text(key),
                    Object::Text(_),
                    Object::Int(n),
                ],
            ) if tag == "storage" && key.len() <= MAX_KEY_BYTES && key.bytes().all(|b| b.is_ascii_digit()) => {
                u64::try_from(*n).ok().map(|len| Object::Storage { kind: *kind, key: key.clone(), len })
            }
            _ => None,
        };
        match storage {
            Some(storage) => self.push(storage),
            None => Err(self.operand(self.objects[id].what(), "('storage', a type, a number, a device, elements)")),
        }
    }

    fn call(&mut self) -> Result<(), TorchError> {
        let args = self.pop()?;
        let callee = self.pop()?;
        let Object::Name(name) = self.objects[callee] else {
            return Err(self.operand(format!("a call of {}", self.objects[callee].what()), "a name to call"));
        };
        let made = match name {
            Name::OrderedDict => self.objects_of::<0>(args).map(|_| Object::Dict(Vec::new())),
            Name::RebuildTensor => self.tensor(args).map(|view| Object::Tensor(Box::new(view))),
            Name::RebuildParameter => match self.objects_of::<3>(args) {
                Some([Object::Tensor(view), Object::Bool, Object::Dict(_)]) => Some(Object::Tensor(view.clone())),
                _ => None,
            },
            Name::Storage(_) => None,
        };
        match made {
            Some(object) => self.push(object),
            None => {
                Err(self.operand(format!("a call of {name:?} with {}", self.objects[args].what()), "its arguments"))
            }
        }
    }

    /// `(storage, offset, sizes, strides, requires_grad, hooks)`.
    fn tensor(&self, args: Id) -> Option<TensorView> {
        let [Object::Storage { kind, key, len }, Object::Int(offset), shape, strides, Object::Bool, Object::Dict(_)] =
            self.objects_of::<6>(args)?
        else {
            return None;
        };
        let sizes = |object: &Object| -> Option<Vec<u64>> {
            let Object::Tuple(items) = object else { return None };
            if items.len() > MAX_AXES {
                return None;
            }
            let size = |id: &Id| match self.objects[*id] {
                Object::Int(n) => u64::try_from(n).ok(),
                _ => None,
            };
            items.iter().map(size).collect()
        };
        let (shape, strides) = (sizes(shape)?, sizes(strides)?);
        let offset = u64::try_from(*offset).ok()?;
        (shape.len() == strides.len()).then(|| TensorView {
            kind: *kind,
            storage: key.clone(),
            storage_len: *len,
            offset,
            shape,
            strides,
        })
    }

    /// Attributes of a dict: PyTorch notes versions of modules there, which say nothing about tensors.
    fn build(&mut self) -> Result<(), TorchError> {
        let state = self.pop()?;
        let on = self.top()?;
        match (&self.objects[on], &self.objects[state]) {
            (Object::Dict(_), Object::Dict(_)) => Ok(()),
            (on, state) => Err(self.operand(format!("{} of {}", state.what(), on.what()), "a dict of a dict")),
        }
    }
}
