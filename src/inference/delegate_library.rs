//! A delegate as the user asks for it, and its library: found, judged and loaded, each failure with the way out.

use super::ffi::{Plugin, PluginLoadError};
use crate::inference::model_files::{ModelFileError, ModelRole};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a value of an option says to get the model's name: two models must not share a cache file.
const MODEL_MARK: &str = "{model}";
/// Bytes of an ELF file up to its machine number.
const ELF_HEAD: usize = 20;

/// A delegate as the user asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegateSpec {
    /// The plugin: a file, or a name that the system's loader finds.
    pub library: PathBuf,
    /// What it is told; `{model}` in a value stands for `palm` or `hand`.
    pub options: Vec<(String, String)>,
    /// A palm model of its own, such as an int8 one.
    pub palm: Option<PathBuf>,
    /// A hand model of its own.
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
    /// No such library.
    #[error(
        "there is no delegate library {library}; install the accelerator's runtime, or name the file with its full path as `library`"
    )]
    Missing {
        /// As asked for.
        library: PathBuf,
    },
    /// Something else than a library.
    #[error("{library} is no shared library; name the accelerator's .so file as `library`")]
    NoLibrary {
        /// The file.
        library: PathBuf,
    },
    /// A library for other processors.
    #[error(
        "{library} is for {found}, this is {here}; install the accelerator's runtime for this machine"
    )]
    Architecture {
        /// The file.
        library: PathBuf,
        /// Its processors.
        found: String,
        /// This machine's.
        here: &'static str,
    },
    /// The system's loader refused it.
    #[error("cannot load {library}: {reason}; `ldd {library}` lists what it lacks")]
    Load {
        /// As asked for.
        library: PathBuf,
        /// The loader's words.
        reason: String,
    },
    /// A library without the plugin protocol.
    #[error(
        "{library} is no TFLite delegate plugin, it lacks {function}; name the library that the accelerator's maker gives for TFLite's external delegate"
    )]
    Protocol {
        /// As asked for.
        library: PathBuf,
        /// The missing function.
        function: &'static str,
    },
    /// An option that cannot be handed over.
    #[error("the option {key:?} of the delegate has a NUL byte in it; take it out")]
    Option {
        /// Its name.
        key: String,
    },
    /// The plugin made no delegate.
    #[error(
        "the delegate {library} did not start: {reason}; see that the device is there and readable for this user, and that the options are ones it knows"
    )]
    Refused {
        /// As asked for.
        library: PathBuf,
        /// The plugin's words.
        reason: String,
    },
    /// The delegate cannot be joined with the model.
    #[error(
        "the delegate {library} cannot run the {role} model {path}: {reason}; name a model made for it, or take another accelerator"
    )]
    Graph {
        /// As asked for.
        library: PathBuf,
        /// Which model.
        role: ModelRole,
        /// The model's file.
        path: String,
        /// Runtime's and plugin's words.
        reason: String,
    },
    /// The model is no good.
    #[error(transparent)]
    Model(#[from] ModelFileError),
}

/// What the plugin is told for the model `role`.
pub(super) fn options(
    options: &[(String, String)],
    role: ModelRole,
) -> Result<Vec<(CString, CString)>, DelegateError> {
    let model = role.to_string();
    options
        .iter()
        .map(|(key, value)| {
            let value = value.replace(MODEL_MARK, &model);
            match (CString::new(key.as_str()), CString::new(value)) {
                (Ok(key), Ok(value)) => Ok((key, value)),
                _ => Err(DelegateError::Option { key: key.clone() }),
            }
        })
        .collect()
}

/// Loads a plugin. What can be told before the system's loader is asked is told better than in its words.
pub(super) fn load(library: &Path) -> Result<Plugin, DelegateError> {
    let owned = library.to_path_buf();
    if library.as_os_str().as_encoded_bytes().contains(&b'/') {
        let mut head = Vec::new();
        match File::open(library).and_then(|f| f.take(ELF_HEAD as u64).read_to_end(&mut head)) {
            Ok(_) => judge_elf(&head, library)?,
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
        PluginLoadError::Library(words) => {
            let own = words.strip_prefix(&format!("{}: ", library.display()));
            // The loader's words for a name that it finds nowhere.
            if own.is_some_and(|words| words.starts_with("cannot open")) {
                return DelegateError::Missing { library: owned };
            }
            DelegateError::Load {
                reason: own.unwrap_or(&words).to_owned(),
                library: owned,
            }
        }
        PluginLoadError::Function(function) => DelegateError::Protocol {
            library: owned,
            function,
        },
    })
}

/// Where the system's loader would find `library`, as far as that can be told without loading anything.
#[must_use]
pub fn locate(library: &Path) -> Option<PathBuf> {
    if library.as_os_str().as_encoded_bytes().contains(&b'/') {
        return library.is_file().then(|| library.to_path_buf());
    }
    let asked = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let asked: Vec<PathBuf> = std::env::split_paths(&asked).collect();
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let standard = [
        format!("/lib/{triplet}"),
        format!("/usr/lib/{triplet}"),
        "/lib".to_owned(),
        "/usr/lib".to_owned(),
        "/usr/local/lib".to_owned(),
    ];
    let folders = asked
        .into_iter()
        .chain(configured(Path::new("/etc/ld.so.conf.d")))
        .chain(standard.into_iter().map(PathBuf::from));
    folders
        .map(|folder| folder.join(library))
        .find(|p| p.is_file())
}

/// The folders that the loader's configuration names.
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

/// Holds the head of a file against what this machine loads. The loader itself says "No such file" of a library for
/// other processors.
fn judge_elf(head: &[u8], library: &Path) -> Result<(), DelegateError> {
    let library = library.to_path_buf();
    let (true, Some(machine)) = (head.starts_with(b"\x7fELF"), head.get(18..ELF_HEAD)) else {
        return Err(DelegateError::NoLibrary { library });
    };
    // The file's own order of bytes stands at 5: 1 is least first.
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
    fn heads_of_libraries_are_judged() {
        let head = |order: u8, machine: [u8; 2]| {
            let mut head = b"\x7fELF\x02".to_vec();
            head.push(order);
            head.resize(18, 0);
            head.extend(machine);
            head
        };
        let check = |head: &[u8], expected: &str| {
            let found = match judge_elf(head, Path::new("/lib.so")) {
                Ok(()) => String::new(),
                Err(e) => e.to_string(),
            };
            assert!(found.contains(expected), "{found}");
        };
        check(b"", "/lib.so is no shared library");
        check(b"GROUP ( libc.so.6 )", "no shared library");
        check(b"\x7fELF\x02\x01", "no shared library");
        check(&head(1, [40, 0]), "is for arm (32 bit), this is");
        check(&head(2, [0, 243]), "is for riscv64, this is");
        check(&head(1, [0xff, 1]), "is for the ELF machine 511, this is");
    }
}
