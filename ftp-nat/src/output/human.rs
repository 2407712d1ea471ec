//! Times and amounts as people read them.

/// A time in seconds: `0.4s`, `12s`, `3m04s`, `2h05m`, `4d06h`.
pub fn duration(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1}s");
    }
    let whole = seconds.round() as u64;
    let (days, hours, minutes, seconds) = (
        whole / 86400,
        whole / 3600 % 24,
        whole / 60 % 60,
        whole % 60,
    );
    if days > 0 {
        format!("{days}d{hours:02}h")
    } else if hours > 0 {
        format!("{hours}h{minutes:02}m")
    } else if minutes > 0 {
        format!("{minutes}m{seconds:02}s")
    } else {
        format!("{seconds}s")
    }
}

/// An amount of data: `812 B`, `3.4 kB`, `1.2 GB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut amount = count as f64;
    let mut unit = 0;
    while amount >= 999.5 && unit + 1 < UNITS.len() {
        amount /= 1000.0;
        unit += 1;
    }
    let name = UNITS[unit];
    if unit == 0 || amount >= 99.95 {
        format!("{amount:.0} {name}")
    } else {
        format!("{amount:.1} {name}")
    }
}

/// A number with its thousands apart: `12 345`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_at_most_two_units() {
        for (seconds, text) in [
            (0.04, "0.0s"),
            (9.9, "9.9s"),
            (9.96, "10s"),
            (59.9, "1m00s"),
            (184.0, "3m04s"),
            (7500.0, "2h05m"),
            (367_200.0, "4d06h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn amounts_have_at_most_three_digits() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (99_960, "100 kB"),
            (999_600, "1.0 MB"),
            (1_234_567_890, "1.2 GB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(count(7), "7");
        assert_eq!(count(123), "123");
        assert_eq!(count(1_234_567), "1 234 567");
    }
}
