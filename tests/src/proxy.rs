//! A TCP proxy between an engine and its host that cuts, delays and swallows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::failure::{Context, TestResult};
use crate::ids::fresh_loopback;

/// Largest piece that is passed on at once.
const PIECE_BYTES: usize = 16 * 1024;

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It passes.
    Pass,
    /// It is cut, in both directions and without a word, once so many bytes came from the server, or once it has
    /// lasted so long.
    Cut {
        /// Bytes from the server.
        bytes: usize,
        /// Since it was accepted.
        time: Duration,
    },
    /// Each piece from the server waits so long.
    Delay(Duration),
    /// It is accepted, and nothing passes.
    Swallow,
    /// It is closed at once.
    Refuse,
}

/// Decides the fate of each new connection.
pub type Oracle = Arc<dyn Fn() -> Fate + Send + Sync>;

/// A proxy at work. It ends when this is dropped, and its connections with it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    target: SocketAddr,
    oracle: watch::Sender<Oracle>,
    /// Rises when every open connection is to be cut.
    axe: watch::Sender<usize>,
    cuts: AtomicUsize,
    /// Nothing passes any more, and nobody is told.
    frozen: AtomicBool,
    /// Connections that the server has given up.
    given_up: AtomicUsize,
    /// Processes that do not come through.
    barred: watch::Sender<Vec<Pid>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl Proxy {
    /// Stands before `target`; everything passes at first.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn before(target: SocketAddr) -> TestResult<Self> {
        let listener = TcpListener::bind((fresh_loopback(), 0))
            .await
            .context("the proxy's port")?;
        let address = listener.local_addr()?;
        let pass: Oracle = Arc::new(|| Fate::Pass);
        let shared = Arc::new(Shared {
            target,
            oracle: watch::Sender::new(pass),
            axe: watch::Sender::new(0),
            cuts: AtomicUsize::new(0),
            frozen: AtomicBool::new(false),
            given_up: AtomicUsize::new(0),
            barred: watch::Sender::default(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks `oracle` about each connection from now on. Open ones keep their fate.
    pub fn ask(&self, oracle: impl Fn() -> Fate + Send + Sync + 'static) {
        self.shared.oracle.send_replace(Arc::new(oracle));
    }

    /// Every new connection has this fate from now on.
    pub fn treat(&self, fate: Fate) {
        self.ask(move || fate);
    }

    /// Cuts every open connection.
    pub fn cut(&self) {
        self.shared.axe.send_modify(|count| *count += 1);
    }

    /// Cuts the connections of this process, and lets it through no more; all others pass.
    pub fn bar(&self, process: Pid) {
        self.shared.barred.send_modify(|barred| barred.push(process));
    }

    /// Lets everybody through again.
    pub fn unbar(&self) {
        self.shared.barred.send_replace(Vec::new());
    }

    /// From now on every byte is lost, both ways, as where a cable is pulled: no side is told.
    pub fn freeze(&self) {
        self.shared.frozen.store(true, Ordering::Relaxed);
    }

    /// Bytes pass again, on new connections: those that have lost some are cut.
    pub fn thaw(&self) {
        self.cut();
        self.shared.frozen.store(false, Ordering::Relaxed);
    }

    /// How many connections the server has closed so far.
    pub fn given_up(&self) -> usize {
        self.shared.given_up.load(Ordering::Relaxed)
    }

    /// How many connections were cut by their fate so far.
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, peer)) = listener.accept().await {
        let fate = (shared.oracle.borrow())();
        let socket = socket_of(peer);
        if fate != Fate::Refuse && !is_barred(&shared.barred.borrow(), socket) {
            tokio::spawn(serve(client, socket, fate, Arc::clone(&shared)));
        }
    }
}

/// The number by which the kernel knows the socket at this address of this machine.
fn socket_of(address: SocketAddr) -> Option<u64> {
    let SocketAddr::V4(address) = address else {
        return None;
    };
    let ip = u32::from_ne_bytes(address.ip().octets());
    let wanted = format!("{ip:08X}:{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let mut lines = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|words| words.get(1) == Some(&wanted.as_str()))?;
    line.get(9)?.parse().ok()
}

/// Whether it is open in one of these processes.
fn is_barred(barred: &[Pid], socket: Option<u64>) -> bool {
    let Some(socket) = socket else { return false };
    let name = format!("socket:[{socket}]");
    barred.iter().any(|process| {
        let files = std::fs::read_dir(format!("/proc/{}/fd", process.as_raw_nonzero()));
        let mut files = files.into_iter().flatten().flatten();
        files.any(|file| std::fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == name.as_str()))
    })
}

/// Passes bytes both ways until one side ends, the fate is due, or the axe falls; then both ends are dropped.
async fn serve(client: TcpStream, socket: Option<u64>, fate: Fate, shared: Arc<Shared>) {
    let mut axe = shared.axe.subscribe();
    let mut barred = shared.barred.subscribe();
    let work = async {
        let Ok(server) = TcpStream::connect(shared.target).await else {
            return;
        };
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        match fate {
            Fate::Swallow => std::future::pending().await,
            _ => {
                let client_side = async {
                    pass(from_client, to_server, Fate::Pass, &shared).await;
                    // The end of a client behind a pulled cable is no news to the server.
                    if shared.frozen.load(Ordering::Relaxed) {
                        std::future::pending::<()>().await;
                    }
                };
                tokio::select! {
                    () = client_side => {}
                    () = pass(from_server, to_client, fate, &shared) => {
                        shared.given_up.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
    };
    let time_is_up = async {
        match fate {
            Fate::Cut { time, .. } => tokio::time::sleep(time).await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        () = work => {}
        _ = axe.changed() => {}
        _ = barred.wait_for(|barred| is_barred(barred, socket)) => {}
        () = time_is_up => {
            shared.cuts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, fate: Fate, shared: &Shared) {
    let mut piece = vec![0; PIECE_BYTES];
    let mut passed = 0;
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        if shared.frozen.load(Ordering::Relaxed) {
            continue;
        }
        let mut end = length;
        match fate {
            Fate::Delay(time) => tokio::time::sleep(time).await,
            Fate::Cut { bytes, .. } => end = length.min(bytes - passed),
            Fate::Pass | Fate::Swallow | Fate::Refuse => {}
        }
        if to.write_all(&piece[..end]).await.is_err() {
            return;
        }
        passed += end;
        if matches!(fate, Fate::Cut { bytes, .. } if bytes == passed) {
            shared.cuts.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends 1,000 bytes to whoever connects.
    async fn talker() -> SocketAddr {
        let listener = TcpListener::bind((fresh_loopback(), 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut peer, _)) = listener.accept().await {
                let _ = peer.write_all(&[7; 1_000]).await;
            }
        });
        address
    }

    async fn heard(proxy: &Proxy) -> usize {
        let mut bytes = Vec::new();
        let mut peer = TcpStream::connect(proxy.address()).await.expect("a connection");
        let _ = peer.read_to_end(&mut bytes).await;
        bytes.len()
    }

    #[tokio::test]
    async fn a_connection_is_cut_at_the_byte_that_was_asked_for() {
        let proxy = Proxy::before(talker().await).await.expect("a proxy");
        assert_eq!(heard(&proxy).await, 1_000);
        proxy.treat(Fate::Cut {
            bytes: 137,
            time: Duration::MAX,
        });
        assert_eq!(heard(&proxy).await, 137);
        assert_eq!(proxy.cuts(), 1);
        proxy.treat(Fate::Refuse);
        assert_eq!(heard(&proxy).await, 0);
    }
}
