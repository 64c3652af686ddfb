//! The tables of `kafka-consumer-groups`: column widths, order and blanks exactly as Kafka prints them. Pure.

use milena_client::admin::{CommittedOffset, GroupDescription, GroupMember};
use milena_common::TopicPartition;

/// What stands where nothing is known.
const MISSING: &str = "-";

/// A partition of a group, who reads it and how far it is.
pub(super) struct OffsetRow {
    pub(super) group: String,
    pub(super) partition: TopicPartition,
    pub(super) current: Option<i64>,
    pub(super) leader_epoch: Option<i32>,
    pub(super) end: Option<i64>,
    pub(super) consumer_id: Option<String>,
    pub(super) host: Option<String>,
    pub(super) client_id: Option<String>,
}

/// A member of a group.
pub(super) struct MemberRow {
    id: String,
    instance: Option<String>,
    host: String,
    client_id: String,
    partitions: usize,
    epoch: Option<i32>,
    assignment: String,
    target_epoch: Option<i32>,
    target: String,
    upgraded: Option<bool>,
}

impl MemberRow {
    pub(super) fn of(member: &GroupMember) -> MemberRow {
        MemberRow {
            id: member.member_id.clone(),
            instance: member.group_instance_id.clone(),
            host: member.host.clone(),
            client_id: member.client_id.clone(),
            partitions: member.assignment.len(),
            epoch: member.epoch,
            assignment: assignment(&member.assignment),
            target_epoch: member.target_assignment.as_ref().and(member.epoch),
            target: member.target_assignment.as_deref().map_or(String::new(), assignment),
            upgraded: member.upgraded,
        }
    }
}

/// `topic:0,1;other:2`
fn assignment(partitions: &[TopicPartition]) -> String {
    if partitions.is_empty() {
        return MISSING.into();
    }
    let mut by_topic: std::collections::BTreeMap<&str, Vec<i32>> = std::collections::BTreeMap::new();
    partitions.iter().for_each(|tp| by_topic.entry(&tp.topic).or_default().push(tp.partition));
    let topic = |(topic, mut indexes): (&str, Vec<i32>)| {
        indexes.sort_unstable();
        format!("{topic}:{}", indexes.iter().map(i32::to_string).collect::<Vec<_>>().join(","))
    };
    by_topic.into_iter().map(topic).collect::<Vec<_>>().join(";")
}

fn width<'a>(texts: impl Iterator<Item = &'a str>, least: usize) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or(0).max(least)
}

fn known<T: ToString>(value: Option<T>) -> String {
    value.map_or(MISSING.to_string(), |value| value.to_string())
}

/// `--describe --offsets`.
pub(super) fn offsets_table(rows: &[OffsetRow], verbose: bool) -> String {
    let group = width(rows.iter().map(|r| r.group.as_str()), 15);
    let topic = width(rows.iter().map(|r| &*r.partition.topic), 15);
    let consumer = width(rows.iter().filter_map(|r| r.consumer_id.as_deref()), 15);
    let host = width(rows.iter().filter_map(|r| r.host.as_deref()), 15);
    let line = |cells: [&str; 10]| {
        let [g, t, p, epoch, current, end, lag, c, h, client] = cells;
        let epoch = if verbose { format!(" {epoch:<15}") } else { String::new() };
        format!(
            "\n{g:<group$} {t:<topic$} {p:<10}{epoch} {current:<15} {end:<15} {lag:<15} {c:<consumer$} {h:<host$} {client}"
        )
    };
    let mut text = line([
        "GROUP",
        "TOPIC",
        "PARTITION",
        "LEADER-EPOCH",
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "HOST",
        "CLIENT-ID",
    ]);
    for row in rows {
        let lag = row.current.zip(row.end).map(|(current, end)| end - current);
        text.push_str(&line([
            &row.group,
            &row.partition.topic,
            &row.partition.partition.to_string(),
            &known(row.leader_epoch),
            &known(row.current),
            &known(row.end),
            &known(lag),
            row.consumer_id.as_deref().unwrap_or(MISSING),
            row.host.as_deref().unwrap_or(MISSING),
            row.client_id.as_deref().unwrap_or(MISSING),
        ]));
    }
    text.push('\n');
    text
}

