//! What the two services promise, one module a promise, tried on the real programs.

mod bad_input;
mod bare_host;
mod cancel;
mod life_cycle;
mod lists;
mod locks;
mod wait;

/// Says loudly that a test was skipped, past the test runner's capture, so that it is seen and counted.
fn skipped(test: &str, why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "\nskipped: {test}: {why}");
}
