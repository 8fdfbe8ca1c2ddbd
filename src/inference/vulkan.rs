//! The Vulkan devices of this machine, listed through the system's loader, which is loaded at run time. A GPU backend
//! names the device that it uses, and a software device is never mistaken for a GPU.
//!
//! # Soundness
//!
//! `ash` declares the functions of Vulkan 1.0. The loader is never closed, because drivers leave threads behind. One
//! thread creates, queries and destroys the instance.

#![allow(
    unsafe_code,
    reason = "the C API of a library that is loaded at run time"
)]

use ash::{Entry, vk};
use std::mem::ManuallyDrop;

/// Kind of a device, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VulkanDeviceKind {
    /// A GPU with its own memory.
    Discrete,
    /// A GPU that shares the memory of the machine.
    Integrated,
    /// A part of a GPU that the host of a virtual machine provides.
    Virtual,
    /// An unknown kind.
    Other,
    /// The CPU emulates a GPU.
    Software,
}

impl From<vk::PhysicalDeviceType> for VulkanDeviceKind {
    fn from(kind: vk::PhysicalDeviceType) -> Self {
        match kind {
            vk::PhysicalDeviceType::DISCRETE_GPU => Self::Discrete,
            vk::PhysicalDeviceType::INTEGRATED_GPU => Self::Integrated,
            vk::PhysicalDeviceType::VIRTUAL_GPU => Self::Virtual,
            vk::PhysicalDeviceType::CPU => Self::Software,
            _ => Self::Other,
        }
    }
}

/// A Vulkan device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VulkanDevice {
    /// Name, as its driver reports it.
    pub name: String,
    /// Kind of device.
    pub kind: VulkanDeviceKind,
    /// Major and minor version of Vulkan that it supports.
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

impl From<&vk::PhysicalDeviceProperties> for VulkanDevice {
    fn from(properties: &vk::PhysicalDeviceProperties) -> Self {
        let name = properties.device_name_as_c_str().unwrap_or_default();
        let api = properties.api_version;
        Self {
            name: name.to_string_lossy().into_owned(),
            kind: properties.device_type.into(),
            api: (vk::api_version_major(api), vk::api_version_minor(api)),
        }
    }
}

/// Why the devices cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum VulkanError {
    /// There is no loader.
    #[error(
        "cannot load the Vulkan loader ({0}); install it (Debian: libvulkan1) and the GPU's driver"
    )]
    Loader(String),
    /// There is a loader, but no device.
    #[error(
        "the Vulkan loader finds no device; install the GPU's driver (Debian: mesa-vulkan-drivers, Jetson: part of JetPack) and let this user open /dev/dri/renderD* (group render)"
    )]
    NoDevice,
    /// A call failed.
    #[error("{call} failed with {result}; `vulkaninfo` (Debian: vulkan-tools) may say more")]
    Call {
        /// Name of the function.
        call: &'static str,
        /// The `VkResult`.
        result: i32,
    },
}

/// The Vulkan devices of this machine, best first; at least one.
///
/// Loads every installed driver into this process: a broken driver may crash it.
///
/// # Errors
/// See [`VulkanError`].
pub fn devices() -> Result<Vec<VulkanDevice>, VulkanError> {
    // SAFETY: loads the system's loader, whose initializers any Vulkan program runs.
    let entry = unsafe { Entry::load() };
    let entry = entry.map_err(|error| VulkanError::Loader(error.to_string()))?;
    let entry = ManuallyDrop::new(entry);
    let failed = |call, result: vk::Result| VulkanError::Call {
        call,
        result: result.as_raw(),
    };
    // SAFETY: a default create info without layers, extensions and allocator; the loader stays loaded.
    let instance = unsafe { entry.create_instance(&vk::InstanceCreateInfo::default(), None) };
    let instance = instance.map_err(|result| match result {
        vk::Result::ERROR_INCOMPATIBLE_DRIVER => VulkanError::NoDevice,
        result => failed("vkCreateInstance", result),
    })?;
    // SAFETY: a live instance.
    let handles = unsafe { instance.enumerate_physical_devices() };
    let devices = handles.map(|handles| {
        let describe = |handle: &vk::PhysicalDevice| {
            // SAFETY: a device of the live instance.
            VulkanDevice::from(&unsafe { instance.get_physical_device_properties(*handle) })
        };
        handles.iter().map(describe).collect::<Vec<_>>()
    });
    // SAFETY: created above; no object made from it is left, and its devices are not used any more.
    unsafe { instance.destroy_instance(None) };
    let mut devices = devices.map_err(|result| failed("vkEnumeratePhysicalDevices", result))?;
    if devices.is_empty() {
        return Err(VulkanError::NoDevice);
    }
    devices.sort_by_key(|device| device.kind);
    Ok(devices)
}

/// The names of [`devices`], and whether the first is hardware.
pub(super) fn device_names() -> Result<(Vec<String>, bool), String> {
    let devices = devices().map_err(|error| error.to_string())?;
    let is_hardware = devices
        .first()
        .is_some_and(|device| device.kind != VulkanDeviceKind::Software);
    let names = devices.iter().map(ToString::to_string);
    Ok((names.collect(), is_hardware))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_comes_before_software() {
        let mut kinds: Vec<VulkanDeviceKind> = (0..5)
            .map(|kind| vk::PhysicalDeviceType::from_raw(kind).into())
            .collect();
        kinds.sort();
        assert_eq!(kinds.first(), Some(&VulkanDeviceKind::Discrete));
        assert_eq!(kinds.last(), Some(&VulkanDeviceKind::Software));
    }

    #[test]
    fn a_device_is_described() {
        let mut properties = vk::PhysicalDeviceProperties {
            api_version: vk::make_api_version(0, 1, 4, 0x131),
            device_type: vk::PhysicalDeviceType::CPU,
            ..Default::default()
        };
        for (place, letter) in properties.device_name.iter_mut().zip(b"llvmpipe") {
            *place = std::ffi::c_char::try_from(*letter).unwrap();
        }
        let text = VulkanDevice::from(&properties).to_string();
        assert_eq!(text, "llvmpipe (software, no GPU, Vulkan 1.4)");
    }

    /// With or without drivers, with or without a loader: devices, or an error with its fix.
    #[test]
    fn the_devices_of_this_machine_are_listed() {
        match devices() {
            Ok(devices) => assert!(!devices.is_empty()),
            Err(error) => assert!(error.to_string().contains("Debian"), "{error}"),
        }
    }
}
