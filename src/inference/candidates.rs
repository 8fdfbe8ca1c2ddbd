//! The backends that this machine could use, and what each one needs.

use super::hardware::{DeviceNode, Hardware};
use super::model_files::ModelRole;
use super::{BackendSpec, DelegateSpec, LiteRt, LiteRtTarget, ModelPaths, delegate_library};
use crate::selection::{
    CPU, CPU_FP16, CPU_INT8, CPU_INT8_FP16, CUSTOM, LITERT_CPU, LITERT_CPU_FP16, LITERT_CPU_INT8,
    LITERT_GPU, Precision, reduced_precision,
};
use std::fs;

/// Device nodes of GPUs.
const GPU_NODES: [&str; 4] = [
    "/dev/dri/renderD*",
    "/dev/nvidia0",
    "/dev/nvhost-gpu",
    "/dev/nvgpu*",
];

/// A backend that could run the models.
#[derive(Clone, Debug)]
pub struct BackendCandidate {
    /// Name, as in the configuration.
    pub name: String,
    /// Hardware or kernels that it uses.
    pub what: String,
    /// How it is opened.
    pub spec: BackendSpec,
    /// Its devices that are present.
    pub devices: Vec<String>,
    /// Whether its library is installed.
    pub has_library: bool,
    /// What is missing; when empty, the backend can be tried.
    pub missing: Vec<MissingRequirement>,
}

/// Something that a backend needs and the machine does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingRequirement {
    /// What is missing.
    pub what: String,
    /// How to get it.
    pub fix: String,
}

impl MissingRequirement {
    fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            fix: fix.into(),
        }
    }
}

impl BackendCandidate {
    /// The CPU, which every machine has.
    #[must_use]
    pub fn cpu() -> Self {
        Self {
            name: CPU.to_owned(),
            what: "TensorFlow Lite with XNNPACK".to_owned(),
            spec: BackendSpec::Cpu,
            devices: Vec::new(),
            has_library: true,
            missing: Vec::new(),
        }
    }

    /// Whether its library or a device is present.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.has_library || !self.devices.is_empty()
    }
}

/// All backends but the CPU, whether they can be used or not; `delegate` is a candidate when it is configured. Int8 models
/// lie beside `models`.
#[must_use]
pub fn all(
    delegate: &DelegateSpec,
    models: &ModelPaths,
    hardware: &Hardware,
) -> Vec<BackendCandidate> {
    let mut all = vec![
        litert(LiteRtTarget::Cpu, models, hardware),
        litert(LiteRtTarget::Gpu, models, hardware),
    ];
    let reduced = [CPU_FP16, CPU_INT8, CPU_INT8_FP16];
    all.extend(reduced.iter().filter_map(|name| cpu_reduced(name, models)));
    all.push(litert(LiteRtTarget::CpuFp16, models, hardware));
    all.push(litert(LiteRtTarget::CpuInt8, models, hardware));
    if *delegate != DelegateSpec::default() {
        all.push(custom(delegate));
    }
    all
}

/// The backend `name` of reduced precision on the CPU.
fn cpu_reduced(name: &str, models: &ModelPaths) -> Option<BackendCandidate> {
    let precision = reduced_precision(name)?;
    let [palm, hand] = precision;
    let mut missing = Vec::new();
    if precision.contains(&Precision::Fp16) {
        missing.extend(missing_fp16());
    }
    if hand == Precision::Int8 {
        missing.extend(missing_int8(models));
    }
    let slow = if cfg!(target_arch = "x86_64") && palm == Precision::Fp16 {
        ", emulated and slow on x86-64"
    } else {
        ""
    };
    Some(BackendCandidate {
        name: name.to_owned(),
        what: format!("TensorFlow Lite, palm model in {palm}, hand model in {hand}{slow}"),
        spec: BackendSpec::CpuReduced(precision),
        devices: Vec::new(),
        has_library: missing.is_empty(),
        missing,
    })
}

fn missing_int8(models: &ModelPaths) -> Option<MissingRequirement> {
    let reason = models.int8(ModelRole::Hand).err()?;
    Some(MissingRequirement::new("its hand model", reason))
}

/// What keeps XNNPACK from computing in 16-bit floats.
fn missing_fp16() -> Option<MissingRequirement> {
    #[cfg(target_arch = "aarch64")]
    let (has_fp16, feature) = (std::arch::is_aarch64_feature_detected!("fp16"), "ARMv8.2's");
    #[cfg(target_arch = "x86_64")]
    let (has_fp16, feature) = (
        is_x86_feature_detected!("f16c") && is_x86_feature_detected!("avx2"),
        "AVX2's and F16C's",
    );
    #[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
    let (has_fp16, feature) = (false, "known");
    (!has_fp16).then(|| {
        let what = format!("{feature} arithmetic in 16-bit floats, which this processor lacks");
        MissingRequirement::new(what, "use the backend cpu or cpu:int8")
    })
}

