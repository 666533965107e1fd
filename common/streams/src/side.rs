//! A stream that has a connection of its own beside the session, where the transport has such: the same bytes, packed where that
//! pays, without frames and credit of the session's. Each piece is behind its length (unsigned 32 bit, big endian), whose first
//! bit says that it is packed.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::CHUNK;
use crate::pack::{Packer, SLACK, Unpacker};

const PACKED: u32 = 1 << 31;

/// Carries bytes both ways between a socket or pipe and the other end of a stream, until both ways have ended.
///
/// # Errors
/// Either end broke off, or the other end sends what is no piece: it is to be told that the stream did not come to its end.
pub async fn carry<S>(
    near: S,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite,
{
    let (near_from, near_to) = tokio::io::split(near);
    let out = send(near_from, &mut to);
    tokio::pin!(out);
    let heard = {
        let back = receive(&mut from, near_to);
        tokio::pin!(back);
        tokio::select! {
            ended = &mut out => {
                ended?;
                return back.await?.after_all_was_said();
            }
            heard = &mut back => heard?,
        }
    };
    if heard == Heard::Refused {
        // What it still says counts; what comes for it goes nowhere.
        let mut nowhere = tokio::io::sink();
        tokio::select! {
            ended = &mut out => return ended.and(heard.after_all_was_said()),
            drained = tokio::io::copy(&mut from, &mut nowhere) => drop(drained?),
        }
    }
    out.await.and(heard.after_all_was_said())
}

/// How what came for the near end ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    End,
    /// The near end takes nothing any more.
    Refused,
}

impl Heard {
    /// Who takes nothing and has said all is gone: the other end has to hear of it, behind what was said.
    fn after_all_was_said(self) -> io::Result<()> {
        match self {
            Heard::Refused => Err(io::ErrorKind::BrokenPipe.into()),
            Heard::End => Ok(()),
        }
    }
}

async fn send(mut near: impl AsyncRead + Unpin, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let (mut buffer, mut packer) = (vec![0; CHUNK], Packer::default());
    loop {
        let count = near.read(&mut buffer).await?;
        let Some(data @ [_, ..]) = buffer.get(..count) else { break };
        let packed = packer.pack(data);
        let (piece, mark) = packed.as_deref().map_or((data, 0), |packed| (packed, PACKED));
        let length = u32::try_from(piece.len()).map_err(io::Error::other)?;
        to.write_all(&(length | mark).to_be_bytes()).await?;
        to.write_all(piece).await?;
        to.flush().await?;
    }
    to.shutdown().await
}

async fn receive(
    from: &mut (impl AsyncRead + Unpin),
    mut near: impl AsyncWrite + Unpin,
) -> io::Result<Heard> {
    let (mut unpacker, mut piece) = (Unpacker::default(), Vec::new());
    loop {
        let mut head = [0; 4];
        if from.read(&mut head[..1]).await? == 0 {
            break;
        }
        from.read_exact(&mut head[1..]).await?;
        let head = u32::from_be_bytes(head);
        let length = (head & !PACKED) as usize;
        if length > CHUNK + SLACK {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a piece of a stream is too long"));
        }
        piece.resize(length, 0);
        from.read_exact(&mut piece).await?;
        let unpacked = match head & PACKED {
            0 => None,
            _ => Some(unpacker.unpack(&piece)?),
        };
        let data = unpacked.as_deref().unwrap_or(&piece);
        if near.write_all(data).await.is_err() || near.flush().await.is_err() {
            return Ok(Heard::Refused);
        }
    }
    // It may be gone.
    let _ = near.shutdown().await;
    Ok(Heard::End)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two ends, and what is between them.
    fn ends() -> (tokio::io::DuplexStream, tokio::io::DuplexStream) {
        tokio::io::duplex(1024)
    }

    #[tokio::test]
    async fn bytes_and_ends_go_both_ways() {
        let (mut client, near) = ends();
        let (mut program, far) = ends();
        let (between, other) = ends();
        let ((a_from, a_to), (b_from, b_to)) = (tokio::io::split(between), tokio::io::split(other));
        let text = "a line that is like the one before\n".repeat(20_000);
        let asked = text.clone();
        let talk = async {
            client.write_all(b"say it").await.unwrap();
            client.shutdown().await.unwrap();
            let mut all = String::new();
            client.read_to_string(&mut all).await.unwrap();
            all
        };
        let serve = async {
            let mut all = Vec::new();
            program.read_to_end(&mut all).await.unwrap();
            program.write_all(asked.as_bytes()).await.unwrap();
            drop(program);
            all
        };
        let (heard, said, one, other) =
            tokio::join!(talk, serve, carry(near, a_from, a_to), carry(far, b_from, b_to));
        assert_eq!((heard == text, said.as_slice()), (true, &b"say it"[..]));
        assert!(one.is_ok() && other.is_ok());
    }

    #[tokio::test]
    async fn what_breaks_off_or_is_no_piece_is_an_error() {
        for said in [&[0, 0, 0, 9, 1][..], &[0x7f, 255, 255, 255], &[0x80, 0, 0, 4, 1, 2, 3, 4], &[0, 0]] {
            let (_client, near) = ends();
            let mut sink = tokio::io::sink();
            assert!(carry(near, said, &mut sink).await.is_err(), "{said:?}");
        }
    }

    #[tokio::test]
    async fn who_is_gone_is_told_of_although_there_is_more_to_come() {
        let (client, near) = ends();
        drop(client);
        let (mut other, from) = ends();
        other.write_all(&[0, 0, 0, 1, b'x']).await.unwrap();
        let ended = carry(near, from, &mut Vec::new()).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        drop(other);
    }
}
