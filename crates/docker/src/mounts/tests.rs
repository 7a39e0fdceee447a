use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use clawker_model::{FullName, Mount as Wanted, Network, Resources};

use super::*;

pub(crate) fn spec(mounts: Vec<Wanted>) -> CreateContainer {
    CreateContainer {
        name: FullName::parse("clawker.p.a").expect("name"),
        image_id: "sha256:00".into(),
        entrypoint: vec!["/.clawker/clawkerd".into()],
        cmd: vec!["sleep".into()],
        labels: Default::default(),
        tty: false,
        open_stdin: false,
        mounts,
        mounted: Some(crate::Mounted {
            agent_dir: "/opt/agent".into(),
            run_dir: "/srv/run/x".into(),
        }),
        publish: vec![],
        network: Network::Default,
        default_network: "clawker-net".into(),
        resources: Resources::default(),
        unsafe_options: vec![],
        protected: vec![],
    }
}

fn mount(source: &str, target: &str) -> Wanted {
    Wanted {
        source: source.into(),
        target: target.into(),
        read_only: false,
    }
}

/// One mount, on a host whose engine listens on `host/engine.sock` and whose state is `host/state`.
fn judge(host: &Path, source: &str, unsafe_mount: bool) -> Result<Vec<Mount>, SpecError> {
    let mut spec = spec(vec![mount(source, "/work")]);
    spec.protected = vec![host.join("state")];
    if unsafe_mount {
        spec.unsafe_options = vec!["mount".into()];
    }
    check(&spec, Some(&host.join("engine.sock")))
}

fn host() -> tempfile::TempDir {
    let host = tempfile::tempdir().expect("tempdir");
    for folder in ["work/deep", "state/run", "elsewhere"] {
        fs::create_dir_all(host.path().join(folder)).expect("folder");
    }
    drop(UnixListener::bind(host.path().join("engine.sock")).expect("socket"));
    drop(UnixListener::bind(host.path().join("work/docker.sock")).expect("socket"));
    drop(UnixListener::bind(host.path().join("work/agent.sock")).expect("socket"));
    symlink("/proc", host.path().join("to-proc")).expect("link");
    symlink("state/run", host.path().join("to-state")).expect("link");
    symlink("../engine.sock", host.path().join("work/innocent")).expect("link");
    fs::hard_link(host.path().join("engine.sock"), host.path().join("work/hard")).expect("hard link");
    host
}

#[test]
fn what_shows_the_host_is_refused_however_it_is_written() {
    let host = host();
    let at = |path: &str| host.path().join(path).to_string_lossy().into_owned();
    let fixed = [
        "/",
        "//",
        "/proc",
        "/proc/1",
        "/sys",
        "/dev",
        "/dev/null",
        "/run",
        "/var/run",
        "/var",
        "/etc/../proc",
        "/var/lib",
    ];
    let made = [
        "to-proc",
        "to-state",
        "state",
        "state/run",
        "work/../state",
        "work/innocent",
        "work/hard",
        "work/docker.sock",
    ];
    let sources = fixed.map(str::to_owned).into_iter().chain(made.map(at)).chain([at("")]);
    for source in sources.filter(|source| Path::new(source).exists()) {
        let result = judge(host.path(), &source, false);
        assert!(
            matches!(
                result,
                Err(SpecError::MountProtected { .. } | SpecError::MountSocket { .. })
            ),
            "{source}: {result:?}"
        );
    }
}

#[test]
fn what_is_ours_stays_hidden_even_when_the_operator_lifts_the_limit() {
    let host = host();
    let at = |path: &str| host.path().join(path).to_string_lossy().into_owned();
    for source in [
        "/".to_owned(),
        at("state"),
        at("to-state"),
        at("work/innocent"),
        at("work/hard"),
        at("work/docker.sock"),
    ] {
        assert!(judge(host.path(), &source, true).is_err(), "{source}");
    }
    assert!(judge(host.path(), "/sys/kernel", true).is_ok());
}

#[test]
fn folders_of_the_work_are_mounted_under_their_real_name() {
    let host = host();
    let real = fs::canonicalize(host.path()).expect("real");
    for (source, expected) in [
        ("work", "work"),
        ("work/deep/..", "work"),
        ("work/agent.sock", "work/agent.sock"),
    ] {
        let source = host.path().join(source).to_string_lossy().into_owned();
        let mounts = judge(host.path(), &source, false).unwrap_or_else(|error| panic!("{source}: {error}"));
        assert_eq!(mounts[0].source.as_deref(), real.join(expected).to_str());
        assert_eq!(mounts[0].typ, Some(MountType::BIND));
    }
    let volume = check(&spec(vec![mount("cache", "/cache")]), Some(host.path())).expect("volume");
    assert_eq!(volume[0].typ, Some(MountType::VOLUME));
}

#[test]
fn a_source_is_an_absolute_path_that_exists_or_a_volume() {
    for (source, unusable) in [
        ("./work", false),
        ("../work", false),
        ("", false),
        ("-v", false),
        ("/no/such/path", true),
        ("/tmp\0x", true),
    ] {
        let error = check(&spec(vec![mount(source, "/work")]), Some(Path::new("/x"))).expect_err(source);
        match error {
            SpecError::MountSource { .. } if !unusable => {}
            SpecError::MountSourceUnusable { .. } if unusable => {}
            other => panic!("{source:?}: {other}"),
        }
    }
}

#[test]
fn targets_cover_nothing_of_ours_or_the_kernels() {
    for target in [
        "",
        "work",
        "/",
        "/.",
        "/work/..",
        "/a/../proc",
        "/.clawker",
        "/.clawker/",
        "//.clawker-run//x",
        "/proc",
        "/proc/1",
        "/sys",
        "/dev/shm",
        "/a\0",
    ] {
        let result = check(&spec(vec![mount("cache", target)]), Some(Path::new("/x")));
        assert!(
            matches!(result, Err(SpecError::MountTarget { .. })),
            "{target:?}: {result:?}"
        );
    }
    for target in ["/.clawkers", "/process", "/home/dev"] {
        assert!(
            check(&spec(vec![mount("cache", target)]), Some(Path::new("/x"))).is_ok(),
            "{target}"
        );
    }
}

#[test]
fn each_target_is_taken_once() {
    let twice = spec(vec![mount("a", "/work"), mount("b", "//work/./")]);
    assert_eq!(
        check(&twice, Some(Path::new("/x"))).expect_err("twice"),
        SpecError::DuplicateTarget { target: "/work".into() }
    );
    let many = (0..=MAX_MOUNTS).map(|n| mount("a", &format!("/t{n}"))).collect();
    assert!(matches!(
        check(&spec(many), Some(Path::new("/x"))),
        Err(SpecError::TooMany { .. })
    ));
}

#[test]
fn only_a_known_limit_can_be_lifted() {
    let mut spec = spec(vec![]);
    for name in ["privileged", "cap-sys-admin", "", "Mount"] {
        spec.unsafe_options = vec![name.into()];
        assert!(
            matches!(check(&spec, Some(Path::new("/x"))), Err(SpecError::Unsafe { .. })),
            "{name}"
        );
    }
}

#[test]
fn an_engine_elsewhere_mounts_its_own_volumes_and_nothing_of_this_host() {
    let elsewhere = |source: &str| {
        let mut spec = spec(vec![mount(source, "/work")]);
        spec.mounted = None;
        check(&spec, None)
    };
    assert_eq!(elsewhere("cache").expect("a volume").len(), 1);
    let error = elsewhere("/tmp").expect_err("a path");
    assert!(matches!(error, SpecError::MountElsewhere { .. }), "{error}");
}
