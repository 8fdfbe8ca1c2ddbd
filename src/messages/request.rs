//! Commands to the daemon: the name comes from the topic, the payload is `{"id": "..."}`, for `record` with `gloss`,
//! `count` and `countdown`.
//!
//! Any bytes may arrive here. An invalid command is refused with a reason that helps its sender, and with the `id` as
//! far as it could be read, so that the sender finds the reply.

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Longest `id`, characters.
pub const ID_CHARS_MAX: usize = 64;

/// Ends every refusal: what to send instead.
const ADVICE: &str = r#"send {"id": "something-unique"}"#;

/// The same for [`CommandName::Record`].
const ADVICE_RECORD: &str =
    r#"send {"id": "something-unique", "gloss": "book", "count": 5, "countdown": 3}"#;

/// All fields that a command may have; all but the id are for [`CommandName::Record`].
const FIELDS: [&str; 4] = ["id", "gloss", "count", "countdown"];

/// Longest quotation of received text in a refusal, characters.
const QUOTE_CHARS_MAX: usize = 40;

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommandName {
    /// Begin no further clip.
    Pause,
    /// Continue after `pause` or `cancel`.
    Resume,
    /// End the job; its results stay.
    Cancel,
    /// Read the dataset again.
    Rescan,
    /// Process the clips again that could not be read.
    RetryFailed,
    /// Publish one processed frame.
    Snapshot,
    /// Record signs with the camera.
    Record,
    /// Discard the last take.
    Undo,
}

impl CommandName {
    /// All commands, in the order in which they are listed to users.
    pub const ALL: [Self; 8] = [
        Self::Pause,
        Self::Resume,
        Self::Cancel,
        Self::Rescan,
        Self::RetryFailed,
        Self::Snapshot,
        Self::Record,
        Self::Undo,
    ];

    /// Their names.
    pub const NAMES: [&'static str; Self::ALL.len()] = {
        let mut names = [""; Self::ALL.len()];
        let mut n = 0;
        while n < names.len() {
            names[n] = Self::ALL[n].name();
            n += 1;
        }
        names
    };

    /// As in the topic.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
            Self::Rescan => "rescan",
            Self::RetryFailed => "retry-failed",
            Self::Snapshot => "snapshot",
            Self::Record => "record",
            Self::Undo => "undo",
        }
    }

    /// The command of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }
}

/// A valid command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Names it in the replies: 1 to [`ID_CHARS_MAX`] printable characters.
    pub id: String,
    /// The command.
    pub command: CommandName,
    /// With [`CommandName::Record`]: what to record.
    pub takes: Option<RecordArguments>,
}

/// What to record, as requested. The camera's recording plan checks the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordArguments {
    /// The gloss to record.
    pub gloss: String,
    /// Number of takes; 1 by default.
    pub count: u32,
    /// Countdown before each take; none by default.
    pub countdown: Duration,
}

/// An invalid command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRequest {
    /// The id as far as it could be read, cut to the length of an id.
    pub id: Option<String>,
    /// What is wrong and what to send instead.
    pub reason: String,
}

/// Parses a command's name and payload.
///
/// # Errors
/// Fails when there is no such command, or the payload is anything but an object with a proper `id` and what the
/// command takes.
pub fn parse(name: &str, payload: &[u8]) -> Result<Request, InvalidRequest> {
    let mut raw = RawRequest::default();
    let mut json = serde_json::Deserializer::from_slice(payload);
    let read = json.deserialize_map(&mut raw).and_then(|()| json.end());
    let read = read.map_err(|error| {
        if payload.trim_ascii().is_empty() {
            "the payload is empty".to_owned()
        } else if error.is_data() {
            "the payload is not a JSON object".to_owned()
        } else {
            format!("the payload is not JSON ({error})")
        }
    });
    let request = match CommandName::from_name(name) {
        None => {
            let (name, names) = (quoted(name), CommandName::NAMES.join(", "));
            Err(format!("there is no command {name}; there are {names}"))
        }
        Some(command) => read
            .and_then(|()| raw.request(command))
            .map_err(|reason| match command {
                CommandName::Record => format!("{reason}; {ADVICE_RECORD}"),
                _ => format!("{reason}; {ADVICE}"),
            }),
    };
    request.map_err(|reason| InvalidRequest {
        id: raw.fields.get("id").and_then(legible),
        reason,
    })
}

