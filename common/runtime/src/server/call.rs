//! One call, from its headers to the last byte of its answer: admitted, in time, and with all memory that it takes in
//! the account of its connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use common::fault::{Fault, FaultCode};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower_service::Service as _;

use super::LARGEST_MESSAGE;
use super::head;
use super::methods::Methods;
use super::refusal;
use super::traffic::{Call, Class, Connection, Held, Kept, count};
use super::turns::{Turn, Waiting};
use crate::audit::{self, Audit};
use crate::status;
use crate::tls::Peer;

/// An answer goes out in pieces of so many bytes: whether a client takes it is seen by them.
const PIECE: usize = 64 << 10;

/// Bytes of a message's head: whether it is compressed, and how long it is.
const HEAD: usize = 5;

/// The largest message, with its head.
const LARGEST: usize = LARGEST_MESSAGE + HEAD;

/// The largest message that asks for a list or a watch, as it is sent and once it is decompressed: a thousand ids and some texts
/// fit. What a message is made of takes many times its bytes, and it is decoded before anybody waits for a turn.
const LARGEST_QUESTION: usize = 64 << 10;

tokio::task_local! {
    static CALL: Weak<Call>;
}

/// The call that is served here; also on a thread that reads for it.
#[derive(Debug, Clone)]
pub(crate) struct Present(Weak<Call>);

/// The call whose handler or stream is being polled; none outside of a server.
pub(crate) fn present() -> Option<Present> {
    CALL.try_with(|call| Present(call.clone())).ok()
}

