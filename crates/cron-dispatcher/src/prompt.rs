//! Prompts: what a mentor is asked, with the output of the agent before it, and never more than a message carries.

/// Where the previous agent's output goes in a prompt that says where.
const PLACEHOLDER: &str = "{previous_agent_output}";
/// Before the previous agent's output in a prompt that does not.
const HEADING: &str = "## Output of the previous agent";
/// Most bytes of a prompt, an output in it included: a record of a run, with 10 MiB of output and log, and a request,
/// with the mentor's system prompt, must each fit one message of the bus.
const PROMPT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The prompt with the previous agent's output: where it says so, else below it under a heading. What is too long is
/// cut with a marker, and never built: a prompt may name the output a hundred thousand times.
pub(crate) fn with_output(prompt: &str, output: &str) -> String {
    let mut whole = Bounded::default();
    if prompt.contains(PLACEHOLDER) {
        let mut pieces = prompt.split(PLACEHOLDER);
        whole.push(pieces.next().unwrap_or_default());
        for piece in pieces {
            whole.push(output);
            whole.push(piece);
        }
    } else {
        whole.push(prompt);
        if !output.is_empty() {
            whole.push(if prompt.is_empty() { "" } else { "\n\n" });
            whole.push(HEADING);
            whole.push("\n\n");
            whole.push(output);
        }
    }
    whole.finish()
}

/// A prompt, or a system prompt, that fits a message.
pub(crate) fn bounded(text: &str) -> String {
    let mut whole = Bounded::default();
    whole.push(text);
    whole.finish()
}

/// Text of at most [`PROMPT_BYTES_MAX`] bytes.
#[derive(Default)]
struct Bounded {
    text: String,
    cut: usize,
}

impl Bounded {
    fn push(&mut self, piece: &str) {
        let room = if self.cut == 0 { PROMPT_BYTES_MAX - self.text.len() } else { 0 };
        let end = piece.floor_char_boundary(room);
        self.text.push_str(&piece[..end]);
        self.cut = self.cut.saturating_add(piece.len() - end);
    }

    fn finish(mut self) -> String {
        if self.cut > 0 {
            self.text.push_str(&format!("\n[{} bytes cut]", self.cut));
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_goes_where_the_prompt_says_or_below_it() {
        assert_eq!(with_output("Sum up: {previous_agent_output}!", "42"), "Sum up: 42!");
        assert_eq!(with_output("Sum up.", "42"), "Sum up.\n\n## Output of the previous agent\n\n42");
        assert_eq!(with_output("", "42"), "## Output of the previous agent\n\n42");
        assert_eq!(with_output("Sum up.", ""), "Sum up.");
        assert_eq!(with_output("Sum up: {previous_agent_output}", ""), "Sum up: ");
    }

    #[test]
    fn a_prompt_that_grows_too_large_is_cut_with_a_marker() {
        let output = "é".repeat(PROMPT_BYTES_MAX / 2 + 10);
        let whole = with_output("x", &output);
        assert!(whole.len() < PROMPT_BYTES_MAX + 40 && whole.ends_with("bytes cut]"), "{}", whole.len());
    }

    #[test]
    fn a_prompt_that_names_the_output_half_a_million_times_is_cut_and_costs_no_more_than_its_limit() {
        let whole = with_output(&PLACEHOLDER.repeat(500_000), &"x".repeat(1_000_000));
        assert_eq!(whole.len(), PROMPT_BYTES_MAX + "\n[499995805696 bytes cut]".len());
        assert!(whole.ends_with("\n[499995805696 bytes cut]"), "{}", &whole[PROMPT_BYTES_MAX..]);
    }
}
