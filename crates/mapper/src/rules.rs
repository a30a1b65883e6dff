//! All of a site's rules, checked as a whole.

use crate::digest::Canonical;
use crate::limits::Limits;
use crate::node_types::{self, NodeType};
use crate::problems::Problems;
use crate::projects::Projects;
use crate::resources::{self, Resource};
use crate::spec::{
    Charged, LimitsSpec, NodeTypeSpec, OwnerRow, PolicySpec, ProjectPattern, ProjectRow, RateBy, RateSpec,
    ResourceSpec, Rounding, RoundingMode, RuleError, RulePlace, RulesSpec, ServiceTreats, SkipRule,
    StorageSpec, SuppliedRow, UserRow, When,
};
use crate::storage::{self, Storage};
use crate::users::Users;
use chrono::NaiveDate;
use chrono_tz::Tz;
use parsers::{Run, Scheduler, State};

/// Everything that decides what a run is charged, to whom: compiled, checked, and without anything left to look up.
#[derive(Debug)]
pub struct Rules {
    pub(crate) timezone: Tz,
    pub(crate) projects: Projects,
    pub(crate) users: Users,
    pub(crate) node_types: Vec<NodeType>,
    pub(crate) resources: Vec<Resource>,
    pub(crate) storage: Vec<Storage>,
    pub(crate) policy: Policy,
    warnings: Vec<RuleError>,
    digest: u128,
}

/// The compiled `[policy]`.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) send_zero: bool,
    node_fail: Charged,
    boot_fail: Charged,
    preempted: Charged,
    requeued: Charged,
    resizing: Charged,
    failed: Charged,
    /// For storage; resources have theirs.
    pub(crate) limits: Limits,
}

impl Policy {
    /// Whether a run that ended so is charged, and by which key of `[policy]`.
    pub(crate) fn of(&self, run: &Run<'_>) -> (&'static str, Charged) {
        match run.state {
            State::NodeFail => ("node_fail", self.node_fail),
            State::BootFail => ("boot_fail", self.boot_fail),
            State::Preempted => ("preempted", self.preempted),
            State::Requeued => ("requeued", self.requeued),
            // The letter of a PBS record: this run was put back into the queue, whatever ended it.
            _ if run.scheduler == Scheduler::Pbs && *run.state_text == b"R"[..] => {
                ("requeued", self.requeued)
            }
            State::Resizing => ("resizing", self.resizing),
            State::Failed => ("failed", self.failed),
            _ => ("", Charged::Charge),
        }
    }
}

