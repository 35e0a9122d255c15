//! Randomness, for what must differ from all others and for waits that must not coincide.

use uuid::{Builder, Uuid};

/// A random number.
pub fn number() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(world) = crate::simulation::world() {
        return world.chance();
    }
    rand::random()
}

/// A random fraction, from 0 up to but not including 1.
pub fn fraction() -> f64 {
    // As many bits as a fraction holds.
    (number() >> 11) as f64 / (1_u64 << 53) as f64
}

/// A random UUID, of version 4.
pub fn uuid() -> Uuid {
    let [high, low] = [number(), number()].map(u64::to_be_bytes);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high);
    bytes[8..].copy_from_slice(&low);
    Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_differ_and_say_that_they_are_random() {
        let (one, other) = (uuid(), uuid());
        assert_ne!(one, other);
        assert_eq!(one.get_version_num(), 4);
    }

    #[test]
    fn a_fraction_is_less_than_one() {
        for _ in 0..1_000 {
            let fraction = fraction();
            assert!((0.0..1.0).contains(&fraction), "{fraction}");
        }
    }
}
