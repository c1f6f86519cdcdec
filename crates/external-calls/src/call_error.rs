// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why one sending or one look brought no outcome.

use std::time::Duration;

/// Why one sending or one look brought no outcome. The variants differ in what the resolver may do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No answer, or one that could not be understood. The call may have taken effect, and only a later call can tell.
    #[error("no answer: {reason}")]
    NoAnswer {
        /// For the log; holds no payment data.
        reason: String,
    },
    /// The answer says nothing about the call, so ask later. For example: a call with the same key is in flight (409), there are
    /// too many calls (429), or the credentials are wrong (401, 403).
    #[error("the answer was {status}: later")]
    Later {
        /// The HTTP status.
        status: u16,
        /// The answer's Retry-After.
        retry_after: Option<Duration>,
    },
    /// A 5xx. A repeat may help, unless the external system has stored the answer under the key.
    #[error("the answer was {status}")]
    ServerError {
        /// The HTTP status.
        status: u16,
        /// The answer's Retry-After. The call is not repeated before that time.
        retry_after: Option<Duration>,
        /// The external system has stored this answer under the key, so a repeat would get the same answer while the key lives.
        stored: bool,
    },
    /// The call took effect as this object, whose outcome is not known yet. It is looked up by its id, and never sent again.
    #[error("{id} has no outcome yet")]
    Pending {
        /// The object's id at the external system.
        id: String,
    },
    /// The reference was used for another call. A person must look.
    #[error("the reference was used for another call: {reason}")]
    OtherCall {
        /// For the log; holds no payment data.
        reason: String,
    },
    /// The call was refused. This sending took no effect. An earlier sending may have taken effect.
    #[error("the call was refused with {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The answer's error code.
        code: Option<String>,
    },
}

impl CallError {
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Later { retry_after, .. } | Self::ServerError { retry_after, .. } => *retry_after,
            Self::NoAnswer { .. } | Self::Refused { .. } | Self::Pending { .. } | Self::OtherCall { .. } => None,
        }
    }
}
