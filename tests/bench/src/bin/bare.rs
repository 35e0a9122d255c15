//! The program `bare`: a tonic server with reflection and health that serves the bare parts, for `bench`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

/// The services' own, so that no ratio is one of allocators.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Serves the parts that the services are made of, with nothing between them.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// Where the database lies, and the file that says where it listens.
    #[arg(long)]
    data_dir: PathBuf,
    /// So long after one edge the next one is committed and sent to all who watch the engine's tasks. Without it
    /// there are none.
    #[arg(long)]
    edge_micros: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments {
        listen,
        data_dir,
        edge_micros,
    } = Arguments::parse();
    match bench::serve(listen, &data_dir, edge_micros).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bare: {failure}");
            ExitCode::FAILURE
        }
    }
}