fn litert(target: LiteRtTarget, models: &ModelPaths, hardware: &Hardware) -> BackendCandidate {
    let located = LiteRt::locate();
    let mut missing = Vec::new();
    let mut devices = Vec::new();
    if let Err(error) = &located {
        missing.push(MissingRequirement::new("its library", error.to_string()));
    }
    if target == LiteRtTarget::Gpu {
        if matches!(located, Ok((_, false))) {
            let what = "libLiteRtWebGpuAccelerator.so beside it";
            let fix = "run `make setup-litert` again";
            missing.push(MissingRequirement::new(what, fix));
        }
        let nodes: Vec<DeviceNode> = GPU_NODES.iter().flat_map(|p| hardware.nodes(p)).collect();
        missing.extend(missing_gpu(&nodes));
        devices.extend(nodes.iter().map(|node| node.path.display().to_string()));
    }
    if target == LiteRtTarget::CpuFp16 {
        missing.extend(missing_fp16());
    }
    if target == LiteRtTarget::CpuInt8 {
        missing.extend(missing_int8(models));
    }
    let (name, what) = match target {
        LiteRtTarget::Cpu => (LITERT_CPU, "LiteRT's CPU kernels, the same as MediaPipe's"),
        LiteRtTarget::CpuFp16 => (LITERT_CPU_FP16, "LiteRT's CPU kernels in 16-bit floats"),
        LiteRtTarget::CpuInt8 => (
            LITERT_CPU_INT8,
            "LiteRT's CPU kernels, palm model in f32, hand model in int8",
        ),
        LiteRtTarget::Gpu => (LITERT_GPU, "a Vulkan GPU through LiteRT"),
    };
    BackendCandidate {
        name: name.to_owned(),
        what: what.to_owned(),
        spec: BackendSpec::LiteRt(target),
        devices,
        has_library: located.is_ok(),
        missing,
    }
}

/// What keeps this user from the GPU: no device node, or none that may be opened.
fn missing_gpu(nodes: &[DeviceNode]) -> Option<MissingRequirement> {
    let Some(node) = nodes.first() else {
        let nodes = GPU_NODES.join(", ");
        let fix = format!("connect it and install its driver; none of {nodes} exists");
        return Some(MissingRequirement::new("a GPU with a Vulkan driver", fix));
    };
    if nodes.iter().any(|node| node.is_open) {
        return None;
    }
    let (path, group) = (node.path.display(), &node.group);
    let fix = format!(
        "run `sudo usermod -aG {group} $USER` and log in again; for the service, SupplementaryGroups={group}"
    );
    let what = format!("permission to use {path}");
    Some(MissingRequirement::new(what, fix))
}

fn custom(spec: &DelegateSpec) -> BackendCandidate {
    let mut missing = Vec::new();
    let has_library = delegate_library::locate(&spec.library).is_some();
    if !has_library {
        let what = format!("its library {}", spec.library.display());
        let fix = "install it, or set delegate.library to the plugin's file";
        missing.push(MissingRequirement::new(what, fix));
    }
    BackendCandidate {
        name: CUSTOM.to_owned(),
        what: format!("the delegate {}", spec.library.display()),
        spec: BackendSpec::Delegate(spec.clone()),
        devices: Vec::new(),
        has_library,
        missing,
    }
}

/// Name, size and modification time of the Vulkan drivers: a driver update makes cached benchmarks invalid.
#[must_use]
pub fn vulkan_drivers() -> Vec<String> {
    let arch = std::env::consts::ARCH;
    let libraries = format!("/usr/lib/{arch}-linux-gnu");
    let folders = ["/etc/vulkan/icd.d", "/usr/share/vulkan/icd.d", &libraries];
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
    let mut drivers: Vec<String> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let prefixes = ["libvulkan", "libnvidia", "libGLX_nvidia"];
            let is_driver = entry.path().extension().is_some_and(|e| e == "json")
                || prefixes.iter().any(|prefix| name.starts_with(prefix));
            let metadata = entry.metadata().ok().filter(|_| is_driver)?;
            let modified = metadata.modified().ok()?;
            Some(format!("{name} {} {modified:?}", metadata.len()))
        })
        .collect();
    drivers.sort();
    drivers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selection::BACKENDS;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn missing(root: &Path, delegate: &DelegateSpec, name: &str) -> Vec<String> {
        let all = all(delegate, &ModelPaths::default(), &Hardware::in_root(root));
        let candidate = all.into_iter().find(|c| c.name == name).unwrap();
        let missing = candidate.missing.into_iter();
        missing.map(|m| format!("{}: {}", m.what, m.fix)).collect()
    }

    #[test]
    fn missing_requirements_come_with_their_fix() {
        let dir = tempfile::tempdir().unwrap();
        let gpu = |part: &str| {
            let missing = missing(dir.path(), &DelegateSpec::default(), LITERT_GPU);
            assert!(missing.iter().any(|m| m.contains(part)), "{missing:?}");
        };
        gpu("/dev/dri/renderD*");
        fs::create_dir_all(dir.path().join("dev/dri")).unwrap();
        let node = dir.path().join("dev/dri/renderD128");
        fs::write(&node, "").unwrap();
        fs::set_permissions(&node, fs::Permissions::from_mode(0o000)).unwrap();
        let hardware = Hardware::in_root(dir.path());
        // Root may open any node.
        if !hardware.nodes("/dev/dri/renderD*")[0].is_open {
            gpu("SupplementaryGroups=");
        }

        let library = dir.path().join("libedgetpu.so.1");
        fs::write(&library, "").unwrap();
        let mut delegate = DelegateSpec {
            library,
            ..DelegateSpec::default()
        };
        assert_eq!(missing(dir.path(), &delegate, CUSTOM), [""; 0]);
        delegate.library = "/nowhere/x.so".into();
        assert!(missing(dir.path(), &delegate, CUSTOM)[0].contains("/nowhere/x.so"));
    }

    #[test]
    fn every_name_is_a_candidate() {
        let delegate = DelegateSpec {
            library: "x.so".into(),
            ..DelegateSpec::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let models = ModelPaths::default();
        let all = all(&delegate, &models, &Hardware::in_root(dir.path()));
        let found: Vec<&str> = all.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(found, BACKENDS);
    }
}
