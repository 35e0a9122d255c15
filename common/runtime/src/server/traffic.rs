//! Who is connected, what is called, and how much memory it takes: the one place that says whether there is room.
//!
//! Who waits for its client gives way to who does not: where a bound is met, a connection without calls is closed for a
//! new one, and one that holds memory and does not move is closed for a call that needs it. What is left is refused in words.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::fault::{Fault, FaultCode};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::limits::{Limits, REFUSED_AT_ONCE};
use super::turns::{self, Turn, Turns};

/// A connection that has not moved for so long may have to give way.
const STILL: Duration = Duration::from_secs(1);

/// Of all that may be held, the part that one connection may have before it may have to give way although it moves.
const FAIR_PART: usize = 8;

/// Beside the calls that may be under way there is room for a part of as many more, in equal shares, for connections that
/// have less than their share.
const SHARES: usize = 2;

/// TLS handshakes at a time: of a client that nobody knows yet 64 kB may be kept, so this is as much as `--max-held-mib` allows
/// for all others. One that is whole takes a millisecond and two ways over the network.
const MAX_HANDSHAKES: usize = 512;

/// Long reads of one connection at a time: there is a turn for others.
const LONG_READS_EACH: usize = 1;

/// Short reads at a time: of single records, that wait for the disk at most.
const SHORT_READS: usize = 8;

/// Short reads of one connection at a time: whatever they wait for, there is a turn for others.
const SHORT_READS_EACH: usize = 4;

/// What kind of call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Answered once, as soon as may be.
    Request,
    /// Answered once, when something happens.
    Wait,
    /// A stream.
    Watch,
}

/// How each class is called in labels, and the place of its number.
const CLASSES: [(Class, &str); 3] = [
    (Class::Request, "request"),
    (Class::Wait, "wait"),
    (Class::Watch, "watch"),
];

