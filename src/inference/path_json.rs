//! Paths in the JSON that processes of this program exchange: a text, or the bytes of a path that is not UTF-8.

use serde::{Deserialize, Deserializer, Serializer};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
#[serde(untagged)]
enum PathJson {
    Text(PathBuf),
    Bytes(Vec<u8>),
}

impl From<PathJson> for PathBuf {
    fn from(json: PathJson) -> Self {
        match json {
            PathJson::Text(path) => path,
            PathJson::Bytes(bytes) => OsString::from_vec(bytes).into(),
        }
    }
}

pub(super) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    match path.to_str() {
        Some(text) => to.serialize_str(text),
        None => to.collect_seq(path.as_os_str().as_bytes()),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    PathJson::deserialize(from).map(Into::into)
}

/// The same encoding for an optional path.
pub(super) mod option {
    use super::{Deserialize, Deserializer, PathBuf, PathJson, Serializer, serialize as path};

    #[expect(clippy::ref_option, reason = "serde passes the field as it is")]
    pub(in crate::inference) fn serialize<S: Serializer>(
        value: &Option<PathBuf>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => path(value, to),
            None => to.serialize_none(),
        }
    }

    pub(in crate::inference) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<PathJson>::deserialize(from)?.map(Into::into))
    }
}

#[cfg(test)]
mod tests {
    use crate::inference::{DelegateSpec, ModelPaths};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::PathBuf;

    #[test]
    fn a_path_that_is_not_utf_8_comes_back_as_it_was() {
        let odd = PathBuf::from(OsStr::from_bytes(b"/m/\xff\xfe.tflite"));
        let models = ModelPaths {
            models: Some("/m".into()),
            palm: Some(odd.clone()),
            ..ModelPaths::default()
        };
        let json = serde_json::to_string(&models).unwrap();
        assert!(json.contains(r#""models":"/m""#), "{json}");
        let back: ModelPaths = serde_json::from_str(&json).unwrap();
        assert_eq!(
            [back.models, back.palm, back.hand],
            [Some("/m".into()), Some(odd.clone()), None]
        );
        let spec = DelegateSpec {
            library: odd,
            ..DelegateSpec::default()
        };
        let json = serde_json::to_value(&spec).unwrap();
        assert_eq!(serde_json::from_value::<DelegateSpec>(json).unwrap(), spec);
    }
}
