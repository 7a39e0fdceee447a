//! The generated code is the one that the .proto files give. `CLAWKER_BLESS=1` writes it anew.

use std::path::Path;

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().expect("a folder for the output");
    let files = ["session", "agent", "admin"].map(|name| root.join(format!("proto/clawker/{name}/v1/{name}.proto")));
    let descriptors = protox::compile(files, [root.join("proto")]).expect("the .proto files compile");
    tonic_prost_build::configure()
        .out_dir(out.path())
        .bytes(".")
        .compile_fds(descriptors)
        .expect("code is generated");

    for name in ["session", "agent", "admin"] {
        let file = format!("clawker.{name}.v1.rs");
        let fresh = std::fs::read_to_string(out.path().join(&file)).expect("generated");
        let kept = root.join("src/gen").join(&file);
        if std::env::var_os("CLAWKER_BLESS").is_some() {
            std::fs::write(&kept, &fresh).expect("write the generated code");
        }
        let old = std::fs::read_to_string(&kept).expect("kept");
        assert!(
            old == fresh,
            "{file} is out of date: run `CLAWKER_BLESS=1 cargo test -p clawker-wire`"
        );
    }
}
