//! What both services tell.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use common::fault::FaultCode;
use store::{Store, StoreFigures};

use super::{Exporter, Meters, Page, Sampler, process};
use crate::clock;
use crate::log::Log;

crate::metrics! {
    BUILD_INFO: Gauge "service_build_info" [service, version, store_id]
        "Always 1; the labels say what runs, and on which store.";
    READY: Gauge "service_ready" []
        "1 while calls are served: the records are loaded, and the data directory is still where the next start will look for it.";
    PLAIN_TEXT: Gauge "service_plain_text_off_loopback" []
        "1 if the service may serve plain text on an address that is not loopback (--insecure).";
    CERTIFICATE: Gauge "service_certificate_expiry_timestamp_seconds" [certificate]
        "When a certificate that the service uses or trusts expires; no sample if there is none.";

    CONNECTIONS: Gauge "service_connections" []
        "Open connections of clients, including those that are being refused.";
    CONNECTIONS_MOST: Gauge "service_connections_max" []
        "Maximum number of open connections (--max-connections, and the limit of open files).";
    CONNECTIONS_REFUSED: Counter "service_connections_refused_total" []
        "Connections that were refused for lack of room.";
    CONNECTIONS_CLOSED: Counter "service_connections_closed_total" [reason]
        "Connections that the service closed: connections without calls, to make room (made_room); connections that did not begin to speak (handshake); connections that held memory without progress (stuck).";
    ACCEPTS_FAILED: Counter "service_accepts_failed_total" []
        "How often no connection could be accepted, for lack of files or memory.";
    CALLS: Gauge "service_calls" [class]
        "Calls under way: requests, waits, watches.";
    CALLS_MOST: Gauge "service_calls_max" [class]
        "Maximum number of calls under way (--max-requests, --max-waits, --max-watches).";
    CALLS_TAKEN: Counter "service_calls_taken_total" [class]
        "Calls that were accepted.";
    CALLS_REFUSED: Counter "service_calls_refused_total" []
        "Calls that were refused for lack of room or memory.";
    CALLS_EXPIRED: Counter "service_calls_expired_total" []
        "Calls that ended at a deadline.";
    HELD: Gauge "service_held_bytes" []
        "Memory for partly received requests and for answers that were not read.";
    HELD_MOST: Gauge "service_held_max_bytes" []
        "Maximum of that memory (--max-held-mib).";
    ANSWERED_WITH: Counter "service_faults_total" [code]
        "Calls that ended with a fault, by its code (docs/error-codes.md).";

    INPUTS_WAITING: Gauge "service_inputs_waiting" []
        "Inputs from clients, hosts and tasks that wait for the coordinator.";
    INPUT_TIME: Histogram "service_input_duration_seconds" []
        "From the arrival of an input (a request, an edge of a task) until its changes are durable.";
    COMMIT_TIME: Histogram "service_commit_duration_seconds" []
        "How long it took to make a batch durable.";
    COMMITS_FAILED: Counter "service_commits_failed_total" []
        "Commits that failed: their outcome was unknown, and the store was opened again.";
    BATCH_SIZE: Histogram "service_batch_revisions" []
        "Revisions in a batch: one durable write makes all of them durable.";
    REVISIONS: Gauge "service_revision" []
        "The last revision; it increases by one with each durable change.";

    WATCHES_BEHIND: Gauge "service_watch_lag_revisions" []
        "The number of revisions by which the slowest watch is behind, among the watches that have had their snapshot.";
    DELIVERY_TIME: Histogram "service_watch_delivery_duration_seconds" []
        "From the commit of a revision until a watch hands it to its connection, for revisions that were still in memory.";
    RESYNCS: Counter "service_watch_points_refused_total" [problem]
        "Watches that had to begin again with a snapshot, because the history does not have the point that they asked for or had reached.";
    PROGRESS: Counter "service_progress_samples_total" []
        "Samples of the progress of running tasks that differ from the one before: bytes have moved.";

    STORE_USABLE: Gauge "service_store_usable" []
        "1 while the store accepts commits, 0 while it is being opened again after a failure, or is lost.";
    STORE_ROOM: Gauge "service_store_room" []
        "1 while there is room for new work on the disk of the data directory (docs/adr/0008).";
    STORE_FREE: Gauge "service_store_free_bytes" []
        "Free space on the file system of the data directory.";
    STORE_TOTAL: Gauge "service_store_total_bytes" []
        "Size of the file system of the data directory.";
    STORE_SIZE: Gauge "service_store_size_bytes" [part]
        "Size of the store on disk: its tables, and its write-ahead log.";
    LOG_FILL: Gauge "service_store_log_fill_ratio" []
        "How full the present file of the write-ahead log is; at 1 the log goes on with the other file.";
    CHECKPOINT_REVISIONS: Gauge "service_store_checkpoint_lag_revisions" []
        "Revisions that are in the write-ahead log only.";
    CHECKPOINT_LAG: Gauge "service_store_checkpoint_lag_seconds" []
        "Age of the oldest revision that is in the write-ahead log only.";
    CHECKPOINT_STUCK: Gauge "service_store_checkpoint_stuck" []
        "1 while the tables cannot be written: commits go on until the write-ahead log is full.";
    STORE_AGE: Gauge "service_store_sample_age_seconds" []
        "Age of these figures of the store; it grows while the disk does not answer.";

    CPU: Counter "process_cpu_seconds_total" []
        "CPU time of this process.";
    RESIDENT: Gauge "process_resident_memory_bytes" []
        "Memory that is in use.";
    VIRTUAL: Gauge "process_virtual_memory_bytes" []
        "Memory that is mapped.";
    FILES: Gauge "process_open_fds" []
        "Open files.";
    FILES_MOST: Gauge "process_max_fds" []
        "Maximum number of open files.";
    THREADS: Gauge "process_threads" []
        "Threads.";
    STARTED: Gauge "process_start_time_seconds" []
        "When the process was started, in seconds since 1970.";
    WORKERS: Gauge "service_runtime_workers" []
        "Threads of the async runtime.";
    TASKS: Gauge "service_runtime_tasks" []
        "Tasks of the async runtime that are alive.";
    RUNTIME_QUEUE: Gauge "service_runtime_queue" []
        "Tasks that wait in the runtime's global queue for a thread.";
    AUDIT_WRITABLE: Gauge "service_audit_log_writable" []
        "1 while the audit log can be written, 0 while it cannot; nothing without --audit-log.";
    AUDIT_ENTRIES: Counter "service_audit_log_entries_total" []
        "Entries in the audit log that this start has written.";
    AUDIT_LOST: Counter "service_audit_log_entries_lost_total" []
        "Entries that are not in the audit log: it could not be written for too long.";
    AUDIT_LEFT_OUT: Counter "service_audit_log_refusals_left_out_total" []
        "Refusals that are in the audit log as a number only: there were too many at once.";
    LOG_LINES_LOST: Counter "service_log_lines_lost_total" []
        "Lines of the log that were dropped, because nobody read them fast enough.";
    SCRAPES: Counter "service_metrics_pages_total" []
        "Pages of metrics that were requested, including this one.";
}

