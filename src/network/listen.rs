//! Binds the listeners of servers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

/// Binds a TCP listener. `[::]` listens on every IPv6 and IPv4 address; on a machine without IPv6 it falls back to every IPv4
/// address.
///
/// # Errors
/// Binding fails.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) => match without_ipv6(address, error.kind()) {
            Some(address) => TcpListener::bind(address).await.map_err(|_| error),
            None => Err(error),
        },
    }
}

/// The IPv4 fallback if binding to every address failed because the machine may have no IPv6.
fn without_ipv6(address: SocketAddr, refusal: io::ErrorKind) -> Option<SocketAddr> {
    let every = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let taken = matches!(refusal, io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied);
    (every && !taken).then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn the_unspecified_address_accepts_ipv4_and_ipv6() {
        let listener = bind("[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok();
        assert_eq!(TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.is_ok(), has_ipv6);
    }

    #[test]
    fn without_ipv6_listens_on_ipv4_and_a_port_in_use_stays_an_error() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        // EAFNOSUPPORT and EADDRNOTAVAIL.
        for code in [97, 99] {
            let refusal = io::Error::from_raw_os_error(code).kind();
            assert_eq!(without_ipv6(address("[::]:8080"), refusal), Some(address("0.0.0.0:8080")));
            assert_eq!(without_ipv6(address("[::1]:8080"), refusal), None);
            assert_eq!(without_ipv6(address("10.0.0.1:8080"), refusal), None);
        }
        assert_eq!(without_ipv6(address("[::]:8080"), io::ErrorKind::AddrInUse), None);
    }
}
