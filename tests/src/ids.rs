//! Fresh ids, as any client makes them.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

/// A UUID that nobody has used.
pub fn fresh() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A loopback address that no other world of this machine uses.
///
/// A host that is started again must get its old port, because the engine recorded it. On an address of its own
/// nobody can have taken that port meanwhile.
pub fn fresh_loopback() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let world = NEXT.fetch_add(1, Ordering::Relaxed);
    // 127.x.y.z with the process in the high bits and the world in the low ones; never 127.0.*.
    let process = std::process::id() & 0x3fff;
    let host = ((process << 9) | (world & 0x1ff)) % (0xff_ffff - 0x2_0000) + 0x1_0001;
    let [_, b, c, d] = host.to_be_bytes();
    Ipv4Addr::new(127, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worlds_share_no_address_with_each_other_or_with_the_usual_one() {
        let many: std::collections::BTreeSet<_> = (0..100).map(|_| fresh_loopback()).collect();
        assert_eq!(many.len(), 100);
        assert!(many.iter().all(|ip| ip.is_loopback() && ip.octets()[1] != 0));
    }
}
