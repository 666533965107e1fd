//! One port for everything edges need, where firewalls let only one through: who is asked for is told by TLS.
//!
//! ```text
//! 443 --first bytes, left where they are--> ALPN: causeway-register | causeway-tunnel | anything else
//!                                             registration            tunnels             the hub
//! ```
//!
//! TLS is spoken by whom the connection is handed to, as at its own port.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use daemon::backoff::Backoff;
use listener::{Client, Hand};
use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Connections that have not said whom they want.
const TERMS: listener::Terms = listener::Terms {
    what: "the common port",
    places: 1024,
    first_byte: PATIENCE,
    drain: Duration::from_millis(100),
};
/// A client that does not say whom it wants leaves.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest first message of TLS.
const HELLO: usize = 16 * 1024;
/// How soon the rest of one is looked for: less and less often, as many may be slow.
const AGAIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

#[derive(Debug, thiserror::Error)]
#[error("listening on the common port {address} (modules.cloudHub.commonPort)")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// Who serves.
#[derive(Clone, Debug)]
pub struct Hands {
    pub hub: Hand,
    pub register: Hand,
    pub tunnels: Hand,
}

/// Bound, and not serving.
pub struct Front(TcpListener);

impl Front {
    pub async fn build(address: SocketAddr) -> Result<Front, ListenError> {
        let listener = TcpListener::bind(address).await;
        listener.map(Front).map_err(|source| ListenError { address, source })
    }

    /// Hands connections over until `stop`.
    pub async fn run(self, hands: Hands, stop: CancellationToken) -> Result<(), Infallible> {
        let serve = move |client: Client<TcpListener>| {
            let hands = hands.clone();
            async move {
                let Client { stream, peer, place, .. } = client;
                let Ok(Ok(wanted)) = tokio::time::timeout(PATIENCE, wanted(&stream)).await else { return };
                drop(place);
                match wanted {
                    Wanted::Hub => hands.hub.give(stream, peer),
                    Wanted::Register => hands.register.give(stream, peer),
                    Wanted::Tunnels => hands.tunnels.give(stream, peer),
                }
            }
        };
        listener::serve(self.0, TERMS, stop, serve).await;
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Hub,
    Register,
    Tunnels,
}

/// Reads whom a client wants, and leaves what it read where it is.
async fn wanted(stream: &TcpStream) -> io::Result<Wanted> {
    let (mut bytes, mut backoff) = (vec![0; HELLO], Backoff::new(AGAIN.0, AGAIN.1));
    loop {
        let length = stream.peek(&mut bytes).await?;
        match told(bytes.get(..length).unwrap_or_default())? {
            Some(wanted) => return Ok(wanted),
            None if length == 0 || length == HELLO => return Err(io::ErrorKind::InvalidData.into()),
            None => tokio::time::sleep(backoff.next()).await,
        }
    }
}

/// `None`: there is more to come.
fn told(mut bytes: &[u8]) -> io::Result<Option<Wanted>> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes)?;
    }
    let hello = acceptor.accept().map_err(|(error, _)| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let Some(accepted) = hello else { return Ok(None) };
    let hello = accepted.client_hello();
    let offered: Vec<&[u8]> = hello.alpn().into_iter().flatten().collect();
    let offers = |name: &str| offered.contains(&name.as_bytes());
    Ok(Some(match () {
        () if offers(link::alpn::REGISTER) => Wanted::Register,
        () if offers(link::alpn::TUNNEL) => Wanted::Tunnels,
        () => Wanted::Hub,
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// The first bytes of a client that offers these protocols.
    fn hello(protocols: &[&str]) -> Vec<u8> {
        pki::install_provider();
        let mut config = (*pki::tls::client_before_trust()).clone();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = "cloud.example".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn clients_are_told_apart_by_what_they_offer() {
        for (protocols, wanted) in [
            (&[][..], Wanted::Hub),
            (&["http/1.1"], Wanted::Hub),
            (&["http/1.1", link::alpn::REGISTER], Wanted::Register),
            (&["http/1.1", link::alpn::TUNNEL], Wanted::Tunnels),
        ] {
            assert_eq!(told(&hello(protocols)).unwrap(), Some(wanted), "{protocols:?}");
        }
    }

    #[test]
    fn half_a_beginning_is_waited_for_and_what_is_none_is_an_error() {
        let hello = hello(&["http/1.1"]);
        assert_eq!(told(&hello[..hello.len() / 2]).unwrap(), None);
        assert_eq!(told(b"").unwrap(), None);
        assert!(told(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").is_err());
    }
}
