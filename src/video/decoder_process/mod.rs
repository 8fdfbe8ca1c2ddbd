//! Decodes clips in a child process, so that a clip that crashes, blocks or bloats its decoder harms nothing else.
//!
//! The child is this program with the hidden subcommand [`COMMAND`]. A worker owns one and uses it for all its clips.
//! The child gets each clip as an open file and writes each requested frame into memory that both processes share.
//! One request per used frame steps over the frames before it. The child has no network, opens no other file
//! ([`sandbox`]) and has a limit of memory ([`memory_limit`]). Every request has a deadline.
//!
//! The limit of memory leaves room for the other workers. A clip that needs more is decoded while no other is, with a
//! higher limit. It fails only when it exceeds that limit too.
//!
//! A process that ends during a clip is replaced, and the clip is read once more from its start. The clip fails only
//! if the new process ends too. A decoder that hangs makes the clip fail at once.

mod child;
mod memory_limit;
mod protocol;
mod running_child;
mod sandbox;
mod shared_frame;

pub use child::{DecoderProcessError, serve};
pub use sandbox::SandboxReport;

use super::clip::{ClipFacts, VideoOptions, timed_out};
use super::gst_pipeline::GRACE;
use super::turns::{DecodeTurn, DecodeTurns};
use crate::dataset::clip_note::ClipNote;
use crate::frame::{ClipFormat, DecoderChoice, FrameSource, RgbFrame, SourceError};
use protocol::{DecoderReply, DecoderRequest, TIMES_MAX};
use running_child::{ChildError, RunningChild};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::Once;
use std::time::{Duration, Instant};

/// Name of the hidden subcommand.
pub const COMMAND: &str = "decode-clips";
/// A child is ready within this time. It may first have to scan all GStreamer plugins.
const START_TIMEOUT: Duration = Duration::from_mins(2);
/// Extra time for a reply after the clip's timeout: the child's own timeout gives the more precise reason.
const REPLY_GRACE: Duration = GRACE.saturating_mul(2);

/// Maximum memory of a child while others decode, in bytes: enough for 2560 x 1440 pixels.
const SHARED_MEMORY_BYTES: u64 = 192 << 20;

/// A decoder in a child process. It is a [`FrameSource`] while a clip is open.
pub struct DecoderProcess<'a> {
    decoder: DecoderChoice,
    /// Maximum number of pixels of a frame.
    pixels_max: u64,
    /// Maximum memory for a clip, in bytes.
    memory_bytes: u64,
    turns: &'a DecodeTurns,
    /// Held while a clip is open.
    turn: Option<DecodeTurn<'a>>,
    /// The shared memory, which each child gets.
    shared: File,
    /// The same memory, mapped in this process.
    frame: RgbFrame,
    child: Option<RunningChild>,
    clip: Option<OpenClip>,
}

/// What a new child needs to read a clip again.
struct OpenClip {
    file: File,
    options: VideoOptions,
    /// Time left of the timeout.
    left: Duration,
    /// Whether a child has opened it.
    is_open: bool,
    /// Steps that a child has taken in it, including one beyond its last frame.
    steps: u64,
    /// Whether the shared memory holds a frame of it.
    has_frame: bool,
    /// Presentation time of that frame.
    time: Option<Duration>,
    declared_frames: Option<u64>,
    format: ClipFormat,
    notes: BTreeSet<ClipNote>,
    /// Whether a child has ended while it read the clip.
    is_retried: bool,
}

/// Why a request failed.
enum RequestError {
    /// The child has ended, for this reason.
    Ended(String),
    TooMuchMemory,
    Source(SourceError),
}

impl From<SourceError> for RequestError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl<'a> DecoderProcess<'a> {
    /// A decoder whose child starts with the first clip. A clip may use `memory_bytes`. Its frames fit `options`. All
    /// workers share `turns`.
    ///
    /// # Errors
    /// Fails when the system provides no memory for frames.
    pub fn new(
        options: &VideoOptions,
        memory_bytes: u64,
        turns: &'a DecodeTurns,
    ) -> Result<Self, SourceError> {
        let machine = |error: io::Error| {
            SourceError::Machine(format!(
                "no memory for the frames of a decoder process: {error}"
            ))
        };
        let shared = shared_frame::create(options.pixels_max.saturating_mul(3)).map_err(machine)?;
        let frame = shared_frame::map(&shared).map_err(machine)?;
        Ok(Self {
            decoder: options.decoder.clone(),
            pixels_max: options.pixels_max,
            memory_bytes,
            turns,
            turn: None,
            shared,
            frame,
            child: None,
            clip: None,
        })
    }

