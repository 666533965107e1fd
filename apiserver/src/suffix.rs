//! The random end of a name the server makes up.

use rand::RngExt as _;

/// Five letters and digits that spell no words, as Kubernetes draws them.
pub(crate) fn draw() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = rand::rng();
    (0..5).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}
