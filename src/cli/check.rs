//! `handloom check`: checks the config and everything that it names, a line each.

mod models;
mod output;

use crate::camera::{CaptureStep, RawFrame};
use crate::cli::progress::print_line;
use crate::cli::run::ConfigArgs;
use crate::config::{self, Config, LoadedConfig, Origin, Sources};
use crate::dataset::plan;
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use crate::frame::DecoderChoice;
use crate::messages::topics;
use crate::mqtt::check_tls;
use crate::mqtt::subscriber::{Event, Subscriber};
use crate::video::clip_decoder::DecodePlace;
use crate::video::dataset_source::DatasetSource;
use crate::video::decoder_process::DecoderProcess;
use crate::video::turns::DecodeTurns;
use crate::video::{clip, decoder};
use CheckStatus::{Absent, Bad, Doubtful, Fine};
use anyhow::anyhow;
use clap::Args;
use serde_json::json;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Warnings of the dataset that are shown; more are counted.
const WARNINGS_MAX: usize = 5;
/// Longest wait for the connection to the broker: name, TCP, TLS and login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the broker in all.
const BROKER_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) const CHECK_ABOUT: &str = "\
Check the daemon's config and everything that it names.

Prints a line for each of: config, device, dataset, camera, models, runtime, accelerators, decoder,
output, mirror and broker. A dataset or camera that the config does not name has no line. Each line
has a status, what was found and the fix:
  ok      in order, or not used by the config
  -       an accelerator that is not here and not required
  warn    usable, but probably not as intended
  FAIL    not usable

Nothing is changed. But a small file is written to the output folders and removed again, the camera
is opened for one frame, and check logs in to the broker under a name of its own.

Check sees what its user may see: run it as the service's user, `sudo -u handloom handloom check`.
It cannot see what the service's sandbox forbids, nor a password that only systemd gives to the
service.

Settings come from the file, then from the environment (HANDLOOM_SECTION_KEY, as in
HANDLOOM_MQTT_URL; also HANDLOOM_LOG for log.level and HANDLOOM_MODELS for models.path), then from
--set. The last one wins. Empty text unsets an optional setting. The example handloom.toml has every
key with its meaning and default.

Examples:
  handloom check                                         the config of the service
  handloom check --config my.toml --set mqtt.url=        as if no broker were set
  handloom check --print > effective.toml                secrets are hidden

Exit codes: 0 all in order, 78 bad config, 69 a required accelerator or only the broker fails, else
the code of the first failure.";

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The config.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print one JSON object a line
    #[arg(long, conflicts_with = "print")]
    pub json: bool,
    /// Print all settings as a config file, with the origin of each, and stop
    #[arg(long)]
    pub print: bool,
}

/// The status of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CheckStatus {
    Fine,
    /// Not here and not required.
    Absent,
    Doubtful,
    /// The program ends with this code, if it is the first.
    Bad(Exit),
}

/// The status of a subject, and what was found.
#[derive(Debug)]
struct CheckResult {
    status: CheckStatus,
    detail: String,
}

impl CheckStatus {
    fn with(self, detail: impl Into<String>) -> CheckResult {
        CheckResult {
            status: self,
            detail: detail.into(),
        }
    }
}

impl CheckResult {
    /// One line for people, more if the detail has more; or one JSON object for programs.
    fn line(&self, subject: &str, is_json: bool) -> String {
        let (word, name) = match self.status {
            Fine => ("ok", "ok"),
            Absent => ("-", "absent"),
            Doubtful => ("warn", "warn"),
            Bad(_) => ("FAIL", "fail"),
        };
        if is_json {
            return json!({"verdict": name, "subject": subject, "detail": self.detail}).to_string();
        }
        let detail = self.detail.replace('\n', &format!("\n{:20}", ""));
        format!("{word:<8} {subject:<10} {detail}")
    }
}

/// The results of a subject, none if the config does not name it. An error is a failure.
type CheckResults = Result<Vec<CheckResult>, CliError>;

type Check = fn(&Config) -> CheckResults;

