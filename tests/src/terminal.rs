//! A person at a terminal: a command whose input and output are a pseudoterminal's, what it shows, and what is typed.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::wait::until;

/// A command at a terminal. Dropped, it is killed.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts it.
    ///
    /// # Panics
    /// If there is no terminal, or it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudoterminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("it is ours");
        let name = ptsname(&ours, Vec::new()).expect("it has a name");
        let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let its = File::options().read(true).write(true).open(path).expect("its other end");
        let end = || Stdio::from(its.try_clone().expect("its descriptor"));
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("it starts");
        let keyboard = File::from(ours);
        let (mut source, screen) = (keyboard.try_clone().expect("its descriptor"), Arc::default());
        let shown = Arc::clone(&screen);
        let reader = std::thread::spawn(move || read_all(&mut source, &shown));
        Self { child, keyboard, screen, reader: Some(reader) }
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `text` is on the screen.
    ///
    /// # Panics
    /// If it does not come.
    #[track_caller]
    pub fn shows(&self, text: &str) {
        until(&format!("the terminal shows {text:?}"), || self.screen().contains(text).then_some(()));
    }

    /// Types a line.
    ///
    /// # Panics
    /// If the terminal takes none.
    pub fn types(&mut self, line: &str) {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).expect("the terminal takes it");
    }

    /// How the command ends, and all that it showed.
    ///
    /// # Panics
    /// If it does not end.
    #[must_use]
    #[track_caller]
    pub fn ended(mut self) -> (ExitStatus, String) {
        let status = until("the command ends", || self.child.try_wait().expect("wait for a child"));
        if let Some(reader) = self.reader.take() {
            reader.join().expect("all is read");
        }
        (status, self.screen())
    }

    fn screen(&self) -> String {
        let bytes = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Until nobody has the other end open any more: an error, of a terminal.
fn read_all(source: &mut File, shown: &Mutex<Vec<u8>>) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = source.read(&mut bytes) {
        shown.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..count]);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
