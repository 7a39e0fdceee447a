//! `clawker-rig SOCKET DIR`: the double of Docker's engine that `clawker_tests::rig` describes.

use std::process::ExitCode;

use clawker_tests::rig::serve;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let [socket, dir] = args.as_slice() else {
        eprintln!("usage: clawker-rig SOCKET DIR");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let served = runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(serve::run(socket.as_ref(), dir.into())));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
