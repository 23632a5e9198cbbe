//! The composition root: builds the parts, joins their queues, and stops them in order.
//!
//! ```text
//! walreceiver ──fragments──> router ──> outboxes ──> sockets        stop: accepting, sockets, stream, router
//! ```

use crate::{
    auth::{Secret, Verifier},
    config::ServeConfig,
    doors::phoenix::{self, Door, Recall},
    http::{
        broadcast,
        explain::{self, Explain},
        health::{self, Health},
        metrics as scrape,
        rpc::{self, Rpc},
        tenants,
    },
    hub::Rooms,
    limits::Meters,
    lsn::Lsn,
    messages::{MessagesState, Publisher, Replay, StreamKeeper, Upkeep},
    metrics::Metrics,
    pg::{
        Target,
        connect::{TEXT_FORMS, TEXT_INPUT},
    },
    rights::{self, ChannelRights},
    router::{Parts, Preparer, Refresher, Router, RouterState},
    shutdown::{Alarm, Failed, Tasks},
    source::{
        HandedOn, Order, SourceState, Wish,
        choice::Source,
        feed,
        guard::{SlotGuard, SlotState},
        slot_task::Walreceiver,
    },
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

/// Fragments that wait for the router ...
const FRAGMENT_QUEUE: usize = 32;
/// ... and their bytes. One holds about 1 MiB, or one row that is larger.
const FRAGMENT_QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// Connections that read filters and positions for new subscriptions, and serve health.
const QUERY_CONNECTIONS: usize = 4;
/// One reads lookup tables, which holds the stream; the other one looks for deadlines, and must not be waited for.
const LOOKUP_CONNECTIONS: usize = 2;
/// Connections that serve RPC; they keep the database's own settings.
const RPC_CONNECTIONS: usize = 4;
/// Connections that explain; they keep the database's own settings.
const EXPLAIN_CONNECTIONS: usize = 2;
/// One sees to partitions, and may wait for locks; the other looks whether messages are published.
const UPKEEP_CONNECTIONS: usize = 2;
/// Connections that replay messages; they keep the database's own settings.
const REPLAY_CONNECTIONS: usize = 2;
/// How often rooms are looked through for members who have ended.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How long a client may take to send its request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// A server that runs.
pub struct Running {
    address: SocketAddr,
    doors: Tasks,
    stream: Tasks,
    router: Tasks,
    alarm: Alarm,
    accepting: CancellationToken,
    stop_limit: Duration,
    rooms: Rooms,
    meters: Arc<Meters>,
    keys: Keys,
    recall: Recall,
    target: Target,
}

/// Who is let in, by what was read last.
struct Keys {
    verifier: Verifier,
    admin: watch::Sender<tenants::Config>,
    scrapers: watch::Sender<Arc<[Secret]>>,
}

/// Starts everything; an error when the database or the address cannot be had.
pub async fn start(config: ServeConfig) -> anyhow::Result<Running> {
    let target = config.target.clone();
    let (host, port) = &config.address;
    let listener =
        TcpListener::bind((host.as_str(), *port)).await.map_err(|error| cannot_listen(host, *port, &error))?;
    let address = listener.local_addr()?;
    let (refresh, refresher) = Refresher::start(&target, &config.slot.publication).await?;

    let alarm = Alarm::default();
    let [doors, stream, router_tasks] = [(); 3].map(|()| Tasks::with_alarm(&alarm));
    let metrics = Arc::new(Metrics::default());
    let connections = Arc::new(AtomicUsize::new(0));
    let (feed, fed) = feed(FRAGMENT_QUEUE, FRAGMENT_QUEUE_BYTES);
    let (handed_on, handed_on_reader) = watch::channel(HandedOn::default());
    let (source_state, source_reader) = watch::channel(SourceState::default());
    let (router_state, router_reader) = watch::channel(RouterState::default());
    let (wish, wish_reader) = watch::channel(Wish::default());
    let (order, order_reader) = watch::channel(Order::default());
    let (slot_state, slot_reader) = watch::channel(SlotState::default());
    let (messages_state, messages_reader) = watch::channel(MessagesState::default());
    let rooms = Rooms::default();
    let meters = config.router.meters.clone();
    let query_pool = target.pool("walcast", QUERY_CONNECTIONS, TEXT_FORMS)?;

    let (router, routing) = Router::new(Parts {
        config: config.router.clone(),
        pool: target.pool("walcast lane", config.lane.connections, TEXT_INPUT)?,
        own_pool: target.pool("walcast router", 1, "")?,
        lookup_pool: target.pool("walcast lookups", LOOKUP_CONNECTIONS, TEXT_FORMS)?,
        interruption_notice: config.interruption_notice,
        lane: config.lane.clone(),
        follow: config.follow.clone(),
        wish: wish.clone(),
        messages: Publisher::new(rooms.clone(), meters.clone(), metrics.clone(), end_of_log(&query_pool).await?),
        feed: fed,
        spill: config.spill.clone(),
        state: router_state,
        handed_on,
        refresh: refresh.clone(),
        source: source_reader.clone(),
        metrics: metrics.clone(),
        tasks: router_tasks.clone(),
    });
    router_tasks.spawn_essential("router", routing);
    router_tasks.spawn_essential("catalogue", refresher.run(router_tasks.stop_token().clone()));
    let walreceiver = Walreceiver {
        target,
        config: config.slot.clone(),
        feed,
        handed_on: handed_on_reader,
        wish: wish_reader,
        order: order_reader,
        state: source_state,
        stop: stream.stop_token().clone(),
    };
    let guard = SlotGuard {
        config: config.guard.clone(),
        pool: config.target.pool("walcast slot", 1, "")?,
        source: source_reader.clone(),
        order,
        state: slot_state,
        metrics: metrics.clone(),
        stop: stream.stop_token().clone(),
    };
    stream.spawn_essential("slot guard", guard.run());
    stream.spawn_essential("source", Source { choice: config.source, walreceiver }.run());
    let upkeep_pool = config.target.pool("walcast messages", UPKEEP_CONNECTIONS, TEXT_FORMS)?;
    let upkeep = Upkeep {
        config: config.messages.clone(),
        pool: upkeep_pool.clone(),
        state: messages_state,
        metrics: metrics.clone(),
        stop: stream.stop_token().clone(),
    };
    stream.spawn("message upkeep", upkeep.run());
    let keeper = StreamKeeper {
        publication: config.slot.publication.clone(),
        pool: upkeep_pool,
        source: source_reader.clone(),
        wish,
        stop: stream.stop_token().clone(),
    };
    stream.spawn("message stream", keeper.run());

    for (_, role) in &config.auth.api_keys {
        if !refresh.catalog().is_claimable(role) {
            tracing::warn!(role, "an API key stands for a role that is not granted to this server's login");
        }
    }
    let verifier = Verifier::new(&config.auth);
    verifier.fetch(&metrics).await;
    doors.spawn("token keys", verifier.clone().follow(metrics.clone(), doors.stop_token().clone()));
    let recall = Recall::default();
    let rpc = Rpc {
        pool: config.target.pool("walcast rpc", RPC_CONNECTIONS, "")?,
        verifier: verifier.clone(),
        catalog: refresh.watch(),
        config: rpc::Config::default(),
    };
    let explain = Explain {
        pool: config.target.pool("walcast explain", EXPLAIN_CONNECTIONS, "")?,
        verifier: verifier.clone(),
        admin_role: config.admin_role.as_str().into(),
        publication: config.slot.publication.as_str().into(),
        refresh: refresh.clone(),
        source: source_reader.clone(),
        router: router_reader.clone(),
    };
    let rights = ChannelRights::new(rights::Parts {
        target: config.target.clone(),
        refresh: refresh.clone(),
        statement_timeout: config.lane.statement_timeout,
        metrics: metrics.clone(),
    })?;
    let (admin, admin_reader) = watch::channel(config.tenants.clone());
    if config.metrics_secrets.is_empty() {
        tracing::info!("nobody may read /metrics: METRICS_JWT_SECRET is not set");
    }
    let (scrapers, scrapers_reader) = watch::channel(config.metrics_secrets.clone());
    let broadcast = broadcast::Parts {
        config: broadcast::Config::default(),
        verifier: verifier.clone(),
        rooms: rooms.clone(),
        meters: meters.clone(),
        metrics: metrics.clone(),
        rights: rights.clone(),
    };
    let tenants = tenants::Parts {
        config: admin_reader,
        meters: meters.clone(),
        recall: recall.clone(),
        connections: connections.clone(),
        source: source_reader.clone(),
        refresh: refresh.clone(),
    };
    let door = Door {
        config: Arc::new(config.door.clone()),
        verifier: verifier.clone(),
        router,
        preparer: Preparer::new(query_pool.clone(), source_reader.clone()),
        refresh: refresh.clone(),
        metrics: metrics.clone(),
        connections: connections.clone(),
        tasks: doors.clone(),
        rooms: rooms.clone(),
        meters: meters.clone(),
        rights,
        replay: Replay::new(
            config.target.pool("walcast replay", REPLAY_CONNECTIONS, "")?,
            refresh.watch(),
            config.lane.statement_timeout,
        ),
        source: source_reader.clone(),
        numbers: Arc::default(),
        recall: recall.clone(),
    };
    let health = Health {
        failed: alarm.watch(),
        refresh,
        source: source_reader.clone(),
        slot: slot_reader,
        wal_budget: config.guard.budget,
        router: router_reader,
        messages: messages_reader,
        connections,
        metrics,
        stream: Arc::new(config.slot.clone()),
        pool: query_pool,
        rooms: rooms.clone(),
        meters: meters.clone(),
    };
    let scrape = scrape::Parts { secrets: scrapers_reader, health: health.clone() };
    let routes = phoenix::routes(door)
        .merge(broadcast::routes(broadcast))
        .merge(rpc::routes(rpc))
        .merge(health::routes(health))
        .merge(scrape::routes(scrape))
        .merge(tenants::routes(tenants))
        .merge(explain::routes(explain));
    let accepting = CancellationToken::new();
    let http = Http { routes, max_header_bytes: config.max_header_bytes, stop: accepting.clone() };
    doors.spawn("standby", send_away(source_reader.clone(), recall.clone(), doors.stop_token().clone()));
    doors.spawn("rooms", sweep(rooms.clone(), doors.stop_token().clone()));
    doors.spawn_essential("accept", accept(listener, http, doors.clone()));
    tracing::info!(%address, slot = config.slot.slot, publication = config.slot.publication, "listening");
    let stop_limit = config.stop_limit;
    let keys = Keys { verifier, admin, scrapers };
    Ok(Running {
        address,
        doors,
        stream,
        router: router_tasks,
        alarm,
        accepting,
        stop_limit,
        rooms,
        meters,
        keys,
        recall,
        target: config.target,
    })
}

/// Sees to it that nobody is present in a room who was ended by somebody else than his own connection.
async fn sweep(rooms: Rooms, stop: CancellationToken) {
    let mut turn = interval(SWEEP_INTERVAL);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(turn.tick()).await.is_some() {
        rooms.sweep();
    }
}

/// Sends every connection away when another server has taken the slot over: a balancer brings them there.
async fn send_away(mut source: watch::Receiver<SourceState>, recall: Recall, stop: CancellationToken) {
    let mut was_standby = false;
    while let Some(Ok(())) = stop.run_until_cancelled(source.changed()).await {
        let (is_standby, has_streamed) = {
            let state = source.borrow_and_update();
            (state.standby, state.era > 0)
        };
        if is_standby && !was_standby && has_streamed {
            tracing::warn!("another server has taken over; clients are sent away");
            recall.everybody();
        }
        was_standby = is_standby;
    }
}

/// Where the log ends. Nobody is let in before that was asked.
async fn end_of_log(pool: &deadpool_postgres::Pool) -> anyhow::Result<Lsn> {
    let sql = "select case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn() \
               else pg_catalog.pg_current_wal_lsn() end::text";
    let row = pool.get().await?.query_one(sql, &[]).await?;
    Ok(row.get::<_, String>(0).parse()?)
}

/// The refusal with what to do about it.
fn cannot_listen(host: &str, port: u16, error: &std::io::Error) -> anyhow::Error {
    let fix = match error.kind() {
        std::io::ErrorKind::AddrInUse => "stop what listens there, or choose another port with --port (PORT)",
        std::io::ErrorKind::PermissionDenied => "choose a port from 1024 on with --port (PORT)",
        _ => "choose an address of this machine with --host (HOST)",
    };
    anyhow::anyhow!("cannot listen on {host}:{port}: {error}; {fix}")
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until a task has ended without which the server is of no use: all of it is to be ended then.
    pub async fn failed(&self) -> Failed {
        self.alarm.heard().await
    }

    /// Waits until the database refuses the login.
    pub async fn login_refused(&self) {
        self.target.refused().await;
    }

    /// Opens connections to the database in another way from now on.
    pub fn replace_login(&self, target: &Target) {
        self.target.adopt(target);
    }

    /// Goes by other limits and keys from now on. With `recall` every connection is sent away: what it was let in by may
    /// not hold any more.
    pub fn reload(&self, config: &ServeConfig, recall: bool) {
        // The admin API may have set what the settings say otherwise.
        if self.target.is_same_place(&config.target) {
            self.target.adopt(&config.target);
        }
        let (before, limits) = (self.meters.limits(), &config.limits);
        let recall = recall || (before.private_only, before.suspend) != (limits.private_only, limits.suspend);
        self.meters.set_limits(limits.clone());
        let new = &config.tenants;
        self.keys.admin.send_modify(|admin| {
            admin.secrets = new.secrets.clone();
            admin.jwt_secret = new.jwt_secret.clone();
        });
        self.keys.scrapers.send_replace(config.metrics_secrets.clone());
        if recall {
            self.recall.everybody();
        }
        // Afterwards: whoever was not sent away has his tokens verified anew.
        self.keys.verifier.replace(&config.auth);
        if recall {
            // Once more, for whoever was let in by the old keys in between.
            self.recall.everybody();
        }
    }

    /// Ends it: no new connections, the open ones closed with a word, then the stream with a last confirmation, then
    /// the router. What a step leaves of its share of the time goes to those after it.
    pub async fn stop(self) {
        tracing::info!("stopping");
        let end = Instant::now() + self.stop_limit;
        self.accepting.cancel();
        self.rooms.end();
        let parts = [("doors", &self.doors, 3), ("stream", &self.stream, 2), ("router", &self.router, 1)];
        for (part, tasks, steps_left) in parts {
            let limit = end.saturating_duration_since(Instant::now()) / steps_left;
            if !tasks.stop(limit).await {
                tracing::warn!(part, ?limit, "did not end in time");
            }
        }
        tracing::info!("stopped");
    }
}

/// What every connection is served by.
#[derive(Clone)]
struct Http {
    routes: axum::Router,
    max_header_bytes: usize,
    stop: CancellationToken,
}

async fn accept(listener: TcpListener, http: Http, tasks: Tasks) {
    loop {
        let accepted = tokio::select! {
            () = http.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                // Small frames must not wait for each other.
                if let Err(error) = socket.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                tasks.spawn("http", serve_connection(socket, http.clone()));
            }
            Err(error) => {
                // Out of file descriptors, for one: accepting again at once would only spin.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(socket: TcpStream, http: Http) {
    let Http { routes, max_header_bytes, stop } = http;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(max_header_bytes);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(socket), TowerToHyperService::new(routes));
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(error, "connection ended");
    }
}
