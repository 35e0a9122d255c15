//! Whose read is next, where many clients want to read at once.
//!
//! A turn goes to the one that reads least: of the addresses that wait the one with the fewest turns at this moment and, among
//! these, with the least time used lately; of its connections the one of which the same is true; of its reads the oldest. So
//! one that comes is next at once, however many reads others have waiting, and who reads a little now and then stays ahead
//! of who always reads. What was used is forgotten by halves: nobody pays for long, and nothing is saved up.
//!
//! A long read lets others go ahead in its middle: whoever waits and has used far less reads on its thread, and then the long
//! read goes on. So who reads little waits for a piece of a page of others, not for the page.

use std::cell::Cell;
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

/// How often a read looks whether somebody is far ahead of it.
const PIECE: Duration = Duration::from_micros(500);

/// Who has used less than one part in so many of what a reader has is far ahead of it. Of those who read as much as they may
/// nobody is: else each would interrupt the other.
const FAR: u32 = 4;

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
        let begun = self.begin(number)?;
        self.free -= 1;
        Some(begun)
    }

    /// Who is far ahead of `reader`, whose turn has taken `so_far`: begins beside the turns that there are.
    fn far_ahead(&mut self, reader: u64, so_far: Duration) -> Option<(u64, W)> {
        let reader = self.connections.get(&reader)?;
        let used = |reading: Reading| (reading.used + so_far) / FAR;
        let of_peer = self.peers.get(&reader.peer)?.reading;
        let of_connection = reader.reading;
        let waiting = self.connections.iter().filter_map(|(number, connection)| {
            let (oldest, _) = connection.waiting.first_key_value()?;
            let peer = self.peers.get(&connection.peer)?.reading;
            let is_ahead = match connection.peer == reader.peer {
                true => connection.reading.used < used(of_connection),
                false => peer.used < used(of_peer),
            };
            (is_ahead && connection.reading.turns == 0)
                .then_some(((peer, connection.reading, *oldest), *number))
        });
        let (_, number) = waiting.min()?;
        self.begin(number)
    }

    /// The oldest read of a connection begins.
    fn begin(&mut self, number: u64) -> Option<(u64, W)> {
        let connection = self.connections.get_mut(&number)?;
        let (_, work) = connection.waiting.pop_first()?;
        connection.reading.turns += 1;
        if let Some(peer) = self.peers.get_mut(&connection.peer) {
            peer.reading.turns += 1;
        }
        Some((number, work))
    }

    /// A turn is over that took so long.
    fn end(&mut self, connection: u64, took: Duration) {
        self.free += 1;
        self.end_ahead(connection, took);
    }

    /// A turn is over that began ahead of another.
    fn end_ahead(&mut self, connection: u64, took: Duration) {
        let took = took.max(LEAST);
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
    /// It began in the middle of another one: none begins in its own.
    is_ahead: bool,
    pauses: Cell<Pauses>,
    is_over: bool,
}

