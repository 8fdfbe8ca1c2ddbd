//! Which backend is requested, which one was chosen, and how results identify it.

use super::{BackendSpec, DelegateSpec, model_files};
use crate::selection::{
    BACKENDS, BackendChoice, BackendPreference, CPU, CUSTOM, Tolerance, reduced_precision,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::path::Path;
use std::time::Duration;

/// Which backend the user requests, with its settings.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendRequest {
    /// The backend.
    pub preference: BackendPreference,
    /// The delegate plugin that [`CUSTOM`] runs; without a library there is none.
    pub delegate: DelegateSpec,
    /// Largest allowed differences to the CPU's landmarks.
    pub tolerance: Tolerance,
    /// How long opening the backend may take.
    pub timeout: Duration,
    /// The identity of the backend that the results in the output folder come from; `None` without results.
    pub recorded: Option<Value>,
}

impl BackendRequest {
    /// The request for more results in an output folder whose settings are `known`.
    #[must_use]
    pub fn resuming(mut self, known: Option<&Value>) -> Self {
        let recorded = known.and_then(|known| known.get("accelerator"));
        self.recorded = recorded.cloned();
        self
    }

    /// The preference, restricted to the backend of earlier results where there are some.
    pub(super) fn in_force(&self) -> BackendPreference {
        let recorded = self.recorded.as_ref().and_then(backend_of);
        self.preference.resumed_on(recorded)
    }

    /// Whether the backend of earlier results decides.
    pub(super) fn is_resumed(&self) -> bool {
        self.in_force() != self.preference
    }

    /// The identity of results that several backends may produce together; `None` where one backend produces all. The
    /// CPU takes over from a preferred device, but not from a CPU backend of reduced precision, which cannot be lost.
    fn mixed(&self) -> Option<Value> {
        let BackendPreference::Prefer(name) = &self.preference else {
            return None;
        };
        let Tolerance { exact, fast } = self.tolerance;
        if reduced_precision(name).is_some() {
            return None;
        }
        let is_own = self.delegate.palm.is_some() || self.delegate.hand.is_some();
        Some(json!(if name == CUSTOM && is_own {
            format!(
                "any within {} of {CPU}, its own models included",
                fast.max(exact)
            )
        } else {
            format!("any within {exact} of {CPU}")
        }))
    }
}

/// Key of the CPU's identity within that of a backend of reduced precision.
const CPU_LIBRARY: &str = "kernels";

/// The name of the one backend that an identity allows; `None` when it allows several.
fn backend_of(identity: &Value) -> Option<&str> {
    let names = BACKENDS.iter().copied().chain([CPU]);
    identity
        .as_str()
        .filter(|name| *name == CPU)
        .or_else(|| names.into_iter().find(|name| identity.get(name).is_some()))
}

/// The identity of the CPU backend: the processor's architecture, and the TFLite library.
fn cpu_identity(known: Option<&Value>) -> Value {
    match known {
        // Results of a version that did not record more.
        Some(known) if known == CPU => known.clone(),
        _ => {
            let library = model_files::loaded_runtime().map(|(_, sha256)| sha256);
            json!({CPU: {"architecture": ARCH, "library_sha256": library}})
        }
    }
}

/// The backend that runs the models.
#[derive(Clone, Debug)]
pub(super) struct ChosenBackend {
    /// Its name, and why it was chosen.
    pub(super) choice: BackendChoice,
    /// How it is opened.
    pub(super) spec: BackendSpec,
    /// SHA-256 of the libraries and models that the backend brings, by path.
    pub(super) files: BTreeMap<String, String>,
}

impl ChosenBackend {
    /// The CPU, without a benchmark.
    pub(super) fn cpu(reason: &str) -> Self {
        Self {
            choice: BackendChoice {
                name: CPU.to_owned(),
                reason: reason.to_owned(),
                refused: Vec::new(),
                is_second_best: false,
                agreement: None,
            },
            spec: BackendSpec::Cpu,
            files: BTreeMap::new(),
        }
    }
}