impl Rules {
    /// Reads and checks rules.
    ///
    /// # Errors
    /// Everything that is wrong with them, each with its place.
    ///
    /// ```
    /// use mapper::{Rules, spec::*};
    ///
    /// let charge = RateSpec {
    ///     from: "2026-01-01".parse()?,
    ///     until: None,
    ///     rate_by: RateBy::Submit,
    ///     charge: "coer_hours".into(),
    ///     round: Rounding::default(),
    ///     minimum: None,
    ///     minimum_seconds: None,
    ///     factors: Default::default(),
    /// };
    /// let cpu = ResourceSpec { name: "cpu.example.org".into(), rates: vec![charge], ..Default::default() };
    /// let errors = Rules::compile(RulesSpec {
    ///     timezone: chrono_tz::UTC,
    ///     projects: vec![],
    ///     project_patterns: vec![],
    ///     skip: vec![],
    ///     users: None,
    ///     pi_fallback: vec![],
    ///     node_types: vec![],
    ///     resources: vec![cpu],
    ///     storage: vec![],
    ///     policy: PolicySpec::default(),
    /// })
    /// .unwrap_err();
    /// assert_eq!(errors[0].help.as_deref(), Some("did you mean `core_hours`?"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compile(spec: RulesSpec) -> Result<Self, Vec<RuleError>> {
        let digest = digest(&spec);
        let mut problems = Problems::default();
        let RulesSpec {
            timezone,
            projects,
            project_patterns,
            skip,
            users,
            pi_fallback,
            node_types,
            resources,
            storage,
            policy,
        } = spec;
        // Resources take limits from the policy, whose faults are said last, as it stands in the file.
        let mut of_policy = Problems::default();
        let policy = compile_policy(policy, &mut of_policy);
        let node_types = node_types::compile(node_types, &mut problems);
        let projects = Projects::compile(projects, project_patterns, skip, timezone, &mut problems);
        let users = Users::compile(users, pi_fallback, timezone, &mut problems);
        let resources = resources::compile(resources, &policy.limits, &node_types, timezone, &mut problems);
        let storage = storage::compile(storage, &mut problems);
        problems.errors.extend(of_policy.errors);
        let warnings = problems.warnings;
        let rules =
            Self { timezone, projects, users, node_types, resources, storage, policy, warnings, digest };
        if problems.errors.is_empty() { Ok(rules) } else { Err(problems.errors) }
    }

    /// What the rules do that is probably not meant.
    #[must_use]
    pub fn warnings(&self) -> &[RuleError] {
        &self.warnings
    }

    /// Of everything here that can change a record. Comments, the order of keys and line numbers cannot.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// True where a formula names what exclusive placement took (`assigned.cores`): readers of PBS logs then look for it.
    #[must_use]
    pub fn reads_assigned(&self) -> bool {
        self.resources.iter().any(Resource::reads_assigned)
    }

    /// Which of a run's times chooses the rates of a resource; `None` where there is no such resource.
    #[must_use]
    pub fn rate_by(&self, resource: &str) -> Option<RateBy> {
        self.resources.iter().find(|known| known.name == resource).map(|known| known.rate_by)
    }

    /// Names of all resources, those of storage too, in the order of the configuration.
    pub fn resource_names(&self) -> impl Iterator<Item = &str> {
        let jobs = self.resources.iter().map(|resource| resource.name.as_str());
        jobs.chain(self.storage.iter().map(|storage| storage.resource.as_str()))
    }

    /// The site's zone, in which dates begin.
    #[must_use]
    pub fn timezone(&self) -> Tz {
        self.timezone
    }
}

fn compile_policy(spec: PolicySpec, problems: &mut Problems) -> Policy {
    let PolicySpec { send_zero, node_fail, boot_fail, preempted, requeued, resizing, failed, limits } = spec;
    let limits = Limits::compile(limits, RulePlace::Policy, problems);
    Policy { send_zero, node_fail, boot_fail, preempted, requeued, resizing, failed, limits }
}

/// Every field is taken apart by name, so that a new one cannot be forgotten here.
fn digest(spec: &RulesSpec) -> u128 {
    let mut to = Canonical::new("rules");
    let RulesSpec {
        timezone,
        projects,
        project_patterns,
        skip,
        users,
        pi_fallback,
        node_types,
        resources,
        storage,
        policy,
    } = spec;
    to.text(timezone.name());
    to.count(projects.len());
    for row in projects {
        let ProjectRow { account, project, cluster, partition, qos, user, from, until, pi, line: _ } = row;
        to.text(account).text(project);
        for condition in [cluster, partition, qos, user, pi] {
            to.option(condition.as_deref());
        }
        date(&mut to, *from);
        date(&mut to, *until);
    }
    to.count(project_patterns.len());
    for ProjectPattern { account, project, upper, cluster } in project_patterns {
        to.text(account).text(project).flag(*upper).option(cluster.as_deref());
    }
    to.count(skip.len());
    for SkipRule { account, cluster } in skip {
        to.text(account).option(cluster.as_deref());
    }
    to.flag(users.is_some()).count(users.as_deref().map_or(0, <[_]>::len));
    for UserRow { user, username, cluster, from, until, line: _ } in users.iter().flatten() {
        to.text(user).text(username).option(cluster.as_deref());
        date(&mut to, *from);
        date(&mut to, *until);
    }
    list(&mut to, pi_fallback);
    to.count(node_types.len());
    for NodeTypeSpec { name, cluster, partition, hosts, cores, gpus } in node_types {
        to.text(name);
        for names in [cluster, partition, hosts] {
            list(&mut to, names);
        }
        count(&mut to, *cores);
        count(&mut to, *gpus);
    }
    to.count(resources.len());
    for resource in resources {
        digest_resource(&mut to, resource);
    }
    to.count(storage.len());
    for storage in storage {
        digest_storage(&mut to, storage);
    }
    let PolicySpec { send_zero, node_fail, boot_fail, preempted, requeued, resizing, failed, limits } =
        policy;
    to.flag(*send_zero);
    for charged in [node_fail, boot_fail, preempted, requeued, resizing, failed] {
        to.flag(*charged == Charged::Zero);
    }
    digest_limits(&mut to, limits);
    to.digest()
}

