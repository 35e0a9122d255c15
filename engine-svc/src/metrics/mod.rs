//! The engine's own metrics, beside those that both services have.

mod census;
mod shown;

pub(crate) use self::census::Census;
pub use self::census::Figures;
pub(crate) use self::shown::{Sources, add};

runtime::metrics! {
    COMMANDS: Gauge "engine_commands" [kind, state]
        "Commands that have not ended, including parts of others.";
    COMMANDS_ENDED: Counter "engine_commands_ended_total" [kind, outcome]
        "Commands that have ended, including parts of others.";
    COMMAND_TIME: Histogram "engine_command_duration_seconds" [kind]
        "From the acceptance of a command until its end.";
    ATTENTION_AGE: Gauge "engine_attention_oldest_seconds" []
        "The longest time for which a command has needed an operator's decision; 0 if none needs one.";
    TASKS: Gauge "engine_tasks" [operation, state]
        "The engine's records of tasks on hosts, including foreign ones, until they are cleared there.";
    TASKS_ENDED: Counter "engine_tasks_ended_total" [operation, outcome]
        "Tasks that are over: done, untouched (nothing was changed), or unclear (neither done nor undone, or nobody can tell).";
    FOREIGN: Gauge "engine_foreign_tasks" []
        "Tasks on the engine's hosts that none of its commands started, and that are not over.";
    EVENTS: Counter "engine_events_total" [code]
        "Events, by their code: tasks that were sent again or settled by evidence, foreign tasks, retries, hosts that went away, and the rest.";
    LOCKS: Gauge "engine_locks_held" []
        "Locks that are held.";
    LOCK_HOLDERS: Gauge "engine_lock_holders" []
        "Commands that hold locks.";
    LOCK_AGE: Gauge "engine_lock_oldest_holder_seconds" []
        "How long ago the oldest command that holds locks was accepted; 0 if there is none.";
    LOCK_WAITERS: Gauge "engine_lock_waiters" []
        "Commands that wait for their locks.";
    LOCK_WAIT: Gauge "engine_lock_oldest_wait_seconds" []
        "How long ago the oldest command that waits for its locks was accepted; 0 if there is none.";
    STANCE: Gauge "engine_stance" [stance]
        "1 for the present state: the engine accepts commands (acts), does not know yet whether it may (undecided), or another life of it goes on (over).";
    HOSTS: Gauge "engine_hosts" [connection]
        "Hosts, by the state of their connection.";
    HOST_UP: Gauge "engine_host_up" [host_id, host]
        "1 while the host's stream is open and up to date. Only the first 1,000 hosts are shown.";
    HOST_SINCE: Gauge "engine_host_connection_seconds" [host_id, host, connection]
        "For how long the connection has been in this state.";
    HOST_TASKS: Gauge "engine_host_open_tasks" [host_id, host]
        "The host's tasks that are not over.";
    HOST_CONNECTS: Counter "engine_host_connects_total" []
        "Connections to hosts that were made.";
    HOST_FAILURES: Counter "engine_host_connections_lost_total" []
        "Connections to hosts that were lost, or could not be made.";
    HOST_RESYNCS: Counter "engine_host_resyncs_total" []
        "Streams of hosts that began again with a snapshot.";
    HOST_RETRIES: Counter "engine_host_call_retries_total" []
        "Calls to hosts that were repeated, because they got no verdict.";
    NO_ROOM: Gauge "engine_tasks_without_room" []
        "Tasks for which their host has no room yet.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_documentation() {
        runtime::metrics::is_documented("The engine", TABLE, include_str!("../../../docs/metrics.md"));
    }
}
