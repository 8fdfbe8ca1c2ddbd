//! Reads frames of a dataset's clips and encodes images.

use crate::draw::contact_sheet::scale_image;
use crate::frame::{RgbFrame, SourceError};
use crate::video::clip::VideoOptions;
use crate::video::clip_decoder::{ClipDecoder, DecodePlace};
use crate::video::clip_file::open_file;
use crate::video::dataset_source::DatasetSource;
use crate::video::turns::DecodeTurns;
use base64::prelude::{BASE64_STANDARD, Engine};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageResult};

/// Memory limit for a clip, in bytes: the default of a job.
const MEMORY_BYTES: u64 = 320 << 20;
/// Width of an embedded image in pixels.
const WIDTH: usize = 176;
/// Largest height of an embedded image, in pixels.
const HEIGHT_MAX: usize = 264;
/// JPEG quality, from 1 to 100. Bones are drawn over the image, so it only has to show where the hands are.
const JPEG_QUALITY: u8 = 55;

/// Reads single frames of the clips of a dataset, in a decoder process of its own.
pub struct FrameReader<'a> {
    dataset: &'a DatasetSource,
    decoder: ClipDecoder<'a>,
}

impl<'a> FrameReader<'a> {
    /// Starts a reader for the clips of `dataset`.
    ///
    /// # Errors
    /// Fails when the machine has not enough memory.
    pub fn new(dataset: &'a DatasetSource, turns: &'a DecodeTurns) -> Result<Self, SourceError> {
        let place = DecodePlace::ChildProcess {
            memory_bytes: MEMORY_BYTES,
        };
        let decoder = ClipDecoder::new(&VideoOptions::default(), place, turns)?;
        Ok(Self { dataset, decoder })
    }

    /// Calls `each` with the frames of the clip `video_id` whose indices are in `indices`, in ascending order. Frames
    /// after the end of the clip are left out.
    ///
    /// # Errors
    /// Fails when the clip does not exist or cannot be decoded.
    pub fn frames(
        &mut self,
        video_id: &str,
        indices: impl Iterator<Item = i32>,
        mut each: impl FnMut(&RgbFrame),
    ) -> Result<(), SourceError> {
        let file = self.dataset.clip(video_id)?;
        let clip = self.decoder.open(open_file(file.path())?)?;
        let mut at = -1;
        for index in indices {
            let steps = u64::try_from(index.saturating_sub(at)).unwrap_or(0);
            if clip.advance_by(steps)? < steps {
                break;
            }
            at = at.max(index);
            each(clip.frame()?);
        }
        self.decoder.close();
        Ok(())
    }
}

/// The image of a frame in a strip, which is drawn below the bones.
pub struct StripImage {
    /// A small JPEG as a `data:` URL.
    pub address: String,
    /// Height / width of the frame.
    pub shape: f32,
}

/// Scales and encodes `frame` for a strip; `None` when it has no pixels.
pub(super) fn strip_image(frame: &RgbFrame) -> Option<StripImage> {
    let height = (frame.height() * WIDTH).checked_div(frame.width())?;
    let small = scale_image(frame, WIDTH, height.clamp(1, HEIGHT_MAX));
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
    write(&small, encoder).ok()?;
    let base64 = BASE64_STANDARD.encode(bytes);
    #[expect(clippy::cast_precision_loss, reason = "sizes of images")]
    Some(StripImage {
        address: format!("data:image/jpeg;base64,{base64}"),
        shape: frame.height() as f32 / frame.width() as f32,
    })
}

/// Encodes `frame` as PNG.
///
/// # Errors
/// Fails when the image is too large for the format.
pub(super) fn png(frame: &RgbFrame) -> ImageResult<Vec<u8>> {
    let mut bytes = Vec::new();
    write(frame, PngEncoder::new(&mut bytes))?;
    Ok(bytes)
}

fn write(frame: &RgbFrame, encoder: impl ImageEncoder) -> ImageResult<()> {
    let side = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let (width, height) = (side(frame.width()), side(frame.height()));
    encoder.write_image(frame.pixels(), width, height, ExtendedColorType::Rgb8)
}
