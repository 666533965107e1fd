//! Log lines on standard error; level from `CAUSEWAY_LOG` (tracing filter syntax), default `info`.

use tracing_subscriber::EnvFilter;

/// Installs the subscriber. Call once, in main. `verbose` is the default when the variable is unset.
pub fn init(verbose: bool) {
    let default = if verbose { "debug,hyper=info,h2=info,tower=info,rustls=info" } else { "info" };
    let filter = EnvFilter::try_from_env("CAUSEWAY_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // An error means that a test installed one already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .try_init();
}
