//! The jobs that several devices make in shards: the sum over the shards of one plan.

use crate::fleet::devices::{Fleet, FleetDevice};
use crate::fleet::fleet_table::{percent, seconds};
use crate::messages::payloads::{Progress, ShardName};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Maximum number of shards of a job. A message can name any number; jobs with more are ignored.
const SHARDS_MAX: usize = 100_000;
/// Maximum number of shards that are named as missing, and as made by two devices.
const SHOWN: usize = 8;

/// A job in shards.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetJob<'a> {
    /// Name of its plan.
    pub plan: &'a str,
    /// Number of its shards.
    pub count: usize,
    /// Planned clips of the known shards.
    pub total: usize,
    /// Number of these clips that are done.
    pub done: usize,
    /// The known shards that are not done, the slowest first, each with its device.
    pub running: Vec<(usize, &'a str, &'a Progress)>,
    /// The numbers of the known shards.
    known: Vec<usize>,
    /// The shards that several online devices have, each with two of these devices.
    doubled: Vec<(usize, [&'a str; 2])>,
}

/// The shards of a job by their number, each with its devices, sorted by name.
type Shards<'a> = BTreeMap<usize, Vec<(&'a str, &'a FleetDevice, &'a Progress)>>;

/// The jobs in shards of all devices, by plan and number of shards.
#[must_use]
pub fn jobs(fleet: &Fleet) -> Vec<FleetJob<'_>> {
    let mut jobs: BTreeMap<(&str, usize), Shards<'_>> = BTreeMap::new();
    for (id, device) in fleet.devices() {
        let Some((shard, progress)) = shard(device) else {
            continue;
        };
        let shards = jobs.entry((&shard.plan, shard.count)).or_default();
        let devices = shards.entry(shard.index).or_default();
        devices.push((id, device, progress));
    }
    let jobs = jobs.into_iter();
    jobs.map(|((plan, count), shards)| FleetJob::of(plan, count, shards))
        .collect()
}

/// The shard of `device` with its progress.
fn shard(device: &FleetDevice) -> Option<(&ShardName, &Progress)> {
    let progress = device.progress.as_ref()?;
    let shard = progress.shard.as_ref()?;
    let is_possible = shard.index < shard.count && shard.count <= SHARDS_MAX;
    is_possible.then_some((shard, progress))
}

impl<'a> FleetJob<'a> {
    fn of(plan: &'a str, count: usize, shards: Shards<'a>) -> Self {
        let mut job = Self {
            plan,
            count,
            total: 0,
            done: 0,
            running: Vec::new(),
            known: shards.keys().copied().collect(),
            doubled: Vec::new(),
        };
        for (index, devices) in shards {
            let mut online = devices.iter().filter(|(_, device, _)| device.is_online());
            if let (Some((one, ..)), Some((other, ..))) = (online.next(), online.next()) {
                job.doubled.push((index, [*one, *other]));
            }
            // Of several attempts at a shard, the most advanced one counts; of equal ones, the first.
            let ahead = devices
                .into_iter()
                .rev()
                .max_by_key(|(.., progress)| progress.done);
            let Some((id, _, progress)) = ahead else {
                continue;
            };
            job.total = job.total.saturating_add(progress.total);
            job.done = job.done.saturating_add(progress.done);
            if progress.done < progress.total {
                job.running.push((index, id, progress));
            }
        }
        let share = |progress: &Progress| percent(progress.done, progress.total);
        job.running
            .sort_by_key(|(index, _, progress)| (share(progress), *index));
        job
    }

    /// Number of the shards that no device has, and the first of them.
    #[must_use]
    pub fn missing(&self) -> (usize, Vec<usize>) {
        let missing = (0..self.count).filter(|index| self.known.binary_search(index).is_err());
        let first = missing.take(SHOWN).collect();
        (self.count - self.known.len(), first)
    }

