//! Findings as text and as JSON.
//!
//! A line for each check; a finding is followed by its reason and the command that fixes it. Keys
//! may be added to the JSON; existing ones keep their meaning.

use super::Verdict;
use super::judge::Finding;
use serde_json::json;
use std::fmt::Write;

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Advice => "advice",
            Self::Broken => "broken",
        }
    }
}

pub(super) fn text(findings: &[Finding], worst: Verdict) -> String {
    let mut text = String::new();
    for Finding { verdict, topic, found, why, mend } in findings {
        let _ = writeln!(text, "{:<7} {topic}: {found}", verdict.word());
        if !why.is_empty() {
            let _ = writeln!(text, "        why: {why}");
        }
        let mut title = "fix:";
        for line in mend {
            let _ = writeln!(text, "        {title:<4} {line}");
            title = "";
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (advice, broken) = (count(Verdict::Advice), count(Verdict::Broken));
    let _ = match worst {
        Verdict::Fine => writeln!(text, "no findings"),
        _ => writeln!(text, "broken: {broken}, advice: {advice}; nothing was changed"),
    };
    text
}

pub(super) fn json(findings: &[Finding], worst: Verdict) -> String {
    let finding = |finding: &Finding| {
        json!({
            "verdict": finding.verdict.word(),
            "topic": finding.topic,
            "found": finding.found,
            "why": finding.why,
            "mend": finding.mend,
        })
    };
    let findings: Vec<_> = findings.iter().map(finding).collect();
    format!("{:#}\n", json!({ "verdict": worst.word(), "findings": findings }))
}
