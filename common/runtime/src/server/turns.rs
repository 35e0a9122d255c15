//! Whose read is next, where many clients want to read at once.
//!
//! A turn goes to the one that reads least: of the addresses that wait the one with the fewest turns at this moment and, among
//! these, with the least time used lately; of its connections the one of which the same is true; of its reads the oldest. So
//! one that comes is next at once, however many reads others have waiting, and who reads a little now and then stays ahead
//! of who always reads. What was used is forgotten by halves: nobody pays for long, and nothing is saved up.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::threads;

/// What a turn counts at least: a clock that stands still does not make turns free.
const LEAST: Duration = Duration::from_micros(50);

/// Each time that turns have taken so long in all, half of what everybody has used is forgotten.
const FORGOTTEN_BY_HALVES: Duration = Duration::from_secs(1);

/// Who reads: a connection, by its number, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reader {
    pub(super) connection: u64,
    pub(super) peer: Option<IpAddr>,
}

/// Who waits, who reads, and what each has used. `W` is what is to be done when its turn has come.
#[derive(Debug)]
struct Queue<W> {
    /// Turns that nobody has.
    free: usize,
    /// Turns that one connection may have at a time.
    each: usize,
    next_ticket: u64,
    peers: HashMap<Option<IpAddr>, Peer>,
    connections: BTreeMap<u64, Connection<W>>,
    /// What turns have taken since half was last forgotten.
    taken: Duration,
}

#[derive(Debug, Default)]
struct Peer {
    reading: Reading,
    /// Its connections that are remembered.
    connections: usize,
}

#[derive(Debug)]
struct Connection<W> {
    peer: Option<IpAddr>,
    reading: Reading,
    /// By ticket, the oldest first.
    waiting: BTreeMap<u64, W>,
    /// It has ended: forgotten with its last turn.
    gone: bool,
}

/// How much somebody reads: who is less goes first.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Reading {
    turns: usize,
    used: Duration,
}

impl Reading {
    fn end(&mut self, took: Duration) {
        self.turns -= 1;
        self.used += took;
    }
}

impl<W> Queue<W> {
    fn new(turns: usize, each: usize) -> Self {
        Self {
            free: turns,
            each,
            next_ticket: 0,
            peers: HashMap::new(),
            connections: BTreeMap::new(),
            taken: Duration::ZERO,
        }
    }

    /// Waits from now on; the ticket is what it is taken back by.
    fn enter(&mut self, who: Reader, work: W) -> u64 {
        let peers = &mut self.peers;
        let connection = self.connections.entry(who.connection).or_insert_with(|| {
            peers.entry(who.peer).or_default().connections += 1;
            Connection {
                peer: who.peer,
                reading: Reading::default(),
                waiting: BTreeMap::new(),
                gone: false,
            }
        });
        self.next_ticket += 1;
        connection.waiting.insert(self.next_ticket, work);
        self.next_ticket
    }

    /// Waits no longer.
    fn take_back(&mut self, connection: u64, ticket: u64) -> Option<W> {
        self.connections.get_mut(&connection)?.waiting.remove(&ticket)
    }

    /// Whose turn it is, where there is one.
    fn next(&mut self) -> Option<(u64, W)> {
        if self.free == 0 {
            return None;
        }
        let waiting = self.connections.iter().filter_map(|(number, connection)| {
            let (oldest, _) = connection.waiting.first_key_value()?;
            let peer = self.peers.get(&connection.peer)?.reading;
            (connection.reading.turns < self.each).then_some(((peer, connection.reading, *oldest), *number))
        });
        let (_, number) = waiting.min()?;
        let connection = self.connections.get_mut(&number)?;
        let (_, work) = connection.waiting.pop_first()?;
        connection.reading.turns += 1;
        if let Some(peer) = self.peers.get_mut(&connection.peer) {
            peer.reading.turns += 1;
        }
        self.free -= 1;
        Some((number, work))
    }

    /// A turn is over that took so long.
    fn end(&mut self, connection: u64, took: Duration) {
        let took = took.max(LEAST);
        self.free += 1;
        if let Some(found) = self.connections.get_mut(&connection) {
            found.reading.end(took);
            if let Some(peer) = self.peers.get_mut(&found.peer) {
                peer.reading.end(took);
            }
            if found.gone {
                self.forget(connection);
            }
        }
        self.taken += took;
        if self.taken >= FORGOTTEN_BY_HALVES {
            self.taken = Duration::ZERO;
            let connections = self.connections.values_mut().map(|one| &mut one.reading);
            let peers = self.peers.values_mut().map(|one| &mut one.reading);
            connections.chain(peers).for_each(|reading| reading.used /= 2);
        }
    }

