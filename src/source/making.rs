//! Making a slot. Postgres waits with it for every transaction that was open before, however long that is, and keeps WAL
//! for the slot already; it does not look meanwhile whether whoever wants the slot is still there. So what it waits for is
//! said, and it is ended when it keeps more WAL than the budget allows, when it takes too long, or when we end.

use super::{
    Order, SourceState,
    holder::{self, Sender},
    slot::SourceError,
};
use crate::pg::{
    Target,
    connect::{describe, identifier},
    replication::ReplicationError,
};
use postgres_protocol::escape::escape_literal;
use std::{future::Future, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout},
};
use tokio_postgres::Client;

const WAITS: &str = include_str!("../../sql/slot_waits.sql");

/// How often it is looked what is waited for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a look, or the end of what is ended, may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// After so long it is begun again: rows of the catalogue that are dead are kept for it, too. Where transactions overlap
/// it takes as long as a few of them.
const LIMIT: Duration = Duration::from_secs(3600);

/// A slot of ours that is being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Making {
    /// The server's process, which has the slot from its beginning on.
    sender: Sender,
    /// What it waits for, and what to do about it.
    pub waits: Option<String>,
}

impl Making {
    /// Whether this is the process.
    pub fn is_by(&self, pid: i32) -> bool {
        self.sender.pid == pid
    }

    /// The process.
    pub(super) fn sender(&self) -> &Sender {
        &self.sender
    }
}

/// A transaction that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    who: String,
    fix: String,
}

impl Open {
    fn new(pid: i32, name: Option<&str>, since: Option<&str>) -> Open {
        let since = since.map_or_else(String::new, |since| format!(", open since {since}"));
        match (pid, name) {
            (0, Some(prepared)) => Open {
                who: format!("prepared transaction {}{since}", escape_literal(prepared)),
                fix: format!("rollback prepared {};", escape_literal(prepared)),
            },
            (0, None) => Open {
                who: "a prepared transaction".to_owned(),
                fix: "select * from pg_prepared_xacts; and end it".to_owned(),
            },
            (pid, role) => {
                let role = role.map_or_else(String::new, |role| format!(" of role {}", identifier(role)));
                Open { who: format!("process {pid}{role}{since}"), fix: format!("select pg_terminate_backend({pid});") }
            }
        }
    }

    /// What to do, unless it ends by itself.
    pub(super) fn fix(&self) -> &str {
        &self.fix
    }
}

impl std::fmt::Display for Open {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.who)
    }
}

/// Why making a slot was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// It kept more WAL than the budget allows.
    Shed,
    /// It took too long.
    TooLong,
}

impl std::fmt::Display for GivenUp {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            GivenUp::Shed => "it kept more WAL than the budget allows",
            GivenUp::TooLong => "it took too long",
        })
    }
}

/// Who makes slots, says what that waits for, and hears when it is to be given up.
#[derive(Clone)]
pub struct Maker {
    pub(super) target: Target,
    pub(super) slot: String,
    pub(super) state: watch::Sender<SourceState>,
    pub(super) order: watch::Receiver<Order>,
}

impl Maker {
    /// One that nobody orders anything, and whose state nobody reads.
    pub(super) fn alone(target: &Target, slot: &str) -> Maker {
        let (state, order) = (watch::Sender::default(), watch::Sender::default().subscribe());
        Maker { target: target.clone(), slot: slot.to_owned(), state, order }
    }

    /// Awaits what makes the slot in the session of this process. When this is dropped, `abandon` is to follow.
    pub(super) async fn make<T>(
        &self,
        sender: Option<&Sender>,
        making: impl Future<Output = Result<T, ReplicationError>>,
    ) -> Result<T, SourceError> {
        self.make_within(LIMIT, sender, making).await
    }

    async fn make_within<T>(
        &self,
        limit: Duration,
        sender: Option<&Sender>,
        making: impl Future<Output = Result<T, ReplicationError>>,
    ) -> Result<T, SourceError> {
        let Some(sender) = sender else { return Ok(making.await?) };
        let mut order = self.order.clone();
        // What was ordered before was of another slot, or of an attempt before this.
        order.mark_unchanged();
        let entry = Making { sender: sender.clone(), waits: None };
        self.state.send_modify(|state| state.making = Some(entry));
        let start = Instant::now();
        let mut looks = interval_at(start + LOOK_INTERVAL, LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut client, mut open, mut given_up) = (None, None, None);
        tokio::pin!(making);
        loop {
            tokio::select! {
                made = &mut making => return self.made(made, given_up, open),
                () = ordered(&mut order, &self.state), if given_up.is_none() => given_up = Some(GivenUp::Shed),
                () = sleep_until(start + limit), if given_up.is_none() => given_up = Some(GivenUp::TooLong),
                _ = looks.tick() => {}
            }
            match given_up {
                // It ends with an error then; until it has, it is tried again.
                Some(why) => match timeout(ANSWER_LIMIT, self.end(&mut client, sender)).await {
                    Ok(Ok(())) => tracing::warn!(slot = self.slot, %why, "making the replication slot is given up"),
                    Ok(Err(problem)) => {
                        tracing::warn!(slot = self.slot, problem, "cannot end making the replication slot")
                    }
                    Err(_) => client = None,
                },
                None => match timeout(ANSWER_LIMIT, self.look(&mut client, sender)).await {
                    Ok(Ok(found)) => {
                        if let Some(found) = found {
                            self.say(&found);
                            open = Some(found);
                        }
                    }
                    Ok(Err(problem)) => tracing::debug!(problem, "cannot look what making the slot waits for"),
                    Err(_) => client = None,
                },
            }
        }
    }

