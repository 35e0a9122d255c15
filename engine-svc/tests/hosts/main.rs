//! The engine's followers against a host that is wrong on purpose: every edge arrives, once and in order.

mod double;
mod identity;
mod starts;
mod stream;
mod world;
