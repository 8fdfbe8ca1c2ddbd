//! The decoder of one worker: a child process, or this process.

use super::clip::{ClipFacts, VideoClip, VideoOptions};
use super::decoder_process::DecoderProcess;
use super::turns::DecodeTurns;
use crate::frame::{FrameSource, SourceError};
use std::fs::File;

/// Where clips are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodePlace {
    /// In a child process of each worker, with limited memory.
    ChildProcess {
        /// Maximum resident memory of the child, in bytes.
        memory_bytes: u64,
    },
    /// In the worker's own process.
    ThisProcess,
}

/// Decodes one clip after another.
pub struct ClipDecoder<'a> {
    options: VideoOptions,
    decoder: Decoder<'a>,
}

enum Decoder<'a> {
    Child(Box<DecoderProcess<'a>>),
    Here(Option<Box<VideoClip>>),
}

impl<'a> ClipDecoder<'a> {
    /// A decoder with these options. All workers share `turns`.
    ///
    /// # Errors
    /// Fails when the machine has no memory for it.
    pub fn new(
        options: &VideoOptions,
        place: DecodePlace,
        turns: &'a DecodeTurns,
    ) -> Result<Self, SourceError> {
        Ok(Self {
            options: options.clone(),
            decoder: match place {
                DecodePlace::ChildProcess { memory_bytes } => {
                    let process = DecoderProcess::new(options, memory_bytes, turns)?;
                    Decoder::Child(Box::new(process))
                }
                DecodePlace::ThisProcess => Decoder::Here(None),
            },
        })
    }

    /// Opens the clip in `file` and waits for its first frame. The clip opened before is closed.
    ///
    /// # Errors
    /// Fails when no frame can be decoded.
    pub fn open(&mut self, file: File) -> Result<&mut dyn FrameSource, SourceError> {
        match &mut self.decoder {
            Decoder::Child(process) => {
                process.open(file, &self.options)?;
                Ok(&mut **process)
            }
            Decoder::Here(clip) => {
                *clip = None;
                let opened = Box::new(VideoClip::open(file, &self.options)?);
                Ok(&mut **clip.insert(opened))
            }
        }
    }

    /// What the open clip's decoder has reported so far.
    ///
    /// # Errors
    /// Fails when the child process ends or no clip is open.
    pub fn facts(&mut self) -> Result<ClipFacts, SourceError> {
        match &mut self.decoder {
            Decoder::Child(process) => process.facts(),
            Decoder::Here(clip) => clip
                .as_ref()
                .map(|clip| clip.facts())
                .ok_or_else(|| SourceError::Machine("no clip is open".into())),
        }
    }

    /// Closes the clip, if one is open.
    pub fn close(&mut self) {
        match &mut self.decoder {
            Decoder::Child(process) => process.close(),
            Decoder::Here(clip) => *clip = None,
        }
    }
}
