//! Commands: read, written down, obeyed or refused, and always answered.
//!
//! `pause` and `resume` are done at once, `snapshot` by a thread of its own, `record` and `undo` by the camera's, the
//! others by the supervisor between two runs of the job. A command that came before is not carried out again, its answer is repeated.

use crate::daemon::camera_task::CameraRequest;
use crate::daemon::state::{Daemon, PendingCommand};
use crate::digest::sha256_hex;
use crate::job::stamp;
use crate::messages::payloads::{Reply, ReplyState};
use crate::messages::request::{CommandName, RecordArguments, parse};
use crate::messages::topics;
use crate::mqtt::{Delivery, Inbox, Outbox, OutboxMessage};
use crate::sequence::recording_plan::RecordRequest;
use crate::storage::ledger::commands::CommandReceipt;
use crate::storage::ledger::{CANCELLED, Message, PAUSED};
use crate::system::lock_ignoring_poison;
use serde_json::json;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// A snapshot waits this long for a picture.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(10);

/// Takes commands from the connection and gives it the ledger's messages.
pub(super) struct CommandHandler(pub(super) Arc<Daemon>);

impl Outbox for CommandHandler {
    fn after(&self, id: i64, limit: usize) -> Result<Vec<OutboxMessage>, String> {
        let waiting = lock_ignoring_poison(&self.0.ledger).pending_messages(id, limit);
        let letters = waiting.map_err(|e| e.to_string())?.into_iter();
        Ok(letters
            .map(|w| OutboxMessage {
                id: w.id,
                channel: w.channel,
                payload: w.payload,
            })
            .collect())
    }

    fn delivered(&self, ids: &[i64]) -> Result<(), String> {
        lock_ignoring_poison(&self.0.ledger)
            .delivered(ids)
            .map_err(|e| e.to_string())
    }
}

impl Inbox for CommandHandler {
    fn receive(&self, name: &str, payload: &[u8], retained: bool) -> Result<(), String> {
        self.take(name, payload, retained)
            .map_err(|e| e.to_string())
    }
}

impl CommandHandler {
    fn take(
        &self,
        name: &str,
        payload: &[u8],
        retained: bool,
    ) -> Result<(), crate::storage::StoreError> {
        let daemon = &self.0;
        let request = match parse(name, payload) {
            Ok(request) => request,
            Err(refusal) => return self.refuse(refusal.id, name, refusal.reason),
        };
        let (id, command) = (request.id, request.command);
        // A broker does not mark what it hands on at once. One that was obeyed then is answered as before, whenever it
        // comes again; another one would be obeyed at who knows which connection.
        if retained && !lock_ignoring_poison(&daemon.ledger).has_arrived(&id)? {
            let reason = "retained commands are not obeyed: publish it without the retain flag, and clear the topic with an empty retained message";
            return self.refuse(Some(id), name, reason.to_owned());
        }
        let allowed = daemon.config().mqtt.commands.clone();
        if !allowed.iter().any(|a| a == command.name()) {
            let reason = format!(
                "{} is not allowed here; allowed are {}; see [mqtt] commands in the config",
                command.name(),
                if allowed.is_empty() {
                    "none".to_owned()
                } else {
                    allowed.join(", ")
                }
            );
            return self.refuse(Some(id), name, reason);
        }
        let arrival = lock_ignoring_poison(&daemon.ledger).arrive(&id, command.name(), &stamp())?;
        daemon.telemetry.wake.notify_one();
        match arrival {
            CommandReceipt::New => self.obey(PendingCommand { id, command }, request.takes),
            CommandReceipt::UnderWay | CommandReceipt::Answered => {}
        }
        Ok(())
    }

    fn refuse(
        &self,
        id: Option<String>,
        name: &str,
        reason: String,
    ) -> Result<(), crate::storage::StoreError> {
        tracing::warn!(id, command = name, reason, "command refused");
        let reply = Reply {
            id,
            // Anybody may write there; a name is never long.
            command: name.chars().take(64).collect(),
            state: ReplyState::Failed,
            reason: Some(reason),
            result: None,
        };
        let message = Message::new(topics::REPLY, &reply);
        lock_ignoring_poison(&self.0.ledger).say(&[message], &stamp())?;
        self.0.telemetry.wake.notify_one();
        Ok(())
    }

    /// From here on nothing fails: the broker would send the command again, but it is written down already.
    fn obey(&self, task: PendingCommand, takes: Option<RecordArguments>) {
        let daemon = &self.0;
        match task.command {
            CommandName::Pause => {
                daemon.answer(&task, Ok(None), &[(PAUSED, Some("1"))]);
                daemon.change_holds(|holds| holds.is_paused = true);
            }
            CommandName::Resume => {
                daemon.answer(&task, Ok(None), &[(PAUSED, None), (CANCELLED, None)]);
                daemon.change_holds(|holds| holds.is_paused = false);
                daemon.change_tasks(|tasks| {
                    tasks.again |= std::mem::take(&mut tasks.is_cancelled);
                });
            }
            CommandName::Cancel => {
                daemon.change_tasks(|tasks| {
                    tasks.is_cancelled = true;
                    tasks.todo.push(task);
                });
                // Without a camera there are no takes to cancel.
                daemon.camera.ask(CameraRequest::Cancel).ok();
                daemon.control.abandon();
            }
            CommandName::Rescan | CommandName::RetryFailed => {
                daemon.change_tasks(|tasks| tasks.todo.push(task));
                daemon.control.stop();
            }
            CommandName::Record => {
                match takes.map(|t| RecordRequest::new(&t.gloss, t.count, t.countdown)) {
                    Some(Ok(order)) => self.film(CameraRequest::Record(task, order)),
                    Some(Err(error)) => daemon.answer(&task, Err(error.to_string()), &[]),
                    None => daemon.answer(&task, Err("the gloss is missing".to_owned()), &[]),
                }
            }
            CommandName::Undo => self.film(CameraRequest::Undo(task)),
            CommandName::Snapshot => {
                let this = Arc::clone(daemon);
                let picture = move || {
                    let result = snapshot(&this);
                    this.answer(&task, result, &[]);
                };
                if let Err(error) = thread::Builder::new()
                    .name("snapshot".into())
                    .spawn(picture)
                {
                    tracing::error!(%error, "no thread for a snapshot; it stays without answer until a restart");
                }
            }
        }
    }
}

impl CommandHandler {
    /// Hands a command to the camera, or says why not.
    fn film(&self, ask: CameraRequest) {
        if let Err((CameraRequest::Record(task, _) | CameraRequest::Undo(task), why)) =
            self.0.camera.ask(ask)
        {
            self.0.answer(&task, Err(why.to_owned()), &[]);
        }
    }
}

/// Publishes one picture and says what is in it.
fn snapshot(daemon: &Daemon) -> Result<Option<serde_json::Value>, String> {
    let mut shot = daemon.worker_monitor.shot(SNAPSHOT_PATIENCE)?;
    let jpeg = shot.jpeg()?;
    let result = json!({
        "topic": topics::topic(&daemon.config().device.id, topics::SNAPSHOT),
        "bytes": jpeg.len(), "sha256": sha256_hex(&jpeg),
        "width": shot.frame.width(), "height": shot.frame.height(),
        "gloss": shot.gloss, "video_id": shot.video_id,
        "frame": shot.found.frame_index, "hands": shot.found.hand_count,
    });
    daemon
        .telemetry
        .send(topics::SNAPSHOT, jpeg, Delivery::AtLeastOnce);
    Ok(Some(result))
}
