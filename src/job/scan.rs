//! Reads the dataset of a job and makes the plan over it.

use super::share::Share;
use super::{JobConfig, provenance, rescan};
use crate::dataset::class_list::{CLASS_LIST_NAME, parse_class_list};
use crate::dataset::plan::{Plan, PlannedClip, plan};
use crate::dataset::selection::{Selection, SelectionRequest, select};
use crate::dataset::splits;
use crate::digest::sha256_hex;
use crate::error::{CliError, Exit};
use crate::inference::{ModelFiles, expected_identity};
use crate::storage::output_dir;
use crate::storage::{Ledger, StoreError};
use crate::video::clip;
use crate::video::dataset_source::{DatasetSource, Metadata};
use crate::video::decoder;
use std::path::Path;

/// A dataset that was read, with the plan over it.
pub struct DatasetScan {
    /// The clips.
    pub dataset: DatasetSource,
    /// Which clips are processed, and why not the others.
    pub plan: Plan,
    /// The part of the plan that is made here.
    pub share: Share,
    pub(super) json_sha256: String,
    /// SHA-256 of the splits file, if there is one.
    pub(super) splits_sha256: Option<String>,
}

impl JobConfig {
    /// Reads the dataset and makes the plan.
    pub(crate) fn scan(&self) -> Result<DatasetScan, CliError> {
        let mut dataset = DatasetSource::open_as(
            &self.dataset,
            self.format,
            self.json.as_deref(),
            self.videos.as_deref(),
        )?;
        let mut metadata = dataset.metadata()?;
        let (selection, splits_sha256) = self.select(&dataset, &mut metadata)?;
        let exists = |id: &str| dataset.exists(id);
        let plan_options = self.plan_options.for_format(dataset.format());
        let mut plan = plan(&metadata.entries, &plan_options, &exists);
        plan.add_selection(selection);
        plan.explain_missing(&|id| dataset.elsewhere(id));
        plan.warn(metadata.warnings);
        let mut scan = DatasetScan {
            share: Share::whole(&plan, self.batch_size),
            dataset,
            plan,
            json_sha256: metadata.sha256,
            splits_sha256,
        };
        if let Some(shard) = self.shard {
            let clip_bytes = |clip: &PlannedClip| scan.dataset.clip_bytes(&clip.video_id);
            let clip_key = |position| scan.clip_key(position);
            scan.share = Share::of_shard(&scan.plan, self.batch_size, shard, clip_bytes, clip_key);
        }
        Ok(scan)
    }

    /// Applies subset and splits file to the entries of `metadata`. Returns also the hash of the splits file.
    fn select(
        &self,
        dataset: &DatasetSource,
        metadata: &mut Metadata,
    ) -> Result<(Selection, Option<String>), CliError> {
        let splits = match &self.splits {
            Some(path) => Some((path, dataset.companion_of_user(path, splits::BYTES_MAX)?)),
            None => None,
        };
        let sha256 = splits.as_ref().map(|(_, bytes)| sha256_hex(bytes));
        let name = |path: &Path| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let splits = splits.map(|(path, bytes)| splits::parse(&name(path), &bytes));
        let splits = splits.transpose()?;
        let mut request = SelectionRequest {
            subset: self.subset,
            splits: splits.as_ref(),
            class_order: metadata.class_order.take(),
            metadata: name(&dataset.json_path()),
            ..SelectionRequest::default()
        };
        if self.subset.is_some() || splits.is_some() {
            let list = dataset.companion(CLASS_LIST_NAME, splits::BYTES_MAX)?;
            let list = list.map(|bytes| parse_class_list(CLASS_LIST_NAME, &bytes));
            request.class_list = list.transpose()?;
        }
        Ok((select(&mut metadata.entries, &request)?, sha256))
    }

    /// Checks GStreamer and the decoder, without which every clip would fail.
    pub(crate) fn check_decoder(&self) -> Result<(), CliError> {
        clip::init().map_err(|e| CliError::new(Exit::Bug, e))?;
        decoder::check(&self.video.decoder).map_err(|e| CliError::new(Exit::Usage, e))
    }

    /// The error when the output folder holds the results of another job. The files of a required accelerator are not
    /// read: they are assumed to be unchanged.
    pub(crate) fn other_job(
        &self,
        scan: &DatasetScan,
        bundle: &ModelFiles,
        ledger: Option<&Ledger>,
    ) -> Result<Option<StoreError>, StoreError> {
        let other = output_dir::other_job(&self.out, ledger, |known| {
            let accelerator = expected_identity(&self.accelerator, &known["accelerator"]);
            provenance::settings(self, scan, bundle, &accelerator)
        })?;
        Ok(match (other, ledger) {
            (Some(error), Some(ledger)) => Some(rescan::explain_change(error, scan, ledger)),
            (other, _) => other,
        })
    }
}
