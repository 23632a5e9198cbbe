//! One socket: a reader that feeds the session and does what it asks for, and a writer that drains the outbox. No
//! decisions: those are the session's.
//!
//! The two are separate tasks, so that what is sent never waits for what is read. The reader waits for the router, so a
//! client that asks for too much is read more slowly; nobody waits for the client.

use super::{Door, Place, Upgraded, recall::Recalled, unix_now};
use crate::{
    change::cursor::Resume,
    claims::Claims,
    hub::{Outbox, OutboxReceiver, outbox},
    protocol::{BadFrame, Codec, Frame, Push, refusal, refusal::Disconnect},
    router::{PrepareError, Subscription, SubscriptionKey},
    session::{self, Counted, Effect, Input, JoinId, Session, Wish},
    source::SourceState,
};
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{
    SinkExt, StreamExt,
    stream::{FuturesUnordered, SplitSink, SplitStream},
};
use rand::Rng;
use serde_json::Value;
use std::{collections::HashMap, error::Error, future::Future, pin::Pin, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// Frames written between two flushes: a flush costs a system call, a frame nearly nothing.
const BURST_FRAMES: usize = 64;
/// Bytes written between two flushes.
const BURST_BYTES: usize = 64 * 1024;
/// Delayed refusals and pending subscriptions of one socket. Beyond that it is read no further until some are done.
const MAX_PENDING: usize = 1024;
/// Questions about private channels that the database is asked for one socket at the same time.
const MAX_QUESTIONS: usize = 2;
/// Wait before a subscription is tried again when the database could not be asked, as range of seconds.
const RETRY_SECONDS: std::ops::Range<f64> = 1.0..3.0;

/// How long the close of a socket may take; nobody may be listening.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);
/// How long that of one that did not keep up may: it has much to read before.
const SLOW_GOODBYE_LIMIT: Duration = Duration::from_secs(5);

/// How long a client that asks for it waits for the stream of the database.
const STREAM_LIMIT: Duration = Duration::from_secs(60);

type Pending = FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>;

/// What came of something that took time.
enum Done {
    /// A delay is over; the connection may be, too.
    Send(Frame, Option<Disconnect>),
    /// Something the session waits for.
    Heard(Input),
    /// A subscription is active, refused, or has to be tried again.
    Subscribed { join: JoinId, outcome: Result<SubscriptionKey, Option<String>> },
}

pub(super) async fn run(socket: WebSocket, mut door: Door, codec: &'static dyn Codec, upgrade: Upgraded, place: Place) {
    let (sink, stream) = socket.split();
    let (outbox, receiver) = outbox(door.config.outbox_frames, door.config.outbox_bytes);
    let patience = Patience { write: door.config.write_timeout, stop: door.tasks.stop_token().clone() };
    let tasks = door.tasks.clone();
    let writer_outbox = outbox.clone();
    tasks.spawn("socket writer", write(sink, receiver, writer_outbox, patience));
    door.rights = door.rights.share(MAX_QUESTIONS);
    let session = Session::new(session::Parts {
        config: door.config.session.clone(),
        verifier: door.verifier.clone(),
        codec,
        outbox: outbox.clone(),
        rooms: door.rooms.clone(),
        meters: door.meters.clone(),
        connection: upgrade.number,
        key: upgrade.key,
        headers: upgrade.headers,
    });
    let mut connection = Connection {
        door,
        codec,
        session,
        outbox,
        pending: Pending::new(),
        keys: HashMap::new(),
        early: HashMap::new(),
    };
    connection.read(stream, upgrade.recalled).await;
    connection.end().await;
    drop(place);
}

struct Connection {
    door: Door,
    codec: &'static dyn Codec,
    session: Session,
    outbox: Outbox,
    pending: Pending,
    /// The router's name of each join's subscription.
    keys: HashMap<JoinId, SubscriptionKey>,
    /// Joins whose subscription is pending, with claims that came meanwhile.
    early: HashMap<JoinId, Option<Claims>>,
}

impl Connection {
    async fn read(&mut self, mut stream: SplitStream<WebSocket>, mut recalled: Recalled) {
        let idle_timeout = self.door.config.idle_timeout;
        let stop = self.door.tasks.stop_token().clone();
        let mut keys = self.door.verifier.generations();
        let mut heard = Instant::now();
        loop {
            let expiry = self.session.next_expiry();
            let reads = self.pending.len() < MAX_PENDING && self.session.takes_more();
            if !reads {
                // Whoever is not listened to is not silent.
                heard = Instant::now();
            }
            tokio::select! {
                () = stop.cancelled() => return self.send_away(Disconnect::Stopping),
                () = recalled.heard() => return self.send_away(Disconnect::Recalled),
                reason = self.outbox.closed() => {
                    if reason == Some(Disconnect::Slow) {
                        self.door.metrics.slow_clients.add(1);
                    }
                    return;
                }
                message = stream.next(), if reads => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(message)) => if !self.message(message).await { return },
                        Some(Err(error)) => return self.outbox.close(disconnect(&error)),
                        None => return,
                    }
                }
                Some(done) = self.pending.next(), if !self.pending.is_empty() => self.done(done).await,
                () = expired(expiry) => self.handle(Input::Clock).await,
                // Who is sent away anyway is not told about his tokens first.
                Ok(()) = keys.changed() => if !recalled.is_due() { self.handle(Input::Clock).await },
                () = sleep_until(heard + idle_timeout) => return self.outbox.close(Disconnect::Idle),
            }
        }
    }

    /// Tells every channel, and closes the socket behind it.
    fn send_away(&self, why: Disconnect) {
        for frame in self.session.announce_stop() {
            self.outbox.push(frame);
        }
        self.outbox.close(why);
    }

    /// False when the client said goodbye.
    async fn message(&mut self, message: Message) -> bool {
        let push = match &message {
            Message::Text(text) => self.codec.decode_text(text),
            Message::Binary(bytes) => self.codec.decode_binary(bytes),
            // axum answers pings itself.
            Message::Ping(_) | Message::Pong(_) => return true,
            Message::Close(_) => return false,
        };
        match push {
            Ok(push) => self.push(push).await,
            Err(BadFrame(why)) => {
                self.door.metrics.malformed_frames.add(1);
                tracing::debug!(why, "malformed frame dropped");
            }
        }
        true
    }

    async fn push(&mut self, push: Push) {
        if matches!(push.event.as_str(), Some("phx_join" | "access_token")) {
            // The session verifies at once: a key that was published a moment ago has to be there before.
            for name in ["user_token", "access_token"] {
                if let Some(token) = push.payload.json().get(name).and_then(Value::as_str) {
                    self.door.verifier.prepare(token).await;
                }
            }
        }
        self.handle(Input::Push(push)).await;
    }

    async fn handle(&mut self, input: Input) {
        for effect in self.session.handle(input, unix_now()) {
            self.perform(effect).await;
        }
    }

    async fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::SendLater { frame, delay, then } => self.pending.push(Box::pin(async move {
                tokio::time::sleep(delay).await;
                Done::Send(frame, then)
            })),
            Effect::Authorize(question) => {
                let rights = self.door.rights.clone();
                self.pending.push(Box::pin(async move {
                    let outcome = rights.ask(&question.user, question.access).await;
                    Done::Heard(Input::Authorized { question: question.number, outcome })
                }));
            }
            Effect::Replay(wish) => {
                let replay = self.door.replay.clone();
                self.pending.push(Box::pin(async move {
                    let stored = replay.stored(&wish.user, wish.since, wish.limit).await;
                    Done::Heard(Input::Replayed { join: wish.join, outcome: stored.map_err(|_| ()) })
                }));
            }
            Effect::AwaitStream(join) => {
                let source = self.door.source.clone();
                self.pending.push(Box::pin(async move {
                    let is_up = timeout(STREAM_LIMIT, stream_is_up(source)).await.unwrap_or(false);
                    Done::Heard(Input::Stream { join, is_up })
                }));
            }
            Effect::Count(what, count) => match what {
                Counted::Malformed => self.door.metrics.malformed_frames.add(count),
                Counted::Broadcasts => self.door.metrics.broadcasts.add(count),
                Counted::Deliveries => self.door.metrics.broadcast_deliveries.add(count),
                Counted::Dropped => self.door.metrics.broadcasts_dropped.add(count),
                Counted::WithoutForm => self.door.metrics.broadcasts_without_form.add(count),
            },
            Effect::Limited(setting) => self.door.metrics.refuse(setting),
            Effect::Subscribe(wish) => {
                self.early.insert(wish.join, None);
                self.pending.push(Box::pin(subscribe(self.door.clone(), *wish)));
            }
            Effect::ReplaceClaims(join, claims) => match (self.keys.get(&join), self.early.get_mut(&join)) {
                (Some(&key), _) => {
                    if self.door.router.replace_claims(key, claims).await.is_err() {
                        self.outbox.close(Disconnect::Stopping);
                    }
                }
                (None, Some(early)) => *early = Some(claims),
                (None, None) => {}
            },
            Effect::Unsubscribe(join) => {
                self.early.remove(&join);
                self.unsubscribe(join).await;
            }
        }
    }

    async fn unsubscribe(&mut self, join: JoinId) {
        if let Some(key) = self.keys.remove(&join) {
            // A router that is gone has no subscriptions either.
            let _ = self.door.router.unsubscribe(key).await;
        }
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Send(frame, then) => {
                self.outbox.push(frame);
                if let Some(reason) = then {
                    self.outbox.close(reason);
                }
            }
            Done::Heard(input) => self.handle(input).await,
            Done::Subscribed { join, outcome } => match (outcome, self.early.remove(&join)) {
                (Ok(key), Some(early)) => {
                    self.keys.insert(join, key);
                    if let Some(claims) = early {
                        self.perform_claims(join, claims).await;
                    }
                    self.handle(Input::Subscribed { join, refusal: None }).await;
                }
                // The channel was left meanwhile.
                (Ok(key), None) => {
                    let _ = self.door.router.unsubscribe(key).await;
                }
                (Err(refusal), Some(_)) => self.handle(Input::Subscribed { join, refusal }).await,
                (Err(_), None) => {}
            },
        }
    }

    async fn perform_claims(&mut self, join: JoinId, claims: Claims) {
        if let Some(&key) = self.keys.get(&join) {
            let _ = self.door.router.replace_claims(key, claims).await;
        }
    }

    /// Whatever ended the connection: its memberships end at once, its subscriptions are forgotten.
    async fn end(&mut self) {
        for join in self.session.end() {
            self.unsubscribe(join).await;
        }
        self.outbox.close(Disconnect::Protocol);
    }
}

