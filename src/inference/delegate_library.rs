//! A delegate as the user configures it, and its library: found, checked and loaded. Each error names a fix.

use super::ffi::{Plugin, PluginLoadError};
use crate::inference::model_files::{ModelFileError, ModelRole};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Placeholder in the value of an option for the model's name, so that the two models do not share a cache file.
const MODEL_PLACEHOLDER: &str = "{model}";
/// Size of the header of an ELF file including its machine number, bytes.
const ELF_HEAD: usize = 20;

/// A delegate plugin as the user configures it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegateSpec {
    /// The plugin: a file, or a name that the system's loader finds.
    pub library: PathBuf,
    /// Its options; `{model}` in a value stands for `palm` or `hand`.
    pub options: Vec<(String, String)>,
    /// A palm model for the delegate, for example an int8 one.
    pub palm: Option<PathBuf>,
    /// A hand model for the delegate.
    pub hand: Option<PathBuf>,
}

impl DelegateSpec {
    pub(super) fn own_model(&self, role: ModelRole) -> Option<&Path> {
        match role {
            ModelRole::Palm => self.palm.as_deref(),
            ModelRole::Hand => self.hand.as_deref(),
        }
    }
}

/// Why a delegate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DelegateError {
    /// The library does not exist.
    #[error(
        "delegate library {library} not found; install the accelerator's runtime, or set `library` to the full path of the file"
    )]
    Missing {
        /// As configured.
        library: PathBuf,
    },
    /// The file is not a shared library.
    #[error("{library} is not a shared library; set `library` to the accelerator's .so file")]
    NoLibrary {
        /// The file.
        library: PathBuf,
    },
    /// The library is for another architecture.
    #[error(
        "{library} is for {found}, this machine is {here}; install the accelerator's runtime for this machine"
    )]
    Architecture {
        /// The file.
        library: PathBuf,
        /// Architecture of the library.
        found: String,
        /// Architecture of this machine.
        here: &'static str,
    },
    /// The system's loader refuses the library.
    #[error("cannot load {library}: {reason}; `ldd {library}` lists what it lacks")]
    Load {
        /// As configured.
        library: PathBuf,
        /// Message of the loader.
        reason: String,
    },
    /// The library does not have the plugin protocol.
    #[error(
        "{library} is not a TFLite delegate plugin: it lacks {function}; use the library for TFLite's external delegate from the accelerator's maker"
    )]
    Protocol {
        /// As configured.
        library: PathBuf,
        /// The missing function.
        function: &'static str,
    },
    /// An option contains a NUL byte.
    #[error("the option {key:?} of the delegate contains a NUL byte; remove it")]
    Option {
        /// Name of the option.
        key: String,
    },
    /// The plugin did not make a delegate.
    #[error(
        "the delegate {library} did not start: {reason}; check that the device is present, that this user may open it, and that the plugin knows the options"
    )]
    Refused {
        /// As configured.
        library: PathBuf,
        /// Message of the plugin.
        reason: String,
    },
    /// The delegate cannot run the model.
    #[error(
        "the delegate {library} cannot run the {role} model {path}: {reason}; use a model made for it or another accelerator"
    )]
    Graph {
        /// As configured.
        library: PathBuf,
        /// Which model.
        role: ModelRole,
        /// The model's file.
        path: String,
        /// Messages of runtime and plugin.
        reason: String,
    },
    /// The model file cannot be used.
    #[error(transparent)]
    Model(#[from] ModelFileError),
}

/// The options for the model `role`, as C strings.
pub(super) fn options(
    options: &[(String, String)],
    role: ModelRole,
) -> Result<Vec<(CString, CString)>, DelegateError> {
    let model = role.to_string();
    options
        .iter()
        .map(|(key, value)| {
            let value = value.replace(MODEL_PLACEHOLDER, &model);
            match (CString::new(key.as_str()), CString::new(value)) {
                (Ok(key), Ok(value)) => Ok((key, value)),
                _ => Err(DelegateError::Option { key: key.clone() }),
            }
        })
        .collect()
}

