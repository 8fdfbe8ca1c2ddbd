//! What this machine has to run the models on, and what is missing to use the rest, with the way to mend it.

use crate::inference::{
    BackendSpec, DelegatePreference, DelegateSpec, LiteRt, LiteRtTarget, ModelKind, PRESETS,
    Preset, delegate_library,
};
use crate::selection::CPU;
use crate::selection::{CUSTOM, LITERT_CPU, LITERT_GPU};
use crate::system::{DeviceNode, Hardware};

/// Where a GPU shows itself.
const GPU_NODES: [&str; 4] = [
    "/dev/dri/renderD*",
    "/dev/nvidia0",
    "/dev/nvhost-gpu",
    "/dev/nvgpu*",
];

/// A backend that could run the models.
#[derive(Clone, Debug)]
pub struct BackendCandidate {
    /// As the user writes it.
    pub name: String,
    /// What it drives.
    pub what: String,
    /// How it is opened.
    pub spec: BackendSpec,
    /// Its devices that are there.
    pub devices: Vec<String>,
    /// Whether its library is there.
    pub has_library: bool,
    /// What is missing; where nothing is, it can be tried.
    pub lacks: Vec<MissingRequirement>,
}

/// Something that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingRequirement {
    /// What.
    pub what: String,
    /// How to mend it.
    pub mend: String,
}

impl MissingRequirement {
    fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            mend: mend.into(),
        }
    }
}

impl BackendCandidate {
    /// The one that is always there.
    #[must_use]
    pub fn cpu() -> Self {
        Self {
            name: CPU.to_owned(),
            what: "TensorFlow Lite with XNNPACK".to_owned(),
            spec: BackendSpec::Cpu,
            devices: Vec::new(),
            has_library: true,
            lacks: Vec::new(),
        }
    }

    /// Whether the machine has anything of it.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.has_library || !self.devices.is_empty()
    }
}

/// All but the CPU, whether they can be used or not.
#[must_use]
pub fn all(delegate: &DelegatePreference, hardware: &Hardware) -> Vec<BackendCandidate> {
    let mut all = vec![
        litert(LiteRtTarget::Cpu, hardware),
        litert(LiteRtTarget::Gpu, hardware),
    ];
    all.extend(PRESETS.iter().map(|preset| {
        let own = DelegateSpec::default();
        let own = if delegate.name == preset.name {
            &delegate.spec
        } else {
            &own
        };
        of_preset(preset, own, hardware)
    }));
    if delegate.name == CUSTOM && delegate.spec != DelegateSpec::default() {
        all.push(custom(&delegate.spec));
    }
    all
}

fn litert(target: LiteRtTarget, hardware: &Hardware) -> BackendCandidate {
    let located = LiteRt::locate();
    let mut lacks = Vec::new();
    let mut devices = Vec::new();
    if let Err(error) = &located {
        lacks.push(MissingRequirement::new("its library", error.to_string()));
    }
    if target == LiteRtTarget::Gpu {
        if matches!(located, Ok((_, false))) {
            let mend = "run `make setup-litert` again";
            lacks.push(MissingRequirement::new(
                "libLiteRtWebGpuAccelerator.so beside it",
                mend,
            ));
        }
        devices = open_nodes(
            &GPU_NODES,
            &[],
            "a GPU with a Vulkan driver",
            hardware,
            &mut lacks,
        );
    }
    let (name, what) = match target {
        LiteRtTarget::Cpu => (LITERT_CPU, "LiteRT's kernels, which are MediaPipe's own"),
        LiteRtTarget::Gpu => (LITERT_GPU, "a Vulkan GPU through LiteRT"),
    };
    BackendCandidate {
        name: name.to_owned(),
        what: what.to_owned(),
        spec: BackendSpec::LiteRt(target),
        devices,
        has_library: located.is_ok(),
        lacks,
    }
}

fn of_preset(preset: &Preset, own: &DelegateSpec, hardware: &Hardware) -> BackendCandidate {
    let spec = preset.fill(own);
    let mut lacks = Vec::new();
    let has_library = delegate_library::locate(&spec.library).is_some();
    if !has_library {
        let what = format!("its library {}", spec.library.display());
        lacks.push(MissingRequirement::new(
            what,
            format!("install {}", preset.source),
        ));
    }
    let devices = open_nodes(
        preset.devices,
        preset.usb,
        preset.what,
        hardware,
        &mut lacks,
    );
    let models = match preset.models {
        ModelKind::Float => None,
        ModelKind::Int8 => Some("int8 models"),
        ModelKind::Compiled => Some("int8 models that its maker's compiler has worked on"),
    };
    if let Some(models) = models
        && (spec.palm.is_none() || spec.hand.is_none())
    {
        let mend = format!(
            "it runs only those: set delegate.name = {:?}, delegate.palm and delegate.hand",
            preset.name
        );
        lacks.push(MissingRequirement::new(models, mend));
    }
    BackendCandidate {
        name: preset.name.to_owned(),
        what: preset.what.to_owned(),
        spec: BackendSpec::Delegate(spec),
        devices,
        has_library,
        lacks,
    }
}

