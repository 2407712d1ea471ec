//! The example configuration: every key there is, with what it means and its default.

/// The file as it is shipped. A setting is commented out by `#` alone, a remark by `# `, so that
/// removing the former leaves a configuration that works.
pub const TEXT: &str = include_str!("../../../packaging/ftp-nat.toml");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{check, file, options::Config};
    use std::{collections::BTreeSet, fs, path::PathBuf};

    /// The example with every setting in force.
    fn in_force() -> String {
        TEXT.lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => setting,
                _ => line,
            })
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Reads a text as the daemon reads a file; gives its mistakes.
    fn read(name: &str, text: &str) -> (Config, Vec<String>) {
        let path: PathBuf = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        fs::write(&path, text).unwrap();
        let mut config = Config::default();
        let mut problems = file::apply(&path, &mut config);
        if problems.is_empty() {
            problems = check::check(&config);
        }
        fs::remove_file(&path).unwrap();
        (config, problems.iter().map(ToString::to_string).collect())
    }

    /// The keys that each section knows, by its own words.
    fn known() -> BTreeSet<(&'static str, String)> {
        let mut keys = BTreeSet::new();
        for (section, header) in [
            ("gateway", "[gateway]"),
            ("publish", "[[publish]]"),
            ("masquerade", "[[masquerade]]"),
            ("timeouts", "[timeouts]"),
            ("limits", "[limits]"),
            ("health", "[health]"),
            ("cluster", "[cluster]"),
        ] {
            let (_, problems) = read("ftp-nat-known", &format!("{header}\n\"?\" = 1\n"));
            let list = problems
                .iter()
                .find_map(|problem| Some(problem.split_once("known are ")?.1))
                .unwrap_or_else(|| panic!("{section}: {problems:?}"));
            keys.extend(list.split(", ").map(|key| (section, key.to_owned())));
        }
        keys
    }

    #[test]
    fn as_shipped_it_sets_nothing() {
        for line in TEXT.lines() {
            assert!(line.is_empty() || line.starts_with('#'), "{line}");
        }
    }

    #[test]
    fn with_every_setting_in_force_it_has_no_mistake() {
        let (config, problems) = read("ftp-nat-example", &in_force());
        assert_eq!(problems, Vec::<String>::new());
        assert!(!config.publish.is_empty() && !config.masquerade.is_empty());
    }

    #[test]
    fn it_has_every_key_that_the_parser_knows() {
        let text = in_force();
        let mut written = BTreeSet::new();
        let mut section = String::new();
        for line in text.lines() {
            if line.starts_with('[') {
                section = line
                    .trim_matches(|c| c == '[' || c == ']')
                    .trim()
                    .to_owned();
            } else if let Some((key, _)) = line.split_once(" = ")
                && !line.starts_with('#')
            {
                written.insert((section.clone(), key.to_owned()));
            }
        }
        for (section, key) in known() {
            assert!(
                written.contains(&(section.to_owned(), key.clone())),
                "{section}.{key} is not in the example"
            );
        }
        // An unknown key would have been a mistake: see the test above.
    }

    #[test]
    fn what_it_calls_a_default_is_one() {
        let (config, _) = read("ftp-nat-defaults", &in_force());
        let defaults = Config::default();
        assert_eq!(config.timeouts, defaults.timeouts);
        assert_eq!(config.limits, defaults.limits.resolved());
        assert_eq!(config.health, defaults.health);
        assert_eq!(config.mark, defaults.mark);
        assert_eq!(config.remap_ports, defaults.remap_ports);
        assert_eq!(config.datapath, defaults.datapath);
    }
}
