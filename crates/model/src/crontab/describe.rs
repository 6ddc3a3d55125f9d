//! Crontabs in English.

use super::Crontab;

const MONTHS: [&str; 13] = [
    "",
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
/// So many times of a day are told one by one.
const TIMES_TOLD: usize = 6;

impl Crontab {
    /// When it fires, as a sentence: `At 09:00, from Monday to Friday.`
    #[must_use]
    pub fn describe(&self) -> String {
        let days = [self.describe_days(), self.describe_months()].into_iter().flatten().collect::<Vec<_>>().join(", ");
        let comma = if days.is_empty() { "" } else { ", " };
        format!("{}{comma}{days}.", self.describe_times())
    }

    fn describe_times(&self) -> String {
        let (minutes, hours) = (numbers(self.minutes, 0, 59), numbers(self.hours, 0, 23));
        if hours.len() == 24 {
            return match (step(&minutes, 60), minutes.as_slice()) {
                (Some(1), _) => "Every minute".to_owned(),
                (Some(step), _) if minutes[0] == 0 => format!("Every {step} minutes"),
                (_, [minute]) => format!("Every hour at minute {minute}"),
                _ => format!("Every hour at minutes {}", list(&minutes, ToString::to_string)),
            };
        }
        if minutes.len() * hours.len() <= TIMES_TOLD {
            let times: Vec<(u32, u32)> =
                hours.iter().flat_map(|hour| minutes.iter().map(|minute| (*hour, *minute))).collect();
            return format!("At {}", list(&times, |(hour, minute)| format!("{hour:02}:{minute:02}")));
        }
        let minutes = match step(&minutes, 60) {
            Some(1) => "Every minute".to_owned(),
            Some(step) if minutes[0] == 0 => format!("Every {step} minutes"),
            _ if minutes.len() == 1 => format!("At minute {}", minutes[0]),
            _ => format!("At minutes {}", list(&minutes, ToString::to_string)),
        };
        let hours = match step(&hours, 24) {
            Some(step) if hours[0] == 0 => {
                let nth = match step {
                    2 => "2nd".to_owned(),
                    3 => "3rd".to_owned(),
                    step => format!("{step}th"),
                };
                format!("of every {nth} hour")
            }
            _ if is_range(&hours) => format!("of the hours from {} to {}", hours[0], hours[hours.len() - 1]),
            _ => format!("of the hours {}", list(&hours, ToString::to_string)),
        };
        format!("{minutes} {hours}")
    }

    fn describe_days(&self) -> Option<String> {
        let (days, weekdays) = (numbers(self.days, 1, 31), numbers(self.weekdays, 0, 6));
        let day = |day: &u32| day.to_string();
        let weekday = |day: &u32| WEEKDAYS.get(*day as usize).copied().unwrap_or_default().to_owned();
        let of_month = match days.as_slice() {
            [one] => format!("on day {one} of the month"),
            many if is_range(many) => format!("on days {} to {} of the month", many[0], many[many.len() - 1]),
            many => format!("on days {} of the month", list(many, day)),
        };
        let of_week = match weekdays.as_slice() {
            many if is_range(many) => format!("from {} to {}", weekday(&many[0]), weekday(&many[many.len() - 1])),
            many => format!("on {}", list(many, weekday)),
        };
        match (days.len(), weekdays.len()) {
            (31, 7) => None,
            (31, _) => Some(of_week),
            (_, 7) => Some(of_month),
            _ => Some(format!("{of_month} if that is a {}", list_or(&weekdays, weekday))),
        }
    }

    fn describe_months(&self) -> Option<String> {
        let months = numbers(self.months, 1, 12);
        let month = |month: &u32| MONTHS.get(*month as usize).copied().unwrap_or_default().to_owned();
        match months.as_slice() {
            all if all.len() == 12 => None,
            many if is_range(many) => Some(format!("from {} to {}", month(&many[0]), month(&many[many.len() - 1]))),
            many => Some(format!("in {}", list(many, month))),
        }
    }
}

fn numbers(set: u64, from: u32, to: u32) -> Vec<u32> {
    (from..=to).filter(|number| set >> number & 1 == 1).collect()
}

/// The step between numbers that are evenly spread over `whole`.
fn step(numbers: &[u32], whole: u32) -> Option<u32> {
    let step = numbers.get(1)? - numbers.first()?;
    let even = numbers.windows(2).all(|pair| pair[1] - pair[0] == step);
    (even && whole.is_multiple_of(step) && whole / step == u32::try_from(numbers.len()).ok()?).then_some(step)
}

/// Three numbers or more without a hole.
fn is_range(numbers: &[u32]) -> bool {
    numbers.len() > 2 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

fn list<T>(things: &[T], say: impl Fn(&T) -> String) -> String {
    join(things, "and", say)
}

fn list_or<T>(things: &[T], say: impl Fn(&T) -> String) -> String {
    join(things, "or", say)
}

fn join<T>(things: &[T], last_word: &str, say: impl Fn(&T) -> String) -> String {
    let words: Vec<String> = things.iter().map(say).collect();
    match words.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [many @ .., last] => format!("{} {last_word} {last}", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use crate::crontab::{Crontab, CrontabFields};

    fn describe(text: &str) -> String {
        let parts: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let [minute, hour, day_of_month, month_of_year, day_of_week] = <[String; 5]>::try_from(parts).unwrap();
        let fields = CrontabFields { minute, hour, day_of_month, month_of_year, day_of_week };
        Crontab::parse(&fields).unwrap().describe()
    }

    #[test]
    fn crontabs_are_described_in_english() {
        for (crontab, english) in [
            ("* * * * *", "Every minute."),
            ("*/15 * * * *", "Every 15 minutes."),
            ("5 * * * *", "Every hour at minute 5."),
            ("5,10 * * * sun", "Every hour at minutes 5 and 10, on Sunday."),
            ("0 9 * * mon-fri", "At 09:00, from Monday to Friday."),
            ("30 2,14 1 * *", "At 02:30 and 14:30, on day 1 of the month."),
            ("0 9 13 * fri", "At 09:00, on day 13 of the month if that is a Friday."),
            ("*/5 9-17 * mar,oct *", "Every 5 minutes of the hours from 9 to 17, in March and October."),
            ("*/10 */12 * * *", "Every 10 minutes of every 12th hour."),
            ("10 */2 1-7 6-8 *", "At minute 10 of every 2nd hour, on days 1 to 7 of the month, from June to August."),
        ] {
            assert_eq!(describe(crontab), english, "{crontab}");
        }
    }
}
