//! The shard of a daemon. The output folder, with the ledger and its outbox, is that of an attempt; once the shard is
//! whole, it is renamed to the folder of the shard.

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

/// Replaces the output folder of `config` by the folder for its shard. Returns the attempt at the shard; `None`
/// without a shard, or when the shard is whole.
///
/// # Errors
/// Fails when the folder cannot be made or `mode` is not for a shard.
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
    /// Renames the folder of the attempt, whose job is done, to that of the shard.
    pub(super) fn finish_shard(&self) -> Result<(), StoreError> {
        let mut place = lock_ignoring_poison(&self.attempt);
        let Some(attempt) = place.take() else {
            return Ok(());
        };
        let mut ledger = self.ledger.lock();
        // The ledger's files are closed while the folder is renamed.
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

    /// Called at the end of the process. Releases an unfinished attempt, so that another process can continue it, and
    /// removes one that is not needed.
    pub(super) fn release_shard(&self) {
        let Some(attempt) = lock_ignoring_poison(&self.attempt).take() else {
            return;
        };
        let closed = self.ledger.lock().close();
        if let Err(error) = closed.and_then(|()| attempt.leave()) {
            tracing::warn!(%error, "the attempt at the shard is not left in order");
        }
    }
}
