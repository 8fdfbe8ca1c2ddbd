//! Detects network file systems. They lack the shared memory that SQLite's write-ahead log needs, and their locks may
//! be missing, or remain when a machine dies.

use std::path::Path;

/// File systems that another machine may write to: the kernel's number for each, and its name.
const NETWORK: [(u32, &str); 14] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9p"),
    // Includes local ones such as NTFS: the kernel has one number for all file systems that programs serve.
    (0x6573_5546, "FUSE"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7461_636f, "OCFS2"),
    (0x0116_1970, "GFS2"),
];

/// The name of the network file system whose number is `kind`; `None` for a local or unknown one.
fn network_name(kind: u32) -> Option<&'static str> {
    let found = NETWORK.iter().find(|(number, _)| *number == kind);
    found.map(|(_, name)| *name)
}

/// The name of the network file system of `folder`, which exists; `None` for a local one, or when the system reports
/// none.
#[must_use]
pub fn network(folder: &Path) -> Option<&'static str> {
    let found = rustix::fs::statfs(folder).ok()?;
    // The number has 32 bits, and a sign on some processors.
    network_name(u32::try_from(found.f_type & 0xffff_ffff).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_numbers() {
        for (kind, name) in [
            (0x6969, Some("NFS")),
            (0xff53_4d42, Some("CIFS")),
            (0xfe53_4d42, Some("SMB")),
            (0x0102_1997, Some("9p")),
            (0x6573_5546, Some("FUSE")),
            (0x0bd0_0bd0, Some("Lustre")),
            (0x4750_4653, Some("GPFS")),
            (0x1983_0326, Some("BeeGFS")),
            (0x00c3_6400, Some("Ceph")),
            (0x5346_414f, Some("AFS")),
            // ext4, XFS, Btrfs, tmpfs, overlayfs, FAT, exFAT, F2FS, and what does not exist.
            (0xef53, None),
            (0x5846_5342, None),
            (0x9123_683e, None),
            (0x0102_1994, None),
            (0x794c_7630, None),
            (0x4d44, None),
            (0x2011_bab0, None),
            (0xf2f5_2010, None),
            (0, None),
        ] {
            assert_eq!(network_name(kind), name, "{kind:#x}");
        }
    }

    #[test]
    fn an_unknown_file_system_counts_as_local() {
        assert_eq!(network(Path::new("/proc")), None);
        assert_eq!(network(Path::new("/nothing/of/this/name")), None);
    }
}