/// The identity of the results: one backend with its files, or any backend within the tolerance.
pub(super) fn identity(request: &BackendRequest, chosen: &ChosenBackend) -> Value {
    if let Some(mixed) = request.mixed() {
        return mixed;
    }
    match (&request.preference, &request.recorded) {
        // The earlier results allow any backend that computes in 32 bits; the manifest names that of each clip.
        (preference, Some(known))
            if preference.is_open() && backend_of(known).is_none() && !chosen.spec.is_reduced() =>
        {
            return known.clone();
        }
        _ => {}
    }
    let name = chosen.choice.name.as_str();
    match &chosen.spec {
        BackendSpec::Cpu => cpu_identity(request.recorded.as_ref()),
        BackendSpec::CpuReduced(precision) => {
            let cpu = &cpu_identity(None)[CPU];
            json!({name: precision, CPU_LIBRARY: cpu, "files": by_name(&chosen.files)})
        }
        // The path of the pinned library changes no number.
        BackendSpec::LiteRt(_) => json!({name: chosen.spec, "files": by_name(&chosen.files)}),
        BackendSpec::Delegate(_) => json!({name: chosen.spec, "files": chosen.files}),
    }
}

/// SHA-256 of `files` by their names.
fn by_name(files: &BTreeMap<String, String>) -> BTreeMap<String, &str> {
    let files = files.iter().map(|(path, sha256)| {
        let name = Path::new(path).file_name().unwrap_or_default();
        (name.to_string_lossy().into_owned(), sha256.as_str())
    });
    files.collect()
}

