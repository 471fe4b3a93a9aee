//! A proxy that speaks TLS on the client's side and plain http to the server behind it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::port::free_port;

/// A name that a proxy's certificate also holds. Nothing resolves it.
pub const NAME: &str = "git.acme.test";

/// The proxy. It ends when it is dropped.
#[derive(Debug)]
pub struct TlsProxy {
    address: SocketAddr,
    authority_pem: String,
    task: JoinHandle<()>,
}

impl TlsProxy {
    /// A proxy for 127.0.0.1 in front of a server of this machine, given by its http URL, with an authority of its own.
    ///
    /// # Errors
    ///
    /// When no port is free or no certificate can be made.
    pub async fn before(url: &str) -> Result<Self> {
        super::install_crypto();
        let upstream = url.strip_prefix("http://").context("the server's address is http")?.trim_end_matches('/').to_owned();
        let (authority_pem, acceptor) = acceptor()?;
        let listener = TcpListener::bind(("127.0.0.1", free_port()?)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            // Connections end with the proxy.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(pass(stream, acceptor.clone(), upstream.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, authority_pem, task })
    }

    /// Its address as a URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// The authority that signed its certificate, as PEM.
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }
}

impl Drop for TlsProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(stream: TcpStream, acceptor: TlsAcceptor, upstream: String) -> Result<()> {
    let mut client = acceptor.accept(stream).await?;
    let mut server = TcpStream::connect(upstream).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

fn acceptor() -> Result<(String, TlsAcceptor)> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate()?;
    let authority = parameters.self_signed(&authority_key)?;
    let issuer = Issuer::new(parameters, authority_key);
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    parameters.subject_alt_names.push(SanType::DnsName(NAME.try_into()?));
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)?;
    Ok((authority.pem(), TlsAcceptor::from(Arc::new(config))))
}