/// Loads a plugin. Checks the file first, because the messages of the system's loader are unclear.
pub(super) fn load(library: &Path) -> Result<Plugin, DelegateError> {
    let owned = library.to_path_buf();
    if library.as_os_str().as_encoded_bytes().contains(&b'/') {
        let mut head = Vec::new();
        match File::open(library).and_then(|f| f.take(ELF_HEAD as u64).read_to_end(&mut head)) {
            Ok(_) => check_elf(&head, library)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(DelegateError::Missing { library: owned });
            }
            Err(e) => {
                return Err(DelegateError::Load {
                    library: owned,
                    reason: e.to_string(),
                });
            }
        }
    }
    Plugin::load(library).map_err(|error| match error {
        PluginLoadError::Library(message) => {
            let reason = message.strip_prefix(&format!("{}: ", library.display()));
            // The loader does not find a plain name.
            if reason.is_some_and(|reason| reason.starts_with("cannot open")) {
                return DelegateError::Missing { library: owned };
            }
            DelegateError::Load {
                reason: reason.unwrap_or(&message).to_owned(),
                library: owned,
            }
        }
        PluginLoadError::Function(function) => DelegateError::Protocol {
            library: owned,
            function,
        },
    })
}

/// Where the system's loader would find `library`, as far as that can be determined without loading it.
#[must_use]
pub fn locate(library: &Path) -> Option<PathBuf> {
    if library.as_os_str().as_encoded_bytes().contains(&b'/') {
        return library.is_file().then(|| library.to_path_buf());
    }
    let requested = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let requested: Vec<PathBuf> = std::env::split_paths(&requested).collect();
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let standard = [
        format!("/lib/{triplet}"),
        format!("/usr/lib/{triplet}"),
        "/lib".to_owned(),
        "/usr/lib".to_owned(),
        "/usr/local/lib".to_owned(),
    ];
    let folders = requested
        .into_iter()
        .chain(configured(Path::new("/etc/ld.so.conf.d")))
        .chain(standard.into_iter().map(PathBuf::from));
    folders
        .map(|folder| folder.join(library))
        .find(|p| p.is_file())
}

/// The folders in the configuration of the loader.
fn configured(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let texts = entries
        .filter_map(Result::ok)
        .filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    let mut folders: Vec<PathBuf> = texts
        .flat_map(|text| {
            let lines = text.lines().map(str::trim);
            let named = lines.filter(|line| line.starts_with('/'));
            named.map(PathBuf::from).collect::<Vec<_>>()
        })
        .collect();
    folders.sort();
    folders
}

/// Checks that the head of a file is that of a library for this machine. The loader reports "No such file" for a library
/// of another architecture.
fn check_elf(head: &[u8], library: &Path) -> Result<(), DelegateError> {
    let library = library.to_path_buf();
    let (true, Some(machine)) = (head.starts_with(b"\x7fELF"), head.get(18..ELF_HEAD)) else {
        return Err(DelegateError::NoLibrary { library });
    };
    // Byte 5 is the byte order of the file: 1 is little-endian.
    let machine = [machine[0], machine[1]];
    let machine = if head[5] == 2 {
        u16::from_be_bytes(machine)
    } else {
        u16::from_le_bytes(machine)
    };
    let name = match machine {
        3 => "x86".to_owned(),
        40 => "arm (32 bit)".to_owned(),
        62 => "x86_64".to_owned(),
        183 => "aarch64".to_owned(),
        243 => "riscv64".to_owned(),
        other => format!("the ELF machine {other}"),
    };
    let here = std::env::consts::ARCH;
    if name == here {
        Ok(())
    } else {
        Err(DelegateError::Architecture {
            library,
            found: name,
            here,
        })
    }
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
            let found = match check_elf(head, Path::new("/lib.so")) {
                Ok(()) => String::new(),
                Err(e) => e.to_string(),
            };
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