/// What is told of the service in every page.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The program.
    pub service: &'static str,
    /// Of the build.
    pub version: &'static str,
}

impl Exporter {
    /// Shows what both services tell. The log is not kept for it.
    pub fn add_shared<H: prost::Message + Default + Send + Sync + 'static>(
        &self,
        identity: Identity,
        log: &Arc<Log<H>>,
    ) {
        let store_id = log.identity().store_id.to_string();
        let meters = Arc::clone(log.meters());
        let progress = Arc::downgrade(log);
        self.add(move |page| {
            page.flag(
                &BUILD_INFO,
                &[identity.service, identity.version, &store_id],
                true,
            );
            wire(page, &meters);
            coordinator(page, &meters);
            watches(page, &meters);
            if let Some(log) = progress.upgrade() {
                page.count(&PROGRESS, &[], log.progress().moves());
            }
        });
        self.add(process);
        let store: Weak<dyn Store> = Arc::downgrade(log.store());
        let figures = Sampler::new(move || {
            store
                .upgrade()
                .map(|store| (store.trouble().is_ok(), store.figures()))
        });
        self.add_sampled(figures, |page, age, sample| {
            if let Some((is_there, figures)) = sample {
                show_store(page, age, is_there, &figures);
            }
        });
    }
}

fn wire(page: &mut Page, meters: &Meters) {
    page.flag(&READY, &[], meters.is_ready());
    page.flag(&PLAIN_TEXT, &[], meters.is_plain_text());
    for (certificate, expiry) in meters.certificates() {
        page.put(&CERTIFICATE, &[&certificate], expiry as f64);
    }
    page.count(&SCRAPES, &[], meters.pages());
    if let Some(audit) = meters.audit() {
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
        page.flag(&AUDIT_WRITABLE, &[], !audit.is_failing.load(Ordering::Relaxed));
        page.count(&AUDIT_ENTRIES, &[], number(&audit.kept));
        page.count(&AUDIT_LOST, &[], number(&audit.lost));
        page.count(&AUDIT_LEFT_OUT, &[], number(&audit.left_out));
    }
    let Some(traffic) = meters.traffic() else { return };
    let figures = traffic.figures();
    page.count(&CONNECTIONS, &[], figures.connections);
    page.count(&CONNECTIONS_MOST, &[], figures.max_connections);
    for (class, now, most, taken) in figures.calls {
        page.count(&CALLS, &[class], now);
        page.count(&CALLS_MOST, &[class], most);
        page.count(&CALLS_TAKEN, &[class], taken);
    }
    page.count(&HELD, &[], figures.held);
    page.count(&HELD_MOST, &[], figures.held_most);
    page.count(&CONNECTIONS_REFUSED, &[], figures.connections_refused);
    for (reason, count) in figures.connections_closed {
        page.count(&CONNECTIONS_CLOSED, &[reason], count);
    }
    page.count(&ACCEPTS_FAILED, &[], figures.accepts_failed);
    page.count(&CALLS_REFUSED, &[], figures.calls_refused);
    page.count(&CALLS_EXPIRED, &[], figures.calls_expired);
    for (code, count) in FaultCode::ALL.iter().zip(figures.faults) {
        page.count(&ANSWERED_WITH, &[code.as_str()], count);
    }
}

