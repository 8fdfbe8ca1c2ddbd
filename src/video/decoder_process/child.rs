//! The decoder process: it opens clips on behalf of its parent and puts their frames into shared memory.

use super::memory_limit::MemoryLimit;
use super::protocol::{Channel, ChannelError, DecoderReply, DecoderRequest, TIMES_MAX};
use super::{sandbox, shared_frame};
use crate::frame::{FrameSource, RgbFrame, SourceError};
use crate::video::clip::{self, VideoClip, VideoOptions};
use crate::video::{decoder, gst_pipeline};
use gstreamer as gst;
use gstreamer::prelude::*;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

/// Maximum length of a reason that is sent, in characters.
const REASON_CHARS_MAX: usize = 2000;

/// Elements that nearly every clip needs.
const COMMON_ELEMENTS: [&str; 3] = ["qtdemux", "parsebin", "h264parse"];

/// Why the decoder process ends.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DecoderProcessError(String);

impl From<ChannelError> for DecoderProcessError {
    fn from(error: ChannelError) -> Self {
        Self(error.to_string())
    }
}

/// Decodes clips for the process at the other end of `socket`, until that end is closed.
///
/// # Errors
/// Fails when `socket` is no such connection or breaks.
pub fn serve(socket: OwnedFd) -> Result<(), DecoderProcessError> {
    let mut channel = Channel::new(socket);
    let (request, memory) = channel.receive(None)?;
    let DecoderRequest::Start {
        memory_bytes,
        needs_devices,
    } = request
    else {
        return Err(DecoderProcessError("the first request is not Start".into()));
    };
    let mut server = match Server::start(&channel, memory, memory_bytes, needs_devices) {
        Ok(server) => server,
        Err(error) => {
            channel.send(&DecoderReply::Failed(error), None)?;
            return Ok(());
        }
    };
    loop {
        let (request, file) = match channel.receive(None) {
            Ok(received) => received,
            Err(ChannelError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let reply = server.answer(request, file);
        // The peak of memory decides, not when the other thread notices it. Each clip ends with another reply than a
        // frame.
        if !matches!(reply, Ok(DecoderReply::Frame { .. })) {
            server.limit.check(&channel);
        }
        channel.send(&reply.unwrap_or_else(failed), None)?;
    }
}

fn failed(error: SourceError) -> DecoderReply {
    let cut = |reason: String| reason.chars().take(REASON_CHARS_MAX).collect();
    DecoderReply::Failed(match error {
        SourceError::Clip(reason) => SourceError::Clip(cut(reason)),
        SourceError::Machine(reason) => SourceError::Machine(cut(reason)),
    })
}

struct Server {
    limit: MemoryLimit,
    frame: RgbFrame,
    clip: Option<VideoClip>,
}

impl Server {
    /// Loads what clips need, enters the sandbox and reports its restrictions.
    fn start(
        channel: &Channel,
        memory: Option<File>,
        memory_bytes: u64,
        needs_devices: bool,
    ) -> Result<Self, SourceError> {
        let machine = |error: io::Error| SourceError::Machine(error.to_string());
        let memory = memory.ok_or_else(|| SourceError::Machine("no memory for frames".into()))?;
        let frame = shared_frame::map(&memory).map_err(machine)?;
        clip::init()?;
        load_common_elements()?;
        let limit = MemoryLimit::new(memory_bytes).map_err(machine)?;
        limit.cap_allocations().map_err(machine)?;
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        setrlimit(Resource::Core, none).map_err(|error| machine(error.into()))?;
        let report = sandbox::enter(needs_devices);
        let listener = channel.try_clone().map_err(machine)?;
        limit.watch(listener).map_err(machine)?;
        let sent = channel.send(&DecoderReply::Started(report), None);
        sent.map_err(|error| SourceError::Machine(error.to_string()))?;
        Ok(Self {
            limit,
            frame,
            clip: None,
        })
    }

    fn answer(
        &mut self,
        request: DecoderRequest,
        file: Option<File>,
    ) -> Result<DecoderReply, SourceError> {
        match request {
            DecoderRequest::Open(options) => self.open(file, &options),
            DecoderRequest::Advance(count) => self.advance(count),
            DecoderRequest::Times(count) => self.times(count),
            DecoderRequest::Facts => {
                let clip = self.clip.as_ref().ok_or_else(no_clip)?;
                Ok(DecoderReply::Facts(clip.facts()))
            }
            DecoderRequest::Close => {
                self.clip = None;
                Ok(DecoderReply::Closed(gst_pipeline::stuck_decoders() == 0))
            }
            DecoderRequest::Start { .. } => Err(SourceError::Machine("it has started".into())),
        }
    }

    fn open(
        &mut self,
        file: Option<File>,
        options: &VideoOptions,
    ) -> Result<DecoderReply, SourceError> {
        let file = file.ok_or_else(|| SourceError::Machine("the clip's file is missing".into()))?;
        let clip = VideoClip::open(file, options)?;
        let facts = clip.facts();
        self.clip = Some(clip);
        Ok(DecoderReply::Facts(facts))
    }

    fn advance(&mut self, count: u64) -> Result<DecoderReply, SourceError> {
        let clip = self.clip.as_mut().ok_or_else(no_clip)?;
        let done = clip.advance_by(count)?;
        if done < count {
            return Ok(DecoderReply::End(done));
        }
        clip.frame_into(&mut self.frame)?;
        if !self.frame.is_external() {
            return Err(SourceError::Clip("its frames are too large".into()));
        }
        Ok(DecoderReply::Frame {
            width: self.frame.width(),
            height: self.frame.height(),
            time: clip.time(),
            notes: clip.notes(),
        })
    }

    fn times(&mut self, count: usize) -> Result<DecoderReply, SourceError> {
        let clip = self.clip.as_mut().ok_or_else(no_clip)?;
        let mut times = Vec::new();
        while times.len() < count.min(TIMES_MAX) && clip.advance()? {
            times.push(clip.time());
        }
        Ok(DecoderReply::Times(times))
    }
}

fn no_clip() -> SourceError {
    SourceError::Machine("no clip is open in the decoder process".into())
}

/// Loads the plugins of most clips. An installed plugin that does not load fails here, not in every clip.
fn load_common_elements() -> Result<(), SourceError> {
    let h264 = decoder::usual("video/x-h264");
    let names = COMMON_ELEMENTS.into_iter().chain(h264.as_deref());
    for factory in names.filter_map(gst::ElementFactory::find) {
        factory.load().map_err(|error| {
            let name = factory.name();
            SourceError::Machine(format!("the element {name} does not load: {error}"))
        })?;
    }
    Ok(())
}
