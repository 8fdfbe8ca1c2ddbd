//! The terminal: raw mode and the alternate screen, restored however the program ends.

use super::draw::draw;
use super::view::{FleetView, KeyAction};
use crate::error::{CliError, Exit};
use crate::system::Signals;
use anyhow::anyhow;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The terminal in raw mode, until this value is dropped.
pub struct Screen {
    terminal: DefaultTerminal,
    /// Set by a signal, which would otherwise end the process without restoring the terminal.
    is_terminated: Arc<AtomicBool>,
    _signals: Signals,
}

impl Screen {
    /// Switches the terminal to raw mode. A panic restores it before it is reported.
    ///
    /// # Errors
    /// Fails when there is no terminal.
    pub fn open() -> Result<Self, CliError> {
        let is_terminated = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_terminated);
        let signals = Signals::listen(move |_| flag.store(true, Ordering::Relaxed));
        Ok(Self {
            is_terminated,
            _signals: signals.map_err(|e| unusable(&e))?,
            // After a failure raw mode may be on already; the first error is reported.
            terminal: ratatui::try_init().map_err(|error| {
                ratatui::try_restore().ok();
                unusable(&error)
            })?,
        })
    }

    /// Draws `view`.
    ///
    /// # Errors
    /// Fails when the terminal is gone.
    pub fn show(&mut self, view: &FleetView, now: Duration) -> Result<(), CliError> {
        let drawn = self.terminal.draw(|frame| draw(frame, view, now));
        drawn.map(drop).map_err(|e| unusable(&e))
    }

    /// The key that is pressed within `wait`, if it has a meaning. A changed size also ends the wait. A signal is `Quit`.
    ///
    /// # Errors
    /// Fails when the terminal is gone.
    pub fn key(&mut self, wait: Duration) -> Result<Option<KeyAction>, CliError> {
        let has_event = event::poll(wait).map_err(|e| unusable(&e))?;
        if self.is_terminated.load(Ordering::Relaxed) {
            return Ok(Some(KeyAction::Quit));
        }
        if !has_event {
            return Ok(None);
        }
        Ok(match event::read().map_err(|e| unusable(&e))? {
            Event::Key(key) if key.kind != KeyEventKind::Release => meaning(key),
            _ => None,
        })
    }
}

fn unusable(error: &io::Error) -> CliError {
    let text = format!("cannot use the terminal: {error}; `handloom watch --once` needs none");
    CliError::new(Exit::InOut, anyhow!(text))
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The panic hook has done it; a second time would overwrite its report.
        if !std::thread::panicking() {
            // A terminal that is gone needs no restoring.
            ratatui::try_restore().ok();
        }
    }
}

/// The meaning of a key.
fn meaning(key: KeyEvent) -> Option<KeyAction> {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
            Some(KeyAction::Quit)
        }
        KeyCode::Char('q') | KeyCode::Esc => Some(KeyAction::Quit),
        KeyCode::Up | KeyCode::Char('k') => Some(KeyAction::Up),
        KeyCode::Down | KeyCode::Char('j') => Some(KeyAction::Down),
        KeyCode::Enter => Some(KeyAction::Details),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_match_the_help_line() {
        let check = |code, modifiers, expected| {
            assert_eq!(
                meaning(KeyEvent::new(code, modifiers)),
                expected,
                "{code:?}"
            );
        };
        let none = KeyModifiers::NONE;
        check(KeyCode::Char('q'), none, Some(KeyAction::Quit));
        check(KeyCode::Esc, none, Some(KeyAction::Quit));
        check(
            KeyCode::Char('c'),
            KeyModifiers::CONTROL,
            Some(KeyAction::Quit),
        );
        check(KeyCode::Char('c'), none, None);
        check(KeyCode::Up, none, Some(KeyAction::Up));
        check(KeyCode::Char('k'), none, Some(KeyAction::Up));
        check(KeyCode::Down, none, Some(KeyAction::Down));
        check(KeyCode::Char('j'), none, Some(KeyAction::Down));
        check(KeyCode::Enter, none, Some(KeyAction::Details));
        check(KeyCode::Tab, none, None);
    }
}
