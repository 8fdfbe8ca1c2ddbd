//! Which clips exist, and the state of an instance whose clip does not.

use crate::dataset::acceptance::State;
use crate::dataset::instance::{Entry, Instance};
use std::collections::HashSet;
use std::sync::Arc;

/// The id of an instance's clip and its frame range, or why it cannot be processed.
pub(super) fn check_clip(
    instance: &Instance,
    video_id: Option<&Arc<str>>,
    present: &HashSet<&str>,
) -> Result<(Arc<str>, i64, i64), (State, String)> {
    let missing = |reason| Err((State::Missing, reason));
    let Some(video_id) = video_id else {
        return missing("no video_id".to_owned());
    };
    if instance.path.is_none() && !is_plain_file_name(video_id) {
        return missing(format!(
            "video_id {video_id:?} is not a plain file name, so no file is looked for"
        ));
    }
    if !present.contains(&**video_id) {
        let source = instance.source.as_ref();
        let source = source.map_or_else(String::new, |source| format!(" ({source})"));
        return missing(match &instance.path {
            Some(path) => format!("no file {path}{source}"),
            None => format!("no file {video_id}.mp4"),
        });
    }
    // The notebook reads the start first, so its error is the one reported.
    match (&instance.frame_start, &instance.frame_end) {
        (Ok(start), Ok(end)) => Ok((Arc::clone(video_id), *start, *end)),
        (Err(reason), _) | (_, Err(reason)) => Err((State::Unreadable, reason.clone())),
    }
}

/// The video ids whose clips exist.
pub(super) fn present_clips<'a>(
    entries: &'a [Entry],
    exists: &dyn Fn(&str) -> bool,
) -> HashSet<&'a str> {
    let instances = entries.iter().flat_map(|entry| &entry.instances);
    let ids = instances.filter_map(|instance| {
        let id = instance.video_id.as_deref()?;
        (instance.path.is_some() || is_plain_file_name(id)).then_some(id)
    });
    let mut present: HashSet<&str> = ids.collect();
    present.retain(|id| exists(id));
    present
}

/// Whether `video_id` names a file directly in the video folder. The notebook would follow a path out of the folder.
fn is_plain_file_name(video_id: &str) -> bool {
    !matches!(video_id, "" | "." | "..") && !video_id.contains(['/', '\\', '\0'])
}
