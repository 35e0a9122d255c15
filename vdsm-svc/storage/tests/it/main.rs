//! The crate from the outside, against real file systems and the real `qemu-img`. One module a promise.

mod adoption;
mod domains;
mod hostile;
mod kills;
mod life_cycle;
mod order;
mod sample;
mod support;
