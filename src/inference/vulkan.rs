//! Which Vulkan devices the machine has, asked of the system's loader at run time: a GPU backend names the one that it
//! will use, and a software device is never mistaken for a GPU.
//!
//! # Why this is sound
//!
//! The declarations are those of Vulkan 1.0, whose ABI does not change; the loader keeps it for every driver. The
//! library is never closed, as drivers do not bear it. The instance is made, asked and destroyed by one thread.

#![allow(
    unsafe_code,
    reason = "the C API of a library that is loaded at run time"
)]

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr;

const LOADER: &str = "libvulkan.so.1";
/// More devices than any machine has.
const DEVICES_MAX: u32 = 64;
const STRUCTURE_INSTANCE_CREATE_INFO: c_int = 1;
const INCOMPLETE: c_int = 5;
const INCOMPATIBLE_DRIVER: c_int = -9;

/// What a device is, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VulkanDeviceKind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the machine's memory.
    Integrated,
    /// A part of a GPU, given by a virtual machine's host.
    Virtual,
    /// Something else.
    Other,
    /// No GPU: the CPU plays one.
    Software,
}

impl VulkanDeviceKind {
    /// Of `VkPhysicalDeviceType`.
    fn of(kind: u32) -> Self {
        match kind {
            1 => Self::Integrated,
            2 => Self::Discrete,
            3 => Self::Virtual,
            4 => Self::Software,
            _ => Self::Other,
        }
    }
}

/// A Vulkan device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VulkanDevice {
    /// As its driver calls it.
    pub name: String,
    /// What it is.
    pub kind: VulkanDeviceKind,
    /// Major and minor version of Vulkan that it offers.
    pub api: (u32, u32),
}

impl std::fmt::Display for VulkanDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            VulkanDeviceKind::Discrete | VulkanDeviceKind::Integrated => "GPU",
            VulkanDeviceKind::Virtual => "virtual GPU",
            VulkanDeviceKind::Other => "device",
            VulkanDeviceKind::Software => "software, no GPU",
        };
        let (major, minor) = self.api;
        write!(f, "{} ({kind}, Vulkan {major}.{minor})", self.name)
    }
}

/// Why no device can be named.
#[derive(Debug, thiserror::Error)]
pub enum VulkanError {
    /// No loader.
    #[error(
        "the Vulkan loader cannot be loaded ({0}); install it (Debian: libvulkan1) and the GPU's driver"
    )]
    Loader(String),
    /// A loader, but no device.
    #[error(
        "the Vulkan loader finds no device; install the GPU's driver (Debian: mesa-vulkan-drivers, Jetson: part of JetPack) and let this user open /dev/dri/renderD* (group render)"
    )]
    NoDevice,
    /// The loader refused.
    #[error("{call} failed with {result}; `vulkaninfo` (Debian: vulkan-tools) may say more")]
    Call {
        /// The function.
        call: &'static str,
        /// `VkResult`.
        result: i32,
    },
}

/// `VkInstanceCreateInfo`; all that is optional is left out.
#[repr(C)]
struct InstanceCreateInfo {
    kind: c_int,
    next: *const c_void,
    flags: u32,
    application: *const c_void,
    layer_count: u32,
    layers: *const *const c_char,
    extension_count: u32,
    extensions: *const *const c_char,
}

/// `VkPhysicalDeviceProperties`, 824 bytes; what follows the name is not read.
#[repr(C, align(8))]
struct Properties {
    api: u32,
    driver: u32,
    vendor_id: u32,
    device_id: u32,
    kind: u32,
    name: [c_char; 256],
    rest: [u8; 824 - 276],
}

const _: () = assert!(size_of::<Properties>() == 824);

type Instance = *mut c_void;
type Device = *mut c_void;
type CreateInstance =
    unsafe extern "C" fn(*const InstanceCreateInfo, *const c_void, *mut Instance) -> c_int;
type DestroyInstance = unsafe extern "C" fn(Instance, *const c_void);
type Enumerate = unsafe extern "C" fn(Instance, *mut u32, *mut Device) -> c_int;
type GetProperties = unsafe extern "C" fn(Device, *mut Properties);

