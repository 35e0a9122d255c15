//! Follows one host: connects, stays connected as long as it can, reports that the host is away, waits, and connects
//! again.

use std::time::Duration;

use common::fault::{Fault, FaultCode};
use common::id::HostId;
use engine_core::effect::Effect;
use engine_core::input::Input;
use engine_core::model::HostCall;
use runtime::clock;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use tracing::{Instrument as _, info, info_span, warn};

use super::backoff::Pauses;
use super::call::TRIES;
use super::meeting::Meeting;
use super::session::{self, End, TakeOver};
use super::{Context, Link, Whom};
use crate::store::{command, read};

/// How often the log repeats that a host refuses this engine.
const REMINDER: Duration = Duration::from_secs(60);

/// For how long a host may put this start off: it decides within 30 s, and within 30 s more if it was restarted
/// meanwhile. If a host does so for longer, the engine believes its word that another life has it, so that it keeps
/// no engine waiting.
const MAX_PUT_OFF: Duration = Duration::from_secs(60);

/// The effects that the engine wants performed on this host.
pub(super) type Orders = UnboundedReceiver<Effect>;

/// Runs until it is aborted.
pub(super) async fn follow(context: Context, whom: Whom, orders: Orders) {
    let host_id = whom.host_id;
    let span = info_span!("host", %host_id);
    Follower {
        context,
        host_id,
        whom,
        orders,
        known: None,
        is_proven: false,
        is_put_off: false,
        put_off: None,
        reminded: None,
    }
    .run()
    .instrument(span)
    .await;
}

struct Follower {
    context: Context,
    host_id: HostId,
    whom: Whom,
    orders: Orders,
    /// The state of the link, as last reported to the engine.
    known: Option<Link>,
    /// Whether the host proved the reason for its last refusal.
    is_proven: bool,
    /// Whether the engine was last told that the host puts it off.
    is_put_off: bool,
    /// Since when the host puts this start off; none once the host was connected.
    put_off: Option<Instant>,
    /// When the log last said that the host is not connected.
    reminded: Option<Instant>,
}

impl Follower {
    async fn run(mut self) {
        let mut pauses = Pauses::new();
        let context = self.context.clone();
        let mut failures = 0_u32;
        let mut decided = None;
        let mut meeting = Meeting::at(self.host_id);
        loop {
            let take_over = decided.take();
            let open = session::open(
                &context,
                &self.whom,
                take_over.as_ref(),
                &mut self.orders,
                &mut meeting,
            );
            let end = match open.await {
                Ok(session) => {
                    failures = 0;
                    context.links.tally().connected();
                    // The links show the host as connected once the stream is up to date.
                    self.known = Some(Link::Connected);
                    (self.is_put_off, self.put_off) = (false, None);
                    info!(store_id = %session.store_id(), "the host is connected");
                    let begun = Instant::now();
                    let end = session.run(&mut self.orders, &mut meeting).await;
                    let flapped = pauses.flaps();
                    pauses.lasted(begun.elapsed());
                    if pauses.flaps() && !flapped {
                        warn!(
                            "the host ends each connection soon after it begins: the engine connects to it less often from now on"
                        );
                    }
                    end
                }
                Err(end) => end,
            };
            let is_proven = matches!(end, End::Superseded(_));
            match end {
                End::Again => {}
                End::Away(fault) => {
                    failures += 1;
                    context.links.tally().failed();
                    if failures.is_multiple_of(TRIES) {
                        self.report_spent(&fault).await;
                    }
                    self.report(Link::Away(fault), false).await;
                    meeting.is_cut(&context).await;
                }
                End::PutOff(_) | End::Refused(_) | End::Superseded(_) => {
                    self.report_refusal(end, is_proven).await;
                    decided = self.taking_over().await;
                    if decided.is_some() && take_over.is_none() {
                        continue;
                    }
                }
            }
            self.rest(pauses.wait()).await;
        }
    }

