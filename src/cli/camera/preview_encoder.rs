//! Encodes frames with drawn hands for the preview page, in a thread of its own, so that the session never waits for it.

use crate::frame::RgbFrame;
use crate::hand::landmarks::LANDMARKS;
use crate::http::{Preview, PreviewError};
use crate::recording::jpeg::jpeg_with_hands;
use crate::recording::session::FrameView;
use crate::system::OwnedThread;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;

type PreviewFrame = (RgbFrame, Vec<[[f32; 3]; LANDMARKS]>);

/// A preview page and the thread that encodes its frames; both end when dropped.
pub(super) struct PreviewEncoder {
    preview: Arc<Preview>,
    worker: Option<OwnedThread<SyncSender<PreviewFrame>>>,
}

impl PreviewEncoder {
    /// Serves the page on `address`.
    ///
    /// # Errors
    /// Fails when the address cannot be used.
    pub(super) fn start(address: SocketAddr) -> Result<Self, PreviewError> {
        let preview = Arc::new(Preview::start(address)?);
        let (frames, receiver) = sync_channel(1);
        let page = Arc::clone(&preview);
        let thread = Builder::new().name("preview".into());
        let worker = match thread.spawn(move || encode(&receiver, &page)) {
            Ok(thread) => Some(OwnedThread::new(thread, frames)),
            Err(error) => {
                // The page shows no frame; the session continues.
                tracing::warn!(%error, "cannot start the thread that encodes the preview");
                None
            }
        };
        Ok(Self { preview, worker })
    }

    /// Address that the page is served on.
    pub(super) fn address(&self) -> SocketAddr {
        self.preview.address()
    }

    /// Shows a frame, unless no browser is connected or the previous frame is still being encoded.
    pub(super) fn show(&self, view: &FrameView<'_>) {
        let frames = self.worker.as_ref().and_then(OwnedThread::end);
        if let Some(frames) = frames.filter(|_| self.preview.is_watched()) {
            let hands = view.hands.iter().map(|h| h.landmarks).collect();
            frames.try_send((view.image.clone(), hands)).ok();
        }
    }
}

fn encode(frames: &Receiver<PreviewFrame>, preview: &Preview) {
    while let Ok((mut image, hands)) = frames.recv() {
        match jpeg_with_hands(&mut image, &hands) {
            Ok(jpeg) => preview.show(jpeg),
            Err(error) => tracing::debug!(error, "cannot encode a preview frame"),
        }
    }
}
