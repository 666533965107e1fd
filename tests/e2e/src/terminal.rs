//! A terminal that a test sits at: what is typed goes to a program, which is told of the terminal's size.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use harness::wait::{self, PATIENCE};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A terminal and the program that runs at it. Both end with it.
pub struct Terminal {
    keys: File,
    child: Child,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    /// Runs a command at a new terminal of so many rows and columns; the terminal is the one that controls it, so that the command
    /// is told of each change of size.
    ///
    /// # Errors
    /// There is no terminal, or the command does not start.
    pub fn run(command: &Command, size: [u16; 2]) -> Result<Terminal> {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).context("opening a terminal")?;
        grantpt(&near)?;
        unlockpt(&near)?;
        let name = ptsname(&near, Vec::new())?;
        let far = File::options().read(true).write(true).open(name.to_str()?)?;
        resize(&near, size)?;
        let mut controlled = Command::new("setsid");
        controlled.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => controlled.env(name, value),
                None => controlled.env_remove(name),
            };
        }
        controlled.stdin(far.try_clone()?).stdout(far.try_clone()?).stderr(far);
        let child = controlled.spawn().context("starting a command at a terminal")?;
        let (keys, mut screen) = (File::from(near.try_clone()?), File::from(near));
        let shown = Arc::new(Mutex::new(String::new()));
        let seen = shown.clone();
        // Ends when the command and all it started have closed the terminal.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                seen.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
        Ok(Terminal { keys, child, shown })
    }

    /// # Errors
    /// The terminal is closed.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        Ok(writeln!(self.keys, "{line}")?)
    }

    /// # Errors
    /// The terminal is closed.
    pub fn resize(&self, size: [u16; 2]) -> Result<()> {
        resize(&self.keys, size)
    }

    /// All that was shown.
    pub fn shown(&self) -> String {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until this is shown.
    ///
    /// # Errors
    /// It is not in time: what was shown instead.
    pub fn wait_for(&self, text: &str) -> Result<()> {
        let waited = wait::for_true(&format!("{text:?} on the terminal"), PATIENCE, || {
            Ok(self.shown().contains(text))
        });
        waited.with_context(|| format!("shown: {:?}", self.shown()))
    }

    /// Waits for the end of the program.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn end(&mut self) -> Result<ExitStatus> {
        wait::until("the program at the terminal ends", PATIENCE, || Ok(self.child.try_wait()?))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(terminal: &impl rustix::fd::AsFd, [rows, columns]: [u16; 2]) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).context("setting the size of a terminal")
}
