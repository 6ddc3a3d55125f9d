//! What was said so far, as a request repeats it: the server remembers nothing.

use serde::Serialize;
use serde_json::Value;

use super::reply::{Call, Reply};
use crate::services::Function;

/// The messages of one run.
pub(super) struct Conversation {
    pub(super) messages: Vec<Message>,
    /// Whether the model may call services in its next turn.
    pub(super) calls_may_follow: bool,
}

/// One message.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Message {
    role: &'static str,
    content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
struct ToolCall {
    id: String,
    r#type: &'static str,
    function: CalledFunction,
}

#[derive(Debug, PartialEq, Serialize)]
struct CalledFunction {
    name: String,
    arguments: String,
}

impl Conversation {
    /// Begins with what there is of both; a system prompt alone is what is asked.
    pub(super) fn new(system_prompt: &str, prompt: &str) -> Self {
        let (system, user) = if prompt.trim().is_empty() { ("", system_prompt) } else { (system_prompt, prompt) };
        let said = [("system", system), ("user", user)].into_iter().filter(|(_, content)| !content.trim().is_empty());
        let messages = said.map(|(role, content)| Message::said(role, content.to_owned()));
        Self { messages: messages.collect(), calls_may_follow: true }
    }

    /// Goes on with the calls of a reply, and the answers to them.
    pub(super) fn go_on(&mut self, reply: Reply, answers: Vec<String>) {
        let Reply { output, calls, .. } = reply;
        let ids: Vec<String> = calls.iter().enumerate().map(|(index, call)| self.id_of(index, call)).collect();
        let tool_calls = calls.into_iter().zip(&ids).map(|(call, id)| {
            let function = CalledFunction { name: call.name, arguments: repeatable(call.arguments) };
            ToolCall { id: id.clone(), r#type: "function", function }
        });
        let content = Some(output).filter(|text| !text.is_empty());
        let called = Message { role: "assistant", content, tool_calls: tool_calls.collect(), tool_call_id: None };
        self.messages.push(called);
        let answers = answers.into_iter().zip(ids);
        self.messages
            .extend(answers.map(|(answer, id)| Message { tool_call_id: Some(id), ..Message::said("tool", answer) }));
    }

    /// As the server calls it; not every one does.
    fn id_of(&self, index: usize, call: &Call) -> String {
        if call.id.is_empty() { format!("call_{}_{index}", self.messages.len()) } else { call.id.clone() }
    }
}

impl Message {
    fn said(role: &'static str, content: String) -> Self {
        Self { role, content: Some(content), tool_calls: Vec::new(), tool_call_id: None }
    }
}

/// Arguments as a server takes them back: some cannot bear what is no JSON object, though they sent it.
fn repeatable(arguments: String) -> String {
    match serde_json::from_str(&arguments) {
        Ok(Value::Object(_)) => arguments,
        _ => "{}".to_owned(),
    }
}

/// A service, as it is offered.
#[derive(Serialize)]
pub(super) struct Tool<'a> {
    r#type: &'static str,
    function: OfferedFunction<'a>,
}

#[derive(Serialize)]
struct OfferedFunction<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Value,
}

impl<'a> From<&'a Function> for Tool<'a> {
    fn from(function: &'a Function) -> Self {
        let Function { name, description, parameters, .. } = function;
        Self { r#type: "function", function: OfferedFunction { name, description, parameters } }
    }
}
