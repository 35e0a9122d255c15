//! The host's own metrics, beside those that both services have.

mod census;
mod shown;

pub(crate) use self::census::{Census, Figures};
pub(crate) use self::shown::{Sources, add};

runtime::metrics! {
    HOST: Gauge "vdsm_host_info" [host_id, qemu_img]
        "Always 1; the labels name the host, and the version of its qemu-img.";
    ENGINES: Gauge "vdsm_engines_connected" []
        "Starts of engines that have an open stream of tasks.";
    TASKS: Gauge "vdsm_tasks" [operation, state]
        "Tasks that are not over.";
    TASKS_ENDED: Counter "vdsm_tasks_ended_total" [operation, outcome]
        "Tasks that are over: finished, recovered (their work is undone), or failed (their work could not be undone).";
    QUEUE_WAIT: Histogram "vdsm_task_queue_wait_seconds" []
        "From the acceptance of a task until it began to run.";
    RUN_TIME: Histogram "vdsm_task_run_seconds" [operation]
        "From the beginning of a task's run until its end, however it ended.";
    QUEUED: Gauge "vdsm_queue_tasks" []
        "Tasks that wait to run.";
    QUEUED_MOST: Gauge "vdsm_queue_max_tasks" []
        "Maximum number of tasks that wait to run (--queue-limit).";
    QUEUED_AGE: Gauge "vdsm_queue_oldest_seconds" []
        "How long ago the oldest task that waits to run was accepted; 0 if there is none.";
    RUNNING: Gauge "vdsm_running_tasks" []
        "Tasks that run, or are being undone.";
    RUNNING_MOST: Gauge "vdsm_running_max_tasks" []
        "Maximum number of running tasks (--running-per-host).";
    STALLED: Gauge "vdsm_progress_stalled_seconds" []
        "The longest time for which a running task that reports its progress has moved no byte.";
    DOMAINS: Gauge "vdsm_storage_domains" []
        "Storage domains in the storage root.";
    DOMAIN_TOTAL: Gauge "vdsm_storage_domain_total_bytes" [domain_id]
        "Size of the domain's file system. Only the first 1,000 domains are shown.";
    DOMAIN_FREE: Gauge "vdsm_storage_domain_free_bytes" [domain_id]
        "Free space on the domain's file system.";
    STORAGE_USABLE: Gauge "vdsm_storage_usable" []
        "1 while the storage root's name leads to the directory in which the host works, and it can be read.";
    STORAGE_AGE: Gauge "vdsm_storage_sample_age_seconds" []
        "Age of these figures of storage; it grows while storage does not answer.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_documentation() {
        runtime::metrics::is_documented("A host", TABLE, include_str!("../../../docs/metrics.md"));
    }
}
