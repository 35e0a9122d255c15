//! Work is placed by the storage domain, and a host in trouble delays nobody else's by anything.

mod coming_and_going;
mod pair;
mod placement;
mod stopping;
mod trouble;
