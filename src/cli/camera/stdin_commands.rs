//! Commands from stdin during a camera session.

use crate::sequence::recording_plan::RecordRequest;
use std::time::Duration;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StdinCommand {
    /// Record takes.
    Record(RecordRequest),
    /// Discard the last take.
    Undo,
    /// Drop the request.
    Cancel,
    /// End the session.
    Quit,
}

impl std::str::FromStr for StdinCommand {
    /// Why the line is refused.
    type Err = String;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let unknown = || {
            let commands = "record GLOSS [COUNT [COUNTDOWN]], undo, cancel, quit";
            format!(
                "{:?} is not a command; the commands are: {commands}",
                line.trim()
            )
        };
        match words.first() {
            Some(&"record") if words.len() > 1 => {}
            Some(&"undo") if words.len() == 1 => return Ok(Self::Undo),
            Some(&"cancel") if words.len() == 1 => return Ok(Self::Cancel),
            Some(&("quit" | "q")) if words.len() == 1 => return Ok(Self::Quit),
            _ => return Err(unknown()),
        }
        // A gloss may have several words; numbers at the end are count and countdown.
        let mut numbers: Vec<u32> = Vec::new();
        while words.len() > 2 && numbers.len() < 2 {
            let Some(number) = words.last().and_then(|word| word.parse().ok()) else {
                break;
            };
            numbers.insert(0, number);
            words.pop();
        }
        let count = numbers.first().copied().unwrap_or(1);
        let countdown = numbers.get(1).copied().unwrap_or(0);
        let request = RecordRequest::new(
            &words[1..].join(" "),
            count,
            Duration::from_secs(u64::from(countdown)),
        );
        request.map(Self::Record).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed_or_refused() {
        let record = |gloss: &str, count, seconds| {
            Some(StdinCommand::Record(
                RecordRequest::new(gloss, count, Duration::from_secs(seconds)).unwrap(),
            ))
        };
        let check = |line: &str, expected: Option<StdinCommand>| {
            assert_eq!(line.parse::<StdinCommand>().ok(), expected, "{line}");
        };
        check(" undo\n", Some(StdinCommand::Undo));
        check("cancel", Some(StdinCommand::Cancel));
        check("q", Some(StdinCommand::Quit));
        check("record book", record("book", 1, 0));
        check("record book 5", record("book", 5, 0));
        check("record thank you 5 3", record("thank you", 5, 3));
        check("record 7", record("7", 1, 0));
        check("record 7 2", record("7", 2, 0));
        check("record 9 11 2 0", record("9 11", 2, 0));
        for line in [
            "",
            "record",
            "record book 0",
            "undo it",
            "help",
            "record book 1 9999",
        ] {
            check(line, None);
        }
    }
}