/// Prepares and enters a subscription. While the database cannot be asked it says so once and tries again.
async fn subscribe(door: Door, wish: Wish) -> Done {
    let Wish { join, member, claims, bindings, visibility, resume, held_reply } = wish;
    let (held_reply, limit) = match held_reply {
        Some((reply, limit)) => (Some(reply), Some(limit)),
        None => (None, None),
    };
    let attempt = async {
        let mut announced = held_reply.is_some();
        loop {
            if member.is_ended() {
                return Err(None);
            }
            let catalog = door.refresh.catalog();
            let prepared = door.preparer.prepare(&bindings, &catalog).await;
            // What was missed is judged by the rights of now, and the last look at them may be half a second old.
            let comes_back = matches!(resume, Some(Resume::From(_)));
            let is_known = !comes_back || prepared.is_err() || door.refresh.clone().from_here_on().await;
            let why = match prepared {
                Ok(_) if !is_known => refusal::DATABASE_UNAVAILABLE,
                Ok((casts, start)) => {
                    let subscription =
                        Subscription { member, claims, bindings, casts, start, resume, visibility, held_reply };
                    return match door.router.subscribe(subscription).await {
                        Ok(Ok(key)) => Ok(key),
                        Ok(Err(why)) => Err(Some(refusal::disabled_for_configuration(&why))),
                        Err(_) => Err(None),
                    };
                }
                Err(PrepareError::Standby) => refusal::STANDBY,
                Err(_) => refusal::DATABASE_UNAVAILABLE,
            };
            if !announced {
                announced = true;
                member.deliver_system("postgres_changes", false, why);
            }
            let wait = Duration::from_secs_f64(rand::rng().random_range(RETRY_SECONDS));
            if why == refusal::STANDBY {
                let _ = timeout(wait, end_of_standby(door.source.clone())).await;
            } else {
                tokio::time::sleep(wait).await;
            }
        }
    };
    let outcome = match limit {
        None => attempt.await,
        Some(limit) => match timeout(limit, attempt).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Some(refusal::subscribe_timeout(limit.as_millis()))),
        },
    };
    Done::Subscribed { join, outcome }
}

