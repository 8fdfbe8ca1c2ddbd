use super::*;

/// A lookup function for the variables in `words`, each `NAME=value`.
fn of(words: &str) -> impl Fn(&str) -> Option<String> {
    let words: Vec<(String, String)> = words
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    move |name| {
        let found = words.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    }
}

/// The variables that Slurm gives task `id` of the array of `min` to `max`.
fn slurm(id: usize, min: usize, max: usize, step: usize, count: usize) -> String {
    format!(
        "SLURM_ARRAY_TASK_ID={id} SLURM_ARRAY_TASK_MIN={min} SLURM_ARRAY_TASK_MAX={max} SLURM_ARRAY_TASK_STEP={step} \
         SLURM_ARRAY_TASK_COUNT={count}"
    )
}

#[test]
fn every_engine_names_its_shard() {
    let whole = slurm(2, 0, 3, 1, 4);
    let sge = "SGE_TASK_ID=3 SGE_TASK_FIRST=1 SGE_TASK_LAST=4 SGE_TASK_STEPSIZE=1";
    for (variables, shard, engine) in [
        (&*whole, "2/4", "Slurm"),
        ("JOB_COMPLETION_INDEX=0 SHARD_COUNT=4", "0/4", "Kubernetes"),
        (
            "AWS_BATCH_JOB_ARRAY_INDEX=9 AWS_BATCH_JOB_ARRAY_SIZE=10",
            "9/10",
            "AWS Batch",
        ),
        (
            "CLOUD_RUN_TASK_INDEX=0 CLOUD_RUN_TASK_COUNT=1",
            "0/1",
            "Cloud Run",
        ),
        ("PBS_ARRAY_INDEX=3 SHARD_COUNT=4", "3/4", "PBS"),
        ("PBS_ARRAYID=3 SHARD_COUNT=4", "3/4", "Torque"),
        ("LSB_JOBINDEX=1 SHARD_COUNT=4", "0/4", "LSF"),
        (sge, "2/4", "Grid Engine"),
        ("NOMAD_ALLOC_INDEX=1 SHARD_COUNT=4", "1/4", "Nomad"),
        ("PARALLEL_SEQ=4 SHARD_COUNT=4", "3/4", "GNU parallel"),
        ("SHARD_INDEX=1 SHARD_COUNT=3", "1/3", "explicit"),
        ("HANDLOOM_SHARD=1/3", "1/3", "explicit"),
        // An explicit shard wins over an engine, and so does its number of shards.
        (
            "HANDLOOM_SHARD=1/3 JOB_COMPLETION_INDEX=2",
            "1/3",
            "explicit",
        ),
        (
            "SHARD_INDEX=1 SHARD_COUNT=3 JOB_COMPLETION_INDEX=2",
            "1/3",
            "explicit",
        ),
        (
            "AWS_BATCH_JOB_ARRAY_INDEX=1 AWS_BATCH_JOB_ARRAY_SIZE=2 SHARD_COUNT=8",
            "1/8",
            "AWS Batch",
        ),
        // `auto` and `mpi` in HANDLOOM_SHARD name no shard.
        (
            "HANDLOOM_SHARD=auto JOB_COMPLETION_INDEX=2 SHARD_COUNT=4",
            "2/4",
            "Kubernetes",
        ),
        // Several engines that name the same shard.
        (
            "JOB_COMPLETION_INDEX=2 PARALLEL_SEQ=3 SHARD_COUNT=4",
            "2/4",
            "Kubernetes",
        ),
        // There is no array: Grid Engine's `undefined`, LSF's 0, or an empty text.
        (
            "SGE_TASK_ID=undefined LSB_JOBINDEX=0 PBS_ARRAYID= NOMAD_ALLOC_INDEX=1 SHARD_COUNT=2",
            "1/2",
            "Nomad",
        ),
    ] {
        let detected = detect(of(variables)).unwrap();
        let found = (detected.shard.to_string(), detected.engine);
        assert_eq!((&*found.0, found.1), (shard, engine), "{variables}");
    }
}

