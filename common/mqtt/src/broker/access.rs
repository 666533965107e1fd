//! Who may use the broker, and which topics: Mosquitto's password and ACL files, so that its tools write them.
//!
//! Source: mosquitto_passwd(1), mosquitto.conf(5) `password_file` and `acl_file`. Differences: everybody logs in where
//! there are users, so rules for nobody are refused; of the forms of passwords only PBKDF2 (`$7$`) is read.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA512};
use tokio::sync::Semaphore;

use crate::filter;

/// Most rounds of a password that are computed: a tenth of a second of a slow processor.
const MOST_ROUNDS: u32 = 100_000;
/// Users and rules of a file.
const MOST_LINES: usize = 10_000;
/// Passwords computed at once: a crowd of clients that log in takes one processor at most.
const AT_ONCE: usize = 1;

/// Why a file is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    #[error("line {0} is not NAME:HASH as mosquitto_passwd writes it")]
    NotAUser(usize),
    #[error(
        "line {0}: the password is not hashed with PBKDF2 ($7$) of at most {MOST_ROUNDS} rounds; write it with mosquitto_passwd of version 2"
    )]
    NotHashed(usize),
    #[error("line {0}: the user is named twice")]
    Twice(usize),
    #[error("no user in it: nobody could log in")]
    Nobody,
    #[error(
        "line {0} is none of: user NAME, topic [read|write|readwrite|deny] FILTER, pattern [read|write|readwrite|deny] FILTER"
    )]
    NotARule(usize),
    #[error("line {0}: a topic before the first user is for clients without a name, and there are none")]
    NobodysRule(usize),
    #[error("line {0}: the user has no password")]
    Unknown(usize),
    #[error("more than {MOST_LINES} lines")]
    TooLong,
}

/// Users with their passwords and rights. Neither passwords nor their hashes can be printed.
pub struct Users {
    hashes: BTreeMap<String, Hash>,
    /// `None`: whoever is let in may use every topic.
    rules: Option<Rules>,
    turns: Semaphore,
}

struct Hash {
    rounds: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

#[derive(Default)]
struct Rules {
    of_users: BTreeMap<String, Vec<Rule>>,
    /// For everybody; `%u` and `%c` stand for the user and the client.
    patterns: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    read: bool,
    write: bool,
    /// True: forbidden, whatever else allows it.
    deny: bool,
    filter: String,
}

/// A client's user, and what it may do. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub name: Arc<str>,
    /// `None`: everything.
    rules: Option<Arc<[Rule]>>,
}

impl Users {
    /// Reads a password file, and an ACL file if there is one.
    ///
    /// # Errors
    /// `Err((true, ..))` is about the ACL file, `Err((false, ..))` about the passwords.
    pub fn read(passwords: &str, acl: Option<&str>) -> Result<Users, (bool, AccessError)> {
        let hashes = read_passwords(passwords).map_err(|error| (false, error))?;
        let rules = acl.map(|text| read_rules(text, &hashes)).transpose().map_err(|error| (true, error))?;
        Ok(Users { hashes, rules, turns: Semaphore::new(AT_ONCE) })
    }

    /// The user, if the password is right. Who does not exist takes as long as who does.
    pub(super) async fn admit(self: &Arc<Self>, name: &str, password: &str, client: &str) -> Option<User> {
        let _turn = self.turns.acquire().await;
        let (users, given) = (self.clone(), (name.to_owned(), password.to_owned()));
        let is_right = tokio::task::spawn_blocking(move || {
            let (name, password) = given;
            // Nobody's hash is that of no password.
            users.hashes.get(&name).unwrap_or(nobodys()).is_of(&password)
        });
        let is_right = is_right.await.unwrap_or(false);
        is_right.then(|| User {
            name: name.into(),
            rules: self.rules.as_ref().map(|rules| rules.of(name, client)),
        })
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let has_rules = self.rules.is_some();
        formatter.debug_struct("Users").field("count", &self.hashes.len()).field("rules", &has_rules).finish()
    }
}

impl Hash {
    fn is_of(&self, password: &str) -> bool {
        pbkdf2::verify(PBKDF2_HMAC_SHA512, self.rounds, &self.salt, password.as_bytes(), &self.hash).is_ok()
    }

