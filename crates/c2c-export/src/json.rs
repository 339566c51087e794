//! JSON out of files that anybody may have made: values of unknown shape with a bound, keys that are there once.
//!
//! A `serde_json::Value` takes 16 to 40 times the bytes of a list of small numbers, and of two equal keys the parser keeps
//! the last, so that a file could show readers one value and programs another. What is read as a type of its own has
//! neither trouble: its keys are known, and those that are there twice are refused by serde.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::files::shown;

/// Values of one that has no type of its own; that of a training set has about 10, `init_args` have about 40.
const MAX_VALUES: usize = 4096;

/// Entries of a table by name, such as layers.
const MAX_ENTRIES: usize = 1024;

/// A value of at most [`MAX_VALUES`] values, with no key twice: for `deserialize_with`.
pub(crate) fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Bounded(&mut MAX_VALUES.clone()).deserialize(deserializer)
}

/// A list of such values, all together of at most that many.
pub(crate) fn bounded_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Value>, D::Error> {
    match bounded(deserializer)? {
        Value::Array(values) => Ok(values),
        other => Err(D::Error::custom(format!("invalid type: {}, expected a list", shown(&other.to_string())))),
    }
}

/// Counts down the values that may still come.
struct Bounded<'a>(&'a mut usize);

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.0.checked_sub(1) {
            Some(left) => *self.0 = left,
            None => return Err(D::Error::custom(format!("more than {MAX_VALUES} values"))),
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that isn't finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(item) = items.next_element_seed(Bounded(&mut *self.0))? {
            out.push(item);
        }
        Ok(out.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Bounded(&mut *self.0))?;
            if out.contains_key(&key) {
                return Err(twice(&key));
            }
            out.insert(key, value);
        }
        Ok(out.into())
    }
}

fn twice<E: Error>(key: &str) -> E {
    E::custom(format!("`{}` is there twice", shown(key)))
}

/// A table by name in which no name is there twice, of at most [`MAX_ENTRIES`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table<V>(pub BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Table<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Table<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Table<V>, A::Error> {
                let mut out = BTreeMap::new();
                while let Some(key) = entries.next_key::<String>()? {
                    if out.contains_key(&key) {
                        return Err(twice(&key));
                    }
                    if out.len() == MAX_ENTRIES {
                        return Err(A::Error::custom(format!("more than {MAX_ENTRIES} entries")));
                    }
                    out.insert(key, entries.next_value()?);
                }
                Ok(Table(out))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// A value that should have been another one, as a message shows it. Lists and tables are passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown(pub String);

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Shown;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of JSON")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Shown, E> {
                Ok(Shown(value.to_string()))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Shown, E> {
                Ok(Shown(value.to_string()))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Shown, E> {
                Ok(Shown(value.to_string()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Shown, E> {
                Ok(Shown(value.to_string()))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Shown, E> {
                Ok(Shown(format!("\"{}\"", shown(value))))
            }

            fn visit_unit<E: Error>(self) -> Result<Shown, E> {
                Ok(Shown("null".to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shown, A::Error> {
                while let Some(IgnoredAny) = items.next_element()? {}
                Ok(Shown("a list".to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shown, A::Error> {
                while let Some((IgnoredAny, IgnoredAny)) = entries.next_entry()? {}
                Ok(Shown("a table".to_owned()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Held(#[serde(deserialize_with = "bounded")] Value);

    #[test]
    fn values_come_as_they_are_and_not_without_end() {
        let text = r#"{"a":[1,-2,0.5,"x\u001b",null,true],"b":{"c":{}}}"#;
        let Held(value) = serde_json::from_str(text).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
        let many = format!("[{}0]", "0,".repeat(MAX_VALUES));
        let error = serde_json::from_str::<Held>(&many).unwrap_err().to_string();
        assert!(error.contains("more than 4096 values"), "{error}");
        let error = serde_json::from_str::<Held>(r#"{"a":1,"b":{"c":1,"c":2}}"#).unwrap_err().to_string();
        assert!(error.contains("`c` is there twice"), "{error}");
        let error = serde_json::from_str::<Table<u8>>(r#"{"a":1,"a":1}"#).unwrap_err().to_string();
        assert!(error.contains("`a` is there twice"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_shown_short() {
        let of = |text: &str| serde_json::from_str::<Shown>(text).unwrap().0;
        assert_eq!(["1", "-2.5", "null", "[0,0]", r#"{"a":1}"#].map(of), ["1", "-2.5", "null", "a list", "a table"]);
        assert_eq!(of(r#""a\u001b[2J""#), r#""a\u{1b}[2J""#);
        assert!(of(&format!("\"{}\"", "x".repeat(1 << 20))).len() < 200);
    }
}
