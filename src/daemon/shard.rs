//! The shard of a daemon: its output folder is that of an attempt, with the ledger and its outbox, and becomes the folder of
//! the shard when that is whole.

use crate::config::Config;
use crate::daemon::Daemon;
use crate::error::{CliError, Exit};
use crate::shard::ShardRequest;
use crate::storage::StoreError;
use crate::storage::attempt::{Attempt, whole};
use crate::storage::output_dir::OpenMode;
use crate::system::lock_ignoring_poison;
use anyhow::anyhow;
use std::sync::Arc;

/// Puts the folder for the shard of `config` in the place of its output folder. Returns the attempt at the shard; `None`
/// without a shard, or when it is whole.
///
/// # Errors
/// When the folder cannot be made or `mode` is not for a shard.
pub(super) fn open(config: &mut Config, mode: OpenMode) -> Result<Option<Attempt>, CliError> {
    let Some(ShardRequest::Of(shard)) = config.run.shard else {
        return Ok(None);
    };
    if !config.has_dataset() {
        return Ok(None);
    }
    let out = &config.output.path;
    match mode {
        OpenMode::Rescan => {
            let text = "--rescan and run.shard: the shards of a job share one plan; after a change of the dataset make all \
                        shards again with --fresh, or in another output.path";
            return Err(CliError::new(Exit::Config, anyhow!(text)));
        }
        OpenMode::Resume if whole(out, shard)?.is_some() => {
            config.output.path = out.join(shard.folder());
            return Ok(None);
        }
        OpenMode::Resume | OpenMode::Fresh => {}
    }
    let attempt = Attempt::begin(out, shard, mode == OpenMode::Fresh)?;
    tracing::info!(%shard, folder = %attempt.path().display(), adopted = attempt.is_adopted(), "shard");
    config.output.path = attempt.path().to_path_buf();
    Ok(Some(attempt))
}

impl Daemon {
    /// Makes the folder of the attempt, whose job is done, that of the shard.
    pub(super) fn finish_shard(&self) -> Result<(), StoreError> {
        let mut place = lock_ignoring_poison(&self.attempt);
        let Some(attempt) = place.take() else {
            return Ok(());
        };
        let mut ledger = self.ledger.lock();
        // Its files are closed while the folder gets another name.
        ledger.close()?;
        let finished = attempt.finish();
        let is_first = matches!(finished, Ok(true));
        let folder = if is_first {
            attempt.target()
        } else {
            attempt.path().to_path_buf()
        };
        ledger.open_again(&folder)?;
        drop(ledger);
        if is_first {
            let mut config = Config::clone(&self.config());
            config.output.path = folder;
            *lock_ignoring_poison(&self.config) = Arc::new(config);
            return Ok(());
        }
        let shard = attempt.target();
        *place = Some(attempt);
        finished?;
        tracing::warn!(shard = %shard.display(), "another attempt has finished the shard before");
        Ok(())
    }

    /// At the end of the process: lets another one continue an attempt that is not whole, and removes one that nobody
    /// needs.
    pub(super) fn leave_shard(&self) {
        let Some(attempt) = lock_ignoring_poison(&self.attempt).take() else {
            return;
        };
        let closed = self.ledger.lock().close();
        if let Err(error) = closed.and_then(|()| attempt.leave()) {
            tracing::warn!(%error, "the attempt at the shard is not left in order");
        }
    }
}
