//! Device nodes and the identity of this machine, as the kernel exposes them. What cannot be read counts as absent.

use rustix::fs::{Access, access};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    /// Path of the node.
    pub path: PathBuf,
    /// Whether this user may read and write it.
    pub is_open: bool,
    /// Name of its group, or the number of a group without a name.
    pub group: String,
}

/// The file system through which the kernel exposes hardware.
#[derive(Clone, Debug)]
pub struct Hardware {
    root: PathBuf,
}

impl Hardware {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        Self::in_root(Path::new("/"))
    }

    /// A machine whose file system lies in `root`.
    #[must_use]
    pub fn in_root(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    /// The device nodes that match the absolute path `pattern`, sorted. One `*` in the last component matches any text.
    #[must_use]
    pub fn nodes(&self, pattern: &str) -> Vec<DeviceNode> {
        let (folder, name) = pattern.rsplit_once('/').unwrap_or_default();
        let matches = |found: &str| match name.split_once('*') {
            Some((start, end)) => {
                found.len() >= start.len() + end.len()
                    && found.starts_with(start)
                    && found.ends_with(end)
            }
            None => found == name,
        };
        let entries = fs::read_dir(self.below(folder)).into_iter().flatten();
        let mut paths: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(matches))
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        let node = |path: PathBuf| {
            let metadata = fs::metadata(&path).ok()?;
            Some(DeviceNode {
                is_open: access(&path, Access::READ_OK | Access::WRITE_OK).is_ok(),
                group: self.group(metadata.gid()),
                path,
            })
        };
        paths.into_iter().filter_map(node).collect()
    }

    /// Name of the board, or of the processor where the board has no name.
    #[must_use]
    pub fn name(&self) -> String {
        let board = read_line(&self.below("/proc/device-tree/model"));
        let processor = || {
            let text = fs::read_to_string(self.below("/proc/cpuinfo")).ok()?;
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        board.or_else(processor).unwrap_or_default()
    }

    /// Release of the kernel, which brings the drivers.
    #[must_use]
    pub fn kernel(&self) -> String {
        read_line(&self.below("/proc/sys/kernel/osrelease")).unwrap_or_default()
    }

    /// Identifies this boot of the machine.
    #[must_use]
    pub fn boot(&self) -> String {
        read_line(&self.below("/proc/sys/kernel/random/boot_id")).unwrap_or_default()
    }

    fn group(&self, gid: u32) -> String {
        let groups = fs::read_to_string(self.below("/etc/group")).unwrap_or_default();
        let name = groups.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(gid)).then_some(name)
        });
        name.map_or_else(|| gid.to_string(), str::to_owned)
    }

    fn below(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

/// The first line of a file, without the NUL bytes of a device tree; `None` when it is empty.
fn read_line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim_matches(['\0', ' ']).to_owned();
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Hardware) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let hardware = Hardware::in_root(dir.path());
        (dir, hardware)
    }

    #[test]
    fn nodes_match_patterns() {
        let files = [
            "dev/apex_0",
            "dev/apex_1",
            "dev/galcore",
            "dev/dri/card0",
            "dev/nvhost-as-gpu",
        ];
        let (dir, hardware) = machine(&files.map(|file| (file, "")));
        let check = |pattern: &str, expected: &[&str]| {
            let found: Vec<PathBuf> = hardware
                .nodes(pattern)
                .into_iter()
                .map(|n| n.path)
                .collect();
            let expected: Vec<PathBuf> = expected.iter().map(|p| dir.path().join(p)).collect();
            assert_eq!(found, expected, "{pattern}");
        };
        check("/dev/apex_*", &["dev/apex_0", "dev/apex_1"]);
        check("/dev/galcore", &["dev/galcore"]);
        check("/dev/gal", &[]);
        check("/dev/nvhost-*gpu", &["dev/nvhost-as-gpu"]);
        check("/dev/dri/renderD*", &[]);
        check("/dev/accel/accel*", &[]);
    }

    #[test]
    fn group_and_permission_of_a_node() {
        let (dir, _) = machine(&[("dev/galcore", "")]);
        let path = dir.path().join("dev/galcore");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
        let gid = fs::metadata(&path).unwrap().gid();
        let groups = format!("root:x:99999:\nrender:x:{gid}:pi,me\n");
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/group"), groups).unwrap();
        let node = &Hardware::in_root(dir.path()).nodes("/dev/galcore")[0];
        assert_eq!((node.group.as_str(), node.is_open), ("render", true));
    }

    #[test]
    fn machines_are_identified() {
        let processor = (
            "proc/cpuinfo",
            "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n",
        );
        let board = ("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0");
        assert_eq!(machine(&[processor]).1.name(), "Some CPU @ 2 GHz");
        assert_eq!(
            machine(&[processor, board]).1.name(),
            "Raspberry Pi 5 Model B Rev 1.0"
        );
        assert_eq!(machine(&[]).1.name(), "");
        assert!(!Hardware::here().boot().is_empty());
    }
}
