//! The crate from the outside, against real file systems and the real `qemu-img`. One module a promise.
// Tests may unwrap; clippy's own exception covers only functions that are marked as tests.
#![allow(clippy::unwrap_used)]

mod adoption;
mod as_vdsm;
mod confined;
mod copy;
mod copy_refused;
mod cut_short;
mod domains;
mod extend;
mod full_domain;
mod fuzzed;
mod hostile;
mod killed_again;
mod kills;
mod life_cycle;
mod mount;
mod moved;
mod order;
mod pattern;
mod power_cut;
mod replaced;
mod sample;
mod shared_root;
mod support;
mod unreadable;
mod vdsm;
mod wrong_qemu;
