//! What the README shows, so that it can be run word for word.

use std::path::PathBuf;

use crate::failure::{Context as _, TestResult};
use crate::programs::workspace;

/// The README up to the comment `<!-- name: …`, and the block of shell lines that follows it.
///
/// # Errors
/// When there is no such comment, or no such block.
pub fn marked(name: &str) -> TestResult<(String, String)> {
    let readme = std::fs::read_to_string(workspace().join("README.md"))?;
    let mark = format!("<!-- {name}:");
    let (before, after) = readme
        .split_once(&mark)
        .context(format!("the README has no {mark}"))?;
    let block = after.split_once("```sh\n").context("no block after the mark")?.1;
    let block = block.split_once("\n```").context("the block does not end")?.0;
    Ok((before.to_owned(), block.to_owned()))
}

/// Where grpcurl lies: where `make setup-test` puts it, or on the path.
///
/// # Errors
/// When it is nowhere.
pub fn grpcurl_folder() -> TestResult<PathBuf> {
    let places = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(workspace().join("target/grpcurl/bin"))
        .chain(std::env::split_paths(&places))
        .find(|folder| folder.join("grpcurl").is_file())
        .context("there is no grpcurl: `make setup-test` fetches it")
}