/// The machine's Vulkan devices, best first; at least one.
///
/// Loads every installed driver into this process: what a broken driver does then, it does here.
///
/// # Errors
/// See [`VulkanError`].
pub fn devices() -> Result<Vec<VulkanDevice>, VulkanError> {
    let no_loader = |e: libloading::Error| VulkanError::Loader(e.to_string());
    // SAFETY: the system's loader, whose initialisers any Vulkan program runs.
    let library = unsafe { Library::open(Some(LOADER), RTLD_NOW | RTLD_LOCAL) };
    let library = ManuallyDrop::new(library.map_err(no_loader)?);
    // SAFETY: functions of Vulkan 1.0, exported by every loader with these types.
    let (create, destroy, enumerate, properties) = unsafe {
        (
            *library
                .get::<CreateInstance>(b"vkCreateInstance\0")
                .map_err(no_loader)?,
            *library
                .get::<DestroyInstance>(b"vkDestroyInstance\0")
                .map_err(no_loader)?,
            *library
                .get::<Enumerate>(b"vkEnumeratePhysicalDevices\0")
                .map_err(no_loader)?,
            *library
                .get::<GetProperties>(b"vkGetPhysicalDeviceProperties\0")
                .map_err(no_loader)?,
        )
    };
    let info = InstanceCreateInfo {
        kind: STRUCTURE_INSTANCE_CREATE_INFO,
        next: ptr::null(),
        flags: 0,
        application: ptr::null(),
        layer_count: 0,
        layers: ptr::null(),
        extension_count: 0,
        extensions: ptr::null(),
    };
    let mut instance = ptr::null_mut();
    // SAFETY: a whole create info without layers, extensions or allocator, and a place of ours for the instance.
    match unsafe { create(&raw const info, ptr::null(), &raw mut instance) } {
        0 => {}
        INCOMPATIBLE_DRIVER => return Err(VulkanError::NoDevice),
        result => {
            return Err(VulkanError::Call {
                call: "vkCreateInstance",
                result,
            });
        }
    }
    let mut handles = [ptr::null_mut(); DEVICES_MAX as usize];
    let mut count = DEVICES_MAX;
    // SAFETY: a live instance, and room for as many handles as said; the loader writes no more and counts them.
    let result = unsafe { enumerate(instance, &raw mut count, handles.as_mut_ptr()) };
    let found = handles.iter().take(count as usize).map(|handle| {
        let mut got = Properties {
            api: 0,
            driver: 0,
            vendor_id: 0,
            device_id: 0,
            kind: 0,
            name: [0; 256],
            rest: [0; 824 - 276],
        };
        // SAFETY: a device of the live instance, and a whole VkPhysicalDeviceProperties of ours to write to.
        unsafe { properties(*handle, &raw mut got) };
        describe(&mut got)
    });
    let mut devices: Vec<VulkanDevice> = if matches!(result, 0 | INCOMPLETE) {
        found.collect()
    } else {
        Vec::new()
    };
    // SAFETY: made above, with no object left that was made from it; devices belong to it and are not used any more.
    unsafe { destroy(instance, ptr::null()) };
    if !matches!(result, 0 | INCOMPLETE) {
        return Err(VulkanError::Call {
            call: "vkEnumeratePhysicalDevices",
            result,
        });
    }
    if devices.is_empty() {
        return Err(VulkanError::NoDevice);
    }
    devices.sort_by_key(|device| device.kind);
    Ok(devices)
}

fn describe(got: &mut Properties) -> VulkanDevice {
    got.name[255] = 0;
    // SAFETY: 256 characters, the last of which is 0.
    let name = unsafe { CStr::from_ptr(got.name.as_ptr()) };
    VulkanDevice {
        name: name.to_string_lossy().into_owned(),
        kind: VulkanDeviceKind::of(got.kind),
        api: ((got.api >> 22) & 0x7f, (got.api >> 12) & 0x3ff),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_come_before_what_plays_one() {
        let mut kinds: Vec<VulkanDeviceKind> = (0..5).map(VulkanDeviceKind::of).collect();
        kinds.sort();
        assert_eq!(kinds.first(), Some(&VulkanDeviceKind::Discrete));
        assert_eq!(kinds.last(), Some(&VulkanDeviceKind::Software));
    }

    #[test]
    fn a_device_is_described() {
        let mut got = Properties {
            api: (1 << 22) | (4 << 12) | 0x131,
            driver: 0,
            vendor_id: 0,
            device_id: 0,
            kind: 4,
            name: [0; 256],
            rest: [0; 824 - 276],
        };
        for (place, letter) in got.name.iter_mut().zip(b"llvmpipe") {
            *place = c_char::try_from(*letter).unwrap();
        }
        let text = describe(&mut got).to_string();
        assert_eq!(text, "llvmpipe (software, no GPU, Vulkan 1.4)");
        // A driver that fills the name to the brim.
        got.name = [c_char::try_from(b'a').unwrap(); 256];
        assert_eq!(describe(&mut got).name.len(), 255);
    }

    /// With drivers or without, with a loader or without: an answer, and errors with the way out.
    #[test]
    fn this_machine_is_asked() {
        match devices() {
            Ok(devices) => assert!(!devices.is_empty()),
            Err(error) => assert!(error.to_string().contains("Debian"), "{error}"),
        }
    }
}
