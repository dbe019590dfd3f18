//! Profiles of tuned, read as tuned itself reads them (`tuned/profiles/{loader,merger,variables}.py` of 2.20): Python's
//! configparser with comments after values, included profiles first, sections of one name merged, `${variables}` expanded.
//! Sections with a condition on the hardware are named and not judged.

use crate::tune::judge::{Bound, Foreign};

/// A profile's file.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Profile {
    pub(crate) sections: Vec<Section>,
}

/// `[name]` and its options.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Section {
    name: String,
    options: Vec<(String, String)>,
}

impl Section {
    fn get(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// An option keeps its place, which is the order in which tuned writes them, and takes the later value.
    fn set(&mut self, key: &str, value: &str) {
        match self.options.iter_mut().find(|(name, _)| name == key) {
            Some((_, now)) => value.clone_into(now),
            None => self.options.push((key.to_owned(), value.to_owned())),
        }
    }

    fn is(&self, key: &str) -> Option<bool> {
        self.get(key).map(|value| matches!(value, "True" | "true" | "1"))
    }
}

impl Profile {
    fn section(&mut self, name: &str) -> &mut Section {
        let at = self.sections.iter().position(|section| section.name == name).unwrap_or_else(|| {
            self.sections.push(Section { name: name.to_owned(), options: Vec::new() });
            self.sections.len() - 1
        });
        &mut self.sections[at]
    }

    fn get(&self, section: &str, key: &str) -> Option<&str> {
        self.sections.iter().find(|one| one.name == section)?.get(key)
    }

    /// Reads a file.
    pub(crate) fn read(text: &str) -> Self {
        let mut profile = Self::default();
        // The section, and the option with its indentation, which lines that are indented further continue.
        let mut section: Option<String> = None;
        let mut option: Option<(String, usize)> = None;
        for raw in text.lines() {
            let line = without_comment(raw).trim();
            let indent = raw.len() - raw.trim_start().len();
            if line.is_empty() {
                continue;
            }
            if let (Some(section), Some((key, above))) = (&section, &option)
                && indent > *above
            {
                let section = profile.section(section);
                let value = format!("{} {line}", section.get(key).unwrap_or_default());
                section.set(key, value.trim());
            } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                profile.section(name);
                (section, option) = (Some(name.to_owned()), None);
            } else if let (Some(section), Some((key, value))) = (&section, line.split_once('=')) {
                profile.section(section).set(key.trim(), value.trim());
                option = Some((key.trim().to_owned(), indent));
            }
        }
        profile
    }

    /// Names of the profiles that it includes, in order; an error is what cannot be expanded.
    pub(crate) fn includes(&self, is_virtual: bool) -> Result<Vec<String>, String> {
        let Some(text) = self.get("main", "include") else { return Ok(Vec::new()) };
        let names = expanded(text, &[], is_virtual).ok_or_else(|| format!("[main] include={text}"))?;
        Ok(names.split([',', ';']).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect())
    }

    /// Adds a profile that comes later, and wins.
    pub(crate) fn merge(&mut self, later: Self) {
        for section in later.sections {
            let into = self.section(&section.name);
            if section.is("replace") == Some(true) {
                into.options.clear();
            }
            for dropped in section.get("drop").unwrap_or_default().split([',', ';']).map(str::trim) {
                into.options.retain(|(key, _)| key != dropped);
            }
            // A section is on unless the last profile that has it says otherwise.
            into.options.retain(|(key, _)| key != "enabled");
            section.options.iter().for_each(|(key, value)| into.set(key, value));
        }
    }

