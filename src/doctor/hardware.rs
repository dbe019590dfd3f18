//! The machine against the tiers of the specification, resource by resource. Always says which tier is met; below the
//! minimum is a warning.

use crate::doctor::rule::{Direction, Rule, RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Area, Severity};
use crate::model::tier::Tiers;
use crate::model::unit::Bytes;

/// Where the numbers come from.
const SPEC: &str = "the specification's hardware requirements: minimum, recommended, enterprise";
/// What is on the label is met by what firmware and kernel leave of it, and 2.4 GHz are sold as 2.5.
const LABEL: f64 = 0.93;

/// The rules. `warn` is the minimum.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        id: "hw.cpu",
        area: Area::Hardware,
        title: "fewer CPUs than the minimum",
        source: "/proc/stat, one line a CPU; affinity and quotas of apm's control groups",
        computation: "CPUs' worth of time that apm may take",
        unit: "",
        bad: Direction::Below,
        warn: Some(3.7),
        crit: None,
        thresholds_from: SPEC,
        remedy: "a larger machine, or a larger quota",
        check: cpus,
    },
    Rule {
        id: "hw.clock",
        area: Area::Hardware,
        title: "CPUs slower than the minimum",
        source: "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq, else /proc/cpuinfo",
        computation: "highest clock of a CPU; a virtual machine tells what its host says",
        unit: "GHz",
        bad: Direction::Below,
        warn: Some(2.3),
        crit: None,
        thresholds_from: SPEC,
        remedy: "a faster machine",
        check: clock,
    },
    Rule {
        id: "hw.memory",
        area: Area::Hardware,
        title: "less memory than the minimum",
        source: "/proc/meminfo MemTotal; limits of apm's control groups",
        computation: "memory of the machine, or the tightest limit above apm",
        unit: "B",
        bad: Direction::Below,
        warn: Some(8.0 * GIB * LABEL),
        crit: None,
        thresholds_from: SPEC,
        remedy: "a larger machine, or a larger limit",
        check: memory,
    },
    Rule {
        id: "hw.storage",
        area: Area::Hardware,
        title: "less or slower storage than the minimum",
        source: "/sys/block/*/size, queue/rotational",
        computation: "size and kind of the largest disk",
        unit: "B",
        bad: Direction::Below,
        warn: Some(100e9 * LABEL),
        crit: None,
        thresholds_from: SPEC,
        remedy: "a larger or faster disk",
        check: storage,
    },
    Rule {
        id: "hw.network",
        area: Area::Hardware,
        title: "a slower network than the minimum",
        source: "/sys/class/net/*/speed of interfaces with a device",
        computation: "the fastest link",
        unit: "Mbit/s",
        bad: Direction::Below,
        warn: Some(90.0),
        crit: None,
        thresholds_from: SPEC,
        remedy: "a faster link",
        check: network,
    },
];

const GIB: f64 = 1_073_741_824.0;

/// The tiers in the order of the specification.
const TIERS: [&str; 3] = ["minimum", "recommended", "enterprise"];

/// Warnings for another minimum than the specification's.
pub(crate) fn thresholds(tiers: &Tiers) -> Vec<(String, Option<f64>, Option<f64>)> {
    let Tiers([least, ..]) = tiers;
    let values = [
        ("hw.cpu", least.cores),
        ("hw.clock", least.ghz),
        ("hw.memory", least.memory.0 as f64),
        ("hw.storage", least.storage),
        ("hw.network", least.mbps),
    ];
    let Tiers([usual, ..]) = Tiers::default();
    let usual = [usual.cores, usual.ghz, usual.memory.0 as f64, usual.storage, usual.mbps];
    let changed = values.into_iter().zip(usual).filter(|((_, value), usual)| value != usual);
    changed.map(|((rule, value), _)| (rule.to_owned(), Some(value * LABEL), None)).collect()
}

