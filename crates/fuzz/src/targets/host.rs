//! What the control plane and its command line read on the host.

use clawker_cli::project;
use clawker_control_plane::backup::archive;
use clawker_control_plane::fuzzing as control_plane;
use clawker_identity::leaf::Claims;
use clawker_identity::thumbprint;
use clawker_model::{Absence, AgentSpec, Egress, FullName, MainSpec, Network, OnOrphan, Plan, Resources, Restart};
use clawker_netfilter::fuzzing as netfilter;
use clawker_store::Cursor;

use super::{text, texts};
use crate::Target;

pub const NETLINK: Target = Target {
    name: "netlink",
    about: "a datagram of the kernel's: messages, attributes, interfaces, errors",
    check: netlink,
    seeds: datagrams,
    factor: 64,
};

pub const RULES: Target = Target {
    name: "nft-rules",
    about: "rules of ours in libnftnl's words; the kernel, and who else may change them",
    check: |input| {
        let rules = text(input);
        let allowed = netfilter::destinations(&rules);
        assert!(allowed.len() <= rules.lines().count(), "more destinations than rules");
        assert!(allowed.is_sorted());
        !allowed.is_empty()
    },
    seeds: || {
        texts(&[
            "payload load 4b @ network header + 16 => reg 1; cmp eq reg 1 0x0b00007f; payload load 2b @ transport header \
             + 2 => reg 1; cmp eq reg 1 0x00005000; accept\nimmediate reg 0 drop",
            "payload load 16b @ network header + 24 => reg 1; cmp eq reg 1 0xb80d0120 0x00000000 0x00000000 0x01000000; \
             payload load 2b @ transport header + 2 => reg 1; cmp eq reg 1 0x0000901f; accept",
        ])
    },
    factor: 128,
};

pub const CERTIFICATE: Target = Target {
    name: "certificate",
    about: "a peer's certificate, DER; whoever connects",
    check: |input| {
        let Ok(claims) = Claims::read(input) else { return false };
        assert_eq!(claims.thumbprint.as_str(), thumbprint(input));
        assert_eq!(claims.key_hash, thumbprint(&claims.spki));
        true
    },
    // Kept as files: no two that are made are the same.
    seeds: Vec::new,
    factor: 512,
};

pub const DEFINITION: Target = Target {
    name: "definition",
    about: "an agent's definition in its container's label, and cursors of a journal; who made the container, an operator",
    check: |input| {
        let text = text(input);
        if let Ok(cursor) = text.parse::<Cursor>() {
            assert_eq!(cursor.to_string(), text.to_ascii_lowercase());
            return true;
        }
        let Ok(spec) = control_plane::definition(&text) else {
            return false;
        };
        // Written out with its defaults it may be too long for a label.
        if let Ok(label) = control_plane::label(&spec) {
            assert_eq!(control_plane::definition(&label), Ok(spec));
        }
        true
    },
    seeds: definitions,
    factor: 1024,
};

pub const BACKUP: Target = Target {
    name: "backup",
    about: "the tar archive of a backup; whoever had it meanwhile",
    check: backup,
    seeds: || vec![archived(&[("journal.db", &[7; 20]), ("authority/root.pem", b"x")])],
    factor: 64,
};

pub const PROJECT: Target = Target {
    name: "project",
    about: "clawker.yaml; whoever writes into the project's repository",
    check: |input| {
        let text = text(input);
        let read = project::parse(&text).is_ok();
        assert!(
            !read || text.len() <= project::MAX_FILE,
            "a file over its limit was read"
        );
        read
    },
    seeds: || {
        texts(&[
            "project: web\nagents:\n  scout:\n    image: busybox\n    command: [sh, -c, \"true\"]\n    user: host\n    env: \
             {A: \"1\", B: }\n    mounts: [\".:/work:ro\"]\n    publish: [\"8080:80\"]\n    egress: [\"192.0.2.1:443\"]\n",
            "agents:\n  a: &a\n    image: b\n  c: *a\n",
            "agents: {a: {image: !!str b, env: {? x : y}}}\n",
        ])
    },
    factor: 4096,
};

