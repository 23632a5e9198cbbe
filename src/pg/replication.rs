//! The walsender session: a connection in replication mode, on postgres-protocol, because tokio-postgres has none.
//!
//! Owns the handshake (TLS, SCRAM-SHA-256 and -PLUS, md5, cleartext), simple queries, and the copy stream of
//! START_REPLICATION. What the stream says is `pgoutput`'s; when to confirm is `source`'s.
//! Implements PostgreSQL's "Message Flow" and "Streaming Replication Protocol".

use super::{
    connect::{TEXT_FORMS, Target},
    tls::end_point_binding,
};
use crate::{
    lsn::Lsn,
    pgoutput::{
        DecodeError,
        envelope::{Envelope, StatusUpdate},
    },
};
use bytes::{Buf, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{self, ChannelBinding, ScramSha256},
    },
    escape::{escape_identifier, escape_literal},
    message::{
        backend::{DataRowBody, ErrorResponseBody, Header, Message},
        frontend,
    },
};
use std::{fmt, io};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_postgres::config::{ChannelBinding as Wish, Host, SslMode};

/// The longest message Postgres can build (`MaxAllocSize`). A longer one is not Postgres speaking.
const MAX_MESSAGE_BYTES: usize = 0x3FFF_FFFF;

/// An error the server reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The SQLSTATE.
    pub code: String,
    /// What it says.
    pub message: String,
    /// What it suggests.
    pub hint: Option<String>,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)
    }
}

impl std::error::Error for ServerError {}

