//! Where nodes are, which of them leads which group, and which group has which tenant.
//!
//! ```text
//!              configured ──┐                      ┌── groups: tenant ▶ group
//!  hints ──▶ learned ───────┴──▶ places, in a ring ┼── leaders: group, or tenant of a group not known ▶ place
//!                                                  └── current: where nothing else is known
//! ```
//! A tenant's group is learned from the first node that sends a call on; from then on what one tenant's call learns of the
//! group's leader is known for all of them. A tenant that was dropped and created elsewhere is found in the same way: the
//! old group's leader sends the call on.
//!
//! All clones of a client share one table, so that what one call learned spares the others the way. It is advice: a
//! place that does not lead says so, and [`Trail`](crate::trail::Trail) goes on from there.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::http;
use tonic::transport::Channel;

use crate::error::{ClientError, ErrorKind};
use crate::options::{Options, check_endpoints, describe, scheme};

/// Most addresses taken from hints, the oldest of which makes room: more nodes than a cluster has, and few enough
/// to ask all of them where no leader is known.
const LEARNED_MAX: usize = 32;
/// Most tenants whose group, and tenants and groups whose leader is remembered. When they are more, all are forgotten: each costs one hint.
const LEADERS_MAX: usize = 4_096;
/// How long hints to a node that said nothing are not believed: the nodes that give them need about so long to elect
/// another leader, and asking one that hangs takes longer than asking around.
const DOUBT_FOR: Duration = Duration::from_secs(1);
/// How long a node that failed is asked after all others.
const AVOID_FOR: Duration = Duration::from_secs(5);

/// What a call is about, hence which node is to answer it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// A tenant's data: the leader of its group.
    Tenant(Arc<str>),
    /// A group: its leader. 0 is the only one there is.
    Group(u64),
    /// The node itself: the same for all calls, as long as it answers.
    Node,
    /// What any node can tell: they take turns.
    Anyone,
}

/// An address with its channel, which connects when it is used, and again after it broke.
#[derive(Debug)]
pub(crate) struct Place {
    /// Host and port.
    authority: String,
    pub(crate) channel: Channel,
}

/// The table, shared.
#[derive(Debug)]
pub(crate) struct Routes {
    options: Options,
    scheme: &'static str,
    table: Mutex<Table>,
}

/// Invariants: the first `configured` places stay, at least one; the others were learned, oldest first.
/// `current < places.len()`, and it is a configured one.
#[derive(Debug)]
struct Table {
    places: Vec<Known>,
    configured: usize,
    current: usize,
    /// Counts calls for anyone.
    turn: usize,
    groups: HashMap<Arc<str>, u64>,
    /// By [`Table::key`].
    leaders: HashMap<Subject, Arc<Place>>,
}

#[derive(Debug)]
struct Known {
    place: Arc<Place>,
    /// It has not answered since.
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    at: Instant,
    /// It said nothing, rather than breaking off.
    silent: bool,
}

impl Routes {
    /// Of addresses that connect when they are used.
    pub(crate) fn new(options: &Options, endpoints: &[String]) -> Result<Self, ClientError> {
        options.check()?;
        check_endpoints(endpoints)?;
        let known = |uri: &String| Ok(Known { place: Place::lazy(options, uri)?, failure: None });
        let places = endpoints.iter().map(known).collect::<Result<Vec<_>, ClientError>>()?;
        let configured = places.len();
        let scheme = endpoints.first().and_then(|uri| scheme(uri)).unwrap_or("http://");
        let (groups, leaders) = (HashMap::new(), HashMap::new());
        let table = Table { places, configured, current: 0, turn: 0, groups, leaders };
        Ok(Self { options: options.clone(), scheme, table: Mutex::new(table) })
    }

    /// Connects to the configured places in turn until one answers, which becomes the current one.
    pub(crate) async fn connect(&self, endpoints: &[String]) -> Result<(), ClientError> {
        let mut problems = Vec::new();
        for (position, uri) in endpoints.iter().enumerate() {
            let endpoint = self.options.endpoint(uri)?;
            let answer = async {
                let channel = endpoint.connect().await?;
                if endpoints.len() > 1 {
                    probe(channel.clone()).await?;
                }
                Ok::<_, tonic::transport::Error>(channel)
            };
            let limit = self.options.connect_timeout;
            let problem = match timeout(limit, answer).await {
                Ok(Ok(channel)) => {
                    let mut table = self.table();
                    if let Some(known) = table.places.get_mut(position) {
                        let authority = known.place.authority.clone();
                        known.place = Arc::new(Place { authority, channel });
                        table.current = position;
                    }
                    return Ok(());
                }
                Ok(Err(error)) => describe(&error),
                Err(_) => format!("no answer within {limit:?}"),
            };
            problems.push(format!("cannot connect to {uri}: {problem}"));
        }
        Err(ClientError::new(ErrorKind::Unavailable, problems.join("; ")).retryable())
    }

