//! The files of a folder of clips: those that the notebook finds, and those that it would find under another name.

use super::locations::CLIP_SUFFIX;
use crate::video::dataset_search::{is_video, may_be_clip};
use std::collections::{HashMap, HashSet};

/// What is in a folder of clips.
#[derive(Debug, Default)]
pub(super) struct ClipListing {
    /// Number of videos, as the notebook counts them.
    pub(super) video_count: usize,
    /// The ids of the clips that the notebook finds.
    pub(super) video_ids: HashSet<Box<str>>,
    /// Other files that may be clips. Key: name in lower case, without ending. Value: path in the folder.
    others: HashMap<Box<str>, Box<str>>,
}

impl ClipListing {
    /// A listing for a dataset that gives the paths of its `count` clips.
    pub(super) fn counted(count: usize) -> Self {
        Self {
            video_count: count,
            ..Self::default()
        }
    }

    /// Adds the file `name` of the folder. A broken link is no clip, although the notebook counts it as a video.
    pub(super) fn add(&mut self, name: &str, is_broken: bool) {
        self.video_count += usize::from(is_video(name));
        let id = name.strip_suffix(CLIP_SUFFIX).filter(|_| !is_broken);
        if let Some(id) = id {
            self.video_ids.insert(id.into());
        }
        // The metadata may spell the id with other upper and lower case.
        if !is_broken && id.is_none_or(|id| id.chars().any(char::is_uppercase)) {
            self.add_other(name);
        }
    }

    /// Adds the file at `path` in the folder, which the notebook does not find. Of several that may be the same clip,
    /// the first by name is kept.
    pub(super) fn add_other(&mut self, path: &str) {
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        let parts = name.rsplit_once('.');
        let Some((stem, _)) = parts.filter(|_| may_be_clip(name.as_ref())) else {
            return;
        };
        let kept = self.others.entry(stem.to_lowercase().into());
        let kept = kept.or_insert_with(|| path.into());
        if path < &**kept {
            *kept = path.into();
        }
    }

    /// Where the clip of `video_id` may be although the notebook does not find it, and what to do.
    pub(super) fn elsewhere(&self, video_id: &str) -> Option<String> {
        let path = self.others.get(video_id.to_lowercase().as_str())?;
        let verb = if path.contains('/') {
            "move it to"
        } else if path.to_lowercase().ends_with(CLIP_SUFFIX) {
            "rename it to"
        } else {
            "convert it, or rename it if the notebook may read it as it is, to"
        };
        Some(format!(
            "found {path}: {verb} {video_id}{CLIP_SUFFIX} in the folder of clips"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_under_another_name_is_found() {
        let mut listing = ClipListing::default();
        for name in [
            "1.mp4", "2.MP4", "3.webm", "Ab.mp4", "4.txt", "5.mkv", "5.Avi", "6", ".mp4",
        ] {
            listing.add(name, false);
        }
        listing.add("7.mp4", true);
        listing.add_other("train/8.mp4");
        let check = |id: &str, expected: Option<&str>| {
            assert_eq!(listing.elsewhere(id).as_deref(), expected, "{id}");
        };
        check("1", None);
        check(
            "2",
            Some("found 2.MP4: rename it to 2.mp4 in the folder of clips"),
        );
        check(
            "ab",
            Some("found Ab.mp4: rename it to ab.mp4 in the folder of clips"),
        );
        check(
            "8",
            Some("found train/8.mp4: move it to 8.mp4 in the folder of clips"),
        );
        let webm = listing.elsewhere("3").unwrap();
        assert!(webm.starts_with("found 3.webm: convert it"), "{webm}");
        let two = listing.elsewhere("5").unwrap();
        assert!(two.starts_with("found 5.Avi: "), "{two}");
        for id in ["4", "6", "7", ""] {
            check(id, None);
        }
        assert_eq!(listing.video_count, 4);
        assert_eq!(listing.video_ids.len(), 3);
    }
}