/// Why the session failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// The socket failed.
    #[error("connection to the database at {address} failed")]
    Io {
        /// Host and port.
        address: String,
        /// What the socket said.
        #[source]
        source: io::Error,
    },
    /// `sslmode` wants TLS and the server has none.
    #[error("the database at {address} offers no TLS, and sslmode requires it")]
    NoTls {
        /// Host and port.
        address: String,
    },
    /// The server asks for a way of authentication we do not have, or one the settings forbid.
    #[error("cannot authenticate to the database: {0}")]
    Authentication(&'static str),
    /// The server refused.
    #[error("the database refused")]
    Server(#[from] ServerError),
    /// The server said something the protocol does not allow here.
    #[error("the database broke the protocol: {0}")]
    Protocol(String),
    /// A frame of the stream cannot be read.
    #[error("cannot read the replication stream")]
    Decode(#[from] DecodeError),
    /// The server ended the stream.
    #[error("the database ended the replication stream")]
    Ended,
}

impl ReplicationError {
    /// The SQLSTATE, when the server gave one.
    pub fn code(&self) -> Option<&str> {
        match self {
            ReplicationError::Server(error) => Some(&error.code),
            _ => None,
        }
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A replication connection that is ready for commands.
pub struct Session {
    stream: Box<dyn Io>,
    input: BytesMut,
    address: String,
}

impl Session {
    /// Connects, authenticates, and waits until the server is ready. Tries the hosts of the target in order.
    pub async fn connect(target: &Target, application: &str) -> Result<Session, ReplicationError> {
        let hosts = target.config.get_hosts();
        let addresses = target.config.get_hostaddrs();
        let ports = target.config.get_ports();
        let mut last = ReplicationError::Protocol("no host to connect to".to_owned());
        for index in 0..hosts.len().max(addresses.len()) {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            let host = match (addresses.get(index), hosts.get(index)) {
                (Some(address), name) => (Host::Tcp(address.to_string()), name.cloned()),
                (None, Some(host)) => (host.clone(), Some(host.clone())),
                (None, None) => continue,
            };
            match Session::connect_to(target, &host.0, host.1.as_ref(), port, application).await {
                Ok(session) => return Ok(session),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(
        target: &Target,
        host: &Host,
        name: Option<&Host>,
        port: u16,
        application: &str,
    ) -> Result<Session, ReplicationError> {
        let address = match host {
            Host::Tcp(host) => format!("{host}:{port}"),
            #[cfg(unix)]
            Host::Unix(directory) => format!("{}:{port}", directory.display()),
        };
        let attempt = async {
            let (stream, binding) = open(target, host, name, port, &address).await?;
            let mut session = Session { stream, input: BytesMut::with_capacity(64 * 1024), address: address.clone() };
            session.authenticate(target, application, binding).await?;
            Ok(session)
        };
        let limit = target.config.get_connect_timeout().copied().unwrap_or(std::time::Duration::from_secs(10));
        match tokio::time::timeout(limit, attempt).await {
            Ok(result) => result,
            Err(_) => Err(ReplicationError::Io {
                address: address.clone(),
                source: io::Error::new(io::ErrorKind::TimedOut, "no answer within the connect timeout"),
            }),
        }
    }

    async fn authenticate(
        &mut self,
        target: &Target,
        application: &str,
        binding: Binding,
    ) -> Result<(), ReplicationError> {
        let user = target.user();
        let options = match target.config.get_options() {
            Some(own) => format!("{own} {TEXT_FORMS}"),
            None => TEXT_FORMS.to_owned(),
        };
        let parameters = [
            ("user", user),
            ("database", target.database()),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            ("application_name", application),
            ("options", &options),
        ];
        let mut output = BytesMut::new();
        frontend::startup_message(parameters, &mut output).map_err(|source| self.io(source))?;
        self.send(&output).await?;
        let password = target.config.get_password();
        let needed = || {
            password
                .ok_or(ReplicationError::Authentication("the server asks for a password and the database URL has none"))
        };
        let wish = target.config.get_channel_binding();
        let unbound = "channel_binding=require, and the server does not take part in it";
        let mut is_bound = false;
        loop {
            let message = self.message().await?;
            let gives_in = matches!(
                message,
                Message::AuthenticationOk
                    | Message::AuthenticationCleartextPassword
                    | Message::AuthenticationMd5Password(_)
            );
            if wish == Wish::Require && gives_in && !is_bound {
                return Err(ReplicationError::Authentication(unbound));
            }
            match message {
                Message::AuthenticationOk => break,
                Message::AuthenticationCleartextPassword => self.send_password(needed()?).await?,
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(user.as_bytes(), needed()?, body.salt());
                    self.send_password(hash.as_bytes()).await?;
                }
                Message::AuthenticationSasl(body) => {
                    let mut offered = Vec::new();
                    let mut mechanisms = body.mechanisms();
                    while let Some(name) = mechanisms.next().map_err(|source| self.io(source))? {
                        offered.push(name.to_owned());
                    }
                    let binding = if wish == Wish::Disable { &Binding::None } else { &binding };
                    let plus = offered.iter().any(|name| name == sasl::SCRAM_SHA_256_PLUS);
                    is_bound = plus && matches!(binding, Binding::EndPoint(_));
                    if wish == Wish::Require && !is_bound {
                        return Err(ReplicationError::Authentication(unbound));
                    }
                    self.authenticate_scram(&offered, needed()?, binding).await?;
                }
                Message::ErrorResponse(body) => return Err(server_error(&body).into()),
                _ => {
                    return Err(ReplicationError::Authentication(
                        "the server asks for a way of authentication other than scram-sha-256, md5 or password",
                    ));
                }
            }
        }
        loop {
            match self.message().await? {
                Message::ReadyForQuery(_) => return Ok(()),
                Message::ErrorResponse(body) => return Err(server_error(&body).into()),
                _ => {}
            }
        }
    }

    async fn authenticate_scram(
        &mut self,
        offered: &[String],
        password: &[u8],
        binding: &Binding,
    ) -> Result<(), ReplicationError> {
        let plus = offered.iter().any(|name| name == sasl::SCRAM_SHA_256_PLUS);
        let plain = offered.iter().any(|name| name == sasl::SCRAM_SHA_256);
        let (mechanism, channel) = match binding {
            Binding::EndPoint(data) if plus => {
                (sasl::SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(data.clone()))
            }
            Binding::EndPoint(_) if plain => (sasl::SCRAM_SHA_256, ChannelBinding::unrequested()),
            _ if plain => (sasl::SCRAM_SHA_256, ChannelBinding::unsupported()),
            _ => {
                return Err(ReplicationError::Authentication(
                    "the server offers no SCRAM mechanism that can be used here",
                ));
            }
        };
        let mut scram = ScramSha256::new(password, channel);
        let mut output = BytesMut::new();
        frontend::sasl_initial_response(mechanism, scram.message(), &mut output).map_err(|source| self.io(source))?;
        self.send(&output).await?;
        match self.message().await? {
            Message::AuthenticationSaslContinue(body) => scram.update(body.data()).map_err(|source| self.io(source))?,
            Message::ErrorResponse(body) => return Err(server_error(&body).into()),
            _ => return Err(ReplicationError::Protocol("no SASL challenge".to_owned())),
        }
        output.clear();
        frontend::sasl_response(scram.message(), &mut output).map_err(|source| self.io(source))?;
        self.send(&output).await?;
        match self.message().await? {
            Message::AuthenticationSaslFinal(body) => scram.finish(body.data()).map_err(|source| self.io(source)),
            Message::ErrorResponse(body) => Err(server_error(&body).into()),
            _ => Err(ReplicationError::Protocol("no SASL outcome".to_owned())),
        }
    }

    async fn send_password(&mut self, password: &[u8]) -> Result<(), ReplicationError> {
        let mut output = BytesMut::new();
        frontend::password_message(password, &mut output).map_err(|source| self.io(source))?;
        self.send(&output).await
    }

    /// Runs one command of the simple protocol; the rows as text.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, ReplicationError> {
        let mut output = BytesMut::new();
        frontend::query(sql, &mut output).map_err(|source| self.io(source))?;
        self.send(&output).await?;
        let mut rows = Vec::new();
        let mut failure = None;
        loop {
            match self.message().await? {
                Message::DataRow(body) => rows.push(text_row(&body).map_err(|source| self.io(source))?),
                Message::ErrorResponse(body) => failure = Some(server_error(&body)),
                Message::ReadyForQuery(_) => return failure.map_or(Ok(rows), |error| Err(error.into())),
                _ => {}
            }
        }
    }

    /// Makes a logical slot for pgoutput and says where it starts. A temporary one ends with this session.
    pub async fn create_slot(&mut self, slot: &str, temporary: bool) -> Result<Lsn, ReplicationError> {
        let temporary = if temporary { " TEMPORARY" } else { "" };
        // The old spelling of the option is the only one that all supported versions take.
        let sql = format!(
            "CREATE_REPLICATION_SLOT {}{temporary} LOGICAL pgoutput NOEXPORT_SNAPSHOT",
            escape_identifier(slot)
        );
        let rows = self.query(&sql).await?;
        let point = rows.first().and_then(|row| row.get(1)).and_then(Option::as_deref);
        point
            .and_then(|point| point.parse().ok())
            .ok_or_else(|| ReplicationError::Protocol("CREATE_REPLICATION_SLOT named no consistent point".to_owned()))
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
        frontend::query(&sql, &mut output).map_err(|source| self.io(source))?;
        self.send(&output).await?;
        loop {
            if self.skip_copy_both().await? {
                return Ok(ReplicationStream { session: self });
            }
            match self.message().await? {
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
        let length = self.fill_message().await?;
        if self.input.first() != Some(&b'W') {
            return Ok(false);
        }
        self.input.advance(length);
        Ok(true)
    }

    /// Reads until a whole message stands in the buffer; its length with the tag. Safe to cancel.
    async fn fill_message(&mut self) -> Result<usize, ReplicationError> {
        loop {
            if let Some(header) = Header::parse(&self.input).map_err(|source| self.io(source))? {
                let length = usize::try_from(header.len()).unwrap_or(usize::MAX).saturating_add(1);
                if length > MAX_MESSAGE_BYTES {
                    return Err(ReplicationError::Protocol(format!("a message of {length} bytes")));
                }
                if self.input.len() >= length {
                    return Ok(length);
                }
                self.input.reserve(length - self.input.len());
            }
            if self.input.capacity() == self.input.len() {
                self.input.reserve(64 * 1024);
            }
            let read = self.stream.read_buf(&mut self.input).await.map_err(|source| self.io(source))?;
            if read == 0 {
                return Err(self.io(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")));
            }
        }
    }

    async fn message(&mut self) -> Result<Message, ReplicationError> {
        let length = self.fill_message().await?;
        if self.input.first() == Some(&b'v') {
            // NegotiateProtocolVersion, unknown to postgres-protocol: the server lacks an option we never sent.
            self.input.advance(length);
            return Err(ReplicationError::Protocol("the server does not speak protocol 3.0".to_owned()));
        }
        Message::parse(&mut self.input)
            .map_err(|source| self.io(source))?
            .ok_or_else(|| ReplicationError::Protocol("a message shorter than its header says".to_owned()))
    }

    async fn send(&mut self, output: &[u8]) -> Result<(), ReplicationError> {
        let written = async {
            self.stream.write_all(output).await?;
            self.stream.flush().await
        };
        written.await.map_err(|source| self.io(source))
    }

    fn io(&self, source: io::Error) -> ReplicationError {
        ReplicationError::Io { address: self.address.clone(), source }
    }
}

/// A running copy stream.
pub struct ReplicationStream {
    session: Session,
}

impl ReplicationStream {
    /// The next envelope. Safe to cancel: nothing that was read is lost.
    pub async fn next(&mut self) -> Result<Envelope, ReplicationError> {
        loop {
            self.session.fill_message().await?;
            match self.session.message().await? {
                Message::CopyData(body) => return Ok(Envelope::decode(body.into_bytes())?),
                Message::ErrorResponse(body) => return Err(server_error(&body).into()),
                Message::NoticeResponse(_) | Message::ParameterStatus(_) => {}
                Message::CopyDone => return Err(ReplicationError::Ended),
                _ => return Err(ReplicationError::Protocol("something else than the stream".to_owned())),
            }
        }
    }

    /// Whether a whole message has been read already, so that `next` will not wait.
    pub fn has_more(&self) -> bool {
        let input = &self.session.input;
        matches!(Header::parse(input), Ok(Some(header)) if usize::try_from(header.len()).is_ok_and(|length| input.len() > length))
    }

    /// Tells the server how far we are.
    pub async fn send(&mut self, update: StatusUpdate) -> Result<(), ReplicationError> {
        self.copy_data(&update.encode()).await
    }

    async fn copy_data(&mut self, body: &[u8]) -> Result<(), ReplicationError> {
        let mut output = BytesMut::with_capacity(body.len() + 5);
        frontend::CopyData::new(body).map_err(|source| self.session.io(source))?.write(&mut output);
        self.session.send(&output).await
    }

    /// Ends the stream in order, after a last status update. The server drops temporary slots with the session.
    pub async fn finish(mut self, update: StatusUpdate) -> Result<(), ReplicationError> {
        self.send(update).await?;
        let mut output = BytesMut::new();
        frontend::copy_done(&mut output);
        self.session.send(&output).await?;
        loop {
            match self.session.message().await? {
                Message::ReadyForQuery(_) => break,
                Message::ErrorResponse(body) => return Err(server_error(&body).into()),
                _ => {}
            }
        }
        output.clear();
        frontend::terminate(&mut output);
        self.session.send(&output).await
    }
}

/// What SCRAM may bind its proof to.
enum Binding {
    /// No TLS, or a certificate without a usable hash.
    None,
    /// `tls-server-end-point`.
    EndPoint(Vec<u8>),
}

async fn open(
    target: &Target,
    host: &Host,
    name: Option<&Host>,
    port: u16,
    address: &str,
) -> Result<(Box<dyn Io>, Binding), ReplicationError> {
    let io_error = |source| ReplicationError::Io { address: address.to_owned(), source };
    let mut stream = match host {
        #[cfg(unix)]
        Host::Unix(directory) => {
            let path = directory.join(format!(".s.PGSQL.{port}"));
            let stream = tokio::net::UnixStream::connect(path).await.map_err(io_error)?;
            return Ok((Box::new(stream), Binding::None));
        }
        Host::Tcp(host) => TcpStream::connect((host.as_str(), port)).await.map_err(io_error)?,
    };
    stream.set_nodelay(true).map_err(io_error)?;
    let mode = target.config.get_ssl_mode();
    if mode == SslMode::Disable {
        return Ok((Box::new(stream), Binding::None));
    }
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await.map_err(io_error)?;
    if stream.read_u8().await.map_err(io_error)? != b'S' {
        return match mode {
            SslMode::Prefer => Ok((Box::new(stream), Binding::None)),
            _ => Err(ReplicationError::NoTls { address: address.to_owned() }),
        };
    }
    let server = match name {
        Some(Host::Tcp(name)) => name.clone(),
        _ => match host {
            Host::Tcp(host) => host.clone(),
            #[cfg(unix)]
            Host::Unix(directory) => directory.display().to_string(),
        },
    };
    let server = rustls_pki_types::ServerName::try_from(server)
        .map_err(|error| io_error(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let connector = tokio_rustls::TlsConnector::from(target.tls.clone());
    let stream = connector.connect(server, stream).await.map_err(io_error)?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let binding = certificate.and_then(end_point_binding).map_or(Binding::None, Binding::EndPoint);
    Ok((Box::new(stream), binding))
}

fn text_row(body: &DataRowBody) -> io::Result<Vec<Option<String>>> {
    let buffer: &Bytes = body.buffer_bytes();
    body.ranges().map(|range| Ok(range.map(|range| String::from_utf8_lossy(&buffer[range]).into_owned()))).collect()
}

fn server_error(body: &ErrorResponseBody) -> ServerError {
    let mut error = ServerError { code: String::new(), message: String::new(), hint: None };
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => error.code = value,
            b'M' => error.message = value,
            b'H' => error.hint = Some(value),
            _ => {}
        }
    }
    error
}
