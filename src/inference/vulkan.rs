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

/// The kinds of Vulkan devices, best first, with their names for users. A virtual GPU is a part of the host's GPU in a
/// virtual machine; a CPU emulates a GPU.
const KINDS: [(vk::PhysicalDeviceType, &str); 5] = [
    (vk::PhysicalDeviceType::DISCRETE_GPU, "GPU"),
    (vk::PhysicalDeviceType::INTEGRATED_GPU, "GPU"),
    (vk::PhysicalDeviceType::VIRTUAL_GPU, "virtual GPU"),
    (vk::PhysicalDeviceType::OTHER, "device"),
    (vk::PhysicalDeviceType::CPU, "software, no GPU"),
];
/// The index in [`KINDS`] that stands for unlisted kinds: that of `OTHER`.
const OTHER: usize = 3;

/// A Vulkan device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VulkanDevice {
    /// Name, as its driver reports it.
    pub name: String,
    /// Index in [`KINDS`].
    kind: usize,
    /// Major and minor version of Vulkan that it supports.
    pub api: (u32, u32),
}

impl VulkanDevice {
    fn is_hardware(&self) -> bool {
        KINDS[self.kind].0 != vk::PhysicalDeviceType::CPU
    }
}

impl std::fmt::Display for VulkanDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ((_, kind), (major, minor)) = (KINDS[self.kind], self.api);
        write!(f, "{} ({kind}, Vulkan {major}.{minor})", self.name)
    }
}

impl From<&vk::PhysicalDeviceProperties> for VulkanDevice {
    fn from(properties: &vk::PhysicalDeviceProperties) -> Self {
        let name = properties.device_name_as_c_str().unwrap_or_default();
        let api = properties.api_version;
        let kind = KINDS.iter().position(|k| k.0 == properties.device_type);
        Self {
            name: name.to_string_lossy().into_owned(),
            kind: kind.unwrap_or(OTHER),
            api: (vk::api_version_major(api), vk::api_version_minor(api)),
        }
    }
}

/// The Vulkan devices of this machine, best first; at least one.
///
/// Loads every installed driver into this process: a broken driver may crash it.
///
/// # Errors
/// Returns a human-readable reason with its fix, when there is no loader or no device, or a call fails.
pub fn devices() -> Result<Vec<VulkanDevice>, String> {
    const NO_DEVICE: &str = "the Vulkan loader finds no device; install the GPU's driver (Debian: mesa-vulkan-drivers, Jetson: part of JetPack) and let this user open /dev/dri/renderD* (group render)";
    // SAFETY: loads the system's loader, whose initializers any Vulkan program runs.
    let entry = unsafe { Entry::load() };
    let entry = entry.map_err(|error| {
        format!(
            "cannot load the Vulkan loader ({error}); install it (Debian: libvulkan1) and the GPU's driver"
        )
    })?;
    let entry = ManuallyDrop::new(entry);
    let failed = |call: &str, result: vk::Result| {
        let result = result.as_raw();
        format!("{call} failed with {result}; `vulkaninfo` (Debian: vulkan-tools) may say more")
    };
    // SAFETY: a default create info without layers, extensions and allocator; the loader stays loaded.
    let instance = unsafe { entry.create_instance(&vk::InstanceCreateInfo::default(), None) };
    let instance = instance.map_err(|result| match result {
        vk::Result::ERROR_INCOMPATIBLE_DRIVER => NO_DEVICE.to_owned(),
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
        return Err(NO_DEVICE.to_owned());
    }
    devices.sort_by_key(|device| device.kind);
    Ok(devices)
}

/// The names of [`devices`], and whether the first is hardware.
pub(super) fn device_names() -> Result<(Vec<String>, bool), String> {
    let devices = devices()?;
    let is_hardware = devices[0].is_hardware();
    let names = devices.iter().map(ToString::to_string);
    Ok((names.collect(), is_hardware))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_comes_before_software() {
        let device = |device_type| {
            VulkanDevice::from(&vk::PhysicalDeviceProperties {
                device_type,
                ..Default::default()
            })
        };
        let kinds = (0..6).map(vk::PhysicalDeviceType::from_raw);
        let mut devices: Vec<VulkanDevice> = kinds.map(device).collect();
        devices.sort_by_key(|device| device.kind);
        assert!(devices[0].to_string().contains("GPU"));
        let hardware = devices.iter().map(VulkanDevice::is_hardware);
        assert_eq!(
            hardware.collect::<Vec<_>>(),
            [true, true, true, true, true, false]
        );
    }

    #[test]
    fn a_device_is_described() {
        let mut properties = vk::PhysicalDeviceProperties {
            api_version: vk::make_api_version(0, 1, 4, 0x131),
            device_type: vk::PhysicalDeviceType::CPU,
            ..Default::default()
        };
        for (place, byte) in properties.device_name.iter_mut().zip(b"llvmpipe") {
            *place = std::ffi::c_char::try_from(*byte).unwrap();
        }
        let text = VulkanDevice::from(&properties).to_string();
        assert_eq!(text, "llvmpipe (software, no GPU, Vulkan 1.4)");
    }

    /// With or without drivers, with or without a loader: devices, or an error with its fix.
    #[test]
    fn the_devices_of_this_machine_are_listed() {
        match devices() {
            Ok(devices) => assert!(!devices.is_empty()),
            Err(error) => assert!(error.contains("Debian"), "{error}"),
        }
    }
}
