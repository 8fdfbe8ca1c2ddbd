//! `handloom camera --list`.

use crate::camera::device;
use crate::camera::device::CameraListing;
use crate::camera::negotiate;
use crate::cli::camera::CameraArgs;
use crate::cli::progress::Console;
use crate::error::Exit;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Prints the cameras. Without a camera the exit code is `Nothing`, and there is no error.
pub(super) fn run(args: &CameraArgs, console: &Console) -> Exit {
    let want = args.capture_settings().want;
    let (found, failed) = device::list(&want);
    for camera in &found {
        let identity = &camera.identity;
        let offers = camera.offers.iter().map(|o| {
            json!({"format": o.format.name(), "width": o.width, "height": o.height, "fps": o.rate})
        });
        let formats = camera.formats.iter().map(|(fourcc, description, sizes)| {
            json!({"format": fourcc, "description": description, "sizes": sizes})
        });
        let (offers, formats): (Value, Value) = (offers.collect(), formats.collect());
        let chosen = negotiate::choose(&camera.offers, &want);
        let event = json!({
            "event": "device", "path": camera.path, "card": identity.card.card, "driver": identity.card.driver,
            "bus": identity.card.bus, "by_id": identity.by_id, "by_path": identity.by_path,
            "formats": formats, "offers": offers, "chosen": chosen.map(|o| o.format.name()),
            "controls": camera.controls,
        });
        let chosen = chosen.map(|offer| negotiate::describe(&[offer]));
        console.report(&describe(camera, chosen), &event);
    }
    for error in &failed {
        let event = json!({"event": "device", "error": error.name(), "reason": error.to_string()});
        console.report(&format!("{error}\n"), &event);
    }
    if found.is_empty() && failed.is_empty() {
        let text = "no camera found: plug one in; for a CSI camera use --device gst:libcamerasrc";
        console.report(text, &json!({"event": "none", "reason": text}));
    }
    if found.is_empty() {
        Exit::Nothing
    } else {
        Exit::Done
    }
}

fn describe(camera: &CameraListing, chosen: Option<String>) -> String {
    let identity = &camera.identity;
    let (path, card) = (camera.path.display(), &identity.card);
    let mut out = format!("{path}  {} ({}, {})\n", card.card, card.driver, card.bus);
    // Writing to a String cannot fail.
    for (what, link) in [("by id", &identity.by_id), ("by path", &identity.by_path)] {
        if let Some(link) = link {
            writeln!(out, "  {what:<9} {}", link.display()).ok();
        }
    }
    for (fourcc, description, sizes) in &camera.formats {
        writeln!(out, "  {fourcc:<9} {description}: {}", sizes.join(" ")).ok();
    }
    for control in &camera.controls {
        writeln!(out, "  control   {control}").ok();
    }
    let chosen = chosen.unwrap_or_else(|| "no format that is supported".to_owned());
    writeln!(out, "  taken     {chosen}").ok();
    out
}