fn netlink(input: &[u8]) -> bool {
    let messages = netfilter::datagram(input);
    let bytes: usize = messages.iter().map(|message| message.len).sum();
    assert!(bytes <= input.len(), "the messages are longer than their datagram");
    for message in &messages {
        assert!(message.len >= 16, "a message without a header");
        assert!(
            message.values <= message.len,
            "the attributes are longer than their message"
        );
        assert!(message.interface.as_ref().is_none_or(|name| !name.contains('\0')));
    }
    !messages.is_empty()
}

/// What is read of a whole archive, written and read again.
fn backup(input: &[u8]) -> bool {
    let Some(files) = unpacked(input) else { return false };
    let content: usize = files.iter().map(|(_, content)| content.len()).sum();
    assert!(content <= input.len(), "more came out than was in it");
    assert!(
        files.iter().all(|(name, _)| archive::is_plain(name)),
        "a name leads elsewhere"
    );
    let pairs: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, content)| (name.as_str(), content.as_slice()))
        .collect();
    assert_eq!(unpacked(&archived(&pairs)), Some(files));
    true
}

fn unpacked(mut from: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    while let Some(entry) = archive::next(&mut from).ok()? {
        let mut content = Vec::new();
        archive::take(&mut from, &entry, &mut content).ok()?;
        files.push((entry.name, content));
    }
    Some(files)
}

fn archived(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in files {
        archive::put(&mut out, name, content.len() as u64, &mut &content[..]).expect("it fits an archive");
    }
    archive::end(&mut out).expect("a vector takes all");
    out
}

fn datagrams() -> Vec<Vec<u8>> {
    let attribute = |kind: u16, value: &[u8]| {
        let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        let mut bytes = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let message = |kind: u16, payload: &[u8]| {
        let len = u32::try_from(16 + payload.len()).unwrap_or(u32::MAX);
        let head = [
            &len.to_ne_bytes()[..],
            &kind.to_ne_bytes(),
            &2u16.to_ne_bytes(),
            &[7, 0, 0, 0, 0, 0, 0, 0],
        ];
        [head.concat(), payload.to_vec()].concat()
    };
    // RTM_NEWLINK with IFLA_IFNAME; a table of ours; an error; the end of a dump.
    let link = message(16, &[&[0; 16][..], &attribute(3, b"eth0\0")].concat());
    let table = message(0xa00, &[&[1, 0, 0, 0][..], &attribute(1, b"clawker\0")].concat());
    let error = message(2, &(-1i32).to_ne_bytes());
    vec![[link.clone(), message(3, &[0; 4])].concat(), table, error, link]
}

fn definitions() -> Vec<Vec<u8>> {
    let spec = AgentSpec {
        name: FullName::parse("clawker.web.scout").expect("a name"),
        image: "busybox".to_owned(),
        image_id: "sha256:00".to_owned(),
        owner: "uid:0".to_owned(),
        main: MainSpec {
            argv: vec!["sh".to_owned()],
            user: String::new(),
            env: vec!["A=1".to_owned()],
            cwd: "/".to_owned(),
            tty: false,
            open_stdin: true,
            stop_signal: Some("SIGINT".to_owned()),
            no_new_privs: true,
        },
        health: None,
        secrets: Vec::new(),
        mounts: Vec::new(),
        publish: vec!["80:80".to_owned()],
        network: Network::default(),
        egress: Egress::default(),
        resources: Resources::default(),
        plan: Plan::default(),
        remove: true,
        on_orphan: OnOrphan::Freeze,
        absence: Absence::default(),
        restart: Restart::default(),
        unsafe_options: Vec::new(),
    };
    let label = control_plane::label(&spec).expect("it fits a label");
    let cursor = format!("{}/7/{}", "ab".repeat(16), "cd".repeat(32));
    texts(&[&label, &cursor])
}
