//! A proxy that speaks TLS to the client and plain http to the server behind it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::RootCertStore;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::port::free_port;

/// A host name that every proxy's certificate contains. No DNS server resolves it.
pub const NAME: &str = "git.acme.test";

/// The proxy. It ends when it is dropped.
#[derive(Debug)]
pub struct TlsProxy {
    address: SocketAddr,
    authority_pem: String,
    client: Option<(String, String)>,
    task: JoinHandle<()>,
}

impl TlsProxy {
    /// A proxy on 127.0.0.1 in front of a server on this machine, given by its http URL, with its own authority.
    ///
    /// # Errors
    ///
    /// When no port is free or no certificate can be made.
    pub async fn before(url: &str) -> Result<Self> {
        Self::start(url, false).await
    }

    /// The same, but it accepts only clients with a certificate that its authority signed.
    pub async fn demanding_a_client_certificate_before(url: &str) -> Result<Self> {
        Self::start(url, true).await
    }

    async fn start(url: &str, demanding: bool) -> Result<Self> {
        super::install_crypto();
        let upstream = url.strip_prefix("http://").context("the server's address is http")?.trim_end_matches('/').to_owned();
        let port = free_port()?;
        let Parts { authority_pem, client, acceptor } = parts(&format!("authority {port}"), demanding)?;
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            // Connections end with the proxy.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(pass(stream, acceptor.clone(), upstream.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, authority_pem, client, task })
    }

    /// The address as a URL without a trailing slash.
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

    /// A client certificate that it accepts, and its key, as PEM.
    ///
    /// # Errors
    ///
    /// When the proxy demands none.
    pub fn client(&self) -> Result<(&str, &str)> {
        self.client.as_ref().map(|(certificate, key)| (certificate.as_str(), key.as_str())).context("it demands no client certificate")
    }
}

impl Drop for TlsProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(stream: TcpStream, acceptor: TlsAcceptor, upstream: String) -> Result<()> {
    let mut client = match acceptor.accept(stream).into_fallible().await {
        Ok(client) => client,
        Err((error, mut stream)) => {
            // Reads what the client sent after its handshake before closing; otherwise a reset would overtake the alert.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
            return Err(error.into());
        }
    };
    let mut server = TcpStream::connect(upstream).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

struct Parts {
    authority_pem: String,
    client: Option<(String, String)>,
    acceptor: TlsAcceptor,
}

/// With an authority of this name: authorities of different organizations have different names.
fn parts(authority_name: &str, demanding: bool) -> Result<Parts> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.distinguished_name.push(DnType::CommonName, authority_name);
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
    let (client, config) = if demanding {
        let client_key = KeyPair::generate()?;
        let client = CertificateParams::new(vec!["forgebind".to_owned()])?.signed_by(&client_key, &issuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone())?;
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
        (Some((client.pem(), client_key.serialize_pem())), rustls::ServerConfig::builder().with_client_cert_verifier(verifier))
    } else {
        (None, rustls::ServerConfig::builder().with_no_client_auth())
    };
    let config = config.with_single_cert(vec![certificate.der().clone()], key)?;
    Ok(Parts { authority_pem: authority.pem(), client, acceptor: TlsAcceptor::from(Arc::new(config)) })
}
