// SPDX-License-Identifier: MIT OR Apache-2.0
//! Users, passwords and tokens in URLs stay out of everything that is shown.

/// The text with every URL in it as it may be shown: without `user:password@`, and without its query, in which
/// some cameras expect a password too.
pub fn urls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || "\"'`<>".contains(c)).unwrap_or(after.len());
        let (url, behind) = after.split_at(end);
        // A password may hold an `@` of its own: what stands behind the last one is the host.
        let host = url.rsplit_once('@').map_or(url, |(_, host)| host);
        shown.push_str(host.split_once('?').map_or(host, |(address, _)| address));
        rest = behind;
    }
    shown.push_str(rest);
    shown
}

/// Texts that are known to be secret, to be taken out wherever they turn up.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    pub fn add(&mut self, secrets: impl IntoIterator<Item = String>) {
        // A shorter text would be found by chance in every other word.
        self.0.extend(secrets.into_iter().filter(|secret| secret.chars().count() >= 4));
        // What contains another one has to go first.
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    pub fn add_all(&mut self, others: &Secrets) {
        self.add(others.0.iter().cloned());
        self.0.dedup();
    }

    /// The text without secrets and without what [`urls`] leaves out.
    pub fn hide(&self, text: &str) -> String {
        let known = self.0.iter().fold(text.to_string(), |text, secret| text.replace(secret, "***"));
        urls(&known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(urls("rtsp://me:p@ss@camera/1"), "rtsp://camera/1");
        assert_eq!(urls("rtsp://camera/1"), "rtsp://camera/1");
        assert_eq!(urls("a@b.mp4"), "a@b.mp4");
        let text =
            "cannot open \"rtsp://me:secret@camera:554/1?token=abc\", then mqtt://u:v@broker: no, 犬://é@x";
        assert_eq!(urls(text), "cannot open \"rtsp://camera:554/1\", then mqtt://broker: no, 犬://x");
    }

    #[test]
    fn known_secrets_are_hidden_anywhere() {
        let mut secrets = Secrets::default();
        secrets.add(["hunter2".to_string(), "me:hunter2".to_string(), "a".to_string()]);
        assert_eq!(
            secrets.hide("me:hunter2 has the password hunter2 at a://b"),
            "*** has the password *** at a://b"
        );
    }
}
