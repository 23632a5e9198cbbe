//! The walsender session: a connection in replication mode, on postgres-protocol, because tokio-postgres has none.
//!
//! Owns simple queries and the copy stream of START_REPLICATION; `handshake` gets it connected, `wire` frames messages.
//! What the stream says is `pgoutput`'s; when to confirm is `source`'s.
//! Implements PostgreSQL's "Message Flow" and "Streaming Replication Protocol".

use super::{
    handshake,
    target::Target,
    wire::{Wire, server_error},
};
use crate::{
    lsn::Lsn,
    pgoutput::envelope::{Envelope, StatusUpdate},
};
use bytes::{Buf, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::{
    escape::{escape_identifier, escape_literal},
    message::{
        backend::{DataRowBody, Message},
        frontend,
    },
};
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};

pub use super::wire::{ReplicationError, ServerError};

/// A replication connection that is ready for commands.
pub struct Session {
    wire: Wire,
}

impl Session {
    /// Connects, authenticates, and waits until the server is ready. Tries the hosts of the target in order.
    pub async fn connect(target: &Target, application: &str) -> Result<Session, ReplicationError> {
        Ok(Session { wire: handshake::connect(target, application).await? })
    }

    /// The same over a stream that is there already, without TLS.
    pub async fn over<S>(stream: S, target: &Target, application: &str) -> Result<Session, ReplicationError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Ok(Session { wire: handshake::over(Box::new(stream), target, application).await? })
    }

    /// Runs one command of the simple protocol; the rows as text.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, ReplicationError> {
        let mut output = BytesMut::new();
        frontend::query(sql, &mut output).map_err(|source| self.wire.io(source))?;
        self.wire.send(&output).await?;
        let mut rows = Vec::new();
        let mut failure = None;
        loop {
            match self.wire.message().await? {
                Message::DataRow(body) => rows.push(text_row(&body).map_err(|source| self.wire.io(source))?),
                Message::ErrorResponse(body) => failure = Some(server_error(&body)),
                Message::ReadyForQuery(_) => return failure.map_or(Ok(rows), |error| Err(error.into())),
                _ => {}
            }
        }
    }

    /// Makes a logical slot for pgoutput and says where it starts. A temporary one ends with this session.
    /// Any other is taken over by a standby that is promoted, from 17 on and where the standby has that set up.
    pub async fn create_slot(&mut self, slot: &str, temporary: bool) -> Result<Lsn, ReplicationError> {
        let options = match (temporary, self.has_failover().await?) {
            // The old spelling of the option is the only one that all supported versions take.
            (true, _) => "TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT",
            (false, true) => "LOGICAL pgoutput (SNAPSHOT 'nothing', FAILOVER true)",
            (false, false) => "LOGICAL pgoutput NOEXPORT_SNAPSHOT",
        };
        let rows = self.query(&format!("CREATE_REPLICATION_SLOT {} {options}", escape_identifier(slot))).await?;
        let point = rows.first().and_then(|row| row.get(1)).and_then(Option::as_deref);
        point
            .and_then(|point| point.parse().ok())
            .ok_or_else(|| ReplicationError::Protocol("CREATE_REPLICATION_SLOT named no consistent point".to_owned()))
    }

    /// Makes a lasting slot, and says where it starts and the name of the snapshot that shows what committed before that. It
    /// can be taken until the session's next command.
    pub async fn create_slot_with_snapshot(&mut self, slot: &str) -> Result<(Lsn, String), ReplicationError> {
        let options = match self.has_failover().await? {
            true => "LOGICAL pgoutput (SNAPSHOT 'export', FAILOVER true)",
            false => "LOGICAL pgoutput EXPORT_SNAPSHOT",
        };
        let rows = self.query(&format!("CREATE_REPLICATION_SLOT {} {options}", escape_identifier(slot))).await?;
        let cell = |index: usize| rows.first().and_then(|row| row.get(index).cloned().flatten());
        match (cell(1).and_then(|point| point.parse().ok()), cell(2)) {
            (Some(point), Some(snapshot)) => Ok((point, snapshot)),
            _ => Err(ReplicationError::Protocol("CREATE_REPLICATION_SLOT named no snapshot".to_owned())),
        }
    }

    /// Whether the server can have standbys keep a copy of a slot.
    async fn has_failover(&mut self) -> Result<bool, ReplicationError> {
        let sql = "select setting from pg_catalog.pg_settings where name = 'server_version_num'";
        let version = self.query(sql).await?.into_iter().flatten().next().flatten();
        Ok(version.and_then(|text| text.parse().ok()).is_some_and(|version: u32| version >= 170_000))
    }

    /// Starts streaming from the slot; `from` below the slot's own position means that position.
    pub async fn start(
        mut self,
        slot: &str,
        publications: &[&str],
        from: Lsn,
    ) -> Result<ReplicationStream, ReplicationError> {
        let names: Vec<String> = publications.iter().map(|name| escape_identifier(name)).collect();
        let sql = format!(
            "START_REPLICATION SLOT {} LOGICAL {from} (proto_version '1', publication_names {})",
            escape_identifier(slot),
            escape_literal(&names.join(","))
        );
        let mut output = BytesMut::new();
        frontend::query(&sql, &mut output).map_err(|source| self.wire.io(source))?;
        self.wire.send(&output).await?;
        loop {
            if self.skip_copy_both().await? {
                return Ok(ReplicationStream { wire: self.wire });
            }
            match self.wire.message().await? {
                Message::ErrorResponse(body) => return Err(server_error(&body).into()),
                Message::NoticeResponse(_) | Message::ParameterStatus(_) => {}
                _ => {
                    return Err(ReplicationError::Protocol(
                        "START_REPLICATION was not answered by a copy stream".to_owned(),
                    ));
                }
            }
        }
    }

    /// postgres-protocol does not know CopyBothResponse (`W`): it is taken off by hand.
    async fn skip_copy_both(&mut self) -> Result<bool, ReplicationError> {
        let length = self.wire.fill_message().await?;
        if self.wire.input.first() != Some(&b'W') {
            return Ok(false);
        }
        self.wire.input.advance(length);
        Ok(true)
    }
}

