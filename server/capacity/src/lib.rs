//! How many machines Ringpost needs: a model of its costs, and a simulation of placement at the planned size.
//!
//! [`inputs`] has every number that goes in, with where it is from. [`model`] makes figures of them, [`sensitivity`] says which input
//! each figure depends on most, and [`mesh`] up to how many nodes all of them can be linked with all, and what else there is.
//! [`simulation`] places partitions on nodes, lets nodes fail and counts ([`placement`], [`activity`], [`balance`], [`failure`]).
//! [`show`] and [`page`] say all that on a terminal and as a page.
//!
//! Invariants: the same inputs give the same figures, whenever and wherever; nothing is read, written or drawn by chance. What comes
//! out is not rounded before it is shown.

pub mod activity;
pub mod balance;
pub mod failure;
pub mod inputs;
pub mod mesh;
pub mod model;
pub mod page;
pub mod placement;
mod plot;
pub mod routes;
pub mod sensitivity;
pub mod show;
pub mod simulation;
