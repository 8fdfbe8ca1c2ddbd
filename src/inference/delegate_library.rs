//! A delegate as the user configures it, and its library: found, checked and loaded. Each error names a fix.

use super::backend::BackendError;
use super::ffi::{Plugin, PluginLoadError};
use super::model_files::ModelRole;
use super::path_json;
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Placeholder in the value of an option for the model's name, so that the two models do not share a cache file.
const MODEL_PLACEHOLDER: &str = "{model}";
/// Size of the header of an ELF file including its machine number, bytes.
const ELF_HEAD: usize = 20;

/// A delegate plugin as the user configures it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegateSpec {
    /// The plugin: a file, or a name that the system's loader finds.
    #[serde(with = "path_json")]
    pub library: PathBuf,
    /// Its options; `{model}` in a value stands for `palm` or `hand`.
    pub options: Vec<(String, String)>,
    /// A palm model for the delegate, for example an int8 one.
    #[serde(with = "path_json::option")]
    pub palm: Option<PathBuf>,
    /// A hand model for the delegate.
    #[serde(with = "path_json::option")]
    pub hand: Option<PathBuf>,
}

impl DelegateSpec {
    /// Whether the palm model runs on the CPU: a delegate with a hand model of its own runs that alone, because the palm
    /// model loses too much in 8 bits.
    #[must_use]
    pub fn leaves_palm_to_cpu(&self) -> bool {
        self.hand.is_some() && self.palm.is_none()
    }
}

/// The options for the model `role`, as C strings.
pub(super) fn options(
    options: &[(String, String)],
    role: ModelRole,
) -> Result<Vec<(CString, CString)>, BackendError> {
    let c_strings = |(key, value): &(String, String)| {
        let value = value.replace(MODEL_PLACEHOLDER, &role.to_string());
        CString::new(key.as_str()).and_then(|key| Ok((key, CString::new(value)?)))
    };
    let option = |option| {
        c_strings(option).map_err(|_| {
            let key = &option.0;
            BackendError::Unusable(format!(
                "the option {key:?} of the delegate contains a NUL byte; remove it"
            ))
        })
    };
    options.iter().map(option).collect()
}

/// Loads a plugin. Checks the file first, because the messages of the system's loader are unclear.
pub(super) fn load(library: &Path) -> Result<Plugin, BackendError> {
    let name = library.display();
    let missing = format!(
        "delegate library {name} not found; install the accelerator's runtime, or set `library` to the full path of the file"
    );
    let not_loaded =
        |reason: &str| format!("cannot load {name}: {reason}; `ldd {name}` lists what it lacks");
    if is_path(library) {
        let mut head = Vec::new();
        let read = File::open(library).and_then(|f| f.take(ELF_HEAD as u64).read_to_end(&mut head));
        let checked = match read {
            Ok(_) => check_elf(&head, library),
            Err(e) if e.kind() == ErrorKind::NotFound => Err(missing.clone()),
            Err(e) => Err(not_loaded(&e.to_string())),
        };
        checked.map_err(BackendError::Unusable)?;
    }
    Plugin::load(library).map_err(|error| {
        BackendError::Unusable(match error {
            PluginLoadError::Library(message) => {
                let reason = message.strip_prefix(&format!("{name}: "));
                // The loader does not find a plain name.
                if reason.is_some_and(|reason| reason.starts_with("cannot open")) {
                    missing
                } else {
                    not_loaded(reason.unwrap_or(&message))
                }
            }
            PluginLoadError::Function(function) => format!(
                "{name} is not a TFLite delegate plugin: it lacks {function}; use the library for TFLite's external delegate from the accelerator's maker"
            ),
        })
    })
}

/// Whether `library` is a file; the system's loader searches for a name without a slash.
fn is_path(library: &Path) -> bool {
    library.as_os_str().as_encoded_bytes().contains(&b'/')
}

/// Where the system's loader would find `library`, as far as that can be determined without loading it.
#[must_use]
pub fn locate(library: &Path) -> Option<PathBuf> {
    if is_path(library) {
        return library.is_file().then(|| library.to_path_buf());
    }
    let requested = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let arch = std::env::consts::ARCH;
    let standard = [
        format!("/lib/{arch}-linux-gnu"),
        format!("/usr/lib/{arch}-linux-gnu"),
        "/lib".to_owned(),
        "/usr/lib".to_owned(),
        "/usr/local/lib".to_owned(),
    ];
    std::env::split_paths(&requested)
        .chain(configured_folders())
        .chain(standard.into_iter().map(PathBuf::from))
        .map(|folder| folder.join(library))
        .find(|path| path.is_file())
}

/// The folders in the configuration of the loader, sorted.
fn configured_folders() -> Vec<PathBuf> {
    let entries = fs::read_dir("/etc/ld.so.conf.d").into_iter().flatten();
    let files = entries.flatten().map(|entry| entry.path());
    let texts: Vec<String> = files.flat_map(fs::read_to_string).collect();
    let lines = texts.iter().flat_map(|text| text.lines().map(str::trim));
    let folders = lines.filter(|line| line.starts_with('/'));
    let mut folders: Vec<PathBuf> = folders.map(PathBuf::from).collect();
    folders.sort();
    folders
}

/// Checks that the head of a file is that of a library for this machine. The loader reports "No such file" for a library
/// of another architecture.
fn check_elf(head: &[u8], library: &Path) -> Result<(), String> {
    let library = library.display();
    let (true, Some(machine)) = (head.starts_with(b"\x7fELF"), head.get(18..ELF_HEAD)) else {
        return Err(format!(
            "{library} is not a shared library; set `library` to the accelerator's .so file"
        ));
    };
    // Byte 5 is the byte order of the file: 1 is little-endian.
    let machine = [machine[0], machine[1]];
    let machine = if head[5] == 2 {
        u16::from_be_bytes(machine)
    } else {
        u16::from_le_bytes(machine)
    };
    let found = match machine {
        3 => "x86",
        40 => "arm (32 bit)",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        other => &format!("the ELF machine {other}"),
    };
    let here = std::env::consts::ARCH;
    if found == here {
        return Ok(());
    }
    Err(format!(
        "{library} is for {found}, this machine is {here}; install the accelerator's runtime for this machine"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_name_the_model() {
        let given = [("cache".to_owned(), "/var/{model}.nbg".to_owned())];
        let made = options(&given, ModelRole::Hand).unwrap();
        assert_eq!(made[0].1.as_c_str(), c"/var/hand.nbg");
        let given = [("a\0b".to_owned(), String::new())];
        let error = options(&given, ModelRole::Hand).unwrap_err().to_string();
        assert!(error.contains(r#""a\0b""#), "{error}");
    }

    #[test]
    fn heads_of_libraries_are_checked() {
        let head = |order: u8, machine: [u8; 2]| {
            let mut head = b"\x7fELF\x02".to_vec();
            head.push(order);
            head.resize(18, 0);
            head.extend(machine);
            head
        };
        let check = |head: &[u8], expected: &str| {
            let found = check_elf(head, Path::new("/lib.so")).unwrap_err();
            assert!(found.contains(expected), "{found}");
        };
        check(b"", "/lib.so is not a shared library");
        check(b"GROUP ( libc.so.6 )", "not a shared library");
        check(b"\x7fELF\x02\x01", "not a shared library");
        check(&head(1, [40, 0]), "is for arm (32 bit), this machine is");
        check(&head(2, [0, 243]), "is for riscv64, this machine is");
        check(
            &head(1, [0xff, 1]),
            "is for the ELF machine 511, this machine is",
        );
    }
}