impl RawRequest {
    /// Checks the fields of a `command`.
    fn request(&self, command: CommandName) -> Result<Request, String> {
        let is_record = command == CommandName::Record;
        let only = if is_record {
            "only an id, a gloss, a count and a countdown"
        } else {
            "only an id"
        };
        let mut others = self.fields.keys().filter(|key| **key != "id");
        let other = others.next().filter(|_| !is_record);
        if let Some(key) = self.unknown.as_deref().or(other.copied()) {
            let (name, key) = (command.name(), quoted(key));
            return Err(format!("{name} takes no {key}, {only}"));
        }
        if let Some(key) = self.twice {
            return Err(format!("the {key} is given twice"));
        }
        let id = match self.fields.get("id") {
            None => return Err("the id is missing".to_owned()),
            Some(Value::String(id)) if is_id(id) => id.clone(),
            Some(Value::String(id)) => {
                let id = quoted(id);
                return Err(format!(
                    "the id {id} is not 1 to {ID_CHARS_MAX} printable characters"
                ));
            }
            Some(other) => {
                let id = quoted(&other.to_string());
                return Err(format!("the id {id} is not a string"));
            }
        };
        let takes = is_record.then(|| takes(&self.fields)).transpose()?;
        Ok(Request { id, command, takes })
    }
}

/// The arguments of `record`.
fn takes(fields: &BTreeMap<&'static str, Value>) -> Result<RecordArguments, String> {
    let wrong = |key: &str, value: &Value, what: &str| {
        format!("the {key} {} is not {what}", quoted(&value.to_string()))
    };
    let gloss = match fields.get("gloss") {
        Some(Value::String(gloss)) => gloss.clone(),
        Some(other) => return Err(wrong("gloss", other, "a string")),
        None => return Err("the gloss is missing".to_owned()),
    };
    let count = match fields.get("count") {
        None => 1,
        Some(value) => value
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .ok_or_else(|| wrong("count", value, "a whole number"))?,
    };
    let countdown = match fields.get("countdown") {
        None => Duration::ZERO,
        Some(value) => value
            .as_f64()
            .and_then(|s| Duration::try_from_secs_f64(s).ok())
            .ok_or_else(|| wrong("countdown", value, "a number of seconds"))?,
    };
    Ok(RecordArguments {
        gloss,
        count,
        countdown,
    })
}

/// What was read of an object, also when the reading ended in an error.
#[derive(Default)]
struct RawRequest {
    fields: BTreeMap<&'static str, Value>,
    /// A field that is there more than once; the last value counts.
    twice: Option<&'static str>,
    /// A key that no command has.
    unknown: Option<String>,
}

impl<'de> Visitor<'de> for &mut RawRequest {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if let Some(field) = FIELDS.into_iter().find(|field| *field == key) {
                if self.fields.insert(field, map.next_value()?).is_some() {
                    self.twice.get_or_insert(field);
                }
            } else {
                self.unknown.get_or_insert(key);
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

fn is_id(id: &str) -> bool {
    (1..=ID_CHARS_MAX).contains(&id.chars().count()) && id.chars().all(is_printable)
}

/// Neither a control character nor one that turns or hides its neighbours on a terminal.
fn is_printable(c: char) -> bool {
    matches!(c, '"' | '\'' | '\\') || c.escape_debug().len() == 1
}

/// `id` made fit for a reply.
fn legible(id: &Value) -> Option<String> {
    let text = match id {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let text: String = text
        .chars()
        .filter(|c| is_printable(*c))
        .take(ID_CHARS_MAX)
        .collect();
    (!text.is_empty()).then_some(text)
}

/// Foreign text for a message: escaped, in quotes, cut.
fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(QUOTE_CHARS_MAX).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{dots}")
}

#[cfg(test)]
mod tests;
