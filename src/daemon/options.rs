//! The settings as the options of the modules below. A daemon's [`Config`] comes from its file, a command's from its
//! flags; both become options here and nowhere else.

use crate::camera::FormatRequest;
use crate::config::Config;
use crate::dataset::plan::PlanOptions;
use crate::error::{CliError, Exit};
use crate::frame::CameraAddress;
use crate::hand;
use crate::inference::{BackendRequest, DelegateSpec, ModelPaths};
use crate::job::{self, JobConfig};
use crate::mqtt::{Settings, Tls};
use crate::recording::capture_settings::CaptureSettings;
use crate::selection::Tolerance;
use crate::sequence::SequenceSpec;
use crate::shard::ShardRequest;
use crate::shard::environment::{self, AttemptNumber, DetectedShard};
use crate::video::clip::VideoOptions;
use crate::video::clip_decoder::DecodePlace;
use anyhow::anyhow;
use std::num::NonZeroUsize;
use std::time::Duration;

/// Value of an environment variable of this process; `None` also for one that is not UTF-8, which names no shard.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Config {
    /// Whether there is a dataset job; without one there is a camera only.
    #[must_use]
    pub fn has_dataset(&self) -> bool {
        !self.dataset.path.as_os_str().is_empty()
    }

    /// Replaces [`ShardRequest::Auto`] and [`ShardRequest::Mpi`] by the shard that the environment of this process names,
    /// and returns it with its variables. `None` when the shard is given, or there is none.
    ///
    /// # Errors
    /// Fails when the environment names no shard, or two.
    pub(crate) fn resolve_shard(&mut self) -> Result<Option<DetectedShard>, CliError> {
        let detected = match self.run.shard {
            Some(ShardRequest::Auto) => environment::detect(variable),
            Some(ShardRequest::Mpi) => environment::detect_rank(variable),
            Some(ShardRequest::Of(_)) | None => return Ok(None),
        };
        let detected = detected?;
        self.run.shard = Some(ShardRequest::Of(detected.shard));
        Ok(Some(detected))
    }

    /// Refuses this attempt when the variable that counts attempts has a number above `max`.
    ///
    /// # Errors
    /// Fails when the number is above `max`, or the variable is not a number.
    pub(crate) fn check_attempts(max: Option<NonZeroUsize>) -> Result<(), CliError> {
        let (Some(max), Some(attempt)) = (max, environment::attempt(variable)?) else {
            return Ok(());
        };
        let AttemptNumber { number, variable } = attempt;
        if number <= max.get() {
            return Ok(());
        }
        let text = format!(
            "this is attempt {number} ({variable}), and --max-attempts is {max}: read why the earlier ones ended, then start it \
             again or allow more"
        );
        Err(CliError::new(Exit::BadData, anyhow!(text)))
    }

    /// The dataset job.
    #[must_use]
    pub fn job(&self) -> JobConfig {
        JobConfig {
            dataset: self.dataset.path.clone(),
            format: self.dataset.files.format,
            json: self.dataset.files.json.clone(),
            videos: self.dataset.files.videos.clone(),
            out: self.output.path.clone(),
            plan_options: self.plan_options(),
            subset: self.plan.subset,
            splits: self.plan.splits.clone(),
            profile: self.sequence.numbers.profile,
            shape: self.sequence_spec(),
            min_frames: self.sequence.hands.rows.min_frames,
            detector: self.detector(),
            models: self.model_paths(),
            accelerator: self.backend_request(),
            video: self.video_options(),
            decode_place: self.decode_place(),
            batch_size: self.output.batches.batch_size,
            keep_frames: self.output.frames.keep_frames,
            shard: match self.run.shard {
                Some(ShardRequest::Of(shard)) => Some(shard),
                Some(ShardRequest::Auto | ShardRequest::Mpi) | None => None,
            },
        }
    }

    /// Which clips are processed.
    #[must_use]
    pub fn plan_options(&self) -> PlanOptions {
        let trimmed = |gloss: &String| gloss.trim().to_owned();
        let defaults = PlanOptions::default();
        // A user who names the classes wants all of them.
        let has_classes = self.plan.subset.is_some() || self.plan.splits.is_some();
        let min_videos = if has_classes {
            1
        } else {
            defaults.min_videos_per_gloss
        };
        PlanOptions {
            min_videos_per_gloss: self.plan.min_videos_per_gloss.unwrap_or(min_videos),
            max_glosses: self.plan.max_glosses,
            selected_glosses: self.plan.selected_glosses.iter().map(trimmed).collect(),
            max_samples_per_gloss: self.plan.max_samples_per_gloss,
            only_split: self.plan.only_split.clone(),
            folds_case: self.sequence.numbers.profile.folds_case() && !has_classes,
            keeps_other_frames: self.output.frames.keep_frames && !has_classes,
        }
    }

    /// What a sequence of a clip is made of.
    #[must_use]
    pub fn sequence_spec(&self) -> SequenceSpec {
        SequenceSpec {
            length: self.sequence.hands.rows.sequence_length,
            stride: self.sequence.hands.rows.frame_stride,
            tracking: self.sequence.tracking,
            options: self.sequence.options(),
        }
    }

    /// The hand detector.
    #[must_use]
    pub fn detector(&self) -> hand::DetectorOptions {
        let hands = &self.sequence.hands;
        hand::DetectorOptions {
            num_hands: hands.num_hands,
            detection_min: hands.min_hand_detection_confidence,
            presence_min: hands.min_hand_presence_confidence,
            tracking_iou: hands.min_tracking_confidence,
        }
    }

    /// The model files.
    #[must_use]
    pub fn model_paths(&self) -> ModelPaths {
        ModelPaths {
            models: self.models.path.clone(),
            palm: self.models.palm.clone(),
            hand: self.models.hand.clone(),
            trust: self.models.trust,
        }
    }

    /// Which backend runs the models, and its settings.
    #[must_use]
    pub fn backend_request(&self) -> BackendRequest {
        let (run, own) = (&self.run.accelerator, &self.delegate);
        let pairs = own.options.iter().filter_map(|o| o.split_once('='));
        BackendRequest {
            preference: run.preference.clone(),
            delegate: DelegateSpec {
                library: own.library.clone().unwrap_or_default(),
                options: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
                palm: own.palm.clone(),
                hand: own.hand.clone(),
            },
            tolerance: Tolerance {
                exact: run.tolerance,
                fast: run.fast_tolerance,
            },
            timeout: Duration::from_secs_f64(run.timeout_s),
            recorded: None,
        }
    }

    /// The camera and how its signs become takes; `None` without a camera.
    #[must_use]
    pub fn capture(&self) -> Option<(CameraAddress, CaptureSettings)> {
        Some((self.camera.device.clone()?, self.capture_settings()))
    }

    /// How a camera's signs become takes.
    #[must_use]
    pub fn capture_settings(&self) -> CaptureSettings {
        let camera = &self.camera;
        let spec = self.sequence_spec();
        CaptureSettings {
            want: FormatRequest {
                width: camera.width,
                height: camera.height,
                rate: camera.capture.fps,
                format: camera.capture.format,
            },
            profile: self.sequence.numbers.profile,
            shape: SequenceSpec {
                tracking: true,
                options: spec.options.of_takes(),
                ..spec
            },
            min_frames: self.sequence.hands.rows.min_frames,
            detector: self.detector(),
            dataset_fps: camera.segments.dataset_fps,
            start_frames: camera.segments.start_frames,
            end_frames: camera.segments.end_frames,
            min_seconds: camera.segments.min_seconds,
            max_seconds: camera.segments.max_seconds,
            prefix: self.device.id.clone(),
            batch_size: self.output.batches.batch_size,
        }
    }

    /// How clips are opened.
    #[must_use]
    pub fn video_options(&self) -> VideoOptions {
        VideoOptions {
            decoder: self.run.decoder.clone(),
            timeout: Duration::from_secs_f64(self.run.clip_timeout_s),
            pixels_max: self.run.max_pixels,
        }
    }

    /// Which process decodes the clips.
    #[must_use]
    pub fn decode_place(&self) -> DecodePlace {
        if self.run.decode_in_process {
            return DecodePlace::ThisProcess;
        }
        DecodePlace::ChildProcess {
            memory_bytes: self.run.decoder_memory_mib << 20,
        }
    }

    /// The connection to the broker; `None` without one.
    #[must_use]
    pub fn broker(&self) -> Option<Settings> {
        let mqtt = &self.mqtt;
        let tls = Tls {
            ca_file: mqtt.ca_file.clone(),
            cert_file: mqtt.cert_file.clone(),
            key_file: mqtt.key_file.clone(),
        };
        let address = mqtt.url.as_ref()?.address().clone();
        let mut settings = Settings::at(&self.device.id, address, tls);
        settings.client_id.clone_from(&mqtt.client_id);
        settings.username = settings.username.or_else(|| mqtt.username.clone());
        let password = || mqtt.password.as_ref().map(|p| p.reveal().to_owned());
        settings.password = settings.password.or_else(password);
        settings.keep_alive = Duration::from_secs(mqtt.keep_alive_s);
        settings.reconnect_max = Duration::from_secs(mqtt.reconnect_max_s);
        settings.reconnect_min = settings.reconnect_min.min(settings.reconnect_max);
        settings.discovery = mqtt.home_assistant;
        Some(settings)
    }

    /// Clips processed at the same time.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.run.workers.unwrap_or_else(job::cores)
    }
}
