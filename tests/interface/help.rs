//! The exact output of `--help`: a change of the command line shows in review.

#[test]
fn help_texts() {
    for (name, args) in [
        ("handloom", vec!["--help"]),
        ("process", vec!["process", "--help"]),
        ("resequence", vec!["resequence", "--help"]),
        ("merge", vec!["merge", "--help"]),
        ("inspect", vec!["inspect", "--help"]),
        ("report", vec!["report", "--help"]),
        ("export", vec!["export", "--help"]),
        ("demo", vec!["demo", "--help"]),
        ("camera", vec!["camera", "--help"]),
        ("run", vec!["run", "--help"]),
        ("bench", vec!["bench", "--help"]),
        ("watch", vec!["watch", "--help"]),
        ("check", vec!["check", "--help"]),
    ] {
        let run = test_support::handloom(args).ends(0);
        assert_eq!(run.stderr, "", "{name}");
        insta::assert_snapshot!(name, run.stdout);
    }
}
