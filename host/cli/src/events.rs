//! `mortise events`: what happens to the groups of a cluster, as etcd tells it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use mortise_coordination::{
    Change, Config, Coordination, CoordinationError, Coordinator, Etcd, EtcdConfig, History, Interest,
    RoleChange, RoleEvent, RoleEvents, Told, Viewpoint,
};
use mortise_core::ids::GroupId;
use mortise_node::config::ClusterSettings;
use serde_json::{Value, json};

use crate::context::Context;
use crate::output;

/// How often it is looked whether etcd answers.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Its arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
Begins with what is: the leader and the followers of each group. With --follow, what happens from then on.

Examples:
  mortise events --cluster demo
  mortise events --cluster demo --group 1 --follow
  mortise events --follow --json | jq -c 'select(.event == \"leader-changed\")'")]
pub(crate) struct EventsArguments {
    /// Only this group
    #[arg(long, value_name = "NUMBER")]
    group: Option<u64>,
    /// Go on until interrupted
    #[arg(long)]
    follow: bool,
    /// The cluster's name, the first part of all its keys
    #[arg(long, env = "MORTISE_CLUSTER", default_value = "mortise")]
    cluster: String,
    /// URLs of etcd's members
    #[arg(
        long,
        env = "MORTISE_ETCD_ENDPOINTS",
        value_name = "URL,…",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:2379"
    )]
    etcd: Vec<String>,
    /// etcd's user; the password is in MORTISE_ETCD_PASSWORD
    #[arg(long, env = "MORTISE_ETCD_USER", value_name = "NAME")]
    etcd_user: Option<String>,
    /// File with the certificates, in PEM, of the authorities that vouch for etcd
    #[arg(long, env = "MORTISE_ETCD_CA", value_name = "FILE")]
    etcd_ca: Option<PathBuf>,
    /// File with the certificate, in PEM, that etcd asks for
    #[arg(long, env = "MORTISE_ETCD_CERT", value_name = "FILE", requires = "etcd_key", requires = "etcd_ca")]
    etcd_cert: Option<PathBuf>,
    /// File with that certificate's key, in PEM
    #[arg(long, env = "MORTISE_ETCD_KEY", value_name = "FILE", requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,
}

impl EventsArguments {
    fn etcd(&self) -> anyhow::Result<EtcdConfig> {
        let settings = ClusterSettings {
            etcd: self.etcd.clone(),
            etcd_ca: self.etcd_ca.clone(),
            etcd_cert: self.etcd_cert.clone(),
            etcd_key: self.etcd_key.clone(),
            ..ClusterSettings::default()
        };
        let mut config = settings.etcd()?;
        if let Some(name) = &self.etcd_user {
            let password = std::env::var("MORTISE_ETCD_PASSWORD").context("read MORTISE_ETCD_PASSWORD")?;
            config.user = Some((name.clone(), password));
        }
        Ok(config)
    }
}

/// Runs it.
pub(crate) async fn run(arguments: EventsArguments, context: &Context) -> anyhow::Result<()> {
    let etcd = Etcd::new(arguments.etcd()?)?;
    let coordination = Coordination::start(Config::new(arguments.cluster.clone()), None, etcd)?;
    coordination.ready().await?;
    let interest = arguments.group.map_or(Interest::All, |group| Interest::Group(GroupId(group)));
    let mut events = RoleEvents::new(coordination.changes(interest), Viewpoint::Observer);
    while let Some(told) = events.try_next() {
        show(&told, context)?;
    }
    if !arguments.follow {
        return Ok(());
    }
    let (mut look, mut is_away) = (tokio::time::interval(LOOK_EVERY), false);
    loop {
        tokio::select! {
            told = events.next() => show(&told, context)?,
            _ = look.tick() => is_away = say_whether_away(coordination.problem(), is_away),
        }
    }
}

/// Says on standard error that etcd does not answer, or does again: else silence could mean either.
fn say_whether_away(problem: Option<CoordinationError>, was_away: bool) -> bool {
    match &problem {
        Some(problem) if !was_away => eprintln!("mortise: {problem}; trying again"),
        None if was_away => eprintln!("mortise: etcd answers again"),
        _ => {}
    }
    problem.is_some()
}

fn show(told: &Told, context: &Context) -> anyhow::Result<()> {
    match told {
        Told::Role(event) if context.json => output::line(&to_json(event).to_string()),
        Told::Role(event) => output::line(&format!("{:>8}  {event}", event.revision.0)),
        Told::Other(Change::History(History::Broken(broken))) => {
            let text = if context.json {
                json!({ "frozen": broken.to_string() }).to_string()
            } else {
                broken.to_string()
            };
            output::line(&text)
        }
        Told::Other(_) => Ok(()),
    }
}

/// One object a line, whoever reads it.
fn to_json(event: &RoleEvent) -> Value {
    let mut object = json!({
        "revision": event.revision.0,
        "group": event.group.0,
        "event": event.change.name(),
    });
    match &event.change {
        RoleChange::BecameLeader { initial, epoch } => {
            (object["initial"], object["epoch"]) = ((*initial).into(), epoch.0.into());
        }
        RoleChange::BecameFollower { initial, epoch, leader } => {
            (object["initial"], object["epoch"]) = ((*initial).into(), epoch.0.into());
            object["leader"] = leader.map(|node| node.0).into();
        }
        RoleChange::LeaderChanged { epoch, leader } => {
            (object["epoch"], object["leader"]) = (epoch.0.into(), leader.map(|node| node.0).into());
        }
        RoleChange::FollowersAdded(nodes) | RoleChange::FollowersRemoved(nodes) => {
            object["nodes"] = nodes.iter().map(|node| node.0).collect::<Vec<_>>().into();
        }
    }
    object
}