/// `--describe --members`.
pub(super) fn members_table(group: &str, rows: &[MemberRow], verbose: bool) -> String {
    let group_width = width([group].into_iter(), 15);
    let consumer = width(rows.iter().map(|r| r.id.as_str()), 15);
    let instance = width(rows.iter().filter_map(|r| r.instance.as_deref()), 17);
    let host = width(rows.iter().map(|r| r.host.as_str()), 15);
    let client = width(rows.iter().map(|r| r.client_id.as_str()), 15);
    let current = width(rows.iter().map(|r| r.assignment.as_str()), 20);
    let target = width(rows.iter().map(|r| r.target.as_str()), 20);
    let with_instance = rows.iter().any(|r| r.instance.as_ref().is_some_and(|i| !i.is_empty()));
    let with_upgraded = rows.iter().any(|r| r.upgraded.is_some());
    let line = |cells: [&str; 11]| {
        let [g, c, i, h, k, n, epoch, a, target_epoch, b, upgraded] = cells;
        let i = if with_instance { format!("{i:<instance$} ") } else { String::new() };
        let mut line = format!("\n{g:<group_width$} {c:<consumer$} {i}{h:<host$} {k:<client$} {n:<15} ");
        if verbose {
            line.push_str(&format!("{epoch:<15} {a:<current$} {target_epoch:<15} {b:<target$}"));
            if with_upgraded {
                line.push_str(&format!(" {upgraded}"));
            }
        }
        line
    };
    let mut text = line([
        "GROUP",
        "CONSUMER-ID",
        "GROUP-INSTANCE-ID",
        "HOST",
        "CLIENT-ID",
        "#PARTITIONS",
        "CURRENT-EPOCH",
        "CURRENT-ASSIGNMENT",
        "TARGET-EPOCH",
        "TARGET-ASSIGNMENT",
        "UPGRADED",
    ]);
    for row in rows {
        text.push_str(&line([
            group,
            &row.id,
            row.instance.as_deref().unwrap_or_default(),
            &row.host,
            &row.client_id,
            &row.partitions.to_string(),
            &known(row.epoch),
            &row.assignment,
            &known(row.target_epoch),
            if row.target.is_empty() { MISSING } else { &row.target },
            &known(row.upgraded),
        ]));
    }
    text.push('\n');
    text
}

/// `--describe --state`.
pub(super) fn state_table(group: &GroupDescription, verbose: bool) -> String {
    let coordinator = format!("{}:{}  ({})", group.coordinator.host, group.coordinator.port, group.coordinator.id);
    let group_width = width([group.group_id.as_str()].into_iter(), 15);
    let coordinator_width = width([coordinator.as_str()].into_iter(), 25);
    let line = |cells: [&str; 7]| {
        let [g, c, strategy, state, epoch, target, members] = cells;
        let epochs = if verbose { format!("{epoch:<15} {target:<25} ") } else { String::new() };
        format!("\n{g:<group_width$} {c:<coordinator_width$} {strategy:<20} {state:<20} {epochs}{members}")
    };
    let strategy = if group.assignor.is_empty() { MISSING } else { &group.assignor };
    format!(
        "{}{}\n",
        line([
            "GROUP",
            "COORDINATOR (ID)",
            "ASSIGNMENT-STRATEGY",
            "STATE",
            "GROUP-EPOCH",
            "TARGET-ASSIGNMENT-EPOCH",
            "#MEMBERS"
        ]),
        line([
            &group.group_id,
            &coordinator,
            strategy,
            &group.state,
            &known(group.group_epoch),
            &known(group.target_epoch),
            &group.members.len().to_string(),
        ])
    )
}

/// `--reset-offsets`.
pub(super) fn reset_table(plans: &[(String, Vec<(TopicPartition, CommittedOffset)>)]) -> String {
    let group = width(plans.iter().map(|(group, _)| group.as_str()), 15);
    let topic = width(plans.iter().flat_map(|(_, plan)| plan.iter().map(|(tp, _)| &*tp.topic)), 15);
    let mut text = format!("\n{:<group$} {:<topic$} {:<10} {}\n", "GROUP", "TOPIC", "PARTITION", "NEW-OFFSET");
    for (id, plan) in plans {
        for (tp, offset) in plan {
            text.push_str(&format!("{id:<group$} {:<topic$} {:<10} {}\n", tp.topic, tp.partition, offset.offset));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_row_is_as_wide_as_kafkas() {
        let row = OffsetRow {
            group: "g1".into(),
            partition: TopicPartition::new("orders", 2),
            current: Some(5),
            leader_epoch: None,
            end: Some(7),
            consumer_id: None,
            host: None,
            client_id: None,
        };
        assert_eq!(
            offsets_table(&[row], false),
            "\nGROUP           TOPIC           PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG             CONSUMER-ID     HOST            CLIENT-ID\
             \ng1              orders          2          5               7               2               -               -               -\n"
        );
    }

    #[test]
    fn a_member_row_names_its_partitions() {
        let partitions = [3, 1].map(|p| TopicPartition::new("orders", p));
        assert_eq!(assignment(&partitions), "orders:1,3");
        assert_eq!(assignment(&[]), "-");
    }
}
