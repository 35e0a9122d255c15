//! One row for each bad request: the expected refusal, and that nothing has changed.

use tests::audit::Records;
use tests::client::Refusal;
use tests::failure::{TestResult, ensure};
use tests::world::World;
use tonic::{Code, Response, Status};

/// Rows of a table: `refuse!(table, client.rpc(request) => expected)` is one, and
/// `refuse!(table, for value in values, client.rpc(request) => expected)` is one for each value.
macro_rules! refuse {
    ($table:ident, for $value:ident in $values:expr, $($row:tt)*) => {
        for $value in $values {
            refuse!($table, $($row)*);
        }
    };
    ($table:ident, $client:ident.$rpc:ident($request:expr) => $expected:expr) => {
        let answer = $client.clone().$rpc($request).await;
        $table.row(stringify!($rpc), answer, $expected).await?;
    };
}

/// A request that is the default except for this change.
pub(super) fn only<T: Default>(change: impl FnOnce(&mut T)) -> T {
    with(T::default(), change)
}

/// A request with a change.
pub(super) fn with<T>(mut request: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut request);
    request
}

/// Texts that are not a UUID in its one spelling.
pub(super) fn malformed_ids() -> Vec<String> {
    let mut ids: Vec<String> = [
        "x",
        "../../etc/passwd",
        "{6ba7b810-9dad-41d1-80b4-00c04fd430c8}",
        "6ba7b8109dad41d180b400c04fd430c8",
        "00000000-0000-0000-0000-000000000000",
        "6ba7b810-9dad-41d1-80b4-00c04fd430c8\n",
        "6ba7b810-9dad-41d1-80b4-00c04fd430c\u{0}",
    ]
    .map(str::to_owned)
    .into();
    ids.push("a".repeat(10_000));
    ids
}

/// The same and the empty text, for required fields.
pub(super) fn bad_ids() -> Vec<String> {
    let mut ids = malformed_ids();
    ids.push(String::new());
    ids
}

/// Texts that are not a name.
pub(super) fn bad_names() -> Vec<String> {
    let mut names = bad_descriptions();
    names.push(String::new());
    names
}

/// Texts that are not a description.
pub(super) fn bad_descriptions() -> Vec<String> {
    let mut texts: Vec<String> = [
        "two\nlines",
        "a\u{0}b",
        "bell\u{7}",
        "a\u{2028}b",
        "tab\there",
        "a\u{202e}b",
        "a\u{9b}31m",
    ]
    .map(str::to_owned)
    .into();
    texts.push("n".repeat(10_000));
    texts
}

/// Sizes that no disk can have.
pub(super) const BAD_SIZES: [i64; 3] = [0, -1, i64::MAX];

/// Values that none of our enums has, and the value that means "not set".
pub(super) const BAD_ENUMS: [i32; 4] = [0, -1, 99, i32::MAX];

/// The same for a field that may be left unset.
pub(super) const UNKNOWN_ENUMS: [i32; 3] = [-1, 99, i32::MAX];

/// Sizes that no page can have.
pub(super) const BAD_PAGE_SIZES: [i32; 4] = [i32::MIN, -1, 1_001, i32::MAX];

/// Durations that are not a `lock_wait`.
pub(super) fn bad_lock_waits() -> Vec<prost_types::Duration> {
    let wait = |(seconds, nanos)| prost_types::Duration { seconds, nanos };
    [(-1, 0), (0, -1), (86_400, 1), (i64::MAX, 0)].map(wait).into()
}

pub(super) fn bad_page_tokens() -> Vec<String> {
    let mut texts: Vec<String> = ["x", "zz", "ABCD", "\u{0}"].map(str::to_owned).into();
    texts.push("0".repeat(10_000));
    texts
}

/// The expected refusal of a bad request.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    code: Code,
    reason: &'static str,
    subject: String,
}

/// `INVALID_ARGUMENT`, with this field as its subject.
pub(super) fn invalid(field: impl Into<String>) -> Expected {
    Expected {
        code: Code::InvalidArgument,
        reason: "INVALID_ARGUMENT",
        subject: field.into(),
    }
}

/// This code, about this entity, or about the field that names it.
pub(super) fn refused(code: Code, reason: &'static str, subject: impl AsRef<str>) -> Expected {
    Expected {
        code,
        reason,
        subject: subject.as_ref().to_owned(),
    }
}

/// `NOT_FOUND`, with this entity as its subject.
pub(super) fn unknown(id: &str) -> Expected {
    refused(Code::NotFound, "ENTITY_NOT_FOUND", id)
}

/// The rows so far, and their faults.
pub(super) struct Table<'a> {
    world: &'a World,
    before: Records,
    rows: usize,
    wrong: Vec<String>,
}

impl<'a> Table<'a> {
    /// An empty table; the lists must stay as they are now.
    pub(super) async fn new(world: &'a World) -> TestResult<Self> {
        Ok(Self {
            world,
            before: Records::read(&world.view()).await?.still(),
            rows: 0,
            wrong: Vec::new(),
        })
    }

    /// Adds a request, with its answer.
    pub(super) async fn row<T>(
        &mut self,
        rpc: &str,
        answer: Result<Response<T>, Status>,
        expected: Expected,
    ) -> TestResult<()> {
        self.rows += 1;
        match answer {
            Ok(_) => self.report(rpc, &expected, "it was accepted"),
            Err(status) => self.judge(rpc, &status, &expected),
        }
        let after = Records::read(&self.world.view()).await?.still();
        if after != self.before {
            self.report(rpc, &expected, "the lists changed");
            self.before = after;
        }
        for service in [&self.world.host, &self.world.engine] {
            if let Some(line) = service.undeclared() {
                self.report(
                    rpc,
                    &expected,
                    &format!("its comment does not have that code: {line}"),
                );
            }
        }
        Ok(())
    }

    fn judge(&mut self, rpc: &str, status: &Status, expected: &Expected) {
        let refusal = Refusal::from(status);
        if (refusal.code, refusal.reason.as_str()) != (expected.code, expected.reason) {
            let got = format!(
                "got {:?} {:?}: {}",
                refusal.code,
                refusal.reason,
                status.message()
            );
            return self.report(rpc, expected, &got);
        }
        if expected.code == Code::InvalidArgument && refusal.fields != [expected.subject.clone()] {
            self.report(
                rpc,
                expected,
                &format!("it names the fields {:?}", refusal.fields),
            );
        }
        let subject = &refusal.fault.subject;
        if !(subject.contains(&expected.subject) || is_path(subject)) {
            self.report(rpc, expected, &format!("it is about {:?}", refusal.fault.subject));
        }
        if refusal.fault.code != refusal.reason || status.message().is_empty() {
            self.report(rpc, expected, &format!("its parts disagree: {refusal:?}"));
        }
    }

    fn report(&mut self, rpc: &str, expected: &Expected, what: &str) {
        let Expected { reason, subject, .. } = expected;
        self.wrong.push(format!(
            "row {} {rpc}: {what}; expected {reason} about {subject:?}",
            self.rows
        ));
    }

    /// The result of the table.
    pub(super) fn verdict(self) -> TestResult<()> {
        ensure(self.rows > 0, || "an empty table proves nothing".to_owned())?;
        ensure(self.wrong.is_empty(), || {
            format!(
                "{} of {} rows:\n  {}",
                self.wrong.len(),
                self.rows,
                self.wrong.join("\n  ")
            )
        })
    }
}

/// Whether this is the path of a field, and not an entity: ids have hyphens.
fn is_path(subject: &str) -> bool {
    !subject.is_empty()
        && subject
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.[]".contains(c))
}
