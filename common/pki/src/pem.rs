//! PEM texts.

/// PEM with 64-column base64 (RFC 7468).
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for at in (0..body.len()).step_by(64) {
        out.push_str(&body[at..body.len().min(at + 64)]);
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// A certificate as PEM text.
pub fn certificate_pem(der: &[u8]) -> String {
    pem("CERTIFICATE", der)
}
