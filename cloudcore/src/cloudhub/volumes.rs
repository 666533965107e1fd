//! Storage calls of a CSI driver in the cloud: from its socket to a node, and the answer back (docs/protocol/edge-runtime.md 9.5,
//! docs/protocol/transport.md 10). One envelope per connection, each way.

use std::collections::HashMap;
use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::errors::describe;
use listener::{Client, Place, Terms};
use message::{Json, Message, MessageId, NodeName, ObjectKey, Upstream, VolumeCall};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::desired::{NodeSet, Sets, Source};

/// How long a node may take: creating a volume may format a disk.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the driver may take to write its call.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// Largest call, in bytes; KubeEdge reads 10 KiB.
const LARGEST: usize = 64 * 1024;
/// 64 calls at once; a driver that did not write its own gives way.
const TERMS: Terms = Terms {
    what: "the socket for storage calls",
    places: 64,
    first_byte: READ_WITHIN,
    drain: Duration::from_secs(1),
};

#[derive(Debug, thiserror::Error)]
#[error("binding the socket for storage calls {path}")]
pub struct SocketError {
    path: PathBuf,
    source: std::io::Error,
}

/// Why a call has no answer of the node.
#[derive(Debug, thiserror::Error)]
enum StorageCallError {
    #[error("reading a storage call")]
    Read(#[source] std::io::Error),
    #[error(
        "a storage call must come whole within {READ_WITHIN:?}, as one message of at most {LARGEST} bytes"
    )]
    Incomplete,
    #[error(
        "a storage call must be an envelope for node/<node>/<namespace>/volume/<volume> with a volume operation"
    )]
    NotACall,
    #[error("node {0} is not connected to this CloudCore")]
    NotConnected(NodeName),
    #[error("node {node}: {reason}")]
    Refused { node: NodeName, reason: String },
    #[error("node {0} did not answer within {PATIENCE:?}")]
    Silent(NodeName),
}

struct Waiting {
    node: NodeName,
    answer: oneshot::Sender<Result<Message, String>>,
}

/// Calls that wait for their node.
#[derive(Clone, Default)]
pub struct Volumes {
    sessions: Arc<Mutex<Sets>>,
    waiting: Arc<Mutex<HashMap<MessageId, Waiting>>>,
}

impl Volumes {
    fn lock(&self) -> MutexGuard<'_, HashMap<MessageId, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `node` answered. Other nodes' answers to this call are not listened to.
    pub fn answered(&self, node: &NodeName, of: &MessageId, answer: Message) {
        let mut waiting = self.lock();
        if waiting.get(of).is_some_and(|call| call.node == *node)
            && let Some(call) = waiting.remove(of)
        {
            let _ = call.answer.send(Ok(answer));
        }
    }

    /// The call cannot be made.
    pub fn refused(&self, id: &MessageId, reason: &str) {
        if let Some(call) = self.lock().remove(id) {
            let _ = call.answer.send(Err(reason.to_owned()));
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sets> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False if the node is not connected here.
    fn is_sent(&self, node: &NodeName, call: VolumeCall) -> bool {
        let sessions = self.sessions();
        let set = sessions.get(node.as_str());
        set.inspect(|set| set.notice(message::Downstream::Volume(call))).is_some()
    }

    async fn call(&self, asked: &Message) -> Result<Message, StorageCallError> {
        // An id of our own: drivers may repeat theirs.
        let id = MessageId::random();
        let (node, call) = VolumeCall::addressed(id.clone(), asked).ok_or(StorageCallError::NotACall)?;
        let (answer, answered) = oneshot::channel();
        self.lock().insert(id.clone(), Waiting { node: node.clone(), answer });
        if !self.is_sent(&node, call) {
            self.lock().remove(&id);
            return Err(StorageCallError::NotConnected(node));
        }
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(Ok(mut answer))) => {
                answer.header.parent_msg_id = asked.header.msg_id.clone();
                Ok(answer)
            }
            Ok(Ok(Err(reason))) => Err(StorageCallError::Refused { node, reason }),
            _ => {
                self.lock().remove(&id);
                Err(StorageCallError::Silent(node))
            }
        }
    }
}

/// The driver's door, for the same user only.
pub struct VolumeSocket {
    listener: UnixListener,
}

impl VolumeSocket {
    /// Binds under a temporary name and renames, so that a stale socket is replaced. Folder 0755 if missing, socket 0600.
    pub fn bind(path: &Path) -> Result<VolumeSocket, SocketError> {
        let bind = || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let mut temporary = path.as_os_str().to_owned();
            temporary.push(".new");
            let temporary = PathBuf::from(temporary);
            let _ = std::fs::remove_file(&temporary);
            let listener = UnixListener::bind(&temporary)?;
            std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
            std::fs::rename(&temporary, path)?;
            Ok(VolumeSocket { listener })
        };
        bind().map_err(|source| SocketError { path: path.to_owned(), source })
    }

    /// Serves until stopped; calls under way are given up then.
    pub async fn run(self, volumes: Volumes, stop: CancellationToken) -> Result<(), Infallible> {
        let given_up = stop.clone();
        let call = move |client: Client<UnixListener>| {
            let (volumes, given_up) = (volumes.clone(), given_up.clone());
            async move {
                tokio::select! {
                    _ = given_up.cancelled() => {}
                    _ = serve(client.stream, client.place, &volumes) => {}
                }
            }
        };
        listener::serve(self.listener, TERMS, stop, call).await;
        Ok(())
    }
}