    /// The connection has ended: what waits is given up, and it is forgotten as soon as it has no turn.
    fn forget(&mut self, connection: u64) -> BTreeMap<u64, W> {
        let Some(found) = self.connections.get_mut(&connection) else {
            return BTreeMap::new();
        };
        found.gone = true;
        let (peer, given_up) = (found.peer, std::mem::take(&mut found.waiting));
        if found.reading.turns == 0 {
            self.connections.remove(&connection);
            if let Some(found) = self.peers.get_mut(&peer) {
                found.connections -= 1;
                if found.connections == 0 {
                    self.peers.remove(&peer);
                }
            }
        }
        given_up
    }
}

/// What is done in a turn. It hands the turn back, unless that is to last longer.
type Work = Box<dyn FnOnce(Turn) -> Option<Turn> + Send>;

/// Turns to read. Cheap to clone.
#[derive(Clone)]
pub(super) struct Turns(Arc<Mutex<Queue<Work>>>);

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turns")
    }
}

/// Leave to read, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    connection: u64,
    begun: Instant,
    is_over: bool,
}

/// One that waits; no longer when dropped.
pub(crate) struct Waiting {
    turns: Turns,
    connection: u64,
    ticket: u64,
}

impl Turns {
    /// So many at a time, so many of them of one connection.
    pub(super) fn new(turns: usize, each: usize) -> Self {
        Self(Arc::new(Mutex::new(Queue::new(turns, each))))
    }

    /// Has `work` begun where it may block, as soon as it is its turn. Whoever gives a turn begins the work: no turn waits
    /// for one that is not looked at.
    pub(super) fn wait(
        &self,
        who: Reader,
        work: impl FnOnce(Turn) -> Option<Turn> + Send + 'static,
    ) -> Waiting {
        let ticket = self.lock().enter(who, Box::new(work));
        let waiting = Waiting {
            turns: self.clone(),
            connection: who.connection,
            ticket,
        };
        self.begin();
        waiting
    }

    /// A connection has ended.
    pub(super) fn forget(&self, connection: u64) {
        // What is given up is dropped when others have their turn again.
        let given_up = self.lock().forget(connection);
        drop(given_up);
    }

    /// Begins what is due, each on a thread that goes on with what is due next: if a new one were asked for at the end of
    /// each turn, before the old one is free, there would soon be hundreds.
    fn begin(&self) {
        while let Some((mut turn, mut work)) = self.next() {
            threads::blocking(move || {
                while let Some(back) = work(turn) {
                    let turns = back.turns.clone();
                    back.end();
                    match turns.next() {
                        Some(next) => (turn, work) = next,
                        None => return,
                    }
                }
            });
        }
    }

    fn next(&self) -> Option<(Turn, Work)> {
        let (connection, work) = self.lock().next()?;
        let turn = Turn {
            turns: self.clone(),
            connection,
            begun: Instant::now(),
            is_over: false,
        };
        Some((turn, work))
    }

    fn lock(&self) -> MutexGuard<'_, Queue<Work>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Gives it back to one who sees to what is due next.
    fn end(mut self) {
        self.give_back();
    }

