//! A right history passes, and for each rule a wrong one is refused by this rule alone.

mod right;
mod shrinking;
mod wrong;
