//! What a service tells of itself to who measures it: the text format of Prometheus, on a port of its own (docs/adr/0022).
//!
//! All metrics stand in tables ([`metrics!`](crate::metrics!)), from which docs/metrics.md is made. A [`Page`] takes samples of these
//! only. While nobody asks for a page, metrics cost additions to counters; without `--metrics-listen` not even these.

mod exporter;
mod histogram;
mod listener;
mod meters;
mod page;
mod process;
mod sampler;
mod shared;
mod table;

pub use self::exporter::Exporter;
pub use self::histogram::{Histogram, LONG, SHORT, SIZES};
pub use self::listener::{Listener, ListenerError, MetricsSettings};
pub use self::meters::{Cursor, Meters};
pub use self::page::Page;
pub use self::sampler::Sampler;
pub use self::shared::Identity;
pub use self::table::{Kind, Metric, is_documented};
