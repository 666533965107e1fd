//! The little DER that no library in use writes: SEC1 keys from PKCS#8 and back.
//!
//! KubeEdge stores P-256 keys as SEC1 `ECPrivateKey` (RFC 5915); rcgen reads and writes PKCS#8 (RFC 5958).

/// AlgorithmIdentifier { id-ecPublicKey, prime256v1 }
const P256_ALGORITHM: [u8; 21] = [
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07,
];
/// OBJECT IDENTIFIER prime256v1
const P256_OID: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const BIT_STRING: u8 = 0x03;
const PARAMETERS: u8 = 0xa0;
const PUBLIC_KEY: u8 = 0xa1;

fn wrap(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match body.len() {
        short @ 0..=0x7f => out.push(short as u8),
        middle @ 0x80..=0xff => out.extend([0x81, middle as u8]),
        long => out.extend([0x82, (long >> 8) as u8, long as u8]),
    }
    out.extend_from_slice(body);
    out
}

/// Splits the first value off `input`: (tag, body, rest).
fn take(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(&len, rest)| (usize::from(len), rest))?,
        0x82 => {
            rest.split_first_chunk::<2>().map(|(len, rest)| (usize::from(u16::from_be_bytes(*len)), rest))?
        }
        _ => return None,
    };
    (rest.len() >= len).then(|| (tag, &rest[..len], &rest[len..]))
}

/// The SEC1 form of a P-256 PKCS#8 key, with the curve named, as Go's parser demands.
pub(crate) fn sec1_from_pkcs8(pkcs8: &[u8], public_point: &[u8]) -> Option<Vec<u8>> {
    let (SEQUENCE, body, _) = take(pkcs8)? else { return None };
    let (INTEGER, _, rest) = take(body)? else { return None };
    let (SEQUENCE, _, rest) = take(rest)? else { return None };
    let (OCTET_STRING, inner, _) = take(rest)? else { return None };
    let (SEQUENCE, inner, _) = take(inner)? else { return None };
    let (INTEGER, _, rest) = take(inner)? else { return None };
    let (OCTET_STRING, secret, _) = take(rest)? else { return None };
    let mut bits = vec![0];
    bits.extend_from_slice(public_point);
    let fields = [
        wrap(INTEGER, &[1]),
        wrap(OCTET_STRING, secret),
        wrap(PARAMETERS, &P256_OID),
        wrap(PUBLIC_KEY, &wrap(BIT_STRING, &bits)),
    ];
    Some(wrap(SEQUENCE, &fields.concat()))
}

/// The PKCS#8 form of a P-256 key given as SEC1; PKCS#8 input is returned as it is.
pub(crate) fn pkcs8_from_any(key: &[u8]) -> Option<Vec<u8>> {
    let (SEQUENCE, body, _) = take(key)? else { return None };
    let (INTEGER, version, rest) = take(body)? else { return None };
    match (version, take(rest)?) {
        ([0], (SEQUENCE, _, _)) => Some(key.to_vec()),
        ([1], (OCTET_STRING, _, _)) => {
            let fields = [wrap(INTEGER, &[0]), P256_ALGORITHM.to_vec(), wrap(OCTET_STRING, key)];
            Some(wrap(SEQUENCE, &fields.concat()))
        }
        _ => None,
    }
}