fn custom(spec: &DelegateSpec) -> BackendCandidate {
    let mut lacks = Vec::new();
    let has_library = delegate_library::locate(&spec.library).is_some();
    if !has_library {
        let what = format!("its library {}", spec.library.display());
        lacks.push(MissingRequirement::new(
            what,
            "set delegate.library to the plugin's file",
        ));
    }
    BackendCandidate {
        name: CUSTOM.to_owned(),
        what: format!("the delegate {}", spec.library.display()),
        spec: BackendSpec::Delegate(spec.clone()),
        devices: Vec::new(),
        has_library,
        lacks,
    }
}

/// Name, size and time of the Vulkan drivers and their libraries: an update of them is another GPU.
#[must_use]
pub fn vulkan_drivers() -> Vec<String> {
    let arch = std::env::consts::ARCH;
    let libraries = format!("/usr/lib/{arch}-linux-gnu");
    let folders = ["/etc/vulkan/icd.d", "/usr/share/vulkan/icd.d", &libraries];
    let entries = folders
        .iter()
        .flat_map(|f| std::fs::read_dir(f).into_iter().flatten());
    let mut drivers: Vec<String> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let starts = ["libvulkan", "libnvidia", "libGLX_nvidia"];
            let is_driver = entry.path().extension().is_some_and(|e| e == "json")
                || starts.iter().any(|s| name.starts_with(s));
            let metadata = entry.metadata().ok().filter(|_| is_driver)?;
            let changed = metadata.modified().ok()?;
            Some(format!("{name} {} {changed:?}", metadata.len()))
        })
        .collect();
    drivers.sort();
    drivers
}

/// The nodes and USB devices that are there; what keeps the user from them goes to `lacks`.
fn open_nodes(
    patterns: &[&str],
    usb: &[&str],
    what: &str,
    hardware: &Hardware,
    lacks: &mut Vec<MissingRequirement>,
) -> Vec<String> {
    let nodes: Vec<DeviceNode> = patterns.iter().flat_map(|p| hardware.nodes(p)).collect();
    let sticks = hardware.usb();
    let sticks = sticks.into_iter().filter(|id| usb.contains(&id.as_str()));
    let names = nodes.iter().map(|node| node.path.display().to_string());
    let found: Vec<String> = names.chain(sticks).collect();
    match nodes.first() {
        None if found.is_empty() => {
            let looked = patterns.join(", ");
            let mend = format!("none of {looked} is there: connect it and install its driver");
            lacks.push(MissingRequirement::new(what, mend));
        }
        Some(node) if !nodes.iter().any(|node| node.is_open) => {
            let (path, group) = (node.path.display(), &node.group);
            let mend = format!(
                "run `sudo usermod -aG {group} $USER` and log in again; for the service, SupplementaryGroups={group}"
            );
            lacks.push(MissingRequirement::new(
                format!("permission to use {path}"),
                mend,
            ));
        }
        _ => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn wish(name: &str, spec: DelegateSpec) -> DelegatePreference {
        DelegatePreference {
            name: name.to_owned(),
            spec,
        }
    }

    fn lacks(root: &Path, delegate: &DelegatePreference, name: &str) -> Vec<String> {
        let all = all(delegate, &Hardware::in_root(root));
        let candidate = all.into_iter().find(|c| c.name == name).unwrap();
        candidate
            .lacks
            .into_iter()
            .map(|l| format!("{}: {}", l.what, l.mend))
            .collect()
    }

    #[test]
    fn what_is_missing_is_said_with_the_way_to_mend_it() {
        let dir = tempfile::tempdir().unwrap();
        let none = wish(CUSTOM, DelegateSpec::default());
        let said = lacks(dir.path(), &none, "coral");
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(
            said[0].contains("install the package libedgetpu1-std"),
            "{said:?}"
        );
        assert!(said[1].contains("/dev/apex_*"), "{said:?}");
        assert!(said[2].contains("delegate.palm"), "{said:?}");
        let gpu = lacks(dir.path(), &none, "litert:gpu");
        assert!(
            gpu.iter().any(|l| l.contains("/dev/dri/renderD*")),
            "{gpu:?}"
        );

        // With the device, the library and models of its own nothing is missing.
        fs::create_dir_all(dir.path().join("dev")).unwrap();
        fs::write(dir.path().join("dev/apex_0"), "").unwrap();
        let library = dir.path().join("libedgetpu.so.1");
        fs::write(&library, "").unwrap();
        let own = DelegateSpec {
            library,
            palm: Some("palm.tflite".into()),
            hand: Some("hand.tflite".into()),
            ..DelegateSpec::default()
        };
        assert_eq!(
            lacks(dir.path(), &wish("coral", own.clone()), "coral"),
            [""; 0]
        );
        assert_eq!(
            lacks(dir.path(), &wish(CUSTOM, own.clone()), CUSTOM),
            [""; 0]
        );
        let gone = DelegateSpec {
            library: "/nowhere/x.so".into(),
            ..own
        };
        assert!(lacks(dir.path(), &wish(CUSTOM, gone), CUSTOM)[0].contains("/nowhere/x.so"));
    }

    #[test]
    fn every_name_is_a_candidate() {
        let delegate = wish(
            CUSTOM,
            DelegateSpec {
                library: "x.so".into(),
                ..DelegateSpec::default()
            },
        );
        let dir = tempfile::tempdir().unwrap();
        let all = all(&delegate, &Hardware::in_root(dir.path()));
        let found: Vec<&str> = all.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(found, crate::selection::BACKENDS);
    }
}
