//! Finds the shard of this process from the environment variables of the engine that started it, for `auto` and
//! `mpi`. The callers look the variables up.
//!
//! An explicit shard wins: `HANDLOOM_SHARD`, or `SHARD_INDEX` with `SHARD_COUNT`. `SHARD_COUNT` alone sets the number
//! of shards for every engine. Two engines that name different shards are an error. So is an uncertain number of
//! shards: a single task that an engine runs again looks like a smaller array.

use super::ShardIndex;
use std::fmt::{Display, Formatter};
use std::str::FromStr;

/// Environment variable with the whole shard, as `i/n`.
pub const SHARD: &str = "HANDLOOM_SHARD";
/// Environment variable with the number of shards, for every engine.
pub const SHARD_COUNT: &str = "SHARD_COUNT";
/// Environment variable with the index of the shard, from 0, for every engine.
const SHARD_INDEX: &str = "SHARD_INDEX";

/// A shard, and the variables that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectedShard {
    /// The shard.
    pub shard: ShardIndex,
    /// The engine whose variables name the shard, or `explicit`.
    pub engine: &'static str,
    /// The variables that were used, as `NAME=value`.
    pub variables: Vec<String>,
}

impl Display for DetectedShard {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let variables = self.variables.join(" and ");
        write!(f, "{} ({}: {variables})", self.shard, self.engine)
    }
}

/// The number of times that an engine has started this shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptNumber {
    /// This attempt's number, from 1.
    pub number: usize,
    /// The variable that holds the number, as `NAME=value`.
    pub variable: String,
}

/// Why the environment does not determine the shard. The command line must change, so engines should not retry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// A variable is not a number.
    #[error(
        "the variable {variable} is {value:?}, which is no whole number from 0: correct it, or unset it"
    )]
    #[expect(missing_docs, reason = "the fields are what their names say")]
    BadNumber {
        variable: &'static str,
        value: String,
    },
    /// The shard of a variable is invalid, or an array has more tasks than there are shards.
    #[error("{variable} names no shard: {reason}")]
    #[expect(missing_docs, reason = "the fields are what their names say")]
    BadShard { variable: String, reason: String },
    /// No variable names a shard.
    #[error(
        "no variable of an engine names the shard ({searched}): start it as a task of an array job, set SHARD_INDEX and \
         SHARD_COUNT, or write the shard itself as in `handloom process DATASET --out OUT --shard 0/4`"
    )]
    #[expect(missing_docs, reason = "the field is what its name says")]
    None { searched: String },
    /// The number of shards is uncertain.
    #[error(
        "{variable} names a shard, and {why}: set SHARD_COUNT to the number of all shards, or write the shard itself as in \
         `handloom process DATASET --out OUT --shard {index}/COUNT`"
    )]
    #[expect(missing_docs, reason = "the fields are what their names say")]
    UnknownCount {
        variable: String,
        index: usize,
        why: String,
    },
    /// The variables of two engines name different shards.
    #[error(
        "{first} and {second} name different shards: unset the variable that an outer program set, or write the shard itself \
         as in `handloom process DATASET --out OUT --shard 0/4`"
    )]
    #[expect(missing_docs, reason = "the fields are what their names say")]
    Disagree { first: String, second: String },
}

