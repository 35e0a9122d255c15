//! What this start and the other lives of the engine tell each other through a host that both reach (docs/adr/0012).
//!
//! Each life says which hosts it has, and repeats the nonces of the lives that it hears. Its words carry a code that
//! only the data directory, or a copy of it, can make; and a life that repeats a nonce of the last seconds is at work
//! now. So a host can keep silent about another life, but cannot invent one, and cannot show one that has ended.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use common::id::{HostId, Incarnation};
use engine_core::input::{Input, OtherStart};
use proto::host::v1::host_service_client::HostServiceClient;
use proto::host::v1::{Life as Said, MeetLivesRequest};
use runtime::chance;
use runtime::metadata::EngineCall;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use super::Context;
use crate::life::{Life, Lives};

/// How often this start speaks while no other life answers.
const EVERY: Duration = Duration::from_secs(1);

/// How often it speaks while it hears another life, so that both know of each other within about a second.
const EVERY_ONE_HEARD: Duration = Duration::from_millis(250);

/// The maximum age of a nonce that an answer may repeat. This is also how long a life counts as at work after it was
/// last heard.
const FRESH: Duration = Duration::from_secs(10);

/// How long one exchange may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// The maximum number of nonces that are repeated; a host passes on no more lives.
const MAX_HEARD: usize = 15;

/// The maximum number of hosts that are named: as many as a host passes on.
const MAX_HOLDS: usize = 4_096;

type Nonce = [u8; 16];

/// The conversation through one host.
pub(super) struct Meeting {
    host_id: HostId,
    /// The nonces of the last seconds that nobody has repeated yet.
    asked: VecDeque<(Nonce, Instant)>,
    /// The nonces to repeat.
    heard: Vec<Nonce>,
    /// The other lives that were heard here, and when each was last heard.
    lives: Vec<(OtherStart, Instant)>,
    /// The lives that the engine was told about.
    told: Vec<OtherStart>,
}

impl Meeting {
    pub(super) const fn at(host_id: HostId) -> Self {
        Self {
            host_id,
            asked: VecDeque::new(),
            heard: Vec::new(),
            lives: Vec::new(),
            told: Vec::new(),
        }
    }

    /// The host does not answer: nobody is heard through it.
    pub(super) async fn is_cut(&mut self, context: &Context) {
        self.lives.clear();
        self.tell(context, Vec::new()).await;
    }

    /// Speaks and listens once, and tells the engine what is new. A host of an older build passes nothing on.
    pub(super) async fn meet(&mut self, context: &Context, channel: Channel, call: &EngineCall) {
        let life = context.lives.now();
        let said = self.says(&context.lives, &life, Instant::now());
        let mut request = tonic::Request::new(MeetLivesRequest { life: Some(said) });
        request.set_timeout(DEADLINE);
        call.attach(&mut request, None);
        let answer = HostServiceClient::new(channel).meet_lives(request).await;
        let lives = answer.map(|answer| answer.into_inner().lives).unwrap_or_default();
        let lives = self.hears(&life, &lives, Instant::now());
        self.tell(context, lives).await;
    }

    /// Tells the engine about the lives, if they have changed.
    async fn tell(&mut self, context: &Context, lives: Vec<OtherStart>) {
        if lives != self.told {
            self.told.clone_from(&lives);
            let host_id = self.host_id;
            // If the engine does not hear this, it is stopping.
            let _ = context.engine.call(Input::LivesMet { host_id, lives }).await;
        }
    }

    /// Speaks and listens again and again.
    pub(super) async fn go_on(
        &mut self,
        context: &Context,
        channel: &Channel,
        call: &EngineCall,
    ) -> Infallible {
        loop {
            let is_alone = self.heard.is_empty();
            sleep(if is_alone { EVERY } else { EVERY_ONE_HEARD }).await;
            self.meet(context, channel.clone(), call).await;
        }
    }