/// A running copy stream.
pub struct ReplicationStream {
    wire: Wire,
}

impl ReplicationStream {
    /// The next envelope. Safe to cancel: nothing that was read is lost.
    pub async fn next(&mut self) -> Result<Envelope, ReplicationError> {
        loop {
            self.wire.fill_message().await?;
            match self.wire.message().await? {
                Message::CopyData(body) => return Ok(Envelope::decode(body.into_bytes())?),
                Message::ErrorResponse(body) => return Err(server_error(&body).into()),
                Message::NoticeResponse(_) | Message::ParameterStatus(_) => {}
                Message::CopyDone => return Err(ReplicationError::Ended),
                _ => return Err(ReplicationError::Protocol("something else than the stream".to_owned())),
            }
        }
    }

    /// Tells the server how far we are.
    pub async fn send(&mut self, update: StatusUpdate) -> Result<(), ReplicationError> {
        self.copy_data(&update.encode()).await
    }

    async fn copy_data(&mut self, body: &[u8]) -> Result<(), ReplicationError> {
        let mut output = BytesMut::with_capacity(body.len() + 5);
        frontend::CopyData::new(body).map_err(|source| self.wire.io(source))?.write(&mut output);
        self.wire.send(&output).await
    }

    /// Ends the stream in order, after a last status update. The server drops temporary slots with the session.
    pub async fn finish(mut self, update: StatusUpdate) -> Result<(), ReplicationError> {
        self.send(update).await?;
        let mut output = BytesMut::new();
        frontend::copy_done(&mut output);
        self.wire.send(&output).await?;
        loop {
            match self.wire.message().await? {
                Message::ReadyForQuery(_) => break,
                Message::ErrorResponse(body) => return Err(server_error(&body).into()),
                _ => {}
            }
        }
        output.clear();
        frontend::terminate(&mut output);
        self.wire.send(&output).await
    }
}

fn text_row(body: &DataRowBody) -> io::Result<Vec<Option<String>>> {
    let buffer: &Bytes = body.buffer_bytes();
    body.ranges().map(|range| Ok(range.map(|range| String::from_utf8_lossy(&buffer[range]).into_owned()))).collect()
}
