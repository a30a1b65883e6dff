//! What the rules say of all runs with the same keys: decided once, then only measured.

use crate::interval::Interval;
use crate::keys::{Keys, Times};
use crate::node_types;
use crate::outcome::{Hold, HoldReason, SkipReason};
use crate::projects::ProjectAnswer;
use crate::quantity::Measures;
use crate::resources::{self, RateAnswer, Resource};
use crate::rules::Rules;
use crate::spec::{Charged, RateBy};
use crate::terms::Terms;
use crate::text::{cell, shown, shown_or_dash};
use crate::users::UserAnswer;
use amie_usage::Decimal;
use amie_usage::wire::format_time;

/// What the rules say of all runs with the same [`Keys`], at the times for which it is [valid](Plan::is_valid).
#[derive(Debug)]
pub struct Plan<'r> {
    pub(crate) submits: Interval,
    /// For the time that the resource's rates are chosen by.
    rate_times: Interval,
    rate_by: RateBy,
    pub(crate) verdict: Verdict<'r>,
}

#[derive(Debug)]
pub(crate) enum Verdict<'r> {
    Charge(Terms<'r>),
    Skip(SkipReason),
    Hold(Hold),
    /// A time that decides is not known.
    NeedsTime(&'static str),
}

impl Plan<'_> {
    /// Whether the rules say the same at these times.
    #[must_use]
    pub fn is_valid(&self, times: Times) -> bool {
        let within = |interval: Interval, time: Option<i64>| {
            time.map_or(interval == Interval::ALWAYS, |time| interval.contains(time))
        };
        within(self.submits, times.submit) && within(self.rate_times, self.rate_by.of(times))
    }

    /// What a run that used `measures` is charged; `policy` says whether ends like its own are charged at all.
    ///
    /// # Errors
    /// Why it cannot be charged. A run of an account that is skipped has no charge either: [`HoldReason::NoAccount`].
    pub fn charge(&self, measures: &Measures<'_>, policy: Charged) -> Result<Decimal, Hold> {
        self.charge_phases(measures, &[], policy)
    }

    /// What a run that gave parts of its allocation back is charged: the exact sum over its `phases`, before policy, minimum and
    /// rounding. Without phases this is [`charge`](Self::charge).
    ///
    /// # Errors
    /// As [`charge`](Self::charge), and [`HoldReason::Phases`] where the formula does not grow in proportion to time.
    pub fn charge_phases(
        &self,
        measures: &Measures<'_>,
        phases: &[Measures<'_>],
        policy: Charged,
    ) -> Result<Decimal, Hold> {
        match &self.verdict {
            Verdict::Charge(terms) => terms.charge(measures, phases, policy),
            Verdict::Skip(_) => Err(Hold::new(HoldReason::NoAccount, "the account is not reported")),
            Verdict::Hold(hold) => Err(hold.clone()),
            Verdict::NeedsTime(what) => Err(no_time(what)),
        }
    }
}

pub(crate) fn no_time(what: &str) -> Hold {
    let detail =
        format!("the record has no {what} time, which a usage record needs: look at its text in the source");
    Hold::new(HoldReason::NoTime, detail)
}

impl Rules {
    /// Decides project, user, resource and rate of all runs with these keys, at these times and around them.
    ///
    /// ```
    /// # use mapper::{Keys, Rules, Times, spec::*};
    /// # fn example(rules: &Rules) {
    /// let keys = Keys { account: Some("tg-abc123456".into()), ..Keys::default() };
    /// let times = Times { submit: Some(1_795_427_125), ..Times::default() };
    /// let plan = rules.plan(&keys, times);
    /// assert!(plan.is_valid(times));
    /// # }
    /// ```
    #[must_use]
    pub fn plan<'r>(&'r self, keys: &Keys<'_>, times: Times) -> Plan<'r> {
        let mut plan = Plan {
            submits: Interval::ALWAYS,
            rate_times: Interval::ALWAYS,
            rate_by: RateBy::Submit,
            verdict: Verdict::NeedsTime("submit"),
        };
        let project = self.projects.find(keys, times.submit, &mut plan.submits);
        let (project, pi): (Box<str>, _) = match project {
            ProjectAnswer::Row { project, pi, .. } => (project.into(), pi),
            ProjectAnswer::Pattern { project, .. } => (project.into(), None),
            ProjectAnswer::NeedsSubmit => return plan,
            ProjectAnswer::Skip { .. } => {
                return Plan { verdict: Verdict::Skip(SkipReason::AccountRule), ..plan };
            }
            answer => return Plan { verdict: Verdict::Hold(self.project_hold(&answer, keys)), ..plan },
        };
        let answer = self.users.find(keys, pi, times.submit, &mut plan.submits);
        let username: Box<str> = match answer.username() {
            Some(username) => username.into(),
            None if answer == UserAnswer::NeedsSubmit => return plan,
            None => return Plan { verdict: Verdict::Hold(user_hold(&answer, keys, &project)), ..plan },
        };
        let Some((_, resource)) = resources::find(&self.resources, keys) else {
            return Plan { verdict: Verdict::Hold(resource_hold(keys)), ..plan };
        };
        plan.rate_by = resource.rate_by;
        plan.verdict = match resource.rate(times, &mut plan.rate_times) {
            RateAnswer::Rate(rate) => {
                let values = rate.formula.factors.iter().map(|factor| shown_or_dash(factor.name.of(keys)));
                Verdict::Charge(Terms {
                    project,
                    username,
                    resource,
                    rate,
                    factors: rate.factors(keys),
                    factor_values: values.collect(),
                    node_types: node_types::candidates(&self.node_types, keys),
                    cluster: keys.cluster.map(|cluster| cluster.to_vec().into()),
                })
            }
            RateAnswer::Gap(gap) => Verdict::Hold(rate_hold(resource, gap)),
            RateAnswer::NeedsTime => Verdict::NeedsTime(resource.rate_by.as_str()),
        };
        plan
    }

    fn project_hold(&self, answer: &ProjectAnswer<'_>, keys: &Keys<'_>) -> Hold {
        let Some(account) = keys.account else {
            let detail = "the run names no account: Slurm writes none where the user has no association; for PBS, `project_from` of the source says where the project comes from. Find whose it is, or `held waive` it";
            return Hold::new(HoldReason::NoAccount, detail);
        };
        let (name, cluster) = (shown(account), shown_or_dash(keys.cluster));
        if let ProjectAnswer::Unfit { project, index, why } = answer {
            let detail = format!(
                "pattern {} makes the project `{}` of account `{name}`, which {why}: correct projects.match",
                index.saturating_add(1),
                shown(project)
            );
            return Hold::new(HoldReason::Identity, detail);
        }
        let hint = match self.projects.lines_of(account, keys.fold_account) {
            (lines, _) if lines.is_empty() => String::new(),
            (lines, other_letters) => {
                let lines: Vec<_> = lines.iter().map(u64::to_string).collect();
                let why = if other_letters {
                    "name it in other letters, which this source tells apart (account_case)"
                } else {
                    "name it, under conditions that this run does not meet"
                };
                format!(" Lines {} of the table {why}.", lines.join(", "))
            }
        };
        let detail = format!(
            "account `{name}` of cluster {cluster} is in no row of the project table that fits, and matches no pattern and no skip rule.{hint} To report it, add to the project table:\naccount,project\n{},<LocalProjectID>\nor, where it is not to be reported, name it in projects.skip",
            cell(account)
        );
        Hold::new(HoldReason::UnknownProject, detail)
    }
}

fn user_hold(answer: &UserAnswer<'_>, keys: &Keys<'_>, project: &str) -> Hold {
    let Some(user) = keys.user else {
        let detail = "the run names no user: sacct leaves it empty where the Unix user is gone (its UID column still says who). Find who it was, or `held waive` it";
        return Hold::new(HoldReason::NoUser, detail);
    };
    let name = shown(user);
    match answer {
        UserAnswer::Unfit { why } => Hold::new(
            HoldReason::Identity,
            format!("user `{name}` {why}, and cannot be sent: map it in a user table (users.table)"),
        ),
        UserAnswer::NoPi => Hold::new(
            HoldReason::UnknownUser,
            format!(
                "user `{name}` is in users.pi_fallback, and the project table names no PI for {project}: fill its column `pi` with the AMIE login of the PI, or add the user to the user table"
            ),
        ),
        _ => Hold::new(
            HoldReason::UnknownUser,
            format!(
                "user `{name}` of cluster {} is in no row of the user table that fits. Add to it:\nuser,username\n{},<Username>",
                shown_or_dash(keys.cluster),
                cell(user)
            ),
        ),
    }
}

fn resource_hold(keys: &Keys<'_>) -> Hold {
    let detail = format!(
        "no [[resource]] covers cluster {}, partition {}, qos {}, account {}, user {}: add these to the `when` of the resource that it is, or add a [[resource]]",
        shown_or_dash(keys.cluster),
        shown_or_dash(keys.partition),
        shown_or_dash(keys.qos),
        shown_or_dash(keys.account),
        shown_or_dash(keys.user)
    );
    Hold::new(HoldReason::UnknownResource, detail)
}

fn rate_hold(resource: &Resource, gap: Interval) -> Hold {
    let from = if gap.from == i64::MIN { String::new() } else { format!(" from {}", instant(gap.from)) };
    let until = if gap.until == i64::MAX { String::new() } else { format!(" until {}", instant(gap.until)) };
    let detail = format!(
        "{} has no rate for a {} time{from}{until} (its rates: {}): add a [[resource.rate]] for that period",
        resource.name,
        resource.rate_by.as_str(),
        resource.periods()
    );
    Hold::new(HoldReason::NoRate, detail)
}

/// Epoch seconds for people.
pub(crate) fn instant(epoch: i64) -> String {
    format_time(epoch)
        .and_then(|text| String::from_utf8(text.to_vec()).ok())
        .unwrap_or_else(|| format!("{epoch} s"))
}