/// Waits until this server is no standby any more.
async fn end_of_standby(mut source: watch::Receiver<SourceState>) {
    if source.wait_for(|state| !state.standby).await.is_err() {
        // Nobody will say so.
        std::future::pending().await
    }
}

/// Waits until messages of the database are streamed; false when they will not be.
async fn stream_is_up(mut source: watch::Receiver<SourceState>) -> bool {
    source.wait_for(SourceState::streams_messages).await.is_ok()
}

async fn expired(expiry: Option<i64>) {
    match expiry {
        None => std::future::pending().await,
        Some(expiry) => {
            let left = u64::try_from(expiry - unix_now()).unwrap_or(0);
            // Never a busy loop, even when the clock is set back while a token is about to expire.
            let pause = Duration::from_secs(left).max(Duration::from_millis(50));
            tokio::time::sleep(pause.min(Duration::from_secs(3600))).await;
        }
    }
}

/// Why reading failed, as the code the client is told.
fn disconnect(error: &axum::Error) -> Disconnect {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if cause.to_string().contains("too long") || cause.to_string().contains("too large") {
            return Disconnect::TooLarge;
        }
        source = cause.source();
    }
    Disconnect::Protocol
}

fn message(frame: Frame) -> Message {
    match frame {
        Frame::Text(text) => Message::Text(text),
        Frame::Binary(bytes) => Message::Binary(bytes),
    }
}

