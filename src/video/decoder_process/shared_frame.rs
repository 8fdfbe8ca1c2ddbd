//! The memory in which the decoder process puts a frame and the worker reads it.

use crate::frame::{PixelMemory, RgbFrame};
use memmap2::MmapMut;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, memfd_create};
use std::fs::File;
use std::io;

/// Creates a file in memory with room for a frame of `bytes`. Pages that no frame has used take no memory. Neither
/// process can change its size, so that no access can go beyond its end.
pub(super) fn create(bytes: u64) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(memfd_create("handloom-frame", flags)?);
    file.set_len(bytes)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// Gives the memory of the last frame back to the system.
pub(super) fn release(file: &File) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(file, flags, 0, file.metadata()?.len())?)
}

/// An image whose pixels lie in `file`, made by [`create`].
#[allow(unsafe_code, reason = "the file is shared with another process")]
pub(super) fn map(file: &File) -> io::Result<RgbFrame> {
    // SAFETY: the seals of `create` keep the file's size, so that no access faults. The other process writes only between
    // a request for a frame and its reply; meanwhile this process waits and holds no reference to the pixels. One that
    // breaks this rule changes the values of pixels, for which every value is valid.
    let mapping = unsafe { MmapMut::map_mut(file) }?;
    Ok(RgbFrame::in_memory(Box::new(Mapping(mapping))))
}

#[derive(Debug)]
struct Mapping(MmapMut);

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for Mapping {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl PixelMemory for Mapping {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_mappings_show_the_same_pixels() {
        let file = create(1 << 30).unwrap();
        let (mut writer, mut reader) = (map(&file).unwrap(), map(&file).unwrap());
        writer.resize(4, 2);
        reader.resize(4, 2);
        writer.pixels_mut().fill(9);
        assert_eq!(reader.pixels(), [9; 24]);
        release(&file).unwrap();
        assert_eq!(reader.pixels(), [0; 24]);
        assert!(file.set_len(1).is_err() && file.set_len(2 << 30).is_err());
    }
}
