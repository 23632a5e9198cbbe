//! What a process under test writes, in a file without a name. Whatever it has written can be read the moment it has;
//! through a pipe, and a thread that reads it, a line could come later than the answer it was written before.

use std::{fs::File, os::unix::fs::FileExt, process::Stdio};

pub struct Written(File);

impl Written {
    pub fn new() -> Written {
        Written(tempfile::tempfile().expect("a file can be made"))
    }

    /// What the process is given to write to.
    pub fn target(&self) -> Stdio {
        self.0.try_clone().expect("another handle of it").into()
    }

    /// The lines so far that are whole.
    pub fn lines(&self) -> Vec<String> {
        let length = self.0.metadata().expect("it is open").len();
        let mut bytes = vec![0; usize::try_from(length).expect("it fits into memory")];
        // Not from where the file stands, which is where the process writes.
        self.0.read_exact_at(&mut bytes, 0).expect("it never becomes shorter");
        let text = String::from_utf8_lossy(&bytes);
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }
}
