//! `sandbox`: runs the local stand-in of the Usage API until it is told to stop.

use crate::cli;
use crate::present::{Failure, say};
use runner::exit::Exit;
use std::path::Path;
use std::time::Duration;
use usage_sandbox::{Known, Rule, Sandbox, Settings};

pub(crate) fn sandbox(args: &cli::Sandbox) -> Result<Exit, Failure> {
    let key = args.key_file.as_deref().map(read).transpose()?.map(|key| key.trim_end().to_owned());
    let known = match &args.known {
        None => None,
        Some(path) => {
            let known = Known::from_toml(&read(path)?);
            Some(known.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?)
        }
    };
    let faults = args
        .fault
        .iter()
        .map(|fault| fault.parse().map_err(|error| Failure::Usage(format!("--fault: {error}"))))
        .collect::<Result<Vec<_>, _>>()?;
    let settings = Settings {
        listen: args.listen,
        site: args.site.clone(),
        key,
        known,
        load_delay: Duration::from_millis(args.load_delay),
        max_body_bytes: args.max_body,
        max_records: args.max_records,
        refuse: rules("--refuse", &args.refuse)?,
        fail_load: rules("--fail-load", &args.fail_load)?,
        overwrite: !args.add,
        overwrite_others: args.overwrite_others,
        charge_places: args.charge_places,
        charges_as_numbers: args.charges_as_numbers,
        faults,
        seed: args.seed,
        state_file: args.state.clone(),
    };
    let runtime = super::runtime()?;
    runtime.block_on(async {
        let sandbox = Sandbox::start(settings)
            .await
            .map_err(|error| Failure::Usage(format!("the sandbox does not start: {error}")))?;
        println!("{}", sandbox.base_url());
        say(format_args!(
            "sandbox of the Usage API on {}; its page: http://{}/",
            sandbox.base_url(),
            sandbox.address()
        ));
        say("stop it with Ctrl-C");
        runner::signals::StopRequests::new().next().await;
        sandbox.stop().await;
        Ok(Exit::Well)
    })
}

/// Reads a file whole.
fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("{}: cannot be read: {error}", path.display())))
}

/// Reads FIELD=VALUE=MESSAGE.
fn rules(option: &str, texts: &[String]) -> Result<Vec<Rule>, Failure> {
    texts
        .iter()
        .map(|text| match text.splitn(3, '=').collect::<Vec<_>>().as_slice() {
            [field, value, error] => Ok(Rule {
                field: (*field).to_owned(),
                value: (*value).to_owned(),
                error: (*error).to_owned(),
            }),
            _ => Err(Failure::Usage(format!("{option}: \"{text}\" is not of the form FIELD=VALUE=MESSAGE"))),
        })
        .collect()
}