/// In which others went ahead.
#[derive(Debug, Clone, Copy)]
struct Pauses {
    looked: Instant,
    took: Duration,
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
        Some((Turn::new(self.clone(), connection, false), work))
    }

    fn lock(&self) -> MutexGuard<'_, Queue<Work>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    fn new(turns: Turns, connection: u64, is_ahead: bool) -> Self {
        let begun = Instant::now();
        Self {
            turns,
            connection,
            begun,
            is_ahead,
            pauses: Cell::new(Pauses {
                looked: begun,
                took: Duration::ZERO,
            }),
            is_over: false,
        }
    }

    /// Between two pieces of a read: whoever is far ahead reads first, on this thread.
    pub(crate) fn pause(&self) {
        let Pauses { looked, took } = self.pauses.get();
        let now = Instant::now();
        if self.is_ahead || now.duration_since(looked) < PIECE {
            return;
        }
        let so_far = now.duration_since(self.begun).saturating_sub(took);
        while let Some((turn, work)) = self.far_ahead(so_far) {
            if let Some(back) = work(turn) {
                back.end();
            }
        }
        let looked = Instant::now();
        self.pauses.set(Pauses {
            looked,
            took: took + looked.duration_since(now),
        });
    }

    fn far_ahead(&self, so_far: Duration) -> Option<(Self, Work)> {
        let (connection, work) = self.turns.lock().far_ahead(self.connection, so_far)?;
        Some((Self::new(self.turns.clone(), connection, true), work))
    }

    /// Gives it back to one who sees to what is due next.
    fn end(mut self) {
        self.give_back();
    }

    fn give_back(&mut self) {
        self.is_over = true;
        let took = self.begun.elapsed().saturating_sub(self.pauses.get().took);
        let mut queue = self.turns.lock();
        match self.is_ahead {
            true => queue.end_ahead(self.connection, took),
            false => queue.end(self.connection, took),
        }
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

    #[test]
    fn who_has_used_far_less_goes_ahead_in_the_middle_of_a_long_read() {
        for peer in [1, 2] {
            let (mut queue, reading) = crowd(2);
            // Those who read as much as they may wait for the end of each other's pages.
            assert!(
                queue.far_ahead(reading[0], Duration::ZERO).is_none(),
                "peer {peer}"
            );
            queue.enter(from(99, peer), "honest");
            queue.enter(from(99, peer), "honest");
            assert_eq!(
                queue.far_ahead(reading[0], LONG),
                Some((99, "honest")),
                "peer {peer}"
            );
            assert_eq!(queue.free, 0);
            // One of a connection at a time, whoever lets it go ahead.
            assert!(queue.far_ahead(reading[1], LONG).is_none(), "peer {peer}");
            queue.end_ahead(99, SHORT);
            assert_eq!(
                queue.far_ahead(reading[1], LONG),
                Some((99, "honest")),
                "peer {peer}"
            );
            queue.end_ahead(99, SHORT);
            assert_eq!((queue.free, queue.next()), (0, None), "peer {peer}");
        }
    }

    #[test]
    fn nobody_is_far_ahead_for_long() {
        let (mut queue, reading) = crowd(1);
        let mut ahead = Duration::ZERO;
        loop {
            queue.enter(from(99, 1), "new, and costly");
            if queue.far_ahead(reading[0], LONG).is_none() {
                break;
            }
            queue.end_ahead(99, LONG);
            ahead += LONG;
        }
        assert!(ahead <= FORGOTTEN_BY_HALVES, "{ahead:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_read_that_lets_others_ahead_goes_on_after_them_and_nobody_else_reads_meanwhile() {
        let turns = Turns::new(1, 1);
        let (say, mut said) = tokio::sync::mpsc::unbounded_channel();
        let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
        let long = say.clone();
        let _long = turns.wait(from(1, 1), move |turn| {
            long.send("long").unwrap();
            may_go_on.recv().unwrap();
            std::thread::sleep(4 * PIECE);
            turn.pause();
            long.send("long goes on").unwrap();
            Some(turn)
        });
        assert_eq!(said.recv().await, Some("long"));
        let short = say.clone();
        let _short = turns.wait(from(2, 1), move |turn| {
            // None goes ahead of one that went ahead.
            std::thread::sleep(4 * PIECE);
            turn.pause();
            short.send("short").unwrap();
            Some(turn)
        });
        let third = say.clone();
        let _third = turns.wait(from(3, 1), move |turn| {
            third.send("third").unwrap();
            Some(turn)
        });
        go_on.send(()).unwrap();
        let mut order = Vec::new();
        for _ in 0..3 {
            order.push(said.recv().await.unwrap());
        }
        assert_eq!(order, ["short", "third", "long goes on"]);
        drop((_long, _short, _third));
        // All is handed back.
        tokio::time::timeout(Duration::from_secs(60), async {
            while turns.lock().free != 1 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }
}
