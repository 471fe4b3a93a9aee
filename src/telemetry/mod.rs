//! Logs, metrics and health checks of the process itself.

pub mod admin;
pub mod freshness;
pub mod logs;
pub mod process;

use http::StatusCode;

/// Statuses with a label of their own. Others are counted by class, so that no server can create arbitrarily many time series.
const COUNTED: [&str; 27] = [
    "101", "200", "201", "202", "203", "204", "301", "302", "303", "304", "307", "308", "400", "401", "403", "404", "405", "409", "410",
    "413", "422", "429", "500", "501", "502", "503", "504",
];

/// The metric label of a status: `404`, or the class such as `4xx` for a status without a label of its own, or `other`.
#[must_use]
pub fn code_label(status: StatusCode) -> &'static str {
    let class = match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "other",
    };
    COUNTED.into_iter().find(|counted| *counted == status.as_str()).unwrap_or(class)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn servers_cannot_create_arbitrary_labels() {
        let labels: BTreeSet<&str> = (100..1000).filter_map(|code| StatusCode::from_u16(code).ok()).map(code_label).collect();
        assert_eq!(labels.len(), COUNTED.len() + 6);
        for code in COUNTED {
            assert_eq!(code_label(code.parse().unwrap()), code);
        }
        assert_eq!(code_label(StatusCode::IM_A_TEAPOT), "4xx");
    }
}
