use rdaemon::daemon::{Config, Daemonized};
use std::ffi::CString;

fn main() {
    let pidfile = std::env::args().nth(1).and_then(|path| CString::new(path).ok());
    let config = Config { pidfile: pidfile.as_deref(), ..Config::default() };

    // SAFETY: this is the only thread, and nobody here owns an fd that is closed.
    match unsafe { rdaemon::daemonize(&config) } {
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
        Ok(Daemonized::Original { pid, .. }) => println!("the daemon is process {pid}"),
        // SIGTERM ends it, and removes the pidfile.
        Ok(Daemonized::Daemon(_)) => std::thread::park(),
    }
}