fn list(to: &mut Canonical, names: &[String]) {
    to.count(names.len());
    for name in names {
        to.text(name);
    }
}

fn count(to: &mut Canonical, count: Option<u64>) {
    to.flag(count.is_some()).integer(count.unwrap_or(0));
}

fn digest_limits(to: &mut Canonical, limits: &LimitsSpec) {
    let LimitsSpec { max_charge, max_cores, max_hours } = limits;
    to.option(max_charge.as_deref()).option(max_hours.as_deref());
    count(to, *max_cores);
}

fn digest_resource(to: &mut Canonical, resource: &ResourceSpec) {
    let ResourceSpec {
        name,
        when: When { cluster, partition, qos, account, user },
        rates,
        cores_per_node,
        gpus_per_node,
        supplied,
        limits,
    } = resource;
    to.text(name);
    for names in [cluster, partition, qos, account, user] {
        list(to, names);
    }
    count(to, *cores_per_node);
    count(to, *gpus_per_node);
    to.flag(supplied.is_some()).count(supplied.as_deref().map_or(0, <[_]>::len));
    for SuppliedRow { job_id, charge, cluster, submit, start, line: _ } in supplied.iter().flatten() {
        to.text(job_id).text(charge).option(cluster.as_deref());
        for time in [submit, start] {
            to.flag(time.is_some()).signed(time.unwrap_or(0));
        }
    }
    digest_limits(to, limits);
    to.count(rates.len());
    for rate in rates {
        let RateSpec { from, until, rate_by, charge, round, minimum, minimum_seconds, factors } = rate;
        date(to, Some(*from));
        date(to, *until);
        to.text(match rate_by {
            RateBy::Submit => "submit",
            RateBy::Start => "start",
            RateBy::End => "end",
        });
        to.text(charge);
        rounding(to, *round);
        to.option(minimum.as_deref());
        to.flag(minimum_seconds.is_some()).integer(minimum_seconds.unwrap_or(0));
        to.count(factors.len());
        for (name, table) in factors {
            to.text(name).count(table.len());
            for (value, factor) in table {
                to.text(value).text(factor);
            }
        }
    }
}

fn digest_storage(to: &mut Canonical, storage: &StorageSpec) {
    let StorageSpec {
        source,
        resource,
        service_treats,
        charge,
        round,
        interval_days,
        media_type,
        system_copies,
        owners,
    } = storage;
    to.text(source).text(resource).text(match service_treats {
        None => "unset",
        Some(ServiceTreats::Level) => "level",
        Some(ServiceTreats::Sum) => "sum",
    });
    to.text(charge);
    rounding(to, *round);
    to.integer(*interval_days).option(media_type.as_deref());
    to.flag(system_copies.is_some()).integer(system_copies.unwrap_or(0));
    to.count(owners.len());
    for OwnerRow { owner, project, username, line: _ } in owners {
        to.text(owner).text(project).text(username);
    }
}

fn date(to: &mut Canonical, date: Option<NaiveDate>) {
    let days = date.map(|date| date.signed_duration_since(NaiveDate::default()).num_days());
    to.flag(days.is_some()).signed(days.unwrap_or(0));
}

fn rounding(to: &mut Canonical, Rounding { places, mode }: Rounding) {
    to.integer(u64::from(places)).text(match mode {
        RoundingMode::HalfEven => "half-even",
        RoundingMode::HalfUp => "half-up",
        RoundingMode::Up => "up",
        RoundingMode::Down => "down",
    });
}