/// The source of the number of shards for an engine.
enum Count {
    /// The engine does not set it.
    Absent,
    /// This variable holds it, also when a task runs again.
    Variable(&'static str),
    /// It follows from the bounds of the array as it was submitted. A task that is submitted again has other bounds.
    Bounds {
        first: &'static str,
        last: &'static str,
        step: &'static str,
        tasks: Option<&'static str>,
    },
}

/// The variables of one engine.
struct Engine {
    name: &'static str,
    index: &'static str,
    /// The number of the first task. A lower number means that there is no array.
    base: usize,
    count: Count,
}

/// The engines of `auto`, in search order.
const ENGINES: [Engine; 10] = [
    Engine {
        name: "Slurm",
        index: "SLURM_ARRAY_TASK_ID",
        base: 0,
        count: Count::Bounds {
            first: "SLURM_ARRAY_TASK_MIN",
            last: "SLURM_ARRAY_TASK_MAX",
            step: "SLURM_ARRAY_TASK_STEP",
            tasks: Some("SLURM_ARRAY_TASK_COUNT"),
        },
    },
    engine("Kubernetes", "JOB_COMPLETION_INDEX", 0, Count::Absent),
    engine(
        "AWS Batch",
        "AWS_BATCH_JOB_ARRAY_INDEX",
        0,
        Count::Variable("AWS_BATCH_JOB_ARRAY_SIZE"),
    ),
    engine(
        "Cloud Run",
        "CLOUD_RUN_TASK_INDEX",
        0,
        Count::Variable("CLOUD_RUN_TASK_COUNT"),
    ),
    engine("PBS", "PBS_ARRAY_INDEX", 0, Count::Absent),
    engine("Torque", "PBS_ARRAYID", 0, Count::Absent),
    engine("LSF", "LSB_JOBINDEX", 1, Count::Absent),
    Engine {
        name: "Grid Engine",
        index: "SGE_TASK_ID",
        base: 1,
        count: Count::Bounds {
            first: "SGE_TASK_FIRST",
            last: "SGE_TASK_LAST",
            step: "SGE_TASK_STEPSIZE",
            tasks: None,
        },
    },
    engine("Nomad", "NOMAD_ALLOC_INDEX", 0, Count::Absent),
    engine("GNU parallel", "PARALLEL_SEQ", 1, Count::Absent),
];

/// The rank variables of `mpi`. Open MPI starts its daemons with `srun`, so its own rank is searched first.
const RANKS: [Engine; 2] = [
    engine(
        "Open MPI",
        "OMPI_COMM_WORLD_RANK",
        0,
        Count::Variable("OMPI_COMM_WORLD_SIZE"),
    ),
    // In a batch script itself SLURM_PROCID and SLURM_NTASKS are set too, but the count of a step is not.
    engine(
        "srun",
        "SLURM_PROCID",
        0,
        Count::Variable("SLURM_STEP_NUM_TASKS"),
    ),
];

/// The variables that count attempts, each with its value in the first attempt.
const ATTEMPTS: [(&str, usize); 4] = [
    ("SHARD_ATTEMPT", 0),
    ("SLURM_RESTART_COUNT", 0),
    ("AWS_BATCH_JOB_ATTEMPT", 1),
    ("CLOUD_RUN_TASK_ATTEMPT", 0),
];

const fn engine(name: &'static str, index: &'static str, base: usize, count: Count) -> Engine {
    Engine {
        name,
        index,
        base,
        count,
    }
}

/// The shard that an engine's variables name.
struct NamedShard<'a> {
    engine: &'a Engine,
    /// Index of the shard, from 0.
    index: usize,
    /// The variable that names the shard, as `NAME=value`.
    variable: String,
}

/// The environment variables of a process, through a lookup function.
struct Variables<L>(L);

/// The shard that the variables name, for `auto`. `lookup` returns the value of a variable.
///
/// # Errors
/// Fails when a variable is invalid, no variable names a shard, two engines disagree, or the number of shards is
/// uncertain.
pub fn detect(lookup: impl Fn(&str) -> Option<String>) -> Result<DetectedShard, EnvironmentError> {
    let variables = Variables(lookup);
    if let Some(explicit) = variables.explicit()? {
        return Ok(explicit);
    }
    let found = variables.find(&ENGINES)?;
    if let [first, others @ ..] = &found[..]
        && let Some(other) = others.iter().find(|other| other.index != first.index)
    {
        return Err(EnvironmentError::Disagree {
            first: first.variable.clone(),
            second: other.variable.clone(),
        });
    }
    variables.shard(&found, &ENGINES, variables.explicit_count()?)
}