    /// These are configured from now on, in the place of those before; channels to those that were known stay. Where there is
    /// none, or one is no address, nothing changes.
    #[cfg(feature = "etcd")]
    pub(crate) fn configure(&self, endpoints: &[String]) {
        let known = |uri: &String| Ok(Known { place: Place::lazy(&self.options, uri)?, failure: None });
        let places = check_endpoints(endpoints)
            .and_then(|()| endpoints.iter().map(known).collect::<Result<Vec<_>, ClientError>>());
        match places {
            Ok(places) => self.table().configure(places),
            Err(error) => tracing::warn!(%error, "the nodes' addresses stay as they were"),
        }
    }

    /// How many addresses are configured.
    pub(crate) fn configured(&self) -> usize {
        self.table().configured
    }

    /// Where to ask first.
    pub(crate) fn start(&self, subject: &Subject) -> Arc<Place> {
        let mut table = self.table();
        if let Some(leader) = table.leader(subject) {
            return Arc::clone(leader);
        }
        let mut position = table.current;
        if *subject == Subject::Anyone {
            table.turn = table.turn.wrapping_add(1);
            let (turn, count) = (table.turn, table.places.len());
            let ring = (0..count).map(|step| (turn % count + step) % count);
            position = ring.clone().find(|position| !table.is_avoided(*position)).unwrap_or(position);
        }
        Arc::clone(&table.places[position].place)
    }

    /// The subject is a tenant of this group, or the group itself.
    pub(crate) fn belongs(&self, subject: &Subject, group: u64) {
        if let Subject::Tenant(name) = subject {
            self.table().set_group(name, group);
        }
    }

    /// Where the hint points, now known as the subject's leader. `None`: it is no address, or one that said nothing a
    /// moment ago.
    pub(crate) fn follow(&self, subject: &Subject, hint: &str) -> Option<Arc<Place>> {
        let authority = authority_of_hint(hint)?;
        let mut table = self.table();
        let position = match table.position_by(|place| place.authority == authority) {
            Some(position) => position,
            None => {
                let place = Place::lazy(&self.options, &format!("{}{authority}", self.scheme)).ok()?;
                table.add(place)
            }
        };
        if table.is_doubted(position) {
            return None;
        }
        let place = Arc::clone(&table.places[position].place);
        table.remember(subject, &place);
        Some(place)
    }

    /// The place answered for the subject as only its leader does.
    pub(crate) fn answered(&self, subject: &Subject, place: &Arc<Place>) {
        let mut table = self.table();
        if !table.leader(subject).is_some_and(|leader| Arc::ptr_eq(leader, place)) {
            table.remember(subject, place);
        }
        if let Some(position) = table.position_by(|known| std::ptr::eq(known, Arc::as_ptr(place))) {
            table.places[position].failure = None;
        }
    }

    /// The place does not lead the subject.
    pub(crate) fn does_not_lead(&self, subject: &Subject, place: &Arc<Place>) {
        let mut table = self.table();
        if table.leader(subject).is_some_and(|leader| Arc::ptr_eq(leader, place)) {
            let key = table.key(subject);
            table.leaders.remove(&key);
        }
    }

    /// Nobody answers there. `silent`: nor breaks off, which took its time.
    pub(crate) fn failed(&self, place: &Arc<Place>, silent: bool) {
        let mut table = self.table();
        table.leaders.retain(|_, leader| !Arc::ptr_eq(leader, place));
        let found = table.position_by(|known| std::ptr::eq(known, Arc::as_ptr(place)));
        let Some(position) = found else { return };
        table.places[position].failure = Some(Failure { at: Instant::now(), silent });
        if table.current == position {
            let ring = (1..table.configured).map(|step| (position + step) % table.configured);
            table.current = ring.clone().find(|next| !table.is_avoided(*next)).unwrap_or(position);
        }
    }