/// Each subject, who reads its errors, and its check.
const CHECKS: [(&str, Audience, Check); 12] = [
    ("dataset", Audience::Keys, dataset),
    ("camera", Audience::Keys, camera),
    ("models", Audience::Keys, models::models),
    ("runtime", Audience::Keys, models::runtime),
    ("accel", Audience::Keys, models::accelerators),
    ("decoder", Audience::Keys, decoder),
    ("output", Audience::Keys, output::output),
    ("job", Audience::Keys, output::job),
    ("takes", Audience::TakesKeys, output::takes_folder),
    ("takes", Audience::TakesKeys, output::takes),
    ("mirror", Audience::Keys, output::mirror),
    // Last: a job runs without the broker, so its exit code counts only if all else is in order.
    ("broker", Audience::Keys, broker),
];

/// Prints the results, and keeps the exit code of the first failure.
struct CheckReport {
    is_json: bool,
    exit: Exit,
}

impl CheckReport {
    fn print(&mut self, subject: &str, result: &CheckResult) {
        print_line(&result.line(subject, self.is_json));
        if let (Bad(exit), Exit::Done) = (result.status, self.exit) {
            self.exit = exit;
        }
    }
}

/// Checks everything and prints the results.
///
/// # Errors
/// Fails when the config is to be printed and is wrong.
pub fn run(args: &CheckArgs) -> Result<Exit, CliError> {
    let sources = args.config.sources();
    let loaded = sources.and_then(|sources| Ok((config::load(&sources)?, sources)));
    if args.print {
        print_line(&loaded?.0.to_toml());
        return Ok(Exit::Done);
    }
    let mut report = CheckReport {
        is_json: args.json,
        exit: Exit::Done,
    };
    let (loaded, sources) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            for problem in &error.problems {
                let result = Bad(Exit::Config).with(problem.to_string());
                report.print("config", &result);
            }
            return Ok(Exit::Config);
        }
    };
    report.print("config", &Fine.with(settings(&loaded, &sources)));
    for warning in &loaded.warnings {
        report.print("config", &Doubtful.with(warning));
    }
    report.print("device", &Fine.with(device(&loaded)));
    for (subject, audience, check) in CHECKS {
        let failed = |error: CliError| vec![Bad(error.exit).with(audience.display_chain(&error))];
        for result in check(&loaded.config).unwrap_or_else(failed) {
            report.print(subject, &result);
        }
    }
    Ok(report.exit)
}

/// The sources of the settings.
fn settings(loaded: &LoadedConfig, sources: &Sources) -> String {
    let mut detail = sources.file.as_ref().map_or_else(
        || format!("no file; {} does not exist", config::DEFAULT_FILE),
        |path| path.display().to_string(),
    );
    let count = |is_of_layer: fn(&Origin) -> bool| {
        let origins = loaded.origins.values();
        origins.filter(|origin| is_of_layer(origin)).count()
    };
    let variables = count(|origin| matches!(origin, Origin::Environment(_)));
    let flags = count(|origin| matches!(origin, Origin::Flag(_)));
    for (n, layer) in [(variables, "the environment"), (flags, "--set")] {
        let s = if n == 1 { "" } else { "s" };
        if n > 0 {
            // Writing to a String cannot fail.
            write!(detail, "; {n} setting{s} from {layer}").ok();
        }
    }
    detail
}

fn device(loaded: &LoadedConfig) -> String {
    let id = &loaded.config.device.id;
    match loaded.origin("device.id") {
        Some(_) => id.clone(),
        None => format!("{id}, from the host name; device.id sets another"),
    }
}

/// The camera, opened for one frame.
fn camera(config: &Config) -> CheckResults {
    let Some((address, settings)) = config.capture() else {
        return Ok(Vec::new());
    };
    let mut capture = address.opener(settings.want).open(Instant::now())?;
    let timeout = capture.frame_timeout();
    let step = capture.next(timeout, &mut RawFrame::default())?;
    let opened = capture.opened();
    let rate = opened
        .rate
        .map_or_else(String::new, |r| format!(" at {r:.0} fps"));
    let (format, width, height) = (opened.format.name(), opened.width, opened.height);
    let detail = format!("{}: {format} {width}x{height}{rate}", opened.name);
    Ok(vec![
        if matches!(step, CaptureStep::Frame | CaptureStep::NotDue) {
            Fine.with(detail)
        } else {
            Doubtful.with(format!(
                "{detail}, but no frame came; unplug it and plug it in again"
            ))
        },
    ])
}

