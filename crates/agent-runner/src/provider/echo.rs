//! `echo`: answers with what it was asked. For the demo, for measuring, and for trying out a schedule.

use async_trait::async_trait;
use model::run::Usage;

use super::{Answer, AskError, Provider, Question};

/// Answers with the prompt, or with the system prompt where there is none; a word counts as a token.
pub(super) struct Echo;

#[async_trait]
impl Provider for Echo {
    async fn ask(&self, question: Question) -> Result<Answer, AskError> {
        let Question { system_prompt, prompt, .. } = question;
        let asked = words(&system_prompt) + words(&prompt);
        let output = if prompt.trim().is_empty() { system_prompt } else { prompt };
        let usage = Usage { prompt_tokens: asked, completion_tokens: words(&output) };
        Ok(Answer { output, goes_on: false, usage })
    }
}

fn words(text: &str) -> i64 {
    i64::try_from(text.split_whitespace().count()).unwrap_or(i64::MAX)
}