    /// Where to ask after a place, of those not asked yet: a leader that was heard of meanwhile, else the next in the
    /// ring, those left for a fault last. `None`: all are asked.
    pub(crate) fn next(
        &self,
        subject: &Subject,
        after: &Arc<Place>,
        asked: &[Arc<Place>],
    ) -> Option<Arc<Place>> {
        let table = self.table();
        let is_new = |place: &Arc<Place>| !asked.iter().any(|other| Arc::ptr_eq(place, other));
        if let Some(leader) = table.leader(subject).filter(|leader| is_new(leader)) {
            return Some(Arc::clone(leader));
        }
        let from = table.position_by(|known| std::ptr::eq(known, Arc::as_ptr(after))).unwrap_or_default();
        let count = table.places.len();
        let ring = (1..=count).map(|step| (from + step) % count);
        let new = ring.filter(|position| is_new(&table.places[*position].place));
        let position = new.min_by_key(|position| table.is_avoided(*position))?;
        Some(Arc::clone(&table.places[position].place))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn position_by(&self, is_it: impl Fn(&Place) -> bool) -> Option<usize> {
        self.places.iter().position(|known| is_it(&known.place))
    }

    fn failure(&self, position: usize) -> Option<&Failure> {
        self.places.get(position)?.failure.as_ref()
    }

    fn is_avoided(&self, position: usize) -> bool {
        self.failure(position).is_some_and(|failure| failure.at.elapsed() < AVOID_FOR)
    }

    fn is_doubted(&self, position: usize) -> bool {
        self.failure(position).is_some_and(|failure| failure.silent && failure.at.elapsed() < DOUBT_FOR)
    }

    #[cfg(feature = "etcd")]
    fn configure(&mut self, mut places: Vec<Known>) {
        let current = Arc::clone(&self.places[self.current].place);
        let mut before = std::mem::take(&mut self.places);
        for place in &mut places {
            let same = before.iter().position(|known| known.place.authority == place.place.authority);
            if let Some(same) = same {
                *place = before.swap_remove(same);
            }
        }
        self.configured = places.len();
        // Who is not configured any more may lead until it is seen that it does not.
        places.extend(before.into_iter().take(LEARNED_MAX));
        self.places = places;
        let position = self.position_by(|known| std::ptr::eq(known, Arc::as_ptr(&current)));
        self.current = position.filter(|position| *position < self.configured).unwrap_or_default();
        let left = |leader: &Arc<Place>| self.places.iter().any(|known| Arc::ptr_eq(&known.place, leader));
        self.leaders.retain(|_, leader| left(leader));
    }

    fn add(&mut self, place: Arc<Place>) -> usize {
        if self.places.len() >= self.configured + LEARNED_MAX {
            let Known { place: oldest, .. } = self.places.remove(self.configured);
            self.leaders.retain(|_, leader| !Arc::ptr_eq(leader, &oldest));
        }
        self.places.push(Known { place, failure: None });
        self.places.len() - 1
    }

    /// What the subject's leader is remembered by: its group, where that is known.
    fn key(&self, subject: &Subject) -> Subject {
        let group = match subject {
            Subject::Tenant(name) => self.groups.get(name),
            Subject::Group(_) | Subject::Node | Subject::Anyone => None,
        };
        group.map_or_else(|| subject.clone(), |group| Subject::Group(*group))
    }

    fn leader(&self, subject: &Subject) -> Option<&Arc<Place>> {
        self.leaders.get(&self.key(subject))
    }

    fn set_group(&mut self, tenant: &Arc<str>, group: u64) {
        if self.groups.get(tenant) == Some(&group) {
            return;
        }
        if self.groups.len() >= LEADERS_MAX {
            self.groups.clear();
        }
        self.leaders.remove(&Subject::Tenant(Arc::clone(tenant)));
        self.groups.insert(Arc::clone(tenant), group);
    }

    fn remember(&mut self, subject: &Subject, leader: &Arc<Place>) {
        if matches!(subject, Subject::Node | Subject::Anyone) {
            return;
        }
        let key = self.key(subject);
        if self.leaders.len() >= LEADERS_MAX && !self.leaders.contains_key(&key) {
            self.leaders.clear();
        }
        self.leaders.insert(key, Arc::clone(leader));
    }
}

impl Place {
    #[cfg(test)]
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    fn lazy(options: &Options, uri: &str) -> Result<Arc<Self>, ClientError> {
        let endpoint = options.endpoint(uri)?;
        let authority = endpoint.uri().authority().map_or("", |authority| authority.as_str());
        let authority = authority.to_ascii_lowercase();
        Ok(Arc::new(Self { authority, channel: endpoint.connect_lazy() }))
    }
}

/// Has the node say something, be it that there is no such thing as asked for: the connections of a process that is
/// stopped are accepted by its system.
async fn probe(mut channel: Channel) -> Result<(), tonic::transport::Error> {
    let mut request = http::Request::new(Body::empty());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static("/grpc.health.v1.Health/Check");
    let content = http::HeaderValue::from_static("application/grpc");
    request.headers_mut().insert(http::header::CONTENT_TYPE, content);
    poll_fn(|task| GrpcService::poll_ready(&mut channel, task)).await?;
    GrpcService::call(&mut channel, request).await.map(drop)
}

/// The hint in lower case, where it is a host and a port that can be connected to.
fn authority_of_hint(hint: &str) -> Option<String> {
    let (host, port) = hint.rsplit_once(':')?;
    if hint.len() > 260 || !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().ok()? == 0 {
        return None;
    }
    let ip = match host.strip_prefix('[') {
        Some(rest) => Some(IpAddr::V6(rest.strip_suffix(']')?.parse().ok()?)),
        None => host.parse().ok().map(IpAddr::V4),
    };
    let is_name = |host: &str| {
        host.starts_with(|first: char| first.is_ascii_alphanumeric())
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    let good = ip.map_or_else(|| is_name(host), |ip| !ip.is_unspecified());
    good.then(|| hint.to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