#[test]
fn what_was_chosen_is_shown_with_its_variables() {
    let shown = |variables: &str| detect(of(variables)).unwrap().to_string();
    let whole = slurm(2, 0, 3, 1, 4);
    let from = "2/4 (Slurm: SLURM_ARRAY_TASK_ID=2 and SLURM_ARRAY_TASK_MAX=3)";
    assert_eq!(shown(&whole), from);
    let explicit = format!("{whole} SHARD_COUNT=8");
    let from = "2/8 (Slurm: SLURM_ARRAY_TASK_ID=2 and SHARD_COUNT=8)";
    assert_eq!(shown(&explicit), from);
    let from = "1/3 (explicit: HANDLOOM_SHARD=1/3)";
    assert_eq!(shown("HANDLOOM_SHARD=1/3"), from);
}

#[test]
fn the_variable_that_is_not_set_is_named() {
    for (variables, why) in [
        (
            "SLURM_ARRAY_TASK_ID=3 SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_STEP=1",
            "and SLURM_ARRAY_TASK_MAX is not set:",
        ),
        (
            "SGE_TASK_ID=3 SGE_TASK_LAST=4",
            "and SGE_TASK_FIRST and SGE_TASK_STEPSIZE are not set:",
        ),
    ] {
        let error = detect(of(variables)).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn tasks_that_are_submitted_again_need_the_number_of_shards() {
    for variables in [
        // `sbatch --array=3`, `=0`, `=0,2,5`, `=1-7:2`, `=0-6:2`, `=1-3`.
        slurm(3, 3, 3, 1, 1),
        slurm(0, 0, 0, 1, 1),
        slurm(2, 0, 5, 1, 3),
        slurm(3, 1, 7, 2, 4),
        slurm(2, 0, 6, 2, 4),
        slurm(2, 1, 3, 1, 3),
        "SLURM_ARRAY_TASK_ID=3 SLURM_ARRAY_TASK_COUNT=4".to_owned(),
        // `qsub -t 4`, `-t 1`, `-t 1-7:2`, `-t 2-4`, and a task with only the last bound.
        "SGE_TASK_ID=4 SGE_TASK_FIRST=4 SGE_TASK_LAST=4 SGE_TASK_STEPSIZE=1".to_owned(),
        "SGE_TASK_ID=1 SGE_TASK_FIRST=1 SGE_TASK_LAST=1 SGE_TASK_STEPSIZE=1".to_owned(),
        "SGE_TASK_ID=3 SGE_TASK_FIRST=1 SGE_TASK_LAST=7 SGE_TASK_STEPSIZE=2".to_owned(),
        "SGE_TASK_ID=3 SGE_TASK_FIRST=2 SGE_TASK_LAST=4 SGE_TASK_STEPSIZE=1".to_owned(),
        "SGE_TASK_ID=3 SGE_TASK_LAST=4".to_owned(),
        // Engines that do not set the number of shards.
        "JOB_COMPLETION_INDEX=2".to_owned(),
        "PBS_ARRAY_INDEX=2".to_owned(),
        "LSB_JOBINDEX=2".to_owned(),
        "PARALLEL_SEQ=1".to_owned(),
        "AWS_BATCH_JOB_ARRAY_INDEX=1".to_owned(),
        "SHARD_INDEX=1".to_owned(),
    ] {
        let error = detect(of(&variables)).unwrap_err();
        assert!(
            matches!(error, EnvironmentError::UnknownCount { .. }),
            "{variables}: {error}"
        );
        let text = error.to_string();
        let fix = text.contains("set SHARD_COUNT") && text.contains("/COUNT`");
        assert!(fix, "{text}");
        if variables.starts_with("SLURM") {
            // The shard has the task's own number, whatever the array is.
            let detected = detect(of(&format!("{variables} SHARD_COUNT=8"))).unwrap();
            let id = of(&variables)("SLURM_ARRAY_TASK_ID").unwrap();
            assert_eq!(detected.shard.to_string(), format!("{id}/8"));
        }
    }
}

#[test]
fn what_names_no_shard_is_refused_with_the_variable() {
    for (variables, words) in [
        ("", "no variable of an engine"),
        ("SHARD_COUNT=4", "SLURM_ARRAY_TASK_ID"),
        (
            "SGE_TASK_ID=undefined LSB_JOBINDEX=0",
            "no variable of an engine",
        ),
        // Ranks are used for `mpi` only.
        (
            "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=4",
            "no variable of an engine",
        ),
        ("SLURM_PROCID=1 SLURM_NTASKS=4", "no variable of an engine"),
        (
            "JOB_COMPLETION_INDEX=x SHARD_COUNT=4",
            "JOB_COMPLETION_INDEX is \"x\"",
        ),
        (
            "JOB_COMPLETION_INDEX=-1 SHARD_COUNT=4",
            "JOB_COMPLETION_INDEX is \"-1\"",
        ),
        (
            "JOB_COMPLETION_INDEX=1 SHARD_COUNT=four",
            "SHARD_COUNT is \"four\"",
        ),
        (
            "JOB_COMPLETION_INDEX=4 SHARD_COUNT=4",
            "JOB_COMPLETION_INDEX=4 names no shard: shards are numbered from 0: 0/4 to 3/4",
        ),
        ("JOB_COMPLETION_INDEX=4 SHARD_COUNT=0", "at least one shard"),
        (
            "LSB_JOBINDEX=5 SHARD_COUNT=4",
            "LSB_JOBINDEX=5 names no shard",
        ),
        ("HANDLOOM_SHARD=4/4", "HANDLOOM_SHARD=4/4 names no shard"),
        ("HANDLOOM_SHARD=x", "allowed are auto and INDEX/COUNT"),
        (
            "SHARD_INDEX=3 SHARD_COUNT=3",
            "SHARD_INDEX=3 names no shard",
        ),
        // Two engines.
        (
            "JOB_COMPLETION_INDEX=1 PARALLEL_SEQ=1 SHARD_COUNT=4",
            "JOB_COMPLETION_INDEX=1 and PARALLEL_SEQ=1 name different shards",
        ),
        (
            "PBS_ARRAY_INDEX=1 PBS_ARRAYID=2 SHARD_COUNT=4",
            "PBS_ARRAY_INDEX=1 and PBS_ARRAYID=2",
        ),
    ] {
        let error = detect(of(variables)).unwrap_err().to_string();
        assert!(error.contains(words), "{variables}: {error}");
    }
    // An array that begins at 1 is refused in all of its tasks, not only in the last.
    for id in 1..=4 {
        let variables = format!("{} SHARD_COUNT=4", slurm(id, 1, 4, 1, 4));
        let error = detect(of(&variables)).unwrap_err().to_string();
        assert!(
            error.contains("SLURM_ARRAY_TASK_MAX=4 names no shard"),
            "{error}"
        );
    }
}

#[test]
fn ranks_are_shards_on_demand() {
    let ompi = "OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=4";
    let srun = "SLURM_PROCID=1 SLURM_NTASKS=3 SLURM_STEP_NUM_TASKS=3";
    let rank = |variables: &str| detect_rank(of(variables)).unwrap().to_string();
    let from = "2/4 (Open MPI: OMPI_COMM_WORLD_RANK=2 and OMPI_COMM_WORLD_SIZE=4)";
    assert_eq!(rank(ompi), from);
    let from_srun = "1/3 (srun: SLURM_PROCID=1 and SLURM_STEP_NUM_TASKS=3)";
    assert_eq!(rank(srun), from_srun);
    // The daemons of Open MPI are ranks of srun themselves.
    assert_eq!(rank(&format!("{srun} {ompi}")), from);
    let error = detect_rank(of(&slurm(2, 0, 3, 1, 4))).unwrap_err();
    assert!(error.to_string().contains("SLURM_PROCID"), "{error}");
    // A batch script that forgets `srun`: every task would be rank 0.
    let error = detect_rank(of("SLURM_PROCID=0 SLURM_NTASKS=4")).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("SLURM_STEP_NUM_TASKS is not set"), "{error}");
}

#[test]
fn attempts_are_counted_from_one() {
    for (variables, number) in [
        ("", None),
        ("SLURM_RESTART_COUNT=2", Some(3)),
        ("SHARD_ATTEMPT=0", Some(1)),
        ("AWS_BATCH_JOB_ATTEMPT=1", Some(1)),
        ("CLOUD_RUN_TASK_ATTEMPT=1", Some(2)),
        // The user's own variable wins.
        ("SHARD_ATTEMPT=7 SLURM_RESTART_COUNT=2", Some(8)),
    ] {
        let attempt = attempt(of(variables)).unwrap();
        assert_eq!(attempt.map(|a| a.number), number, "{variables}");
    }
    assert!(attempt(of("SLURM_RESTART_COUNT=x")).is_err());
}