    /// `$7$ROUNDS$SALT$HASH`, both in base64.
    fn parse(text: &str) -> Option<Hash> {
        let mut parts = text.strip_prefix("$7$")?.split('$');
        let rounds: NonZeroU32 = parts.next()?.parse().ok()?;
        let (salt, hash) = (STANDARD.decode(parts.next()?).ok()?, STANDARD.decode(parts.next()?).ok()?);
        let is_whole = parts.next().is_none() && !salt.is_empty() && hash.len() == 64;
        (is_whole && rounds.get() <= MOST_ROUNDS).then_some(Hash { rounds, salt, hash })
    }
}

/// What the password of an unknown user is compared with: mosquitto_passwd's usual cost.
fn nobodys() -> &'static Hash {
    static NOBODY: OnceLock<Hash> = OnceLock::new();
    NOBODY.get_or_init(|| Hash {
        rounds: NonZeroU32::MIN.saturating_add(100),
        salt: vec![0; 12],
        hash: vec![0; 64],
    })
}

/// Lines with their numbers, without comments and empty ones.
fn lines(text: &str) -> Result<impl Iterator<Item = (usize, &str)>, AccessError> {
    if text.lines().count() > MOST_LINES {
        return Err(AccessError::TooLong);
    }
    let numbered = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    Ok(numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')))
}

fn read_passwords(text: &str) -> Result<BTreeMap<String, Hash>, AccessError> {
    let mut hashes = BTreeMap::new();
    for (number, line) in lines(text)? {
        let (name, hash) = line.split_once(':').ok_or(AccessError::NotAUser(number))?;
        if name.is_empty() {
            return Err(AccessError::NotAUser(number));
        }
        let hash = Hash::parse(hash).ok_or(AccessError::NotHashed(number))?;
        if hashes.insert(name.to_owned(), hash).is_some() {
            return Err(AccessError::Twice(number));
        }
    }
    if hashes.is_empty() { Err(AccessError::Nobody) } else { Ok(hashes) }
}

fn read_rules(text: &str, users: &BTreeMap<String, Hash>) -> Result<Rules, AccessError> {
    let mut rules = Rules::default();
    let mut user = None;
    for (number, line) in lines(text)? {
        let (word, rest) = line.split_once(char::is_whitespace).ok_or(AccessError::NotARule(number))?;
        let rest = rest.trim();
        match word {
            "user" if !users.contains_key(rest) => return Err(AccessError::Unknown(number)),
            "user" => user = Some(rest.to_owned()),
            "topic" => {
                let rule = Rule::parse(rest).ok_or(AccessError::NotARule(number))?;
                let user = user.clone().ok_or(AccessError::NobodysRule(number))?;
                rules.of_users.entry(user).or_default().push(rule);
            }
            "pattern" => rules.patterns.push(Rule::parse(rest).ok_or(AccessError::NotARule(number))?),
            _ => return Err(AccessError::NotARule(number)),
        }
    }
    Ok(rules)
}

impl Rule {
    /// `[read|write|readwrite|deny] FILTER`; without a word both are allowed.
    fn parse(text: &str) -> Option<Rule> {
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let (read, write, deny, filter) = match word {
            "read" => (true, false, false, rest),
            "write" => (false, true, false, rest),
            "readwrite" => (true, true, false, rest),
            "deny" => (true, true, true, rest),
            _ => (true, true, false, text),
        };
        let filter = filter.trim().to_owned();
        filter::is_filter(&filter).then_some(Rule { read, write, deny, filter })
    }
}

impl Rules {
    fn of(&self, user: &str, client: &str) -> Arc<[Rule]> {
        // A name with a wildcard would be given more than its own.
        let is_plain = |text: &str| !text.contains(['+', '#', '/']);
        let patterns = self.patterns.iter().filter(|_| is_plain(user) && is_plain(client)).map(|rule| {
            let filter = rule.filter.replace("%u", user).replace("%c", client);
            Rule { filter, ..rule.clone() }
        });
        self.of_users.get(user).into_iter().flatten().cloned().chain(patterns).collect()
    }
}

impl User {
    pub(super) fn may_read(&self, topic: &str) -> bool {
        self.may(topic, |rule| rule.read)
    }

    pub(super) fn may_write(&self, topic: &str) -> bool {
        self.may(topic, |rule| rule.write)
    }

    fn may(&self, topic: &str, concerns: impl Fn(&Rule) -> bool) -> bool {
        let Some(rules) = &self.rules else { return true };
        let mut allowed = false;
        for rule in rules.iter().filter(|rule| concerns(rule) && filter::matches(&rule.filter, topic)) {
            if rule.deny {
                return false;
            }
            allowed = true;
        }
        allowed
    }
}

#[cfg(test)]
impl User {
    pub(super) fn named(name: &str) -> User {
        User { name: name.into(), rules: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `password`, hashed in the form of mosquitto_passwd.
    fn line(name: &str, password: &str) -> String {
        let (rounds, salt, mut hash) = (NonZeroU32::new(101).unwrap(), b"twelve bytes", [0; 64]);
        pbkdf2::derive(PBKDF2_HMAC_SHA512, rounds, salt, password.as_bytes(), &mut hash);
        format!("{name}:$7$101${}${}\n", STANDARD.encode(salt), STANDARD.encode(hash))
    }

    #[tokio::test]
    async fn only_the_right_password_is_let_in_and_nothing_of_it_is_printed() {
        let text = format!("# people\n\n{}{}", line("app", "s3cret"), line("other", ""));
        let users = Arc::new(Users::read(&text, None).unwrap());
        assert!(users.admit("app", "s3cret", "c").await.unwrap().may_write("anything"));
        for (name, password) in [("app", "s3cres"), ("app", ""), ("", "s3cret"), ("nobody", "s3cret")] {
            assert!(users.admit(name, password, "c").await.is_none(), "{name}/{password}");
        }
        let printed = format!("{users:?}");
        assert!(!printed.contains("101") && !printed.contains("s3cret"), "{printed}");
    }

    #[test]
    fn wrong_files_are_refused_by_line() {
        let good = line("app", "x");
        let passwords = |text: &str| Users::read(text, None).unwrap_err();
        assert_eq!(passwords(""), (false, AccessError::Nobody));
        assert_eq!(passwords("app"), (false, AccessError::NotAUser(1)));
        assert_eq!(passwords("\napp:s3cret"), (false, AccessError::NotHashed(2)));
        assert_eq!(passwords(&format!("{good}{good}")), (false, AccessError::Twice(2)));
        let slow = good.replace("$101$", "$4000000000$");
        assert_eq!(passwords(&slow), (false, AccessError::NotHashed(1)));
        let rules = |text: &str| Users::read(&good, Some(text)).unwrap_err();
        assert_eq!(rules("user nobody"), (true, AccessError::Unknown(1)));
        assert_eq!(rules("topic read a"), (true, AccessError::NobodysRule(1)));
        assert_eq!(rules("user app\ntopic read a/#/b"), (true, AccessError::NotARule(2)));
        assert_eq!(rules("allow all"), (true, AccessError::NotARule(1)));
    }

    #[tokio::test]
    async fn rules_are_those_of_mosquitto() {
        let acl = "user app\ntopic read a/#\ntopic write b\ntopic c/+\ntopic deny a/secret\n\
                   pattern write %u/%c/up\npattern deny a/never\n";
        let text = format!("{}{}", line("app", "x"), line("bare", "x"));
        let users = Arc::new(Users::read(&text, Some(acl)).unwrap());
        let app = users.admit("app", "x", "c1").await.unwrap();
        assert!(app.may_read("a/b") && !app.may_write("a/b") && !app.may_read("a/secret"));
        assert!(app.may_write("b") && !app.may_read("b") && app.may_read("c/d") && app.may_write("c/d"));
        assert!(app.may_write("app/c1/up") && !app.may_write("app/c2/up") && !app.may_read("a/never"));
        let greedy = users.admit("app", "x", "#").await.unwrap();
        assert!(!greedy.may_write("app/c2/up"));
        let bare = users.admit("bare", "x", "c").await.unwrap();
        assert!(bare.may_write("bare/c/up") && !bare.may_read("a/b"));
    }
}
