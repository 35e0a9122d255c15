//! What the service provides to a running operation.

use common::{Fault, FaultCode};

/// The service's side of a running operation. It is called from the thread that runs the operation.
pub trait OpContext {
    /// Makes a note of the operation durable before it returns (J). [`super::recover`] gets the last one.
    /// `past_no_return`: from this note on, the operation can only be completed.
    ///
    /// # Errors
    /// The note is not known to be durable: the operation stops.
    fn note(&self, note: &[u8], past_no_return: bool) -> Result<(), Fault>;

    /// Called right before the step that commits. Once it has succeeded, an abort is refused.
    ///
    /// # Errors
    /// `ABORTED` if an abort came first.
    fn commit_point(&self) -> Result<(), Fault>;

    /// Whether the operation is to be aborted.
    fn aborted(&self) -> bool;

    /// A named place: `<step>.before` or `<step>.after`. A build with fail points may end the process here.
    fn fail_point(&self, name: &str);

    /// Reports the progress, in bytes.
    fn progress(&self, done_bytes: u64, total_bytes: u64);
}

/// # Errors
/// `ABORTED` if it is to be aborted.
pub(super) fn stop_if_aborted(ctx: &dyn OpContext) -> Result<(), Fault> {
    if ctx.aborted() {
        Err(Fault::new(FaultCode::Aborted, "the task was aborted"))
    } else {
        Ok(())
    }
}