/// The dataset, and how much of it would be processed.
fn dataset(config: &Config) -> CheckResults {
    let settings = &config.dataset;
    if settings.path.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    let (json, videos) = (&settings.files.json, &settings.files.videos);
    let format = settings.files.format;
    let mut dataset =
        DatasetSource::open_as(&settings.path, format, json.as_deref(), videos.as_deref())?;
    let path = dataset.json_path().display().to_string();
    let metadata = dataset.metadata()?;
    let options = config.plan_options().for_format(dataset.format());
    let mut plan = plan::plan(&metadata.entries, &options, &|id| dataset.exists(id));
    plan.explain_missing(&|id| dataset.elsewhere(id));
    plan.warn(metadata.warnings);
    let (clips, instances, glosses) = (plan.jobs.len(), plan.records.len(), plan.glosses.len());
    let counts = format!(
        "{path}: {clips} of {instances} instances and {glosses} glosses would be processed"
    );
    let mut results = vec![if clips == 0 {
        let hint = "see `handloom process DATASET --list`, and plan.min_videos_per_gloss";
        Doubtful.with(format!("{counts}; {hint}"))
    } else {
        Fine.with(counts)
    }];
    let warnings = plan.warnings.iter().take(WARNINGS_MAX);
    results.extend(warnings.map(|warning| Doubtful.with(Audience::Keys.describe(warning))));
    if let Some(more @ 1..) = plan.warnings.len().checked_sub(WARNINGS_MAX) {
        results.push(Doubtful.with(format!("and {more} more warnings")));
    }
    Ok(results)
}

fn decoder(config: &Config) -> CheckResults {
    let choice = &config.run.decoder;
    clip::init().map_err(|error| CliError::new(Exit::Bug, error))?;
    decoder::check(choice).map_err(|error| {
        let is_named = matches!(choice, DecoderChoice::Named(_));
        CliError::new(if is_named { Exit::Config } else { Exit::Bug }, error)
    })?;
    let place = match config.decode_place() {
        DecodePlace::ThisProcess => "in this process".to_owned(),
        DecodePlace::ChildProcess { memory_bytes } => {
            let turns = DecodeTurns::default();
            let options = config.video_options();
            let process = DecoderProcess::new(&options, memory_bytes, &turns);
            let report = process
                .and_then(|mut process| process.start())
                .map_err(|error| CliError::new(Exit::InOut, error))?;
            report.map_or_else(String::new, |r| format!("in processes {r}"))
        }
    };
    let found = format!("{choice}, GStreamer {}, {place}", clip::version());
    Ok(vec![if *choice == DecoderChoice::Software {
        Fine.with(found)
    } else {
        Doubtful.with(format!("{found}; only software is proven exact"))
    }])
}

/// The broker: logs in and subscribes to the commands, as the daemon does.
fn broker(config: &Config) -> CheckResults {
    let (Some(url), Some(mut settings)) = (&config.mqtt.url, config.broker()) else {
        return Ok(vec![Fine.with("none: mqtt.url is not set")]);
    };
    if let Some(tls) = &settings.tls {
        check_tls(tls).map_err(|error| {
            let CliError { exit, error } = error.into();
            let keys = "mqtt.ca_file, mqtt.cert_file and mqtt.key_file name the files";
            CliError::new(exit, anyhow!("{error} ({keys})"))
        })?;
    }
    settings.connect_timeout = CONNECT_TIMEOUT;
    let end = Instant::now() + BROKER_TIMEOUT;
    let commands = vec![topics::command_filter(&settings.device)];
    let subscriber = Subscriber::start("check", &settings, commands)
        .map_err(|error| CliError::new(Exit::Bug, error))?;
    let reason = match subscriber.events().recv_deadline(end) {
        Ok(Event::Connected | Event::Message { .. }) => {
            let detail = format!("{url} accepts the login and the subscription to commands");
            return Ok(vec![Fine.with(detail)]);
        }
        Ok(Event::SubscriptionDenied(reason)) => {
            let detail = format!("{url} accepts the login, but: {reason} (no command is received)");
            return Ok(vec![Doubtful.with(detail)]);
        }
        Ok(Event::Disconnected(reason)) => reason,
        Err(_) => format!("no answer within {} s", BROKER_TIMEOUT.as_secs()),
    };
    let hint = "see [mqtt]; the job runs without the broker, and messages wait";
    let error = anyhow!("{url}: {reason} ({hint})");
    Err(CliError::new(Exit::Unavailable, error))
}
