//! A group as a function of its log: who is a member and may read what (`roll`), and who may do what (`rights`).
//!
//! Pure: the group's home asks here what an act means before it appends it, and applies it afterwards.

pub mod rights;
pub mod roll;
