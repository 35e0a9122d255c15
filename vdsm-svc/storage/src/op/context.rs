//! What an operation is given by the service that runs it.

use common::{Fault, FaultCode};

/// The service's side of a running operation. It is called from the thread that runs the operation.
pub trait OpContext {
    /// Makes a note of the operation durable before it returns (J). The last one is handed to
    /// [`super::recover`]. `past_no_return`: from this note on the operation is only carried forward.
    ///
    /// # Errors
    /// The note is not known to be durable: the operation stops.
    fn note(&self, note: &[u8], past_no_return: bool) -> Result<(), Fault>;

    /// Called right before the step that commits. From its success on an abort is refused.
    ///
    /// # Errors
    /// `ABORTED` where an abort came first.
    fn commit_point(&self) -> Result<(), Fault>;

    /// Whether the operation is to be stopped.
    fn aborted(&self) -> bool;

    /// A named place: `<step>.before` or `<step>.after`. A build with fail points may end the process here.
    fn fail_point(&self, name: &str);

    /// How far it is, in bytes.
    fn progress(&self, done_bytes: u64, total_bytes: u64);
}

/// # Errors
/// `ABORTED` if it is to be stopped.
pub(super) fn stop_if_aborted(ctx: &dyn OpContext) -> Result<(), Fault> {
    if ctx.aborted() {
        Err(Fault::new(FaultCode::Aborted, "the task was aborted"))
    } else {
        Ok(())
    }
}
