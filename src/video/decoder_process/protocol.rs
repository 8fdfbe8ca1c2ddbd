//! The protocol between a worker's process and its decoder process: one request, then one reply, as JSON in one
//! packet of a Unix socket. A file is sent with a packet as a descriptor.

use super::sandbox::SandboxReport;
use crate::dataset::clip_note::ClipNote;
use crate::frame::SourceError;
use crate::video::clip::{ClipFacts, VideoOptions};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Largest packet, in bytes.
const PACKET_BYTES_MAX: usize = 64 << 10;
/// Maximum number of times in a packet, each of up to 50 bytes.
pub(super) const TIMES_MAX: usize = 1024;

/// Requests to the decoder process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum DecoderRequest {
    /// Enter the sandbox. Sent first and once, with the memory of the frames.
    Start {
        /// Maximum resident memory of the decoder process, in bytes.
        memory_bytes: u64,
        /// Whether decoders may open devices.
        needs_devices: bool,
    },
    /// Open the clip in the file that is sent along.
    Open(VideoOptions),
    /// Step this many frames ahead and convert the frame there into the shared memory.
    Advance(u64),
    /// Step over this many frames and report their times, without converting them.
    Times(usize),
    /// Report the facts of the clip.
    Facts,
    /// Close the clip.
    Close,
}

/// The answer to a [`DecoderRequest`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum DecoderReply {
    /// Reply to [`DecoderRequest::Start`].
    Started(SandboxReport),
    /// Reply to [`DecoderRequest::Open`] and [`DecoderRequest::Facts`].
    Facts(ClipFacts),
    /// Reply to [`DecoderRequest::Advance`]: the frame is in the shared memory.
    Frame {
        width: usize,
        height: usize,
        /// Presentation time from the container, if any.
        time: Option<Duration>,
        /// Notes on the clip up to this frame.
        notes: BTreeSet<ClipNote>,
    },
    /// Reply to [`DecoderRequest::Advance`]: only this many frames were left.
    End(u64),
    /// Reply to [`DecoderRequest::Times`]: fewer than requested at the end.
    Times(Vec<Option<Duration>>),
    /// Reply to [`DecoderRequest::Close`]: whether the decoder has stopped.
    Closed(bool),
    /// Reply to any request.
    Failed(SourceError),
    /// The process ends, because it exceeds its memory limit.
    TooMuchMemory,
}

/// Why no message was sent or received.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChannelError {
    /// The other process has ended.
    #[error("it has ended")]
    Closed,
    /// The deadline has passed.
    #[error("it does not answer")]
    Timeout,
    /// The message is not part of the protocol.
    #[error("it sent what is no message: {0}")]
    Malformed(String),
    /// The system reports an error.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Errno> for ChannelError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::PIPE | Errno::CONNRESET => Self::Closed,
            error => Self::Io(error.into()),
        }
    }
}

/// One end of the connection.
#[derive(Debug)]
pub(super) struct Channel {
    socket: OwnedFd,
    /// Buffer for a packet, allocated when the first one is received.
    packet: Vec<u8>,
}

impl Channel {
    /// Both ends of a new connection.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None)?;
        Ok((Self::new(ours), theirs))
    }

    /// Wraps the end `socket` of a connection.
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            packet: Vec::new(),
        }
    }

    /// The same end for another thread.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        self.socket.try_clone().map(Self::new)
    }

    /// Sends `message`, with the descriptor of `file`.
    pub(super) fn send(
        &self,
        message: &impl Serialize,
        file: Option<BorrowedFd<'_>>,
    ) -> Result<(), ChannelError> {
        let packet = serde_json::to_vec(message).map_err(io::Error::from)?;
        if packet.len() > PACKET_BYTES_MAX {
            return Err(ChannelError::Malformed("it is too long".into()));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = file.as_slice();
        if !files.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(files));
        }
        let packet = [IoSlice::new(&packet)];
        sendmsg(&self.socket, &packet, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for a message until `deadline`.
    pub(super) fn receive<T: DeserializeOwned>(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<(T, Option<File>), ChannelError> {
        self.wait(deadline)?;
        self.packet.resize(PACKET_BYTES_MAX, 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut self.packet)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if received.bytes == 0 {
            return Err(ChannelError::Closed);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(ChannelError::Malformed("it is too long".into()));
        }
        let mut file = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                file = files.map(File::from).next();
            }
        }
        let message = serde_json::from_slice(&self.packet[..received.bytes])
            .map_err(|error| ChannelError::Malformed(error.to_string()))?;
        Ok((message, file))
    }

    /// Waits until there is a message, or the other end is closed.
    fn wait(&self, deadline: Option<Instant>) -> Result<(), ChannelError> {
        let Some(deadline) = deadline else {
            return Ok(());
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left.min(Duration::from_hours(1)));
            let timeout = timeout.map_err(io::Error::other)?;
            match poll(
                &mut [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)],
                Some(&timeout),
            ) {
                Ok(0) if Instant::now() >= deadline => return Err(ChannelError::Timeout),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn messages_arrive_whole_with_their_file() {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut theirs = Channel::new(theirs);
        let path = std::env::current_exe().unwrap();
        let file = File::open(path).unwrap();
        let sent = DecoderRequest::Start {
            memory_bytes: 5,
            needs_devices: true,
        };
        ours.send(&sent, Some(file.as_fd())).unwrap();
        ours.send(&DecoderRequest::Advance(2), None).unwrap();
        let (received, file) = theirs.receive::<DecoderRequest>(None).unwrap();
        assert_eq!(format!("{received:?}"), format!("{sent:?}"));
        let mut head = [0; 4];
        file.unwrap().read_exact(&mut head).unwrap();
        assert_eq!(&head, b"\x7fELF");
        let (received, file) = theirs.receive::<DecoderRequest>(None).unwrap();
        assert!(matches!(received, DecoderRequest::Advance(2)) && file.is_none());
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut theirs = Channel::new(theirs);
        let soon = || Some(Instant::now() + Duration::from_millis(20));
        let fails = |theirs: &mut Channel| theirs.receive::<DecoderRequest>(soon()).unwrap_err();
        assert!(matches!(fails(&mut theirs), ChannelError::Timeout));
        ours.send(&"Dance", None).unwrap();
        assert!(matches!(fails(&mut theirs), ChannelError::Malformed(_)));
        let long = "x".repeat(PACKET_BYTES_MAX);
        assert!(ours.send(&long, None).is_err());
        let most = DecoderReply::Times(vec![Some(Duration::MAX); TIMES_MAX]);
        ours.send(&most, None).unwrap();
        assert!(theirs.receive::<DecoderReply>(soon()).is_ok());
        drop(ours);
        assert!(matches!(fails(&mut theirs), ChannelError::Closed));
        let refused = theirs.send(&DecoderRequest::Facts, None).unwrap_err();
        assert!(matches!(refused, ChannelError::Closed));
    }
}
