//! A GStreamer source that reads an open file, at any position. Demuxers that pull read it like `filesrc`. `fdsrc`
//! only pushes, and `filesrc` needs a path, which a process without access to the file system cannot open.

#![allow(
    unsafe_code,
    reason = "the macros of GObject subclasses expand to it; none is written here"
)]

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::subclass::prelude::ObjectSubclassExt;
use gstreamer_base as gst_base;
use gstreamer_base::prelude::BaseSrcExt;
use std::fs::File;

glib::wrapper! {
    /// The source element.
    pub struct FileSource(ObjectSubclass<element::FileReader>)
        @extends gst_base::BaseSrc, gst::Element, gst::Object;
}

impl FileSource {
    /// A source of `prefix` and then all of `file`, whatever the file's own position is.
    #[must_use]
    pub fn new(file: File, prefix: Vec<u8>) -> Self {
        let source: Self = glib::Object::new();
        source.set_format(gst::Format::Bytes);
        element::FileReader::from_obj(&source).set_file(file, prefix);
        source
    }
}

mod element {
    use super::{File, glib, gst, gst_base};
    use gst_base::subclass::prelude::*;
    use std::io::ErrorKind;
    use std::os::unix::fs::FileExt;
    use std::sync::{LazyLock, OnceLock};

    static PADS: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
        let (direction, presence) = (gst::PadDirection::Src, gst::PadPresence::Always);
        let pad = gst::PadTemplate::new("src", direction, presence, &gst::Caps::new_any());
        pad.into_iter().collect()
    });

    #[derive(Default)]
    pub struct FileReader {
        /// The file, and the bytes that are read before it.
        file: OnceLock<(File, Vec<u8>)>,
    }

    impl FileReader {
        pub(super) fn set_file(&self, file: File, prefix: Vec<u8>) {
            self.file.get_or_init(|| (file, prefix));
        }
    }

    #[glib::object_subclass]
    impl ObjectSubclass for FileReader {
        const NAME: &'static str = "HandloomFileSource";
        type Type = super::FileSource;
        type ParentType = gst_base::BaseSrc;
    }

    impl ObjectImpl for FileReader {}
    impl GstObjectImpl for FileReader {}

    impl ElementImpl for FileReader {
        fn pad_templates() -> &'static [gst::PadTemplate] {
            &PADS
        }
    }

    impl BaseSrcImpl for FileReader {
        fn is_seekable(&self) -> bool {
            true
        }

        fn size(&self) -> Option<u64> {
            let (file, prefix) = self.file.get()?;
            Some(file.metadata().ok()?.len() + prefix.len() as u64)
        }

        fn start(&self) -> Result<(), gst::ErrorMessage> {
            Ok(())
        }

        fn stop(&self) -> Result<(), gst::ErrorMessage> {
            Ok(())
        }

        fn fill(
            &self,
            offset: u64,
            length: u32,
            buffer: &mut gst::BufferRef,
        ) -> Result<gst::FlowSuccess, gst::FlowError> {
            let (file, prefix) = self.file.get().ok_or(gst::FlowError::Error)?;
            let wanted = length as usize;
            let mut map = buffer.map_writable().map_err(|_| gst::FlowError::Error)?;
            let behind =
                usize::try_from(offset).map_or(&[][..], |at| prefix.get(at..).unwrap_or(&[]));
            let mut read = behind.len().min(wanted);
            map[..read].copy_from_slice(&behind[..read]);
            while read < wanted {
                let at = offset + read as u64 - prefix.len() as u64;
                match file.read_at(&mut map[read..wanted], at) {
                    Ok(0) => break,
                    Ok(count) => read += count,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => {
                        gst::element_imp_error!(
                            self,
                            gst::ResourceError::Read,
                            ("cannot read the file: {error}")
                        );
                        return Err(gst::FlowError::Error);
                    }
                }
            }
            drop(map);
            if read == 0 && wanted > 0 {
                return Err(gst::FlowError::Eos);
            }
            buffer.set_size(read);
            buffer.set_offset(offset);
            buffer.set_offset_end(offset + read as u64);
            Ok(gst::FlowSuccess::Ok)
        }
    }
}
