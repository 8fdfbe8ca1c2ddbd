//! Known delegate plugins by name: where their libraries lie, what they are told, what they need. By their makers'
//! words; which were run on real hardware says the README.

use super::delegate_library::DelegateSpec;
use std::path::{Path, PathBuf};

/// Which models a delegate can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// The shipped float models.
    Float,
    /// Only int8 ones, which the user names.
    Int8,
    /// Only int8 ones that the maker's compiler has worked on, which the user names.
    Compiled,
}

/// A known plugin.
#[derive(Debug)]
pub struct Preset {
    /// As the user writes it.
    pub name: &'static str,
    /// What it drives.
    pub what: &'static str,
    /// The library: names for the system's loader and files, the first that is there counts.
    pub libraries: &'static [&'static str],
    /// What it is told unless the user says otherwise.
    pub options: &'static [(&'static str, &'static str)],
    /// What it can run.
    pub models: ModelKind,
    /// Device nodes, of which one must be there and open to the user; a `*` at the end stands for anything. Empty
    /// where none can be named.
    pub devices: &'static [&'static str],
    /// USB devices, `vendor:product`, one of which may be there instead of a node.
    pub usb: &'static [&'static str],
    /// What brings the library.
    pub source: &'static str,
}

/// All of them.
pub static PRESETS: [Preset; 6] = [
    Preset {
        name: "coral",
        what: "Google Coral Edge TPU",
        libraries: &["libedgetpu.so.1"],
        // Without `device` it takes the first that it finds, on USB or PCIe.
        options: &[],
        models: ModelKind::Compiled,
        devices: &["/dev/apex_*"],
        // Before and after its firmware is loaded.
        usb: &["1a6e:089a", "18d1:9302"],
        source: "the package libedgetpu1-std, in a build for TensorFlow 2.17",
    },
    Preset {
        name: "vx",
        what: "VeriSilicon NPU with its maker's driver (NXP i.MX 8M Plus, Amlogic)",
        libraries: &["libvx_delegate.so"],
        // Compiling takes minutes: set `allowed_cache_mode=true` with `cache_file_path=/var/cache/…/{model}.nbg`.
        options: &[],
        models: ModelKind::Int8,
        devices: &["/dev/galcore"],
        usb: &[],
        source: "the board maker's image (NXP: tensorflow-lite-vx-delegate)",
    },
    Preset {
        name: "teflon",
        what: "VeriSilicon and Rockchip NPUs with Mesa's open driver",
        libraries: &["libteflon.so", "/usr/lib/teflon/libteflon.so"],
        options: &[],
        models: ModelKind::Int8,
        devices: &["/dev/accel/accel*", "/dev/dri/renderD*"],
        usb: &[],
        source: "the package mesa-teflon-delegate (Debian 13, bookworm-backports)",
    },
    Preset {
        name: "armnn",
        what: "Arm Mali GPU through Arm NN",
        libraries: &["libarmnnDelegate.so"],
        // Its CPU back end as second choice would hide that the GPU is not there.
        options: &[("backends", "GpuAcc")],
        models: ModelKind::Float,
        devices: &["/dev/mali*"],
        usb: &[],
        source: "an Arm NN release (github.com/ARM-software/armnn)",
    },
    Preset {
        name: "qnn",
        what: "Qualcomm Hexagon NPU",
        libraries: &["libQnnTFLiteDelegate.so"],
        // 2 is burst.
        options: &[("backend_type", "htp"), ("htp_performance_mode", "2")],
        models: ModelKind::Int8,
        devices: &["/dev/fastrpc-cdsp*", "/dev/adsprpc-smd*"],
        usb: &[],
        source: "Qualcomm's AI Engine Direct SDK",
    },
    Preset {
        name: "tflite-gpu",
        what: "a GPU with OpenCL or OpenGL ES 3.1",
        libraries: &["libtensorflowlite_gpu_delegate.so"],
        options: &[],
        models: ModelKind::Float,
        devices: &[
            "/dev/dri/renderD*",
            "/dev/mali*",
            "/dev/nvhost-*gpu",
            "/dev/kgsl-3d0",
        ],
        usb: &[],
        source: "TensorFlow 2.17, built with bazel (tensorflow/lite/delegates/gpu)",
    },
];

impl Preset {
    /// The one called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// The delegate with the preset's values where `wish` has none: its library where that is empty, its options in
    /// front of those that `wish` does not set itself.
    #[must_use]
    pub fn fill(&self, wish: &DelegateSpec) -> DelegateSpec {
        let is_set = |key: &str| wish.options.iter().any(|(own, _)| own == key);
        let mut options: Vec<(String, String)> = self
            .options
            .iter()
            .filter(|(key, _)| !is_set(key))
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        options.extend(wish.options.iter().cloned());
        DelegateSpec {
            library: if wish.library.as_os_str().is_empty() {
                self.library()
            } else {
                wish.library.clone()
            },
            options,
            palm: wish.palm.clone(),
            hand: wish.hand.clone(),
        }
    }

    /// A file of the list that is there, else the first name, for the system's loader to find.
    fn library(&self) -> PathBuf {
        let there = self
            .libraries
            .iter()
            .filter(|name| name.starts_with('/'))
            .find(|name| Path::new(name).exists());
        there
            .or(self.libraries.first())
            .map(PathBuf::from)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selection::{CUSTOM, DELEGATES};

    #[test]
    fn presets_are_whole_and_told_apart() {
        for preset in &PRESETS {
            assert!(std::ptr::eq(Preset::named(preset.name).unwrap(), preset));
            assert!(!preset.libraries.is_empty() && !preset.devices.is_empty());
            let fetched = preset.libraries[0];
            assert!(
                fetched.starts_with("lib") && fetched.contains(".so"),
                "{fetched}"
            );
        }
        assert!(Preset::named("cpu").is_none());
        let names = PRESETS.iter().map(|preset| preset.name);
        assert!(names.chain([CUSTOM]).eq(DELEGATES));
    }

    #[test]
    fn what_the_user_says_wins() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let qnn = Preset::named("qnn").unwrap();
        let plain = qnn.fill(&DelegateSpec::default());
        assert_eq!(plain.library, Path::new("libQnnTFLiteDelegate.so"));
        assert_eq!(
            plain.options,
            [
                pair("backend_type", "htp"),
                pair("htp_performance_mode", "2")
            ]
        );
        let wish = DelegateSpec {
            library: "/opt/q.so".into(),
            options: vec![pair("backend_type", "gpu"), pair("log_level", "1")],
            hand: Some("hand_int8.tflite".into()),
            palm: None,
        };
        let filled = qnn.fill(&wish);
        assert_eq!(filled.library, wish.library);
        assert_eq!(filled.hand, wish.hand);
        assert_eq!(
            filled.options,
            [
                pair("htp_performance_mode", "2"),
                pair("backend_type", "gpu"),
                pair("log_level", "1")
            ]
        );
    }
}
