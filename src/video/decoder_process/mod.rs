//! Decodes clips in a child process, so that a clip that crashes, blocks or bloats its decoder harms nothing else.
//!
//! The child is this program with the hidden subcommand [`COMMAND`]. A worker owns one and uses it for all its clips. The
//! child gets each clip as an open file and writes the requested frames into memory that both processes share. It has no
//! network, opens no other file ([`sandbox`]) and has a limit of memory ([`memory_limit`]). Every request has a deadline.
//!
//! A process that ends in a clip is replaced, and the clip is read once more from its start: the clip is at fault only if the
//! new process ends too. A decoder that hangs is at fault at once.

mod child;
mod memory_limit;
mod protocol;
mod running_child;
mod sandbox;
mod shared_frame;

pub use child::{DecoderProcessError, serve};
pub use sandbox::SandboxReport;

use super::clip::{ClipFacts, VideoOptions, timed_out};
use super::gst_pipeline::{GRACE, PIXELS_MAX};
use crate::frame::{DecoderChoice, FrameSource, RgbFrame, SourceError};
use protocol::{Reply, Request};
use running_child::{CallError, RunningChild};
use std::fs::File;
use std::io;
use std::sync::Once;
use std::time::{Duration, Instant};

/// The hidden subcommand.
pub const COMMAND: &str = "decode-clips";
/// A child is ready within this time: it may have to look at all of GStreamer's plugins first.
const START_TIMEOUT: Duration = Duration::from_mins(2);
/// Time for a reply beyond what is left of the clip's timeout: the child's own timeout gives the closer reason.
const REPLY_GRACE: Duration = GRACE.saturating_mul(2);

/// A decoder in a child process. It is a [`FrameSource`] while a clip is open.
pub struct DecoderProcess {
    decoder: DecoderChoice,
    memory_bytes: u64,
    /// The memory that each child gets.
    shared: File,
    /// The same memory here.
    frame: RgbFrame,
    child: Option<RunningChild>,
    clip: Option<OpenClip>,
}

/// What a new child needs to read a clip again.
struct OpenClip {
    file: File,
    options: VideoOptions,
    /// What is left of the timeout.
    left: Duration,
    /// Frames that were stepped to.
    frames: u64,
    declared_frames: u64,
    is_approximate: bool,
    /// Whether a child has ended in it.
    is_retried: bool,
}

/// Why a request failed.
enum RequestError {
    /// The child has ended, for this reason.
    Ended(String),
    Source(SourceError),
}

impl From<SourceError> for RequestError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl DecoderProcess {
    /// A decoder whose child starts with the first clip and may use `memory_bytes`. Its decoders are those of `decoder`.
    ///
    /// # Errors
    /// When the system provides no memory for frames.
    pub fn new(decoder: DecoderChoice, memory_bytes: u64) -> Result<Self, SourceError> {
        let machine = |error: io::Error| {
            SourceError::Machine(format!(
                "no memory for the frames of a decoder process: {error}"
            ))
        };
        let shared = shared_frame::create(PIXELS_MAX.unsigned_abs() * 3).map_err(machine)?;
        let frame = shared_frame::map(&shared).map_err(machine)?;
        Ok(Self {
            decoder,
            memory_bytes,
            shared,
            frame,
            child: None,
            clip: None,
        })
    }

    /// Starts the child unless it runs. Returns how far it is restricted, if it was started.
    ///
    /// # Errors
    /// When it cannot be started: the machine's fault.
    pub fn start(&mut self) -> Result<Option<SandboxReport>, SourceError> {
        if self.child.is_some() {
            return Ok(None);
        }
        let fails = |reason: &str| {
            SourceError::Machine(format!("a decoder process does not start: {reason}"))
        };
        let mut child = RunningChild::spawn(self.memory_bytes)?;
        let request = Request::Start {
            memory_bytes: self.memory_bytes,
            needs_devices: self.decoder != DecoderChoice::Software,
        };
        let deadline = Instant::now() + START_TIMEOUT;
        match child.call(&request, Some(&self.shared), deadline) {
            Ok(Reply::Started(report)) => {
                static LOGGED: Once = Once::new();
                LOGGED
                    .call_once(|| tracing::info!("clips are decoded in child processes, {report}"));
                tracing::debug!(pid = child.id(), "decoder process started");
                self.child = Some(child);
                Ok(Some(report))
            }
            Ok(Reply::Failed(error)) => Err(fails(&error.to_string())),
            Ok(_) => Err(fails("it does not follow the protocol")),
            Err(CallError::Ended(reason)) => Err(fails(&reason.replace(" in this clip", ""))),
            Err(CallError::TimedOut) => {
                let seconds = START_TIMEOUT.as_secs();
                Err(fails(&format!("it is not ready within {seconds} s")))
            }
        }
    }

    /// Opens the clip in `file` and waits for its first frame.
    ///
    /// # Errors
    /// When no frame can be decoded, with the decoder's reason or what happened to it.
    pub fn open(&mut self, file: File, options: &VideoOptions) -> Result<(), SourceError> {
        self.close();
        self.clip = Some(OpenClip {
            file,
            options: options.clone(),
            left: options.timeout,
            frames: 0,
            declared_frames: 0,
            is_approximate: false,
            is_retried: false,
        });
        let opened = self.retrying(Self::open_in_child);
        if opened.is_err() {
            self.close();
        }
        opened
    }

