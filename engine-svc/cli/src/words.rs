//! Sizes, times and states as people write and read them.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

/// The letters of sizes, each 1024 times the one before.
const LETTERS: &[u8] = b"KMGTPE";

/// A size as `qemu-img` takes it: `10G` is 10 GiB, and without a letter it is bytes.
///
/// # Errors
/// In words, for clap.
pub(crate) fn size(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is not a size: write bytes, or a number with K, M, G or T, such as 10G");
    let trimmed = text.trim_end_matches(['B', 'b']).trim_end_matches(['i', 'I']);
    let (digits, power) = match trimmed.char_indices().last() {
        Some((at, letter)) if letter.is_ascii_alphabetic() => {
            let upper = letter.to_ascii_uppercase() as u8;
            let place = LETTERS
                .iter()
                .position(|known| *known == upper)
                .ok_or_else(wrong)?;
            (&trimmed[..at], place as u32 + 1)
        }
        _ if trimmed.len() == text.len() => (trimmed, 0),
        _ => return Err(wrong()),
    };
    let number: i64 = digits.trim().parse().map_err(|_| wrong())?;
    let unit = 1024_i64.pow(power);
    number
        .checked_mul(unit)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| format!("`{text}` is out of range: a size is 1 byte to 8 EiB"))
}

/// A size for a column: exact if it is a whole number of its unit, else to a tenth.
pub(crate) fn bytes(bytes: i64) -> String {
    let mut power = 0;
    let mut unit = 1_i64;
    while power < LETTERS.len() && bytes >= unit.saturating_mul(1024) {
        unit = unit.saturating_mul(1024);
        power += 1;
    }
    match power {
        0 => format!("{bytes} B"),
        _ if bytes % unit == 0 => format!("{} {}iB", bytes / unit, LETTERS[power - 1] as char),
        _ => format!(
            "{:.1} {}iB",
            bytes as f64 / unit as f64,
            LETTERS[power - 1] as char
        ),
    }
}

/// How long ago, in one unit.
pub(crate) fn ago(time: Option<&Timestamp>, now: SystemTime) -> String {
    let Some(time) = time.and_then(|time| SystemTime::try_from(*time).ok()) else {
        return String::new();
    };
    match now.duration_since(time) {
        Ok(past) => format!("{} ago", lasting(past)),
        // Its clock is ahead of ours.
        Err(ahead) if ahead.duration() < Duration::from_secs(2) => "now".to_owned(),
        Err(ahead) => format!("in {}", lasting(ahead.duration())),
    }
}

/// By how many seconds a time lies before or after the time in which it was asked for.
pub(crate) fn outside(time: Option<&Timestamp>, asked: SystemTime, answered: SystemTime) -> Option<f64> {
    let time = SystemTime::try_from(*time?).ok()?;
    let before = asked.duration_since(time).unwrap_or_default();
    let after = time.duration_since(answered).unwrap_or_default();
    Some(before.max(after).as_secs_f64())
}

/// For how long something has been so.
pub(crate) fn lasts(since: Option<&Timestamp>, now: SystemTime) -> String {
    let age = ago(since, now);
    let time = age.strip_suffix(" ago").unwrap_or(&age);
    format!("for {time}")
}

/// How long, in one unit.
pub(crate) fn lasting(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long something took; until now if it is not over.
pub(crate) fn took(start: Option<&Timestamp>, end: Option<&Timestamp>, now: SystemTime) -> String {
    let system = |time: &Timestamp| SystemTime::try_from(*time).ok();
    let Some(start) = start.and_then(system) else {
        return String::new();
    };
    let end = end.and_then(system).unwrap_or(now);
    end.duration_since(start).map(lasting).unwrap_or_default()
}

/// A moment, exactly: RFC 3339 in UTC.
pub(crate) fn moment(time: Option<&Timestamp>) -> String {
    time.map(ToString::to_string).unwrap_or_default()
}

/// The name of an enum's value without what all its values begin with: `needs attention`.
pub(crate) fn state(name: &str, prefix: &str) -> String {
    let bare = name.strip_prefix(prefix).unwrap_or(name);
    bare.to_ascii_lowercase().replace('_', " ")
}

/// The same for a value that this build may not know.
macro_rules! word {
    ($kind:ty, $value:expr, $prefix:literal) => {
        <$kind>::try_from($value).map_or_else(
            |_| format!("unknown ({})", $value),
            |known| $crate::words::state(known.as_str_name(), $prefix),
        )
    };
}
pub(crate) use word;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_as_qemu_img_reads_it() {
        assert_eq!(size("1"), Ok(1));
        assert_eq!(size("4096"), Ok(4096));
        for same in ["10G", "10g", "10GiB", "10240M", "10gb"] {
            assert_eq!(size(same), Ok(10 << 30), "{same}");
        }
        for wrong in [
            "",
            "G",
            "-1G",
            "10X",
            "1.5G",
            "0",
            "9E",
            "99999999999T",
            "1B",
            "ten",
        ] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_size_is_written_exactly_if_it_can_be() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (10 << 30, "10 GiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(bytes(i64::MAX), "8.0 EiB");
    }

    #[test]
    fn an_age_has_one_unit() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |seconds: i64| Timestamp { seconds, nanos: 0 };
        for (then, text) in [
            (999_999, "1 s ago"),
            (999_881, "119 s ago"),
            (999_880, "2 min ago"),
            (992_000, "2 h ago"),
            (1_000_001, "now"),
            (1_000_060, "in 60 s"),
            (0, "11 d ago"),
        ] {
            assert_eq!(ago(Some(&at(then)), now), text);
        }
        assert_eq!(ago(None, now), "");
    }
}