    /// What it sets, in the order in which tuned writes it; and its lines that apm sets nothing like, or cannot read.
    pub(crate) fn settings(&self, is_virtual: bool) -> (Vec<Foreign>, Vec<String>) {
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        let mut variables: Vec<(String, String)> = Vec::new();
        for (name, value) in self.sections.iter().filter(|one| one.name == "variables").flat_map(|one| &one.options) {
            if let Some(value) = expanded(value, &variables, is_virtual) {
                variables.push((name.clone(), value));
            }
        }
        for section in self.sections.iter().filter(|section| section.is("enabled") != Some(false)) {
            let kind = section.get("type").unwrap_or(&section.name);
            if matches!(kind, "main" | "variables") {
                continue;
            }
            if let Some((key, value)) = section.options.iter().find(|(key, _)| key.ends_with("_regex")) {
                unknown.push(format!("[{}] is only for machines with {key}={value}", section.name));
                continue;
            }
            for (key, value) in &section.options {
                if matches!(key.as_str(), "type" | "replace" | "enabled" | "drop" | "devices") {
                    continue;
                }
                let setting = expanded(value, &variables, is_virtual).and_then(|value| setting(kind, key, &value));
                match setting {
                    Some(setting) => found.push(setting),
                    None => unknown.push(format!("[{}] {key}={value}", section.name)),
                }
            }
        }
        (found, unknown)
    }
}

/// A line without its comment: `;` and `#` at its start, ` #` after a value.
fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with(['#', ';']) {
        return "";
    }
    let comment = line.char_indices().find(|(at, c)| *c == '#' && line[..*at].ends_with(char::is_whitespace));
    comment.map_or(line, |(at, _)| &line[..at])
}

/// A value with its `${variables}`; `${f:virt_check:ONE:OTHER}` is the one in a virtual machine. Nothing where something
/// else stands in it: other functions of tuned run programs.
fn expanded(value: &str, variables: &[(String, String)], is_virtual: bool) -> Option<String> {
    let mut value = value.to_owned();
    for (name, is) in variables {
        value = value.replace(&format!("${{{name}}}"), is);
    }
    while let Some((before, rest)) = value.split_once("${f:virt_check:") {
        let (inside, after) = rest.split_once('}')?;
        let (one, other) = inside.split_once(':')?;
        value = format!("{before}{}{after}", if is_virtual { one } else { other });
    }
    (!value.contains("${")).then_some(value)
}

/// An option as a setting of apm's.
fn setting(kind: &str, key: &str, value: &str) -> Option<Foreign> {
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let (bound, value) = match value.chars().next() {
        Some('>') => (Bound::AtLeast, value[1..].trim()),
        Some('<') => (Bound::AtMost, value[1..].trim()),
        _ => (Bound::Exactly, value),
    };
    let mut value = value.to_owned();
    let key = match (kind, key) {
        ("sysctl", key) => key.replace('/', "."),
        ("vm", "transparent_hugepages" | "transparent_hugepage") => "sys.thp.enabled".to_owned(),
        ("vm", "transparent_hugepage.defrag") => "sys.thp.defrag".to_owned(),
        // Since 2.23; a share of memory is the other file's.
        ("vm", "dirty_bytes" | "dirty_background_bytes" | "dirty_ratio" | "dirty_background_ratio") => {
            match value.strip_suffix('%').map(str::to_owned) {
                Some(percent) => {
                    value = percent;
                    format!("vm.{}", key.replace("_bytes", "_ratio"))
                }
                None => format!("vm.{key}"),
            }
        }
        ("cpu", "governor") => {
            value.truncate(value.find('|').unwrap_or(value.len()));
            "sys.cpu.governor".to_owned()
        }
        ("disk", "elevator") => "sys.block.*.scheduler".to_owned(),
        ("disk", "readahead") => {
            // KiB, or sectors of 512 bytes with an `s`.
            if let Some(sectors) = value.strip_suffix('s') {
                value = (sectors.trim().parse::<u64>().ok()? / 2).to_string();
            }
            "sys.block.*.read_ahead_kb".to_owned()
        }
        _ => return None,
    };
    Some(Foreign { key, value, bound })
}

#[cfg(test)]
mod tests {
    use super::{Profile, without_comment};
    use crate::tune::judge::{Bound, Foreign};

