//! A host refuses each operation by the wrong field. The rows of each verb are in a file of its own; without that
//! file the test does not compile.

use proto::task::v1::operation::Verb;
use tests::World;
use tests::failure::TestResult;
use tests::requests::start_task;

use super::table::*;

mod copy_volume;
mod create_volume;
mod delete_image;
mod extend_volume;
mod noop;

/// The bad messages of each verb.
trait BadInput: Sized {
    /// Wrong messages, in an existing domain.
    fn rows(domain: &str) -> Rows<Self>;
}

/// Messages, each wrong in one field.
struct Rows<M> {
    right: M,
    wrong: Vec<(&'static str, M)>,
}

impl<M: Clone> Rows<M> {
    /// No rows yet, for a message that would be accepted.
    fn of(right: M) -> Self {
        Self {
            right,
            wrong: Vec::new(),
        }
    }

    /// Adds a row for each value that a field does not accept; the field is named by its path in the message.
    fn each<T>(
        mut self,
        field: &'static str,
        values: impl IntoIterator<Item = T>,
        set: impl Fn(&mut M, T),
    ) -> Self {
        for value in values {
            self.wrong
                .push((field, with(self.right.clone(), |m| set(m, value))));
        }
        self
    }
}

macro_rules! all {
    ($($verb:ident,)*) => {
        fn all(domain: &str) -> Vec<(String, Verb)> {
            let mut all = Vec::new();
            $(
                let rows: Rows<proto::task::v1::$verb> = BadInput::rows(domain);
                all.extend(rows.wrong.into_iter().map(|(field, message)| {
                    let verb = <common::$verb as common::Verb>::NAME;
                    (format!("operation.{verb}.{field}"), Verb::$verb(message))
                }));
            )*
            all
        }
    };
}

common::each_verb!(all);

#[tokio::test]
async fn operations_are_refused_by_field() -> TestResult<()> {
    let world = World::start().await?;
    let domain = world.host_client.create_domain().await?;
    let mut table = Table::new(&world).await?;
    let tasks = &world.host_client.tasks;
    for (path, verb) in all(&domain) {
        refuse!(table, tasks.start_task(start_task(verb)) => invalid(path));
    }
    table.verdict()
}
