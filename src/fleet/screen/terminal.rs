//! The terminal: raw mode and the alternate screen, restored on every way out.

use super::draw::draw;
use super::view::{FleetView, KeyAction};
use crate::error::{CliError, Exit};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::io;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The terminal cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the terminal: {0}; `handloom watch --once` needs none")]
pub struct ConsoleError(#[from] io::Error);

impl From<ConsoleError> for CliError {
    fn from(error: ConsoleError) -> Self {
        Self::new(Exit::InOut, error)
    }
}

/// The terminal in raw mode, until this value is dropped.
pub struct Screen {
    terminal: DefaultTerminal,
    /// SIGTERM, which would not restore the terminal, and the runtime that receives it.
    termination: Signal,
    runtime: Runtime,
}

impl Screen {
    /// Switches the terminal to raw mode. A panic restores it before it is reported.
    ///
    /// # Errors
    /// When there is no terminal.
    pub fn open() -> Result<Self, ConsoleError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let termination = {
            let _inside = runtime.enter();
            signal(SignalKind::terminate())?
        };
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self {
                terminal,
                termination,
                runtime,
            }),
            Err(error) => {
                // Raw mode may be on already; the first error is reported.
                ratatui::try_restore().ok();
                Err(error.into())
            }
        }
    }

    /// Draws `view`.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn show(&mut self, view: &FleetView, now: Duration) -> Result<(), ConsoleError> {
        self.terminal.draw(|frame| draw(frame, view, now))?;
        Ok(())
    }

    /// The key that is pressed within `wait`, if it has a meaning. A changed size ends the wait, too. SIGTERM is `Quit`.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn key(&mut self, wait: Duration) -> Result<Option<KeyAction>, ConsoleError> {
        let has_event = event::poll(wait)?;
        if self.is_terminated() {
            return Ok(Some(KeyAction::Quit));
        }
        if !has_event {
            return Ok(None);
        }
        Ok(match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => meaning(key),
            _ => None,
        })
    }

    fn is_terminated(&mut self) -> bool {
        let termination = &mut self.termination;
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = termination.recv() => true,
                // Long enough for the runtime to look for signals.
                () = tokio::time::sleep(Duration::from_millis(1)) => false,
            }
        })
    }
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
    fn keys_mean_what_the_last_line_says() {
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
