//! Commands: parsed, written into the ledger, carried out or refused, and always answered.
//!
//! `pause` and `resume` are carried out at once, `snapshot` by a thread of its own, `record` and `undo` by the camera's
//! thread, the others by the supervisor between two runs of the job. A repeated command is not carried out again; its
//! reply is repeated.

use crate::daemon::Daemon;
use crate::daemon::camera_task::CameraRequest;
use crate::daemon::job_queue::PendingCommand;
use crate::digest::sha256_hex;
use crate::messages::payloads::{Reply, ReplyState};
use crate::messages::request::{CommandName, RecordArguments, parse};
use crate::messages::topics;
use crate::mqtt::{Inbox, QoS};
use crate::sequence::recording_plan::RecordRequest;
use crate::storage::StoreError;
use crate::storage::ledger::commands::CommandReceipt;
use crate::storage::ledger::{CANCELLED, Message, PAUSED};
use crate::system::clock::timestamp;
use crate::untrusted::LOG_TARGET;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Builder;
use std::time::Duration;

/// How long a snapshot waits for a frame.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(10);

impl Inbox for Arc<Daemon> {
    fn receive(&self, name: &str, payload: &[u8], retained: bool) -> Result<(), String> {
        self.handle_command(name, payload, retained)
            .map_err(|e| e.to_string())
    }
}

impl Daemon {
    fn handle_command(
        self: &Arc<Self>,
        name: &str,
        payload: &[u8],
        retained: bool,
    ) -> Result<(), StoreError> {
        let request = match parse(name, payload) {
            Ok(request) => request,
            Err(invalid) => return self.refuse_request(invalid.id, name, invalid.reason),
        };
        let (id, command) = (request.id, request.command);
        // Brokers do not set the retain flag when they deliver a message at once, so a retained command may be known
        // already: its reply is then repeated. An unknown one is refused, because it may be of any age.
        if retained && !self.ledger.lock().knows_command(&id)? {
            let reason = "retained commands are not carried out: publish it without the retain flag, and clear the topic with an empty retained message";
            return self.refuse_request(Some(id), name, reason.to_owned());
        }
        let allowed = &self.config().mqtt.commands;
        if !allowed.iter().any(|a| a == command.name()) {
            let all = if allowed.is_empty() {
                "none".to_owned()
            } else {
                allowed.join(", ")
            };
            let reason = format!(
                "{} is not allowed here; allowed are {all}; see [mqtt] commands in the config",
                command.name()
            );
            return self.refuse_request(Some(id), name, reason);
        }
        let mut ledger = self.ledger.lock();
        let receipt = ledger.record_command(&id, command.name(), &timestamp())?;
        drop(ledger);
        self.outbox.notify();
        match receipt {
            CommandReceipt::New => self.carry_out(PendingCommand { id, command }, request.takes),
            CommandReceipt::UnderWay | CommandReceipt::Answered => {}
        }
        Ok(())
    }

    fn refuse_request(
        &self,
        id: Option<String>,
        name: &str,
        reason: String,
    ) -> Result<(), StoreError> {
        tracing::warn!(target: LOG_TARGET, id, command = name, reason, "command refused");
        if let Some(short) = self.resources().output_disk_short.clone() {
            // The disk's reserve is not used for replies to messages that anyone can publish.
            tracing::warn!(target: LOG_TARGET, short, "no reply to a refused command");
            self.telemetry.count_dropped();
            return Ok(());
        }
        let reply = Reply {
            id,
            // Anyone can publish on this topic; valid names are short.
            command: name.chars().take(64).collect(),
            state: ReplyState::Failed,
            reason: Some(reason),
            result: None,
        };
        let message = Message::new(topics::REPLY, &reply);
        self.ledger.lock().post(&[message], &timestamp())?;
        self.outbox.notify();
        Ok(())
    }

    /// Cannot fail: the ledger already has the command, and an error would make the broker send it again.
    fn carry_out(self: &Arc<Self>, command: PendingCommand, arguments: Option<RecordArguments>) {
        match command.command {
            CommandName::Pause => {
                self.outbox
                    .reply(&command, Ok(None), &[(PAUSED, Some("1"))]);
                self.gate.set_paused(true);
            }
            CommandName::Resume => {
                let changes = [(PAUSED, None), (CANCELLED, None)];
                self.outbox.reply(&command, Ok(None), &changes);
                self.gate.set_paused(false);
                self.queue.resume();
            }
            CommandName::Cancel => {
                self.queue.cancel(command);
                // Without a camera there is no recording to cancel.
                self.camera.request(CameraRequest::Cancel).ok();
            }
            CommandName::Rescan | CommandName::RetryFailed => self.queue.submit(command),
            CommandName::Record => {
                let request = arguments.map(|a| RecordRequest::new(&a.gloss, a.count, a.countdown));
                match request {
                    Some(Ok(request)) => {
                        self.request_camera(CameraRequest::Record(command, request));
                    }
                    Some(Err(error)) => self.outbox.refuse([command], &error.to_string()),
                    None => self.outbox.refuse([command], "the gloss is missing"),
                }
            }
            CommandName::Undo => self.request_camera(CameraRequest::Undo(command)),
            CommandName::Snapshot => self.start_snapshot(command),
        }
    }

    /// Hands a command to the camera's thread, or replies why that is not possible.
    fn request_camera(&self, request: CameraRequest) {
        if let Err((CameraRequest::Record(command, _) | CameraRequest::Undo(command), reason)) =
            self.camera.request(request)
        {
            self.outbox.refuse([command], reason);
        }
    }

    /// Publishes one processed frame as a JPEG, from a thread of its own; the reply describes it.
    fn start_snapshot(self: &Arc<Self>, command: PendingCommand) {
        let daemon = Arc::clone(self);
        let publish = move || {
            let result = daemon.publish_snapshot();
            daemon.outbox.reply(&command, result, &[]);
        };
        if let Err(error) = Builder::new().name("snapshot".into()).spawn(publish) {
            tracing::error!(%error, "no thread for a snapshot; it is answered after a restart");
        }
    }

    fn publish_snapshot(&self) -> Result<Option<Value>, String> {
        let mut snapshot = self.monitor.snapshot(SNAPSHOT_TIMEOUT)?;
        let jpeg = snapshot.jpeg()?;
        let limit = self.counters.packet_limit.load(Ordering::Relaxed);
        if limit > 0 && jpeg.len() as u64 >= limit {
            let bytes = jpeg.len();
            return Err(format!(
                "the snapshot has {bytes} bytes, and the broker refuses messages of {limit} bytes; raise its limit (mosquitto: max_packet_size)"
            ));
        }
        let result = json!({
            "topic": topics::topic(&self.config().device.id, topics::SNAPSHOT),
            "bytes": jpeg.len(), "sha256": sha256_hex(&jpeg),
            "width": snapshot.frame.width(), "height": snapshot.frame.height(),
            "gloss": snapshot.gloss, "video_id": snapshot.video_id,
            "frame": snapshot.found.frame_index, "hands": snapshot.found.hand_count,
        });
        self.telemetry
            .send(topics::SNAPSHOT, jpeg, QoS::AtLeastOnce);
        Ok(Some(result))
    }
}
