//! The engine's own metrics, beside those that both services have.

mod census;
mod shown;

pub(crate) use self::census::Census;
pub use self::census::Figures;
pub(crate) use self::shown::{Sources, add};

runtime::metrics! {
    COMMANDS: Gauge "engine_commands" [kind, state]
        "Commands that have not ended, parts of others included.";
    COMMANDS_ENDED: Counter "engine_commands_ended_total" [kind, outcome]
        "Commands that have ended, parts of others included.";
    COMMAND_TIME: Histogram "engine_command_duration_seconds" [kind]
        "From the acceptance of a command until its end.";
    ATTENTION_AGE: Gauge "engine_attention_oldest_seconds" []
        "For how long a command has needed an operator's decision, of those that do the one that has for longest; 0 where none does.";
    TASKS: Gauge "engine_tasks" [operation, state]
        "The engine's records of tasks on hosts, foreign ones included, until they are cleared there.";
    TASKS_ENDED: Counter "engine_tasks_ended_total" [operation, outcome]
        "Tasks that are over: done, untouched (nothing was changed), or unclear (neither done nor undone, or nobody can tell).";
    FOREIGN: Gauge "engine_foreign_tasks" []
        "Tasks on the engine's hosts that none of its commands started, and that are not over.";
    EVENTS: Counter "engine_events_total" [code]
        "Events that people were told, by their code: tasks that were sent again or settled by evidence, foreign ones, retries, hosts that went away, and the rest.";
    LOCKS: Gauge "engine_locks_held" []
        "Locks that are held.";
    LOCK_HOLDERS: Gauge "engine_lock_holders" []
        "Commands that hold locks.";
    LOCK_AGE: Gauge "engine_lock_oldest_holder_seconds" []
        "How long ago the command was accepted that has been at work for longest, of those that hold locks; 0 where none does.";
    LOCK_WAITERS: Gauge "engine_lock_waiters" []
        "Commands that wait for their locks.";
    LOCK_WAIT: Gauge "engine_lock_oldest_wait_seconds" []
        "How long ago the command was accepted that has waited for its locks for longest; 0 where none waits.";
    STANCE: Gauge "engine_stance" [stance]
        "1 for what is so: the engine takes commands (acts), does not know yet whether it may (undecided), or another life of it goes on (over).";
    HOSTS: Gauge "engine_hosts" [connection]
        "Hosts, by how the engine stands with them.";
    HOST_UP: Gauge "engine_host_up" [host_id, host]
        "1 while the host's stream is open and up to date. Of more than 1,000 hosts only the first are here.";
    HOST_SINCE: Gauge "engine_host_connection_seconds" [host_id, host, connection]
        "For how long it has been so.";
    HOST_TASKS: Gauge "engine_host_open_tasks" [host_id, host]
        "The host's tasks that are not over.";
    HOST_CONNECTS: Counter "engine_host_connects_total" []
        "Connections to hosts that were made.";
    HOST_FAILURES: Counter "engine_host_connections_lost_total" []
        "Connections to hosts that were lost, or could not be made.";
    HOST_RESYNCS: Counter "engine_host_resyncs_total" []
        "Streams of hosts that began again with a snapshot.";
    HOST_RETRIES: Counter "engine_host_call_retries_total" []
        "Calls to hosts that were made again, because they got no verdict.";
    NO_ROOM: Gauge "engine_tasks_without_room" []
        "Tasks that their host has no room for yet.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_documentation() {
        runtime::metrics::is_documented("The engine", TABLE, include_str!("../../../docs/metrics.md"));
    }
}
