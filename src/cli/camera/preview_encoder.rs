//! What browsers are shown: pictures with the hands drawn on, made in a thread of their own, so that looking at them
//! costs no frame.

use crate::frame::RgbFrame;
use crate::hand::Hand;
use crate::hand::landmarks::LANDMARKS;
use crate::http::{Preview, PreviewError};
use crate::recording::jpeg::jpeg_with_hands;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

type PreviewFrame = (RgbFrame, Vec<[[f32; 3]; LANDMARKS]>);

/// A preview with its painter; ends when dropped.
pub(super) struct PreviewEncoder {
    preview: Arc<Preview>,
    give: Option<SyncSender<PreviewFrame>>,
    painter: Option<JoinHandle<()>>,
}

impl PreviewEncoder {
    /// Serves on `address`.
    pub(super) fn start(address: SocketAddr) -> Result<Self, PreviewError> {
        let preview = Arc::new(Preview::start(address)?);
        let (give, take) = sync_channel(1);
        let theirs = Arc::clone(&preview);
        let painter = Builder::new()
            .name("painter".into())
            .spawn(move || paint(&take, &theirs));
        // Without a thread there are no pictures; the camera goes on.
        let painter = painter
            .inspect_err(|error| tracing::warn!(%error, "no thread for the preview's pictures"))
            .ok();
        Ok(Self {
            preview,
            give: Some(give),
            painter,
        })
    }

    /// Where it is served.
    pub(super) fn address(&self) -> SocketAddr {
        self.preview.address()
    }

    /// Shows a picture, unless nobody looks or the one before is still being painted.
    pub(super) fn show(&self, picture: &RgbFrame, hands: &[Hand]) {
        if let Some(give) = self.give.as_ref().filter(|_| self.preview.is_watched()) {
            let hands = hands.iter().map(|h| h.landmarks).collect();
            give.try_send((picture.clone(), hands)).ok();
        }
    }
}

fn paint(take: &Receiver<PreviewFrame>, preview: &Preview) {
    while let Ok((mut picture, hands)) = take.recv() {
        match jpeg_with_hands(&mut picture, &hands) {
            Ok(jpeg) => preview.show(jpeg),
            Err(error) => tracing::debug!(error, "a picture could not be painted"),
        }
    }
}

impl Drop for PreviewEncoder {
    fn drop(&mut self) {
        drop(self.give.take());
        if let Some(painter) = self.painter.take()
            && painter.join().is_err()
        {
            tracing::error!("the painter's thread has panicked");
        }
    }
}
