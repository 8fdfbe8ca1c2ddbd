//! The shard of this process by the variables of the engine that started it, for `auto` and `mpi`. Callers look the
//! variables up.
//!
//! An explicit shard wins: `HANDLOOM_SHARD`, or `SHARD_INDEX` with `SHARD_COUNT`. `SHARD_COUNT` alone is the number of
//! shards for every engine. Two engines that name different shards are refused, and so is a number of shards that the
//! variables do not tell for certain: a task that an engine runs again alone looks like a smaller array.

use super::ShardIndex;
use std::fmt::{Display, Formatter};
use std::str::FromStr;

/// Names the shard as `i/n`.
pub const SHARD: &str = "HANDLOOM_SHARD";
/// The number of shards, whatever the engine.
pub const SHARD_COUNT: &str = "SHARD_COUNT";
/// The number of the shard, whatever the engine; from 0.
const SHARD_INDEX: &str = "SHARD_INDEX";

/// A shard, and why it is this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectedShard {
    /// The shard.
    pub shard: ShardIndex,
    /// What set the variables.
    pub engine: &'static str,
    /// The variables that decided, as `NAME=value`.
    pub variables: Vec<String>,
}

impl Display for DetectedShard {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let variables = self.variables.join(" and ");
        write!(f, "{} ({}: {variables})", self.shard, self.engine)
    }
}

/// How often an engine has started this shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptNumber {
    /// This attempt's number, from 1.
    pub number: usize,
    /// The variable that tells, as `NAME=value`.
    pub variable: String,
}

/// Why the shard cannot be told from the environment. The command line must change, so engines should not try again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// A variable is no number.
    #[error(
        "the variable {variable} is {value:?}, which is no whole number from 0: correct it, or unset it"
    )]
    #[expect(missing_docs, reason = "the fields are what their names say")]
    BadNumber {
        variable: &'static str,
        value: String,
    },
    /// A variable names no shard, or an array has tasks that are none.
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
    /// The number of shards is not certain.
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
    /// Two engines name two shards.
    #[error(
        "{first} and {second} name different shards: unset the variable that an outer program set, or write the shard itself \
         as in `handloom process DATASET --out OUT --shard 0/4`"
    )]
    #[expect(missing_docs, reason = "the fields are what their names say")]
    Disagree { first: String, second: String },
}

/// Where an engine tells the number of shards.
enum Count {
    /// Nowhere.
    Absent,
    /// In this variable, also when a task runs again.
    Variable(&'static str),
    /// In the bounds of the array as it was submitted. A task that is submitted again has other bounds.
    Bounds {
        first: &'static str,
        last: &'static str,
        step: &'static str,
        tasks: Option<&'static str>,
    },
}

/// How an engine tells the shard.
struct Engine {
    name: &'static str,
    index: &'static str,
    /// The number of the first task. A lower one means that there is no array.
    base: usize,
    count: Count,
}

/// The engines of `auto`, in the order in which they are searched.
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

/// The ranks of `mpi`. Open MPI starts its daemons with `srun`, so its own rank is the first that counts.
const RANKS: [Engine; 2] = [
    engine(
        "Open MPI",
        "OMPI_COMM_WORLD_RANK",
        0,
        Count::Variable("OMPI_COMM_WORLD_SIZE"),
    ),
    // In a batch script itself SLURM_PROCID and SLURM_NTASKS are set too; the count of a step is not.
    engine(
        "srun",
        "SLURM_PROCID",
        0,
        Count::Variable("SLURM_STEP_NUM_TASKS"),
    ),
];

/// The variables that count attempts, and the value of the first attempt.
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

/// What an engine's variables say.
struct NamedShard<'a> {
    engine: &'a Engine,
    /// From 0.
    index: usize,
    /// The variable as the engine sets it.
    variable: String,
}

/// The variables of a process.
struct Variables<L>(L);

/// The shard that the variables name, for `auto`. `lookup` returns the value of a variable.
///
/// # Errors
/// When they name none, or not for certain, or two.
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
/// When there is no rank.
pub fn detect_rank(
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<DetectedShard, EnvironmentError> {
    let variables = Variables(lookup);
    let found = variables.find(&RANKS)?;
    variables.shard(&found, &RANKS, variables.explicit_count()?)
}

/// How often the engine has started this shard; `None` when none of its variables tells.
///
/// # Errors
/// When a variable is no number.
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
    /// The value of `name`. Empty is unset, and so is what Grid Engine sets outside of arrays.
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

    /// The shard that variables name which belong to no engine.
    fn explicit(&self) -> Result<Option<DetectedShard>, EnvironmentError> {
        let detected = |shard, variables| DetectedShard {
            shard,
            engine: "explicit",
            variables,
        };
        // The variable may also say how the shard is found.
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

    /// What each of `engines` says, in their order.
    fn find<'a>(&self, engines: &'a [Engine]) -> Result<Vec<NamedShard<'a>>, EnvironmentError> {
        let mut found = Vec::new();
        for engine in engines {
            let number = self.number(engine.index)?;
            // A lower number than that of the first task means that there is no array.
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

    /// The shard of the first of `found`, of as many as `count` says or else the engine.
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

    /// The number of shards by the engine's variables and the one that tells, or why it is not certain.
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
        // One task, or tasks with gaps, may be those of a larger array that are submitted again.
        if min == *base && stride == 1 && count > 1 && listed == Some(count) {
            return Ok(Ok((count, format!("{last}={max}"))));
        }
        Ok(Err(format!(
            "the array ({first}={min}, {last}={max}, {step}={stride}) may be a part of all shards that is submitted again"
        )))
    }

    /// Refuses an array of which some tasks are no shards before the others have worked in vain.
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

/// The shard `index` of `count`, as `variable` says.
fn shard_of(variable: &str, index: usize, count: usize) -> Result<ShardIndex, EnvironmentError> {
    ShardIndex::new(index, count).map_err(|error| EnvironmentError::BadShard {
        variable: variable.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests;
