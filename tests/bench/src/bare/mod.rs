//! The parts that the services are made of, with nothing of ours between them: what ours are compared with.

pub(crate) mod commit;
pub(crate) mod fan_out;
pub(crate) mod files;
pub(crate) mod hop;
pub(crate) mod server;
pub(crate) mod writer;
