//! The pages of a list on a host, which may lie: a list without an end is the host's fault, and ends its connection.

use common::fault::{Fault, FaultCode};
use tonic::Status;

use super::refusal::Refusal;

/// The maximum number of pages of one list: ten times as many as the longest list has at its usual page size.
const MAX_PAGES: u32 = 10_000;

/// The maximum number of pages in a row without an item. A host bounds the records that it examines for a page, so
/// some pages are empty.
const MAX_EMPTY: u32 = 100;

/// The position of a reader in a list.
#[derive(Debug)]
pub(super) struct Pages {
    /// The method, for people.
    list: &'static str,
    token: String,
    read: u32,
    empty: u32,
}

/// Why a list was not read to its end.
#[derive(Debug)]
pub(super) enum ReadError {
    /// A call was refused.
    Refused(Status),
    /// The list does not end.
    Endless(Fault),
}

impl From<Status> for ReadError {
    fn from(refusal: Status) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Refused(status) => Self::of(&status),
            ReadError::Endless(fault) => Self::Lost(fault),
        }
    }
}

impl Pages {
    pub(super) const fn of(list: &'static str) -> Self {
        Self {
            list,
            token: String::new(),
            read: 0,
            empty: 0,
        }
    }

    /// The token of the page to ask for.
    pub(super) fn token(&self) -> String {
        self.token.clone()
    }

    /// Takes note of a page with this many items and this token. Returns whether there is another page.
    ///
    /// # Errors
    /// [`ReadError::Endless`].
    pub(super) fn go_on(&mut self, items: usize, next: String) -> Result<bool, ReadError> {
        if next.is_empty() {
            return Ok(false);
        }
        self.read += 1;
        self.empty = if items == 0 { self.empty + 1 } else { 0 };
        let what = if next == self.token {
            "sent the same page token twice in a row".to_owned()
        } else if self.empty > MAX_EMPTY {
            format!("sent {} pages in a row without an item", self.empty)
        } else if self.read >= MAX_PAGES {
            format!("sent {} pages without reaching the end", self.read)
        } else {
            self.token = next;
            return Ok(true);
        };
        let words = format!(
            "the host's answers to {} do not end: it {what}; its service is defective",
            self.list
        );
        Err(ReadError::Endless(Fault::new(FaultCode::HostAway, words)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many pages are read from a host that answers like this.
    fn read(mut page: impl FnMut(u32) -> (usize, String)) -> (u32, Result<(), ReadError>) {
        let mut pages = Pages::of("ListImages");
        for number in 0.. {
            let (items, next) = page(number);
            match pages.go_on(items, next) {
                Ok(true) => {}
                Ok(false) => return (number, Ok(())),
                Err(error) => return (number, Err(error)),
            }
        }
        unreachable!("it ends")
    }

    #[test]
    fn a_list_that_does_not_end_is_ended_as_the_hosts_fault() {
        let same = |_| (1, "same".to_owned());
        let empty = |number: u32| (0, number.to_string());
        let endless = |number: u32| (1, number.to_string());
        for (most, (pages, outcome)) in [
            (1, read(same)),
            (MAX_EMPTY, read(empty)),
            (MAX_PAGES, read(endless)),
        ] {
            assert!(pages <= most, "{pages}");
            let Refusal::Lost(fault) = outcome.unwrap_err().into() else {
                panic!("it ends the connection");
            };
            assert!(fault.message.contains("ListImages"), "{fault}");
        }
    }

    #[test]
    fn a_list_that_ends_is_read_to_its_end() {
        let (pages, outcome) = read(|number| {
            let next = if number < 5_000 {
                number.to_string()
            } else {
                String::new()
            };
            (usize::from(number % 50 == 0), next)
        });
        assert_eq!(pages, 5_000);
        assert!(outcome.is_ok());
    }
}