    /// Starts the child if none runs. Returns the restrictions of a child that was started.
    ///
    /// # Errors
    /// Fails when the child cannot be started; the machine is the cause.
    pub fn start(&mut self) -> Result<Option<SandboxReport>, SourceError> {
        if self.child.is_some() {
            return Ok(None);
        }
        let fails = |reason: &str| {
            SourceError::Machine(format!("a decoder process does not start: {reason}"))
        };
        let mut child = RunningChild::spawn()?;
        let is_alone = matches!(self.turn, Some(DecodeTurn::Alone(_)));
        let request = DecoderRequest::Start {
            memory_bytes: if is_alone {
                self.memory_bytes
            } else {
                self.memory_bytes.min(SHARED_MEMORY_BYTES)
            },
            needs_devices: self.decoder != DecoderChoice::Software,
        };
        let deadline = Instant::now() + START_TIMEOUT;
        match child.call(&request, Some(&self.shared), deadline) {
            Ok(DecoderReply::Started(report)) => {
                static LOGGED: Once = Once::new();
                LOGGED
                    .call_once(|| tracing::info!("clips are decoded in child processes, {report}"));
                tracing::debug!(pid = child.id(), "decoder process started");
                self.child = Some(child);
                Ok(Some(report))
            }
            Ok(DecoderReply::Failed(error)) => Err(fails(&error.to_string())),
            Ok(_) => Err(fails("it does not follow the protocol")),
            Err(ChildError::Ended(reason)) => Err(fails(&reason.replace(" in this clip", ""))),
            Err(ChildError::TooMuchMemory) => Err(fails("the limit of its memory is too low")),
            Err(ChildError::TimedOut) => {
                let seconds = START_TIMEOUT.as_secs();
                Err(fails(&format!("it is not ready within {seconds} s")))
            }
        }
    }

