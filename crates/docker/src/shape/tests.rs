//! Against what Docker 20.10 showed of a container that was made with a body of ours.

use std::path::Path;

use bollard::models::{Mount, MountType};
use clawker_model::Resources;

use super::*;
use crate::hostconfig::{bind, body};
use crate::mounts::tests::spec;

const CREATED: &str = include_str!("created.json");

/// What create writes for the container in `created.json`.
fn expected() -> Shape {
    let inspected: Value = serde_json::from_str(CREATED).expect("json");
    let mut spec = spec(vec![]);
    spec.image_id = inspected["Image"].as_str().expect("image").to_owned();
    spec.entrypoint = ["/.clawker/clawkerd", "init", "--"].map(str::to_owned).to_vec();
    spec.cmd = ["sleep", "1"].map(str::to_owned).to_vec();
    spec.labels = BTreeMap::from([("p.managed".into(), "true".into())]);
    spec.publish = vec!["127.0.0.1:18080:80".into()];
    spec.network = clawker_model::Network::None;
    spec.resources = Resources {
        memory: Some(64 << 20),
        nano_cpus: Some(500_000_000),
        pids: Some(100),
    };
    let volume = Mount {
        target: Some("/vol".into()),
        source: Some("vol".into()),
        typ: Some(MountType::VOLUME),
        read_only: Some(false),
        ..Default::default()
    };
    let body = body(&spec, vec![bind(Path::new("/srv/work"), "/work", false), volume]).expect("body");
    let image = json!({"Env": ["A=1"], "Labels": {"img": "yes", "p.managed": "no"}, "ExposedPorts": {"80/udp": {}},
        "Volumes": {"/data": {}}, "Cmd": ["x"]});
    let image = serde_json::from_value(image).expect("image");
    written(&spec, body, image, &EngineInfo::default()).expect("written")
}

fn inspected(change: impl FnOnce(&mut Value)) -> Shape {
    let mut inspected: Value = serde_json::from_str(CREATED).expect("json");
    change(&mut inspected);
    shown(serde_json::from_value(inspected).expect("inspect")).expect("shown")
}

fn differing(shown: &Shape) -> Vec<String> {
    let expected = expected();
    let keys: std::collections::BTreeSet<&String> = expected.keys().chain(shown.keys()).collect();
    let differ = keys.into_iter().filter(|key| expected.get(*key) != shown.get(*key));
    differ.cloned().collect()
}

#[test]
fn what_docker_shows_is_what_create_wrote() {
    assert_eq!(inspected(|_| {}), expected());
}

#[test]
fn what_docker_chooses_by_itself_makes_no_difference() {
    let choices: [fn(&mut Value); 6] = [
        |i| i["HostConfig"]["ConsoleSize"] = json!([50, 120]),
        |i| i["HostConfig"]["ShmSize"] = json!(1 << 30),
        |i| i["HostConfig"]["MemorySwap"] = json!(-1),
        |i| i["HostConfig"]["MemorySwappiness"] = json!(-1),
        |i| i["HostConfig"]["CapDrop"] = json!(["CAP_NET_RAW"]),
        |i| {
            let masked = i["HostConfig"]["MaskedPaths"].as_array_mut().expect("paths");
            masked.push(json!("/proc/interrupts"));
        },
    ];
    for choice in choices {
        assert_eq!(differing(&inspected(choice)), Vec::<String>::new());
    }
}