/// Says which tier a value meets, and what the next one needs.
fn tier(
    context: &RuleContext<'_>,
    value: f64,
    floors: [f64; 3],
    say: impl Fn(f64) -> String,
    note: &str,
    path: &str,
) -> Verdict {
    let met = floors.iter().take_while(|floor| value >= **floor * LABEL).count();
    let have = say(value);
    let next = TIERS.get(met).map(|next| format!("; {next} is {}", say(floors[met]))).unwrap_or_default();
    let title = match met.checked_sub(1) {
        None => format!("{have}{note} is below the minimum{next}"),
        Some(tier) => format!("{have}{note} meets the {} tier{next}", TIERS[tier]),
    };
    let severity = context.judge(value, false).unwrap_or(Severity::Info);
    let finding = context.finding(severity, value, title).read(path, "", value, context.rule.unit);
    Ok(vec![if met == 0 { finding.fix(context.rule.remedy, None) } else { finding }])
}

fn cpus(context: &RuleContext<'_>) -> Verdict {
    context.now().cpu.stat.get()?;
    let cpus = crate::doctor::host::cpus_effective(context.now());
    tier(
        context,
        cpus,
        context.question.tiers.of(|tier| tier.cores),
        |cpus| format!("{} CPUs", (cpus * 10.0).round() / 10.0),
        "",
        "/proc/stat",
    )
}

fn clock(context: &RuleContext<'_>) -> Verdict {
    let ghz = context.now().hardware.mhz.get()? / 1000.0;
    tier(context, ghz, context.question.tiers.of(|tier| tier.ghz), |ghz| format!("{ghz:.1} GHz"), "", "/proc/cpuinfo")
}

fn memory(context: &RuleContext<'_>) -> Verdict {
    let info = context.now().memory.meminfo.get()?;
    let total = info.get("MemTotal").copied().ok_or_else(|| Skip("/proc/meminfo: no MemTotal".to_owned()))?;
    let limits = context.now().cgroups.groups.iter().filter(|group| group.is_own).filter_map(|group| group.memory_max);
    let (bytes, note) = limits.fold((total, ""), |least, limit| least.min((limit, " (limit of a control group)")));
    let floors = context.question.tiers.of(|tier| tier.memory.0 as f64);
    tier(context, bytes as f64, floors, |bytes| Bytes(bytes as u64).to_string(), note, "/proc/meminfo MemTotal")
}

fn storage(context: &RuleContext<'_>) -> Verdict {
    let drives = context.now().hardware.drives.get()?;
    let Some(drive) = drives.iter().max_by_key(|drive| drive.bytes) else {
        return Err(Skip("/sys/block: no disk is to be seen".to_owned()));
    };
    let kind = format!(" {} {}", drive.name, drive.kind);
    let path = format!("/sys/block/{}/size", drive.name);
    let gigabytes = |bytes: f64| format!("{:.0} GB", bytes / 1e9);
    // The upper tiers ask for NVMe, the lowest for no spinning disk. What a virtual disk is nobody inside can tell.
    let sizes = context.question.tiers.of(|tier| tier.storage);
    let floors = match drive.kind.as_str() {
        "hdd" => [f64::INFINITY; 3],
        "ssd" => [sizes[0], f64::INFINITY, f64::INFINITY],
        _ => sizes,
    };
    if drive.kind == "hdd" {
        let title =
            format!("{}{kind} spins; the minimum is an SSD of {}", gigabytes(drive.bytes as f64), gigabytes(sizes[0]));
        let finding = context.finding(Severity::Warn, drive.bytes as f64, title);
        return Ok(vec![finding.read(&path, "", drive.bytes as f64, "B").fix(context.rule.remedy, None)]);
    }
    if drive.kind == "ssd" && drive.bytes as f64 >= floors[0] * LABEL {
        let title = format!("{}{kind} meets the minimum tier; recommended is NVMe", gigabytes(drive.bytes as f64));
        return Ok(vec![context.finding(Severity::Info, drive.bytes as f64, title).read(
            &path,
            "",
            drive.bytes as f64,
            "B",
        )]);
    }
    tier(context, drive.bytes as f64, floors, gigabytes, &kind, &path)
}

