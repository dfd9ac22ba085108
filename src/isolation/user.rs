//! Another user for the agent, if the worker is root.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

use crate::environment::Variables;

/// The file with the list of users. Users in other databases, such as LDAP, are not found: a statically linked worker
/// cannot load the C library's modules for such databases.
const USERS_FILE: &str = "/etc/passwd";

/// The agent's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name, or the user id if the user has no name.
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// The home directory in the list of users.
    home: Option<PathBuf>,
}

impl User {
    /// Finds a user by name or user id. The error completes a sentence that begins with `text`.
    pub fn find(text: &str) -> Result<Self, String> {
        let list = fs::read_to_string(USERS_FILE).unwrap_or_default();
        let user = Self::find_in(&list, text)
            .ok_or_else(|| format!("is not a user in {USERS_FILE}, and not a user id"))?;
        if user.uid == 0 {
            return Err("is root; name a user without root's rights".to_owned());
        }
        Ok(user)
    }

    fn find_in(list: &str, text: &str) -> Option<Self> {
        let mut users = list.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            let home = fields.nth(1).filter(|home| !home.is_empty());
            let home = home.map(PathBuf::from);
            Some(Self {
                name,
                uid,
                gid,
                home,
            })
        });
        let number = text.parse::<u32>().ok().filter(|uid| *uid != u32::MAX);
        let found = users.find(|user| user.name == text || Some(user.uid) == number);
        found.or_else(|| {
            number.map(|uid| Self {
                name: uid.to_string(),
                uid,
                gid: uid,
                home: None,
            })
        })
    }

    /// Changes the owner of a file or directory to this user. Changes a symbolic link itself, and not its target.
    pub fn become_owner_of(&self, path: &Path) -> io::Result<()> {
        lchown(path, Some(self.uid), Some(self.gid))
    }

    /// Changes the owner of a directory and of everything below it to this user. No other process may change the
    /// directory at the same time.
    pub fn become_owner_of_all(&self, dir: &Path) -> io::Result<()> {
        let mut pending = vec![dir.to_owned()];
        while let Some(next) = pending.pop() {
            self.become_owner_of(&next)?;
            if fs::symlink_metadata(&next)?.is_dir() {
                for entry in fs::read_dir(&next)? {
                    pending.push(entry?.path());
                }
            }
        }
        Ok(())
    }

    /// Whether a file or directory belongs to this user.
    pub fn owns(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| metadata.uid() == self.uid)
    }

    /// The variables that name this user, its home directory and, if `environment` sets `TMPDIR`, a temporary
    /// directory. Creates the temporary directory below `dir`, and also the home directory if the user has none.
    pub fn variables(&self, dir: &Path, environment: &Variables) -> io::Result<Variables> {
        let create = |name: &str| {
            let path = dir.join(name);
            fs::create_dir(&path)?;
            self.become_owner_of(&path).map(|()| path)
        };
        let home = self.home.clone().filter(|home| self.owns(home));
        let home = home.map_or_else(|| create("home"), Ok)?;
        let mut variables: Variables = [
            ("HOME", home.into_os_string()),
            ("USER", OsString::from(&self.name)),
            ("LOGNAME", OsString::from(&self.name)),
        ]
        .map(|(name, value)| (name.into(), value))
        .into();
        // Without the variable, programs use /tmp, where everyone can write.
        if environment.iter().any(|(name, _)| name == "TMPDIR") {
            variables.push(("TMPDIR".into(), create("tmp")?.into_os_string()));
        }
        Ok(variables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nagent:x:1000:100::/home/agent:/bin/sh\nhomeless:x:7:7:::\n";

    #[test]
    fn a_user_is_found_by_name_and_by_user_id() {
        let agent = User {
            name: "agent".to_owned(),
            uid: 1000,
            gid: 100,
            home: Some("/home/agent".into()),
        };
        assert_eq!(User::find_in(LIST, "agent"), Some(agent.clone()));
        assert_eq!(User::find_in(LIST, "1000"), Some(agent));
        assert_eq!(User::find_in(LIST, "homeless").unwrap().home, None);
        let unknown = User::find_in(LIST, "4711").unwrap();
        assert_eq!((unknown.uid, unknown.gid), (4711, 4711));
        for text in ["broken", "nobody", "", "-1", "4294967295"] {
            assert_eq!(User::find_in(LIST, text), None, "{text}");
        }
    }
}