/// How long a writer waits.
struct Patience {
    /// For a burst to be taken in.
    write: Duration,
    /// Until then, whatever it waits for.
    stop: CancellationToken,
}

/// Drains the outbox into the socket, in bursts, until the connection ends; then says why.
async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut receiver: OutboxReceiver,
    outbox: Outbox,
    patience: Patience,
) {
    let mut is_stuck = false;
    let mut frames = Vec::with_capacity(BURST_FRAMES);
    let reason = loop {
        frames.clear();
        tokio::select! {
            biased;
            reason = outbox.closed() => break reason,
            count = receiver.receive(&mut frames, BURST_FRAMES) => if count == 0 { break None },
        }
        let burst = timeout(patience.write, async {
            let mut bytes = 0;
            for frame in frames.drain(..) {
                bytes += frame.len();
                sink.feed(message(frame)).await?;
                if bytes > BURST_BYTES {
                    bytes = 0;
                    sink.flush().await?;
                }
            }
            sink.flush().await
        });
        tokio::select! {
            // A slow client is not waited for until the write times out.
            reason = outbox.closed(), if !outbox.is_closed() => break reason,
            written = burst => match written {
                Ok(Ok(())) => {}
                Ok(Err(_)) => break None,
                Err(_) => {
                    is_stuck = true;
                    break Some(Disconnect::Slow);
                }
            }
        }
    };
    if let Some(reason) = reason {
        outbox.close(reason);
        let goodbye = async {
            if reason.lets_finish() {
                while let Some(frame) = receiver.receive_ready() {
                    sink.feed(message(frame)).await?;
                }
            }
            let close = CloseFrame { code: reason.code(), reason: reason.reason().into() };
            sink.send(Message::Close(Some(close))).await
        };
        if reason == Disconnect::Slow && !is_stuck {
            // It may only have paused: then it learns why it is closed, behind what the socket has already.
            tokio::select! {
                () = patience.stop.cancelled() => {}
                _ = timeout(SLOW_GOODBYE_LIMIT, goodbye) => {}
            }
        } else {
            let _ = timeout(GOODBYE_LIMIT, goodbye).await;
        }
    }
}