    /// Ends what was being made when whoever awaited it turned to something else: the server would not notice.
    pub(super) async fn abandon(&self) {
        let Some(making) = self.state.borrow().making.clone() else { return };
        let ended = timeout(ANSWER_LIMIT, self.end(&mut None, making.sender())).await;
        match ended {
            Ok(Ok(())) => self.state.send_modify(|state| state.making = None),
            Ok(Err(problem)) => tracing::debug!(problem, "cannot end making the slot"),
            Err(_) => tracing::debug!("cannot end making the slot: no answer"),
        }
    }

    fn made<T>(
        &self,
        made: Result<T, ReplicationError>,
        given_up: Option<GivenUp>,
        open: Option<Open>,
    ) -> Result<T, SourceError> {
        // After a cut the server goes on with it: whoever comes back has to know that it is his own.
        let is_over = matches!(made, Ok(_) | Err(ReplicationError::Server(_)));
        self.state.send_modify(|state| match &mut state.making {
            Some(making) if !is_over => making.waits = None,
            making => *making = None,
        });
        match (made, given_up) {
            (Ok(made), _) => Ok(made),
            (Err(_), Some(why)) => Err(SourceError::NotMade { slot: self.slot.clone(), why, open }),
            (Err(error), None) => Err(error.into()),
        }
    }

    /// The transaction it waits for, if it waits.
    async fn look(&self, client: &mut Option<Client>, sender: &Sender) -> Result<Option<Open>, String> {
        let row = self.client(client).await?.query_opt(WAITS, &[&sender.pid]).await;
        let Some(row) = row.map_err(|error| describe(&error))? else { return Ok(None) };
        let text = |index: usize| row.try_get::<_, Option<String>>(index).ok().flatten();
        let pid = row.try_get(0).map_err(|error| describe(&error))?;
        Ok(Some(Open::new(pid, text(1).as_deref(), text(2).as_deref())))
    }

    async fn end(&self, client: &mut Option<Client>, sender: &Sender) -> Result<(), String> {
        let ended = holder::end(self.client(client).await?, sender).await;
        ended.map(drop).map_err(|error| describe(&error))
    }

    /// The connection, opened when there is none: not the one that makes the slot, which hears nothing meanwhile.
    async fn client<'a>(&self, client: &'a mut Option<Client>) -> Result<&'a Client, String> {
        let open = match client.take().filter(|client| !client.is_closed()) {
            Some(open) => open,
            None => self.target.connect("walcast slot").await.map_err(|error| describe(&error))?,
        };
        Ok(client.insert(open))
    }

    fn say(&self, open: &Open) {
        let (slot, fix) = (&self.slot, &open.fix);
        let waits = format!(
            "replication slot \"{slot}\" is being made, which waits for transactions that were open before to end: {open}; it \
             goes on by itself then; to end it, run: {fix}"
        );
        let is_first = self.state.borrow().making.as_ref().is_some_and(|making| making.waits.is_none());
        if is_first {
            tracing::warn!("{waits}");
        }
        self.state.send_if_modified(|state| {
            let is_new = state.making.as_ref().is_some_and(|making| making.waits.as_ref() != Some(&waits));
            if !state.streaming {
                state.problem =
                    Some(format!("{waits}; meanwhile no changes are streamed, and whoever joins is told to wait"));
            }
            if let Some(making) = &mut state.making {
                making.waits = Some(waits);
            }
            is_new
        });
    }
}

/// Waits until the slot is to be given up. Safe to cancel.
async fn ordered(order: &mut watch::Receiver<Order>, state: &watch::Sender<SourceState>) {
    while order.changed().await.is_ok() {
        let number = state.borrow().stream.as_ref().map_or(0, |stream| stream.number);
        if order.borrow_and_update().of(number).is_some() {
            return;
        }
    }
    // Nobody is left to order anything.
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::replication::ServerError;
    use tokio::time::sleep;

    #[test]
    fn a_prepared_transaction_has_no_process_and_is_ended_by_its_name() {
        let open = Open::new(0, Some("it's"), None);
        assert_eq!(
            (open.to_string(), open.fix()),
            ("prepared transaction 'it''s'".to_owned(), "rollback prepared 'it''s';")
        );
        let open = Open::new(7, Some("Ann"), Some("2026-01-01 00:00:00+00"));
        assert_eq!(open.to_string(), "process 7 of role \"Ann\", open since 2026-01-01 00:00:00+00");
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_given_up_and_what_was_cut_off_is_remembered_as_ours() {
        // Nobody listens there: what is to be ended ends by itself.
        let maker = Maker::alone(&Target::parse("postgres://walcast@127.0.0.1:1/postgres").unwrap(), "walcast");
        let sender = Sender { pid: 7, began: "1.5".to_owned() };
        let ended =
            || ReplicationError::from(ServerError { code: "57P01".into(), message: "ended".into(), hint: None });
        let within = |seconds, failure: ReplicationError| {
            let making = async move {
                sleep(Duration::from_secs(seconds)).await;
                Err::<(), _>(failure)
            };
            maker.make_within(Duration::from_secs(10), Some(&sender), making)
        };
        let is_late = |why| matches!(why, Err(SourceError::NotMade { why: GivenUp::TooLong, .. }));
        assert!(!is_late(within(9, ended()).await));
        assert!(is_late(within(15, ended()).await));
        assert_eq!(maker.state.borrow().making, None);
        assert!(within(1, ReplicationError::Ended).await.is_err());
        assert!(maker.state.borrow().making.as_ref().is_some_and(|making| making.is_by(7) && making.waits.is_none()));
    }
}