    /// The job in one line. It has a percentage once all shards are known.
    #[must_use]
    pub fn line(&self) -> String {
        let Self {
            plan,
            count,
            total,
            done,
            ..
        } = self;
        let known = self.known.len();
        let (missing, first) = self.missing();
        let mut line = format!("job {plan}: {done} of {total} clips");
        // Writing to a String cannot fail.
        if missing == 0 {
            write!(line, " ({}%)", percent(*done, *total)).ok();
        }
        write!(line, " in {known} of {count} shards").ok();
        if missing > 0 {
            let first: Vec<String> = first
                .iter()
                .map(|index| format!("{index}/{count}"))
                .collect();
            let more = if missing > first.len() { ", ..." } else { "" };
            write!(line, "; {missing} missing: {}{more}", first.join(", ")).ok();
        }
        for (index, [one, other]) in self.doubled.iter().take(SHOWN) {
            write!(line, "; {one} and {other} both make {index}/{count}").ok();
        }
        if let Some((index, id, progress)) = self.running.first() {
            let share = percent(progress.done, progress.total);
            write!(line, "; slowest: {id} (shard {index}/{count}, {share}%").ok();
            if let Some(eta) = progress.eta_s {
                write!(line, ", {} left", seconds(eta)).ok();
            }
            line.push(')');
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn fleet(shards: &[(&str, usize, usize, usize, usize)]) -> Fleet {
        let mut fleet = Fleet::default();
        for (id, index, count, done, total) in shards {
            let message = json!({
                "v": 1, "ts": "2026-01-31T12:00:00.000Z", "clock_synced": true, "seq": 1, "run": "r",
                "total": total, "done": done, "states": {}, "clips_per_min": null, "eta_s": 120.0, "clip": null,
                "shard": {"index": index, "count": count, "plan": "1a2b3c4d"},
            });
            let topic = format!("handloom/{id}/progress");
            let payload = message.to_string();
            fleet.take(Duration::ZERO, &topic, payload.as_bytes(), false);
        }
        fleet
    }

    #[test]
    fn the_shards_of_a_plan_are_one_job() {
        let devices = [
            ("a", 0, 4, 10, 10),
            ("b", 1, 4, 2, 10),
            ("c", 3, 4, 5, 10),
            ("d", 0, 4, 3, 10),
        ];
        let fleet = fleet(&devices);
        let jobs = jobs(&fleet);
        assert_eq!(
            jobs.iter().map(FleetJob::line).collect::<Vec<_>>(),
            [
                "job 1a2b3c4d: 17 of 30 clips in 3 of 4 shards; 1 missing: 2/4; slowest: b (shard 1/4, 20%, 2m left)"
            ]
        );
    }

    #[test]
    fn devices_with_one_shard_are_named_while_they_are_online() {
        let mut fleet = fleet(&[("a", 0, 2, 5, 10), ("b", 1, 2, 5, 10), ("c", 0, 2, 9, 10)]);
        let mut line = |status: &str, ts: u64| {
            for id in ["a", "b", "c"] {
                let status = if id == "c" { status } else { "online" };
                let message = json!({
                    "v": 1, "ts": "2026-01-31T12:00:00.000Z", "clock_synced": true, "seq": ts, "run": "r",
                    "status": status, "version": "0.1.0",
                });
                let topic = format!("handloom/{id}/status");
                fleet.take(Duration::ZERO, &topic, message.to_string().as_bytes(), true);
            }
            jobs(&fleet)[0].line()
        };
        let both = line("online", 1);
        assert!(
            both.starts_with("job 1a2b3c4d: 14 of 20 clips (70%) in 2 of 2 shards; a and c both make 0/2; slowest: b"),
            "{both}"
        );
        let one = line("offline", 2);
        assert!(!one.contains("both"), "{one}");
    }

    #[test]
    fn impossible_shards_are_no_job() {
        assert!(jobs(&fleet(&[("a", 4, 4, 0, 1), ("b", 0, usize::MAX, 0, 1)])).is_empty());
        let whole = fleet(&[("a", 0, 1, 5, 5)]);
        assert_eq!(
            jobs(&whole)[0].line(),
            "job 1a2b3c4d: 5 of 5 clips (100%) in 1 of 1 shards"
        );
        let first = fleet(&[("a", 0, 100, 5, 5)]);
        assert!(
            jobs(&first)[0]
                .line()
                .ends_with("5 of 5 clips in 1 of 100 shards; 99 missing: 1/100, 2/100, 3/100, 4/100, 5/100, 6/100, 7/100, 8/100, ...")
        );
    }
}
