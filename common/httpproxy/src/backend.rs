//! TLS with what is proxied to.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Why there is no TLS with a backend.
#[derive(Debug, thiserror::Error)]
pub enum BackendTlsError {
    #[error("preparing TLS")]
    Prepare(#[from] pki::tls::TlsError),
    #[error("the TLS handshake failed; is it HTTPS that is served there?")]
    Handshake(#[source] io::Error),
    #[error("no TLS handshake within {0:?}")]
    Late(Duration),
}

/// TLS 1.2 or 1.3 with the server behind `stream`, whose certificate is not verified, as kube-apiserver does not
/// ([`pki::tls::client_of_backends`]). No name is asked for: backends are addresses.
///
/// # Errors
/// [`BackendTlsError`]: no handshake, or none in time.
pub async fn unverified_tls<S>(stream: S, patience: Duration) -> Result<TlsStream<S>, BackendTlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // An address is not told to the server.
    let nameless = ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST));
    let handshake = TlsConnector::from(pki::tls::client_of_backends()?).connect(nameless, stream);
    match tokio::time::timeout(patience, handshake).await {
        Ok(shaken) => shaken.map_err(BackendTlsError::Handshake),
        Err(_) => Err(BackendTlsError::Late(patience)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ServerConfig, SupportedProtocolVersion, version};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A server with a certificate of its own making.
    fn server(version: &'static SupportedProtocolVersion) -> TlsAcceptor {
        let made = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let config = builder.with_no_client_auth().with_single_cert(vec![made.cert.into()], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    #[tokio::test]
    async fn a_backend_may_show_any_certificate_over_both_versions() {
        for version in [&version::TLS12, &version::TLS13] {
            let (near, far) = tokio::io::duplex(4096);
            let accept = async {
                let mut stream = server(version).accept(far).await.unwrap();
                assert_eq!(stream.get_ref().1.server_name(), None);
                stream.write_all(b"said").await.unwrap();
                stream.shutdown().await.unwrap();
            };
            let ask = async {
                let mut stream = unverified_tls(near, Duration::from_secs(10)).await.unwrap();
                let mut said = String::new();
                stream.read_to_string(&mut said).await.unwrap();
                said
            };
            assert_eq!(tokio::join!(accept, ask).1, "said");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_silent_or_speaks_plainly_is_given_up() {
        let (near, _silent) = tokio::io::duplex(4096);
        let late = unverified_tls(near, Duration::from_secs(10)).await;
        assert!(matches!(late, Err(BackendTlsError::Late(_))), "{late:?}");
        let (near, mut plain) = tokio::io::duplex(4096);
        plain.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let failed = unverified_tls(near, Duration::from_secs(10)).await;
        assert!(matches!(failed, Err(BackendTlsError::Handshake(_))), "{failed:?}");
    }
}