    /// Waits until it is time for the next attempt to connect, or a person has decided to have the host taken over.
    async fn rest(&mut self, time: Duration) {
        let sleep = tokio::time::sleep(time);
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                biased;
                () = &mut sleep => return,
                Some(effect) = self.orders.recv() => {
                    if matches!(effect, Effect::Call { call: HostCall::TakeOver { .. }, .. }) {
                        return;
                    }
                }
            }
        }
    }

    /// The decision to take this host over, if one is recorded and not yet done.
    async fn taking_over(&self) -> Option<TakeOver> {
        let host_id = self.host_id;
        let found = read::on(&self.context.log, move |reader| {
            command::taking_over(reader, host_id)
        });
        let found = found
            .await
            .inspect_err(|error| warn!(%error, "cannot read whether the host is being taken over"));
        found.ok().flatten().map(|decided| TakeOver {
            user: decided.user,
            reason: decided.reason,
            correlation_id: decided.correlation_id,
        })
    }

    /// Reports that the attempts are spent: the engine knows which commands cannot wait for ever.
    async fn report_spent(&mut self, fault: &Fault) {
        let input = Input::ConnectionsSpent {
            host_id: self.host_id,
            fault: fault.clone(),
        };
        let _ = self.context.engine.send(input).await;
    }

    fn note(&mut self, link: Link) {
        self.context.links.note(self.host_id, link.clone(), clock::now());
        self.known = Some(link);
    }

    async fn report_refusal(&mut self, end: End, is_proven: bool) {
        match end {
            End::PutOff(fault) => {
                let since = *self.put_off.get_or_insert_with(Instant::now);
                match since.elapsed() > MAX_PUT_OFF {
                    true => self.report(Link::Refused(never_decides(&fault)), false).await,
                    false => self.report_put_off(fault).await,
                }
            }
            End::Refused(fault) | End::Superseded(fault) => {
                self.report(Link::Refused(fault), is_proven).await
            }
            End::Away(_) | End::Again => {}
        }
    }

    /// Reports once that the host puts this start off, which means more to the engine than that the host is away.
    async fn report_put_off(&mut self, fault: Fault) {
        if !self.is_put_off {
            warn!(%fault, "the host does not accept this start of the engine yet");
            let (host_id, said) = (self.host_id, fault.clone());
            let input = Input::HostPutsOff { host_id, fault: said };
            let _ = self.context.engine.send(input).await;
        }
        self.is_put_off = true;
        self.note(Link::Away(fault));
    }

    /// Reports a change to the engine. An attempt that fails like the last one is only noted in the links, and a
    /// refusal once a minute in the log as well.
    async fn report(&mut self, link: Link, is_proven: bool) {
        let host_id = self.host_id;
        self.remind(&link);
        let input = match (&self.known, &link) {
            (Some(Link::Away(_)), Link::Away(_)) => None,
            (Some(Link::Refused(old)), Link::Refused(new)) if old == new && self.is_proven == is_proven => {
                None
            }
            (_, Link::Refused(fault)) => Some(Input::HostRefused {
                host_id,
                fault: fault.clone(),
                is_proven,
            }),
            (_, Link::Away(_) | Link::Connected) => Some(Input::HostAway { host_id }),
        };
        if let Some(input) = input {
            warn!(fault = %fault_of(&link), "the host is not connected");
            self.reminded = Some(Instant::now());
            // The next attempt depends on the record of this one.
            let _ = self.context.engine.call(input).await;
        }
        (self.is_proven, self.is_put_off) = (is_proven, false);
        self.note(link);
    }

    fn remind(&mut self, link: &Link) {
        let due = self.reminded.is_none_or(|last| last.elapsed() >= REMINDER);
        if let (Some(Link::Refused(_)), Link::Refused(fault), true) = (&self.known, link, due) {
            warn!(%fault, "the host still refuses this engine: nothing is sent to it, and what is shown of it is outdated");
            self.reminded = Some(Instant::now());
        }
    }
}

/// The fault of a host that does not decide.
fn never_decides(said: &Fault) -> Fault {
    let words = format!(
        "the host has not decided for more than {} s whose it is, although that takes at most {} s; until it decides, it counts as another life's: {}",
        MAX_PUT_OFF.as_secs(),
        MAX_PUT_OFF.as_secs() / 2,
        said.message
    );
    Fault {
        code: FaultCode::EngineFenced,
        message: words.into(),
        ..said.clone()
    }
}

fn fault_of(link: &Link) -> String {
    match link {
        Link::Connected => String::new(),
        Link::Away(fault) | Link::Refused(fault) => Fault::to_string(fault),
    }
}

/// Waits for `future` and drops the engine's effects meanwhile: the host is not connected, and the next connection
/// makes the engine derive anew what is outstanding.
pub(super) async fn idle<F: Future>(orders: &mut Orders, future: F) -> F::Output {
    tokio::pin!(future);
    loop {
        tokio::select! {
            biased;
            output = &mut future => return output,
            Some(_) = orders.recv() => {}
        }
    }
}