#[test]
fn whatever_else_is_otherwise_is_a_difference_by_its_name() {
    let bind = json!({"Type": "bind", "Source": "/", "Destination": "/host", "RW": true, "Propagation": "rprivate"});
    let table: Vec<(&str, &str, Value)> = vec![
        ("/HostConfig/Binds", "HostConfig.Binds", json!(["/:/host"])),
        ("/HostConfig/Mounts/0/ReadOnly", "HostConfig.Mounts", json!(false)),
        ("/HostConfig/Mounts/0/Source", "HostConfig.Mounts", json!("/elsewhere")),
        ("/HostConfig/Mounts/1/Source", "HostConfig.Mounts", json!("/srv/run/y")),
        (
            "/HostConfig/Mounts/2/BindOptions/Propagation",
            "HostConfig.Mounts",
            json!("rshared"),
        ),
        ("/HostConfig/Privileged", "HostConfig.Privileged", json!(true)),
        ("/HostConfig/CapAdd", "HostConfig.CapAdd", json!(["NET_ADMIN"])),
        ("/HostConfig/CapDrop", "HostConfig.CapDrop", json!(null)),
        (
            "/HostConfig/SecurityOpt",
            "HostConfig.SecurityOpt",
            json!(["seccomp=unconfined"]),
        ),
        ("/HostConfig/MaskedPaths", "HostConfig.MaskedPaths", json!([])),
        (
            "/HostConfig/ReadonlyPaths",
            "HostConfig.ReadonlyPaths",
            json!(["/proc/bus"]),
        ),
        ("/HostConfig/NetworkMode", "HostConfig.NetworkMode", json!("host")),
        ("/HostConfig/PidMode", "HostConfig.PidMode", json!("host")),
        ("/HostConfig/IpcMode", "HostConfig.IpcMode", json!("host")),
        ("/HostConfig/UTSMode", "HostConfig.UTSMode", json!("host")),
        ("/HostConfig/UsernsMode", "HostConfig.UsernsMode", json!("host")),
        ("/HostConfig/CgroupnsMode", "HostConfig.CgroupnsMode", json!("host")),
        ("/HostConfig/CgroupParent", "HostConfig.CgroupParent", json!("/lab")),
        ("/HostConfig/Runtime", "HostConfig.Runtime", json!("other")),
        (
            "/HostConfig/Devices",
            "HostConfig.Devices",
            json!([{"PathOnHost": "/dev/sda"}]),
        ),
        (
            "/HostConfig/DeviceCgroupRules",
            "HostConfig.DeviceCgroupRules",
            json!(["a *:* rwm"]),
        ),
        (
            "/HostConfig/DeviceRequests",
            "HostConfig.DeviceRequests",
            json!([{"Count": -1}]),
        ),
        ("/HostConfig/VolumesFrom", "HostConfig.VolumesFrom", json!(["other"])),
        (
            "/HostConfig/RestartPolicy/Name",
            "HostConfig.RestartPolicy",
            json!("always"),
        ),
        ("/HostConfig/AutoRemove", "HostConfig.AutoRemove", json!(true)),
        ("/HostConfig/Init", "HostConfig.Init", json!(true)),
        ("/HostConfig/NanoCpus", "HostConfig.NanoCpus", json!(0)),
        ("/HostConfig/PidsLimit", "HostConfig.PidsLimit", json!(-1)),
        ("/HostConfig/Dns", "HostConfig.Dns", json!(["192.0.2.1"])),
        (
            "/HostConfig/ExtraHosts",
            "HostConfig.ExtraHosts",
            json!(["a:192.0.2.1"]),
        ),
        ("/HostConfig/GroupAdd", "HostConfig.GroupAdd", json!(["docker"])),
        ("/HostConfig/Tmpfs", "HostConfig.Tmpfs", json!({"/.clawker": ""})),
        (
            "/HostConfig/Sysctls",
            "HostConfig.Sysctls",
            json!({"net.ipv4.ip_forward": "1"}),
        ),
        (
            "/HostConfig/PortBindings",
            "HostConfig.PortBindings",
            json!({"80/tcp": [{"HostPort": "80"}]}),
        ),
        ("/HostConfig/LogConfig/Type", "HostConfig.LogConfig", json!("none")),
        ("/Config/Entrypoint", "Config.Entrypoint", json!(["/bin/sh"])),
        ("/Config/Cmd", "Config.Cmd", json!(["sleep", "1", ""])),
        ("/Config/User", "Config.User", json!("1000")),
        ("/Config/Env", "Config.Env", json!(["A=1", "LD_PRELOAD=/x"])),
        ("/Config/WorkingDir", "Config.WorkingDir", json!("/work")),
        ("/Config/Hostname", "Config.Hostname", json!("clawker.p.b")),
        (
            "/Config/Healthcheck",
            "Config.Healthcheck",
            json!({"Test": ["CMD", "x"]}),
        ),
        ("/Config/Labels/p.managed", "Config.Labels", json!("no")),
        ("/Config/Labels/more", "Config.Labels", json!("")),
        ("/Config/Volumes/~1more", "Config.Volumes", json!({})),
        ("/Config/StopSignal", "Config.StopSignal", json!("SIGKILL")),
        ("/Config/Tty", "Config.Tty", json!(true)),
        ("/Image", "Image", json!("sha256:1")),
        ("/Name", "Name", json!("/clawker.p.b")),
        ("/Mounts/2/RW", "Mounts", json!(true)),
        ("/Mounts/3/Source", "Mounts", json!("/srv/run/y")),
        ("/Mounts/1/Driver", "Mounts", json!("other")),
        ("/Mounts/5", "Mounts", bind),
        ("/NetworkSettings/Networks/web", "NetworkSettings.Networks", json!({})),
        (
            "/NetworkSettings/Networks/none/Links",
            "NetworkSettings.Endpoint",
            json!(["other"]),
        ),
    ];
    for (pointer, field, value) in table {
        let shown = inspected(|inspected| set(inspected, pointer, value));
        assert_eq!(differing(&shown), [field], "{pointer}");
    }
}

/// Sets what a JSON pointer names; a member that isn't there is added.
fn set(inspected: &mut Value, pointer: &str, value: Value) {
    let (parent, last) = pointer.rsplit_once('/').expect("a pointer");
    match inspected.pointer_mut(parent).expect(pointer) {
        Value::Object(members) => drop(members.insert(last.replace("~1", "/"), value)),
        Value::Array(items) => match items.get_mut(last.parse::<usize>().expect("an index")) {
            Some(item) => *item = value,
            None => items.push(value),
        },
        other => panic!("{pointer} is in {other}"),
    }
}