    fn give_back(&mut self) {
        self.is_over = true;
        let took = self.begun.elapsed();
        self.turns.lock().end(self.connection, took);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_over {
            self.give_back();
            self.turns.begin();
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let given_up = self.turns.lock().take_back(self.connection, self.ticket);
        drop(given_up);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LONG: Duration = Duration::from_millis(20);
    const SHORT: Duration = Duration::from_millis(1);

    fn from(connection: u64, peer: u8) -> Reader {
        Reader {
            connection,
            peer: Some(Ipv4Addr::new(10, 0, 0, peer).into()),
        }
    }

    /// Ten connections of one address with a hundred reads each, all turns taken, some of them over.
    fn crowd(turns: usize) -> (Queue<&'static str>, Vec<u64>) {
        let mut queue = Queue::new(turns, 2);
        for connection in 1..=10 {
            for _ in 0..100 {
                queue.enter(from(connection, 1), "costly");
            }
        }
        let mut reading = Vec::new();
        for _ in 0..50 {
            reading.extend(std::iter::from_fn(|| queue.next().map(|(number, _)| number)));
            queue.end(reading.remove(0), LONG);
        }
        reading.extend(std::iter::from_fn(|| queue.next().map(|(number, _)| number)));
        assert_eq!(reading.len(), turns);
        (queue, reading)
    }

    /// The turns that end until the honest one has its own, which it then has had.
    fn until_honest(queue: &mut Queue<&'static str>, reading: &mut Vec<u64>) -> usize {
        for ended in 1.. {
            queue.end(reading.remove(0), LONG);
            let (number, work) = queue.next().expect("a turn is free, and many wait");
            if work == "honest" {
                queue.end(number, SHORT);
                reading.extend(queue.next().map(|(number, _)| number));
                return ended;
            }
            reading.push(number);
        }
        unreachable!("it is served before the numbers are used up")
    }

    #[test]
    fn whoever_has_read_nothing_is_next_however_many_wait() {
        for turns in [1, 4] {
            for peer in [1, 2] {
                let (mut queue, mut reading) = crowd(turns);
                queue.enter(from(99, peer), "honest");
                assert_eq!(
                    until_honest(&mut queue, &mut reading),
                    1,
                    "{turns} turns, peer {peer}"
                );
            }
        }
    }

    #[test]
    fn who_reads_little_stays_ahead_of_who_always_reads() {
        for turns in [1, 4] {
            let (mut queue, mut reading) = crowd(turns);
            for round in 0..200 {
                queue.enter(from(99, 1), "honest");
                let waited = until_honest(&mut queue, &mut reading);
                assert_eq!(waited, 1, "round {round} of {turns} turns");
                // It thinks, and the crowd reads on.
                for _ in 0..2 {
                    queue.end(reading.remove(0), LONG);
                    reading.extend(queue.next().map(|(number, _)| number));
                }
            }
        }
    }

    #[test]
    fn connections_that_have_as_much_to_read_read_as_much() {
        let (mut queue, mut reading) = crowd(4);
        let mut served = BTreeMap::<u64, usize>::new();
        for _ in 0..400 {
            queue.end(reading.remove(0), LONG);
            let (number, _) = queue.next().unwrap();
            *served.entry(number).or_default() += 1;
            reading.push(number);
        }
        assert_eq!(served.len(), 10);
        assert!(
            served.values().all(|count| (38..=42).contains(count)),
            "{served:?}"
        );
    }

    #[test]
    fn many_connections_of_one_address_are_one_address() {
        let mut queue = Queue::new(1, 2);
        for connection in 1..=500 {
            queue.enter(from(connection, 1), "costly");
        }
        for _ in 0..20 {
            queue.enter(from(999, 2), "honest");
        }
        let mut honest = 0;
        for _ in 0..20 {
            let (number, work) = queue.next().unwrap();
            honest += usize::from(work == "honest");
            queue.end(number, LONG);
        }
        assert!(honest >= 9, "{honest} of 20");
    }

    #[test]
    fn who_stays_away_saves_up_no_more_than_is_soon_used() {
        let mut queue = Queue::new(1, 1);
        for _ in 0..10_000 {
            queue.enter(from(2, 1), "other");
        }
        for _ in 0..1_000 {
            let (number, _) = queue.next().unwrap();
            queue.end(number, LONG);
        }
        for _ in 0..1_000 {
            queue.enter(from(1, 1), "first");
        }
        let mut first = 0;
        for _ in 0..1_000 {
            let (number, work) = queue.next().unwrap();
            first += usize::from(work == "first");
            queue.end(number, LONG);
        }
        // Half of them, and what half was forgotten after.
        let ahead = usize::try_from(FORGOTTEN_BY_HALVES.as_millis() / LONG.as_millis()).unwrap();
        assert!((500..=500 + ahead).contains(&first), "{first}");
    }

    #[test]
    fn one_connection_has_no_more_than_its_turns_at_a_time() {
        let mut queue = Queue::new(4, 2);
        for _ in 0..10 {
            queue.enter(from(1, 1), "costly");
        }
        assert!(queue.next().is_some() && queue.next().is_some());
        assert!(queue.next().is_none());
        queue.enter(from(2, 1), "honest");
        assert_eq!(queue.next().map(|(number, _)| number), Some(2));
    }

    #[test]
    fn nothing_is_left_of_those_who_have_gone() {
        let mut queue = Queue::new(1, 2);
        let ticket = queue.enter(from(1, 1), "a");
        queue.enter(from(1, 1), "b");
        queue.enter(from(2, 1), "c");
        queue.enter(from(3, 2), "d");
        queue.take_back(1, ticket);
        // Harmless when repeated.
        queue.take_back(1, ticket);
        let (reading, work) = queue.next().unwrap();
        assert_eq!((reading, work), (1, "b"));
        // One that reads is forgotten with its turn, one that waits at once.
        queue.forget(1);
        queue.forget(2);
        queue.forget(2);
        assert!(queue.next().is_none());
        queue.end(reading, LONG);
        assert_eq!(queue.next().map(|(_, work)| work), Some("d"));
        queue.end(3, LONG);
        queue.forget(3);
        assert!(
            queue.connections.is_empty() && queue.peers.is_empty(),
            "{queue:?}"
        );
        assert_eq!(queue.free, 1);
    }

    #[test]
    fn turns_are_free_for_nobody_where_no_time_passes() {
        let mut queue = Queue::new(1, 1);
        for connection in [1, 2] {
            for _ in 0..10 {
                queue.enter(from(connection, 1), "costly");
            }
        }
        let mut served = Vec::new();
        for _ in 0..10 {
            let (number, _) = queue.next().unwrap();
            served.push(number);
            queue.end(number, Duration::ZERO);
        }
        assert_eq!(served, [1, 2, 1, 2, 1, 2, 1, 2, 1, 2]);
    }
}
