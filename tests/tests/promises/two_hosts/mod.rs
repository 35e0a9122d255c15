//! The storage domain decides where work is done, and a host in trouble delays no other host's work at all.

mod coming_and_going;
mod pair;
mod placement;
mod stopping;
mod trouble;
