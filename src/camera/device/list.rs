//! Lists the cameras and their formats.

use super::super::negotiate::{FormatOffer, FrameSizes};
use super::super::{CameraError, FormatRequest};
use super::{DEV, guarded, offers, open, rate, sizes};
use crate::camera::reconnect::{self, CameraIdentity};
use std::path::{Path, PathBuf};
use v4l::video::Capture as _;

/// Maximum number of sizes that are listed for a format.
const SIZES_MAX: usize = 64;

/// A device in `handloom camera --list`.
#[derive(Clone, Debug)]
pub struct CameraListing {
    /// Its device node.
    pub path: PathBuf,
    /// Identifies the camera across reconnects.
    pub identity: CameraIdentity,
    /// All its formats, also unsupported ones: code of four letters, description, sizes.
    pub formats: Vec<(String, String, Vec<String>)>,
    /// Supported formats, each at the size nearest to the requested one.
    pub offers: Vec<FormatOffer>,
    /// Its controls as text; empty when the driver's controls are not supported.
    pub controls: Vec<String>,
}

/// All cameras, and the errors of nodes that cannot be queried.
#[must_use]
pub fn list(request: &FormatRequest) -> (Vec<CameraListing>, Vec<CameraError>) {
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for path in reconnect::nodes(Path::new(DEV)) {
        let name = path.display().to_string();
        match guarded(&name, || describe(&path, request)) {
            Ok(listed) => found.push(listed),
            // A camera may have a second node for metadata, which captures nothing.
            Err(CameraError::NoCamera { .. }) => {}
            Err(error) => failed.push(error),
        }
    }
    (found, failed)
}

fn describe(path: &Path, request: &FormatRequest) -> Result<CameraListing, CameraError> {
    let name = path.display().to_string();
    let (device, card) = open(path)?;
    let formats = device
        .enum_formats()
        .map_err(|e| CameraError::of(&name, &e))?;
    let formats = formats
        .into_iter()
        .map(|format| {
            let sizes = sizes(&device, format.fourcc);
            let shown = sizes.iter().take(SIZES_MAX).map(|size| match *size {
                FrameSizes::One(width, height) => {
                    let rate = rate(&device, format.fourcc, width, height);
                    let rate = rate.map_or_else(String::new, |r| format!("@{r:.0}"));
                    format!("{width}x{height}{rate}")
                }
                FrameSizes::Range([a, b], [c, d], _) => format!("{a}x{b} to {c}x{d}"),
            });
            (
                format.fourcc.to_string(),
                format.description,
                shown.collect(),
            )
        })
        .collect();
    // A camera with unsupported controls is listed all the same.
    let controls = guarded(&name, || {
        let controls = device.query_controls();
        controls.map_err(|e| CameraError::of(&name, &e))
    });
    let control = |c: v4l::control::Description| {
        format!(
            "{} ({:?}) {} to {}, default {}",
            c.name, c.typ, c.minimum, c.maximum, c.default
        )
    };
    Ok(CameraListing {
        identity: reconnect::identity(Path::new(DEV), path, card),
        formats,
        offers: offers(&device, &name, request)?,
        controls: controls.map_or_else(|_| Vec::new(), |c| c.into_iter().map(control).collect()),
        path: path.to_path_buf(),
    })
}