fn network(context: &RuleContext<'_>) -> Verdict {
    let links = context.now().hardware.links.get()?;
    let fastest = links.iter().filter_map(|(name, speed)| Some((speed.as_ref()?, name))).max();
    let Some((speed, name)) = fastest else {
        return Err(Skip("/sys/class/net/*/speed: no interface says (virtual ones do not)".to_owned()));
    };
    let say =
        |speed: f64| if speed >= 1000.0 { format!("{} Gbit/s", speed / 1000.0) } else { format!("{speed} Mbit/s") };
    let path = format!("/sys/class/net/{name}/speed");
    tier(context, *speed as f64, context.question.tiers.of(|tier| tier.mbps), say, &format!(" on {name}"), &path)
}

#[cfg(test)]
mod tests {
    use crate::doctor::fixture::{Fixture, severities};
    use crate::model::diagnosis::Severity::{Info, Warn};

    fn cpus(count: usize) -> String {
        let one = (0..count).map(|n| format!("cpu{n} 1 0 1 9 0 0 0 0 0 0\n")).collect::<String>();
        format!("cpu  1 0 1 9 0 0 0 0 0 0\n{one}ctxt 1\nprocesses 1\nprocs_running 1\n")
    }

    #[test]
    fn each_resource_is_held_against_the_tiers() {
        let fixture = Fixture::new("hardware");
        for (count, expected, title) in [
            (2, Warn, "2 CPUs is below the minimum; minimum is 4 CPUs"),
            (8, Info, "8 CPUs meets the recommended tier; enterprise is 16 CPUs"),
            (64, Info, "64 CPUs meets the enterprise tier"),
        ] {
            let found = fixture.file("proc/stat", &cpus(count)).ask("hw.cpu");
            assert_eq!((severities(&found), found[0].title.as_str()), (vec![expected], title));
        }
        // 16 GiB on the label, 15.5 of them left by firmware and kernel.
        let found = fixture.file("proc/meminfo", "MemTotal: 16252928 kB\n").ask("hw.memory");
        assert_eq!(found[0].title, "15.5 GiB meets the recommended tier; enterprise is 32 GiB");
        let found = fixture.file("proc/cpuinfo", "processor: 0\ncpu MHz\t\t: 2100.000\n").ask("hw.clock");
        assert_eq!(severities(&found), [Warn]);
    }

    #[test]
    fn a_disk_is_judged_by_size_and_kind() {
        let fixture = Fixture::new("hwdisk");
        // 512-byte sectors: a terabyte that spins, then one of flash behind NVMe.
        fixture.file("sys/block/sda/size", "1953525168\n").file("sys/block/sda/queue/rotational", "1\n");
        assert_eq!(severities(&fixture.ask("hw.storage")), [Warn]);
        fixture.file("sys/block/nvme0n1/size", "1953525169\n").file("sys/block/nvme0n1/queue/rotational", "0\n");
        let found = fixture.ask("hw.storage");
        assert_eq!(
            (severities(&found), found[0].title.as_str()),
            (vec![Info], "1000 GB nvme0n1 nvme meets the enterprise tier")
        );
    }

    #[test]
    fn a_link_is_judged_by_its_speed_where_it_says_one() {
        let fixture = Fixture::new("hwnet");
        fixture.file("sys/class/net/eth0/device/vendor", "0x8086\n").file("sys/class/net/eth0/speed", "1000\n");
        fixture.file("sys/class/net/lo/speed", "-1\n");
        let found = fixture.ask("hw.network");
        assert_eq!(found[0].title, "1 Gbit/s on eth0 meets the recommended tier; enterprise is 10 Gbit/s");
        assert_eq!(severities(&fixture.file("sys/class/net/eth0/speed", "10\n").ask("hw.network")), [Warn]);
    }
}
