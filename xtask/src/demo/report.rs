//! How the demo looks: a word on the left, what it has to say on the right.

use serde_json::Value;

/// Begins a scene.
pub(super) fn title(text: &str) {
    println!("\n{text}\n{}", "=".repeat(text.chars().count()));
}

/// One line of a scene.
pub(super) fn line(label: &str, text: &str) {
    println!("  {label:<12} {text}");
}

/// Several lines, each as it came.
pub(super) fn block(text: &str) {
    for line in text.lines() {
        println!("  {:<12} {line}", "");
    }
}

/// The address that left the server beside the one that reached the client.
pub(super) fn announcements<'a>(server: &[String], client: impl Iterator<Item = &'a str>) {
    for reply in server {
        line("server said", reply);
    }
    for reply in client {
        line("client saw", reply);
    }
}

/// What `ftp-nat ... --json` answered: one line for each thing.
pub(super) fn facts(label: &str, answer: &Value) {
    let things = match answer {
        Value::Array(things) => things.as_slice(),
        Value::Object(fields) => fields
            .values()
            .find_map(Value::as_array)
            .map_or(std::slice::from_ref(answer), Vec::as_slice),
        _ => std::slice::from_ref(answer),
    };
    if things.is_empty() {
        line(label, "(none)");
    }
    for (index, thing) in things.iter().enumerate() {
        line(if index == 0 { label } else { "" }, &thing.to_string());
    }
}
