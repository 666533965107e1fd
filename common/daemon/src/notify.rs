//! Telling the service manager how the program is (`sd_notify(3)`): that it has started, that its rooms move, that it
//! stops. Nothing where no manager asked for it.
//!
//! The watchdog is fed by a task of the runtime it watches, after every other thread named to it has taken a turn, and
//! only while no room is stuck: a program that hangs is not fed.

use std::convert::Infallible;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// Times the watchdog is fed within the time it waits.
const FEEDS: u32 = 3;

/// The service manager that started this program.
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Manager {
    /// By `NOTIFY_SOCKET`: a path, or `@name` of an abstract socket.
    fn of_environment() -> Option<std::io::Result<Manager>> {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
        Some(Manager::at(name.as_bytes()))
    }

    fn at(name: &[u8]) -> std::io::Result<Manager> {
        let address = match name.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not hold this program up.
        socket.set_nonblocking(true)?;
        Ok(Manager { socket, address })
    }

    fn tell(&self, state: &str) {
        if let Err(error) = self.socket.send_to_addr(state.as_bytes(), &self.address) {
            tracing::warn!(state, error = %error, "the service manager was not told");
        }
    }
}

/// How often the manager wants to hear of this process (`WATCHDOG_USEC`, `WATCHDOG_PID`); `None` if it does not.
fn watchdog(microseconds: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let is_meant = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    let wait = microseconds.filter(|_| is_meant)?.parse().ok()?;
    Some(Duration::from_micros(wait)).filter(|wait| !wait.is_zero())
}

/// Tells the service manager, until `stop`. `threads` are runtimes of this program besides the one this runs on.
///
/// # Errors
/// Never: what cannot be told to the service manager is logged.
pub async fn serve(health: Health, threads: Vec<Handle>, stop: CancellationToken) -> Result<(), Infallible> {
    let manager = match Manager::of_environment() {
        Some(Ok(manager)) => manager,
        other => {
            if let Some(Err(error)) = other {
                tracing::warn!(error = %error, "NOTIFY_SOCKET cannot be used, the service manager is told nothing");
            }
            stop.cancelled().await;
            return Ok(());
        }
    };
    let text = |name: &str| std::env::var(name).ok();
    let wait = watchdog(text("WATCHDOG_USEC").as_deref(), text("WATCHDOG_PID").as_deref());
    tell(&manager, wait, health, threads, stop).await;
    Ok(())
}

async fn tell(
    manager: &Manager,
    wait: Option<Duration>,
    health: Health,
    threads: Vec<Handle>,
    stop: CancellationToken,
) {
    manager.tell("READY=1");
    let feeding = async {
        let Some(wait) = wait else { return std::future::pending().await };
        let mut due = tokio::time::interval(wait / FEEDS);
        loop {
            due.tick().await;
            // A thread that hangs keeps this from being reached.
            for thread in &threads {
                let _ = thread.spawn(async {}).await;
            }
            match health.stuck() {
                stuck if stuck.is_empty() => manager.tell("WATCHDOG=1"),
                stuck => {
                    tracing::error!(rooms = stuck.join(", "), "rooms are stuck, the watchdog is not fed")
                }
            }
        }
    };
    tokio::select! {
        biased;
        _ = stop.cancelled() => {}
        () = feeding => {}
    }
    manager.tell("STOPPING=1");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::STUCK_AFTER;

    fn listening() -> (tempfile::TempDir, UnixDatagram, Manager) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let manager = Manager::at(path.as_os_str().as_bytes()).unwrap();
        (folder, socket, manager)
    }

    fn heard(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 64];
        let next = || {
            let count = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..count]).into_owned())
        };
        std::iter::from_fn(next).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_while_rooms_move_and_not_while_one_is_stuck() {
        let (_folder, socket, manager) = listening();
        let (health, stop) = (Health::default(), CancellationToken::new());
        let beat = health.beat("edged");
        let (seen, until) = (health.clone(), stop.clone());
        let wait = Some(Duration::from_secs(180));
        let telling = tokio::spawn(async move { tell(&manager, wait, seen, Vec::new(), until).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(heard(&socket), ["READY=1", "WATCHDOG=1"]);
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(heard(&socket), ["WATCHDOG=1"; 2]);
        let busy = beat.begin();
        tokio::time::sleep(STUCK_AFTER + Duration::from_secs(1)).await;
        heard(&socket);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(heard(&socket).is_empty(), "fed although a room is stuck");
        drop(busy);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(heard(&socket), ["WATCHDOG=1"]);
        stop.cancel();
        telling.await.unwrap();
        assert_eq!(heard(&socket), ["STOPPING=1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_hangs_keeps_the_watchdog_from_being_fed() {
        let (_folder, socket, manager) = listening();
        // Nobody drives it.
        let hanging = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (threads, stop) = (vec![hanging.handle().clone()], CancellationToken::new());
        let (wait, until) = (Some(Duration::from_secs(3)), stop.clone());
        let telling =
            tokio::spawn(async move { tell(&manager, wait, Health::default(), threads, until).await });
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(heard(&socket), ["READY=1"]);
        stop.cancel();
        telling.await.unwrap();
        hanging.shutdown_background();
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let own = std::process::id().to_string();
        assert_eq!(watchdog(Some("3000000"), Some(&own)), Some(Duration::from_secs(3)));
        assert_eq!(watchdog(Some("3000000"), None), Some(Duration::from_secs(3)));
        for (wait, pid) in [(Some("3000000"), Some("1")), (None, None), (Some("0"), None), (Some("x"), None)]
        {
            assert_eq!(watchdog(wait, pid), None);
        }
    }
}