async fn serve(mut stream: UnixStream, place: Place, volumes: &Volumes) {
    let asked = tokio::time::timeout(READ_WITHIN, read(&mut stream)).await;
    let answer = match asked.unwrap_or(Err(StorageCallError::Incomplete)) {
        Ok(asked) => {
            place.settle();
            volumes.call(&asked).await.unwrap_or_else(|error| failure(&error, Some(&asked)))
        }
        Err(error) => failure(&error, None),
    };
    let text = message::encode(&answer);
    // A driver that went away, or does not read, has no use for it.
    let _ = tokio::time::timeout(READ_WITHIN, stream.write_all(text.as_bytes())).await;
}

fn failure(error: &StorageCallError, asked: Option<&Message>) -> Message {
    let text = describe(error);
    tracing::warn!(error = text, "storage call failed");
    let (of, resource) =
        asked.map(|asked| (asked.header.msg_id.clone(), asked.route.resource.clone())).unwrap_or_default();
    let answer = Upstream::VolumeAnswer { of, resource, failed: true, content: Json::string(&text) };
    answer.to_message(daemon::clock::unix_ms())
}

/// Reads until the bytes are one envelope: the driver keeps its end open.
async fn read(stream: &mut UnixStream) -> Result<Message, StorageCallError> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.map_err(StorageCallError::Read)?;
        bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
        match message::decode(&bytes) {
            Ok(message) => return Ok(message),
            Err(error) if !error.may_continue() => return Err(StorageCallError::NotACall),
            Err(_) if read == 0 || bytes.len() > LARGEST => return Err(StorageCallError::Incomplete),
            Err(_) => {}
        }
    }
}

/// No objects: what it needs is the way to connected nodes.
impl Source for Volumes {
    fn subscribe(&self, node: &str, epoch: u64, set: &NodeSet) {
        self.sessions().insert(node, epoch, set);
    }

    fn unsubscribe(&self, node: &str, epoch: u64) {
        self.sessions().remove(node, epoch);
    }

    fn mark_of(&self, _: &ObjectKey) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::NodeSet;
    use message::Route;

    const CALL: &str = r#"{"header":{"msg_id":"m","timestamp":1},"route":{"source":"csidriver","group":"resource",
        "operation":"createvolume","resource":"node/e1/default/volume/v"},"content":"{}"}"#;

    struct Lab {
        volumes: Volumes,
        set: NodeSet,
        path: PathBuf,
        stop: CancellationToken,
        _folder: tempfile::TempDir,
    }

    fn lab() -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeedge/kubeedge.sock");
        let (volumes, set, stop) = (Volumes::default(), NodeSet::default(), CancellationToken::new());
        volumes.subscribe("e1", 1, &set);
        tokio::spawn(VolumeSocket::bind(&path).unwrap().run(volumes.clone(), stop.clone()));
        Lab { volumes, set, path, stop, _folder: folder }
    }

    impl Lab {
        async fn ask(&self, text: &str) -> Message {
            let mut stream = UnixStream::connect(&self.path).await.unwrap();
            let (first, rest) = text.split_at(text.len() / 2);
            stream.write_all(first.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
            // It may have been answered by now.
            let _ = stream.write_all(rest.as_bytes()).await;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            message::decode(&answer).unwrap()
        }

        /// The id under which the node was asked.
        async fn asked(&self) -> MessageId {
            loop {
                self.set.changed().await;
                if let Some(message::Downstream::Volume(call)) = self.set.take_notices().0.pop() {
                    assert_eq!(call.resource, "default/volume/v");
                    return call.id;
                }
            }
        }
    }

    fn name(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    #[tokio::test]
    async fn the_node_that_was_asked_answers_and_no_other() {
        let lab = lab();
        let mode = std::fs::metadata(&lab.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let answering = async {
            let id = lab.asked().await;
            let answer = |text| {
                let route = Route::new("cloudhub", "resource", "response", "default/volume/v");
                Message::new(route, Json::string(text), 0).answering(&id)
            };
            lab.volumes.answered(&name("e2"), &id, answer("of another"));
            lab.volumes.answered(&name("e1"), &id, answer("e30="));
        };
        let (answer, ()) = tokio::join!(lab.ask(CALL), answering);
        assert_eq!((answer.content.data().as_str(), answer.header.parent_msg_id.0.as_str()), ("e30=", "m"));
        assert!(lab.volumes.lock().is_empty());
        lab.stop.cancel();
    }

    #[tokio::test]
    async fn a_call_that_cannot_be_made_is_answered_at_once() {
        let lab = lab();
        let elsewhere = CALL.replace("node/e1/", "node/e9/");
        let other = CALL.replace("createvolume", "delete");
        for (text, reason) in [
            (elsewhere.as_str(), "not connected"),
            (other.as_str(), "volume operation"),
            ("not json at all", "envelope"),
        ] {
            let answer = lab.ask(text).await;
            assert_eq!(answer.route.operation, "error", "{reason}");
            assert!(answer.content.data().contains(reason), "{}", answer.content.data());
        }
        let mut endless = UnixStream::connect(&lab.path).await.unwrap();
        endless.write_all(b"{\"content\":\"").await.unwrap();
        while endless.write_all(&[b'x'; 4096]).await.is_ok() {}
        let refusing = async {
            let id = lab.asked().await;
            lab.volumes.refused(&id, "the node serves no storage calls");
        };
        let (answer, ()) = tokio::join!(lab.ask(CALL), refusing);
        assert_eq!(answer.content.data(), "node e1: the node serves no storage calls");
        assert!(lab.volumes.lock().is_empty());
    }
}