    /// Closes the clip. A child that cannot stop its decoder is replaced.
    pub fn close(&mut self) {
        if self.clip.take().is_none() {
            return;
        }
        let deadline = Instant::now() + REPLY_GRACE;
        if let Some(child) = &mut self.child {
            let closed = child.call(&Request::Close, None, deadline);
            if !matches!(closed, Ok(Reply::Closed(true))) {
                self.child = None;
            }
        }
    }

    /// What the clip's decoder has reported so far.
    ///
    /// # Errors
    /// When the child ends or does not answer.
    pub fn facts(&mut self) -> Result<ClipFacts, SourceError> {
        self.retrying(|this| match this.request(&Request::Facts)? {
            Reply::Facts(facts) => {
                let is_approximate = this.clip()?.is_approximate;
                Ok(ClipFacts {
                    is_approximate: facts.is_approximate || is_approximate,
                    ..facts
                })
            }
            reply => Err(this.unexpected(&reply)),
        })
    }

    /// Calls `action`; once more in a new child, which has read the clip up to here, when the child ends.
    fn retrying<T>(
        &mut self,
        mut action: impl FnMut(&mut Self) -> Result<T, RequestError>,
    ) -> Result<T, SourceError> {
        loop {
            match action(self) {
                Ok(done) => return Ok(done),
                Err(RequestError::Source(error)) => return Err(error),
                Err(RequestError::Ended(reason)) => {
                    let clip = self.clip()?;
                    if clip.is_retried {
                        return Err(SourceError::Clip(reason));
                    }
                    tracing::info!(reason, "the clip is read again by a new decoder process");
                    clip.is_retried = true;
                    clip.left = clip.options.timeout;
                    match self.read_again() {
                        Ok(()) => {}
                        Err(RequestError::Source(error)) => return Err(error),
                        Err(RequestError::Ended(reason)) => return Err(SourceError::Clip(reason)),
                    }
                }
            }
        }
    }

    /// Brings a new child to where the last one ended.
    fn read_again(&mut self) -> Result<(), RequestError> {
        let frames = self.clip()?.frames;
        if frames > 0 {
            self.open_in_child()?;
        }
        for _ in 0..frames {
            self.advance_in_child()?;
        }
        Ok(())
    }

    fn open_in_child(&mut self) -> Result<(), RequestError> {
        let request = Request::Open(self.clip()?.options.clone());
        match self.request(&request)? {
            Reply::Facts(facts) => {
                self.clip()?.declared_frames = facts.declared_frames;
                Ok(())
            }
            reply => Err(self.unexpected(&reply)),
        }
    }

    fn advance_in_child(&mut self) -> Result<bool, RequestError> {
        match self.request(&Request::Advance)? {
            Reply::Advanced(has_frame) => Ok(has_frame),
            reply => Err(self.unexpected(&reply)),
        }
    }

    fn clip(&mut self) -> Result<&mut OpenClip, SourceError> {
        let no_clip = || SourceError::Machine("no clip is open".into());
        self.clip.as_mut().ok_or_else(no_clip)
    }

    /// Sends `request` and waits for the reply within the clip's timeout.
    fn request(&mut self, request: &Request) -> Result<Reply, RequestError> {
        self.start()?;
        let no_clip = || SourceError::Machine("no clip is open".into());
        let clip = self.clip.as_mut().ok_or_else(no_clip)?;
        let no_child = || SourceError::Machine("no decoder process runs".into());
        let child = self.child.as_mut().ok_or_else(no_child)?;
        let since = Instant::now();
        let file = matches!(request, Request::Open(_)).then_some(&clip.file);
        let reply = child.call(request, file, since + clip.left + REPLY_GRACE);
        clip.left = clip.left.saturating_sub(since.elapsed());
        match reply {
            Ok(Reply::Failed(error)) => Err(error.into()),
            Ok(reply) => Ok(reply),
            Err(error) => {
                self.child = None;
                Err(match error {
                    CallError::Ended(reason) => RequestError::Ended(reason),
                    CallError::TimedOut => timed_out(clip.options.timeout).into(),
                })
            }
        }
    }

    /// A child that breaks the protocol is not trusted further.
    fn unexpected(&mut self, reply: &Reply) -> RequestError {
        tracing::debug!(?reply, "unexpected reply");
        self.child = None;
        RequestError::Ended("the decoder process broke its protocol in this clip".into())
    }
}

impl FrameSource for DecoderProcess {
    fn advance(&mut self) -> Result<bool, SourceError> {
        let has_frame = self.retrying(Self::advance_in_child)?;
        self.clip()?.frames += u64::from(has_frame);
        Ok(has_frame)
    }

    fn frame(&mut self) -> Result<&RgbFrame, SourceError> {
        let (width, height) = self.retrying(|this| match this.request(&Request::Frame)? {
            Reply::Frame {
                width,
                height,
                is_approximate,
            } if fits(width, height) => {
                this.clip()?.is_approximate |= is_approximate;
                Ok((width, height))
            }
            reply => Err(this.unexpected(&reply)),
        })?;
        self.frame.resize(width, height);
        Ok(&self.frame)
    }

    fn declared_frames(&self) -> u64 {
        self.clip.as_ref().map_or(0, |clip| clip.declared_frames)
    }
}

/// Whether a frame of this size lies in the shared memory.
fn fits(width: usize, height: usize) -> bool {
    let pixels = width
        .checked_mul(height)
        .and_then(|n| i64::try_from(n).ok());
    pixels.is_some_and(|pixels| pixels <= PIXELS_MAX)
}