/// The expected identity before a backend is opened, to compare with `known`, the identity of earlier results. The
/// files of a named backend are assumed to be unchanged. Where Handloom chooses, earlier results keep their backend.
#[must_use]
pub fn expected_identity(request: &BackendRequest, known: &Value) -> Value {
    if let Some(mixed) = request.mixed() {
        return mixed;
    }
    match &request.preference {
        preference if preference.is_open() && !known.is_null() => known.clone(),
        BackendPreference::Require(name) | BackendPreference::Prefer(name)
            if known.get(name).is_some() =>
        {
            known.clone()
        }
        // Where it cannot be used, the CPU continues what the CPU began.
        BackendPreference::Prefer(_) if backend_of(known) == Some(CPU) => known.clone(),
        BackendPreference::Require(name) | BackendPreference::Prefer(name) => json!({name: null}),
        _ => cpu_identity(Some(known)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::LiteRtTarget;
    use crate::selection::{CPU_INT8, LITERT_CPU, Precision};

    fn request(preference: &str, recorded: Option<&Value>) -> BackendRequest {
        BackendRequest {
            preference: BackendPreference::parse(preference).unwrap(),
            delegate: DelegateSpec::default(),
            tolerance: Tolerance {
                exact: 0.0005,
                fast: 0.0023,
            },
            timeout: Duration::from_secs(1),
            recorded: recorded.cloned(),
        }
    }

    fn litert(folder: &str) -> ChosenBackend {
        let mut chosen = ChosenBackend::cpu("");
        LITERT_CPU.clone_into(&mut chosen.choice.name);
        chosen.spec = BackendSpec::LiteRt(LiteRtTarget::Cpu);
        chosen.files = [(format!("{folder}/libLiteRt.so"), "c0".to_owned())].into();
        chosen
    }

    #[test]
    fn results_record_the_backend_that_was_chosen() {
        let cpu = ChosenBackend::cpu("");
        let recorded = json!({LITERT_CPU: {"litert": "cpu"}, "files": {"libLiteRt.so": "c0"}});
        for preference in ["auto", "fastest", "fast", "require:litert:cpu"] {
            let request = request(preference, None);
            assert_eq!(identity(&request, &litert("/a")), recorded);
            assert_eq!(identity(&request, &litert("/b")), recorded);
        }
        let here = identity(&request("auto", None), &cpu);
        assert_eq!(here[CPU]["architecture"], ARCH);
        assert_eq!(here[CPU]["library_sha256"].as_str().map(str::len), Some(64));
        // An earlier version recorded the name alone.
        let earlier = json!(CPU);
        assert_eq!(identity(&request("auto", Some(&earlier)), &cpu), earlier);
        let mut other = here.clone();
        other[CPU]["library_sha256"] = json!("0");
        assert_eq!(identity(&request("auto", Some(&other)), &cpu), here);
        let any = json!("any within 0.0005 of cpu");
        let mut prefer = request("prefer:custom", None);
        assert_eq!(identity(&prefer, &cpu), any);
        prefer.delegate.hand = Some("int8.tflite".into());
        assert_ne!(identity(&prefer, &cpu), any);
    }

    #[test]
    fn reduced_precision_is_never_mixed_with_the_cpu() {
        let cpu = ChosenBackend::cpu("");
        let mut int8 = cpu.clone();
        CPU_INT8.clone_into(&mut int8.choice.name);
        int8.spec = BackendSpec::CpuReduced([Precision::F32, Precision::Int8]);
        int8.files = [("/a/hand_int8_cpu.tflite".to_owned(), "c0".to_owned())].into();
        let [of_cpu, of_int8] = ["require:cpu:int8", "prefer:cpu:int8"].map(|preference| {
            let request = request(preference, None);
            assert_eq!(identity(&request, &cpu), cpu_identity(None));
            identity(&request, &int8)
        });
        assert_eq!(of_cpu, of_int8);
        assert_eq!(of_int8[CPU_INT8], json!(["f32", "int8"]));
        assert_eq!(of_int8["files"], json!({"hand_int8_cpu.tflite": "c0"}));
        assert_eq!(of_int8[CPU_LIBRARY]["architecture"], ARCH);
        for preference in ["require:cpu:int8", "prefer:cpu:int8", "fast", "auto"] {
            let request = request(preference, Some(&of_int8));
            assert_eq!(
                expected_identity(&request, &of_int8),
                of_int8,
                "{preference}"
            );
        }
        // Results of several backends keep their identity too, unless this backend is of reduced precision.
        let any = json!("any within 0.0005 of cpu");
        assert_eq!(identity(&request("fast", Some(&any)), &cpu), any);
        assert_eq!(identity(&request("fast", Some(&any)), &int8), of_int8);
        let known = cpu_identity(None);
        let expected = |preference: &str| expected_identity(&request(preference, None), &known);
        assert_ne!(expected("require:cpu:int8"), known);
        // The CPU may take its place from the beginning.
        assert_eq!(expected("prefer:cpu:int8"), known);
        let resumed = request("fast", Some(&of_int8)).in_force();
        assert_eq!(resumed.to_string(), "require:cpu:int8");
    }

    #[test]
    fn the_recorded_backend_decides_where_handloom_chooses() {
        let [cpu, any] = [cpu_identity(None), json!("any within 0.0005 of cpu")];
        let litert_cpu = identity(&request("auto", None), &litert("/a"));
        for preference in ["auto", "fastest", "fast"] {
            for (known, in_force) in [
                (&cpu, CPU),
                (&litert_cpu, "require:litert:cpu"),
                // Results that may come from any backend.
                (&any, preference),
            ] {
                let request = request(preference, Some(known));
                assert_eq!(request.in_force().to_string(), in_force);
                assert_eq!(expected_identity(&request, known), *known);
            }
            let request = request(preference, Some(&any));
            assert_eq!(identity(&request, &litert("/a")), any);
        }
        let named = request("cpu", Some(&litert_cpu));
        assert_eq!(named.in_force(), BackendPreference::Cpu);
        assert_eq!(expected_identity(&named, &litert_cpu), cpu);
    }
}
