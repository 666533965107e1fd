//! Exit codes and the end of main.

use std::process::ExitCode;

/// What a program ends with: 0 stopped on request, 1 failed, 64 bad usage, 78 bad configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Stopped,
    Failed,
    BadUsage,
    BadConfiguration,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Exit::Stopped => 0,
            Exit::Failed => 1,
            Exit::BadUsage => 64,
            Exit::BadConfiguration => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        exit.code().into()
    }
}

/// Says why the program ends: one log line, each cause once.
pub fn report(result: anyhow::Result<()>, code_on_error: Exit) -> ExitCode {
    match result {
        Ok(()) => Exit::Stopped.into(),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "stopped by an error");
            code_on_error.into()
        }
    }
}