/// What is used, and what was refused: the table of metrics says what each is.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) connections: usize,
    pub(crate) max_connections: usize,
    /// Of each class how it is called, how many there are, may be, and were.
    pub(crate) calls: [(&'static str, usize, usize, u64); 3],
    pub(crate) held: usize,
    pub(crate) held_most: usize,
    pub(crate) connections_refused: u64,
    pub(crate) connections_closed: [(&'static str, u64); 3],
    pub(crate) accepts_failed: u64,
    pub(crate) calls_refused: u64,
    pub(crate) calls_expired: u64,
    /// In the order of [`FaultCode::ALL`].
    pub(crate) faults: Vec<u64>,
}

/// What was refused or ended since the start, and why.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Connections that were refused.
    pub(super) connections_refused: AtomicU64,
    /// Connections without calls that made room for others.
    pub(super) connections_made_room: AtomicU64,
    /// Connections that never began to speak.
    pub(super) handshakes_expired: AtomicU64,
    /// Connections whose TLS handshake failed.
    pub(super) handshakes_failed: AtomicU64,
    /// Connections that held memory and did not move.
    pub(super) connections_stuck: AtomicU64,
    /// How often no connection could be accepted, for lack of files or memory.
    pub(super) accepts_failed: AtomicU64,
    /// Calls that were refused.
    pub(super) calls_refused: AtomicU64,
    /// Calls that ended at a deadline.
    pub(super) calls_expired: AtomicU64,
    /// Calls that were taken, of each class.
    calls_taken: [AtomicU64; CLASSES.len()],
    faults: Faults,
}

/// Calls that ended with a fault, in the order of [`FaultCode::ALL`].
#[derive(Debug)]
struct Faults([AtomicU64; FaultCode::ALL.len()]);

impl Default for Faults {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counters {
    /// A call ended with this fault.
    pub(super) fn ended_with(&self, code: FaultCode) {
        if let Some(counter) = self.faults.0.get(code as usize) {
            count(counter);
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Traffic {
    pub(super) limits: Limits,
    pub(super) counters: Counters,
    max_connections: usize,
    max_connections_of_peer: usize,
    begun: Instant,
    held: AtomicUsize,
    kept: AtomicUsize,
    long_reads: Turns,
    short_reads: Turns,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    refused: usize,
    connections: BTreeMap<u64, Arc<Connection>>,
    peers: HashMap<IpAddr, usize>,
    /// Those in the middle of a TLS handshake, oldest first.
    shaking_hands: BTreeMap<u64, Arc<Connection>>,
    calls: [usize; 3],
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    traffic: Arc<Traffic>,
    number: u64,
    pub(super) peer: Option<IpAddr>,
    /// Why none of its calls is taken.
    pub(super) refused: Option<Fault>,
    /// Told to close.
    pub(super) close: Notify,
    closing: AtomicBool,
    calls: [AtomicUsize; 3],
    called: AtomicBool,
    held: AtomicUsize,
    kept: AtomicUsize,
    /// When something of it moved last, in milliseconds.
    moved: AtomicU64,
}

/// A connection's place; given up when dropped.
#[derive(Debug)]
pub(super) struct Place(pub(super) Arc<Connection>);

/// One call, for as long as anything of it is there: its work, its answer, or bytes that are not sent.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) connection: Arc<Connection>,
    class: Class,
    /// Nobody waits for it any more.
    pub(super) gone: AtomicBool,
    /// Its request is there to the last byte: what was asked for may have been done.
    pub(super) is_whole: AtomicBool,
    pub(super) is_list: bool,
    /// Kept until its answer is made.
    turn: Mutex<Option<Turn>>,
}

/// Memory that is held for a call; given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    call: Arc<Call>,
    bytes: usize,
}

/// Memory that a stream keeps for as long as it lives; given back when dropped. Unlike what is [`Held`] it is no sign of a client
/// that does not take what it asked for, so nobody is closed for it.
#[derive(Debug)]
pub(crate) struct Kept {
    call: Arc<Call>,
    bytes: usize,
}

impl Traffic {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let max_connections = limits.connections();
        Arc::new(Self {
            max_connections,
            max_connections_of_peer: limits.connections_of_peer(max_connections),
            counters: Counters::default(),
            begun: Instant::now(),
            held: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
            long_reads: Turns::new(limits.max_long_reads as usize, LONG_READS_EACH),
            short_reads: Turns::new(SHORT_READS, SHORT_READS_EACH),
            inner: Mutex::default(),
            limits,
        })
    }

    /// A place for a connection that was accepted, and `shakes_hands` before it speaks; none where it is closed without a word.
    pub(super) fn enter(self: &Arc<Self>, peer: Option<IpAddr>, shakes_hands: bool) -> Option<Place> {
        let mut inner = self.lock();
        let of_peer = peer.map_or(0, |peer| inner.peers.get(&peer).copied().unwrap_or_default());
        let refused = if of_peer >= self.max_connections_of_peer {
            self.make_room(&mut inner, peer).then_some(()).map_or_else(
                || Some(format!("the service has {of_peer} connections from this address, which is the maximum (--max-connections-per-peer and the limit of open files)")),
                |()| None,
            )
        } else if inner.connections.len() - inner.refused >= self.max_connections {
            let all = self.max_connections;
            (!self.make_room(&mut inner, None)).then(|| {
                format!("the service has {all} connections, which is the maximum (--max-connections and the limit of open files)")
            })
        } else {
            None
        };
        let refused = refused.map(|words| {
            let words = format!("{words}; close those that are not needed, or try again later");
            Fault::new(FaultCode::TooManyConnections, words)
        });
        if refused.is_some() {
            count(&self.counters.connections_refused);
            if inner.refused >= REFUSED_AT_ONCE {
                return None;
            }
            inner.refused += 1;
        }
        let peer = peer.filter(|_| refused.is_none());
        if let Some(peer) = peer {
            *inner.peers.entry(peer).or_default() += 1;
        }
        inner.next += 1;
        let connection = Arc::new(Connection {
            traffic: Arc::clone(self),
            number: inner.next,
            peer,
            refused,
            close: Notify::new(),
            closing: AtomicBool::new(false),
            calls: Default::default(),
            called: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
            moved: AtomicU64::new(self.now()),
        });
        inner
            .connections
            .insert(connection.number, Arc::clone(&connection));
        if shakes_hands {
            self.bound_handshakes(&mut inner);
            inner
                .shaking_hands
                .insert(connection.number, Arc::clone(&connection));
        }
        Some(Place(connection))
    }

    /// Makes room for one more handshake: whoever has most of them gives up the oldest.
    fn bound_handshakes(&self, inner: &mut Inner) {
        if inner.shaking_hands.len() < MAX_HANDSHAKES {
            return;
        }
        let mut of_peers: HashMap<Option<IpAddr>, (usize, u64)> = HashMap::new();
        for (number, connection) in &inner.shaking_hands {
            of_peers.entry(connection.peer).or_insert((0, *number)).0 += 1;
        }
        let most = of_peers
            .values()
            .max_by_key(|(count, oldest)| (*count, Reverse(*oldest)));
        let oldest = most
            .and_then(|(_, oldest)| inner.shaking_hands.get(oldest))
            .cloned();
        if let Some(oldest) = oldest {
            count(&self.counters.connections_made_room);
            inner.forget(&oldest);
            oldest.end();
        }
    }

    /// Closes the connection without calls that has been so for longest, one that never had a call first; says whether
    /// there was one.
    fn make_room(&self, inner: &mut Inner, peer: Option<IpAddr>) -> bool {
        let idle = inner.connections.values().filter(|connection| {
            connection.refused.is_none()
                && (peer.is_none() || connection.peer == peer)
                && connection.is_idle()
        });
        let longest = idle.min_by_key(|connection| {
            (
                connection.called.load(Ordering::Relaxed),
                connection.moved.load(Ordering::Relaxed),
            )
        });
        let Some(longest) = longest.cloned() else {
            return false;
        };
        count(&self.counters.connections_made_room);
        inner.forget(&longest);
        longest.end();
        true
    }

    /// Closes a connection without calls for want of files.
    pub(super) fn give_way(&self) {
        let mut inner = self.lock();
        self.make_room(&mut inner, None);
    }

    /// Closes connections that hold memory and have not moved for as long as a client may take.
    pub(super) fn end_stuck(&self) {
        let latest = self.now().saturating_sub(millis(self.limits.request()));
        let stuck: Vec<_> = self
            .lock()
            .connections
            .values()
            .filter(|connection| {
                connection.held.load(Ordering::Relaxed) > 0
                    && connection.moved.load(Ordering::Relaxed) < latest
            })
            .cloned()
            .collect();
        for connection in stuck {
            count(&self.counters.connections_stuck);
            connection.end();
        }
    }

    /// Closes, for `bytes` of another connection, the one that holds most and does not move; says whether there was one.
    fn make_memory(&self, mine: &Connection, bytes: usize) -> bool {
        let now = self.now();
        let mine_then = mine.held.load(Ordering::Relaxed) + bytes;
        let fair = self.limits.held_bytes() / FAIR_PART;
        let still = |connection: &Connection| {
            now.saturating_sub(connection.moved.load(Ordering::Relaxed)) > millis(STILL)
        };
        let inner = self.lock();
        let others = inner.connections.values().filter(|connection| {
            let held = connection.held.load(Ordering::Relaxed);
            connection.number != mine.number
                && !connection.closing.load(Ordering::Relaxed)
                && held > 0
                && (held >= mine_then || still(connection))
                && (held > fair || still(connection))
        });
        let most =
            others.max_by_key(|connection| (still(connection), connection.held.load(Ordering::Relaxed)));
        let Some(most) = most.cloned() else { return false };
        drop(inner);
        count(&self.counters.connections_stuck);
        most.end();
        true
    }

    /// How much is used, and what was refused since the start.
    pub(crate) fn figures(&self) -> Figures {
        let (connections, calls) = {
            let inner = self.lock();
            (inner.connections.len(), inner.calls)
        };
        let counters = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            connections,
            max_connections: self.max_connections,
            calls: CLASSES.map(|(class, name)| {
                let (at, (most, _)) = (class as usize, self.most(class));
                (name, calls[at], most, read(&counters.calls_taken[at]))
            }),
            held: self.held.load(Ordering::Relaxed),
            held_most: self.limits.held_bytes(),
            connections_refused: read(&counters.connections_refused),
            connections_closed: [
                ("made_room", read(&counters.connections_made_room)),
                ("handshake", read(&counters.handshakes_expired)),
                ("stuck", read(&counters.connections_stuck)),
            ],
            accepts_failed: read(&counters.accepts_failed),
            calls_refused: read(&counters.calls_refused),
            calls_expired: read(&counters.calls_expired),
            faults: counters.faults.0.iter().map(read).collect(),
        }
    }

    /// How many streams there are.
    pub(super) fn watches(&self) -> usize {
        self.lock().calls[Class::Watch as usize]
    }

    fn most(&self, class: Class) -> (usize, &'static str) {
        match class {
            Class::Request => (self.limits.max_requests as usize, "--max-requests"),
            Class::Wait => (self.limits.max_waits as usize, "--max-waits"),
            Class::Watch => (self.limits.max_watches as usize, "--max-watches"),
        }
    }

    /// Milliseconds since the service began.
    fn now(&self) -> u64 {
        millis(self.begun.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget(&mut self, connection: &Connection) {
        self.shaking_hands.remove(&connection.number);
        if self.connections.remove(&connection.number).is_none() {
            return;
        }
        if connection.refused.is_some() {
            self.refused -= 1;
        }
        if let Some(peer) = connection.peer
            && let Some(count) = self.peers.get_mut(&peer)
        {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(&peer);
            }
        }
    }
}

impl Connection {
    /// Takes a call.
    ///
    /// # Errors
    /// `TOO_MANY_CONNECTIONS`, `TOO_MANY_REQUESTS`.
    pub(super) fn call(self: &Arc<Self>, class: Class, is_list: bool) -> Result<Arc<Call>, Fault> {
        let traffic = &self.traffic;
        if let Some(fault) = &self.refused {
            return Err(fault.clone());
        }
        let (most, setting) = traffic.most(class);
        let mut inner = traffic.lock();
        // One that has less than its share goes before those that have more.
        let share = most / SHARES / inner.connections.len().max(1);
        let has_share = self.calls[class as usize].load(Ordering::Relaxed) > share;
        if inner.calls[class as usize] >= most && has_share {
            drop(inner);
            // Who holds answers and does not take them is the first to go: all its calls end with it.
            if !traffic.make_memory(self, 0) {
                count(&traffic.counters.calls_refused);
                return Err(too_many(format!(
                    "{most} calls of this kind are running, which is the maximum ({setting})"
                )));
            }
            inner = traffic.lock();
        }
        inner.calls[class as usize] += 1;
        drop(inner);
        self.calls[class as usize].fetch_add(1, Ordering::Relaxed);
        count(&traffic.counters.calls_taken[class as usize]);
        self.called.store(true, Ordering::Relaxed);
        self.move_on();
        Ok(Arc::new(Call {
            connection: Arc::clone(self),
            class,
            gone: AtomicBool::new(false),
            is_whole: AtomicBool::new(false),
            is_list,
            turn: Mutex::new(None),
        }))
    }

    /// The turns that a read of its calls waits for, and as whom.
    pub(super) fn turns(&self, is_long: bool) -> (&Turns, turns::Reader) {
        let reader = turns::Reader {
            connection: self.number,
            peer: self.peer,
        };
        match is_long {
            true => (&self.traffic.long_reads, reader),
            false => (&self.traffic.short_reads, reader),
        }
    }

    fn is_idle(&self) -> bool {
        self.calls.iter().all(|calls| calls.load(Ordering::Relaxed) == 0)
    }

    /// Something of it moved.
    pub(super) fn move_on(&self) {
        self.moved.store(self.traffic.now(), Ordering::Relaxed);
    }

    pub(super) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    fn end(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.close.notify_one();
    }
}

impl Call {
    /// Counts `bytes` that are held in memory for it.
    ///
    /// # Errors
    /// `TOO_MANY_REQUESTS`.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Result<Held, Fault> {
        let (connection, traffic) = (&self.connection, self.connection.traffic());
        let most = traffic.limits.held_bytes();
        while traffic.held.fetch_add(bytes, Ordering::Relaxed) + bytes > most {
            traffic.held.fetch_sub(bytes, Ordering::Relaxed);
            if !traffic.make_memory(connection, bytes) {
                count(&traffic.counters.calls_refused);
                let most = traffic.limits.max_held_mib;
                return Err(too_many(format!(
                    "the service holds {most} MiB of partly received requests and answers that were not read, which is the maximum (--max-held-mib)"
                )));
            }
            // What it held is given back when it is dropped; it counts no longer.
            connection.traffic.disown();
        }
        connection.held.fetch_add(bytes, Ordering::Relaxed);
        connection.move_on();
        Ok(Held {
            call: Arc::clone(self),
            bytes,
        })
    }

    /// Counts `bytes` that its stream keeps for as long as it lives. A connection that has less than an equal share is served
    /// beyond the bound, as it is with calls.
    ///
    /// # Errors
    /// `TOO_MANY_REQUESTS`.
    pub(super) fn keep(self: &Arc<Self>, bytes: usize) -> Result<Kept, Fault> {
        let (connection, traffic) = (&self.connection, self.connection.traffic());
        let most = traffic.limits.kept_bytes();
        let share = most / SHARES / traffic.lock().connections.len().max(1);
        // Given back when it is dropped, refused or not.
        let kept = Kept {
            call: Arc::clone(self),
            bytes,
        };
        let of_all = traffic.kept.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let of_mine = connection.kept.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if of_all > most && of_mine > share {
            count(&traffic.counters.calls_refused);
            return Err(too_many(format!(
                "the filters of all watches take {} MiB, which is the maximum (half of --max-held-mib); filter by fewer ids",
                most >> 20
            )));
        }
        Ok(kept)
    }

    /// Counts `bytes` that it could do without: nobody makes room for them, and half of the account is left to what others
    /// cannot do without.
    pub(super) fn hold_spare(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let (connection, traffic) = (&self.connection, self.connection.traffic());
        let most = traffic.limits.held_bytes() / 2;
        if traffic.held.fetch_add(bytes, Ordering::Relaxed) + bytes > most {
            traffic.held.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        connection.held.fetch_add(bytes, Ordering::Relaxed);
        Some(Held {
            call: Arc::clone(self),
            bytes,
        })
    }
}

impl Call {
    pub(super) fn keep_turn(&self, turn: Turn) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = Some(turn);
    }

    pub(super) fn take_turn(&self) -> Option<Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Held {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Traffic {
    /// Takes what closing connections hold out of the account at once: it is as good as gone.
    fn disown(&self) {
        for connection in self.lock().connections.values() {
            if connection.closing.load(Ordering::Relaxed) {
                let held = connection.held.swap(0, Ordering::Relaxed);
                self.held.fetch_sub(held, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let connection = &self.call.connection;
        let (mut bytes, mut now) = (self.bytes, connection.held.load(Ordering::Relaxed));
        // No more than still stands in the account.
        loop {
            bytes = bytes.min(now);
            let left = now - bytes;
            match connection
                .held
                .compare_exchange_weak(now, left, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(other) => (now, bytes) = (other, self.bytes),
            }
        }
        connection.traffic.held.fetch_sub(bytes, Ordering::Relaxed);
        connection.move_on();
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let connection = &self.call.connection;
        connection.kept.fetch_sub(self.bytes, Ordering::Relaxed);
        connection.traffic.kept.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.traffic.lock().calls[self.class as usize] -= 1;
        connection.calls[self.class as usize].fetch_sub(1, Ordering::Relaxed);
        connection.move_on();
    }
}

impl Place {
    /// The handshake has come to its end.
    pub(super) fn has_shaken_hands(&self) {
        let mut inner = self.0.traffic.lock();
        inner.shaking_hands.remove(&self.0.number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let traffic = &self.0.traffic;
        traffic.lock().forget(&self.0);
        traffic.long_reads.forget(self.0.number);
        traffic.short_reads.forget(self.0.number);
    }
}

fn too_many(words: String) -> Fault {
    let words = format!("{words}: nothing was done; try again in a moment");
    Fault::new(FaultCode::TooManyRequests, words)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_watches_keep_is_bounded_and_who_keeps_little_is_served_beyond_that() {
        let limits = Limits {
            max_held_mib: 8,
            ..Limits::default()
        };
        let traffic = Traffic::new(limits);
        let place = |_| traffic.enter(None, false).unwrap();
        let places: Vec<Place> = (0..4).map(place).collect();
        let watch = |place: &Place| place.0.call(Class::Watch, false).unwrap();
        let filter = 16 << 10;
        let mut kept = Vec::new();
        let refused = loop {
            match watch(&places[0]).keep(filter) {
                Ok(one) => kept.push(one),
                Err(refused) => break refused,
            }
        };
        assert_eq!(kept.len(), (4 << 20) / filter);
        assert_eq!(refused.code, FaultCode::TooManyRequests);
        assert!(refused.message.contains("--max-held-mib"), "{refused}");
        // Its share is an eighth: half of all that there is, of four connections.
        let beyond: Vec<_> = (0..40)
            .map_while(|_| watch(&places[1]).keep(filter).ok())
            .collect();
        assert_eq!(beyond.len(), (512 << 10) / filter);
        drop((kept, beyond));
        assert_eq!(traffic.kept.load(Ordering::Relaxed), 0);
        assert!(watch(&places[0]).keep(4 << 20).is_ok());
    }
}
