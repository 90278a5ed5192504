//! The client's end under TLS: as cheap as it can be, and without a look at whose certificate it is.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::{self, cipher_suite::TLS13_AES_128_GCM_SHA256};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme, StreamOwned,
};

use crate::figures;

/// New connections, each a handshake and the end.
#[derive(Debug, clap::Args)]
pub(crate) struct Handshakes {
    /// Where.
    #[arg(long)]
    proxy: SocketAddr,
    /// Each but the first resumes an earlier one.
    #[arg(long)]
    resumed: bool,
    /// So many at once.
    #[arg(long, default_value_t = 8)]
    at_once: usize,
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// So many in all at most; 0 is as many as there is time for.
    #[arg(long, default_value_t = 0)]
    count: u64,
}

/// A connection to the proxy.
pub(crate) enum Line {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Line {
    /// This connection, under TLS if `tls` says how.
    pub(crate) fn new(socket: TcpStream, tls: Option<&Arc<ClientConfig>>) -> Result<Self> {
        let Some(tls) = tls else { return Ok(Self::Plain(socket)) };
        let client = ClientConnection::new(Arc::clone(tls), ServerName::try_from("proxy.example.test")?)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(client, socket))))
    }

    /// Waits for the end of the handshake, where there is one.
    pub(crate) fn finish_handshake(&mut self) -> Result<()> {
        let Self::Tls(stream) = self else { return Ok(()) };
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).context("the handshake")?;
        }
        Ok(())
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(socket) => socket.as_fd(),
            Self::Tls(stream) => stream.sock.as_fd(),
        }
    }
}

impl Read for Line {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Line {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(buf),
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// TLS 1.3 by one suite, so that all servers do the same work; sessions are resumed if `resumed`.
pub(crate) fn client(resumed: bool) -> Result<Arc<ClientConfig>> {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![TLS13_AES_128_GCM_SHA256];
    let provider = Arc::new(provider);
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.resumption = if resumed { Resumption::in_memory_sessions(64) } else { Resumption::disabled() };
    Ok(Arc::new(config))
}

/// Handshakes, as many as there is time for.
pub(crate) fn handshakes(args: &Handshakes) -> Result<()> {
    figures::ready()?;
    let (begun, started, failed) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
    let most = if args.count == 0 { u64::MAX } else { args.count };
    let time = Duration::from_secs_f64(args.seconds);
    let times = std::thread::scope(|scope| -> Result<Vec<Duration>> {
        let work = || -> Result<Vec<Duration>> {
            // Each has tickets of its own: there are as many new ones as are used.
            let tls = client(args.resumed)?;
            let wanted = if args.resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
            let mut times = Vec::new();
            if args.resumed {
                handshake(args.proxy, &tls)?;
            }
            while begun.elapsed() < time && started.fetch_add(1, Relaxed) < most {
                let one = Instant::now();
                match handshake(args.proxy, &tls) {
                    Ok(kind) if kind == Some(wanted) => times.push(one.elapsed()),
                    Ok(kind) => {
                        eprintln!("a handshake of another kind: {kind:?}");
                        failed.fetch_add(1, Relaxed);
                    }
                    Err(error) => {
                        eprintln!("{error:#}");
                        failed.fetch_add(1, Relaxed);
                    }
                }
                ensure!(failed.load(Relaxed) < 100, "too many failures");
            }
            Ok(times)
        };
        let threads: Vec<_> = (0..args.at_once).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| anyhow::anyhow!("a thread has panicked"))??);
        }
        Ok(all)
    })?;
    figures::print(begun.elapsed(), times, failed.load(Relaxed));
    Ok(())
}

/// One handshake, from connecting to the server's end.
fn handshake(to: SocketAddr, tls: &Arc<ClientConfig>) -> Result<Option<HandshakeKind>> {
    let socket = TcpStream::connect(to)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut line = Line::new(socket, Some(tls))?;
    line.finish_handshake()?;
    let Line::Tls(mut stream) = line else { return Ok(None) };
    stream.conn.send_close_notify();
    while stream.conn.wants_write() {
        stream.conn.write_tls(&mut stream.sock)?;
    }
    stream.sock.shutdown(Shutdown::Write)?;
    // Tickets come after the handshake. How the server ends does not matter.
    let _ = io::copy(&mut *stream, &mut io::sink());
    Ok(stream.conn.handshake_kind())
}

/// Takes anybody's certificate, but does the work of looking at its signature.
#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