impl Present {
    /// Whether nobody waits for the outcome any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.0
            .upgrade()
            .is_none_or(|call| call.gone.load(Ordering::Relaxed))
    }

    /// Counts memory that is held for it; nothing where it has ended.
    ///
    /// # Errors
    /// `TOO_MANY_REQUESTS`.
    pub(crate) fn hold(&self, bytes: usize) -> Result<Option<Held>, Fault> {
        match self.0.upgrade() {
            Some(call) => call.hold(bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Counts memory that its stream keeps for as long as it lives; nothing where it has ended.
    ///
    /// # Errors
    /// `TOO_MANY_REQUESTS`.
    pub(crate) fn keep(&self, bytes: usize) -> Result<Option<Kept>, Fault> {
        match self.0.upgrade() {
            Some(call) => call.keep(bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Counts memory that the call could do without; none where more than half of what may be held is held.
    pub(crate) fn hold_spare(&self, bytes: usize) -> Option<Held> {
        self.0.upgrade()?.hold_spare(bytes)
    }

    /// How many streams the service has; none where the call has ended.
    pub(crate) fn watches(&self) -> usize {
        self.0
            .upgrade()
            .map_or(0, |call| call.connection.traffic().watches())
    }

    /// Has `work` done where it may block when it is this call's turn to read the store; a list is a long read whatever
    /// is said. None where the call has ended: nobody waits for it.
    pub(crate) fn in_turn(
        &self,
        is_long: bool,
        work: impl FnOnce(Turn) -> Option<Turn> + Send + 'static,
    ) -> Option<Waiting> {
        let call = self.0.upgrade()?;
        // Nobody holds a turn while waiting for another.
        drop(call.take_turn());
        let (turns, reader) = call.connection.turns(is_long || call.is_list);
        Some(turns.wait(reader, work))
    }

    /// What was read in a turn is there. The turn of a list lasts until its answer is made, and what it holds is in the
    /// account: else lists would be read faster than they are sent. Any other is handed back.
    pub(crate) fn has_read(&self, turn: Turn) -> Option<Turn> {
        match self.0.upgrade().filter(|call| call.is_list) {
            Some(call) => {
                call.keep_turn(turn);
                None
            }
            None => Some(turn),
        }
    }
}

/// A method that is served, and what the contract says of it.
#[derive(Clone)]
struct Rpc {
    methods: Arc<Methods>,
    connection: Arc<Connection>,
    path: Arc<str>,
    class: Class,
    /// The call's entry in the audit log; none if the call gets none.
    audited: Option<Arc<audit::Open>>,
}

impl Rpc {
    /// Gives what ends a call a fault where it has none, and looks whether the contract has that answer.
    fn settle(&self, ending: &mut HeaderMap) {
        if let Some(fault) = refusal::with_fault(ending) {
            self.connection.traffic().counters.ended_with(fault.code);
            self.methods.compare(&self.path, fault.code);
            if let Some(audited) = &self.audited {
                audited.refuse(&fault);
            }
        }
    }
}

/// Answers one request.
pub(super) async fn answer(
    request: Request<Incoming>,
    routes: Routes,
    methods: Arc<Methods>,
    audit: Audit,
    connection: Arc<Connection>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let audited = audit::Open::begin(&audit, &head);
    let turned_down = |fault: &Fault| {
        connection.traffic().counters.ended_with(fault.code);
        if let Some(audited) = &audited {
            audited.refuse(fault);
            audited.end();
        }
        refused(fault)
    };
    if let Err(head::Refused { status, fault }) = head::check(&head) {
        let mut response = turned_down(&fault);
        *response.status_mut() = status;
        return Ok(response);
    }
    let path = head.uri.path();
    let Some((path, class)) = methods.find(path) else {
        let words = format!("this port serves no method {path:.200}; use reflection to list the methods");
        return Ok(turned_down(&Fault::new(FaultCode::MethodUnknown, words)));
    };
    if let Some(peer) = head.extensions.get::<Arc<Peer>>()
        && let Err(fault) = peer.may(path)
    {
        return Ok(turned_down(&fault));
    }
    let path = Arc::clone(path);
    let rpc = Rpc {
        methods,
        connection: Arc::clone(&connection),
        path,
        class,
        audited: audited.clone(),
    };
    let request = Request::from_parts(head, body);
    let served = answer_of(request, routes, &rpc, connection);
    let mut response = audit::within(audited.clone(), served).await?;
    rpc.settle(response.headers_mut());
    if let Some(audited) = &audited {
        audited.end();
    }
    Ok(response)
}

async fn answer_of(
    request: Request<Incoming>,
    mut routes: Routes,
    rpc: &Rpc,
    connection: Arc<Connection>,
) -> Result<Response<Body>, Infallible> {
    let class = rpc.class;
    let is_list = rpc
        .path
        .rsplit('/')
        .next()
        .is_some_and(|name| name.starts_with("List"));
    let call = match connection.call(class, is_list) {
        Ok(call) => call,
        Err(fault) => return Ok(refused(&fault)),
    };
    let limit = connection.traffic().limits.request();
    let (head, body) = request.into_parts();
    let takes_stream = rpc.methods.takes_stream(&rpc.path);
    let patience = match timeout(&head.headers) {
        Ok(asked) => match class {
            Class::Request | Class::Watch => Some(asked.map_or(limit, |asked| asked.min(limit))),
            Class::Wait => asked,
        },
        Err(fault) => return Ok(refused(&fault)),
    };
    let taken = Taken {
        inner: body,
        call: Arc::clone(&call),
        takes_stream,
        seen: 0,
        held: VecDeque::new(),
        bytes: 0,
        head: Vec::new(),
        ahead: 0,
        is_question: is_list || (class == Class::Watch && !takes_stream),
        packed: Vec::new(),
    };
    taken.note_end();
    let request = Request::from_parts(head, Body::new(taken));
    let weak = Arc::downgrade(&call);
    let served = CALL.scope(weak.clone(), async move { routes.call(request).await });
    let response = match patience {
        None => served.await?,
        Some(patience) => match tokio::time::timeout(patience, served).await {
            Ok(response) => response?,
            Err(_) => {
                call.gone.store(true, Ordering::Relaxed);
                count(&connection.traffic().counters.calls_expired);
                let words = match call.is_whole.load(Ordering::Relaxed) {
                    true => format!(
                        "the request was not answered within {patience:?}; whether it took effect is unknown: repeat it unchanged, with a longer deadline"
                    ),
                    false => format!(
                        "the request did not arrive completely within {patience:?}: nothing was done; send all of it, or allow more time"
                    ),
                };
                return Ok(refused(&Fault::new(FaultCode::DeadlineExceeded, words)));
            }
        },
    };
    let (head, body) = response.into_parts();
    Ok(match class {
        Class::Watch => Response::from_parts(
            head,
            Body::new(Flowing {
                inner: body,
                call,
                rpc: rpc.clone(),
                ended: false,
            }),
        ),
        Class::Request | Class::Wait => match Whole::of(body, call, rpc).await {
            Ok(whole) => Response::from_parts(head, Body::new(whole)),
            Err(fault) => refused(&fault),
        },
    })
}

fn refused(fault: &Fault) -> Response<Body> {
    status::from_fault(fault).into_http()
}

/// The time that the client gives, from `grpc-timeout`: up to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Fault> {
    let mut values = headers.get_all("grpc-timeout").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Fault::invalid("metadata.grpc-timeout", "is given more than once"));
    }
    let wrong = || {
        Fault::invalid(
            "metadata.grpc-timeout",
            "is not a duration; expected up to eight digits and one of H, M, S, m, u and n",
        )
    };
    let text = value.to_str().map_err(|_| wrong())?;
    let (digits, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(wrong)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    Ok(Some(match unit {
        "H" => Duration::from_secs(number * 60 * 60),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return Err(wrong()),
    }))
}

/// What a client sends, counted for as long as the call lasts: a message is put together from it.
struct Taken {
    inner: Incoming,
    call: Arc<Call>,
    /// More than one message may come.
    takes_stream: bool,
    /// Bytes that have come.
    seen: usize,
    held: VecDeque<Held>,
    bytes: usize,
    /// The first bytes, up to those that say how long the first message is.
    head: Vec<u8>,
    /// What is counted ahead.
    ahead: usize,
    /// It asks for a list or a watch.
    is_question: bool,
    /// A compressed question, until all of it is there.
    packed: Vec<u8>,
}

impl Taken {
    /// Room is made for a whole message as soon as its head is there, so it counts from then on.
    fn count(&mut self, data: &[u8]) -> Result<(), Fault> {
        let missing = HEAD - self.head.len();
        if missing > 0 {
            self.head.extend(data.iter().take(missing));
            if let [_, length @ ..] = self.head.as_slice()
                && let Ok(length) = length.try_into()
            {
                let length = u32::from_be_bytes(length) as usize + HEAD;
                if self.is_question && length > LARGEST_QUESTION + HEAD {
                    return Err(too_large_a_question());
                }
                // One that is too long is refused, and no room is made for it.
                if length <= LARGEST {
                    self.hold(length)?;
                    self.ahead = length;
                }
            }
        }
        self.seen += data.len();
        self.look_into(data.get(missing..).unwrap_or_default())?;
        if self.is_beyond_one() && !self.takes_stream {
            let words = "the method takes one message, but the request has more: nothing was done";
            return Err(Fault::new(FaultCode::InvalidArgument, words));
        }
        let length = data.len();
        let counted = length.min(self.ahead);
        self.ahead -= counted;
        self.hold(length - counted)
    }

    /// Looks how large a compressed question is, before its last byte is handed on to be decoded.
    fn look_into(&mut self, data: &[u8]) -> Result<(), Fault> {
        let [1, a, b, c, d] = *self.head else {
            return Ok(());
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if !self.is_question || self.packed.len() >= length {
            return Ok(());
        }
        self.packed.extend(data.iter().take(length - self.packed.len()));
        if self.packed.len() == length && is_large_inside(&self.packed) {
            return Err(too_large_a_question());
        }
        Ok(())
    }

    /// Whether more has come than the first message.
    fn is_beyond_one(&self) -> bool {
        match *self.head {
            [_, a, b, c, d] => self.seen - HEAD > u32::from_be_bytes([a, b, c, d]) as usize,
            _ => false,
        }
    }

    /// Notes that the request is there to its end, if it is.
    fn note_end(&self) {
        if http_body::Body::is_end_stream(&self.inner) {
            self.call.is_whole.store(true, Ordering::Relaxed);
        }
    }

    fn hold(&mut self, bytes: usize) -> Result<(), Fault> {
        if bytes == 0 {
            return Ok(());
        }
        let held = self.call.hold(bytes)?;
        self.held.push_back(held);
        // Of a stream of messages no more than one is put together at a time.
        self.bytes += bytes;
        while self.bytes > LARGEST + bytes
            && let Some(first) = self.held.pop_front()
        {
            self.bytes -= first.bytes();
        }
        Ok(())
    }
}

impl http_body::Body for Taken {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(context)) else {
            self.call.is_whole.store(true, Ordering::Relaxed);
            return Poll::Ready(None);
        };
        let frame = frame.map_err(|error| Status::from_error(error.into()))?;
        self.note_end();
        if let Some(data) = frame.data_ref()
            && let Err(fault) = self.count(data)
        {
            return Poll::Ready(Some(Err(status::from_fault(&fault))));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

/// Whether a question is too large once it is decompressed. What cannot be is refused by whoever decodes it.
fn is_large_inside(packed: &[u8]) -> bool {
    let most = LARGEST_QUESTION as u64;
    let mut inside = flate2::read::GzDecoder::new(packed).take(most + 1);
    io::copy(&mut inside, &mut io::sink()).is_ok_and(|bytes| bytes > most)
}

fn too_large_a_question() -> Fault {
    let most = LARGEST_QUESTION >> 10;
    let words = format!(
        "the request is larger than the {most} KiB that a list or a watch may have, decompressed: nothing was read; select less at once"
    );
    Fault::new(FaultCode::MessageTooLarge, words)
}

/// Bytes of an answer, in the account until the transport has sent them.
struct Unsent {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// An answer that is made: all of it is in the account.
struct Whole {
    bytes: Bytes,
    trailers: Option<HeaderMap>,
    call: Arc<Call>,
}

impl Whole {
    async fn of(body: Body, call: Arc<Call>, rpc: &Rpc) -> Result<Self, Fault> {
        let _turn = call.take_turn();
        // A handler's answer is one message, and it is there: nothing is waited for.
        let collected = body.collect().await.map_err(|error| {
            tracing::error!(%error, "an answer could not be encoded");
            Fault::new(
                FaultCode::Internal,
                "the answer could not be encoded; please report it",
            )
        })?;
        let mut trailers = collected.trailers().cloned();
        if let Some(trailers) = &mut trailers {
            rpc.settle(trailers);
        }
        let bytes = collected.to_bytes();
        if bytes.is_empty() {
            return Ok(Self {
                bytes,
                trailers,
                call,
            });
        }
        let held = call.hold(bytes.len())?;
        let bytes = Bytes::from_owner(Unsent { bytes, _held: held });
        Ok(Self {
            bytes,
            trailers,
            call,
        })
    }
}

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        self.call.connection.move_on();
        let length = self.bytes.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.bytes.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty() && self.trailers.is_none()
    }
}

/// A stream's frames, each in the account until it is sent.
struct Flowing {
    inner: Body,
    call: Arc<Call>,
    rpc: Rpc,
    ended: bool,
}

impl http_body::Body for Flowing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let weak = Arc::downgrade(&self.call);
        let inner = Pin::new(&mut self.inner);
        let Some(frame) = ready!(CALL.sync_scope(weak, || inner.poll_frame(context))) else {
            return Poll::Ready(None);
        };
        let mut frame = frame?;
        if let Some(trailers) = frame.trailers_mut() {
            self.rpc.settle(trailers);
            return Poll::Ready(Some(Ok(frame)));
        }
        let Ok(bytes) = frame.into_data() else {
            return Poll::Ready(None);
        };
        let held = match self.call.hold(bytes.len()) {
            Ok(held) => held,
            Err(fault) => {
                self.ended = true;
                let mut trailers = HeaderMap::new();
                // A status of ours has nothing that a header cannot.
                let _ = status::from_fault(&fault).add_header(&mut trailers);
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
        };
        let kept = Bytes::from_owner(Unsent { bytes, _held: held });
        Poll::Ready(Some(Ok(Frame::data(kept))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_grpc_writes_it_and_anything_else_is_named() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            timeout(&headers)
        };
        assert_eq!(timeout(&HeaderMap::new()), Ok(None));
        for (text, millis) in [
            ("2S", 2_000),
            ("5m", 5),
            ("1H", 3_600_000),
            ("3M", 180_000),
            ("0n", 0),
        ] {
            assert_eq!(read(text), Ok(Some(Duration::from_millis(millis))), "{text}");
        }
        for wrong in ["", "S", "5", "-1S", "123456789S", "1s", "1 S"] {
            assert_eq!(
                read(wrong).unwrap_err().subject,
                "metadata.grpc-timeout",
                "{wrong:?}"
            );
        }
    }
}
