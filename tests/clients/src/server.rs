//! The embedded API server as a program, which can be killed and started again; or a cluster that is there
//! ([`harness::given`]), which shows that the tests ask for nothing that Kubernetes does not do.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use harness::process::Process;
use harness::programs::Programs;
use harness::relay::Relay;
use harness::wait::{self, PATIENCE};
use harness::{given, ports};

use crate::informers::Ground;

/// Whatever serves the tests; what was started ends with it.
pub struct Cluster {
    pub kubeconfig: PathBuf,
    _own: Option<Server>,
}

impl Cluster {
    /// The cluster that is given, else a server of one's own.
    ///
    /// # Errors
    /// The server does not serve.
    pub fn find() -> Result<Cluster> {
        if let Some(kubeconfig) = given::kubeconfig() {
            return Ok(Cluster { kubeconfig, _own: None });
        }
        let server = Server::start(&Programs::find()?)?;
        Ok(Cluster { kubeconfig: server.kubeconfig.clone(), _own: Some(server) })
    }
}

pub struct Server {
    pub kubeconfig: PathBuf,
    pub address: SocketAddr,
    folder: tempfile::TempDir,
    program: PathBuf,
    process: Option<Process>,
}

impl Server {
    /// A new server with an empty database, and all controllers.
    ///
    /// # Errors
    /// It does not serve.
    pub fn start(programs: &Programs) -> Result<Server> {
        let folder = tempfile::Builder::new().prefix("causeway-clients-").tempdir()?;
        let kubeconfig = folder.path().join("admin.kubeconfig");
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()?));
        let program = programs.path("apiserver");
        let mut server = Server { kubeconfig, address, folder, program, process: None };
        server.run()?;
        Ok(server)
    }

    /// Starts it where it was.
    ///
    /// # Errors
    /// It does not serve.
    pub fn run(&mut self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command
            .arg("--data-dir")
            .arg(self.folder.path().join("data"))
            .args(["--listen", &self.address.to_string(), "--admin-kubeconfig"])
            .arg(&self.kubeconfig);
        let mut process = Process::start(command, "apiserver", &self.folder.path().join("apiserver.log"))?;
        wait::for_true("the API server", PATIENCE, || {
            process.check()?;
            Ok(self.kubeconfig.is_file() && std::net::TcpStream::connect(self.address).is_ok())
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it as a power cut does.
    ///
    /// # Errors
    /// It could not be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), Process::kill9)
    }
}

/// An API server behind a relay: every third interruption is a kill, the others cut the clients' connections.
pub struct Interrupted {
    server: Server,
    relay: Relay,
    kubeconfig: PathBuf,
}

impl Interrupted {
    /// # Errors
    /// The server does not serve.
    pub fn start(programs: &Programs) -> Result<Interrupted> {
        let server = Server::start(programs)?;
        let relay = Relay::start(server.address)?;
        let kubeconfig = server.kubeconfig.with_file_name("through-relay.kubeconfig");
        let text = std::fs::read_to_string(&server.kubeconfig)?;
        std::fs::write(&kubeconfig, text.replace(&server.address.to_string(), &relay.address().to_string()))?;
        Ok(Interrupted { server, relay, kubeconfig })
    }

    pub fn is_kill(at: usize) -> bool {
        at % 3 == 2
    }
}

impl Ground for Interrupted {
    fn administrator(&self) -> &Path {
        &self.server.kubeconfig
    }

    fn clients(&self) -> &Path {
        &self.kubeconfig
    }

    fn interrupt(&mut self, at: usize) -> Result<bool> {
        match Interrupted::is_kill(at) {
            true => self.server.kill().map(|()| false),
            false => {
                self.relay.cut();
                Ok(true)
            }
        }
    }

    fn resume(&mut self, at: usize) -> Result<()> {
        match Interrupted::is_kill(at) {
            true => self.server.run(),
            false => {
                self.relay.heal();
                Ok(())
            }
        }
    }
}
