//! The common words of the pocket world: six attributes with eight values each.
//!
//! Invariants, tested: all 54 words are distinct lower-case ASCII words, and none is the start of another, so that a
//! value can be told from its first characters on.

/// How many attributes a place has.
pub const ATTRIBUTE_COUNT: usize = 6;

/// How many values an attribute can take.
pub const VALUE_COUNT: usize = 8;

/// An attribute of a place and the values that it can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute {
    /// The word for the attribute, as questions use it.
    pub name: &'static str,
    /// The words for its values.
    pub values: [&'static str; VALUE_COUNT],
}

/// All attributes, in the order in which a place holds its values.
pub const ATTRIBUTES: [Attribute; ATTRIBUTE_COUNT] = [
    Attribute { name: "fruit", values: ["plum", "pear", "cherry", "lemon", "mango", "melon", "grape", "apple"] },
    Attribute { name: "animal", values: ["otter", "badger", "heron", "rabbit", "goat", "wolf", "horse", "tiger"] },
    Attribute { name: "metal", values: ["copper", "silver", "gold", "iron", "tin", "zinc", "nickel", "lead"] },
    Attribute { name: "colour", values: ["red", "blue", "green", "yellow", "purple", "white", "black", "brown"] },
    Attribute {
        name: "craft",
        values: ["weaving", "pottery", "carving", "baking", "sewing", "painting", "fishing", "brewing"],
    },
    Attribute { name: "stone", values: ["granite", "marble", "slate", "quartz", "jade", "opal", "flint", "basalt"] },
];

/// Whether the lower-case text holds one of the common words.
pub(super) fn holds_common_word(text: &str) -> bool {
    ATTRIBUTES
        .iter()
        .any(|attribute| text.contains(attribute.name) || attribute.values.iter().any(|value| text.contains(value)))
}
