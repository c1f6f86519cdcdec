//! A right history passes, and each rule alone refuses a wrong one.

mod right;
mod shrinking;
mod wrong;
