//! The core under random histories, and its single promises.

mod histories;
mod model;
mod promises;
