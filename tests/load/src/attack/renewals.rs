//! Forged renewals at the registration port: certificates of one node that ask for another's, tokens nobody signed, and
//! a node that renews without end.

use std::sync::Arc;

use anyhow::Result;
use rustls::ClientConfig;
use tokio::io::AsyncWriteExt;

use super::raw;

/// One request on a connection of its own. `own` shows the certificate of `node`, `none` shows none.
pub(super) async fn attack(
    (own, none): (&Arc<ClientConfig>, &Arc<ClientConfig>),
    target: &str,
    (node, other): (&str, &str),
    number: usize,
) -> Result<()> {
    let (config, asked, subject, token) = match number % 4 {
        0 => (own, other, other, None),
        1 => (own, node, other, None),
        2 => (none, other, other, Some("0123456789abcdef.eyJhbGciOiJub25lIn0.e30.")),
        _ => (own, node, node, None),
    };
    let (_, request) = pki::node_request(subject)?;
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head = format!(
        "GET /edge.crt HTTP/1.1\r\nHost: 127.0.0.1\r\nNodeName: {asked}\r\n{token}Content-Length: {}\r\n\r\n",
        request.len()
    );
    let mut stream = raw::tls(config, target).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&request).await?;
    stream.flush().await?;
    raw::read_head(&mut stream).await?;
    Ok(())
}
