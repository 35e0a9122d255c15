//! One engine and up to twenty hosts in virtual time, over a network that loses, delays and cuts: see `tests/sim`.
//!
//! Real are both services, their gRPC, their state machines, their records, and the storage operations with their
//! files. Simulated are the clock, chance, the network, the disk below the records, and the order in which threads
//! move: the same seed has the same history.
