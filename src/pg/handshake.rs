//! From nothing to a connection that is ready for commands: the host, TLS, the startup message, authentication by
//! SCRAM-SHA-256 and -PLUS, md5 or cleartext.
//! Implements PostgreSQL's "Message Flow", Start-up and SASL Authentication.

use super::{
    connect::{Reach, TEXT_FORMS},
    target::Target,
    tls::end_point_binding,
    wire::{Io, ReplicationError, Wire, server_error},
};
use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{self, ChannelBinding, ScramSha256},
    },
    message::{backend::Message, frontend},
};
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_postgres::config::{ChannelBinding as Wish, Host, SslMode};

/// Connects, authenticates, and waits until the server is ready. Tries the hosts of the target in order.
pub(super) async fn connect(target: &Target, application: &str) -> Result<Wire, ReplicationError> {
    connect_by(&target.reach(), application).await.inspect_err(|error| {
        if let Some(code) = error.code() {
            target.note(code);
        }
    })
}

async fn connect_by(target: &Reach, application: &str) -> Result<Wire, ReplicationError> {
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
        match connect_to(target, &host.0, host.1.as_ref(), port, application).await {
            Ok(wire) => return Ok(wire),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Authenticates over a stream without TLS, and waits until the server is ready.
pub(super) async fn over(stream: Box<dyn Io>, target: &Target, application: &str) -> Result<Wire, ReplicationError> {
    let mut wire = Wire::new(stream, target.address());
    wire.authenticate(&target.reach(), application, Binding::None).await?;
    Ok(wire)
}

async fn connect_to(
    target: &Reach,
    host: &Host,
    name: Option<&Host>,
    port: u16,
    application: &str,
) -> Result<Wire, ReplicationError> {
    let address = match host {
        Host::Tcp(host) => format!("{host}:{port}"),
        #[cfg(unix)]
        Host::Unix(directory) => format!("{}:{port}", directory.display()),
    };
    let attempt = async {
        let (stream, binding) = open(target, host, name, port, &address).await?;
        let mut wire = Wire::new(stream, address.clone());
        wire.authenticate(target, application, binding).await?;
        Ok(wire)
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

impl Wire {
    async fn authenticate(
        &mut self,
        target: &Reach,
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
}

/// What SCRAM may bind its proof to.
enum Binding {
    /// No TLS, or a certificate without a usable hash.
    None,
    /// `tls-server-end-point`.
    EndPoint(Vec<u8>),
}

async fn open(
    target: &Reach,
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
