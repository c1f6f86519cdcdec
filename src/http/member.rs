//! How a struct holds a member of an object that a client sent.

/// The name of a member that is a word of Rust, such as `r#type`.
pub(super) fn plain(name: &'static str) -> &'static str {
    name.strip_prefix("r#").unwrap_or(name)
}

/// How a struct holds a member: itself if the member is required, in an `Option` if not.
pub trait Member<V>: Sized {
    /// Whether the member must be there.
    const REQUIRED: bool;

    /// What an absent member is. None if it is required.
    fn absent() -> Option<Self>;

    /// What a member with this value is.
    fn present(value: V) -> Self;
}

impl<V> Member<V> for V {
    const REQUIRED: bool = true;

    fn absent() -> Option<Self> {
        None
    }

    fn present(value: V) -> Self {
        value
    }
}

impl<V> Member<V> for Option<V> {
    const REQUIRED: bool = false;

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn present(value: V) -> Self {
        Some(value)
    }
}
