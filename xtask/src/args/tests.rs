//! Command lines and what becomes of them.

use super::*;

fn check(line: &str, expected: Result<Task, &str>) {
    let words = line.split_whitespace().map(OsString::from);
    match (parse(words), expected) {
        (Ok(task), Ok(expected)) => assert_eq!(task, expected, "{line}"),
        (Err(error), Err(expected)) => assert_eq!(format!("{error:#}"), expected, "{line}"),
        (got, expected) => panic!("{line}: got {got:?}, expected {expected:?}"),
    }
}

#[test]
fn every_command_has_help() {
    check("", Ok(Task::Help(HELP)));
    check("--help", Ok(Task::Help(HELP)));
    check("help", Ok(Task::Help(HELP)));
    for command in HELP
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
    {
        for line in [format!("{command} --help"), format!("help {command}")] {
            let words = line.split(' ').map(OsString::from);
            let Ok(Task::Help(text)) = parse(words) else {
                panic!("no help for: {line}")
            };
            assert!(text.contains(&format!("cargo xtask {command}")), "{line}");
        }
    }
}

#[test]
fn setup_is_for_a_purpose() {
    check("setup", Ok(Task::Setup(Purpose::Test)));
    check("setup --for demo", Ok(Task::Setup(Purpose::Demo)));
    check(
        "setup --for compose-test",
        Ok(Task::Setup(Purpose::ComposeTest)),
    );
    check(
        "setup --for tea",
        Err("--for tea: expected demo, test, bench, ci or compose-test"),
    );
    check(
        "setup --fro demo",
        Err("see cargo xtask setup --help: invalid option '--fro'"),
    );
}

#[test]
fn fuzzing_takes_a_target_and_a_time() {
    let fuzz = |target: Option<&str>, seconds| {
        let target = target.map(str::to_owned);
        Ok(Task::Fuzz { target, seconds })
    };
    check("fuzz", fuzz(None, 60));
    check("fuzz stream --seconds 3600", fuzz(Some("stream"), 3600));
    check(
        "fuzz stream request",
        Err("see cargo xtask fuzz --help: unexpected argument \"request\""),
    );
}

#[test]
fn the_demo_stays_unless_told() {
    check("demo", Ok(Task::Demo { once: false }));
    check("demo --once", Ok(Task::Demo { once: true }));
    check(
        "demo --twice",
        Err("see cargo xtask demo --help: invalid option '--twice'"),
    );
}

#[test]
fn what_belongs_to_another_program_is_passed_on() {
    check(
        "bench filter --json",
        Ok(Task::Bench {
            arguments: vec!["filter".into(), "--json".into()],
        }),
    );
    check(
        "e2e -- --nocapture",
        Ok(Task::E2e {
            arguments: vec!["--".into(), "--nocapture".into()],
        }),
    );
    check(
        "test decide",
        Ok(Task::Test {
            filters: vec!["decide".into()],
        }),
    );
}

#[test]
fn unknown_words_are_errors() {
    check("dmeo", Err("no command 'dmeo'; see cargo xtask help"));
    check(
        "ci --fast",
        Err("see cargo xtask help: invalid option '--fast'"),
    );
    check(
        "--once",
        Err("see cargo xtask help: invalid option '--once'"),
    );
}
