//! Why a certificate was not made.

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("generating a P-256 key")]
    Generate(#[source] rcgen::Error),
    #[error("reading the CA key (neither SEC1 nor PKCS#8 P-256)")]
    BadKey,
    #[error("a certificate of {count} organizations is asked for; it can name {most}")]
    Organizations { count: usize, most: usize },
    #[error("reading the CA certificate")]
    BadCertificate(#[source] rcgen::Error),
    #[error(
        "reading the signing request (its signature must fit, its key be ECDSA P-256, P-384, Ed25519 or RSA of 2048 bits or more)"
    )]
    BadRequest { source: rcgen::Error },
    #[error(
        "the signing request has a key of {bits} bits ({kind}), which is too weak: make it with ECDSA P-256, or RSA of 2048 bits or more"
    )]
    WeakKey { kind: &'static str, bits: usize },
    #[error("signing the certificate of {common_name:?}")]
    Sign { common_name: String, source: rcgen::Error },
    #[error("{name:?} is neither an IP address nor a DNS name")]
    BadName { name: String },
    #[error("{seconds} is not a date")]
    BadDate { seconds: i64 },
}
