//! One question to a container: a command, an HTTP request, a TCP connection, a pause. Probes and hooks ask alike.

use futures_util::future::BoxFuture;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{grpc, http};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    Good,
    Bad,
    /// It could not be asked; that says nothing about the container.
    Unknown,
}

/// An outcome and, if it is bad, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub outcome: ProbeOutcome,
    pub text: String,
}

impl Answer {
    fn good() -> Answer {
        Answer { outcome: ProbeOutcome::Good, text: String::new() }
    }

    fn bad(text: impl Into<String>) -> Answer {
        Answer { outcome: ProbeOutcome::Bad, text: text.into() }
    }

    fn unknown(text: impl Into<String>) -> Answer {
        Answer { outcome: ProbeOutcome::Unknown, text: text.into() }
    }
}

/// How much of what a command says is told in events.
const OUTPUT_LIMIT: usize = 512;

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
    Grpc { host: String, port: u16, service: String },
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
        } else if let Some(grpc) = &probe.grpc {
            let service = grpc.service.clone().unwrap_or_default();
            let host = pod_ip.to_owned();
            let port = u16::try_from(grpc.port);
            port.map_or(Question::Nothing, |port| Question::Grpc { host, port, service })
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
    pub fn ask<'a>(&'a self, runtime: &'a cri::Runtime) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            match &self.question {
                Question::Exec { container, command } => {
                    match runtime.exec_sync(container, command.clone(), self.timeout).await {
                        Ok(answer) if answer.exit_code == 0 => Answer::good(),
                        Ok(answer) => Answer::bad(said(&answer.stdout, &answer.stderr)),
                        Err(error) if error.is_timeout() => {
                            let seconds = self.timeout.as_secs();
                            Answer::bad(format!("command timed out after {seconds}s"))
                        }
                        Err(error) => Answer::unknown(error.reason()),
                    }
                }
                Question::Http(request) => self.within(request.get()).await,
                Question::Tcp { host, port } => {
                    let connect =
                        async { tokio::net::TcpStream::connect((host.as_str(), *port)).await.map(|_| ()) };
                    self.within(connect).await
                }
                Question::Grpc { host, port, service } => {
                    self.within(grpc::check(host, *port, service, self.timeout)).await
                }
                Question::Sleep(time) => {
                    tokio::time::sleep((*time).min(self.timeout)).await;
                    Answer::good()
                }
                Question::Nothing => Answer::unknown("there is nothing to ask"),
            }
        })
    }

    async fn within<E: std::fmt::Display>(&self, question: impl Future<Output = Result<(), E>>) -> Answer {
        match tokio::time::timeout(self.timeout, question).await {
            Ok(Ok(())) => Answer::good(),
            Ok(Err(error)) => Answer::bad(error.to_string()),
            Err(_) => Answer::bad(format!("no answer within {}s", self.timeout.as_secs())),
        }
    }
}

/// The beginning of what a command said.
fn said(stdout: &[u8], stderr: &[u8]) -> String {
    let start =
        |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(OUTPUT_LIMIT)]).trim().to_owned();
    [start(stdout), start(stderr)].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Answers one request with each text, then no more.
    async fn server(answers: &'static [&'static str]) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    async fn ask(probe: serde_json::Value) -> Answer {
        let probe: Probe = serde_json::from_value(probe).unwrap();
        let container = Container::default();
        let target = Target::of_probe(&probe, &container, "id", "127.0.0.1", Duration::from_secs(5));
        target.ask(&cri::Runtime::new("/nowhere.sock").unwrap()).await
    }

    #[tokio::test]
    async fn http_redirects_lead_to_the_answer_that_counts() {
        let answers = &[
            "HTTP/1.1 302 x\r\nlocation: /b\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n",
        ];
        let port = server(answers).await;
        let answer = ask(serde_json::json!({"httpGet": {"port": port}})).await;
        assert_eq!(answer, Answer::bad("HTTP probe failed with statuscode: 500"));
        let port = server(&["HTTP/1.1 204 x\r\n\r\n"]).await;
        assert_eq!(ask(serde_json::json!({"httpGet": {"port": port}})).await, Answer::good());
    }

    #[tokio::test]
    async fn a_port_nobody_listens_on_is_a_bad_answer_with_its_reason() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        for kind in ["tcpSocket", "grpc"] {
            let answer = ask(serde_json::json!({ kind: {"port": port} })).await;
            assert_eq!(answer.outcome, ProbeOutcome::Bad, "{kind}");
            assert!(!answer.text.is_empty(), "{kind}");
        }
        assert_eq!(ask(serde_json::json!({"exec": {"command": ["x"]}})).await.outcome, ProbeOutcome::Unknown);
    }
}
