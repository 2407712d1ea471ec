//! The folder that a session is in, as far as its commands say.

/// The longest folder's name that is kept, in bytes.
const LONGEST: usize = 1024;

/// A folder: absolute, or relative to that of the login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directory {
    path: Vec<u8>,
    /// Whether it is longer than what is known of it.
    is_lost: bool,
}

impl Directory {
    /// Its name; none: not known, or nothing was said of it yet.
    pub(super) fn name(&self) -> Option<&[u8]> {
        (!self.is_lost && !self.path.is_empty()).then_some(&*self.path)
    }

    /// After a CWD with this argument that the server has accepted.
    pub(super) fn change(&mut self, to: &[u8], is_cut: bool) {
        let is_absolute = to.starts_with(b"/");
        if is_absolute {
            self.path = vec![b'/'];
            self.is_lost = false;
        }
        // Not a path in every server's eyes: a home folder, or one's own.
        self.is_lost |= is_cut || to.starts_with(b"~");
        for part in to.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => self.up(),
                _ => self.enter(part),
            }
        }
    }

    fn enter(&mut self, part: &[u8]) {
        if !self.path.is_empty() && !self.path.ends_with(b"/") {
            self.path.push(b'/');
        }
        self.path.extend(part);
        if self.path.len() > LONGEST {
            self.path.clear();
            self.is_lost = true;
        }
    }

    /// After a CDUP that the server has accepted.
    pub(super) fn up(&mut self) {
        let parent = self.path.iter().rposition(|byte| *byte == b'/');
        match parent {
            Some(0) => self.path.truncate(1),
            Some(at) => self.path.truncate(at),
            // Above the login's folder is another one that nobody has named.
            None if self.path.is_empty() => self.is_lost = true,
            None => self.path.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_follows_its_commands() {
        for (commands, name) in [
            (&[][..], None),
            (&["pub"], Some("pub")),
            (&["pub", "a/b"], Some("pub/a/b")),
            (&["/pub/./x//y"], Some("/pub/x/y")),
            (&["/pub", ".."], Some("/")),
            (&["/pub", "../../.."], Some("/")),
            (&["pub", ".."], None),
            (&["..", "a"], None),
            (&["..", "/a"], Some("/a")),
            (&["~bob"], None),
            (&["/a\n"], Some("/a\n")),
        ] {
            let mut directory = Directory::default();
            for command in commands {
                directory.change(command.as_bytes(), false);
            }
            let found = directory.name().map(|it| String::from_utf8_lossy(it));
            assert_eq!(found.as_deref(), name, "{commands:?}");
        }
    }
}
