//! One stream: bytes of a socket or pipe to frames, and back.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use native::frames::StreamFrame;
use native::frames::stream_frame::What;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::credit::{Credit, cost};
use crate::pack::{Packer, SLACK, Unpacker};
use crate::{CHUNK, WINDOW};

/// What came for a stream.
pub(crate) enum Arrived {
    Data(Vec<u8>),
    /// Compressed.
    Packed(Vec<u8>),
    End,
    /// The stream is over both ways.
    Reset,
}

/// What a relay tells its session.
pub(crate) enum FromRelay {
    Frame(StreamFrame),
    /// The relay ended.
    Over(u64),
}

/// How what came for a stream ended.
enum Heard {
    End,
    Reset,
    /// The stream takes no more.
    Refused,
}

impl Heard {
    /// Who takes nothing and has said all is gone: the other end has to hear of it, behind what was said.
    fn after_all_was_said(self) -> io::Result<()> {
        match self {
            Heard::Refused => Err(io::ErrorKind::BrokenPipe.into()),
            Heard::End | Heard::Reset => Ok(()),
        }
    }
}

/// Credit goes back when so much was worked off.
const GIVE_BACK: usize = WINDOW / 2;

pub(crate) struct Relay {
    pub id: u64,
    pub inbox: mpsc::Receiver<Arrived>,
    pub frames: mpsc::Sender<FromRelay>,
    pub credit: Arc<Credit>,
    /// Credit that was given back and that the session has not noted.
    pub given_back: Arc<AtomicUsize>,
    pub over: CancellationToken,
}

/// The session is over.
struct Gone;

impl Relay {
    /// Runs until both ways have ended, one fails, or the other end or the session ends the stream.
    pub(crate) async fn run<S: AsyncRead + AsyncWrite>(self, connect: impl Future<Output = io::Result<S>>) {
        let (id, over, frames) = (self.id, self.over.clone(), self.frames.clone());
        let ended = tokio::select! {
            biased;
            () = over.cancelled() => return,
            ended = self.carry(connect) => ended,
        };
        if let Ok(Err(error)) = ended {
            let _ = frames.send(FromRelay::Frame(reset(id, &error.to_string()))).await;
        }
        let _ = frames.send(FromRelay::Over(id)).await;
    }

    async fn carry<S: AsyncRead + AsyncWrite>(
        self,
        connect: impl Future<Output = io::Result<S>>,
    ) -> Result<io::Result<()>, Gone> {
        let stream = match connect.await {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(error)),
        };
        let Relay { id, mut inbox, frames, credit, given_back, .. } = self;
        let (from, mut to) = tokio::io::split(stream);
        let mut unpacker = Unpacker::default();
        let account = Account { id, given_back: &given_back, frames: &frames };
        let out = send(id, from, &credit, &frames);
        tokio::pin!(out);
        let heard = {
            let back = receive(&account, Some(&mut to), &mut inbox, &mut unpacker);
            tokio::pin!(back);
            tokio::select! {
                ended = &mut out => {
                    return match ended {
                        Ok(Ok(())) => Ok(back.await?.after_all_was_said()),
                        ended => ended,
                    };
                }
                heard = &mut back => heard?,
            }
        };
        if matches!(heard, Heard::Reset) {
            return Ok(Ok(()));
        }
        // What it still says counts; what comes for it goes nowhere.
        let rest = receive(&account, None::<&mut tokio::io::Sink>, &mut inbox, &mut unpacker);
        tokio::pin!(rest);
        tokio::select! {
            ended = &mut out => Ok(ended?.and(heard.after_all_was_said())),
            Ok(Heard::Reset) = &mut rest => Ok(Ok(())),
        }
    }
}

/// Gives credit back for what was worked off.
struct Account<'a> {
    id: u64,
    given_back: &'a AtomicUsize,
    frames: &'a mpsc::Sender<FromRelay>,
}

async fn send(
    id: u64,
    mut from: impl AsyncRead + Unpin,
    credit: &Credit,
    frames: &mpsc::Sender<FromRelay>,
) -> Result<io::Result<()>, Gone> {
    let (mut buffer, mut packer) = (vec![0; CHUNK], Packer::default());
    loop {
        let room = credit.room().await.min(CHUNK);
        // A packed piece may be a little longer than the piece: with too little credit for that it goes as it is.
        let (packs, room) = match room.checked_sub(SLACK) {
            Some(room @ 1..) => (true, room),
            _ => (false, room),
        };
        let read = match from.read(buffer.get_mut(..room).unwrap_or_default()).await {
            Ok(read) => read,
            Err(error) => return Ok(Err(error)),
        };
        let data = match buffer.get(..read) {
            Some(data) if !data.is_empty() => data,
            _ => {
                tell(frames, StreamFrame { id, what: Some(What::End(true)) }).await?;
                return Ok(Ok(()));
            }
        };
        let packed = if packs { packer.pack(data) } else { None };
        let what = packed.map_or_else(|| What::Data(data.to_vec()), What::Packed);
        credit.take(length(&what));
        tell(frames, StreamFrame { id, what: Some(what) }).await?;
    }
}

fn length(what: &What) -> usize {
    match what {
        What::Data(data) | What::Packed(data) => data.len(),
        _ => 0,
    }
}

/// Writes what comes, or with nobody to write to, forgets it.
async fn receive(
    account: &Account<'_>,
    mut to: Option<&mut (impl AsyncWrite + Unpin)>,
    inbox: &mut mpsc::Receiver<Arrived>,
    unpacker: &mut Unpacker,
) -> Result<Heard, Gone> {
    let mut worked_off = 0;
    loop {
        let (data, cost) = match inbox.recv().await {
            Some(Arrived::Data(data)) => {
                let cost = cost(&data);
                (data, cost)
            }
            Some(Arrived::Packed(packed)) => match unpacker.unpack(&packed) {
                Ok(data) => (data, cost(&packed)),
                // Whoever packs like this is not heard any more.
                Err(_) => return Ok(Heard::Refused),
            },
            Some(Arrived::Reset) => return Ok(Heard::Reset),
            Some(Arrived::End) | None => break,
        };
        if let Some(to) = &mut to
            && write(*to, &data).await.is_err()
        {
            return Ok(Heard::Refused);
        }
        worked_off += cost;
        if worked_off >= GIVE_BACK {
            account.given_back.fetch_add(worked_off, Ordering::Relaxed);
            tell(account.frames, credit_frame(account.id, worked_off)).await?;
            worked_off = 0;
        }
    }
    if let Some(to) = to {
        // It may be gone.
        let _ = to.shutdown().await;
    }
    Ok(Heard::End)
}

async fn write(to: &mut (impl AsyncWrite + Unpin), data: &[u8]) -> io::Result<()> {
    to.write_all(data).await?;
    to.flush().await
}

async fn tell(frames: &mpsc::Sender<FromRelay>, frame: StreamFrame) -> Result<(), Gone> {
    frames.send(FromRelay::Frame(frame)).await.map_err(|_| Gone)
}

pub(crate) fn credit_frame(id: u64, bytes: usize) -> StreamFrame {
    StreamFrame { id, what: Some(What::Credit(bytes as u64)) }
}

/// The stream is over, and why.
pub(crate) fn reset(id: u64, why: &str) -> StreamFrame {
    let why = why.chars().take(256).collect();
    StreamFrame { id, what: Some(What::Reset(why)) }
}
