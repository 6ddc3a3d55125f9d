//! Query parameters of lists, with the rules and messages of django-filter.

use service_kit::error::FieldErrors;
use url::form_urlencoded;

use super::number;

/// More terms than anybody types, and longer ones, only cost: the rest is not looked at.
const TERMS_MAX: usize = 32;
const TERM_CHARS_MAX: usize = 500;
/// As for the fields of an order; Diesel's work doubles with each.
const ORDER_FIELDS_MAX: usize = 5;

const NO_SUCH_CHOICE: &str = "Select a valid choice. That choice is not one of the available choices.";

/// The parameters of a request; of one given twice the last counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads a query string.
    pub(crate) fn parse(query: &str) -> Self {
        Self { pairs: form_urlencoded::parse(query.as_bytes()).into_owned().collect() }
    }

    /// A parameter as it came, unless it is empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let value = self.pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty() && !value.contains('\0'))
    }

    /// `true`, `True`, `false`, `False`; everything else filters nothing.
    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        match self.text(name)? {
            "true" | "True" => Some(true),
            "false" | "False" => Some(false),
            _ => None,
        }
    }

    /// One of a set of words.
    pub(crate) fn choice(&self, name: &str, words: &[&'static str], errors: &mut FieldErrors) -> Option<&'static str> {
        let value = self.text(name)?;
        let found = words.iter().copied().find(|word| *word == value);
        if found.is_none() {
            errors.add(name, format!("Select a valid choice. {value} is not one of the available choices."));
        }
        found
    }

    /// A number; one that no integer column can hold is given as none, inside.
    pub(crate) fn integer(&self, name: &str, errors: &mut FieldErrors) -> Option<Option<i64>> {
        match number::from_text(self.text(name)?) {
            Ok(number) => Some(Some(number)),
            Err(number::BadInteger::Invalid) => {
                errors.add(name, "Enter a number.");
                None
            }
            Err(_) => Some(None),
        }
    }

    /// The id of something that must exist; whether it does, the caller finds out.
    pub(crate) fn id(&self, name: &str, errors: &mut FieldErrors) -> Option<i64> {
        let read = number::from_text(self.text(name)?).ok();
        if read.is_none() {
            errors.add(name, NO_SUCH_CHOICE);
        }
        read
    }

    /// Notes that there is nothing with the id in this parameter.
    pub(crate) fn no_such(name: &str, errors: &mut FieldErrors) {
        errors.add(name, NO_SUCH_CHOICE);
    }

    /// The terms of `search`: split on white space and commas, quoted phrases whole.
    pub(crate) fn search(&self) -> Vec<String> {
        self.text("search").map(search_terms).unwrap_or_default()
    }

    /// The fields of `ordering`, each once, with whether it runs downwards.
    pub(crate) fn ordering(&self, known: &[&str]) -> Vec<(String, bool)> {
        let mut fields: Vec<(String, bool)> = Vec::new();
        for name in self.text("ordering").unwrap_or_default().split(',').map(str::trim) {
            let (name, down) = name.strip_prefix('-').map_or((name, false), |name| (name, true));
            let is_new = !fields.iter().any(|(other, _)| other == name);
            if known.contains(&name) && is_new && fields.len() < ORDER_FIELDS_MAX {
                fields.push((name.to_owned(), down));
            }
        }
        fields
    }

    /// The query string with `page` set, or dropped, and the parameters in order of their names.
    pub(crate) fn with_page(&self, page: Option<i64>) -> String {
        let mut pairs: Vec<(String, String)> = self.pairs.iter().filter(|(key, _)| key != "page").cloned().collect();
        pairs.extend(page.map(|page| ("page".to_owned(), page.to_string())));
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    }
}

fn search_terms(text: &str) -> Vec<String> {
    let quotes = text.matches('"').count();
    let terms = text.split('"').enumerate().flat_map(|(index, part)| {
        // What stands between quotes is every second part, if the quotes are balanced.
        let is_phrase = index % 2 == 1 && index < quotes;
        part.split(move |char: char| !is_phrase && (char.is_whitespace() || char == ','))
    });
    let terms = terms.filter(|term| !term.is_empty()).take(TERMS_MAX);
    terms.map(|term| term.chars().take(TERM_CHARS_MAX).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn search_splits_on_white_space_and_commas_and_keeps_phrases() {
        let terms = |text: &str| Query { pairs: vec![("search".into(), text.into())] }.search();
        assert_eq!(terms("a b,c"), ["a", "b", "c"]);
        assert_eq!(terms("\"daily report\" x"), ["daily report", "x"]);
        assert_eq!(terms("open \"quote here"), ["open", "quote", "here"]);
        assert_eq!(terms(" , "), Vec::<String>::new());
        assert_eq!(terms(r#""a b"c"d,e""#), ["a b", "c", "d,e"]);
        assert_eq!(terms(&r#"" ""#.repeat(TERMS_MAX + 1)), vec![" "; TERMS_MAX]);
        // In one pass: were each quote compared with each, this would not end.
        assert_eq!(terms(&"\"".repeat(2_000_000)), Vec::<String>::new());
    }

    #[test]
    fn an_order_names_each_known_field_once() {
        let query = Query::parse("ordering=-title,+id,nonsense,title,,id,a,b,c,d");
        let fields = query.ordering(&["id", "title", "a", "b", "c", "d"]);
        let fields: Vec<_> = fields.iter().map(|(name, down)| (name.as_str(), *down)).collect();
        assert_eq!(fields, [("title", true), ("id", false), ("a", false), ("b", false), ("c", false)]);
    }

    #[test]
    fn a_boolean_has_exactly_four_spellings() {
        let read = |text: &str| Query::parse(&format!("enabled={text}")).boolean("enabled");
        assert_eq!(
            [read("true"), read("True"), read("false"), read("False")],
            [Some(true), Some(true), Some(false), Some(false)]
        );
        assert!(["1", "0", "TRUE", "yes", ""].into_iter().all(|text| read(text).is_none()));
    }

    #[test]
    fn bad_values_get_the_messages_of_the_original() {
        let query = Query::parse("status=zz&previous_agent=x&parent_mentor_id=x");
        let mut errors = FieldErrors::new();
        query.choice("status", &["success"], &mut errors);
        query.id("previous_agent", &mut errors);
        query.integer("parent_mentor_id", &mut errors);
        assert_eq!(
            errors.into_value(),
            json!({
                "status": ["Select a valid choice. zz is not one of the available choices."],
                "previous_agent": ["Select a valid choice. That choice is not one of the available choices."],
                "parent_mentor_id": ["Enter a number."],
            })
        );
    }

    #[test]
    fn links_keep_the_other_parameters_in_order() {
        let query = Query::parse("title=a+b&page=3&enabled=true");
        assert_eq!(query.with_page(Some(4)), "enabled=true&page=4&title=a+b");
        assert_eq!(query.with_page(None), "enabled=true&title=a+b");
    }
}
