//! The one thread that writes to stderr, and the only one that stderr can stop.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::time::Duration;

use super::line::Line;
use super::queue::{Entry, Queue};

/// How often a stderr that is set not to block, and full, is tried again.
const AGAIN: Duration = Duration::from_millis(20);

/// Writes what is queued, for as long as the process lives. `said` words a gap of so many lines.
pub(super) fn run(queue: &Queue, stderr: impl AsFd, said: impl Fn(u64) -> Line) {
    let mut gap: u64 = 0;
    loop {
        match queue.take() {
            Entry::Gap(dropped) => {
                gap = gap.saturating_add(dropped);
                fill(&stderr, &mut gap, &said);
            }
            Entry::Line(line) => {
                fill(&stderr, &mut gap, &said);
                if write(&stderr, &line).is_err() {
                    // A full disk, say. What is lost is said as soon as there is room.
                    gap = gap.saturating_add(1);
                }
            }
        }
    }
}

/// Says what is missing, if anything is.
fn fill(stderr: impl AsFd, gap: &mut u64, said: impl Fn(u64) -> Line) {
    if *gap > 0 && write(stderr, &said(*gap).into_bytes()).is_ok() {
        *gap = 0;
    }
}

/// Not through `std::io::stderr`: its lock would be held for as long as the write blocks.
fn write(stderr: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&stderr, bytes).map_err(io::Error::from) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Whoever shares it has set it so.
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(AGAIN),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead as _, BufReader};

    use super::*;
    use crate::telemetry::LogFormat;

    #[test]
    fn a_reader_that_comes_back_is_told_what_was_dropped() {
        let (reader, stderr) = io::pipe().unwrap();
        let queue = Queue::bounded(10, 1 << 20);
        let writer = queue.clone();
        // Ends with the process: it waits for the next line.
        std::thread::spawn(move || run(&writer, stderr, |lines| Line::gap(LogFormat::Human, lines)));
        // More than a pipe holds, and more than may wait.
        let pushed = 10_000;
        for number in 0..pushed {
            queue.push(format!("{number:0>100}\n").into_bytes());
        }
        let (mut read, mut dropped) = (0, 0);
        let mut lines = BufReader::new(reader).lines();
        while read + dropped < pushed {
            let line = lines.next().unwrap().unwrap();
            match line.split_once("dropped=") {
                Some((_, count)) => dropped += count.parse::<u64>().unwrap(),
                None => read += 1,
            }
        }
        assert!(dropped > 0);
        assert_eq!(read + dropped, pushed);
    }

    #[test]
    fn a_line_that_cannot_be_written_is_a_gap() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        assert!(write(&full, b"a line\n").is_err());
        let mut gap = 3;
        fill(&full, &mut gap, |lines| Line::gap(LogFormat::Human, lines));
        assert_eq!(gap, 3, "it is still to be said");
        let null = File::options().write(true).open("/dev/null").unwrap();
        fill(&null, &mut gap, |lines| Line::gap(LogFormat::Human, lines));
        assert_eq!(gap, 0);
    }
}
