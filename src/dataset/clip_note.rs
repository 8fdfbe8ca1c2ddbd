//! The notes of the manifest about reading a clip: each cause for which frames or pixels may differ from the
//! notebook's.

use serde::{Deserialize, Serialize};

/// A cause for which the frames or pixels of a clip may differ from the notebook's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ClipNote {
    /// Pixels at the edge of a cropped picture are undefined in OpenCV.
    CroppedEdge,
    /// A picture in JPEG is cut off: what is missing is undefined in OpenCV.
    CutOffJpeg,
    /// A picture in H.264 is cut off: FFmpeg fills in what is missing in another way.
    CutOffFrame,
    /// The file ends before its media data does.
    CutOffFile,
    /// The edit list is too long: the whole track is read.
    LongEditList,
    /// The stream or an edit begins with pictures whose references are missing: FFmpeg makes them up in another way.
    MissingReferences,
    /// The container declares no possible number of frames.
    NoFrameCount,
    /// `ProRes` 4444 is decoded to fewer bits.
    Prores4444,
    /// The edit list has several parts, in which the notebook's seek may lose frames.
    SeveralEdits,
}

impl ClipNote {
    /// All notes.
    pub const ALL: [Self; 9] = [
        Self::CroppedEdge,
        Self::CutOffJpeg,
        Self::CutOffFrame,
        Self::CutOffFile,
        Self::LongEditList,
        Self::MissingReferences,
        Self::NoFrameCount,
        Self::Prores4444,
        Self::SeveralEdits,
    ];

    /// Whether pixels or the order of frames are not proven equal to OpenCV's.
    #[must_use]
    pub fn is_approximate(self) -> bool {
        !matches!(
            self,
            Self::CutOffFile | Self::NoFrameCount | Self::SeveralEdits
        )
    }

    /// The key of the note in the manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CroppedEdge => "cropped_edge",
            Self::CutOffJpeg => "cut_off_jpeg",
            Self::CutOffFrame => "cut_off_frame",
            Self::CutOffFile => "cut_off_file",
            Self::LongEditList => "long_edit_list",
            Self::MissingReferences => "missing_references",
            Self::NoFrameCount => "no_frame_count",
            Self::Prores4444 => "prores_4444",
            Self::SeveralEdits => "several_edits",
        }
    }

    /// The text of the note in the manifest.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::CroppedEdge => {
                "The picture is cropped. OpenCV leaves pixels at its edge undefined; here they are black."
            }
            Self::CutOffJpeg => {
                "The end of the file cuts off a JPEG picture. What is missing of it is undefined in OpenCV."
            }
            Self::CutOffFrame => {
                "The end of the file cuts off a picture. FFmpeg fills in what is missing in another way."
            }
            Self::CutOffFile => {
                "The file ends before its media data does. The frames that it has are read."
            }
            Self::LongEditList => {
                "The edit list is longer than what is followed. The whole track is read."
            }
            Self::MissingReferences => {
                "The stream or an edit begins with pictures whose references are missing. FFmpeg makes them up in another way."
            }
            Self::NoFrameCount => {
                "The container declares no possible number of frames. They are counted; OpenCV estimates the number."
            }
            Self::Prores4444 => {
                "ProRes 4444 is decoded to 10 bits, by FFmpeg to 12: levels differ by up to 1."
            }
            Self::SeveralEdits => {
                "The edit list has several parts. All frames of them are read; the notebook's seek may lose some."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_guide_explains_each_note() {
        let guide = include_str!("README.md");
        for note in ClipNote::ALL {
            let row = format!("| `{}` | ", note.name());
            assert_eq!(guide.matches(&row).count(), 1, "{row}");
        }
    }
}