    /// Opens the clip in `file` and waits for its first frame.
    ///
    /// # Errors
    /// Fails when no frame can be decoded; the error is the decoder's reason or what happened to the child.
    pub fn open(&mut self, file: File, options: &VideoOptions) -> Result<(), SourceError> {
        self.close();
        self.turn = Some(self.turns.shared());
        self.clip = Some(OpenClip {
            file,
            options: options.clone(),
            left: options.timeout,
            is_open: false,
            steps: 0,
            has_frame: false,
            time: None,
            declared_frames: None,
            format: ClipFormat::default(),
            notes: BTreeSet::new(),
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
            let closed = child.call(&DecoderRequest::Close, None, deadline);
            if !matches!(closed, Ok(DecoderReply::Closed(true))) {
                self.child = None;
            }
        }
        // The next clip has the lower limit again, and the large frame goes.
        if let Some(DecodeTurn::Alone(_)) = self.turn.take() {
            self.child = None;
            if let Err(error) = shared_frame::release(&self.shared) {
                tracing::debug!(%error, "the memory of a frame stays in use");
            }
        }
    }

    /// What the clip's decoder has reported so far.
    ///
    /// # Errors
    /// Fails when the child ends or does not answer.
    pub fn facts(&mut self) -> Result<ClipFacts, SourceError> {
        self.retrying(|this| match this.request(&DecoderRequest::Facts)? {
            DecoderReply::Facts(mut facts) => {
                // A new child has not converted the frames that an earlier one did.
                facts.notes.extend(&this.clip()?.notes);
                Ok(facts)
            }
            reply => Err(this.unexpected(&reply)),
        })
    }

    /// Calls `action`. When the child ends, calls it again in a new child, which has read the clip up to the same
    /// step.
    fn retrying<T>(
        &mut self,
        mut action: impl FnMut(&mut Self) -> Result<T, RequestError>,
    ) -> Result<T, SourceError> {
        let mut outcome = action(self);
        loop {
            match outcome {
                Ok(done) => return Ok(done),
                Err(RequestError::Source(error)) => return Err(error),
                Err(RequestError::Ended(reason)) => {
                    let clip = self.clip()?;
                    if clip.is_retried {
                        return Err(SourceError::Clip(reason));
                    }
                    clip.is_retried = true;
                    tracing::info!(reason, "the clip is read again by a new decoder process");
                }
                Err(RequestError::TooMuchMemory) => {
                    if matches!(self.turn, Some(DecodeTurn::Alone(_))) {
                        let mib = self.memory_bytes >> 20;
                        let reason =
                            format!("decoding this clip needs more than {mib} MiB of memory");
                        return Err(SourceError::Clip(reason));
                    }
                    // Its own turn ends first: `alone` waits for all turns.
                    self.turn = None;
                    self.turn = Some(self.turns.alone());
                    tracing::info!("the clip needs much memory and is read again alone");
                }
            }
            let clip = self.clip()?;
            clip.left = clip.options.timeout;
            outcome = self.read_again().and_then(|()| action(self));
        }
    }

    /// Brings a new child to the step at which the last one ended.
    fn read_again(&mut self) -> Result<(), RequestError> {
        let clip = self.clip()?;
        let steps = clip.steps;
        if clip.is_open {
            self.open_in_child()?;
        }
        if steps > 0 {
            self.advance_in_child(steps)?;
        }
        Ok(())
    }

    fn open_in_child(&mut self) -> Result<(), RequestError> {
        let request = DecoderRequest::Open(self.clip()?.options.clone());
        match self.request(&request)? {
            DecoderReply::Facts(facts) => {
                let clip = self.clip()?;
                clip.declared_frames = facts.declared_frames;
                clip.format = facts.format;
                clip.is_open = true;
                Ok(())
            }
            reply => Err(self.unexpected(&reply)),
        }
    }

    fn advance_in_child(&mut self, count: u64) -> Result<u64, RequestError> {
        let reply = self.request(&DecoderRequest::Advance(count))?;
        let pixels_max = self.pixels_max;
        let clip = self.clip()?;
        clip.has_frame = false;
        clip.time = None;
        match reply {
            DecoderReply::Frame {
                width,
                height,
                time,
                notes,
            } if width
                .checked_mul(height)
                .is_some_and(|pixels| pixels as u64 <= pixels_max) =>
            {
                clip.has_frame = true;
                clip.time = time;
                clip.notes.extend(notes);
                self.frame.resize(width, height);
                Ok(count)
            }
            DecoderReply::End(done) if done < count => Ok(done),
            reply => Err(self.unexpected(&reply)),
        }
    }

    /// Steps over at most [`TIMES_MAX`] frames and returns their times.
    fn times_in_child(&mut self) -> Result<Vec<Option<Duration>>, RequestError> {
        let reply = self.request(&DecoderRequest::Times(TIMES_MAX))?;
        match reply {
            DecoderReply::Times(times) if times.len() <= TIMES_MAX => {
                let clip = self.clip()?;
                clip.has_frame = false;
                clip.time = times.last().copied().flatten();
                Ok(times)
            }
            reply => Err(self.unexpected(&reply)),
        }
    }

    fn clip(&mut self) -> Result<&mut OpenClip, SourceError> {
        let no_clip = || SourceError::Machine("no clip is open".into());
        self.clip.as_mut().ok_or_else(no_clip)
    }

    /// Sends `request` and waits for the reply within the clip's timeout.
    fn request(&mut self, request: &DecoderRequest) -> Result<DecoderReply, RequestError> {
        self.start()?;
        let no_clip = || SourceError::Machine("no clip is open".into());
        let clip = self.clip.as_mut().ok_or_else(no_clip)?;
        let no_child = || SourceError::Machine("no decoder process runs".into());
        let child = self.child.as_mut().ok_or_else(no_child)?;
        let since = Instant::now();
        let file = matches!(request, DecoderRequest::Open(_)).then_some(&clip.file);
        let reply = child.call(request, file, since + clip.left + REPLY_GRACE);
        clip.left = clip.left.saturating_sub(since.elapsed());
        match reply {
            Ok(DecoderReply::Failed(error)) => Err(error.into()),
            Ok(reply) => Ok(reply),
            Err(error) => {
                self.child = None;
                Err(match error {
                    ChildError::Ended(reason) => RequestError::Ended(reason),
                    ChildError::TooMuchMemory => RequestError::TooMuchMemory,
                    ChildError::TimedOut => timed_out(clip.options.timeout).into(),
                })
            }
        }
    }

    /// Drops a child that breaks the protocol.
    fn unexpected(&mut self, reply: &DecoderReply) -> RequestError {
        tracing::debug!(?reply, "unexpected reply");
        self.child = None;
        RequestError::Ended("the decoder process broke its protocol in this clip".into())
    }
}

impl FrameSource for DecoderProcess<'_> {
    fn advance(&mut self) -> Result<bool, SourceError> {
        Ok(self.advance_by(1)? == 1)
    }

    fn advance_by(&mut self, count: u64) -> Result<u64, SourceError> {
        let done = self.retrying(|this| this.advance_in_child(count))?;
        self.clip()?.steps += count;
        Ok(done)
    }

    fn frame(&mut self) -> Result<&RgbFrame, SourceError> {
        if self.clip()?.has_frame {
            Ok(&self.frame)
        } else {
            Err(SourceError::Clip("no current frame".into()))
        }
    }

    fn declared_frames(&self) -> Option<u64> {
        self.clip.as_ref()?.declared_frames
    }

    fn time(&self) -> Option<Duration> {
        self.clip.as_ref()?.time
    }

    fn format(&self) -> ClipFormat {
        self.clip
            .as_ref()
            .map_or_else(ClipFormat::default, |clip| clip.format)
    }

    fn read_times(&mut self) -> Result<Vec<Option<Duration>>, SourceError> {
        let mut times = Vec::new();
        loop {
            let read = self.retrying(Self::times_in_child)?;
            self.clip()?.steps += read.len() as u64;
            times.extend(&read);
            if read.len() < TIMES_MAX {
                return Ok(times);
            }
        }
    }
}