    fn says(&mut self, lives: &Lives, life: &Life, now: Instant) -> Said {
        let mut nonce = Nonce::default();
        for part in nonce.chunks_exact_mut(8) {
            part.copy_from_slice(&chance::number().to_be_bytes());
        }
        self.asked.retain(|(_, at)| now.duration_since(*at) < FRESH);
        self.asked.push_back((nonce, now));
        let holds = lives.holds();
        let mut said = Said {
            incarnation: life.incarnation.to_string(),
            nonce: nonce.to_vec(),
            heard: self.heard.iter().map(|nonce| nonce.to_vec()).collect(),
            holds: holds
                .iter()
                .take(MAX_HOLDS)
                .flat_map(|id| *id.as_bytes())
                .collect(),
            code: Vec::new(),
        };
        said.code = life.key.seal(&self.sealed(life, life.incarnation, &said));
        said
    }

    /// Which other lives are at work. Words that no life of this key can have said are ignored.
    fn hears(&mut self, life: &Life, said: &[Said], now: Instant) -> Vec<OtherStart> {
        self.heard.clear();
        let true_ones = said.iter().filter_map(|one| Some((one, self.read(life, one)?)));
        let true_ones: Vec<_> = true_ones.take(MAX_HEARD).collect();
        for (one, (start, nonce)) in true_ones {
            self.heard.push(nonce);
            let answers = |(asked, _): &(Nonce, Instant)| one.heard.iter().any(|heard| heard == asked);
            if let Some(at) = self.asked.iter().position(answers) {
                // The nonce counts once: a host that replays the answer proves nothing.
                self.asked.remove(at);
                self.lives
                    .retain(|(known, _)| known.incarnation != start.incarnation);
                self.lives.push((start, now));
            }
        }
        self.lives.retain(|(_, at)| now.duration_since(*at) < FRESH);
        let mut lives: Vec<_> = self.lives.iter().map(|(start, _)| start.clone()).collect();
        lives.sort_by_key(|start| start.incarnation);
        lives
    }

    /// Reads words that a life of this key has said, and that are not this start's own.
    fn read(&self, life: &Life, said: &Said) -> Option<(OtherStart, Nonce)> {
        let incarnation = said.incarnation.parse::<Incarnation>().ok()?;
        let nonce = Nonce::try_from(&said.nonce[..]).ok()?;
        let is_true = incarnation != life.incarnation
            && life.key.has_made(life.engine_id, incarnation)
            && life
                .key
                .has_sealed(&self.sealed(life, incarnation, said), &said.code);
        let (ids, _) = said.holds.as_chunks::<16>();
        let holds: BTreeSet<_> = ids.iter().filter_map(|id| HostId::from_slice(id).ok()).collect();
        is_true.then_some((OtherStart { incarnation, holds }, nonce))
    }

