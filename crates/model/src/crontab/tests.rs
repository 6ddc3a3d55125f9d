//! What the fields mean, and what is said when they mean nothing.

use super::{Crontab, CrontabField, CrontabFields, field, tzdb_version};

fn with(name: CrontabField, text: &str) -> CrontabFields {
    let mut fields = CrontabFields::default();
    *match name {
        CrontabField::Minute => &mut fields.minute,
        CrontabField::Hour => &mut fields.hour,
        CrontabField::DayOfMonth => &mut fields.day_of_month,
        CrontabField::MonthOfYear => &mut fields.month_of_year,
        CrontabField::DayOfWeek => &mut fields.day_of_week,
    } = text.to_owned();
    fields
}

fn reason(name: CrontabField, text: &str) -> String {
    let errors = Crontab::parse(&with(name, text)).expect_err(text).0;
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].field, Some(name));
    errors[0].reason.clone()
}

fn numbers(name: CrontabField, text: &str) -> Vec<u32> {
    let set = field::parse(name, text).expect(text);
    (0..64).filter(|n| set >> n & 1 == 1).collect()
}

#[test]
fn ranges_steps_and_names_select_numbers() {
    use CrontabField::{DayOfMonth, DayOfWeek, Hour, Minute, MonthOfYear};
    assert_eq!(numbers(Minute, "007,*/20,10-50/17"), [0, 7, 10, 20, 27, 40, 44]);
    assert_eq!(numbers(Minute, "50-10/7"), [4, 50, 57]);
    assert_eq!(numbers(Minute, "3-9/70,*/99999999999999999999999"), [0, 3]);
    assert_eq!(numbers(Hour, "22-2"), [0, 1, 2, 22, 23]);
    assert_eq!(numbers(DayOfMonth, "*/10"), [1, 11, 21, 31]);
    assert_eq!(numbers(DayOfMonth, "30-2"), [1, 2, 30, 31]);
    assert_eq!(numbers(MonthOfYear, "NOV-february,Jun"), [1, 2, 6, 11, 12]);
    assert_eq!(numbers(DayOfWeek, "fri-Monday"), [0, 1, 5, 6]);
    assert_eq!(numbers(DayOfWeek, "SUN-sun"), [0]);
    assert_eq!(numbers(DayOfWeek, "*"), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(numbers(DayOfWeek, "*/2"), [0, 2, 4, 6]);
}

#[test]
fn seven_is_sunday_before_monday_at_the_start_of_a_range_and_after_saturday_at_its_end() {
    let numbers = |text| numbers(CrontabField::DayOfWeek, text);
    assert_eq!(numbers("7"), [0]);
    assert_eq!(numbers("5-7"), [0, 5, 6]);
    assert_eq!(numbers("7-1"), [0, 1]);
    assert_eq!(numbers("0-7"), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(numbers("7-7"), [0]);
    assert_eq!(numbers("7-0"), [0]);
    assert_eq!(numbers("1-7/3"), [0, 1, 4]);
}

#[test]
fn each_refusal_names_the_part_and_the_reason() {
    use CrontabField::{DayOfMonth, DayOfWeek, Hour, Minute, MonthOfYear};
    let cases = [
        (Minute, "61", "'61', not in 0-59 for Minutes"),
        (Minute, "5,1-100/5", "'100', not in 0-59 for Minutes in '1-100/5'"),
        (Minute, "99999999999999999999", "'99999999999999999999', not in 0-59 for Minutes"),
        (Minute, "abc", "\"No enumeration for Minutes: 'abc'\""),
        (Minute, "1 2", "\"No enumeration for Minutes: '1 2'\""),
        (Minute, "1,,2", "\"No enumeration for Minutes: ''\""),
        (Minute, "", "\"No enumeration for Minutes: ''\""),
        (Minute, "-1", "\"No enumeration for Minutes: '-1'\""),
        (Minute, "1-", "\"No enumeration for Minutes: ''\" in '1-'"),
        (Minute, "1-5-9", "\"No enumeration for Minutes: '5-9'\" in '1-5-9'"),
        (Minute, "*-5", "\"No enumeration for Minutes: '*'\" in '*-5'"),
        (Minute, "٣", "\"No enumeration for Minutes: '٣'\""),
        (Minute, "*/0", "Sequence can not be divided by zero or max in '*/0'"),
        (Minute, "*/", "Bad step '' in '*/'"),
        (Minute, "1-5/2/3", "Bad step '2/3' in '1-5/2/3'"),
        (Minute, "5/10", "Unknown cron range value \"5\" in '5/10'"),
        (Hour, "24", "'24', not in 0-23 for Hours"),
        (Hour, "fri", "\"No enumeration for Hours: 'fri'\""),
        (DayOfMonth, "0", "'0', not in 1-31 for Day of Month"),
        (DayOfMonth, "L", "\"No enumeration for Day of Month: 'L'\""),
        (MonthOfYear, "0-6", "'0', not in 1-12 for Month in '0-6'"),
        (MonthOfYear, "sept", "Unrecognised Month: 'sept'"),
        (DayOfWeek, "8", "'8', not in 0-7 for Day of Week"),
        (DayOfWeek, "1#2", "Unrecognised Day of Week: '1#2'"),
        (DayOfWeek, "mon/2", "Unknown cron range value \"mon\" in 'mon/2'"),
        (DayOfWeek, "ſun", "Unrecognised Day of Week: 'ſun'"),
    ];
    for (field, text, expected) in cases {
        assert_eq!(reason(field, text), expected, "{field} {text:?}");
    }
}

#[test]
fn a_field_may_be_as_long_as_the_api_stores_and_no_longer() {
    for (field, limit) in CrontabField::ALL.into_iter().zip([240, 96, 124, 64, 64]) {
        let longest = format!("{}1", "0".repeat(limit - 1));
        assert!(Crontab::parse(&with(field, &longest)).is_ok(), "{field}");
        let expected = format!("Ensure this field has no more than {limit} characters.");
        assert_eq!(reason(field, &format!("0{longest}")), expected);
        // Characters are counted, not bytes.
        assert_ne!(reason(field, &"é".repeat(limit)), expected);
    }
}

#[test]
fn every_bad_field_is_reported_at_once() {
    let fields = CrontabFields { minute: "61".into(), day_of_week: "x".into(), ..with(CrontabField::Hour, "*/0") };
    let errors = Crontab::parse(&fields).expect_err("three bad fields");
    let expected = "minute: '61', not in 0-59 for Minutes; \
                    hour: Sequence can not be divided by zero or max in '*/0'; \
                    day_of_week: Unrecognised Day of Week: 'x'";
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn dates_that_never_come_are_refused_without_blaming_one_field() {
    let dates = |day: &str, month: &str| {
        let fields = CrontabFields { day_of_month: day.into(), month_of_year: month.into(), ..Default::default() };
        Crontab::parse(&fields)
    };
    let errors = dates("30-31", "feb").expect_err("30 February").0;
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].field, None);
    assert_eq!(errors[0].reason, "Never fires: no month of month_of_year 'feb' has a day of day_of_month '30-31'");
    assert!(dates("31", "4,6,9,11").is_err());
    assert!(dates("29", "2").is_ok());
    assert!(dates("31", "2,3").is_ok());
}

#[test]
fn texts_with_one_meaning_are_equal_and_missing_fields_are_stars() {
    let parse = |text| Crontab::parse(&with(CrontabField::DayOfWeek, text));
    assert_eq!(parse("mon-fri"), parse("1,2,3,4,05"));
    assert!(size_of::<Crontab>() <= 40);
    let fields: CrontabFields = serde_json::from_str(r#"{"minute": "5"}"#).expect("fields");
    assert_eq!(fields, with(CrontabField::Minute, "5"));
    assert!(!tzdb_version().is_empty());
}
