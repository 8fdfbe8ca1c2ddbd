//! Finds a device again: a camera that is unplugged and plugged in again often gets another number.

use std::fs;
use std::path::{Path, PathBuf};

/// The kernel's description of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCard {
    /// Driver, for example uvcvideo.
    pub driver: String,
    /// Name of the product.
    pub card: String,
    /// The port of the device.
    pub bus: String,
}

/// What identifies a device across reconnects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraIdentity {
    /// Its link below `v4l/by-id`: model and serial number.
    pub by_id: Option<PathBuf>,
    /// Its link below `v4l/by-path`: the port.
    pub by_path: Option<PathBuf>,
    /// The kernel's description.
    pub card: DeviceCard,
}

/// All nodes `video<N>` in the folder of devices `dev`, in the order of N.
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

/// The link to `node` in `folder`, if there is one.
fn link(folder: &Path, node: &Path) -> Option<PathBuf> {
    let node = node.canonicalize().ok()?;
    fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.canonicalize().is_ok_and(|to| to == node))
        .min()
}

/// Identifies the device at `node`.
#[must_use]
pub fn identity(dev: &Path, node: &Path, card: DeviceCard) -> CameraIdentity {
    CameraIdentity {
        by_id: link(&dev.join("v4l/by-id"), node),
        by_path: link(&dev.join("v4l/by-path"), node),
        card,
    }
}

/// Finds the device that had the path `path`; `None` while it is missing. `query` describes the device at a node.
#[must_use]
pub fn find_again(
    dev: &Path,
    path: &Path,
    identity: &CameraIdentity,
    query: &dyn Fn(&Path) -> Option<DeviceCard>,
) -> Option<PathBuf> {
    let is_there = |path: &Path| path.canonicalize().is_ok();
    // With a persistent name, the user means any device that has it.
    if path.is_symlink() || path.starts_with(dev.join("v4l")) {
        return is_there(path).then(|| path.to_path_buf());
    }
    if let Some(by_id) = identity.by_id.as_ref().filter(|p| is_there(p)) {
        return by_id.canonicalize().ok();
    }
    let is_same = |path: &Path| query(path).is_some_and(|card| card == identity.card);
    let by_path = identity.by_path.as_ref().filter(|p| is_there(p));
    if let Some(path) = by_path.and_then(|p| p.canonicalize().ok())
        && is_same(&path)
    {
        return Some(path);
    }
    // The old path, then the same model at the same port, then the same model at another port.
    let nodes = nodes(dev);
    let is_model = |path: &Path| {
        query(path)
            .is_some_and(|c| c.card == identity.card.card && c.driver == identity.card.driver)
    };
    let first = |test: &dyn Fn(&Path) -> bool| nodes.iter().find(|n| test(n.as_path())).cloned();
    let here = (is_there(path) && is_same(path)).then(|| path.to_path_buf());
    here.or_else(|| first(&is_same))
        .or_else(|| first(&is_model))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    /// A folder of devices: files `video<N>` that hold the kernel's answers, and links.
    struct FakeDev(TempDir);

    impl FakeDev {
        fn new() -> Self {
            let dev = Self(tempfile::tempdir().unwrap());
            for folder in ["v4l/by-id", "v4l/by-path"] {
                fs::create_dir_all(dev.path(folder)).unwrap();
            }
            dev
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

        fn find_again(&self, place: &str, identity: &CameraIdentity) -> Option<String> {
            let found = find_again(self.0.path(), &self.path(place), identity, &|p| {
                read_card(p)
            });
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

    fn read_card(path: &Path) -> Option<DeviceCard> {
        fs::read_to_string(path).ok().map(|bus| card(&bus))
    }

    #[test]
    fn a_camera_is_found_again_under_another_number() {
        let (id, port) = ("v4l/by-id/usb-Cam_7-index0", "v4l/by-path/usb-0:1-index0");
        let check = |links: &[&str]| {
            let dev = FakeDev::new();
            dev.plug(0, "usb-1", links);
            let identity = identity(dev.0.path(), &dev.path("video0"), card("usb-1"));
            assert_eq!(identity.by_id.is_some(), links.contains(&id));
            assert_eq!(identity.by_path.is_some(), links.contains(&port));
            assert_eq!(
                dev.find_again("video0", &identity).as_deref(),
                Some("video0")
            );
            dev.unplug(0, links);
            assert_eq!(dev.find_again("video0", &identity), None);
            dev.plug(3, "usb-1", links);
            assert_eq!(
                dev.find_again("video0", &identity).as_deref(),
                Some("video3")
            );
        };
        check(&[id, port]);
        check(&[id]);
        check(&[port]);
        check(&[]);
    }

    #[test]
    fn another_camera_in_its_place_is_not_it() {
        let dev = FakeDev::new();
        dev.plug(0, "usb-1", &[]);
        let identity = identity(dev.0.path(), &dev.path("video0"), card("usb-1"));
        dev.plug(1, "usb-1", &[]);
        dev.plug(0, "usb-9", &[]);
        assert_eq!(
            dev.find_again("video0", &identity).as_deref(),
            Some("video1")
        );
        // The same model at another port is accepted when no other fits.
        dev.unplug(1, &[]);
        assert_eq!(
            dev.find_again("video0", &identity).as_deref(),
            Some("video0")
        );
    }

    #[test]
    fn a_lasting_name_means_whatever_is_there() {
        let dev = FakeDev::new();
        let port = "v4l/by-path/usb-0:1-index0";
        dev.plug(5, "usb-1", &[port]);
        let identity = identity(dev.0.path(), &dev.path(port), card("usb-1"));
        assert_eq!(
            dev.find_again(port, &identity).as_deref(),
            Some("usb-0:1-index0")
        );
        dev.unplug(5, &[port]);
        dev.plug(6, "usb-1", &[]);
        assert_eq!(dev.find_again(port, &identity), None);
        assert_eq!(nodes(dev.0.path()), [dev.path("video6")]);
        assert_eq!(nodes(Path::new("/nowhere")), Vec::<PathBuf>::new());
    }
}