    /// The bytes that the code covers.
    fn sealed(&self, life: &Life, incarnation: Incarnation, said: &Said) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + said.heard.len() * 16 + said.holds.len());
        bytes.extend_from_slice(life.engine_id.as_bytes());
        bytes.extend_from_slice(self.host_id.as_bytes());
        bytes.extend_from_slice(incarnation.as_bytes());
        bytes.extend_from_slice(&said.nonce);
        // Lengths come first, so that no two texts have the same bytes.
        bytes.extend_from_slice(&(said.heard.len() as u64).to_be_bytes());
        for nonce in &said.heard {
            bytes.extend_from_slice(nonce);
        }
        bytes.extend_from_slice(&said.holds);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use common::id::EngineId;
    use uuid::Uuid;

    use super::*;
    use crate::life::Key;

    fn host(n: u128) -> HostId {
        HostId::from_uuid(Uuid::from_u128(n))
    }

    fn life(key: u8, random: u64) -> Life {
        let engine_id = EngineId::from_uuid(Uuid::from_u128(1));
        let key = Key::from_slice(&[key; Key::BYTES]).unwrap();
        Life {
            engine_id,
            epoch: 5,
            incarnation: key.incarnation(engine_id, random),
            line: [].into(),
            key,
        }
    }

    struct Peer {
        lives: Lives,
        meeting: Meeting,
    }

    impl Peer {
        fn new(life: Life, holds: &[u128]) -> Self {
            let lives = Lives::new(life);
            lives.hold(holds.iter().map(|n| host(*n)).collect());
            Self {
                lives,
                meeting: Meeting::at(host(9)),
            }
        }

        fn says(&mut self, now: Instant) -> Said {
            self.meeting.says(&self.lives, &self.lives.now(), now)
        }

        fn hears(&mut self, said: &Said, now: Instant) -> Vec<Vec<HostId>> {
            let heard = self
                .meeting
                .hears(&self.lives.now(), std::slice::from_ref(said), now);
            heard
                .into_iter()
                .map(|one| one.holds.into_iter().collect())
                .collect()
        }
    }

    #[test]
    fn two_lives_that_answer_each_other_know_what_each_has() {
        let now = Instant::now();
        let mut one = Peer::new(life(7, 1), &[1, 3]);
        let mut other = Peer::new(life(7, 2), &[2]);
        let first = one.says(now);
        assert!(
            other.hears(&first, now).is_empty(),
            "it may be long ago that it was said"
        );
        let second = other.says(now);
        assert_eq!(one.hears(&second, now), [[host(2)]]);
        let third = one.says(now);
        assert_eq!(other.hears(&third, now), [[host(1), host(3)]]);
    }

    #[test]
    fn what_is_repeated_shows_nothing_once_it_is_old() {
        let (now, seconds) = (Instant::now(), Duration::from_secs);
        let mut one = Peer::new(life(7, 1), &[1]);
        let mut other = Peer::new(life(7, 2), &[2]);
        let first = one.says(now);
        other.hears(&first, now);
        let answer = other.says(now);
        assert_eq!(one.hears(&answer, now).len(), 1);
        // The host repeats the same words again and again, although the other life has ended.
        for at in 1..40 {
            let then = now + seconds(at);
            one.says(then);
            assert_eq!(
                one.hears(&answer, then).len(),
                usize::from(at < 10),
                "after {at} s"
            );
        }
        // An answer that comes too late does not count.
        let asked = one.says(now + seconds(50));
        other.hears(&asked, now + seconds(50));
        let late = other.says(now + seconds(50));
        assert!(one.hears(&late, now + seconds(50)).len() == 1);
        let asked = one.says(now + seconds(70));
        other.hears(&asked, now + seconds(70));
        let late = other.says(now + seconds(70));
        one.says(now + seconds(80));
        assert!(one.hears(&late, now + seconds(80)).is_empty());
    }

    #[test]
    fn nobody_else_can_say_it_and_nothing_of_it_can_be_changed() {
        let now = Instant::now();
        let mut one = Peer::new(life(7, 1), &[1]);
        let said = |by: &mut Peer, one: &mut Peer| {
            let asked = one.says(now);
            by.meeting.heard = vec![asked.nonce[..].try_into().unwrap()];
            by.says(now)
        };
        let mut stranger = Peer::new(life(8, 2), &[2]);
        let word = said(&mut stranger, &mut one);
        assert!(one.hears(&word, now).is_empty(), "of another key");
        let mut own = Peer::new(life(7, 1), &[2]);
        let word = said(&mut own, &mut one);
        assert!(one.hears(&word, now).is_empty(), "its own word");
        let mut elsewhere = Peer::new(life(7, 2), &[2]);
        elsewhere.meeting.host_id = host(8);
        let word = said(&mut elsewhere, &mut one);
        assert!(one.hears(&word, now).is_empty(), "said at another host");
        let mut other = Peer::new(life(7, 2), &[2]);
        let changes: [fn(&mut Said); 6] = [
            |said| said.holds.clear(),
            |said| said.holds[3] ^= 1,
            |said| said.nonce[0] ^= 1,
            |said| said.heard.push(vec![0; 16]),
            |said| said.code[31] ^= 1,
            |said| said.incarnation = life(7, 3).incarnation.to_string(),
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut word = said(&mut other, &mut one);
            change(&mut word);
            assert!(one.hears(&word, now).is_empty(), "change {at}");
        }
        let word = said(&mut other, &mut one);
        assert_eq!(one.hears(&word, now).len(), 1);
    }
}