fn coordinator(page: &mut Page, meters: &Meters) {
    page.count(&INPUTS_WAITING, &[], meters.inputs_waiting());
    page.histogram(&INPUT_TIME, &[], &meters.input);
    page.histogram(&COMMIT_TIME, &[], &meters.commit);
    page.histogram(&BATCH_SIZE, &[], &meters.batch);
    page.count(&COMMITS_FAILED, &[], meters.commits_failed());
    page.count(&REVISIONS, &[], meters.revision());
}

fn watches(page: &mut Page, meters: &Meters) {
    page.count(&WATCHES_BEHIND, &[], meters.watch_lag());
    page.histogram(&DELIVERY_TIME, &[], &meters.delivery);
    for (problem, count) in meters.points_refused() {
        page.count(&RESYNCS, &[problem], count);
    }
}

fn show_store(page: &mut Page, age: Duration, is_there: bool, figures: &StoreFigures) {
    page.flag(&STORE_USABLE, &[], is_there && !figures.in_doubt);
    page.flag(&STORE_ROOM, &[], figures.has_room);
    page.count(&STORE_FREE, &[], figures.free_bytes);
    page.count(&STORE_TOTAL, &[], figures.total_bytes);
    page.count(&STORE_SIZE, &["tables"], figures.table_bytes);
    page.count(&STORE_SIZE, &["log"], figures.log_bytes);
    page.put(&LOG_FILL, &[], figures.log_fill);
    page.count(&CHECKPOINT_REVISIONS, &[], figures.unwritten_revisions);
    page.put(&CHECKPOINT_LAG, &[], figures.unwritten_for.as_secs_f64());
    page.flag(&CHECKPOINT_STUCK, &[], figures.stuck);
    page.put(&STORE_AGE, &[], age.as_secs_f64());
}

fn process(page: &mut Page) {
    if let Some(figures) = process::figures() {
        page.put(&CPU, &[], figures.cpu_seconds);
        page.count(&RESIDENT, &[], figures.resident_bytes);
        page.count(&VIRTUAL, &[], figures.virtual_bytes);
        page.count(&THREADS, &[], figures.threads);
        page.put(
            &STARTED,
            &[],
            clock::now().as_micros() as f64 / 1e6 - figures.up_seconds,
        );
    }
    if let Some(files) = process::open_files() {
        page.count(&FILES, &[], files);
    }
    page.count(&FILES_MOST, &[], process::max_files());
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        let metrics = runtime.metrics();
        page.count(&WORKERS, &[], metrics.num_workers());
        page.count(&TASKS, &[], metrics.num_alive_tasks());
        page.count(&RUNTIME_QUEUE, &[], metrics.global_queue_depth());
    }
    page.count(&LOG_LINES_LOST, &[], crate::telemetry::lost_lines());
}

#[cfg(test)]
mod tests {
    use super::super::is_documented;
    use super::*;

    #[test]
    fn the_table_stands_in_the_documentation() {
        is_documented(
            "Both services",
            TABLE,
            include_str!("../../../../docs/metrics.md"),
        );
    }
}
