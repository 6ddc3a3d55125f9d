//! Services: what a run may call beside its mentor's model, and the calls.
//!
//! The service registry says which ([`lookup`]); each is offered to the model as a function ([`function`]), and called
//! on its behalf ([`call`]). Whatever goes wrong with a call is told to the model, which may mend it or do without, and
//! stands in the run's log; it never ends the run. What was offered and called is tallied for the service registry
//! ([`tally`]).
//!
//! Bounds: a call takes 30 s at most and brings 64 KiB at most, a run makes 32 calls at most, and all of it ends with
//! the run. How often the model may come back for more is the provider's to bound.

mod call;
mod function;
mod kept;
pub(crate) mod lookup;
mod tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::service::{CallFailure, CallableService, ServiceCall};
use serde_json::json;

pub(crate) use self::call::{CallTransport, Caller};
pub(crate) use self::function::Function;
pub(crate) use self::tally::Tally;
use crate::provider::complaint::Secrets;
use crate::run_log::RunLog;

/// The guarded client's own limit on a call: only a backstop, longer than ours.
pub(crate) const BACKSTOP: Duration = Duration::from_secs(60);

/// The most calls of one run.
pub(crate) const CALLS_MAX: usize = 32;

/// The services that a run may call. Clones are the same ones; the default is none.
#[derive(Clone, Default)]
pub struct Services(Option<Arc<Offer>>);

struct Offer {
    functions: Vec<Function>,
    caller: Caller,
    tally: Arc<Tally>,
    calls: AtomicUsize,
    log: RunLog,
}

impl Services {
    /// Offers services to a run; the tally begins with them.
    pub(crate) fn offer(services: &[CallableService], caller: Caller, tally: Arc<Tally>, log: RunLog) -> Self {
        if services.is_empty() {
            return Self(None);
        }
        let functions = function::of_services(services);
        tally.offered(services.iter().map(|service| service.id));
        Self(Some(Arc::new(Offer { functions, caller, tally, calls: AtomicUsize::new(0), log })))
    }

    /// A line of the log: what is offered, by the names that the model hears.
    pub(crate) fn described(&self) -> String {
        let of = |function: &Function| match function.name == function.service_name {
            true => format!("`{}`", function.name),
            false => format!("`{}` as `{}`", function.service_name, function.name),
        };
        let names: Vec<String> = self.functions().iter().map(of).collect();
        format!("services offered: {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") })
    }

    /// What the model is told of.
    pub(crate) fn functions(&self) -> &[Function] {
        self.0.as_ref().map_or(&[], |offer| &offer.functions)
    }

    /// Does what the model asks for; whatever comes of it is the answer to the model.
    pub(crate) async fn call(&self, name: &str, arguments: &str) -> String {
        match &self.0 {
            Some(offer) => offer.call(name, arguments).await,
            None => refusal("there are no functions"),
        }
    }
}

/// What the model is told instead of an answer.
fn refusal(text: &str) -> String {
    json!({ "error": text }).to_string()
}

impl Offer {
    async fn call(&self, name: &str, arguments: &str) -> String {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let shown = Secrets::default().shorten(name);
        if number >= CALLS_MAX {
            count("too_many");
            self.log.line(format_args!("`{shown}` is not called: a run makes {CALLS_MAX} calls of services at most"));
            return refusal(&format!("no more calls: {CALLS_MAX} are the most. Answer with what you have."));
        }
        let Some(index) = self.functions.iter().position(|function| function.name == name) else {
            count("unknown_function");
            let known: Vec<&str> = self.functions.iter().map(|function| function.name.as_str()).collect();
            let known = known.join(", ");
            self.log.line(format_args!("the model calls `{shown}`, which is no service of this run; it is told so"));
            return refusal(&format!("there is no function of this name; there are: {known}"));
        };
        let function = &self.functions[index];
        let begun = self.tally.begin(index, self.caller.clock());
        let arguments = match function.read_arguments(arguments) {
            Ok(arguments) => arguments,
            Err(fault) => {
                self.ended(function, begun.end(Some(CallFailure::WrongArguments)), &fault);
                return refusal(&format!("wrong arguments: {fault}. Mend them and call again."));
            }
        };
        let place = self.caller.place(function);
        let given = Secrets::default().shorten(&arguments.text());
        self.log.line(format_args!("calls service `{}` (POST {place}) with {given}", function.service_name));
        match self.caller.call(function, &arguments).await {
            Ok(answer) => {
                self.ended(function, begun.end(None), &format!("{} bytes", answer.len()));
                answer
            }
            Err(failed) => {
                self.ended(function, begun.end(Some(failed.failure)), &failed.text);
                refusal(&format!("{}: {}", failed.failure, failed.text))
            }
        }
    }

    /// Writes into the log, and counts, what came of a call.
    fn ended(&self, function: &Function, call: ServiceCall, text: &str) {
        let ServiceCall { failure, duration_ms } = call;
        let name = &function.service_name;
        count(failure.map_or("answered", CallFailure::as_str));
        metrics::histogram!("carillon_service_call_seconds").record(f64::from(duration_ms) / 1e3);
        match failure {
            None => self.log.line(format_args!("service `{name}` answered after {duration_ms} ms: {text}")),
            Some(CallFailure::WrongArguments) => {
                self.log
                    .line(format_args!("service `{name}` is not called: wrong_arguments: {text}; the model is told"));
            }
            Some(failure) => {
                self.log.line(format_args!("service `{name}` failed after {duration_ms} ms: {failure}: {text}"));
            }
        }
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("carillon_service_calls_total", "outcome" => outcome).increment(1);
}
