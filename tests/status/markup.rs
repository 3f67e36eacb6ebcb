//! A checker for markup: every tag closed in order, every attribute quoted, all text escaped.
//!
//! It parses the page as XML, independent of the code that writes it, and returns the elements and
//! their attributes, so that tests can search for forbidden ones.

/// An element: its name, and its attributes with their values.
pub(super) type Element = (String, Vec<(String, String)>);

/// Returns all elements of a document, or the first error.
pub(super) fn elements(document: &str) -> Result<Vec<Element>, String> {
    let mut rest = document.strip_prefix("<!doctype html>").ok_or("no doctype")?;
    let (mut open, mut found) = (Vec::<String>::new(), Vec::new());
    loop {
        let Some(at) = rest.find('<') else {
            loose(rest)?;
            return if open.is_empty() {
                Ok(found)
            } else {
                Err(format!("never closed: {open:?}"))
            };
        };
        loose(&rest[..at])?;
        rest = &rest[at + 1..];
        let end = rest.find('>').ok_or_else(|| format!("an open tag: {:.80}", rest))?;
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            match open.pop() {
                Some(last) if last == name => {}
                last => return Err(format!("</{name}> closes {last:?}")),
            }
            continue;
        }
        let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let element = element(tag)?;
        if !closed && ["script", "style"].contains(&element.0.as_str()) {
            let end = format!("</{}>", element.0);
            rest = rest.split_once(&end).ok_or("an endless script or style")?.1;
        } else if !closed {
            open.push(element.0.clone());
        }
        found.push(element);
    }
}

/// Returns an error unless the special characters of the text between tags are entities.
fn loose(text: &str) -> Result<(), String> {
    if text.contains(['<', '>']) {
        return Err(format!("a loose < or > in {text:.80}"));
    }
    for (at, _) in text.match_indices('&') {
        let entity = text[at + 1..].split_once(';').map(|(entity, _)| entity).unwrap_or_default();
        if !["amp", "lt", "gt", "quot", "#39", "#96"].contains(&entity) {
            return Err(format!("a loose & in {:.80}", &text[at..]));
        }
    }
    match text.chars().find(|c| c.is_control() && *c != '\n') {
        Some(c) => Err(format!("the control character {c:?}")),
        None => Ok(()),
    }
}

fn element(tag: &str) -> Result<Element, String> {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    if !is_name(name) {
        return Err(format!("<{tag}> is no tag"));
    }
    let mut attributes = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok((name.to_owned(), attributes));
        }
        let (key, after) = rest.split_once("=\"").ok_or_else(|| format!("in <{tag}>: {rest}"))?;
        let (value, after) = after.split_once('"').ok_or_else(|| format!("in <{tag}>: {rest}"))?;
        if !is_name(key) || attributes.iter().any(|(other, _)| other == key) {
            return Err(format!("in <{tag}>: the attribute {key}"));
        }
        loose(value)?;
        attributes.push((key.to_owned(), value.to_owned()));
        rest = after;
    }
}

#[test]
fn faults_are_found() {
    let check = |body: &str| elements(&format!("<!doctype html><p>{body}</p>"));
    assert_eq!(check("a <b c=\"d\">&amp;</b><br/>").unwrap().len(), 3);
    for bad in [
        "<b>",
        "</b>",
        "<b></p></b>",
        "a & b",
        "&nbsp;",
        "a > b",
        "<b c=d></b>",
        "<b c=\"d\" c=\"e\"></b>",
        "<b c=\"<\"></b>",
        "<script>",
        "a < b",
        "\u{7}",
    ] {
        assert!(check(bad).is_err(), "{bad}");
    }
}