    fn check(profiles: &[&str], is_virtual: bool, expected: &[(&str, &str)], expected_unknown: &[&str]) {
        let mut all = Profile::default();
        profiles.iter().for_each(|text| all.merge(Profile::read(text)));
        let (found, unknown) = all.settings(is_virtual);
        let shown: Vec<(String, String)> = found
            .into_iter()
            .map(|Foreign { key, value, bound }| {
                let sign = match bound {
                    Bound::Exactly => "",
                    Bound::AtLeast => ">",
                    Bound::AtMost => "<",
                };
                (key, format!("{sign}{value}"))
            })
            .collect();
        let shown: Vec<(&str, &str)> = shown.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(shown, expected);
        assert_eq!(unknown, expected_unknown);
    }

    #[test]
    fn a_profile_of_tuned_is_read_as_tuned_reads_it() {
        let text = "[main]\ninclude=throughput-performance\n[cpu]\ngovernor=schedutil|ondemand\nmin_perf_pct=100\n\
            [disk]\nreadahead=>8192 s\n[sysctl]\n; a comment\nnet.core.somaxconn=>2048 # of the line\n\
            net.ipv4.tcp_rmem=\"4096 87380 16777216\"\nvm.x=${y}\nvm.stat_interval = 5\nvm.stat_interval = 10\n\
            net.core.busy_poll=<50\nkernel.sem = 32000\n  1024000000\n  500 32000\n\
            [sysctl.thunderx]\ntype=sysctl\nuname_regex=aarch64\nkernel.numa_balancing=0\n\
            [off]\ntype=sysctl\nenabled=0\nvm.off=1\n[vm]\ndirty_bytes = 40%\ntransparent_hugepage.defrag=never\n";
        check(
            &[text],
            true,
            &[
                ("sys.cpu.governor", "schedutil"),
                ("sys.block.*.read_ahead_kb", ">4096"),
                ("net.core.somaxconn", ">2048"),
                ("net.ipv4.tcp_rmem", "4096 87380 16777216"),
                ("vm.stat_interval", "10"),
                ("net.core.busy_poll", "<50"),
                ("kernel.sem", "32000 1024000000 500 32000"),
                ("vm.dirty_ratio", "40"),
                ("sys.thp.defrag", "never"),
            ],
            &[
                "[cpu] min_perf_pct=100",
                "[sysctl] vm.x=${y}",
                "[sysctl.thunderx] is only for machines with uname_regex=aarch64",
            ],
        );
        assert_eq!(without_comment("a=b#c"), "a=b#c");
    }

    #[test]
    fn later_profiles_win_replace_and_drop() {
        let first = "[variables]\nn=3\n[sysctl]\nvm.swappiness=10\nvm.dirty_ratio=40\nvm.a=1\n[vm]\ntransparent_hugepages=always\n";
        let later = "[variables]\nn=5\nm=${n}0\n[sysctl]\ndrop=vm.a\nvm.b=${m}\nvm.swappiness=${n}\n\
            [vm]\nreplace=1\ntransparent_hugepage.defrag=never\n";
        let merged = [("vm.swappiness", "5"), ("vm.dirty_ratio", "40"), ("vm.b", "50"), ("sys.thp.defrag", "never")];
        check(&[first, later], false, &merged, &[]);
    }

    #[test]
    fn a_profile_may_include_several_and_by_whether_the_machine_is_virtual() {
        let includes = |text: &str, is_virtual| Profile::read(text).includes(is_virtual);
        let virt = "[main]\ninclude=${f:virt_check:virtual-guest:throughput-performance}\n";
        assert_eq!(includes(virt, true), Ok(vec!["virtual-guest".to_owned()]));
        assert_eq!(includes(virt, false), Ok(vec!["throughput-performance".to_owned()]));
        assert_eq!(includes("[main]\ninclude = a, b;c\n", true), Ok(["a", "b", "c"].map(str::to_owned).into()));
        assert_eq!(includes("[main]\ninclude=${f:exec:x}\n", true), Err("[main] include=${f:exec:x}".to_owned()));
        assert_eq!(includes("[sysctl]\n", true), Ok(Vec::new()));
    }
}
