//! How one source's runs are mapped.

use crate::digest::Canonical;
use crate::identity::Template;
use crate::spec::{ProjectFrom, RuleError, RulePlace, SourceSpec};

/// The compiled settings of one source.
#[derive(Debug, Clone)]
pub struct SourceRules {
    pub(crate) name: String,
    pub(crate) cluster: Option<String>,
    pub(crate) project_from: Vec<ProjectFrom>,
    /// `None`: as the scheduler does.
    pub(crate) fold_accounts: Option<bool>,
    pub(crate) local_record_id: Template,
    pub(crate) parent_record_id: Option<Template>,
    pub(crate) hold_forgeable: bool,
    pub(crate) send_job_name: bool,
    digest: u128,
}

/// The compiled settings of one source.
pub type Source = SourceRules;

impl SourceRules {
    /// Reads the settings of a source.
    ///
    /// # Errors
    /// A template of `LocalRecordID` that cannot tell runs apart, or names what there is not.
    ///
    /// ```
    /// use mapper::{SourceRules, spec::SourceSpec};
    /// let source = SourceRules::compile(SourceSpec {
    ///     name: "slurm".into(),
    ///     cluster: Some("testhpc".into()),
    ///     local_record_id: Some("{job_id}".into()),
    ///     parent_record_id: Some("{parent}".into()),
    ///     ..SourceSpec::default()
    /// })?;
    /// # Ok::<(), mapper::spec::RuleError>(())
    /// ```
    pub fn compile(spec: SourceSpec) -> Result<Self, RuleError> {
        let SourceSpec {
            name,
            cluster,
            project_from,
            fold_accounts,
            local_record_id,
            parent_record_id,
            hold_forgeable,
            send_job_name,
        } = spec;
        if name.is_empty() {
            let message = "the source has no name".to_owned();
            return Err(RuleError { place: RulePlace::Source, message, help: None });
        }
        let mut canonical = Canonical::new("source");
        canonical.text(&name).option(cluster.as_deref()).option(local_record_id.as_deref());
        canonical.count(project_from.len());
        for from in &project_from {
            canonical.text(match from {
                ProjectFrom::Account => "account",
                ProjectFrom::Project => "project",
                ProjectFrom::Group => "group",
            });
        }
        canonical.flag(hold_forgeable).flag(send_job_name);
        canonical.option(parent_record_id.as_deref());
        canonical.flag(fold_accounts.is_some()).flag(fold_accounts.unwrap_or(false));
        let local_record_id = match local_record_id {
            Some(template) => Template::of_record(&template)?,
            None => Template::job_id(),
        };
        let parent_record_id = parent_record_id.as_deref().map(Template::of_parent).transpose()?;
        Ok(Self {
            name,
            cluster: cluster.filter(|cluster| !cluster.is_empty()),
            project_from,
            fold_accounts,
            local_record_id,
            parent_record_id,
            hold_forgeable,
            send_job_name,
            digest: canonical.digest(),
        })
    }

    /// The same rules for a text of this source in which nobody can forge a row: its runs are not held for that.
    #[must_use]
    pub fn for_safe_text(&self) -> Self {
        Self { hold_forgeable: false, ..self.clone() }
    }

    /// The source's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Of everything here that can change a record.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.digest
    }
}
