//! The wire and the record format, and nothing else: generated types, and their conversions to and from the
//! vocabulary of [`common`].

pub mod access;
pub mod codes;
pub mod convert;
pub mod encode;

/// The encoded descriptors of all that the services serve, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

macro_rules! package {
    ($($(#[$doc:meta])* $module:ident = $package:literal $(, servers $servers:literal)?;)*) => {$(
        $(#[$doc])*
        pub mod $module {
            /// Version 1.
            #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::restriction)]
            pub mod v1 {
                tonic::include_proto!($package);
                $(include!(concat!(env!("OUT_DIR"), "/servers/", $servers, ".rs"));)?
            }
        }
    )*};
}

package! {
    /// Words that both sides share.
    task = "vdsm_engine.task.v1";
    /// What a host serves.
    host = "vdsm_engine.host.v1", servers "vdsm_engine.host.v1";
    /// What an engine serves.
    engine = "vdsm_engine.engine.v1", servers "vdsm_engine.engine.v1";
    /// What both send to those who watch.
    encoded = "vdsm_engine.encoded.v1";
    /// What both keep.
    store = "vdsm_engine.store.v1";
}
