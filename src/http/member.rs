//! How a struct holds a member of an object that a client sent.

/// The name of a member that is a word of Rust, such as `r#type`.
pub(super) fn plain(name: &'static str) -> &'static str {
    name.strip_prefix("r#").unwrap_or(name)
}

/// How a struct holds a member: itself if the member is required, in an `Option` if not.
pub trait Member<V>: Sized {
    /// Whether the member must be there.
    const REQUIRED: bool;

    /// The member with this value, or without one. None: it is required, and absent.
    fn of(value: Option<V>) -> Option<Self>;
}

impl<V> Member<V> for V {
    const REQUIRED: bool = true;

    fn of(value: Option<V>) -> Option<Self> {
        value
    }
}

impl<V> Member<V> for Option<V> {
    const REQUIRED: bool = false;

    fn of(value: Option<V>) -> Option<Self> {
        Some(value)
    }
}