/// The shard of the rank that an MPI launcher gave this process, for `mpi`. `lookup` returns the value of a variable.
///
/// # Errors
/// Fails when a variable is invalid, no variable gives a rank, or the number of ranks is uncertain.
pub fn detect_rank(
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<DetectedShard, EnvironmentError> {
    let variables = Variables(lookup);
    let found = variables.find(&RANKS)?;
    variables.shard(&found, &RANKS, variables.explicit_count()?)
}

/// The number of this attempt at the shard; `None` when no variable counts attempts.
///
/// # Errors
/// Fails when a variable is not a number.
pub fn attempt(
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Option<AttemptNumber>, EnvironmentError> {
    let variables = Variables(lookup);
    for (name, first) in ATTEMPTS {
        if let Some(value) = variables.number(name)? {
            return Ok(Some(AttemptNumber {
                number: value.saturating_sub(first).saturating_add(1),
                variable: format!("{name}={value}"),
            }));
        }
    }
    Ok(None)
}

impl<L: Fn(&str) -> Option<String>> Variables<L> {
    /// The value of `name`. An empty value counts as unset, and so does `undefined`, which Grid Engine sets outside
    /// of arrays.
    fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty() && value != "undefined")
    }

    fn number(&self, variable: &'static str) -> Result<Option<usize>, EnvironmentError> {
        let Some(value) = self.text(variable) else {
            return Ok(None);
        };
        match value.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(EnvironmentError::BadNumber { variable, value }),
        }
    }

    /// The shard that the variables independent of any engine name.
    fn explicit(&self) -> Result<Option<DetectedShard>, EnvironmentError> {
        let detected = |shard, variables| DetectedShard {
            shard,
            engine: "explicit",
            variables,
        };
        // `HANDLOOM_SHARD` may also hold `auto` or `mpi`, which name no shard.
        let given = self
            .text(SHARD)
            .filter(|text| text != "auto" && text != "mpi");
        if let Some(text) = given {
            let shard =
                ShardIndex::from_str(&text).map_err(|error| EnvironmentError::BadShard {
                    variable: format!("{SHARD}={text}"),
                    reason: error.to_string(),
                })?;
            return Ok(Some(detected(shard, vec![format!("{SHARD}={text}")])));
        }
        let Some(index) = self.number(SHARD_INDEX)? else {
            return Ok(None);
        };
        let variable = format!("{SHARD_INDEX}={index}");
        let Some(count) = self.explicit_count()? else {
            let why = format!("{SHARD_COUNT} is not set");
            return Err(EnvironmentError::UnknownCount {
                variable,
                index,
                why,
            });
        };
        let shard = shard_of(&variable, index, count)?;
        let variables = vec![variable, format!("{SHARD_COUNT}={count}")];
        Ok(Some(detected(shard, variables)))
    }

    fn explicit_count(&self) -> Result<Option<usize>, EnvironmentError> {
        self.number(SHARD_COUNT)
    }

    /// The shards that the variables of `engines` name, in the order of `engines`.
    fn find<'a>(&self, engines: &'a [Engine]) -> Result<Vec<NamedShard<'a>>, EnvironmentError> {
        let mut found = Vec::new();
        for engine in engines {
            let number = self.number(engine.index)?;
            // A number below that of the first task means that there is no array.
            let index = number.and_then(|number| number.checked_sub(engine.base));
            if let (Some(number), Some(index)) = (number, index) {
                let variable = format!("{}={number}", engine.index);
                found.push(NamedShard {
                    engine,
                    index,
                    variable,
                });
            }
        }
        Ok(found)
    }

    /// The shard of the first of `found`. `count` is the number of shards; `None` takes it from the engine's
    /// variables.
    fn shard(
        &self,
        found: &[NamedShard<'_>],
        searched: &[Engine],
        count: Option<usize>,
    ) -> Result<DetectedShard, EnvironmentError> {
        let Some(found) = found.first() else {
            let searched: Vec<&str> = searched.iter().map(|engine| engine.index).collect();
            let searched = searched.join(", ");
            return Err(EnvironmentError::None { searched });
        };
        let (count, origin) = match count {
            Some(count) => {
                self.refuse_overlong(found, count)?;
                (count, format!("{SHARD_COUNT}={count}"))
            }
            None => self
                .count(found)?
                .map_err(|why| EnvironmentError::UnknownCount {
                    variable: found.variable.clone(),
                    index: found.index,
                    why,
                })?,
        };
        Ok(DetectedShard {
            shard: shard_of(&found.variable, found.index, count)?,
            engine: found.engine.name,
            variables: vec![found.variable.clone(), origin],
        })
    }

    /// The number of shards and the variable that gave it, or the reason why the number is uncertain.
    fn count(
        &self,
        found: &NamedShard<'_>,
    ) -> Result<Result<(usize, String), String>, EnvironmentError> {
        let Engine {
            name, base, count, ..
        } = found.engine;
        let (first, last, step, tasks) = match *count {
            Count::Absent => return Ok(Err(format!("{name} does not tell the number of shards"))),
            Count::Variable(variable) => {
                let count = self.number(variable)?;
                let count = count.map(|count| (count, format!("{variable}={count}")));
                return Ok(count.ok_or_else(|| format!("{variable} is not set")));
            }
            Count::Bounds {
                first,
                last,
                step,
                tasks,
            } => (first, last, step, tasks),
        };
        let bounds = (self.number(first)?, self.number(last)?, self.number(step)?);
        let (Some(min), Some(max), Some(stride)) = bounds else {
            let named = [(first, bounds.0), (last, bounds.1), (step, bounds.2)];
            let unset = named.iter().filter(|(_, number)| number.is_none());
            let unset: Vec<&str> = unset.map(|(name, _)| *name).collect();
            let is = if unset.len() == 1 { "is" } else { "are" };
            return Ok(Err(format!("{} {is} not set", unset.join(" and "))));
        };
        let count = max.saturating_sub(*base).saturating_add(1);
        let listed = match tasks {
            Some(tasks) => self.number(tasks)?,
            None => Some(count),
        };
        // A single task, or tasks with gaps, may be a resubmitted part of a larger array.
        if min == *base && stride == 1 && count > 1 && listed == Some(count) {
            return Ok(Ok((count, format!("{last}={max}"))));
        }
        Ok(Err(format!(
            "the array ({first}={min}, {last}={max}, {step}={stride}) may be a part of all shards that is submitted again"
        )))
    }

    /// Fails when the last task of the array is not a shard, so that the other tasks do not work in vain.
    fn refuse_overlong(
        &self,
        found: &NamedShard<'_>,
        count: usize,
    ) -> Result<(), EnvironmentError> {
        let Count::Bounds { last, .. } = found.engine.count else {
            return Ok(());
        };
        let max = self.number(last)?;
        match max.and_then(|max| max.checked_sub(found.engine.base)) {
            Some(index) => shard_of(
                &format!("{last}={}", index + found.engine.base),
                index,
                count,
            )
            .map(|_| ()),
            None => Ok(()),
        }
    }
}

/// The shard `index` of `count`. `variable` is named in the error.
fn shard_of(variable: &str, index: usize, count: usize) -> Result<ShardIndex, EnvironmentError> {
    ShardIndex::new(index, count).map_err(|error| EnvironmentError::BadShard {
        variable: variable.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests;
