//! Devices by names that last: a camera that is plugged out and in again often comes back under another number.

use std::fs;
use std::path::{Path, PathBuf};

/// What the kernel says of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCard {
    /// As uvcvideo.
    pub driver: String,
    /// As people call it.
    pub card: String,
    /// The port that it is plugged into.
    pub bus: String,
}

/// What tells a device from others, as long as it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraIdentity {
    /// Its link below `v4l/by-id`: model and serial number.
    pub by_id: Option<PathBuf>,
    /// Its link below `v4l/by-path`: the port.
    pub by_path: Option<PathBuf>,
    /// By the kernel.
    pub card: DeviceCard,
}

/// All `video<N>` in the folder of devices `dev`, by number.
#[must_use]
pub fn nodes(dev: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dev) else {
        return Vec::new();
    };
    let number = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix("video")?.parse::<u32>().ok()
    };
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter_map(|path| Some((number(&path)?, path)))
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// The link to `node` in a folder of them, if there is one.
fn link(folder: &Path, node: &Path) -> Option<PathBuf> {
    let node = node.canonicalize().ok()?;
    let mut links: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.canonicalize().is_ok_and(|to| to == node))
        .collect();
    links.sort();
    links.into_iter().next()
}

/// What tells the device at `node` from others.
#[must_use]
pub fn identity(dev: &Path, node: &Path, card: DeviceCard) -> CameraIdentity {
    CameraIdentity {
        by_id: link(&dev.join("v4l/by-id"), node),
        by_path: link(&dev.join("v4l/by-path"), node),
        card,
    }
}

/// Where a device is now that was at `place` once; `None` while it is not there. `ask` says what is at a node.
#[must_use]
pub fn again(
    dev: &Path,
    place: &Path,
    identity: &CameraIdentity,
    ask: &dyn Fn(&Path) -> Option<DeviceCard>,
) -> Option<PathBuf> {
    let is_there = |path: &Path| path.canonicalize().is_ok();
    // A name that lasts is the user's word; whatever is there is meant.
    if place.is_symlink() || place.starts_with(dev.join("v4l")) {
        return is_there(place).then(|| place.to_path_buf());
    }
    if let Some(by_id) = identity.by_id.as_ref().filter(|p| is_there(p)) {
        return by_id.canonicalize().ok();
    }
    let is_same = |path: &Path| ask(path).is_some_and(|card| card == identity.card);
    let by_path = identity.by_path.as_ref().filter(|p| is_there(p));
    if let Some(path) = by_path.and_then(|p| p.canonicalize().ok())
        && is_same(&path)
    {
        return Some(path);
    }
    // Where it was, then the same make at the same port, then the same make at another one.
    let nodes = nodes(dev);
    let is_make = |path: &Path| {
        ask(path).is_some_and(|c| c.card == identity.card.card && c.driver == identity.card.driver)
    };
    let first = |test: &dyn Fn(&Path) -> bool| nodes.iter().find(|n| test(n.as_path())).cloned();
    let here = (is_there(place) && is_same(place)).then(|| place.to_path_buf());
    here.or_else(|| first(&is_same)).or_else(|| first(&is_make))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    /// A folder of devices: files `video<N>` that hold what the kernel would say, and links.
    struct Desk(TempDir);

    impl Desk {
        fn new() -> Self {
            let desk = Self(tempfile::tempdir().unwrap());
            for folder in ["v4l/by-id", "v4l/by-path"] {
                fs::create_dir_all(desk.path(folder)).unwrap();
            }
            desk
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn plug(&self, number: u32, bus: &str, links: &[&str]) {
            let name = format!("video{number}");
            fs::write(self.path(&name), bus).unwrap();
            for link in links {
                symlink(format!("../../{name}"), self.path(link)).unwrap();
            }
        }

        fn unplug(&self, number: u32, links: &[&str]) {
            fs::remove_file(self.path(&format!("video{number}"))).unwrap();
            for link in links {
                fs::remove_file(self.path(link)).unwrap();
            }
        }

        fn again(&self, place: &str, identity: &CameraIdentity) -> Option<String> {
            let found = again(self.0.path(), &self.path(place), identity, &|p| ask(p));
            found.map(|p| p.file_name().unwrap().to_str().unwrap().to_owned())
        }
    }

    fn card(bus: &str) -> DeviceCard {
        DeviceCard {
            driver: "uvcvideo".into(),
            card: "Cam".into(),
            bus: bus.into(),
        }
    }

    fn ask(path: &Path) -> Option<DeviceCard> {
        fs::read_to_string(path).ok().map(|bus| card(&bus))
    }

    #[test]
    fn a_camera_is_found_again_under_another_number() {
        let (id, port) = ("v4l/by-id/usb-Cam_7-index0", "v4l/by-path/usb-0:1-index0");
        let check = |links: &[&str]| {
            let desk = Desk::new();
            desk.plug(0, "usb-1", links);
            let identity = identity(desk.0.path(), &desk.path("video0"), card("usb-1"));
            assert_eq!(identity.by_id.is_some(), links.contains(&id));
            assert_eq!(identity.by_path.is_some(), links.contains(&port));
            assert_eq!(desk.again("video0", &identity).as_deref(), Some("video0"));
            desk.unplug(0, links);
            assert_eq!(desk.again("video0", &identity), None);
            desk.plug(3, "usb-1", links);
            assert_eq!(desk.again("video0", &identity).as_deref(), Some("video3"));
        };
        check(&[id, port]);
        check(&[id]);
        check(&[port]);
        check(&[]);
    }

    #[test]
    fn another_camera_in_its_place_is_not_it() {
        let desk = Desk::new();
        desk.plug(0, "usb-1", &[]);
        let identity = identity(desk.0.path(), &desk.path("video0"), card("usb-1"));
        desk.plug(1, "usb-1", &[]);
        desk.plug(0, "usb-9", &[]);
        assert_eq!(desk.again("video0", &identity).as_deref(), Some("video1"));
        // The same make at another port is better than none.
        desk.unplug(1, &[]);
        assert_eq!(desk.again("video0", &identity).as_deref(), Some("video0"));
    }

    #[test]
    fn a_lasting_name_means_whatever_is_there() {
        let desk = Desk::new();
        let port = "v4l/by-path/usb-0:1-index0";
        desk.plug(5, "usb-1", &[port]);
        let identity = identity(desk.0.path(), &desk.path(port), card("usb-1"));
        assert_eq!(
            desk.again(port, &identity).as_deref(),
            Some("usb-0:1-index0")
        );
        desk.unplug(5, &[port]);
        desk.plug(6, "usb-1", &[]);
        assert_eq!(desk.again(port, &identity), None);
        assert_eq!(nodes(desk.0.path()), [desk.path("video6")]);
        assert_eq!(nodes(Path::new("/nowhere")), Vec::<PathBuf>::new());
    }
}
