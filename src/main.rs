//! The `walcast` binary: everything it does is in the library.

fn main() -> std::process::ExitCode {
    walcast::cli::run()
}
