//! A forward proxy as companies use them: it opens tunnels by CONNECT, resolves names that DNS does not know, and records the
//! requested targets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::port::free_port;

/// The proxy. It ends when it is dropped.
#[derive(Debug)]
pub struct ForwardProxy {
    address: SocketAddr,
    targets: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl ForwardProxy {
    /// A proxy for tunnels to these hosts, each of which is 127.0.0.1 on the requested port.
    pub async fn start(hosts: &[&str]) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", free_port()?)).await?;
        let address = listener.local_addr()?;
        let known: BTreeMap<String, [u8; 4]> = hosts.iter().map(|host| ((*host).to_owned(), [127, 0, 0, 1])).collect();
        let (known, targets) = (Arc::new(known), Arc::new(Mutex::new(Vec::new())));
        let asked = Arc::clone(&targets);
        let task = tokio::spawn(async move {
            // Connections end with the proxy.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(tunnel(stream, Arc::clone(&known), Arc::clone(&asked)));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, targets, task })
    }

    /// The address as a URL without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every requested target, as `host:port`, or as the request line if it was not a CONNECT.
    pub fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tunnel(mut client: TcpStream, known: Arc<BTreeMap<String, [u8; 4]>>, asked: Arc<Mutex<Vec<String>>>) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
        ensure!(head.len() < 16_384, "a head without an end");
    }
    let head = String::from_utf8(head)?;
    let line = head.lines().next().unwrap_or_default();
    let target = line.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(target.unwrap_or(line).to_owned());
    let reached =
        target.and_then(|target| target.rsplit_once(':')).and_then(|(host, port)| Some((*known.get(host)?, port.parse::<u16>().ok()?)));
    let Some(address) = reached else {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await.context("the refusal");
    };
    let mut server = TcpStream::connect(SocketAddr::from(address)).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
