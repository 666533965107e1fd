//! One question to a container: a command, an HTTP request, a TCP connection, a pause. Probes and hooks ask alike.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::http;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Good,
    Bad,
    /// It could not be asked; that says nothing about the container.
    Unknown,
}

/// What is asked, resolved.
#[derive(Clone, Debug)]
pub struct Target {
    question: Question,
    timeout: Duration,
}

#[derive(Clone, Debug)]
enum Question {
    Exec { container: String, command: Vec<String> },
    Http(http::Request),
    Tcp { host: String, port: u16 },
    Sleep(Duration),
    Nothing,
}

fn port(written: &IntOrString, container: &Container) -> Option<u16> {
    match written {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
            named.and_then(|port| u16::try_from(port.container_port).ok()).or_else(|| name.parse().ok())
        }
    }
}

fn http_question(get: &HTTPGetAction, container: &Container, pod_ip: &str) -> Question {
    let Some(port) = port(&get.port, container) else { return Question::Nothing };
    let host = get.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(pod_ip);
    let headers = get.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone()));
    Question::Http(http::Request {
        tls: get.scheme.as_deref() == Some("HTTPS"),
        host: host.to_owned(),
        port,
        path: get.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned()),
        headers: headers.collect(),
    })
}

impl Target {
    pub fn of_probe(
        probe: &Probe,
        container: &Container,
        id: &str,
        pod_ip: &str,
        timeout: Duration,
    ) -> Target {
        let question = if let Some(exec) = &probe.exec {
            let command = exec.command.clone().unwrap_or_default();
            Question::Exec { container: id.to_owned(), command }
        } else if let Some(get) = &probe.http_get {
            http_question(get, container, pod_ip)
        } else if let Some(tcp) = &probe.tcp_socket {
            let host = tcp.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(pod_ip).to_owned();
            port(&tcp.port, container).map_or(Question::Nothing, |port| Question::Tcp { host, port })
        } else {
            Question::Nothing
        };
        Target { question, timeout }
    }

    pub fn of_hook(
        hook: &LifecycleHandler,
        container: &Container,
        id: &str,
        pod_ip: &str,
        timeout: Duration,
    ) -> Target {
        let question = if let Some(exec) = &hook.exec {
            let command = exec.command.clone().unwrap_or_default();
            Question::Exec { container: id.to_owned(), command }
        } else if let Some(get) = &hook.http_get {
            http_question(get, container, pod_ip)
        } else if let Some(sleep) = &hook.sleep {
            Question::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0)))
        } else {
            Question::Nothing
        };
        Target { question, timeout }
    }

    /// Asks once, within the timeout.
    pub async fn ask(&self, runtime: &cri::Runtime) -> Outcome {
        match &self.question {
            Question::Exec { container, command } => {
                match runtime.exec_sync(container, command.clone(), self.timeout).await {
                    Ok(answer) if answer.exit_code == 0 => Outcome::Good,
                    Ok(_) => Outcome::Bad,
                    Err(error) if error.is_timeout() => Outcome::Bad,
                    Err(_) => Outcome::Unknown,
                }
            }
            Question::Http(request) => self.within(request.get()).await,
            Question::Tcp { host, port } => {
                let connect = async { tokio::net::TcpStream::connect((host.as_str(), *port)).await.is_ok() };
                self.within(connect).await
            }
            Question::Sleep(time) => {
                tokio::time::sleep((*time).min(self.timeout)).await;
                Outcome::Good
            }
            Question::Nothing => Outcome::Unknown,
        }
    }

    async fn within(&self, question: impl Future<Output = bool>) -> Outcome {
        match tokio::time::timeout(self.timeout, question).await {
            Ok(true) => Outcome::Good,
            _ => Outcome::Bad,
        }
    }
}
