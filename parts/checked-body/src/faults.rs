// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong with a body or a query: at most twenty faults, each with a pointer.

use idempotency::{FieldError, MAX_FAULTS, escape_pointer};

/// Collects faults while a value is read. Each value is read once and by one rule, so no pointer has two faults.
#[derive(Debug, Default)]
pub struct Faults {
    found: Vec<FieldError>,
    /// The place of the value that is being read.
    pointer: String,
    /// How many values and names were looked at. A test bounds this work.
    looks: usize,
}

impl Faults {
    /// Records what is wrong with the value that is being read. `detail` must not repeat the value: it may be long, or
    /// secret.
    pub fn add(&mut self, detail: impl Into<String>) {
        if self.found.len() < MAX_FAULTS {
            self.found.push(FieldError { pointer: self.pointer.clone(), detail: detail.into() });
        }
    }

    /// Records what is wrong with the value that is being read, and returns None in its place.
    pub fn refuse<T>(&mut self, detail: impl Into<String>) -> Option<T> {
        self.add(detail);
        None
    }

    /// Reads a member or an item of the value that is being read.
    pub fn inside<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.pointer.len();
        self.pointer.push('/');
        self.pointer.push_str(&escape_pointer(name));
        let value = read(self);
        self.pointer.truncate(outer);
        value
    }

    /// Whether to look at one more value. After twenty faults, nothing more is looked at.
    pub fn look(&mut self) -> bool {
        self.looks += 1;
        self.found.len() < MAX_FAULTS
    }

    /// The value that was read, unless anything is wrong with it.
    pub(crate) fn or<T>(self, value: Option<T>) -> Result<T, Vec<FieldError>> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ => Err(self.found),
        }
    }

    #[cfg(test)]
    pub(crate) fn looks(&self) -> usize {
        self.looks
    }
}
